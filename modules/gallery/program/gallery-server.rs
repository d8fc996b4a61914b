//! `gallery-server`: shows the photos of a directory, and takes new ones from whoever has the token.
//!
//! It is the one program inside the container image of rick's `gallery` module. It answers
//!
//! - `GET /`: a page with the photos, newest first. Newest is by the time that the file system has, so a backup
//!   should keep it;
//! - `GET /photos/NAME`: the file. Always whole: ranges are not supported;
//! - `PUT /photos/NAME` with `Authorization: Bearer TOKEN`: keeps a photo, 201 for a new name and 204 for one that
//!   was there. `curl -T photo.jpg -H @authorization https://…/photos/photo.jpg` is such a request;
//! - `DELETE /photos/NAME`, with the same: 204;
//! - `GET /health`: 200 and `ok` when the photos can be listed, otherwise 503.
//!
//! A name is 1 to 100 of `A–Z a–z 0–9 . _ -`, does not start with a dot, and ends with `.jpg`, `.jpeg`, `.png`,
//! `.webp`, `.gif` or `.avif`, in upper or lower case. What is kept under it has to begin as such a file begins.
//! The page shows the photos themselves, made small by the browser: there are no thumbnails.
//!
//! # Settings
//!
//! All come from the environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `GALLERY_LISTEN` | required: `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/gallery/http.sock` |
//! | `GALLERY_DATA` | required: a directory; the photos are in `photos` below it, which is made if it is absent |
//! | `GALLERY_TITLE` | what the page is called; `Gallery` if not set |
//! | `GALLERY_TOKEN_FILE` | file with the token, read whenever one is shown; without it nothing can be changed |
//! | `NOTIFY_SOCKET` | set by systemd or Podman: gets `READY=1` once the server listens |
//!
//! A Unix socket is created under the umask and then given mode 0660; until then its directory should keep
//! others out. A socket that a dead server left is replaced; anything else in its place is an error.
//!
//! # Stopping
//!
//! As the first process of a container it cannot be stopped with SIGTERM: the kernel drops a signal for which
//! PID 1 has no handler, and the standard library offers none without `unsafe`. So stop it with SIGKILL, and count
//! status 137 as success. It is made for that: a photo is on the disk before it has its name and before anybody
//! hears 201 or 204, and what was half received has a name that is never shown and is removed at the next start.
//! One directory is for one server.
//!
//! # How it is compiled
//!
//! By `rickbuild`, in a sandbox, with the compiler that `rick.lock` says: Rust 1.85. See `gallery.star`.

#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{env, iter};

use http::{Head, Request, Response, read_head};
use server::{Failure, Listen, Listener, Timed, Variables, complain, serve};
use store::{CHUNK, Found, Name, Saved, Store, Unsaved};

#[path = "../../programs/http.rs"]
mod http;
mod page;
#[path = "../../programs/server.rs"]
mod server;
mod store;

const NAME: &str = "gallery-server";
const VERSION: &str = "gallery-server 0.1.0\n";
const HELP: &str = "\
Shows the photos of a directory over HTTP, and takes new ones.

Usage: gallery-server [--help | --version]

Settings, from the environment:
  GALLERY_LISTEN      127.0.0.1:8080, [::1]:8080 or unix:/run/gallery/http.sock (required)
  GALLERY_DATA        directory; the photos are in `photos` below it (required)
  GALLERY_TITLE       what the page is called [default: Gallery]
  GALLERY_TOKEN_FILE  file with the token that PUT and DELETE ask for [default: nobody may]
";

/// A photo may be this long.
const MAX_PHOTO: u64 = 64 << 20;
/// A token may be this long, with the white space around it.
const MAX_TOKEN: u64 = 4096;
/// For each `CHUNK` of a photo, in either direction: a client slower than 13 kB/s is given up.
const CHUNK_TIME: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    server::main(VERSION, HELP, run)
}

/// Reads the settings, listens, looks after the directory, and serves until it is killed.
fn run() -> Result<Infallible, Failure> {
    let settings = Settings::read(|name| env::var(name)).map_err(Failure::Usage)?;
    // First: whoever holds the socket is the only one, and what is half received there is nobody's any more.
    let listener = Listener::open(&settings.listen)?;
    let store = Store::open(&settings.data)
        .map_err(|why| Failure::Start(format!("cannot use {}: {why}", settings.data.display())))?;
    let gallery = Arc::new(Gallery { title: settings.title, token_file: settings.token_file, store });
    serve(&listener, move |client| gallery.answer(client))
}

