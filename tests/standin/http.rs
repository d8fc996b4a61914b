//! A small HTTP server: a thread for each connection, one request on each.

use crate::text::{header_value, percent_decode};
use crate::{Outcome, complain};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A request's line and headers may take this much.
const MAX_HEAD: usize = 64 * 1024;
/// Connections answered at once; a further one is closed.
const MAX_CONNECTIONS: usize = 256;
/// For one read or write.
const TIME: Duration = Duration::from_secs(10);

/// What answers requests.
pub(crate) type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// What was asked.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    method: String,
    pub(crate) path: String,
    /// Without its question mark.
    pub(crate) query: String,
    /// Names in lower case; the values of a repeated one are joined by commas.
    pub(crate) headers: BTreeMap<String, String>,
    /// Whose connection it is; nobody's over a Unix socket.
    pub(crate) peer: Option<IpAddr>,
}

impl Request {
    /// Nothing if it is not HTTP/1.
    fn parse(head: &[u8]) -> Option<Self> {
        let head = str::from_utf8(head).ok()?;
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if !target.starts_with('/') || !version.starts_with("HTTP/1.") || words.next().is_some() {
            return None;
        }
        let mut headers = BTreeMap::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            if name.is_empty() || name.contains(char::is_whitespace) || value.contains(['\0', '\r']) {
                return None;
            }
            let all: &mut String = headers.entry(name.to_ascii_lowercase()).or_default();
            if !all.is_empty() {
                all.push_str(", ");
            }
            all.push_str(value.trim());
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Self { method: method.into(), path: path.into(), query: query.into(), headers, peer: None })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All headers, for `json_map`.
    pub(crate) fn all_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A parameter of the query, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        parameter(&self.query, name)
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
    percent_decode(value).filter(|value| !value.is_empty())
}

/// What is answered.
#[derive(Debug, PartialEq)]
pub(crate) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Response {
    pub(crate) fn text(status: u16, body: &str) -> Self {
        let headers = vec![("Content-Type", "text/plain; charset=utf-8".into())];
        Self { status, headers, body: body.into() }
    }

    pub(crate) fn json(body: String) -> Self {
        Self { status: 200, headers: vec![("Content-Type", "application/json".into())], body }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn redirect(location: &str) -> Self {
        Self::empty(302).with("Location", location)
    }

    pub(crate) fn not_found() -> Self {
        Self::text(404, "not found\n")
    }

    /// The same with one more header.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer to HEAD is the same without its body, length included.
    fn answering_head(&self) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.truncate(bytes.len() - self.body.len());
        bytes
    }

    fn bytes(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            302 => "Found",
            400 => "Bad Request",
            404 => "Not Found",
            _ => "Internal Server Error",
        };
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            head.extend([name, ": ", &header_value(value), "\r\n"]);
        }
        let length = self.body.len();
        format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{}", self.body).into_bytes()
    }
}

/// Where requests come from.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn tcp(address: &str) -> Outcome<Self> {
        TcpListener::bind(address).map(Self::Tcp).map_err(|why| format!("cannot listen on {address}: {why}"))
    }

    fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept()?.0),
            Self::Unix(listener) => Box::new(listener.accept()?.0),
        })
    }
}

/// The two kinds of stream have the same methods and no trait for them.
trait Connection: Read + Write + Send {
    fn peer(&self) -> Option<IpAddr>;
    fn limit(&self) -> io::Result<()>;
    fn finish_writing(&self) -> io::Result<()>;
}

impl Connection for TcpStream {
    fn peer(&self) -> Option<IpAddr> {
        self.peer_addr().ok().map(|address| address.ip())
    }

    fn limit(&self) -> io::Result<()> {
        self.set_read_timeout(Some(TIME))?;
        self.set_write_timeout(Some(TIME))
    }

