//! A web server that does what a test wants of it: answer well, badly, by half, or not to the end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What is answered to a request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// The whole file.
    File(Vec<u8>),
    /// Half of the file, and the connection breaks off.
    Half(Vec<u8>),
    /// The same so many times, then the whole file.
    HalfFirst(u32, Vec<u8>),
    /// Half of the file, and then nothing for a long time.
    Stall(Vec<u8>),
}

/// A server on the loopback, for as long as the test runs.
pub(crate) struct Web {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    answers: BTreeMap<String, Answer>,
    asked: Vec<String>,
}

impl Web {
    /// A server that has nothing.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // A client that goes away is no failure of the server.
                thread::spawn(move || drop(serve(stream, &shared)));
            }
        });
        Self { address, shared }
    }

    /// The URL of a path, or of the server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What is answered for a path; as a proxy, for a whole URL.
    pub(crate) fn answer(&self, path: &str, answer: Answer) {
        self.shared.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// All that was asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.lock().unwrap().asked.clone()
    }
}

fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let answer = {
        let mut shared = shared.lock().unwrap();
        shared.asked.push(path.clone());
        match shared.answers.get_mut(&path) {
            Some(Answer::HalfFirst(0, bytes)) => Some(Answer::File(bytes.clone())),
            Some(Answer::HalfFirst(left, bytes)) => {
                *left -= 1;
                Some(Answer::Half(bytes.clone()))
            }
            other => other.cloned(),
        }
    };
    let begin = |stream: &mut TcpStream, bytes: &[u8]| {
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", bytes.len())
    };
    match answer {
        None => stream.write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        Some(Answer::File(bytes)) => {
            begin(&mut stream, &bytes)?;
            stream.write_all(&bytes)
        }
        Some(Answer::Half(bytes) | Answer::HalfFirst(_, bytes)) => {
            begin(&mut stream, &bytes)?;
            stream.write_all(&bytes[..bytes.len() / 2])
        }
        Some(Answer::Stall(bytes)) => {
            begin(&mut stream, &bytes)?;
            stream.write_all(&bytes[..bytes.len() / 2])?;
            thread::sleep(Duration::from_mins(1));
            Ok(())
        }
    }
}
