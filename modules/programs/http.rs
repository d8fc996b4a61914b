//! As much of HTTP as the small servers of rick's own images need: one request on a connection, and one answer.

use std::collections::BTreeMap;
use std::io::{self, BufRead, ErrorKind, Read};

/// A request's line and headers may take this much, and no more is ever kept of one.
const MAX_HEAD: usize = 16 * 1024;

pub(crate) enum Head {
    /// The client sent nothing at all, as a port check does.
    Nothing,
    Bad(Response),
    Complete(Vec<u8>),
}

/// Reads up to the empty line. What follows it is the body's, and stays unread.
pub(crate) fn read_head(client: &mut impl BufRead) -> io::Result<Head> {
    let mut head = Vec::new();
    loop {
        let room = MAX_HEAD.saturating_sub(head.len());
        match client.by_ref().take(room as u64).read_until(b'\n', &mut head) {
            Ok(_) if ends_head(&head) => return Ok(Head::Complete(head)),
            Ok(_) if head.len() >= MAX_HEAD => {
                return Ok(Head::Bad(Response::text(431, "line and headers take more than 16 KiB\n")));
            }
            Ok(0) if head.is_empty() => return Ok(Head::Nothing),
            Ok(0) => return Ok(Head::Bad(Response::text(400, "the request ends before its empty line\n"))),
            Ok(_) => {}
            Err(why) if why.kind() == ErrorKind::TimedOut => {
                return Ok(Head::Bad(Response::text(408, "the request took too long\n")));
            }
            Err(why) => return Err(why),
        }
    }
}

/// Is the last line empty? A line may end without its carriage return (RFC 9112, 2.2).
fn ends_head(head: &[u8]) -> bool {
    head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n")
}

#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// As it arrived, with its query.
    pub(crate) target: &'a str,
    /// Is it HTTP/1.1? Otherwise it is 1.0.
    #[allow(dead_code, reason = "not every program answers the two in different ways")]
    pub(crate) is_1_1: bool,
    /// Names in lower case; the values of a repeated one are joined by commas, as RFC 9110, 5.3 has it.
    pub(crate) headers: BTreeMap<String, String>,
}

impl<'a> Request<'a> {
    pub(crate) fn parse(head: &'a [u8]) -> Result<Self, Response> {
        let bad = |why: &str| Response::text(400, &format!("{why}\n"));
        let mut lines =
            head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = std::str::from_utf8(lines.next().unwrap_or_default())
            .map_err(|_| bad("the request line is not UTF-8"))?;
        let mut words = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(bad("the request line is not `METHOD TARGET VERSION`"));
        };
        if !is_token(method.as_bytes())
            || target.is_empty()
            || target.bytes().any(|byte| byte.is_ascii_control())
        {
            return Err(bad("the request line holds what it may not"));
        }
        let is_1_1 = match version {
            "HTTP/1.0" => false,
            "HTTP/1.1" => true,
            _ => return Err(Response::text(505, "only HTTP/1.0 and HTTP/1.1\n")),
        };
        let mut headers = BTreeMap::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            let colon =
                line.iter().position(|byte| *byte == b':').ok_or_else(|| bad("a header has no colon"))?;
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if !is_token(name) || value.iter().any(|byte| matches!(byte, 0 | b'\r')) {
                return Err(bad("a header holds what it may not"));
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            let value = String::from_utf8_lossy(value);
            headers
                .entry(name)
                .and_modify(|all: &mut String| {
                    all.push_str(", ");
                    all.push_str(&value);
                })
                .or_insert_with(|| value.to_string());
        }
        if is_1_1 && !headers.contains_key("host") {
            return Err(bad("HTTP/1.1 asks for a Host header"));
        }
        Ok(Self { method, target, is_1_1, headers })
    }

    /// The target's path. A proxy may send the whole address (RFC 9112, 3.2.2).
    pub(crate) fn path(&self) -> &'a str {
        let local = match self.target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| &rest[at..]),
            _ => self.target,
        };
        local.split(['?', '#']).next().unwrap_or(local)
    }
}

