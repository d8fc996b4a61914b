//! A real host: Debian under its own systemd, booted in a few seconds and gone with the value.
//!
//! Its file system is an overlay over the tree that `ci/rootfs` keeps, with an upper directory of its own, so each test gets
//! a pristine host and none can reach the tree. `boot.sh` beside this file runs one boot of it; a reboot, or a boot
//! after a power cut, is `boot.sh` again over the same upper directory.
//!
//! A host has a loopback interface and no other. It runs the services that Debian's packages start, as the vendor set
//! them up: a database server, a cache and a web server.

use std::cell::RefCell;
use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

const BOOT_TIMEOUT: Duration = Duration::from_mins(2);
const OFF_TIMEOUT: Duration = Duration::from_mins(2);
/// A command that takes longer is ended, with exit code 124.
const COMMAND_TIMEOUT_S: &str = "300";

/// A booted host. When dropped, nothing of it is left: no process, mount, cgroup or file.
pub(crate) struct Host {
    name: String,
    /// The pristine file system below its own.
    tree: PathBuf,
    /// Holds `upper` and the rest; `boot.sh` says what.
    dir: PathBuf,
    /// What the running boot is; none while the power is off.
    power: Option<Power>,
    boots: u32,
    _slot: Rc<Slot>,
}

/// One boot, from `boot.sh` to power-off.
struct Power {
    supervisor: Child,
    /// The pipe whose end ends the host.
    cord: ChildStdin,
    /// PID 1 of the host, as the machine numbers it.
    leader: u32,
}

impl Host {
    /// Boots a fresh host. The test must have asked [`super::require_hosts`] before.
    pub(crate) fn boot(name: &str) -> Self {
        Self::boot_suite(super::usual_suite(), name)
    }