#[derive(Debug, PartialEq)]
struct Settings {
    listen: Listen,
    data: PathBuf,
    title: String,
    token_file: Option<PathBuf>,
}

impl Settings {
    fn read(variable: impl Fn(&str) -> Result<String, env::VarError>) -> Result<Self, String> {
        let variables = Variables(variable);
        Ok(Self {
            listen: variables.listen("GALLERY_LISTEN")?,
            data: variables.path("GALLERY_DATA")?.ok_or("GALLERY_DATA is not set")?,
            title: variables.text("GALLERY_TITLE")?.unwrap_or_else(|| "Gallery".into()),
            token_file: variables.path("GALLERY_TOKEN_FILE")?,
        })
    }
}

struct Gallery {
    title: String,
    token_file: Option<PathBuf>,
    store: Store,
}

enum Answer {
    Whole(Response),
    /// What is said of a photo, and the photo.
    Photo(Response, Found),
}

impl Gallery {
    fn answer(&self, client: Timed) -> io::Result<()> {
        let mut client = BufReader::new(client);
        let (answer, with_body) = match read_head(&mut client)? {
            Head::Nothing => return Ok(()),
            Head::Bad(response) => (Answer::Whole(response), true),
            Head::Complete(head) => match Request::parse(&head) {
                Ok(request) => (self.respond(&request, &mut client), request.method != "HEAD"),
                Err(response) => (Answer::Whole(response), true),
            },
        };
        let mut client = client.into_inner();
        match answer {
            Answer::Whole(response) => client.send(&response.bytes(with_body))?,
            Answer::Photo(response, photo) => {
                client.send(response.head(photo.length).as_bytes())?;
                if with_body {
                    send_photo(&mut client, photo)?;
                }
            }
        }
        client.part()
    }

    fn respond(&self, request: &Request, client: &mut BufReader<Timed>) -> Answer {
        let reads = matches!(request.method, "GET" | "HEAD");
        let response = match (request.path(), request.path().strip_prefix("/photos/")) {
            ("/" | "/health", _) if !reads => Err(Response::not_allowed("GET, HEAD")),
            ("/", _) => self.page(),
            ("/health", _) => Ok(self.health()),
            (_, Some(name)) if reads => match self.photo(name, request) {
                Ok(answer) => return answer,
                Err(response) => Err(response),
            },
            (_, Some(name)) if request.method == "PUT" => self.put(name, request, client),
            (_, Some(name)) if request.method == "DELETE" => self.delete(name, request),
            (_, Some(_)) => Err(Response::not_allowed("GET, HEAD, PUT, DELETE")),
            (_, None) => Err(not_there()),
        };
        // What was done and what was refused differ in the status alone.
        Answer::Whole(response.unwrap_or_else(|refused| refused))
    }

    fn page(&self) -> Result<Response, Response> {
        let photos = self.store.list().map_err(|why| failed("cannot list the photos", &why))?;
        let page = Response::new(200, "text/html; charset=utf-8", page::draw(&self.title, &photos));
        Ok(page.with("Content-Security-Policy", page::POLICY).with("Referrer-Policy", "no-referrer"))
    }

    fn health(&self) -> Response {
        match self.store.list() {
            Ok(_) => Response::text(200, "ok\n"),
            Err(why) => Response::text(503, &format!("cannot list the photos: {why}\n")),
        }
    }

    fn photo(&self, name: &str, request: &Request) -> Result<Answer, Response> {
        let name = Name::parse(name).ok_or_else(not_there)?;
        let photo = self.store.find(&name).map_err(|why| failed("cannot read a photo", &why))?;
        let photo = photo.ok_or_else(not_there)?;
        let headers = vec![
            // Kept, but asked about each time: a name can get another photo.
            ("Cache-Control", "private, no-cache".into()),
            ("ETag", photo.tag.clone()),
            ("Accept-Ranges", "none".into()),
            ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox".into()),
        ];
        let content_type = name.kind.content_type();
        let response = |status| Response { status, content_type, headers, body: String::new() };
        if request.headers.get("if-none-match").is_some_and(|tags| names_tag(tags, &photo.tag)) {
            return Ok(Answer::Whole(response(304)));
        }
        Ok(Answer::Photo(response(200), photo))
    }