/// RFC 9110, 5.6.2: what a method or a header's name is made of.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[derive(Debug, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// Besides those that every answer has.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Response {
    /// A body made for this one request, so that nobody should keep it.
    pub(crate) fn new(status: u16, content_type: &'static str, body: String) -> Self {
        Self { status, content_type, headers: vec![("Cache-Control", "no-store".into())], body }
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// Only the named methods may be used on the target.
    pub(crate) fn not_allowed(methods: &str) -> Self {
        Self::text(405, &format!("only {methods}\n")).with("Allow", methods)
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Without its body for HEAD, which still hears the length.
    pub(crate) fn bytes(&self, with_body: bool) -> Vec<u8> {
        let body = if with_body { self.body.as_str() } else { "" };
        let length = self.body.len() as u64;
        [self.head(length).as_bytes(), body.as_bytes()].concat()
    }

    /// The status line and headers of an answer whose body is that long. Two statuses never have a body.
    pub(crate) fn head(&self, length: u64) -> String {
        let mut lines = vec![format!("HTTP/1.1 {} {}", self.status, reason(self.status))];
        if !matches!(self.status, 204 | 304) {
            lines.push(format!("Content-Type: {}", self.content_type));
            lines.push(format!("Content-Length: {length}"));
        }
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.push("X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n".into());
        lines.join("\r\n")
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;

    fn status_of(head: &[u8]) -> u16 {
        Request::parse(head).map_or_else(|response| response.status, |_| 200)
    }

    #[test]
    fn a_request_is_read_with_its_headers() {
        let head = b"GET /a?b HTTP/1.1\r\nHost: h\r\nx-forwarded-for:1\r\nX-Forwarded-For:  2 \r\nbytes: \xff\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.method, request.target, request.path()), ("GET", "/a?b", "/a"));
        assert!(request.is_1_1);
        let headers: Vec<_> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers, [("bytes", "\u{fffd}"), ("host", "h"), ("x-forwarded-for", "1, 2")]);
    }

    #[test]
    fn a_path_is_found_in_a_whole_address() {
        for (target, path) in
            [("http://h/health?x", "/health"), ("http://h", "/"), ("/a?u=http://h/b", "/a"), ("*", "*")]
        {
            let head = format!("GET {target} HTTP/1.0\n\n");
            assert_eq!(Request::parse(head.as_bytes()).unwrap().path(), path);
        }
    }

    #[test]
    fn garbage_is_refused() {
        assert_eq!(status_of(b"GET / HTTP/1.0\n\n"), 200);
        assert_eq!(status_of(b"GET / HTTP/1.1\r\n\r\n"), 400, "no Host");
        assert_eq!(status_of(b"GET / HTTP/2.0\r\n\r\n"), 505);
        let wrong: [&[u8]; 10] = [
            b"",
            b"\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GET  / HTTP/1.0\r\n\r\n",
            b"G(T / HTTP/1.0\r\n\r\n",
            b"GET /\x01 HTTP/1.0\r\n\r\n",
            b"\xff\xfe / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.0\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.0\r\nname : x\r\n\r\n",
            b"GET / HTTP/1.0\r\n folded: x\r\n\r\n",
        ];
        for head in wrong {
            assert_eq!(status_of(head), 400, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn a_head_ends_at_the_empty_line_and_at_16_kib() {
        for at_once in [1, 3, 8192] {
            let read = |bytes: &[u8]| {
                let mut client = BufReader::with_capacity(at_once, Cursor::new(bytes.to_vec()));
                let head = read_head(&mut client).unwrap();
                let mut rest = String::new();
                client.read_to_string(&mut rest).unwrap();
                match head {
                    Head::Complete(head) => Ok((head.len(), rest)),
                    Head::Bad(response) => Err(response.status),
                    Head::Nothing => Err(0),
                }
            };
            assert_eq!(read(b""), Err(0));
            assert_eq!(read(b"GET"), Err(400));
            assert_eq!(read(b"GET\n"), Err(400));
            assert_eq!(read(b"a\r\n\r\nbody\n\n"), Ok((5, "body\n\n".into())), "the body is left");
            assert_eq!(read(b"a\n\nbody"), Ok((3, "body".into())));
            let mut long = vec![b'a'; MAX_HEAD - 2];
            long.extend(b"\n\nbody");
            assert_eq!(read(&long), Ok((MAX_HEAD, "body".into())));
            long.insert(0, b'a');
            assert_eq!(read(&long), Err(431));
            assert_eq!(read(&vec![b'a'; 10 * MAX_HEAD]), Err(431));
            assert_eq!(read(&b"a\n".repeat(MAX_HEAD)), Err(431));
        }
    }

    #[test]
    fn a_response_tells_its_length_to_head_too() {
        let response = Response::not_allowed("GET, HEAD");
        let whole = String::from_utf8(response.bytes(true)).unwrap();
        assert_eq!(
            whole,
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 15\r\n\
             Cache-Control: no-store\r\nAllow: GET, HEAD\r\nX-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\r\nonly GET, HEAD\n"
        );
        assert_eq!(whole.strip_suffix("only GET, HEAD\n").unwrap().as_bytes(), response.bytes(false));
    }

    #[test]
    fn what_has_no_body_has_no_length() {
        for status in [204, 304] {
            let head = Response::text(status, "").head(0);
            assert!(!head.contains("Content-Length") && !head.contains("Content-Type:"), "{head}");
        }
    }
}
