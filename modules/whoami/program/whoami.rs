//! `whoami`: a small web server that says who it runs as, and whether it really reaches its sockets.
//!
//! It is the one program inside rick's own `whoami` container image. It answers
//!
//! - `GET /health`: 200 and `ok` when every configured socket answers, otherwise 503 and a line for each one
//!   that does not;
//! - `GET` of any other path: JSON with uid, gid, groups, host name, the request as it arrived (method, path,
//!   headers), and `postgres` and `valkey`: `ok` or the reason why not. What is not configured is absent.
//!
//! It repeats every header it was sent, cookies included, to whoever asked. That is its purpose, and the
//! reason to put it behind authentication.
//!
//! # Settings
//!
//! All come from the environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `WHOAMI_LISTEN` | required: `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/whoami/http.sock` |
//! | `WHOAMI_POSTGRES` | path of PostgreSQL's socket, for example `/run/postgresql/.s.PGSQL.5432` |
//! | `WHOAMI_POSTGRES_USER` | role to log in as, without a password; `whoami` if not set |
//! | `WHOAMI_POSTGRES_DATABASE` | database to open; the role's name if not set |
//! | `WHOAMI_VALKEY` | path of Valkey's socket, for example `/run/valkey-sock/valkey.sock` |
//! | `NOTIFY_SOCKET` | set by systemd or Podman: gets `READY=1` once the server listens |
//!
//! A Unix socket is created under the umask and then given mode 0660; until then its directory should keep
//! others out. A socket that a dead server left is replaced; anything else in its place is an error.
//!
//! # Stopping
//!
//! As the first process of a container it cannot be stopped with SIGTERM: the kernel drops a signal for which
//! PID 1 has no handler, and the standard library offers none without `unsafe`. It holds no state, so stop it
//! with SIGKILL: `StopSignal` in the image's configuration, or `StopSignal=SIGKILL` in a Quadlet of Podman
//! 5.2 or later. It then ends with status 137, which its unit should count as success
//! (`SuccessExitStatus=137`).
//!
//! # Why the binary is committed
//!
//! `modules/whoami/whoami` is this file, compiled. What rick builds may depend on the source tree and nothing
//! else, and a compiler is not part of that tree, so the result is. Hermetic builds, which would make it
//! on the way, are a later step. `program/build` makes the same bytes again from any directory, and
//! `program/build --check` says whether the committed ones come from this file. They also depend on the
//! compiler, the linker and the static C library: `toolchain.txt` holds the ones that were used.

#![forbid(unsafe_code)]
// PostgreSQL is a name, not code.
#![allow(clippy::doc_markdown)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

const VERSION: &str = "whoami 0.1.0\n";
const HELP: &str = "\
Says over HTTP who it runs as, and whether it reaches its sockets.

Usage: whoami [--help | --version]

