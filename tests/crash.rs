//! Killed anywhere, a switch leaves a host that is whole, and whatever finds it brings it to exactly where it was going or where it was.
//!
//! A switch is traced once, then cut short at one system call after the other. [`every_crash`] does so at all of them and takes long;
//! `ci/crash-sweep` runs it. The other test does some of it. What a power cut does to data that were not synced, no test host can
//! show, because its kernel goes on: [`durability`] judges the order of the system calls instead. docs/crash-safety.md says what follows.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::durability::{self, Call};
use crate::support::source::{self, Tree};
use crate::support::{Host, activator, require_hosts, root};

/// One of the two generations between which the host goes back and forth, or the one that is not well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Side {
    A,
    B,
    Broken,
}

impl Side {
    fn other(self) -> Self {
        if self == Self::A { Self::B } else { Self::A }
    }

    fn bundle(self) -> String {
        format!("/root/{self:?}.tar")
    }

    /// Where a switch to it ends that began on `from`.
    fn end(self, from: Self) -> Self {
        if self == Self::Broken { from } else { self }
    }

    /// With which exit code.
    fn code(self) -> i32 {
        if self == Self::Broken { 3 } else { 0 }
    }

    /// The bundle, compiled.
    fn compile(self, tree: &Tree) -> PathBuf {
        let mark = format!("{self:?}");
        let (hours, mode, nice) = if self == Self::B { ("2", "0600", "5") } else { ("1", "0660", "3") };
        let broken = if self == Self::Broken { BROKEN } else { "" };
        let words = [("%BROKEN", broken), ("%MARK", &mark), ("%mark", &mark.to_lowercase())];
        let words = words.into_iter().chain([("%HOURS", hours), ("%MODE", mode), ("%NICE", nice)]);
        let module = words.fold(MODULE.to_owned(), |text, (word, value)| text.replace(word, value));
        tree.write("modules/lab/lab.star", &module);
        tree.bundle("lab")
    }
}

/// A service that changes, one that is gone on the other side, one that stays; configuration that is read by a restart and by a reload; an
/// instance, a timer, a socket, and a drop-in for a unit of the distribution.
const MODULE: &str = r#"
def _sleeper(name, more = "", install = "[Install]\nWantedBy=multi-user.target\n"):
    return unit(name, text = "[Service]\nExecStart=/bin/sleep infinity\n" + more + install)

def _build(ctx):
    page = file("page", content = "%MARK\n")
    settings = file("settings", stable = True, content = "%MARK\n")
    take = command("/bin/cp", settings.path, "/run/settings")
    return [
        page,
        settings,
        _sleeper("changed.service", "Environment=MARK=%MARK\n[Unit]\nWants=job@x.service\nAfter=job@x.service\n"),
        _sleeper("job@.service", "Environment=MARK=%MARK\n", install = ""),
        _sleeper("only-%mark.service", "Environment=MARK=%MARK\n"),
        _sleeper("same.service"),
        unit("reads.service", {
            "Service": {"ExecStart": command("/usr/bin/tail", "-f", page.path)},
            "Install": {"WantedBy": "multi-user.target"},
        }),
        unit("reloads.service", {
            "Service": {"ExecStartPre": take, "ExecStart": "/bin/sleep infinity", "ExecReload": take},
            "Install": {"WantedBy": "multi-user.target"},
        }, reload_on = [settings]),
        unit("tick.timer", text = "[Timer]\nOnBootSec=%HOURSh\n[Install]\nWantedBy=timers.target\n"),
        unit("tick.service", text = "[Service]\nType=oneshot\nExecStart=/bin/true\n"),
        unit("echo.socket", text = "[Socket]\nListenStream=/run/echo.sock\nSocketMode=%MODE\n[Install]\nWantedBy=sockets.target\n"),
        _sleeper("echo.service", install = ""),
        unit("valkey-server.service", text = "[Service]\nNice=%NICE\n", drop_in = "10-lab"),
        %BROKEN
    ]

lab = module(doc = "A laboratory.", options = {}, build = _build)
"#;
const BROKEN: &str = r#"unit("broken.service", text = "[Service]\nType=oneshot\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n"),"#;

/// A system call of the activator, by how often it had called the same before: that counts alike in each run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Point {
    pub(crate) call: String,
    pub(crate) nth: usize,
    /// It may leave something else than what was there: the others only look.
    pub(crate) changes: bool,
    /// Whether something outlives it.
    lasting: Option<Lasting>,
}

/// What outlives a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lasting {
    /// A name in rick's directory, or that of an anchor.
    Name,
    /// A program that was started.
    Program,
}

