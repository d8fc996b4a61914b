//! The real registry, `docker-registry` of Debian, and a proxy of ours in front of it, which writes down what is asked and answers wrongly
//! when it is told to. Both on a loopback: the machine's, or that of a host, which nobody else sees.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use super::Host;

/// Whose loopback.
#[derive(Clone, Copy)]
pub(crate) struct Network(Option<u32>);

impl Network {
    pub(crate) const MACHINE: Self = Self(None);

    pub(crate) fn of(host: &Host) -> Self {
        Self(Some(host.leader()))
    }

    /// Does something on this network, and so do the threads that it starts.
    fn within<T: Send>(self, work: impl FnOnce() -> T + Send) -> T {
        let work = || {
            if let Some(pid) = self.0 {
                let network = File::open(format!("/proc/{pid}/ns/net")).expect("the host runs");
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter");
            }
            work()
        };
        thread::scope(|scope| scope.spawn(work).join().expect("it does not panic"))
    }

    /// A program of the machine, on this network.
    pub(crate) fn command(self, program: &Path) -> Command {
        let Some(pid) = self.0 else { return Command::new(program) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={pid}")).args(["--net", "--"]).arg(program);
        command
    }

    fn free_port(self) -> u16 {
        let listener = self.within(|| TcpListener::bind("127.0.0.1:0")).expect("there are free ports");
        listener.local_addr().expect("it is bound").port()
    }
}

/// A registry.
pub(crate) struct Registry {
    pub(crate) network: Network,
    pub(crate) port: u16,
    child: Child,
    dir: TempDir,
}

impl Registry {
    /// Starts one, with more lines in its configuration: `http` lines two deep, others from the left.
    pub(crate) fn start(network: Network, http: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, port) = (dir.path().join("store"), network.free_port());
        let config = dir.path().join("config.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n{more}\nhttp:\n  addr: 127.0.0.1:{port}\n{http}\n",
                store.display()
            ),
        )
        .unwrap();
        let child = serve(network, port, &config);
        Self { network, port, child, dir }
    }

    /// Nobody answers any more.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Answers again, with what it had.
    pub(crate) fn go_on(&mut self) {
        self.child = serve(self.network, self.port, &self.dir.path().join("config.yml"));
    }
}

fn serve(network: Network, port: u16, config: &Path) -> Child {
    let mut command = network.command(Path::new("docker-registry"));
    command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("docker-registry runs: ci/setup installs it");
    wait_for_port(network, port);
    child
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn wait_for_port(network: Network, port: u16) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while network.within(|| TcpStream::connect(("127.0.0.1", port))).is_err() {
        assert!(Instant::now() < deadline, "the registry does not answer");
        thread::sleep(Duration::from_millis(50));
    }
}

/// An authority, and a certificate by it for a registry on loopback.
pub(crate) struct Keys {
    dir: TempDir,
}