    fn put(
        &self,
        name: &str,
        request: &Request,
        client: &mut BufReader<Timed>,
    ) -> Result<Response, Response> {
        self.authorise(request)?;
        let name = Name::parse(name).ok_or_else(|| Response::text(400, BAD_NAME))?;
        let left = body_length(request)?;
        if expects_continue(request)? {
            // Whether it arrives will show in the body.
            let _ = client.get_mut().send(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        match self.store.save(&name, &mut Body { client, left }) {
            Ok(Saved::New) => Ok(Response::text(201, "")),
            Ok(Saved::Replaced) => Ok(Response::text(204, "")),
            Err(Unsaved::OtherKind) => Err(Response::text(415, "this is not what its name says\n")),
            Err(Unsaved::Client(why)) if why.kind() == ErrorKind::TimedOut => {
                Err(Response::text(408, "the photo took too long\n"))
            }
            Err(Unsaved::Client(_)) => Err(Response::text(400, "the photo ends before its length\n")),
            Err(Unsaved::Disk(why)) => Err(failed("cannot keep the photo", &why)),
        }
    }

    fn delete(&self, name: &str, request: &Request) -> Result<Response, Response> {
        self.authorise(request)?;
        let name = Name::parse(name).ok_or_else(not_there)?;
        match self.store.delete(&name) {
            Ok(true) => Ok(Response::text(204, "")),
            Ok(false) => Err(not_there()),
            Err(why) => Err(failed("cannot delete the photo", &why)),
        }
    }

    fn authorise(&self, request: &Request) -> Result<(), Response> {
        let Some(file) = &self.token_file else {
            return Err(Response::text(403, "no token is configured, so nobody may change anything\n"));
        };
        let token = read_token(file).map_err(|why| failed("cannot read the token", &why))?;
        match request.headers.get("authorization").and_then(|value| shown_token(value)) {
            Some(shown) if same(shown.as_bytes(), &token) => Ok(()),
            _ => {
                Err(Response::text(401, "the token is missing or wrong\n").with("WWW-Authenticate", "Bearer"))
            }
        }
    }
}

const BAD_NAME: &str = "a name is 1 to 100 of A-Z a-z 0-9 . _ -, does not start with a dot, and ends with \
                        .jpg, .jpeg, .png, .webp, .gif or .avif\n";

fn not_there() -> Response {
    Response::text(404, "there is no such thing here\n")
}

/// The journal hears why; the client hears what, and whether less would help.
fn failed(what: &str, why: &io::Error) -> Response {
    complain(&format!("{what}: {why}"));
    match why.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Response::text(507, &format!("{what}: there is no room\n"))
        }
        _ => Response::text(500, &format!("{what}\n")),
    }
}

/// A list of entity tags, as `If-None-Match` has it (RFC 9110, 13.1.2). None of ours holds a comma.
fn names_tag(tags: &str, tag: &str) -> bool {
    tags.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

fn send_photo(client: &mut Timed, photo: Found) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut rest = photo.file.take(photo.length);
    loop {
        let read = match rest.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(why) if why.kind() == ErrorKind::Interrupted => continue,
            // Only by closing early can it still be told.
            Err(why) => return Err(why),
        };
        client.allow(CHUNK_TIME);
        client.write_all(&chunk[..read])?;
    }
}

// ---- uploads

/// The bytes of one photo. Each read fills the buffer as far as the photo goes, or fails.
struct Body<'a> {
    client: &'a mut BufReader<Timed>,
    left: u64,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        self.client.get_mut().allow(CHUNK_TIME);
        self.client.read_exact(&mut buffer[..most])?;
        self.left -= most as u64;
        Ok(most)
    }
}