/// How a thread waits for others. How often it does depends on which thread is first, so the next run may not have the same points.
const WAITS: [&str; 6] = ["clock_nanosleep", "futex", "poll", "ppoll", "restart_syscall", "sched_yield"];

/// The points of a trace, in their order.
pub(crate) fn points(trace: &str) -> Vec<Point> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for line in trace.lines() {
        let Some((name, _)) = line.split_once('(').filter(|(name, _)| !name.contains([' ', '+', '-'])) else {
            continue;
        };
        if WAITS.contains(&name) {
            continue;
        }
        let nth = counts.entry(name.to_owned()).or_default();
        *nth += 1;
        let call = durability::parse(line);
        let lasting = call.as_ref().and_then(lasting);
        let changes = call.as_ref().is_some_and(changes);
        all.push(Point { call: name.to_owned(), nth: *nth, changes, lasting });
    }
    // The first is the start of the activator itself.
    all.split_off(1)
}

/// What only looks at what lies in `incoming` counts as well: there, all is under way.
fn changes(call: &Call) -> bool {
    let flag = |flag: &str| call.arguments.iter().any(|argument| argument.contains(flag));
    match call.name.as_str() {
        "openat" => flag("O_CREAT"),
        "write" | "fsync" | "syncfs" | "chmod" | "fchmod" | "fallocate" | "flock" | "copy_file_range"
        | "sendfile" => true,
        _ => lasting(call).is_some() || flag("rick/incoming"),
    }
}

fn lasting(call: &Call) -> Option<Lasting> {
    let name = |directory: &str, path: &str| {
        let path = durability::path(directory, path);
        (!path.starts_with("/var/lib/rick/incoming")).then_some(Lasting::Name)
    };
    match (call.name.as_str(), call.arguments.as_slice()) {
        ("rename" | "symlink" | "link", [_, path, ..]) | ("unlink" | "rmdir" | "mkdir", [path, ..]) => {
            name("", path)
        }
        ("unlinkat" | "mkdirat", [directory, path, ..])
        | ("symlinkat", [_, directory, path])
        | ("renameat" | "renameat2" | "linkat", [_, _, directory, path, ..]) => name(directory, path),
        _ => durability::starts_a_program(call).then_some(Lasting::Program),
    }
}

/// Runs a command that is killed as it enters a system call; false: it ended by itself.
pub(crate) fn killed_at(host: &Host, point: &Point, command: &[&str]) -> bool {
    let inject = format!("inject={}:signal=SIGKILL:when={}", point.call, point.nth);
    let trace = format!("trace={}", point.call);
    // It alone: what it started goes on, as it does when somebody kills it.
    let strace = ["strace", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let status = host.run(&[&strace[..], command].concat()).status;
    status.signal() == Some(9) || status.code() == Some(137)
}

/// `all`, or about `count` of them, evenly spread.
pub(crate) fn some<T: Clone>(all: &[T], count: usize) -> Vec<T> {
    (0..count.min(all.len())).map(|index| all[index * all.len() / count.min(all.len())].clone()).collect()
}

/// How a switch is cut short.
#[derive(Clone, Debug)]
enum Cut {
    /// The activator is killed as it enters a system call.
    At(Point),
    /// The same in the very first switch of a host.
    First(Point),
    /// Both the activator that was called and the service that switches are killed, so many milliseconds after the call.
    Service(usize),
    /// The nth program that it starts is killed, before or after it did its work.
    Program { nth: usize, after: bool },
}

/// What brings a host on whose switch was cut short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// The same bundle once more.
    Again,
    /// `rick-activate resume`.
    Resume,
    /// A power cut at once, and a boot.
    Boot,
    /// PID 1, which starts the service again.
    Wait,
}

/// One switch to be cut short.
#[derive(Clone, Debug)]
struct Job {
    to: Side,
    cut: Cut,
    next: Next,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to, next) = (self.to, self.next);
        match &self.cut {
            Cut::At(point) => write!(f, "to {to:?}, killed at {} {}, then {next:?}", point.call, point.nth),
            Cut::First(point) => {
                write!(
                    f,
                    "to {to:?} for the first time, killed at {} {}, then {next:?}",
                    point.call, point.nth
                )
            }
            Cut::Service(after) => write!(f, "to {to:?}, service killed after {after} ms, then {next:?}"),
            Cut::Program { nth, after } => {
                let when = if *after { "after" } else { "before" };
                write!(f, "to {to:?}, program {nth} killed {when} its work, then {next:?}")
            }
        }
    }
}

