//! What the small servers of rick's own images share below HTTP: the command line, settings, the socket, readiness,
//! and connections that cannot take for ever.
//!
//! A program takes this file and `http.rs` in by path, and says what it is called in its constant `NAME`.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::NAME;
use crate::http::Response;

/// Connections answered at once; the next one is told to come back.
const MAX_CONNECTIONS: usize = 64;
/// From the first byte waited for to the last one of the head.
const READ_TIME: Duration = Duration::from_secs(5);
/// For a whole answer that is not a file.
const WRITE_TIME: Duration = Duration::from_secs(5);
/// For a client to close its side after the answer.
const LINGER_TIME: Duration = Duration::from_secs(1);
pub(crate) const STACK: usize = 256 * 1024;

/// Why a program ends.
pub(crate) enum Failure {
    /// It was called or configured in a way that cannot work.
    Usage(String),
    /// The host did not let it.
    Start(String),
}

/// Looks at the arguments, of which there are hardly any, and starts the server.
pub(crate) fn main(
    version: &str,
    help: &str,
    start: impl FnOnce() -> Result<Infallible, Failure>,
) -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let text = match arguments.as_slice() {
        [] => match start() {
            Ok(never) => match never {},
            Err(Failure::Usage(why)) => {
                complain(&why);
                return ExitCode::from(2);
            }
            Err(Failure::Start(why)) => {
                complain(&why);
                return ExitCode::FAILURE;
            }
        },
        [only] if only == "--version" => version,
        [only] if only == "--help" => help,
        _ => {
            complain(&format!("unexpected arguments {arguments:?}; see `{NAME} --help`"));
            return ExitCode::from(2);
        }
    };
    if io::stdout().write_all(text.as_bytes()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Nothing is left to be done when standard error itself is broken, so that is ignored.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{NAME}: {message}");
}

// ---- settings

/// Where settings come from: `env::var`, but for tests. An empty variable counts as one that is not set.
pub(crate) struct Variables<F>(pub(crate) F);

impl<F: Fn(&str) -> Result<String, env::VarError>> Variables<F> {
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, String> {
        match (self.0)(name) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
        }
    }

    pub(crate) fn path(&self, name: &str) -> Result<Option<PathBuf>, String> {
        match self.text(name)?.map(PathBuf::from) {
            Some(path) if !path.is_absolute() => Err(format!("{name} must be an absolute path")),
            path => Ok(path),
        }
    }

    pub(crate) fn listen(&self, name: &str) -> Result<Listen, String> {
        let text = self.text(name)?.ok_or_else(|| format!("{name} is not set; see `{NAME} --help`"))?;
        text.parse().map_err(|why| format!("{name} is {text:?}{why}"))
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl std::str::FromStr for Listen {
    /// What follows the words "NAME is TEXT".
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:").map(PathBuf::from) {
            Some(path) if path.is_absolute() => Ok(Self::Unix(path)),
            Some(_) => Err(", but a path must follow `unix:`, from the root on"),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "; write 127.0.0.1:8080, [::1]:8080 or unix:/some/path.sock"),
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

// ---- the socket

pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) fn open(listen: &Listen) -> Result<Self, Failure> {
        Self::bind(listen).map_err(|why| Failure::Start(format!("cannot listen on {listen}: {why}")))
    }

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

/// systemd's readiness protocol: one datagram. A leading `@` stands for the abstract namespace.
fn notify_ready(address: &str) -> io::Result<()> {
    let address = match address.strip_prefix('@') {
        Some(name) => UnixAddr::from_abstract_name(name)?,
        None => UnixAddr::from_pathname(address)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1\n", &address).map(drop)
}

// ---- connections

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A stream on which all reads and writes together end at one moment, however slow the other side.
pub(crate) struct Timed {
    stream: Stream,
    until: Instant,
}

impl Timed {
    pub(crate) fn new(stream: Stream, time: Duration) -> Self {
        Self { stream, until: Instant::now() + time }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }

    pub(crate) fn allow(&mut self, time: Duration) {
        self.until = Instant::now() + time;
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.allow(WRITE_TIME);
        self.write_all(bytes)
    }

    /// Ends a conversation after the answer: to close with bytes unread would reset the connection, and could
    /// take the answer with it.
    pub(crate) fn part(mut self) -> io::Result<()> {
        self.finish_writing()?;
        self.allow(LINGER_TIME);
        let mut rest = [0; 4096];
        for _ in 0..64 {
            if self.read(&mut rest)? == 0 {
                break;
            }
        }
        Ok(())
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
pub(crate) struct Place(&'static AtomicUsize);

impl Place {
    pub(crate) fn take(taken: &'static AtomicUsize, limit: usize) -> Option<Self> {
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

/// Says that the server is ready, and has every connection answered, each in its thread, until it is killed.
pub(crate) fn serve(
    listener: &Listener,
    answer: impl Fn(Timed) -> io::Result<()> + Clone + Send + 'static,
) -> ! {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    if let Ok(address) = env::var("NOTIFY_SOCKET") {
        if let Err(why) = notify_ready(&address) {
            complain(&format!("cannot send READY=1 to {address}: {why}"));
        }
    }
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
        let answer = answer.clone();
        let answering = thread::Builder::new().stack_size(STACK).spawn(move || {
            let _place = place;
            // A client that went away is no event.
            let _ = answer(Timed::new(stream, READ_TIME));
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An environment in which these variables are set, to read settings from.
    pub(crate) fn environment(set: &[(&str, &str)]) -> impl Fn(&str) -> Result<String, env::VarError> {
        move |name| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_string()).ok_or(env::VarError::NotPresent)
        }
    }

    #[test]
    fn variables_are_read_and_an_empty_one_is_not_set() {
        let one = |value: &'static str| {
            Variables(
                move |name: &str| {
                    if name == "X" { Ok(value.to_owned()) } else { Err(env::VarError::NotPresent) }
                },
            )
        };
        assert_eq!(one("a").text("X"), Ok(Some("a".into())));
        assert_eq!(one("").text("X"), Ok(None));
        assert_eq!(one("a").text("Y"), Ok(None));
        assert_eq!(one("/a").path("X"), Ok(Some("/a".into())));
        assert!(one("a").path("X").is_err());
        assert_eq!(one("[::1]:80").listen("X"), Ok(Listen::Tcp(([0, 0, 0, 0, 0, 0, 0, 1], 80).into())));
        assert_eq!(one("unix:/run/w").listen("X"), Ok(Listen::Unix("/run/w".into())));
        for wrong in ["", "8080", "localhost:80", "unix:", "unix:run/w", "127.0.0.1:70000"] {
            assert!(one(wrong).listen("X").is_err(), "{wrong:?}");
        }
        let why = one("unix:w").listen("X").unwrap_err();
        assert_eq!(why, "X is \"unix:w\", but a path must follow `unix:`, from the root on");
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

    #[test]
    fn a_stream_ends_at_its_moment() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Timed::new(Stream::Unix(ours), Duration::from_millis(50));
        theirs.write_all(b"a").unwrap();
        let mut byte = [0];
        assert_eq!(client.read(&mut byte).unwrap(), 1);
        assert_eq!(client.read(&mut byte).unwrap_err().kind(), ErrorKind::TimedOut);
        theirs.write_all(b"b").unwrap();
        assert_eq!(client.read(&mut byte).unwrap_err().kind(), ErrorKind::TimedOut, "it stays over");
        client.allow(Duration::from_secs(5));
        assert_eq!(client.read(&mut byte).unwrap(), 1);
    }
}
