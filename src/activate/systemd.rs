//! The running host: its own programs, through the interfaces that they keep stable.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use super::ask;
use super::handover;
use super::host::{ActiveState, Definition, Host, Images, LoadState, Log, Oneshot, UnitState, Verb};
use super::said;
use super::secrets;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Check, Versioned};
use crate::bundle::names::{AccountName, UnitName};
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// How many lines of a log a message shows.
const SHOWN_LINES: usize = 8;
/// How many lines of a log are read for that: what systemd says of each process that it kills is left out.
const READ_LINES: &str = "40";
/// The same, where what later runs of the unit said is left out, too: systemd may have started it again meanwhile.
const READ_ENTRIES: &str = "400";
/// How long the journal has to take in what is on its way, in seconds.
const SYNCED_WITHIN: &str = "3";
/// What a program of a bundle's that only looks may not do.
const ONLY_LOOKS: [&str; 6] = [
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "RuntimeMaxSec=60",
];
/// Turns Quadlets into units; the same place on Debian and Arch.
const QUADLET_GENERATOR: &str = "/usr/lib/systemd/system-generators/podman-system-generator";
/// How often one looks whether a service is over.
const LOOK: Duration = Duration::from_millis(200);
/// How often one looks whether the service of the switch before is put away.
const PATIENCE: u32 = 25;
/// The service that a switch runs as.
const SERVICE: &str = "rick-switch.service";
/// What the names of the timers begin with that go back when a switch is not done in time.
const TIMER: &str = "rick-rollback";
/// What is asked about units.
const PROPERTIES: &str = "LoadState,ActiveState,SubState,InvocationID,Result,ReloadResult,Type,RemainAfterExit,ConditionResult,ConditionTimestampMonotonic,Triggers";

/// The host that this program runs on.
#[derive(Debug)]
pub struct Systemd;

impl Host for Systemd {
    fn is_running(&self) -> bool {
        true
    }

    fn name(&self) -> Result<String> {
        Ok(rustix::system::uname().nodename().to_string_lossy().into_owned())
    }

    fn boot_id(&self) -> Result<String> {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        Ok(boot.trim().to_owned())
    }

    fn unit_states(&self, units: &[UnitName]) -> Result<Vec<UnitState>> {
        if units.is_empty() {
            return Ok(Vec::new());
        }
        let names = units.iter().map(UnitName::as_str);
        let output =
            run(Command::new("systemctl").args(["show", "--property", PROPERTIES, "--"]).args(names))?;
        let states: Vec<UnitState> = blocks(&output).iter().map(|block| parse_state(block)).collect();
        if states.len() != units.len() {
            refuse!("systemctl told of {} units when asked about {}", states.len(), units.len());
        }
        Ok(states)
    }

    fn definitions(&self, units: &[UnitName]) -> Result<Vec<Definition>> {
        if units.is_empty() {
            return Ok(Vec::new());
        }
        let properties = "--property=Id,FragmentPath,DropInPaths,NeedDaemonReload";
        let names = units.iter().map(UnitName::as_str);
        let output = run(Command::new("systemctl").args(["show", properties, "--"]).args(names))?;
        let definitions: Vec<Definition> =
            blocks(&output).iter().map(|block| parse_definition(block)).collect();
        if definitions.len() != units.len() {
            refuse!("systemctl told of {} units when asked about {}", definitions.len(), units.len());
        }
        Ok(definitions)
    }

    fn armed(&self) -> Result<Option<SystemTime>> {
        let pattern = format!("{TIMER}-*.timer");
        let list = ["list-timers", "--output=json", "--no-pager", "--", &pattern];
        let output = run(Command::new("systemctl").args(list))?;
        Ok(parse_timers(&output))
    }

    fn instances(&self, templates: &[UnitName]) -> Result<Vec<UnitName>> {
        if templates.is_empty() {
            return Ok(Vec::new());
        }
        let patterns = templates.iter().map(|name| format!("{}*.{}", name.stem(), name.kind()));
        // Not `--all`: those that are only named somewhere, as each service names the one that tells of its failure, need nothing.
        let list = ["list-units", "--plain", "--no-legend", "--full", "--no-pager", "--"];
        let output = run(Command::new("systemctl").args(list).args(patterns))?;
        Ok(output.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect())
    }

    fn run_jobs(&self, verb: Verb, units: &[UnitName]) -> Result<()> {
        run(Command::new("systemctl").args([verb.word(), "--"]).args(units.iter().map(UnitName::as_str)))
            .map(drop)
    }