/// What was done, and what came of it.
#[derive(Clone, Copy, Default, Debug)]
struct Tally {
    jobs: usize,
    kills: usize,
    boots: usize,
    /// What the host had right after the kill, where it was not off: the generation before, the new one.
    left_before: usize,
    left_after: usize,
    /// What it had in the end.
    ended_before: usize,
    ended_after: usize,
}

impl Tally {
    fn and(self, other: Self) -> Self {
        Self {
            jobs: self.jobs + other.jobs,
            kills: self.kills + other.kills,
            boots: self.boots + other.boots,
            left_before: self.left_before + other.left_before,
            left_after: self.left_after + other.left_after,
            ended_before: self.ended_before + other.ended_before,
            ended_after: self.ended_after + other.ended_after,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, kills, boots, left_before, left_after, ended_before, ended_after } = self;
        write!(
            f,
            "{jobs} switches cut short, {kills} kills of the activator, {boots} power cuts; right after a kill {left_before} hosts had \
             the generation before and {left_after} the new one; in the end {ended_before} had that before and {ended_after} the new one"
        )
    }
}

/// What a host is found to have.
struct Found {
    print: String,
    number: u32,
    /// A switch is under way.
    journal: bool,
}

/// A host that goes from one generation to the other, and what it is like when nothing disturbs it there.
struct Lab {
    host: Host,
    /// What generations hold → which they are.
    prints: BTreeMap<String, Side>,
    /// All that can be seen of the units.
    seen: BTreeMap<Side, String>,
    /// The system calls of a switch.
    traces: BTreeMap<Side, String>,
    /// Those of the very first one.
    first: String,
    side: Side,
    tally: Tally,
}

/// Prints `PRINT NUMBER JOURNAL` of a host that is whole; fails and says why if it is not.
const WHOLE: &str = r#"
set -euo pipefail
cd /var/lib/rick
wrong() { echo "not whole: $1" >&2; exit 1; }
current=$(readlink current) || wrong 'no current'
[[ $current =~ ^gens/([0-9]+)$ && -d $current ]] || wrong "current leads to $current"
for anchor in /usr/local/lib/systemd/system /etc/sysusers.d/rick.conf /etc/tmpfiles.d/rick.conf; do
    [[ -e $anchor ]] || wrong "$anchor dangles"
done
for json in *.json gens/*/manifest.json; do
    [[ $json == gens/0/* ]] || jq -e . "$json" >/dev/null || wrong "$json is damaged"
done
empty=$(find . -path ./incoming -prune -o -type f -empty ! -name lock ! -name '*.tmp' ! -name sysusers.conf ! -name tmpfiles.conf -print)
[[ -z $empty ]] || wrong "empty: $empty"
dangling=$(find "$current/" -xtype l)
[[ -z $dangling ]] || wrong "dangling: $dangling"
print=$({ find -L "$current/" -type f ! -name before -printf '%P %m\n' | sort
    cd "$current"; find -L . -type f ! -name before -print0 | sort -z | xargs -0 cat; } | sha256sum)
echo "${print%% *} ${current#gens/} $([[ -e journal.json ]] && echo journal || echo settled)"
"#;

/// Prints all that can be seen of units, and nothing that another run would not have as well.
const SEEN: &str = r#"
set -euo pipefail
# Not what runs only after the first boot, nor what Debian's timers start.
systemctl list-units --plain --no-legend --full --type=service,socket,timer,path \
    --state=active,reloading,activating,deactivating,failed | awk '$4 != "exited" { print $1, $2, $3, $4 }' |
    grep -v -E '^(user|session|run-|systemd-(tmpfiles-clean|journal-flush|hostnamed|update-utmp)|apt-daily|dpkg-db-backup|e2scrub|fstrim|logrotate|podman|netavark|phpsessionclean)'
systemctl show --property=Id,LoadState,MainPID,TimersMonotonic changed.service reads.service reloads.service job@x.service \
    same.service only-a.service only-b.service valkey-server.service broken.service tick.timer rick.target | {
    cat
    echo
} | while IFS== read -r key value; do
    case $key in
        Id) unit=$value ;;
        LoadState) load=$value ;;
        TimersMonotonic) told=${value%% ;*} ;;
        MainPID) [[ $value == 0 ]] || told="$(tr '\0' '\n' <"/proc/$value/environ" | grep ^MARK || true) $(tr '\0' ' ' <"/proc/$value/cmdline") \
nice $(cut -d ' ' -f 19 "/proc/$value/stat")" ;;
        '')
            echo "$unit: $load ${told-}"
            unset told ;;
    esac
done
echo "settings: $(</run/settings), socket: $(stat -c %a /run/echo.sock)"
cd /var/lib/rick && ls -A | grep -v '\.tmp$'
"#;

/// Removes what no generation needs that can still come, so that each switch has as much to do as the first.
const TIDY: &str = r#"
set -euo pipefail
cd /var/lib/rick
current=$(readlink current)
for generation in gens/*; do
    [[ $generation == gens/0 || $generation == "$current" ]] || rm -r "$generation"
done
for object in store/*; do
    find "$current/objects" -type l -printf '%l\n' | grep -q "${object#store/}" || rm -r "$object"
done
"#;

/// Removes all that is left of rick.
const FRESH: &str = r"
rm -r /var/lib/rick /usr/local/lib/systemd/system /etc/sysusers.d/rick.conf /etc/tmpfiles.d/rick.conf
systemctl daemon-reload
";

/// What a first switch left is whole, though there may be little of it.
const HALF_FRESH: &str = r#"
for anchor in /usr/local/lib/systemd/system /etc/sysusers.d/rick.conf /etc/tmpfiles.d/rick.conf /var/lib/rick/current; do
    [[ ! -L $anchor || -e $anchor ]] || { echo "$anchor dangles"; exit 1; }
done
for json in /var/lib/rick/*.json; do
    [[ ! -e $json ]] || jq -e . "$json" >/dev/null
done
"#;

/// Stands in the place of each program that the activator starts, and kills itself the nth time.
const DIES: &str = r#"#!/bin/bash
count=$(($(cat /run/programs) + 1))
echo "$count" >/run/programs
read -r nth after </run/dies
[[ $count != "$nth" || $after == true ]] || kill -KILL $$
[[ $count == "$nth" ]] || exec "/usr/bin/${0##*/}" "$@"
"/usr/bin/${0##*/}" "$@"
kill -KILL $$
"#;
const PROGRAMS: [&str; 8] = [
    "journalctl",
    "podman",
    "ssh-keygen",
    "systemctl",
    "systemd-analyze",
    "systemd-run",
    "systemd-sysusers",
    "systemd-tmpfiles",
];
pub(crate) const STRACE: [&str; 6] = ["strace", "-y", "-s", "0", "-o", "/run/trace"];
pub(crate) const ACTIVATE: [&str; 3] = ["rick-activate", "--foreground", "--settle=0"];

