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
//! `modules/whoami/whoami` is this file and what it takes from `modules/programs`, compiled. What rick builds may
//! depend on the source tree and nothing else, and a compiler is not part of that tree, so the result is.
//! Hermetic builds, which would make it on the way, are a later step. `program/build` makes the same bytes again
//! from any directory, and `program/build --check` says whether the committed ones come from these files. They
//! also depend on the compiler, the linker and the static C library: `toolchain.txt` holds the ones that were
//! used.

#![forbid(unsafe_code)]
// PostgreSQL is a name, not code.
#![allow(clippy::doc_markdown)]

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use http::{Head, Request, Response, read_head};
use server::{Failure, Listen, Listener, Place, STACK, Stream, Timed, Variables, serve};

#[path = "../../programs/http.rs"]
mod http;
#[path = "../../programs/server.rs"]
mod server;

const NAME: &str = "whoami";
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

/// Probes of other servers running at once. Only a server that accepts nothing makes them pile up.
const MAX_PROBES: usize = 16;
/// For one probe of another server, connecting included.
const PROBE_TIME: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    server::main(VERSION, HELP, run)
}

/// Reads the settings, listens, and serves until it is killed.
fn run() -> Result<Infallible, Failure> {
    let settings = Settings::read(|name| env::var(name)).map_err(Failure::Usage)?;
    let listener = Listener::open(&settings.listen)?;
    let settings = Arc::new(settings);
    serve(&listener, move |client| answer(client, &settings))
}

// ---- settings

#[derive(Debug, PartialEq)]
struct Settings {
    listen: Listen,
    postgres: Option<Postgres>,
    valkey: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
struct Postgres {
    socket: PathBuf,
    user: String,
    database: String,
}

impl Settings {
    fn read(variable: impl Fn(&str) -> Result<String, env::VarError>) -> Result<Self, String> {
        let variables = Variables(variable);
        let listen = variables.listen("WHOAMI_LISTEN")?;
        let user = variables.text("WHOAMI_POSTGRES_USER")?.unwrap_or_else(|| "whoami".into());
        let database = variables.text("WHOAMI_POSTGRES_DATABASE")?.unwrap_or_else(|| user.clone());
        Ok(Self {
            listen,
            postgres: variables.path("WHOAMI_POSTGRES")?.map(|socket| Postgres { socket, user, database }),
            valkey: variables.path("WHOAMI_VALKEY")?,
        })
    }
}

// ---- answers

fn answer(client: Timed, settings: &Settings) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let (response, with_body) = match read_head(&mut client)? {
        Head::Nothing => return Ok(()),
        Head::Bad(response) => (response, true),
        Head::Complete(head) => match Request::parse(&head) {
            Ok(request) => (respond(&request, settings), request.method != "HEAD"),
            Err(response) => (response, true),
        },
    };
    let mut client = client.into_inner();
    client.send(&response.bytes(with_body))?;
    client.part()
}

fn respond(request: &Request, settings: &Settings) -> Response {
    if !matches!(request.method, "GET" | "HEAD") {
        return Response::not_allowed("GET, HEAD");
    }
    let sockets = probe_all(settings);
    if request.path() == "/health" {
        return health(&sockets);
    }
    match Process::read() {
        Ok(process) => Response::new(200, "application/json", describe(&process, request, &sockets)),
        Err(why) => Response::text(500, &format!("cannot read about this process: {why}\n")),
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
    use server::tests::environment;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(environment(variables))
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

        assert!(settings(&[("WHOAMI_LISTEN", "8080")]).is_err());
        assert!(settings(&[("WHOAMI_LISTEN", "127.0.0.1:1"), ("WHOAMI_VALKEY", "v.sock")]).is_err());
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
}