    fn reset_failed(&self, units: &[UnitName]) -> Result<()> {
        run(Command::new("systemctl").args(["reset-failed", "--"]).args(units.iter().map(UnitName::as_str)))
            .map(drop)
    }

    fn daemon_reload(&self) -> Result<()> {
        run(Command::new("systemctl").arg("daemon-reload")).map(drop)
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn keep_program(&self, path: &Path) -> Result<()> {
        handover::keep_program(path)
    }

    /// Each timer has a name of its own: that which calls this very process is there as long as it runs.
    fn arm(&self, program: &Path, seconds: u32) -> Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.disarm()?;
        let name = format!("{TIMER}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(Command::new("systemd-run")
            .args(["--quiet", "--collect", "--service-type=exec", "--timer-property=AccuracySec=1s"])
            .arg("--property=SuccessExitStatus=3")
            .arg(format!("--unit={name}"))
            .arg(format!("--on-active={seconds}s"))
            .arg("--description=rick: go back, for the switch is not done in time")
            .arg("--")
            .arg(program)
            .args(["resume", "--overdue"]))
        .map(drop)
    }

    fn disarm(&self) -> Result<()> {
        run(Command::new("systemctl").args(["stop", "--", &format!("{TIMER}-*.timer")])).map(drop)
    }

    fn end_switch(&self) -> Result<()> {
        let Err(error) = run(Command::new("systemctl").args(["stop", "--", SERVICE])) else { return Ok(()) };
        // One that is not there is ended.
        let states = self.unit_states(&[SERVICE.parse().map_err(Refusal::new)?])?;
        if states.first().is_some_and(UnitState::runs) { Err(error) } else { Ok(()) }
    }

    /// Killed, it is started again and goes on where the journal says; a panic is no such end.
    fn run_apart(&self, program: &Path, arguments: &[String], lock: File) -> Result<Option<u8>> {
        let mut command = Command::new("systemd-run");
        command
            .args(["--quiet", "--wait", "--pipe", "--collect", "--service-type=exec"])
            .arg(format!("--unit={SERVICE}"))
            .arg("--description=rick: switch to another generation")
            .args(["--property=Restart=on-abnormal", "--property=TimeoutStopSec=10"])
            .args(std::env::var_os("NO_COLOR").map(|value| {
                let mut argument = OsString::from("--setenv=NO_COLOR=");
                argument.push(value);
                argument
            }))
            .arg("--")
            .arg(program)
            .args(arguments)
            .stdin(lock);
        let service = [SERVICE.parse().map_err(Refusal::new)?];
        // The one before may have ended a moment ago, and systemd not have put it away.
        for _ in 0..PATIENCE {
            if self.unit_states(&service)?.first().is_none_or(|unit| unit.load == LoadState::NotFound) {
                break;
            }
            self.pause(LOOK);
        }
        let status = command.status().context("cannot run systemd-run")?;
        let runs =
            || -> Result<bool> { Ok(self.unit_states(&service)?.first().is_some_and(UnitState::runs)) };
        if !runs()? {
            return Ok(status.code().and_then(|code| u8::try_from(code).ok()));
        }
        // systemd-run lost sight of it, and nobody will tell its exit code.
        while runs()? {
            self.pause(LOOK);
        }
        Ok(None)
    }

    fn version(&self, program: Versioned) -> Option<(u32, u32)> {
        let name = match program {
            Versioned::Systemd => "systemctl",
            Versioned::Podman => "podman",
        };
        let output = output(Command::new(name).arg("--version")).ok()?;
        parse_version(&String::from_utf8_lossy(&output.stdout))
    }