impl Lab {
    fn boot(name: &str) -> Self {
        let host = Host::boot(name);
        host.push(&activator(), "/usr/local/bin/rick-activate");
        let tree = source::modules();
        tree.write(
            "environments/lab.star",
            &format!(
                "load(\"//modules/lab\", \"lab\")\n\
                 environment(name = \"lab\", hosts = [host(name = \"{name}\", domain = \"lab.test\", os = \"debian-13\", services = [lab()])])\n"
            ),
        );
        for side in [Side::A, Side::B, Side::Broken] {
            host.push(&side.compile(&tree), &side.bundle());
        }
        for program in PROGRAMS {
            host.write(&format!("/root/dies/{program}"), DIES);
        }
        host.sh("chmod +x /root/dies/*");
        let mut lab = Self {
            host,
            prints: BTreeMap::new(),
            seen: BTreeMap::new(),
            traces: BTreeMap::new(),
            first: String::new(),
            side: Side::A,
            tally: Tally::default(),
        };
        lab.learn();
        lab
    }

    /// Goes everywhere undisturbed, and keeps what is seen there.
    fn learn(&mut self) {
        self.first = self.trace(Side::A);
        for side in [Side::B, Side::A] {
            let trace = self.trace(side);
            let seen = self.host.sh(SEEN);
            let (mark, other) = (format!("{side:?}"), format!("{:?}", side.other()));
            for line in [
                format!("changed.service: loaded MARK={mark} /bin/sleep infinity"),
                format!("job@x.service: loaded MARK={mark} /bin/sleep infinity"),
                format!("only-{}.service: loaded MARK={mark} /bin/sleep infinity", mark.to_lowercase()),
                format!("only-{}.service: not-found", other.to_lowercase()),
                format!("settings: {mark}, socket: 6"),
            ] {
                assert!(seen.contains(&line), "`{line}` is not seen on {mark}:\n{seen}");
            }
            self.prints.insert(self.found().unwrap().print, side);
            self.seen.insert(side, seen);
            self.traces.insert(side, trace);
            self.host.sh(TIDY);
        }
        assert_eq!(self.prints.len(), 2, "{:?}", self.prints);
        assert_ne!(self.seen[&Side::A], self.seen[&Side::B]);
        let trace = self.trace(Side::Broken);
        self.traces.insert(Side::Broken, trace);
        self.settled(Side::A).unwrap();
    }