    /// Boots a fresh host of another Debian, which the test must have asked for.
    pub(crate) fn boot_suite(suite: &str, name: &str) -> Self {
        let slot = Slot::take();
        let tree = super::tree(suite).expect("the test asked `require_hosts`");
        let hosts = tree.parent().expect("the tree lies in the cache").join("hosts");
        fs::create_dir_all(&hosts).expect("the cache can be written");
        let dir = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&hosts)
            .expect("the cache can be written");
        // From here on `boot.sh` removes it, or `drop`.
        let mut host = Self { name: name.into(), tree, dir: dir.keep(), power: None, boots: 0, _slot: slot };
        // A host's root directory is world-readable, whatever the umask of the test.
        fs::set_permissions(&host.dir, fs::Permissions::from_mode(0o755)).expect("the directory is ours");
        host.boot_again();
        host.write("/etc/rick/allowed_signers", super::signing::allowed());
        host
    }

    /// Boots a host whose power is off, with the file system that it had.
    pub(crate) fn boot_again(&mut self) {
        assert!(self.power.is_none(), "{} is running", self.name);
        self.boots += 1;
        let ready = self.dir.join("ready");
        let _ = fs::remove_file(&ready);
        let notices = UnixDatagram::bind(&ready).expect("the directory is ours");
        notices.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout above zero");

        let mut supervisor = Command::new("unshare")
            .args(["--mount", "--propagation=private", "bash", "-c", include_str!("boot.sh"), "boot.sh"])
            .arg(&self.tree)
            .args([self.dir.as_os_str(), self.name.as_ref(), unique_name().as_ref()])
            .env("NOTIFY_SOCKET", &ready)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.dir.join("boot.log")).expect("the directory is ours"))
            // Ctrl-C ends the test, and that ends the host, in good order.
            .process_group(0)
            .spawn()
            .expect("unshare runs");
        let cord = supervisor.stdin.take().expect("it is piped");

        let leader = wait_until_ready(&mut supervisor, &notices)
            .unwrap_or_else(|reason| panic!("{} does not boot: {reason}\n{}", self.name, self.console()));
        self.power = Some(Power { supervisor, cord, leader });
        let state = self.run(&["systemctl", "is-system-running", "--wait"]);
        let state = String::from_utf8_lossy(&state.stdout);
        assert!(
            matches!(state.trim_end(), "running" | "degraded"),
            "{} is {state}{}",
            self.name,
            self.console()
        );
    }

    /// Lets systemd shut the host down and boots it again.
    pub(crate) fn reboot(&mut self) {
        self.shut_down();
        self.boot_again();
    }

    /// Lets systemd shut the host down.
    pub(crate) fn shut_down(&mut self) {
        // It may be gone before the command has an answer.
        self.run(&["systemctl", "poweroff"]);
        self.wait_for_off();
    }

    /// Cuts the power: every process ends at once, by SIGKILL. What the kernel has in its cache is not lost.
    pub(crate) fn power_cut(&mut self) {
        let power = self.power.as_mut().expect("the host is running");
        power.cord.write_all(b"off\n").expect("the supervisor reads until the host is off");
        self.wait_for_off();
    }

    /// Lays a wire to another host: this one is 10.9.0.1 on it, the other 10.9.0.2, and `/etc/hosts` of both know it. Gone with the power
    /// of either.
    pub(crate) fn join(&self, other: &Self) {
        let script = r#"
            ip link add name wire netns "$1" type veth peer name wire netns "$2"
            for end in "$1 1" "$2 2"; do
                read -r pid number <<< "$end"
                nsenter --target="$pid" --net ip address add "10.9.0.$number/24" dev wire
                nsenter --target="$pid" --net ip link set wire up
            done"#;
        let pids = [self.leader().to_string(), other.leader().to_string()];
        let output =
            Command::new("bash").args(["-euo", "pipefail", "-c", script, "join"]).args(&pids).output();
        let output = output.expect("bash runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for host in [self, other] {
            host.sh(&format!("printf '10.9.0.1 {}\n10.9.0.2 {}\n' >> /etc/hosts", self.name, other.name));
        }
    }

    fn wait_for_off(&mut self) {
        let power = self.power.as_mut().expect("the host is running");
        let ended = wait_for_end(&mut power.supervisor, OFF_TIMEOUT);
        assert!(ended, "{} does not go off\n{}", self.name, self.console());
        self.power = None;
    }

    /// All that it ever wrote to its disk, and nothing that is in memory.
    pub(crate) fn disk(&self) -> &Path {
        &self.dir
    }

    /// The host's PID 1 as the machine numbers it, for namespaces and signals.
    pub(crate) fn leader(&self) -> u32 {
        self.power.as_ref().expect("the host is running").leader
    }

    /// A command inside the host, as root in `/` with a clean environment.
    pub(crate) fn command(&self, command: &[&str]) -> Command {
        self.command_within(COMMAND_TIMEOUT_S, command)
    }

    /// The same, ended only after so many seconds.
    pub(crate) fn command_within(&self, seconds: &str, command: &[&str]) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter
            .arg(format!("--target={}", self.leader()))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"])
            .args(["--", "timeout", "--kill-after=5", seconds])
            .args(command)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        nsenter
    }

    /// Runs a command to its end, whatever that is.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        self.command(command).output().expect("nsenter runs")
    }

    /// Runs a command that reads `input`.
    pub(crate) fn run_with(&self, command: &[&str], input: &[u8]) -> Output {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(input).and_then(|()| file.rewind()).expect("a temporary file");
        self.command(command).stdin(file).output().expect("nsenter runs")
    }

    /// Runs a command that must succeed, and returns what it printed, without the newline at its end.
    #[track_caller]
    pub(crate) fn ok(&self, command: &[&str]) -> String {
        let output = self.run(command);
        self.expect_success(command, &output);
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').into()
    }

    /// Runs a shell script that must succeed, and returns what it printed, without the newline at its end.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.ok(&["bash", "-euo", "pipefail", "-c", script])
    }

    /// The property of a unit.
    #[track_caller]
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "--property", property, "--", unit])
    }

    /// Writes a file, and the directories that lead to it. A file that is there keeps its owner and mode.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let script = ["bash", "-euc", r#"mkdir -p -- "$(dirname -- "$1")"; cat > "$1""#, "write", path];
        let output = self.run_with(&script, content.as_ref());
        self.expect_success(&script, &output);
    }

    /// The bytes of a file.
    #[track_caller]
    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        let command = ["cat", "--", path];
        let output = self.run(&command);
        self.expect_success(&command, &output);
        output.stdout
    }

    /// Copies a file of the machine, with its mode, or a directory, onto the host. Everything there belongs to root.
    #[track_caller]
    pub(crate) fn push(&self, local: &Path, remote: &str) {
        let metadata = fs::metadata(local).unwrap_or_else(|e| panic!("{}: {e}", local.display()));
        if !metadata.is_dir() {
            self.write(remote, fs::read(local).unwrap_or_else(|e| panic!("{}: {e}", local.display())));
            self.ok(&["chmod", &format!("{:o}", metadata.permissions().mode() & 0o7777), remote]);
            return;
        }
        let archive = Command::new("tar").args(["-c", "-C"]).arg(local).arg(".").output().expect("tar runs");
        assert!(archive.status.success(), "{}", String::from_utf8_lossy(&archive.stderr));
        let script = ["bash", "-euc", r#"mkdir -p -- "$1"; tar -x --no-same-owner -C "$1""#, "push", remote];
        let output = self.run_with(&script, &archive.stdout);
        self.expect_success(&script, &output);
    }

    #[track_caller]
    fn expect_success(&self, command: &[&str], output: &Output) {
        assert!(
            output.status.success(),
            "on {}: {command:?}: {}\n--- stdout\n{}\n--- stderr\n{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
    }

    /// What the host and its supervisor said, for messages.
    fn console(&self) -> String {
        let read = |file| fs::read(self.dir.join(file)).unwrap_or_default();
        let text = [read("boot.log"), read("console.log")].concat();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut power) = self.power.take() {
            if std::thread::panicking() {
                self.power = Some(power);
                let journal = self.run(&["journalctl", "--boot", "--no-pager", "--quiet", "--lines=60"]);
                eprintln!("--- the journal of {}\n{}", self.name, String::from_utf8_lossy(&journal.stdout));
                power = self.power.take().expect("it was set above");
            }
            drop(power.cord);
            if !wait_for_end(&mut power.supervisor, OFF_TIMEOUT) {
                eprintln!("{} does not go off; process {} is left", self.name, power.supervisor.id());
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Waits until the host's systemd says that it has booted; gives the host's PID 1.
fn wait_until_ready(supervisor: &mut Child, notices: &UnixDatagram) -> Result<u32, String> {
    let deadline = Instant::now() + BOOT_TIMEOUT;
    let (mut leader, mut ready) = (None, false);
    let mut notice = [0; 4096];
    while Instant::now() < deadline {
        if let Ok(length) = notices.recv(&mut notice) {
            for line in String::from_utf8_lossy(&notice[..length]).lines() {
                ready |= line == "READY=1";
                leader =
                    line.strip_prefix("X_NSPAWN_LEADER_PID=").and_then(|pid| pid.parse().ok()).or(leader);
            }
        }
        if let (true, Some(leader)) = (ready, leader) {
            return Ok(leader);
        }
        if let Ok(Some(status)) = supervisor.try_wait() {
            return Err(status.to_string());
        }
    }
    Err(format!("not ready after {} s", BOOT_TIMEOUT.as_secs()))
}

/// Whether a process ended in time.
fn wait_for_end(process: &mut Child, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        if let Ok(Some(_)) = process.try_wait() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// A name for a cgroup and for systemd-nspawn that no other boot on this machine has.
fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("rick-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The right to have hosts. As many tests hold one at a time as the machine has processors; a test that boots several
/// hosts holds one for all of them, so that two such tests cannot wait for each other.
struct Slot;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

thread_local! {
    static MINE: RefCell<Weak<Slot>> = const { RefCell::new(Weak::new()) };
}

impl Slot {
    fn take() -> Rc<Self> {
        MINE.with_borrow_mut(|mine| {
            mine.upgrade().unwrap_or_else(|| {
                let slots = std::thread::available_parallelism().map_or(1, usize::from);
                let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
                *FREED.wait_while(taken, |taken| *taken >= slots).unwrap_or_else(PoisonError::into_inner) +=
                    1;
                let slot = Rc::new(Self);
                *mine = Rc::downgrade(&slot);
                slot
            })
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