Settings, from the environment:
  WHOAMI_LISTEN             127.0.0.1:8080, [::1]:8080 or unix:/run/whoami/http.sock (required)
  WHOAMI_POSTGRES           path of PostgreSQL's socket
  WHOAMI_POSTGRES_USER      role to log in as [default: whoami]
  WHOAMI_POSTGRES_DATABASE  database to open [default: the role's name]
  WHOAMI_VALKEY             path of Valkey's socket
";

/// A request's line and headers may take this much, and no more is ever kept of one.
const MAX_HEAD: usize = 16 * 1024;
/// Connections answered at once; the next one is told to come back.
const MAX_CONNECTIONS: usize = 64;
/// Probes of other servers running at once. Only a server that accepts nothing makes them pile up.
const MAX_PROBES: usize = 16;
/// From the first byte waited for to the last one of the head.
const READ_TIME: Duration = Duration::from_secs(5);
/// For the whole answer.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// For a client to close its side after the answer.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// For one probe of another server, connecting included.
const PROBE_TIME: Duration = Duration::from_secs(2);
const STACK: usize = 256 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let text = match arguments.as_slice() {
        [] => return run(),
        [only] if only == "--version" => VERSION,
        [only] if only == "--help" => HELP,
        _ => {
            complain(&format!("unexpected arguments {arguments:?}; see `whoami --help`"));
            return ExitCode::from(2);
        }
    };
    if io::stdout().write_all(text.as_bytes()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads the settings, listens, says so, and serves until it is killed.
fn run() -> ExitCode {
    let settings = match Settings::read(|name| env::var(name)) {
        Ok(settings) => settings,
        Err(why) => {
            complain(&why);
            return ExitCode::from(2);
        }
    };
    let listener = match Listener::bind(&settings.listen) {
        Ok(listener) => listener,
        Err(why) => {
            complain(&format!("cannot listen on {}: {why}", settings.listen));
            return ExitCode::FAILURE;
        }
    };
    if let Ok(address) = env::var("NOTIFY_SOCKET")
        && let Err(why) = notify_ready(&address)
    {
        complain(&format!("cannot send READY=1 to {address}: {why}"));
    }
    serve(&listener, &Arc::new(settings))
}

/// Nothing is left to be done when standard error itself is broken, so that is ignored.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "whoami: {message}");
}

// ---- settings

#[derive(Debug, PartialEq)]
struct Settings {
    listen: Listen,
    postgres: Option<Postgres>,
    valkey: Option<PathBuf>,
}

#[derive(Debug, PartialEq)]
enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
struct Postgres {
    socket: PathBuf,
    user: String,
    database: String,
}

impl Settings {
    /// An empty variable counts as one that is not set.
    fn read(variable: impl Fn(&str) -> Result<String, env::VarError>) -> Result<Self, String> {
        let get = |name: &str| match variable(name) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
        };
        let path = |name: &str| match get(name)?.map(PathBuf::from) {
            Some(path) if !path.is_absolute() => Err(format!("{name} must be an absolute path")),
            path => Ok(path),
        };
        let listen = get("WHOAMI_LISTEN")?.ok_or("WHOAMI_LISTEN is not set; see `whoami --help`")?;
        let user = get("WHOAMI_POSTGRES_USER")?.unwrap_or_else(|| "whoami".into());
        let database = get("WHOAMI_POSTGRES_DATABASE")?.unwrap_or_else(|| user.clone());
        Ok(Self {
            listen: listen.parse()?,
            postgres: path("WHOAMI_POSTGRES")?.map(|socket| Postgres { socket, user, database }),
            valkey: path("WHOAMI_VALKEY")?,
        })
    }
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:").map(PathBuf::from) {
            Some(path) if path.is_absolute() => Ok(Self::Unix(path)),
            Some(_) => {
                Err(format!("WHOAMI_LISTEN is {text:?}, but a path must follow `unix:`, from the root on"))
            }
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("WHOAMI_LISTEN is {text:?}; write 127.0.0.1:8080, [::1]:8080 or unix:/some/path.sock")
            }),
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// systemd's readiness protocol: one datagram. A leading `@` stands for the abstract namespace.
fn notify_ready(address: &str) -> io::Result<()> {
    let address = match address.strip_prefix('@') {
        Some(name) => UnixAddr::from_abstract_name(name)?,
        None => UnixAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1\n", &address).map(drop)
}

// ---- connections

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address).map(Self::Tcp),
            Listen::Unix(path) => {
                remove_stale_socket(path)?;
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
                Ok(Self::Unix(listener))
            }
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// Removes a socket only if nobody answers on it.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
        Err(why) => Err(why),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(ErrorKind::AlreadyExists, "something that is no socket has this name"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(why) if why.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(why) => Err(why),
            Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another server answers there")),
        },
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A stream on which all reads and writes together end at one moment, however slow the other side.
struct Timed {
    stream: Stream,
    until: Instant,
}

impl Timed {
    fn new(stream: Stream, time: Duration) -> Self {
        Self { stream, until: Instant::now() + time }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }

    fn allow(&mut self, time: Duration) {
        self.until = Instant::now() + time;
    }