    fn finish_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Connection for UnixStream {
    fn peer(&self) -> Option<IpAddr> {
        None
    }

    fn limit(&self) -> io::Result<()> {
        self.set_read_timeout(Some(TIME))?;
        self.set_write_timeout(Some(TIME))
    }

    fn finish_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// Answers until the process is killed.
pub(crate) fn serve(listener: &Listener, handler: &Arc<Handler>) -> ! {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    loop {
        let connection = match listener.accept() {
            Ok(connection) => connection,
            Err(why) => {
                // Out of files or memory, mostly: what is being answered must end first.
                complain(&format!("cannot accept a connection: {why}"));
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let handler = Arc::clone(handler);
        let answering = thread::Builder::new().spawn(move || {
            // A client that went away is no event.
            let _ = answer(connection, &*handler);
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(why) = answering {
            CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
            complain(&format!("cannot start a thread: {why}"));
        }
    }
}

fn answer(mut connection: Box<dyn Connection>, handler: &Handler) -> io::Result<()> {
    connection.limit()?;
    let bad = |why| Response::text(400, why).bytes();
    let peer = connection.peer();
    let bytes = match read_head(&mut connection)? {
        Head::Nothing => return Ok(()),
        Head::TooLong => bad("the headers are too long\n"),
        Head::Complete(head) => match Request::parse(&head).map(|request| Request { peer, ..request }) {
            Some(request) if request.method == "HEAD" => handler(&request).answering_head(),
            Some(request) => handler(&request).bytes(),
            None => bad("this is no request\n"),
        },
    };
    connection.write_all(&bytes)?;
    connection.finish_writing()?;
    // To close with bytes unread would reset the connection, and could take the answer with it.
    let mut rest = [0; 4096];
    for _ in 0..64 {
        if connection.read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

enum Head {
    /// The client sent nothing at all, as a port check does.
    Nothing,
    TooLong,
    Complete(Vec<u8>),
}

/// Reads up to the empty line, or to the end. A body may follow; no answer here depends on it.
fn read_head(connection: &mut impl Read) -> io::Result<Head> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while end_of_head(&head).is_none() {
        if head.len() > MAX_HEAD {
            return Ok(Head::TooLong);
        }
        match connection.read(&mut buffer)? {
            0 if head.is_empty() => return Ok(Head::Nothing),
            0 => break,
            read => head.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
    }
    let end = end_of_head(&head).unwrap_or(head.len());
    head.truncate(end);
    Ok(Head::Complete(head))
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let length_of = |ending: &[u8]| bytes.windows(ending.len()).position(|window| window == ending);
    length_of(b"\r\n\r\n").or_else(|| length_of(b"\n\n"))
}

/// The status of an answer to a plain GET, for programs that check their own server.
pub(crate) fn get_status(address: &str, path: &str) -> Outcome<u16> {
    let failed = |why: io::Error| format!("http://{address}{path}: {why}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.limit().map_err(failed)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.ok_or_else(|| format!("http://{address}{path}: this is no answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_and_garbage_is_not() {
        let head = b"GET /a?b=%20c&d HTTP/1.1\r\nHost: h\r\nX-A:1\r\nx-a:  2 ";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.path.as_str(), request.query.as_str()), ("/a", "b=%20c&d"));
        assert_eq!(request.all_headers().collect::<Vec<_>>(), [("host", "h"), ("x-a", "1, 2")]);
        assert_eq!(request.parameter("b").as_deref(), Some(" c"));
        assert_eq!(request.parameter("d"), None);
        for wrong in
            ["", "GET /", "GET a HTTP/1.1", "GET / HTTP/2", "GET / HTTP/1.1\nx", "GET / HTTP/1.1\nx : y"]
        {
            assert_eq!(Request::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Request::parse(b"\xff / HTTP/1.1"), None);
    }

    #[test]
    fn a_head_ends_where_it_should() {
        let head = |bytes: &[u8]| match read_head(&mut &*bytes).unwrap() {
            Head::Nothing => Err("nothing"),
            Head::TooLong => Err("too long"),
            Head::Complete(head) => Ok(head.len()),
        };
        assert_eq!(head(b""), Err("nothing"));
        assert_eq!(head(b"ab"), Ok(2));
        assert_eq!(head(b"ab\r\n\r\nbody"), Ok(2));
        assert_eq!(head(b"ab\n\nbody"), Ok(2));
        assert_eq!(head(&vec![b'a'; 2 * MAX_HEAD]), Err("too long"));
    }

    #[test]
    fn no_header_can_be_smuggled_in() {
        let bytes = Response::redirect("/a\r\nSet-Cookie: b").bytes();
        let expected = "HTTP/1.1 302 Found\r\nLocation: /a%0D%0ASet-Cookie: b\r\nContent-Length: 0\r\n\
                        Connection: close\r\n\r\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