impl Keys {
    pub(crate) fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"
            cd "$1"
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
                -keyout authority.key -out authority.crt
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=registry -keyout server.key -out server.csr
            openssl x509 -req -in server.csr -CA authority.crt -CAkey authority.key -CAcreateserial -days 2 \
                -extfile <(printf 'subjectAltName = IP:127.0.0.1') -out server.crt"#;
        let output = Command::new("bash").args(["-euc", script, "-"]).arg(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
    /// Lines of a registry's `http` that has the certificate.
    pub(crate) fn tls(&self) -> String {
        format!("  tls:\n    certificate: {}\n    key: {}", self.path("server.crt"), self.path("server.key"))
    }

    /// Lines of a registry that lets in `lab` with the password `open sesame`, and nobody else.
    pub(crate) fn password(&self) -> String {
        let hash = "lab:$2b$04$kcDGbXrLzoOcjXJBWsC./ORbkAs.P1242Qn9gTkBGJdRGSy..JH/i\n";
        fs::write(self.path("htpasswd"), hash).unwrap();
        format!("auth:\n  htpasswd:\n    realm: test\n    path: {}", self.path("htpasswd"))
    }
}

/// What was asked, and how it went.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The bytes of the body that was sent to the registry.
    pub(crate) sent: usize,
    /// The bytes of the body that came back.
    pub(crate) received: usize,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection breaks after so many bytes to the registry.
    Cut(usize),
    /// The registry is not asked, and this is the answer.
    Answer(&'static str),
    /// A byte of the answer is another one.
    Tamper,
    /// The answer has no end.
    Flood,
}

pub(crate) const FAILS: Fault =
    Fault::Answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops");
pub(crate) const IS_BUSY: Fault = Fault::Answer(
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow",
);
pub(crate) const IS_NO_HTTP: Fault = Fault::Answer("\x01\x02 I am not a web server\r\n\r\n");
pub(crate) const IS_NO_REGISTRY: Fault = Fault::Answer(
    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 14\r\nConnection: close\r\n\r\n<html>hi</html",
);

struct Rule {
    method: &'static str,
    path: String,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct Book {
    seen: Mutex<Vec<Seen>>,
    rules: Mutex<Vec<Rule>>,
    /// The place where passes are to be had, without one of which nobody comes in.
    gate: Mutex<Option<String>>,
}

/// What stands in front of a registry.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    book: Arc<Book>,
}

impl Proxy {
    pub(crate) fn before(registry: &Registry) -> Self {
        let (book, upstream) = (Arc::new(Book::default()), registry.port);
        let kept = Arc::clone(&book);
        let port = registry.network.within(move || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
            let port = listener.local_addr().expect("it is bound").port();
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let book = Arc::clone(&kept);
                    thread::spawn(move || drop(pass_on(client, upstream, &book)));
                }
            });
            port
        });
        Self { port, book }
    }

    /// Has something go wrong that many times, where the path holds this text.
    pub(crate) fn breaks(&self, method: &'static str, path: &str, times: usize, fault: &Fault) {
        lock(&self.book.rules).push(Rule { method, path: path.to_owned(), times, fault: fault.clone() });
    }

    /// Lets nobody in without a pass, which is to be had for any name and password: as the registries of the large forges do.
    pub(crate) fn wants_passes(&self) {
        *lock(&self.book.gate) = Some(format!("http://127.0.0.1:{}/token", self.port));
    }

    /// Nothing goes wrong any more, and nothing was asked.
    pub(crate) fn reset(&self) {
        lock(&self.book.rules).clear();
        lock(&self.book.seen).clear();
    }

    /// What was asked since, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.book.seen).clone()
    }

    /// How many blobs were sent.
    pub(crate) fn uploads(&self) -> usize {
        self.seen().iter().filter(|seen| seen.method == "PUT" && seen.path.contains("/blobs/")).count()
    }

    /// The blobs that were fetched, by their digests, and all their bytes.
    pub(crate) fn fetched(&self) -> (Vec<String>, usize) {
        let blobs: Vec<Seen> = self.seen().into_iter().filter(is_blob).collect();
        let digests = blobs.iter().map(|seen| seen.path.rsplit('/').next().unwrap().to_owned()).collect();
        (digests, blobs.iter().map(|seen| seen.received).sum())
    }
}