    fn check_units(&self, units: &Path, files: &[PathBuf]) -> Result<()> {
        let mut path = units.as_os_str().to_owned();
        // An empty element at the end stands for the directories that systemd looks in otherwise.
        path.push(":");
        let mut command = Command::new("systemd-analyze");
        command
            .args(["verify", "--man=no", "--generators=no", "--recursive-errors=no", "--"])
            .args(files)
            .env("SYSTEMD_UNIT_PATH", path);
        let output = output(&mut command)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).replace(&format!("{}/", units.display()), "");
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        refuse!("systemd does not take the units of this bundle: {}", said.join("; "))
    }

    fn validate(&self, command: &[String]) -> Result<()> {
        look(command, None, &["PrivateNetwork=yes"])
    }

    fn check_quadlets(&self, directory: &Path) -> Result<()> {
        let mut generator = Command::new(QUADLET_GENERATOR);
        let output = output(generator.arg("--dryrun").env("QUADLET_UNIT_DIRS", directory))?;
        if output.status.success() {
            return Ok(());
        }
        let said =
            String::from_utf8_lossy(&output.stderr).replace(&directory.display().to_string(), "quadlets");
        let without_prefix = |line: &str| line.split_once("]: ").map_or(line, |(_, said)| said).to_owned();
        let said: Vec<String> = said
            .lines()
            .map(without_prefix)
            .filter(|line| !line.starts_with("Loading source unit file"))
            .collect();
        refuse!("podman does not take the Quadlets of this bundle: {}", said.join("; "))
    }

    fn sysusers(&self, file: &Path) -> Result<()> {
        run(Command::new("systemd-sysusers").arg(file)).map(drop)
    }

    fn is_in_memory(&self, directory: &Path) -> Result<bool> {
        durable::is_in_memory(directory)
    }

    fn decrypt(&self, file: &Path) -> Result<Vec<u8>> {
        let program = secrets::PROGRAMS.into_iter().find(|program| Path::new(program).is_file());
        let mut command = Command::new(program.unwrap_or(secrets::PROGRAMS[0]));
        command.arg("--decrypt");
        for key in secrets::HOST_KEYS.iter().filter(|key| Path::new(key).is_file()) {
            command.args(["--identity", key]);
        }
        run_for_bytes(command.arg("--").arg(file))
    }

    fn tmpfiles(&self, file: &Path) -> Result<()> {
        run(Command::new("systemd-tmpfiles").arg("--create").arg(file)).map(drop)
    }

    /// An image that was pulled by the digest of an index has that one too, beside its own.
    fn missing_images(&self, images: &Images) -> Result<Vec<String>> {
        let format = "{{.Repository}}@{{.Digest}} {{.RepoDigests}}";
        let output = run(Command::new("podman").args(["images", "--all", "--no-trunc", "--format", format]))?;
        let there: BTreeSet<&str> = output.split([' ', '\n', '[', ']']).collect();
        let by_digest = |name: &str, digest: &Digest| format!("{}@{digest}", repository(name));
        let missing = |(name, digest): &(&String, &Digest)| !there.contains(by_digest(name, digest).as_str());
        let own = images.own.iter().filter(missing).map(|(name, _)| name);
        let pulled = images.pulled.iter().filter(|name| !there.contains(name.as_str()));
        Ok(own.chain(pulled).cloned().collect())
    }

    fn pull_image(&self, name: &str) -> Result<()> {
        run(Command::new("podman").args(["pull", "--quiet", "--", name])).map(drop)
    }

    /// The tag that the image gets here is its digest, which never moves. Under a tag that moves on with the next bundle, podman would no
    /// longer find the image before by its digest, and the generation before could not start its containers.
    fn load_image(&self, layout: &Path, name: &str, digest: &Digest) -> Result<()> {
        let from = format!("oci:{}:{}", layout.display(), digest.hex());
        let to = format!("containers-storage:{}:{}", repository(name), digest.hex());
        run(Command::new("skopeo").args(["copy", "--quiet", &from, &to])).map(drop)
    }

    fn images_in_use(&self) -> Result<BTreeSet<Digest>> {
        let output = run(Command::new("podman").args(["ps", "--no-trunc", "--format", "{{.ImageID}}"]))?;
        let hex = |line: &str| Digest::from_hex(line.trim().trim_start_matches("sha256:"));
        Ok(output.lines().filter_map(hex).collect())
    }

    fn image_tags(&self) -> Result<Vec<String>> {
        let format = "{{.Repository}}:{{.Tag}}";
        let output = run(Command::new("podman").args(["images", "--no-trunc", "--format", format]))?;
        Ok(output.lines().map(|line| line.trim().to_owned()).collect())
    }

    fn remove_image_tag(&self, tag: &str) -> Result<()> {
        run(Command::new("podman").args(["rmi", "--", tag])).map(drop)
    }

    fn journal(&self, log: Log<'_>) -> Vec<String> {
        // What a unit said just before it failed may be on its way yet. While somebody floods the journal, there is no end to that.
        let _ = run(Command::new("timeout").args([SYNCED_WITHIN, "journalctl", "--sync"]));
        let mut command = Command::new("journalctl");
        command.args(["--boot", "--no-pager", "--quiet"]);
        let text = ["--output=cat", "--lines", READ_LINES];
        // Whole: what is long would be left out.
        let entries = ["--output=json", "--all", "--output-fields", said::FIELDS, "--lines", READ_ENTRIES];
        match log {
            // What the unit said, and what systemd said of it.
            Log::Unit(unit, Some(_)) => command.args(entries).args(["--unit", unit.as_str()]),
            Log::Unit(unit, None) => command.args(text).args(["--unit", unit.as_str()]),
            Log::Quadlet => command.args(text).args(["--identifier", "quadlet-generator"]),
        };
        let text = run(&mut command).unwrap_or_default();
        let mut lines = match log {
            Log::Unit(_, Some(run)) => said::lines(run, &text),
            Log::Unit(_, None) | Log::Quadlet => text.lines().map(str::to_owned).collect(),
        };
        lines.retain(|line| !line.contains(": Killing process "));
        lines.split_off(lines.len().saturating_sub(SHOWN_LINES))
    }

    fn answers(&self, check: &Check) -> Result<()> {
        match check {
            Check::Unix { path } => ask::unix(path.as_str()).map(drop),
            Check::Tcp { address } => ask::tcp(address).map(drop),
            Check::Http { to, path, host, status } => ask::http(to, path, host, *status),
            Check::Command { command, user } => look(command, user.as_ref(), &[]),
            Check::Unit { unit } => {
                let states = self.unit_states(std::slice::from_ref(unit))?;
                match states.first() {
                    Some(state) if state.runs() || state.went_well() => Ok(()),
                    state => refuse!("{unit} {}", state.map_or("is not known".to_owned(), UnitState::told)),
                }
            }
        }
    }
}