    fn activate(&self, side: Side) -> Output {
        self.host.run(&[&ACTIVATE[..], &[&side.bundle()]].concat())
    }

    /// Switches undisturbed, and gives the system calls of that.
    fn trace(&self, side: Side) -> String {
        let bundle = side.bundle();
        let output = self.host.run(&[&STRACE[..], &ACTIVATE, &[&bundle]].concat());
        assert_eq!(output.status.code(), Some(side.code()), "{}", said(&output));
        String::from_utf8(self.host.read("/run/trace")).unwrap()
    }

    /// Each of a switch's points.
    fn points(&self, to: Side) -> Vec<Point> {
        points(&self.traces[&to])
    }

    /// Each of its points at which something lasting happens.
    fn boundaries(&self, to: Side) -> Vec<Point> {
        self.points(to).into_iter().filter(|point| point.lasting.is_some()).collect()
    }

    /// The points of the way back: what comes after the commit.
    fn back(&self) -> Vec<Point> {
        let trace = &self.traces[&Side::Broken];
        let commit = trace
            .lines()
            .position(|line| line.starts_with("rename(") && line.contains("rick/current\""))
            .unwrap();
        points(trace).split_off(commit)
    }

    /// Switches, and cuts that short; false: it ended by itself.
    fn cut(&mut self, to: Side, cut: &Cut) -> bool {
        let bundle = to.bundle();
        let activate = [&ACTIVATE[..], &[&bundle]].concat();
        match cut {
            Cut::At(point) | Cut::First(point) => {
                let killed = killed_at(&self.host, point, &activate);
                self.tally.kills += usize::from(killed);
                killed
            }
            Cut::Service(after) => {
                let killed = self.host.sh(&format!(
                    "rick-activate --settle=0 {bundle} >/dev/null 2>&1 &\nsleep {}.{:03}\n\
                     pkill -KILL -x rick-activate && echo killed || true",
                    after / 1000,
                    after % 1000
                ));
                self.tally.kills += usize::from(killed == "killed");
                true
            }
            Cut::Program { nth, after } => {
                self.host.sh(&format!("echo 0 >/run/programs; echo {nth} {after} >/run/dies"));
                let path = "PATH=/root/dies:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
                self.host.run(&[&["env", path][..], &activate].concat());
                true
            }
        }
    }

    /// What the host has; an error if anything of it is not whole.
    fn found(&self) -> Result<Found, String> {
        let output = self.host.run(&["bash", "-c", WHOLE]);
        let said = said(&output);
        let words: Vec<&str> = said.split_whitespace().collect();
        match words.as_slice() {
            [print, number, journal] if output.status.success() => Ok(Found {
                print: (*print).to_owned(),
                number: number.parse().map_err(|_| said.clone())?,
                journal: *journal == "journal",
            }),
            _ => Err(said),
        }
    }

    /// Which generation that is. The one that is not well is the only one that was never looked at.
    fn side_of(&self, found: &Found) -> Side {
        self.prints.get(&found.print).copied().unwrap_or(Side::Broken)
    }

    /// The host is settled on a side, and all that is seen is as it is undisturbed.
    fn settled(&mut self, expected: Side) -> Result<(), String> {
        let found = self.found()?;
        let side = self.side_of(&found);
        if found.journal || side != expected {
            let (number, journal) = (found.number, found.journal);
            return Err(format!(
                "generation {number} is current, which is {side:?} and not {expected:?}; journal: {journal}"
            ));
        }
        // It also removes what was being received, which a boot leaves alone.
        let again = self.activate(side);
        let seen = self.host.sh(SEEN);
        if !again.status.success() || !said(&again).contains("nothing to do") {
            return Err(format!("the next run has something to do: {}", said(&again)));
        }
        if seen != self.seen[&side] {
            return Err(difference(&self.seen[&side], &seen));
        }
        self.side = side;
        Ok(())
    }

    /// Cuts a switch short, lets something find what is left, and judges.
    fn do_job(&mut self, job: &Job) -> Result<(), String> {
        self.tally.jobs += 1;
        if matches!(job.cut, Cut::First(_)) {
            return self.do_first(job);
        }
        let from = self.side;
        self.host.sh(TIDY);
        let end = if self.cut(job.to, &job.cut) { self.go_on(job)? } else { job.to.end(from) };
        self.settled(end)?;
        let count = if end == from { &mut self.tally.ended_before } else { &mut self.tally.ended_after };
        *count += 1;
        Ok(())
    }