fn body_length(request: &Request) -> Result<u64, Response> {
    if request.headers.contains_key("content-range") {
        // To keep a part as if it were the whole would lose the photo (RFC 9110, 14.5).
        return Err(Response::text(400, "send the whole photo\n"));
    }
    if request.headers.contains_key("transfer-encoding") {
        return Err(Response::text(411, "send a Content-Length, and no Transfer-Encoding\n"));
    }
    let length = request
        .headers
        .get("content-length")
        .ok_or_else(|| Response::text(411, "send a Content-Length\n"))?;
    if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Response::text(400, "the Content-Length is not a number\n"));
    }
    match length.parse() {
        Ok(length) if length <= MAX_PHOTO => Ok(length),
        // A number that is too large to be read is too large.
        _ => Err(Response::text(413, "a photo may have 64 MiB\n")),
    }
}

/// Does the client wait to be told that its body is wanted? One of HTTP/1.0 cannot (RFC 9110, 10.1.1).
fn expects_continue(request: &Request) -> Result<bool, Response> {
    match request.headers.get("expect") {
        Some(what) if what.eq_ignore_ascii_case("100-continue") => Ok(request.is_1_1),
        Some(_) => Err(Response::text(417, "only 100-continue can be expected\n")),
        None => Ok(false),
    }
}

// ---- the token

fn read_token(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_TOKEN + 1).read_to_end(&mut text)?;
    let token = text.trim_ascii();
    if token.is_empty() || text.len() as u64 > MAX_TOKEN {
        return Err(io::Error::new(ErrorKind::InvalidData, "its file is empty or too long"));
    }
    Ok(token.to_vec())
}