    fn finish_writing(&self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

/// A timeout shows as `WouldBlock` on a socket; callers should see one kind.
fn timed<T>(result: io::Result<T>) -> io::Result<T> {
    result.map_err(|why| if why.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { why })
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        timed(match &mut self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(buffer)),
            Stream::Unix(stream) => stream.set_read_timeout(left).and_then(|()| stream.read(buffer)),
        })
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        timed(match &mut self.stream {
            Stream::Tcp(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(buffer)),
            Stream::Unix(stream) => stream.set_write_timeout(left).and_then(|()| stream.write(buffer)),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One of a limited number of places, given back when dropped.
struct Place(&'static AtomicUsize);

impl Place {
    fn take(taken: &'static AtomicUsize, limit: usize) -> Option<Self> {
        let more = |now| (now < limit).then_some(now + 1);
        // Only a place that was counted may exist: dropping it counts down.
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(taken))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve(listener: &Listener, settings: &Arc<Settings>) -> ! {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    loop {
        let stream = match listener.accept() {
            Ok(stream) => stream,
            Err(why) => {
                // Out of files or memory, mostly: what is being answered must end first.
                complain(&format!("cannot accept a connection: {why}"));
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let Some(place) = Place::take(&CONNECTIONS, MAX_CONNECTIONS) else {
            let _ = turn_away(stream);
            continue;
        };
        let settings = Arc::clone(settings);
        let answering = thread::Builder::new().stack_size(STACK).spawn(move || {
            let _place = place;
            // A client that went away is no event.
            let _ = answer(Timed::new(stream, READ_TIME), &settings);
        });
        if let Err(why) = answering {
            complain(&format!("cannot start a thread: {why}"));
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Brief, since the next client waits meanwhile: a new socket's buffer has room for the answer, and what the
/// client has sent is mostly there to be read already, so that closing does not reset the connection.
fn turn_away(stream: Stream) -> io::Result<()> {
    let mut client = Timed::new(stream, Duration::from_millis(20));
    client.write_all(&Response::text(503, "too many connections\n").bytes(true))?;
    client.finish_writing()?;
    client.read(&mut [0; 4096]).map(drop)
}

fn answer(mut client: Timed, settings: &Settings) -> io::Result<()> {
    let (response, with_body) = match read_head(&mut client)? {
        Head::Nothing => return Ok(()),
        Head::Bad(response) => (response, true),
        Head::Complete(head) => match Request::parse(&head) {
            Ok(request) => (respond(&request, settings), request.method != "HEAD"),
            Err(response) => (response, true),
        },
    };
    client.allow(WRITE_TIME);
    client.write_all(&response.bytes(with_body))?;
    client.finish_writing()?;
    // To close with bytes unread would reset the connection, and could take the answer with it.
    client.allow(LINGER_TIME);
    let mut rest = [0; 4096];
    for _ in 0..64 {
        if client.read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

fn respond(request: &Request, settings: &Settings) -> Response {
    if !matches!(request.method, "GET" | "HEAD") {
        return Response::text(405, "only GET and HEAD\n");
    }
    let sockets = probe_all(settings);
    if request.path() == "/health" {
        return health(&sockets);
    }
    match Process::read() {
        Ok(process) => Response::json(describe(&process, request, &sockets)),
        Err(why) => Response::text(500, &format!("cannot read about this process: {why}\n")),
    }
}

// ---- HTTP

enum Head {
    /// The client sent nothing at all, as a port check does.
    Nothing,
    Bad(Response),
    Complete(Vec<u8>),
}

/// Reads up to the empty line. What follows it belongs to a body, which no answer here depends on.
fn read_head(client: &mut impl Read) -> io::Result<Head> {
    let mut head = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let read = match client.read(&mut buffer) {
            Ok(0) if head.is_empty() => return Ok(Head::Nothing),
            Ok(0) => return Ok(Head::Bad(Response::text(400, "the request ends before its empty line\n"))),
            Ok(read) => read,
            Err(why) if why.kind() == ErrorKind::Interrupted => continue,
            Err(why) if why.kind() == ErrorKind::TimedOut => {
                return Ok(Head::Bad(Response::text(408, "the request took too long\n")));
            }
            Err(why) => return Err(why),
        };
        let searched = head.len().saturating_sub(3);
        head.extend_from_slice(&buffer[..read]);
        let end = end_of_head(&head[searched..]).map(|end| searched + end);
        if end.unwrap_or(head.len()) > MAX_HEAD {
            return Ok(Head::Bad(Response::text(431, "line and headers take more than 16 KiB\n")));
        }
        if let Some(end) = end {
            head.truncate(end);
            return Ok(Head::Complete(head));
        }
    }
}

/// The length up to and with the empty line. A line may end without its carriage return (RFC 9112, 2.2).
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let ends = |rest: &[u8]| match rest {
        [b'\n', b'\n', ..] => Some(2),
        [b'\n', b'\r', b'\n', ..] => Some(3),
        _ => None,
    };
    (0..bytes.len()).find_map(|at| ends(&bytes[at..]).map(|length| at + length))
}

#[derive(Debug)]
struct Request<'a> {
    method: &'a str,
    /// As it arrived, with its query.
    target: &'a str,
    /// Names in lower case; the values of a repeated one are joined by commas, as RFC 9110, 5.3 has it.
    headers: BTreeMap<String, String>,
}

impl<'a> Request<'a> {
    fn parse(head: &'a [u8]) -> Result<Self, Response> {
        let bad = |why: &str| Response::text(400, &format!("{why}\n"));
        let mut lines =
            head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = str::from_utf8(lines.next().unwrap_or_default())
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
        if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
            return Err(Response::text(505, "only HTTP/1.0 and HTTP/1.1\n"));
        }
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
        if version == "HTTP/1.1" && !headers.contains_key("host") {
            return Err(bad("HTTP/1.1 asks for a Host header"));
        }
        Ok(Self { method, target, headers })
    }

    /// The target's path. A proxy may send the whole address (RFC 9112, 3.2.2).
    fn path(&self) -> &'a str {
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
struct Response {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Response {
    fn text(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    fn json(body: String) -> Self {
        Self { status: 200, content_type: "application/json", body }
    }

    /// Without its body for HEAD, which still hears the length.
    fn bytes(&self, with_body: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            _ => "Internal Server Error",
        };
        let allow = if self.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len(),
        );
        let body = if with_body { self.body.as_str() } else { "" };
        [head.as_bytes(), body.as_bytes()].concat()
    }
}

// ---- what is told

/// Whom the kernel takes this process for.
#[derive(Debug, PartialEq)]
struct Process {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    host: String,
}

impl Process {
    fn read() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|why| format!("{path}: {why}"));
        Self::parse(&read("/proc/self/status")?, &read("/proc/sys/kernel/hostname")?)
    }

    fn parse(status: &str, host: &str) -> Result<Self, String> {
        let numbers = |key: &str| -> Result<Vec<u32>, String> {
            let values = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let values = values.ok_or_else(|| format!("/proc/self/status has no {key}"))?;
            values
                .split_ascii_whitespace()
                .map(|id| id.parse().map_err(|_| format!("{key}: {id:?}")))
                .collect()
        };
        // Real, effective, saved, file system: the effective one is what a socket's server sees.
        let effective =
            |key: &str| numbers(key)?.get(1).copied().ok_or_else(|| format!("{key} is too short"));
        Ok(Self {
            uid: effective("Uid")?,
            gid: effective("Gid")?,
            groups: numbers("Groups")?,
            host: host.trim_end().into(),
        })
    }
}

/// A configured socket's name, and what came of speaking to the server behind it.
type Probed = (&'static str, Result<(), String>);

fn health(sockets: &[Probed]) -> Response {
    let mut reasons = String::new();
    for (name, result) in sockets {
        if let Err(why) = result {
            let _ = writeln!(reasons, "{name}: {why}");
        }
    }
    if reasons.is_empty() { Response::text(200, "ok\n") } else { Response::text(503, &reasons) }
}

fn describe(process: &Process, request: &Request, sockets: &[Probed]) -> String {
    let groups: Vec<String> = process.groups.iter().map(u32::to_string).collect();
    let headers: Vec<String> = request
        .headers
        .iter()
        .map(|(name, value)| format!("\n    {}: {}", json_string(name), json_string(value)))
        .collect();
    let mut text = format!(
        "{{\n  \"uid\": {},\n  \"gid\": {},\n  \"groups\": [{}],\n  \"host\": {},\n  \
         \"method\": {},\n  \"path\": {},\n  \"headers\": {{{}{}}}",
        process.uid,
        process.gid,
        groups.join(", "),
        json_string(&process.host),
        json_string(request.method),
        json_string(request.target),
        headers.join(","),
        if headers.is_empty() { "" } else { "\n  " },
    );
    for (name, result) in sockets {
        let said = result.as_ref().map_or_else(String::as_str, |()| "ok");
        let _ = write!(text, ",\n  {}: {}", json_string(name), json_string(said));
    }
    text.push_str("\n}\n");
    text
}

fn json_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // The last two end a line in JavaScript's eyes, though not in JSON's.
            '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(char));
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

// ---- the other servers

fn probe_all(settings: &Settings) -> Vec<Probed> {
    let until = Instant::now() + PROBE_TIME + Duration::from_millis(200);
    let mut asked = Vec::new();
    if let Some(postgres) = settings.postgres.clone() {
        asked.push((
            "postgres",
            probe(postgres.socket.clone(), move |server| ask_postgres(server, &postgres)),
        ));
    }
    if let Some(socket) = settings.valkey.clone() {
        asked.push(("valkey", probe(socket, ask_valkey)));
    }
    let hear = |answer: mpsc::Receiver<Result<(), String>>| {
        let left = until.saturating_duration_since(Instant::now());
        answer.recv_timeout(left).unwrap_or_else(|_| Err("no answer in time".into()))
    };
    asked.into_iter().map(|(name, answer)| (name, hear(answer))).collect()
}

/// Starts speaking to a server, and gives back where its result will be heard.
///
/// To connect to a Unix socket can take for ever, when its server accepts nothing and its queue is full, and
/// the standard library has no limit for that. So it happens in a thread of its own, which is left behind if
/// need be.
fn probe(
    socket: PathBuf,
    ask: impl FnOnce(&mut Timed) -> Result<(), String> + Send + 'static,
) -> mpsc::Receiver<Result<(), String>> {
    static PROBES: AtomicUsize = AtomicUsize::new(0);
    // In each of the sends below, the one who asked may have stopped listening. That is no event.
    let (say, answer) = mpsc::channel();
    let Some(place) = Place::take(&PROBES, MAX_PROBES) else {
        let _ = say.send(Err("too many earlier probes are still waiting".into()));
        return answer;
    };
    let said = say.clone();
    let asking = thread::Builder::new().stack_size(STACK).spawn(move || {
        let result = UnixStream::connect(&socket)
            .map_err(|why| format!("cannot connect to {}: {why}", socket.display()))
            .and_then(|stream| ask(&mut Timed::new(Stream::Unix(stream), PROBE_TIME)));
        drop(place);
        let _ = said.send(result);
    });
    if let Err(why) = asking {
        let _ = say.send(Err(format!("cannot start a thread: {why}")));
    }
    answer
}

/// What may go wrong between two servers, in words for a person.
fn broken(why: &io::Error) -> String {
    match why.kind() {
        ErrorKind::TimedOut => "no answer in time".into(),
        ErrorKind::UnexpectedEof => "the server closed the connection".into(),
        _ => why.to_string(),
    }
}

/// Logs in as PostgreSQL's protocol 3.0 has it, and waits until a query could be sent.
fn ask_postgres<S: Read + Write>(server: &mut S, login: &Postgres) -> Result<(), String> {
    server.write_all(&startup_message(login)).map_err(|why| broken(&why))?;
    let mut let_in = false;
    loop {
        let (kind, body) = read_message(server)?;
        match kind {
            b'R' if body == [0; 4] => let_in = true,
            b'R' => return Err("the server wants a password".into()),
            b'E' => return Err(postgres_error(&body)),
            b'Z' if let_in => break,
            // Parameters, the key for cancelling, notices, and what an older protocol lacks.
            b'S' | b'K' | b'N' | b'v' if body.len() >= 4 => {}
            _ => return Err(format!("message {:?} was not expected", char::from(kind))),
        }
    }
    // It is ready; whether it hears the good-bye changes nothing.
    let _ = server.write_all(b"X\0\0\0\x04");
    Ok(())
}

fn startup_message(login: &Postgres) -> Vec<u8> {
    const PROTOCOL_3_0: u32 = 3 << 16;
    let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
    for word in ["user", &login.user, "database", &login.database, "application_name", "whoami", ""] {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body.as_slice()].concat()
}

fn read_message(server: &mut impl Read) -> Result<(u8, Vec<u8>), String> {
    let mut head = [0; 5];
    server.read_exact(&mut head).map_err(|why| broken(&why))?;
    let [kind, length @ ..] = head;
    // The length counts itself. Nothing that is said during a login is long.
    let length = match u32::from_be_bytes(length) {
        length @ 4..=0xffff => length as usize - 4,
        _ => return Err("this is no PostgreSQL server".into()),
    };
    let mut body = vec![0; length];
    server.read_exact(&mut body).map_err(|why| broken(&why))?;
    Ok((kind, body))
}

/// `FATAL 28000: Peer authentication failed for user "whoami"`, out of an error's tagged fields.
fn postgres_error(body: &[u8]) -> String {
    let field = |tag: u8| {
        let value = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(&[tag]));
        String::from_utf8_lossy(value.unwrap_or(b"?")).into_owned()
    };
    format!("{} {}: {}", field(b'S'), field(b'C'), field(b'M'))
}

fn ask_valkey<S: Read + Write>(server: &mut S) -> Result<(), String> {
    server.write_all(b"*1\r\n$4\r\nPING\r\n").map_err(|why| broken(&why))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        if line.len() == 1024 {
            return Err("this is no Valkey server".into());
        }
        server.read_exact(&mut byte).map_err(|why| broken(&why))?;
        line.extend(byte);
    }
    match line.trim_ascii_end() {
        b"+PONG" => Ok(()),
        [b'-', error @ ..] => Err(String::from_utf8_lossy(error).into_owned()),
        other => Err(format!("PING was answered with {:?}", String::from_utf8_lossy(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_string()).ok_or(env::VarError::NotPresent)
        })
    }

    fn status_of(head: &[u8]) -> u16 {
        Request::parse(head).map_or_else(|response| response.status, |_| 200)
    }

    /// A server with a script: hands out bytes, a few at a time, and keeps what it was sent.
    struct Script {
        says: io::Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Script {
        fn new(says: &[u8]) -> Self {
            Self { says: io::Cursor::new(says.to_vec()), heard: Vec::new() }
        }
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(3);
            self.says.read(&mut buffer[..most])
        }
    }

    impl Write for Script {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.heard.extend_from_slice(buffer);
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn login() -> Postgres {
        Postgres { socket: "/s".into(), user: "me".into(), database: "mine".into() }
    }

    #[test]
    fn settings_have_defaults_and_refuse_what_cannot_work() {
        let all =
            settings(&[("WHOAMI_LISTEN", "unix:/run/w"), ("WHOAMI_POSTGRES", "/p"), ("WHOAMI_VALKEY", "/v")]);
        let user = String::from("whoami");
        let postgres = Some(Postgres { socket: "/p".into(), user: user.clone(), database: user });
        assert_eq!(
            all,
            Ok(Settings { listen: Listen::Unix("/run/w".into()), postgres, valkey: Some("/v".into()) })
        );

        let few = settings(&[("WHOAMI_LISTEN", "[::1]:80"), ("WHOAMI_VALKEY", "")]).unwrap();
        assert_eq!((few.postgres, few.valkey), (None, None));

        for wrong in ["", "8080", "localhost:80", "unix:", "unix:run/w", "127.0.0.1:70000"] {
            assert!(settings(&[("WHOAMI_LISTEN", wrong)]).is_err(), "{wrong:?}");
        }
        assert!(settings(&[("WHOAMI_LISTEN", "127.0.0.1:1"), ("WHOAMI_VALKEY", "v.sock")]).is_err());
    }

    #[test]
    fn a_request_is_read_with_its_headers() {
        let head = b"GET /a?b HTTP/1.1\r\nHost: h\r\nx-forwarded-for:1\r\nX-Forwarded-For:  2 \r\nbytes: \xff\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.method, request.target, request.path()), ("GET", "/a?b", "/a"));
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
        let read = |bytes: &[u8]| match read_head(&mut Script::new(bytes)).unwrap() {
            Head::Complete(head) => Ok(head.len()),
            Head::Bad(response) => Err(response.status),
            Head::Nothing => Err(0),
        };
        assert_eq!(read(b""), Err(0));
        assert_eq!(read(b"GET"), Err(400));
        assert_eq!(read(b"a\r\n\r\nbody"), Ok(5));
        assert_eq!(read(b"a\n\nbody"), Ok(3));
        let mut long = vec![b'a'; MAX_HEAD - 2];
        long.extend(b"\n\nbody");
        assert_eq!(read(&long), Ok(MAX_HEAD));
        long.insert(0, b'a');
        assert_eq!(read(&long), Err(431));
        assert_eq!(read(&vec![b'a'; 10 * MAX_HEAD]), Err(431));
    }

    #[test]
    fn a_response_tells_its_length_to_head_too() {
        let response = Response::text(405, "no\n");
        let whole = String::from_utf8(response.bytes(true)).unwrap();
        assert!(whole.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(whole.contains("Content-Length: 3\r\nAllow: GET, HEAD\r\n"));
        assert!(whole.ends_with("Connection: close\r\n\r\nno\n"));
        assert_eq!(whole.strip_suffix("no\n").unwrap().as_bytes(), response.bytes(false));
    }

    #[test]
    fn the_process_is_read_from_the_kernels_text() {
        let status = "Name:\tw\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t984 985 \nKthread:\t0\n";
        let process = Process { uid: 2, gid: 6, groups: vec![984, 985], host: "box".into() };
        assert_eq!(Process::parse(status, "box\n"), Ok(process));
        assert!(Process::parse("Uid:\t1\t2\n", "box\n").is_err());
        assert_eq!(Process::parse("Uid: 1 2\nGid: 1 2\nGroups: \n", "").unwrap().groups, []);
        assert!(Process::read().is_ok());
    }

    #[test]
    fn the_description_is_whole_and_escaped() {
        let process = Process { uid: 1, gid: 2, groups: vec![3, 4], host: "box".into() };
        let request = Request::parse(b"GET /\"q HTTP/1.1\nHost: \\h\tx\n\n").unwrap();
        let sockets = [("postgres", Ok(())), ("valkey", Err("no \"\n".into()))];
        let expected = r#"{
  "uid": 1,
  "gid": 2,
  "groups": [3, 4],
  "host": "box",
  "method": "GET",
  "path": "/\"q",
  "headers": {
    "host": "\\h\tx"
  },
  "postgres": "ok",
  "valkey": "no \"\n"
}
"#;
        assert_eq!(describe(&process, &request, &sockets), expected);
        assert_eq!(json_string("\0\x1b\u{2028}ü"), r#""\u0000\u001b\u2028ü""#);

        let bare = Request::parse(b"GET / HTTP/1.0\n\n").unwrap();
        assert!(describe(&process, &bare, &[]).ends_with("\"headers\": {}\n}\n"));
    }

    #[test]
    fn health_names_every_socket_that_fails() {
        assert_eq!(health(&[]), Response::text(200, "ok\n"));
        assert_eq!(health(&[("postgres", Ok(())), ("valkey", Ok(()))]), Response::text(200, "ok\n"));
        let both = [("postgres", Err("a".into())), ("valkey", Err("b".into()))];
        assert_eq!(health(&both), Response::text(503, "postgres: a\nvalkey: b\n"));
    }

    #[test]
    fn postgres_is_ready_only_after_letting_in() {
        let ready = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0K\0\0\0\x0c12345678Z\0\0\0\x05I";
        let mut server = Script::new(ready);
        assert_eq!(ask_postgres(&mut server, &login()), Ok(()));
        let startup =
            b"\0\0\0\x37\0\x03\0\0user\0me\0database\0mine\0application_name\0whoami\0\0X\0\0\0\x04";
        assert_eq!(String::from_utf8_lossy(&server.heard), String::from_utf8_lossy(startup));

        let says = |bytes: &[u8]| ask_postgres(&mut Script::new(bytes), &login()).unwrap_err();
        assert_eq!(says(&ready[..20]), "the server closed the connection");
        assert_eq!(says(b"R\0\0\0\x08\0\0\0\x0a"), "the server wants a password");
        assert_eq!(says(b"Z\0\0\0\x05I"), "message 'Z' was not expected");
        assert_eq!(says(b"E\0\0\0\x16SFATAL\0C28000\0Mno\0\0"), "FATAL 28000: no");
        assert_eq!(says(b"E\0\0\0\x05\0"), "? ?: ?");
        assert_eq!(says(b"E\0\0\0\x03"), "this is no PostgreSQL server");
        assert_eq!(says(b"+PONG\r\n+PONG\r\n"), "this is no PostgreSQL server");
    }

    #[test]
    fn valkey_is_asked_and_heard() {
        let says = |bytes: &[u8]| ask_valkey(&mut Script::new(bytes));
        assert_eq!(says(b"+PONG\r\n"), Ok(()));
        assert_eq!(says(b"-NOAUTH log in\r\n"), Err("NOAUTH log in".into()));
        assert_eq!(says(b"+QUEUED\r\n"), Err("PING was answered with \"+QUEUED\"".into()));
        assert_eq!(says(b"+PON"), Err("the server closed the connection".into()));
        assert_eq!(says(&[b'+'; 2000]), Err("this is no Valkey server".into()));
    }

    #[test]
    fn places_are_limited_and_given_back() {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        let now = || TAKEN.load(Ordering::Relaxed);
        let first = Place::take(&TAKEN, 2);
        let second = Place::take(&TAKEN, 2);
        assert!(first.is_some() && second.is_some());
        assert!(Place::take(&TAKEN, 2).is_none());
        assert_eq!(now(), 2, "one that was refused gives nothing back");
        drop(first);
        assert_eq!(now(), 1);
        assert!(Place::take(&TAKEN, 2).is_some());
    }
}