/// Runs a program to its end: what it printed, or what it said went wrong.
pub(super) fn run(command: &mut Command) -> Result<String> {
    run_for_bytes(command).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn run_for_bytes(command: &mut Command) -> Result<Vec<u8>> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    refuse!("`{}` failed ({}): {}", shown(command), output.status, said.join("; "))
}

/// Runs a program that a bundle names, in a service of its own that may only look: with the rights of `user`, or of nobody.
fn look(program: &[String], user: Option<&AccountName>, more: &[&str]) -> Result<()> {
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--wait", "--pipe", "--collect", "--service-type=exec", "--setenv=HOME=/tmp"]);
    match user {
        Some(user) => command.arg(format!("--uid={user}")),
        None => command.arg("--property=DynamicUser=yes"),
    };
    let properties = ONLY_LOOKS.iter().chain(more).map(|property| format!("--property={property}"));
    // systemd would put variables in their place.
    let words = program.iter().map(|word| word.replace('$', "$$"));
    command.args(properties).arg("--").args(words);
    let output = output(&mut command)?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = last[last.len().saturating_sub(SHOWN_LINES)..].join("; ");
    refuse!("`{}` says no ({}): {last}", program.join(" "), output.status)
}

/// Runs a program to its end, whatever that is.
fn output(command: &mut Command) -> Result<Output> {
    let output = command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).output();
    let program = command.get_program().to_string_lossy();
    output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Refusal::new(format!("`{program}` is needed and not installed here"))
            .help(format!("install the package that brings `{program}`"))
            .into(),
        _ => anyhow::Error::new(error).context(format!("cannot run {program}")),
    })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .filter(|word| word != "--")
        .collect::<Vec<_>>()
        .join(" ")
}