fn shown_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// Looks at every byte of the secret, whatever was shown, so that the time taken tells nothing but its length.
fn same(shown: &[u8], secret: &[u8]) -> bool {
    let padded = shown.iter().chain(iter::repeat(&0));
    let differ = padded.zip(secret).fold(0, |differ, (shown, secret)| black_box(differ | (shown ^ secret)));
    differ == 0 && shown.len() == secret.len()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;
    use server::Stream;
    use server::tests::environment;
    use store::tests::{Directory, GIF, JPEG, PNG};

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(environment(variables))
    }

    #[test]
    fn settings_have_defaults_and_refuse_what_cannot_work() {
        let needed = [("GALLERY_LISTEN", "unix:/run/g/http.sock"), ("GALLERY_DATA", "/var/lib/g")];
        let expected = Settings {
            listen: Listen::Unix("/run/g/http.sock".into()),
            data: "/var/lib/g".into(),
            title: "Gallery".into(),
            token_file: None,
        };
        assert_eq!(settings(&needed), Ok(expected));
        assert!(settings(&needed[..1]).is_err() && settings(&needed[1..]).is_err());
        let [listen, data] = needed;
        assert!(settings(&[listen, ("GALLERY_DATA", "data")]).is_err());
        assert!(settings(&[listen, data, ("GALLERY_TOKEN_FILE", "token")]).is_err());
        assert_eq!(settings(&[listen, data, ("GALLERY_TITLE", "Ø")]).unwrap().title, "Ø");
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same(b"secret", b"secret"));
        for wrong in ["", "s", "secre", "secrets", "Secret", "secreT", "secret\0", "\0\0\0\0\0\0"] {
            assert!(!same(wrong.as_bytes(), b"secret"), "{wrong:?}");
        }
        assert!(!same(b"secret", b"secret\0"));
        for (shown, token) in [
            ("Bearer a", Some("a")),
            ("bearer  a", Some("a")),
            ("Bearer", None),
            ("Basic a", None),
            ("a", None),
            ("Bearer ", Some("")),
        ] {
            assert_eq!(shown_token(shown), token, "{shown}");
        }
    }

    #[test]
    fn an_empty_token_lets_nobody_in() {
        let directory = Directory::new();
        let file = directory.0.join("token");
        for (text, token) in [("", None), (" \n", None), ("t\n", Some(b"t")), (&*"t".repeat(4097), None)] {
            fs::write(&file, text).unwrap();
            assert_eq!(read_token(&file).ok().as_deref(), token.map(|token| &token[..]), "{text:?}");
        }
        assert!(read_token(&directory.0.join("absent")).is_err());
    }

    #[test]
    fn a_length_is_asked_for_and_limited() {
        let length = |headers: &str| {
            let head = format!("PUT /photos/a.jpg HTTP/1.0\n{headers}\n");
            let request = Request::parse(head.as_bytes()).unwrap();
            body_length(&request).map_err(|response| response.status)
        };
        assert_eq!(length("Content-Length: 67108864\n"), Ok(MAX_PHOTO));
        assert_eq!(length("Content-Length: 0\n"), Ok(0));
        assert_eq!(length("Content-Length: 67108865\n"), Err(413));
        assert_eq!(length("Content-Length: 99999999999999999999999\n"), Err(413));
        assert_eq!(length(""), Err(411));
        assert_eq!(length("Transfer-Encoding: chunked\nContent-Length: 1\n"), Err(411));
        assert_eq!(length("Content-Length: 1\nContent-Range: bytes 0-0/2\n"), Err(400));
        for wrong in ["", "-1", "+1", "0x1", "1, 1", "1 1", "a"] {
            assert_eq!(length(&format!("Content-Length: {wrong}\n")), Err(400), "{wrong:?}");
        }
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        for (tags, found) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
        ] {
            assert_eq!(names_tag(tags, "\"a\""), found, "{tags}");
        }
    }

    /// A gallery over a directory of its own, asked over a socket.
    struct Asked {
        directory: Directory,
        gallery: Arc<Gallery>,
    }

    impl Asked {
        fn new() -> Self {
            let directory = Directory::new();
            let token_file = directory.0.join("token");
            fs::write(&token_file, "secret\n").unwrap();
            let store = Store::open(&directory.0).unwrap();
            let gallery = Gallery { title: "T".into(), token_file: Some(token_file), store };
            Self { directory, gallery: Arc::new(gallery) }
        }

        /// Everything that is answered to these bytes, after which the client's side is closed.
        fn says(&self, bytes: &[u8]) -> String {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let gallery = Arc::clone(&self.gallery);
            let answering =
                thread::spawn(move || gallery.answer(Timed::new(Stream::Unix(ours), Duration::from_secs(5))));
            theirs.write_all(bytes).unwrap();
            theirs.shutdown(std::net::Shutdown::Write).unwrap();
            let mut said = Vec::new();
            theirs.read_to_end(&mut said).unwrap();
            answering.join().unwrap().unwrap();
            String::from_utf8_lossy(&said).into_owned()
        }

        fn status(&self, line: &str, headers: &str, body: &[u8]) -> u16 {
            let head = format!("{line} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
            let said = self.says(&[head.as_bytes(), body].concat());
            said.split(' ').nth(1).unwrap().parse().unwrap()
        }

        fn put(&self, name: &str, body: &[u8]) -> u16 {
            let headers = format!("Authorization: Bearer secret\r\nContent-Length: {}\r\n", body.len());
            self.status(&format!("PUT /photos/{name}"), &headers, body)
        }
    }

    const BEARER: &str = "Authorization: Bearer secret\r\n";

    #[test]
    fn a_photo_comes_and_goes() {
        let asked = Asked::new();
        assert_eq!(asked.status("GET /photos/a.png", "", b""), 404);
        assert_eq!(asked.put("a.png", PNG), 201);
        assert_eq!(asked.put("a.png", PNG), 204);
        let photo = asked.says(b"GET /photos/a.png?x HTTP/1.0\n\n");
        assert!(photo.starts_with("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 16\r\n"));
        assert!(photo.contains("\r\nX-Content-Type-Options: nosniff\r\n"));
        assert!(photo.contains("\r\nAccept-Ranges: none\r\n"));
        assert!(photo.ends_with(&*String::from_utf8_lossy(PNG)));
        let head = asked.says(b"HEAD /photos/a.png HTTP/1.0\n\n");
        assert!(photo.starts_with(&head) && head.ends_with("\r\n\r\n"));
        let tag = head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
        assert_eq!(asked.status("GET /photos/a.png", &format!("If-None-Match: {tag}\r\n"), b""), 304);
        assert!(asked.says(b"GET / HTTP/1.0\n\n").contains("/photos/a.png"));
        assert_eq!(asked.status("DELETE /photos/a.png", BEARER, b""), 204);
        assert_eq!(asked.status("DELETE /photos/a.png", BEARER, b""), 404);
        assert!(!asked.says(b"GET / HTTP/1.0\n\n").contains("/photos/a.png"));
    }

    #[test]
    fn every_refusal_has_its_status() {
        let asked = Asked::new();
        assert_eq!(asked.put("a.gif", GIF), 201);
        for (line, headers, status) in [
            ("GET /", "", 200),
            ("HEAD /", "", 200),
            ("GET /health", "", 200),
            ("GET /photos", "", 404),
            ("GET /photos/", "", 404),
            ("GET /photos/../token", "", 404),
            ("GET /photos/%61.gif", "", 404),
            ("GET //photos/a.gif", "", 404),
            ("GET *", "", 404),
            ("POST /", "", 405),
            ("PUT /health", BEARER, 405),
            ("POST /photos/a.gif", BEARER, 405),
            ("PUT /photos/a.gif", "", 401),
            ("PUT /photos/a.gif", "Authorization: Bearer secre\r\n", 401),
            ("PUT /photos/a.gif", "Authorization: Basic secret\r\n", 401),
            ("PUT /photos/a.gif", &BEARER.repeat(2), 401),
            ("DELETE /photos/a.gif", "", 401),
            ("PUT /photos/a.txt", BEARER, 400),
            ("PUT /photos/a.gif", BEARER, 411),
            ("PUT /photos/a.gif", &format!("{BEARER}Content-Length: 67108865\r\n"), 413),
            ("PUT /photos/a.gif", &format!("{BEARER}Content-Length: 1\r\nExpect: cake\r\n"), 417),
            ("PUT /photos/a.gif", &format!("{BEARER}Content-Length: 0\r\n"), 415),
            ("DELETE /photos/../token", BEARER, 404),
        ] {
            assert_eq!(asked.status(line, headers, b""), status, "{line} {headers}");
        }
        assert_eq!(asked.put("a.png", JPEG), 415);
        assert!(asked.says(b"PUT /photos/a.gif HTTP/1.0\n\n").contains("\r\nWWW-Authenticate: Bearer\r\n"));
        assert!(asked.says(b"POST / HTTP/1.0\n\n").contains("\r\nAllow: GET, HEAD\r\n"));
        fs::write(asked.directory.0.join("token"), "another").unwrap();
        assert_eq!(asked.put("a.gif", GIF), 401, "the file is read each time");
        fs::remove_file(asked.directory.0.join("token")).unwrap();
        assert_eq!(asked.put("a.gif", GIF), 500);
    }

    #[test]
    fn without_a_token_nothing_changes() {
        let mut asked = Asked::new();
        Arc::get_mut(&mut asked.gallery).unwrap().token_file = None;
        assert_eq!(asked.put("a.gif", GIF), 403);
        assert_eq!(asked.status("DELETE /photos/a.gif", BEARER, b""), 403);
    }

    #[test]
    fn half_a_photo_is_none() {
        let asked = Asked::new();
        let headers = format!("{BEARER}Content-Length: {}\r\n", GIF.len() + 1);
        assert_eq!(asked.status("PUT /photos/a.gif", &headers, GIF), 400);
        assert_eq!(fs::read_dir(asked.directory.0.join("photos")).unwrap().count(), 0);
    }

    #[test]
    fn a_client_that_waits_is_told_to_go_on() {
        let asked = Asked::new();
        let ask = |version: &str, token: &str| {
            let head = format!(
                "PUT /photos/a.gif {version}\nHost: h\nAuthorization: Bearer {token}\nContent-Length: {}\n\
                 Expect: 100-Continue\n\n",
                GIF.len()
            );
            asked.says(&[head.as_bytes(), GIF].concat())
        };
        assert!(
            ask("HTTP/1.1", "secret").starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n")
        );
        assert!(ask("HTTP/1.0", "secret").starts_with("HTTP/1.1 204 No Content\r\n"));
        assert!(ask("HTTP/1.1", "wrong").starts_with("HTTP/1.1 401 Unauthorized\r\n"));
    }

    #[test]
    fn the_page_lets_nothing_in() {
        let page = Asked::new().says(b"GET / HTTP/1.0\n\n");
        for header in [
            "Content-Type: text/html; charset=utf-8",
            "Content-Security-Policy: default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "Referrer-Policy: no-referrer",
            "X-Content-Type-Options: nosniff",
        ] {
            assert!(page.contains(&format!("\r\n{header}\r\n")), "{header}");
        }
    }
}