    /// The same on a host that rick never switched.
    fn do_first(&mut self, job: &Job) -> Result<(), String> {
        self.host.ok(&["rick-activate", "--foreground", "--settle=0", "rollback", "0"]);
        self.host.sh(FRESH);
        self.cut(job.to, &job.cut);
        self.host.sh(HALF_FRESH);
        let output = self.unlocked(&["--foreground", "--settle=0", &job.to.bundle()]);
        if !output.status.success() {
            return Err(format!("the next run ends with {}: {}", output.status, said(&output)));
        }
        self.host.ok(&["systemctl", "start", "job@x.service"]);
        self.settled(job.to)?;
        self.tally.ended_after += 1;
        Ok(())
    }

    /// Judges what was left, has something go on with it, and says where that must end.
    fn go_on(&mut self, job: &Job) -> Result<Side, String> {
        let (from, to) = (self.side, job.to);
        if job.next == Next::Boot {
            return self.boot_and_wait(job);
        }
        if job.next == Next::Wait {
            return self.wait(job);
        }
        let found = self.found()?;
        let left = self.side_of(&found);
        if left != from && left != to {
            return Err(format!("the host was on {from:?}, went to {to:?}, and is on {left:?}"));
        }
        let count = if left == from { &mut self.tally.left_before } else { &mut self.tally.left_after };
        *count += 1;
        let (output, codes, end) = if job.next == Next::Again {
            let output = self.unlocked(&["--foreground", "--settle=0", &to.bundle()]);
            (output, vec![to.code()], to.end(from))
        } else {
            // What never began is not gone on with, and what is over stays.
            let end = if found.journal { to.end(from) } else { left };
            (self.unlocked(&["resume"]), vec![0, to.code()], end)
        };
        if output.status.code().is_some_and(|code| codes.contains(&code)) {
            Ok(end)
        } else {
            Err(format!("what came next ends with {}: {}", output.status, said(&output)))
        }
    }

    /// The boot goes on with what was left.
    fn boot_and_wait(&mut self, job: &Job) -> Result<Side, String> {
        self.host.power_cut();
        self.host.boot_again();
        self.tally.boots += 1;
        // What goes on with the switch may be at work already, so that a file goes while it is looked at; what is not whole stays so.
        let again = |_| {
            std::thread::sleep(Duration::from_millis(200));
            self.found()
        };
        self.found().or_else(again).or_else(again)?;
        let side = self.wait(job)?;
        // By hand, it was started before the power went.
        self.host.ok(&["systemctl", "start", "job@x.service"]);
        Ok(side)
    }