/// `systemd 257 (257.8-1)` → (257, 0), `podman version 5.4.2` → (5, 4).
fn parse_version(said: &str) -> Option<(u32, u32)> {
    let word = said.lines().next()?.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let major = numbers.next()?.ok()?;
    Some((major, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

/// `localhost/app` of `localhost/app:tag`.
fn repository(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(repository, _)| repository)
}

/// The properties of each unit: `systemctl show` sets an empty line between units.
fn blocks(output: &str) -> Vec<BTreeMap<&str, &str>> {
    output
        .split("\n\n")
        .map(|block| block.lines().filter_map(|line| line.split_once('=')).collect())
        .filter(|block: &BTreeMap<&str, &str>| !block.is_empty())
        .collect()
}

fn parse_state(block: &BTreeMap<&str, &str>) -> UnitState {
    let text = |key: &str| block.get(key).copied().unwrap_or_default();
    let tried = !matches!(text("ConditionTimestampMonotonic"), "" | "0");
    UnitState {
        load: match text("LoadState") {
            "loaded" => LoadState::Loaded,
            "not-found" => LoadState::NotFound,
            "masked" => LoadState::Masked,
            other => LoadState::Wrong(other.to_owned()),
        },
        active: match text("ActiveState") {
            "active" | "reloading" | "refreshing" => ActiveState::Active,
            "activating" => ActiveState::Activating,
            "deactivating" => ActiveState::Deactivating,
            "failed" => ActiveState::Failed,
            _ => ActiveState::Inactive,
        },
        auto_restart: text("SubState").starts_with("auto-restart"),
        invocation_id: Some(text("InvocationID").to_owned()).filter(|id| !id.is_empty()),
        result: text("Result").to_owned(),
        reload_result: text("ReloadResult").to_owned(),
        oneshot: match (text("Type"), text("RemainAfterExit")) {
            ("oneshot", "yes") => Oneshot::Remains,
            ("oneshot", _) => Oneshot::Ends,
            _ => Oneshot::No,
        },
        condition_failed: tried && text("ConditionResult") == "no",
        triggers: text("Triggers").split_whitespace().filter_map(|unit| unit.parse().ok()).collect(),
    }
}

fn parse_definition(block: &BTreeMap<&str, &str>) -> Definition {
    let text = |key: &str| block.get(key).copied().unwrap_or_default();
    Definition {
        fragment: Some(PathBuf::from(text("FragmentPath"))).filter(|path| !path.as_os_str().is_empty()),
        drop_ins: text("DropInPaths").split_whitespace().map(PathBuf::from).collect(),
        outdated: text("NeedDaemonReload") == "yes",
    }
}

/// When the first of some timers elapses, in the microseconds that systemctl tells.
fn parse_timers(output: &str) -> Option<SystemTime> {
    let timers: Vec<serde_json::Value> = serde_json::from_str(output).unwrap_or_default();
    let next = timers.iter().filter_map(|timer| timer["next"].as_u64()).filter(|next| *next > 0).min()?;
    Some(UNIX_EPOCH + Duration::from_micros(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_shows_is_understood() {
        let output = "Type=oneshot\nLoadState=loaded\nActiveState=inactive\nResult=success\nInvocationID=ab\n\n\
                      LoadState=not-found\nActiveState=active\nSubState=running\n\n\
                      LoadState=bad-setting\nActiveState=activating\nSubState=auto-restart\nTriggers=a.service b@.x\n";
        let states: Vec<UnitState> = blocks(output).iter().map(parse_state).collect();
        assert_eq!(states.len(), 3);
        assert!(states[0].is_done() && !states[0].runs());
        assert_eq!(states[0].invocation_id.as_deref(), Some("ab"));
        assert!(states[1].runs() && states[1].load == LoadState::NotFound);
        assert!(states[2].failed() && !states[2].runs());
        assert_eq!(states[2].triggers, ["a.service".parse().unwrap()]);
    }

    #[test]
    fn where_units_are_from_is_understood() {
        let output = "Id=a.service\nFragmentPath=/a\nDropInPaths=/b/1.conf /b/2.conf\nNeedDaemonReload=yes\n\n\
                      Id=b.service\nFragmentPath=\nDropInPaths=\nNeedDaemonReload=no\n";
        let definitions: Vec<Definition> = blocks(output).iter().map(parse_definition).collect();
        let drop_ins = vec![PathBuf::from("/b/1.conf"), PathBuf::from("/b/2.conf")];
        assert_eq!(definitions[0], Definition { fragment: Some("/a".into()), drop_ins, outdated: true });
        assert_eq!(definitions[1], Definition::default());
    }

    #[test]
    fn timers_are_read() {
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        let two = r#"[{"next":7000000,"left":1,"unit":"b.timer"},{"next":5000000,"unit":"a.timer"}]"#;
        assert_eq!((parse_timers(two), parse_timers("[]"), parse_timers("")), (at(5), None, None));
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("systemd 257 (257.8-1~deb13u2)\n+PAM +AUDIT"), Some((257, 0)));
        assert_eq!(parse_version("podman version 5.4.2\n"), Some((5, 4)));
        assert_eq!(parse_version("what?"), None);
    }

    #[test]
    fn the_repository_of_an_image_has_no_tag() {
        assert_eq!(repository("localhost/a/b:1"), "localhost/a/b");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-of-rick")).unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program-of-rick` is needed and not installed here");
    }
}