fn is_blob(seen: &Seen) -> bool {
    seen.method == "GET" && seen.path.contains("/blobs/")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One question and its answer.
fn pass_on(mut client: TcpStream, upstream: u16, book: &Book) -> std::io::Result<()> {
    // Somebody asks for TLS first.
    let mut first = [0];
    if client.peek(&mut first)? == 0 || first[0] == 0x16 {
        return client.shutdown(Shutdown::Both);
    }
    let (head, rest) = read_head(&mut client)?;
    let mut words = head.split(' ');
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let fault = fault_for(book, &method, &path);
    let at = {
        let mut seen = lock(&book.seen);
        seen.push(Seen { method, path, sent: 0, received: 0 });
        seen.len() - 1
    };
    let note = |sent: usize, received: usize| {
        if let Some(seen) = lock(&book.seen).get_mut(at) {
            seen.sent += sent;
            seen.received += received;
        }
    };
    if let Some(answer) = lock(&book.gate).as_ref().and_then(|realm| at_the_gate(&head, realm)) {
        return refuse(client, &head, rest.len(), &answer);
    }
    if let Some(Fault::Answer(answer)) = fault {
        return refuse(client, &head, rest.len(), answer);
    }
    if let Some(Fault::Flood) = fault {
        client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        let endless = vec![7; 64 << 10];
        loop {
            client.write_all(&endless)?;
            note(0, 64 << 10);
        }
    }
    let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
    let plain: Vec<&str> =
        head.lines().filter(|line| !line.to_lowercase().starts_with("connection:")).collect();
    let head = plain.join("\r\n").trim_end().to_owned() + "\r\nConnection: close\r\n\r\n";
    server.write_all(head.as_bytes())?;
    server.write_all(&rest)?;
    note(rest.len(), 0);
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut buffer, mut sent) = (vec![0; 64 << 10], rest.len());
            while let Ok(got @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..got]).is_err() {
                    break;
                }
                note(got, 0);
                sent += got;
                if matches!(fault, Some(Fault::Cut(after)) if sent > after) && may_cut(book) {
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                }
            }
        });
        let answered = answer(&mut server, &mut client, matches!(fault, Some(Fault::Tamper)), &note);
        let _ = client.shutdown(Shutdown::Both);
        answered
    })
}

/// What is answered to somebody without a pass, or who asks for one.
fn at_the_gate(head: &str, realm: &str) -> Option<String> {
    let has = |what: &str| {
        head.lines().any(|line| line.to_lowercase().starts_with(&format!("authorization: {what}")))
    };
    let answer = |status: &str, more: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let asks_for_one = head.split(' ').nth(1).is_some_and(|path| path.starts_with("/token?"));
    match (asks_for_one, has("basic "), has("bearer a-pass")) {
        (true, true, _) => Some(answer("200 OK", "", r#"{"token": "a-pass"}"#)),
        (false, _, true) => None,
        _ => Some(answer(
            "401 Unauthorized",
            &format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"gate\"\r\n"),
            "{}",
        )),
    }
}

fn answer(
    server: &mut TcpStream,
    client: &mut TcpStream,
    tamper: bool,
    note: &dyn Fn(usize, usize),
) -> std::io::Result<()> {
    let (head, mut body) = read_head(server)?;
    client.write_all(head.as_bytes())?;
    let mut tampered = !tamper;
    let mut buffer = vec![0; 64 << 10];
    loop {
        if let (false, Some(last)) = (tampered, body.last_mut()) {
            *last ^= 1;
            tampered = true;
        }
        client.write_all(&body)?;
        note(0, body.len());
        match server.read(&mut buffer)? {
            0 => return Ok(()),
            got => body = buffer[..got].to_vec(),
        }
    }
}

fn fault_for(book: &Book, method: &str, path: &str) -> Option<Fault> {
    let mut rules = lock(&book.rules);
    let rule =
        rules.iter_mut().find(|rule| rule.times > 0 && rule.method == method && path.contains(&rule.path))?;
    // Most questions are too short to be cut: that is counted when it happens.
    if !matches!(rule.fault, Fault::Cut(_)) {
        rule.times -= 1;
    }
    Some(rule.fault.clone())
}

/// Whether there is a cut left to be made.
fn may_cut(book: &Book) -> bool {
    let mut rules = lock(&book.rules);
    let rule = rules.iter_mut().find(|rule| rule.times > 0 && matches!(rule.fault, Fault::Cut(_)));
    rule.is_some_and(|rule| {
        rule.times -= 1;
        true
    })
}

/// A head with its empty line, and what came of the body with it.
fn read_head(from: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        match from.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            got => bytes.extend_from_slice(&buffer[..got]),
        }
    }
}

/// Reads the body, as an answer that comes before its end may never be read, and gives that answer.
fn refuse(mut client: TcpStream, head: &str, got: usize, answer: &str) -> std::io::Result<()> {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut left = length.unwrap_or(0).saturating_sub(got);
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        match client.read(&mut buffer)? {
            0 => break,
            got => left = left.saturating_sub(got),
        }
    }
    client.write_all(answer.as_bytes())?;
    client.shutdown(Shutdown::Both)
}