    /// Waits until PID 1 has gone on with what was left, and says where that ended.
    fn wait(&mut self, job: &Job) -> Result<Side, String> {
        let busy = "test -e /var/lib/rick/journal.json || pgrep -x 'systemd-run|rick-activate' || \
                    systemctl is-active rick-switch.service rick-resume.service";
        let deadline = Instant::now() + Duration::from_mins(2);
        while self.host.run(&["sh", "-c", busy]).status.success() {
            if Instant::now() > deadline {
                return Err("PID 1 does not go on with the switch".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        if job.to == Side::Broken {
            // It went back, and says so by failing.
            self.host.run(&["systemctl", "reset-failed", "rick-resume.service", "rick-switch.service"]);
        }
        let side = self.side_of(&self.found()?);
        let allowed = [self.side, job.to.end(self.side)];
        if allowed.contains(&side) {
            Ok(side)
        } else {
            Err(format!("it ends on {side:?}, and not on one of {allowed:?}"))
        }
    }

    /// A run that waits for the lock: a program that the killed one was just starting may hold it for a moment.
    fn unlocked(&self, arguments: &[&str]) -> Output {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let output = self.host.run(&[&["rick-activate"], arguments].concat());
            if !said(&output).contains("another rick-activate is running") || Instant::now() > deadline {
                return output;
            }
        }
    }

    /// Takes the next job from the end, of those that begin where the host is; if there is none, goes to the other side.
    fn next(&mut self, jobs: &mut Vec<Job>) -> Option<Job> {
        if let Some(at) = jobs.iter().rposition(|job| job.to != self.side || matches!(job.cut, Cut::First(_)))
        {
            return Some(jobs.remove(at));
        }
        self.host.sh(TIDY);
        let output = self.activate(self.side.other());
        assert!(output.status.success(), "{}", said(&output));
        self.side = self.side.other();
        None
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn difference(expected: &str, seen: &str) -> String {
    let only = |one: &str, other: &str| -> Vec<String> {
        one.lines().filter(|line| !other.lines().any(|also| also == *line)).map(str::to_owned).collect()
    };
    let (gone, new) = (only(expected, seen), only(seen, expected));
    format!("the host is not as undisturbed: it lacks {gone:?} and has {new:?}")
}

/// Jobs that kill at points; each is gone on with in the next of some ways.
fn kills(to: Side, points: Vec<Point>, ways: &[Next]) -> Vec<Job> {
    let ways = ways.iter().copied().cycle();
    points.into_iter().zip(ways).map(|(point, next)| Job { to, cut: Cut::At(point), next }).collect()
}

/// A trace in which everything is durable before something relies on it.
#[track_caller]
fn expect_durable(trace: &str) {
    let verdict = durability::judge(trace);
    assert_eq!(verdict.violations, Vec::<String>::new());
    // It was not the trace of nothing.
    assert!(verdict.published >= 5 && verdict.syncs >= 5 && verdict.steps >= 2, "{verdict:?}");
    // And the judge has eyes: of the syncs, most are missed when they are left out. The others are done twice.
    let lines: Vec<&str> = trace.lines().collect();
    let is_sync = |line: &&str| line.starts_with("fsync(") || line.starts_with("syncfs(");
    let syncs: Vec<usize> = (0..lines.len()).filter(|at| is_sync(&lines[*at])).collect();
    let missed = |at: &&usize| {
        let without = [&lines[..**at], &lines[**at + 1..]].concat().join("\n");
        !durability::judge(&without).violations.is_empty()
    };
    assert!(syncs.iter().filter(missed).count() * 2 >= syncs.len(), "{trace}");
}

#[test]
fn a_switch_that_is_cut_short_ends_whole() {
    require_hosts!();
    let mut lab = Lab::boot("lab");
    expect_durable(&lab.first);
    lab.traces.values().for_each(|trace| expect_durable(trace));
    what_comes_with_a_bundle_is_durable_before_it_is_used(&lab.host);
    let mut jobs = kills(Side::B, some(&lab.points(Side::B), 3), &[Next::Again, Next::Resume]);
    jobs.extend(kills(Side::A, some(&lab.boundaries(Side::A), 3), &[Next::Resume, Next::Again]));
    jobs.extend(kills(Side::Broken, some(&lab.back(), 2)[1..].to_vec(), &[Next::Resume]));
    jobs.extend(kills(Side::B, some(&lab.boundaries(Side::B), 2)[1..].to_vec(), &[Next::Boot]));
    jobs.reverse();
    while !jobs.is_empty() {
        if let Some(job) = lab.next(&mut jobs) {
            lab.do_job(&job).unwrap_or_else(|why| panic!("{job}: {why}"));
        }
    }
    assert_eq!((lab.tally.kills, lab.tally.boots), (8, 1));
    what_was_confirmed_is_over_durably(&lab);
}

/// Accounts, an image and a Quadlet, then other ones, then the way back.
fn what_comes_with_a_bundle_is_durable_before_it_is_used(host: &Host) {
    host.sh("mkdir -p /srv/root/etc && cp /etc/passwd /etc/group /srv/root/etc/");
    let on_directory = ["rick-activate", "--root=/srv/root", "--host=box"];
    for what in ["one", "two", "rollback"] {
        let bundle = (what != "rollback").then(|| root::environment(what));
        if let Some(tree) = &bundle {
            host.push(&tree.bundle("small"), "/root/bundle.tar");
        }
        let last = bundle.map_or("rollback", |_| "/root/bundle.tar");
        host.ok(&[&STRACE[..], &on_directory, &[last]].concat());
        expect_durable(&String::from_utf8(host.read("/run/trace")).unwrap());
    }
}

fn what_was_confirmed_is_over_durably(lab: &Lab) {
    let bundle = lab.side.other().bundle();
    // What an earlier switch left says nothing of this one.
    let next = lab.found().unwrap().number + 1;
    lab.host.write("/var/lib/rick/confirmed", format!("{next}\n"));
    let confirm = ["bash", "-c", "until rick-activate confirm; do sleep 0.1; done"];
    let mut confirming =
        lab.host.command(&confirm).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    lab.host.ok(&[&STRACE[..], &ACTIVATE, &["--confirm-within=30", &bundle]].concat());
    confirming.wait().unwrap();
    let trace = String::from_utf8(lab.host.read("/run/trace")).unwrap();
    assert!(trace.contains("unlink(\"/var/lib/rick/confirmed\")"), "{trace}");
    expect_durable(&trace);
}

/// A number that `ci/crash-sweep` gives.
fn told(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("ci/crash-sweep gives numbers"))
}

/// So many jobs in a row are done on one host: there and back, there and back.
const SHARE: usize = 4;

/// All that is to be cut short on a host, which is the `index`th of `count`: each takes its share.
fn all_jobs(lab: &Lab, index: usize, count: usize) -> Vec<Job> {
    let (from, every) = (told("RICK_CRASH_FROM", 0), told("RICK_CRASH_EVERY", 1));
    let only = std::env::var("RICK_CRASH_ONLY").unwrap_or_default();
    let mut jobs = Vec::new();
    let mut add = |kind: &str, all: Vec<Job>| {
        let all = if only.is_empty() || only == kind { all } else { Vec::new() };
        if index == 0 {
            println!("{kind}: {}", all.len());
        }
        jobs.extend(all);
    };
    let two = |changes: bool, every: usize| -> Vec<Job> {
        let jobs = |to| {
            let points = lab.points(to).into_iter().filter(|point| point.changes == changes);
            kills(to, points.step_by(every).collect(), &[Next::Again, Next::Resume])
        };
        // In turns, as the host comes by.
        let (mut there, mut back) = (jobs(Side::B).into_iter(), jobs(Side::A).into_iter());
        std::iter::repeat_with(|| [there.next(), back.next()])
            .take_while(|pair| pair.iter().any(Option::is_some))
            .flat_map(|pair| pair.into_iter().flatten())
            .collect()
    };
    add("changes", two(true, 1));
    let programs = lab.points(Side::B).iter().filter(|point| point.lasting == Some(Lasting::Program)).count();
    let dying = |nth| {
        [false, true].map(|after| Job { to: Side::B, cut: Cut::Program { nth, after }, next: Next::Again })
    };
    add("programs", (1..=programs).flat_map(dying).collect());
    // Longer than a switch takes.
    let in_time = |after| [Side::B, Side::A].map(|to| Job { to, cut: Cut::Service(after), next: Next::Wait });
    add("service", (0..40).flat_map(|step| in_time(50 * step)).collect());
    let first = |point| Job { to: Side::A, cut: Cut::First(point), next: Next::Again };
    add("first", points(&lab.first).into_iter().step_by(every).map(first).collect());
    for to in [Side::B, Side::Broken] {
        add("power", kills(to, lab.boundaries(to), &[Next::Boot]));
    }
    add(
        "back",
        kills(Side::Broken, lab.back().into_iter().step_by(every).collect(), &[Next::Resume, Next::Again]),
    );
    add("looks", two(false, every));
    let mine = |at: usize| at >= from && at / SHARE % count == index;
    jobs.into_iter().enumerate().filter(|(at, _)| mine(*at)).map(|(_, job)| job).collect()
}

/// One host's share of the sweep, on as many hosts as it takes: after a failure it goes on on a fresh one.
fn sweep(index: usize, count: usize) -> (Tally, Vec<String>, usize) {
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    let started = Instant::now();
    let limit =
        Duration::from_secs(60 * u64::try_from(told("RICK_CRASH_MINUTES", 60 * 24)).unwrap_or(u64::MAX));
    let mut lab = Lab::boot("lab");
    let mut jobs = all_jobs(&lab, index, count);
    let all = jobs.len();
    jobs.reverse();
    while !jobs.is_empty() && started.elapsed() < limit {
        let Some(job) = lab.next(&mut jobs) else { continue };
        if let Err(why) = lab.do_job(&job) {
            println!("host {index}: FAILED: {job}: {why}");
            failures.push(format!("{job}: {why}"));
            tally = tally.and(lab.tally);
            lab = Lab::boot("lab");
        }
        let done = all - jobs.len();
        if done.is_multiple_of(20) {
            println!("host {index}: {done} of {all} after {} s: {job}", started.elapsed().as_secs());
        }
    }
    println!("host {index}: {} of {all} after {} s", all - jobs.len(), started.elapsed().as_secs());
    (tally.and(lab.tally), failures, jobs.len())
}

#[test]
#[ignore = "takes an hour or more: ci/crash-sweep runs it"]
fn every_crash() {
    require_hosts!();
    let hosts = told("RICK_CRASH_HOSTS", 1);
    let swept: Vec<(Tally, Vec<String>, usize)> = std::thread::scope(|scope| {
        let hosts: Vec<_> = (0..hosts).map(|index| scope.spawn(move || sweep(index, hosts))).collect();
        hosts.into_iter().map(|host| host.join().unwrap()).collect()
    });
    let tally = swept.iter().fold(Tally::default(), |sum, (tally, ..)| sum.and(*tally));
    let failures: Vec<&String> = swept.iter().flat_map(|(_, failures, _)| failures).collect();
    let left: usize = swept.iter().map(|(.., left)| left).sum();
    println!("{tally}; {} failures; {left} were not begun", failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
}
