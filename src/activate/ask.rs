//! Asks once whether something answers on a socket.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::refusal::refuse;

/// How long one question may take: to be accepted, and each read and write after that.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest status line that is read.
const LONGEST_LINE: u64 = 1 << 10;

/// A Unix stream socket accepts.
pub fn unix(path: &str) -> Result<UnixStream> {
    let socket = UnixStream::connect(path).with_context(|| format!("cannot connect to {path}"))?;
    socket.set_read_timeout(Some(PATIENCE)).and_then(|()| socket.set_write_timeout(Some(PATIENCE)))?;
    Ok(socket)
}

/// A TCP address accepts.
pub fn tcp(address: &str) -> Result<TcpStream> {
    let context = || format!("cannot connect to {address}");
    let to = address.to_socket_addrs().with_context(context)?.next().with_context(context)?;
    let socket = TcpStream::connect_timeout(&to, PATIENCE).with_context(context)?;
    socket.set_read_timeout(Some(PATIENCE)).and_then(|()| socket.set_write_timeout(Some(PATIENCE)))?;
    Ok(socket)
}

/// A GET is answered with the status that is expected: `None` takes any from 200 to 399. `to` is a Unix socket if it begins with `/`.
pub fn http(to: &str, path: &str, host: &str, expected: Option<u16>) -> Result<()> {
    let status = if to.starts_with('/') { get(unix(to)?, path, host) } else { get(tcp(to)?, path, host) };
    let status = status.with_context(|| format!("{to} does not speak HTTP"))?;
    match expected {
        Some(expected) if status != expected => refuse!("{to} answered {status}, and {expected} is expected"),
        None if !(200..400).contains(&status) => refuse!("{to} answered {status}"),
        _ => Ok(()),
    }
}

/// The status of the answer.
fn get(mut socket: impl Read + Write, path: &str, host: &str) -> Result<u16> {
    let question = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rick-activate\r\nConnection: close\r\n\r\n"
    );
    // At once: a server may answer the first piece that it reads, and hang up. What it said before that is an answer as well.
    let asked = socket.write_all(question.as_bytes());
    asked.or_else(|error| if hung_up(&error) { Ok(()) } else { Err(error) })?;
    let mut answer = Vec::new();
    let mut limited = socket.take(LONGEST_LINE);
    let mut piece = [0; 256];
    while !answer.contains(&b'\n') {
        match limited.read(&mut piece)? {
            0 => break,
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    status_of(&answer).context("it did not begin with a status line")
}

/// The other side reads no more.
fn hung_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// `HTTP/1.1 200 OK` → 200.
fn status_of(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|&byte| byte == b'\r' || byte == b'\n').next()?).ok()?;
    let mut words = line.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next().filter(|status| status.len() == 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Serves one answer, and gives what was asked.
    fn serve(mut socket: impl Read + Write, answer: &str) -> String {
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() == 1 {
            asked.push(byte[0]);
        }
        socket.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    }

    fn ask(answer: &'static str, expected: Option<u16>) -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, answer));
        let answered = http(&to, "/health?x=1", "cloud.example", expected);
        assert!(server.join().unwrap().starts_with("GET /health?x=1 HTTP/1.1\r\nHost: cloud.example\r\n"));
        answered
    }

    #[test]
    fn the_status_decides() {
        assert!(ask("HTTP/1.1 200 OK\r\n\r\n", None).is_ok());
        assert!(ask("HTTP/1.0 302 Found\r\n\r\n", None).is_ok());
        assert!(ask("HTTP/1.1 401 Unauthorized\r\n\r\n", Some(401)).is_ok());
        for (answer, expected, why) in [
            ("HTTP/1.1 503 Busy\r\n\r\n", None, "answered 503"),
            ("HTTP/1.1 200 OK\r\n\r\n", Some(204), "answered 200, and 204 is expected"),
            ("SSH-2.0-OpenSSH\r\n", None, "does not speak HTTP"),
            ("", None, "does not speak HTTP"),
        ] {
            let said = format!("{:#}", ask(answer, expected).unwrap_err());
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn an_answer_to_the_first_piece_of_a_question_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            for socket in listener.incoming().take(50) {
                let mut socket = socket.unwrap();
                let length = socket.read(&mut [0; 999]).unwrap();
                socket.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
                assert!(length > "GET / HTTP/1.1\r\n".len(), "the question came in pieces");
            }
        });
        for _ in 0..50 {
            http(&to, "/", "cloud.example", None).unwrap();
        }
        server.join().unwrap();
    }

    #[test]
    fn who_answers_unasked_is_heard() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"HTTP/1.1 503 Busy\r\n\r\n").unwrap();
        drop(theirs);
        assert_eq!(get(ours, "/", "cloud.example").unwrap(), 503);
    }

    #[test]
    fn a_unix_socket_is_asked_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || serve(listener.accept().unwrap().0, "HTTP/1.1 200 OK\r\n\r\n"));
        assert!(http(path.to_str().unwrap(), "/", "localhost", Some(200)).is_ok());
        server.join().unwrap();
        let said = format!("{:#}", http("/run/nobody.sock", "/", "localhost", None).unwrap_err());
        assert!(said.starts_with("cannot connect to /run/nobody.sock"), "{said}");
    }
}
