//! restic, told what to do; and its answers.

use std::fmt::{self, Display};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{in_memory, open_lock, process};
use crate::activate::generation::Generation;
use crate::activate::secrets;
use crate::activate::state::State;
use crate::bundle::manifest::{Keep, Repository};
use crate::bundle::names::SecretName;
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// The same place on Debian and Arch.
const PROGRAM: &str = "/usr/bin/restic";
/// What restic keeps of a repository beside it.
const CACHE: &str = "/var/cache/rick-backup";
/// Where a credential of the host is in clear while restic needs it as a file, in memory.
const CLEAR: &str = "/run/rick/kept/credentials";
/// Each that is opened has files of its own, and removes them.
static OPENED: AtomicU32 = AtomicU32::new(0);
/// How many processes of a host speak with repositories at once. sshd turns away the eleventh that is not known yet.
const TURNS: u32 = 4;
/// How long somebody else may hold the repository. A lock that is older and not renewed is one of a dead process.
const PATIENCE: &str = "30m";
/// How long a repository may take to tell of itself, in seconds: restic alone would try for a quarter of an hour.
const ANSWERS_WITHIN: &str = "60";
/// How many files of a local repository are read at a time: as many as restic does elsewhere, and not the two that it does here.
const CONNECTIONS: &str = "local.connections=5";
/// How many paths are restored at a time.
const AT_ONCE: usize = 4;
/// Exit codes: of restic, and the last one of `timeout`.
const NO_REPOSITORY: i32 = 10;
const LOCKED: i32 = 11;
const NO_ANSWER: i32 = 124;
/// The variables that `credentials` may set.
const VARIABLES: [&str; 7] = ["RESTIC_", "AWS_", "AZURE_", "B2_", "GOOGLE_", "OS_", "ST_"];

/// The tags of a copy, beside its environment and its service.
pub const BEFORE_SWITCH: &str = "before-switch";
/// The tag of the word that another host may have the service.
pub const RELEASED: &str = "released";
/// The tag of the word that another host has it.
pub const TAKEN: &str = "taken";
/// The tag of the word that the host which said so has it again.
pub const RECLAIMED: &str = "reclaimed";
/// All of these: what has one is no copy, and no rule forgets it.
const WORDS: [&str; 3] = [RELEASED, TAKEN, RECLAIMED];
/// The tag of a copy that lacks what could not be read.
const INCOMPLETE: &str = "incomplete";

/// The name of a copy: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(String);

impl SnapshotId {
    /// The first digits, as restic shows them.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }

    /// All of them.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hex { Ok(Self(text)) } else { Err("a snapshot has 64 hexadecimal digits".to_owned()) }
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.0
    }
}

impl Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// A copy, or a word about one, in the repository.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// When it was taken.
    pub time: String,
    /// What it holds.
    pub paths: Vec<String>,
    /// The host that took it.
    pub hostname: String,
    /// What is said of it.
    #[serde(default)]
    pub tags: Vec<String>,
}

impl Snapshot {
    /// It is a copy, not a word about one.
    pub fn is_copy(&self) -> bool {
        !self.tags.iter().any(|tag| WORDS.contains(&tag.as_str()))
    }

    /// It has all that was there.
    pub fn is_complete(&self) -> bool {
        !self.tags.iter().any(|tag| tag == INCOMPLETE)
    }

    /// It was taken before a switch.
    pub fn is_before_switch(&self) -> bool {
        self.tags.iter().any(|tag| tag == BEFORE_SWITCH)
    }

    /// The value of a tag `KEY=VALUE`.
    pub fn tagged(&self, key: &str) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix('='))
    }

    /// The host counts the copies of a service: clocks are set back, and numbers are not.
    pub fn number(&self) -> u64 {
        self.tagged("number").and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    /// The generation that took it.
    pub fn generation(&self) -> Option<u32> {
        self.tagged("generation")?.parse().ok()
    }
}

/// A repository that can be opened.
pub struct Restic {
    /// Held as long as it is spoken with.
    _turn: Arc<File>,
    address: String,
    variables: Vec<(String, String)>,
    options: Vec<String>,
    cache: PathBuf,
    /// The lock of a service, which lasts as long as a restic that has it as its standard input, whatever becomes of this process.
    lock: Option<File>,
    /// Files in clear to be removed at the end.
    clear: Vec<PathBuf>,
}

impl Drop for Restic {
    fn drop(&mut self) {
        for file in &self.clear {
            let _ = fs::remove_file(file);
        }
    }
}

impl Restic {
    /// Finds what opens the repository: among the credentials of the service that this runs in, else with the generation, else with the host.
    pub fn open(state: &State, generation: &Generation, repository: &Repository) -> Result<Self> {
        if !Path::new(PROGRAM).exists() {
            return Err(Refusal::new(format!("{PROGRAM} is missing")).help("install restic").into());
        }
        let turn = turn(state)?;
        let mut clear = Vec::new();
        let mut file = |name: &SecretName| credential(state, generation, name, &mut clear);
        let password = file(&repository.password)?;
        let credentials = repository.credentials.as_ref().map(&mut file).transpose()?;
        let ssh = repository.ssh.as_ref();
        let ssh = ssh.map(|ssh| Ok::<_, anyhow::Error>((file(&ssh.key)?, &ssh.known_hosts))).transpose()?;
        let mut variables = vec![("RESTIC_PASSWORD_FILE".to_owned(), password.display().to_string())];
        if let Some(path) = credentials {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            variables.extend(variables_of(&text)?);
        }
        let options = ssh.map(|(key, known_hosts)| {
            format!(
                "sftp.args=-i {} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={known_hosts}",
                key.display()
            )
        });
        let cache = state.on_host(CACHE);
        if !cache.is_dir() {
            durable::make_directory(&cache, 0o700)?;
        }
        Ok(Self {
            _turn: turn,
            address: repository.address.clone(),
            variables,
            options: options.into_iter().chain([CONNECTIONS.to_owned()]).collect(),
            cache,
            lock: None,
            clear,
        })
    }

    /// From now on each restic holds this lock, too.
    pub fn hold(&mut self, lock: &File) -> Result<()> {
        self.lock = Some(lock.try_clone().context("a lock cannot be shared")?);
        Ok(())
    }

    /// And from now on none does.
    pub fn let_go(&mut self) {
        self.lock = None;
    }

    fn arguments(&self, mut command: Command, patience: &str, arguments: &[&str]) -> Result<Command> {
        command.arg("--cache-dir").arg(&self.cache).args(["--retry-lock", patience]);
        command.args(self.options.iter().flat_map(|option| ["-o", option]));
        command.args(arguments).env("RESTIC_REPOSITORY", &self.address);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        match &self.lock {
            Some(lock) => command.stdin(lock.try_clone().context("a lock cannot be shared")?),
            None => command.stdin(Stdio::null()),
        };
        Ok(command)
    }

    fn run(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.output(arguments, None)?;
        self.well(&output, arguments)?;
        Ok(output.stdout)
    }

    /// Runs restic. Locks of processes that are no more are removed, and the others waited for.
    fn output(&self, arguments: &[&str], input: Option<&[u8]>) -> Result<Output> {
        let mut answer = self.attempt("0s", arguments, input)?;
        for patience in [PATIENCE, "0s"] {
            if answer.status.code() != Some(LOCKED) {
                break;
            }
            self.attempt("0s", &["unlock", "--quiet"], None)?;
            answer = self.attempt(patience, arguments, input)?;
        }
        Ok(answer)
    }

    fn attempt(&self, patience: &str, arguments: &[&str], input: Option<&[u8]>) -> Result<Output> {
        process::run(self.arguments(Command::new(PROGRAM), patience, arguments)?, input)
    }

    /// Asks what takes no lock and not long; `None`: there is no repository at the address.
    fn ask(&self, arguments: &[&str]) -> Result<Option<Vec<u8>>> {
        let mut timeout = Command::new("timeout");
        timeout.args([ANSWERS_WITHIN, PROGRAM]);
        let arguments = [arguments, &["--no-lock"]].concat();
        let output = process::run(self.arguments(timeout, "0s", &arguments)?, None)?;
        self.answer(output, &arguments)
    }

    /// What was answered; `None`: there is no repository at the address.
    fn answer(&self, output: Output, arguments: &[&str]) -> Result<Option<Vec<u8>>> {
        if output.status.code() == Some(NO_REPOSITORY) {
            return Ok(None);
        }
        self.well(&output, arguments)?;
        Ok(Some(output.stdout))
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What its exit code means.
    fn well(&self, output: &Output, arguments: &[&str]) -> Result<()> {
        if output.status.success() {
            return Ok(());
        }
        let said = process::complaint(&output.stderr);
        let what = arguments.first().copied().unwrap_or_default();
        let refusal = match output.status.code() {
            Some(3) => Refusal::new(format!("restic {what}: something could not be read: {said}")),
            Some(NO_REPOSITORY) => Refusal::new(format!("there is no repository at {}", self.address)),
            Some(NO_ANSWER) => {
                Refusal::new(format!("the repository {} does not answer: {said}", self.address))
            }
            Some(LOCKED) => Refusal::new(format!("the repository {} stays locked: {said}", self.address))
                .help("somebody works on it; a lock that a process on another host left is removed half an hour later"),
            Some(12) => Refusal::new(format!("the password does not open the repository {}", self.address)),
            _ => Refusal::new(format!("restic {what} failed ({}): {said}", output.status)),
        };
        Err(refusal.into())
    }

    /// There is a repository at the address.
    pub fn exists(&self) -> Result<bool> {
        Ok(self.ask(&["cat", "config"])?.is_some())
    }

    /// The same, for as long as restic tries to reach it: a quarter of an hour.
    pub fn appears(&self) -> Result<bool> {
        let arguments = ["cat", "config", "--no-lock"];
        Ok(self.answer(self.output(&arguments, None)?, &arguments)?.is_some())
    }

    /// Makes one.
    pub fn init(&self) -> Result<()> {
        self.run(&["init", "--quiet"]).map(drop)
    }

    /// What has all of these tags, of one host or of all, oldest first. That there is no repository is no answer.
    pub fn snapshots(&self, host: Option<&str>, tags: &[&str]) -> Result<Vec<Snapshot>> {
        match self.snapshots_if_there(host, tags)? {
            Some(found) => Ok(found),
            None => refuse!("there is no repository at {}", self.address),
        }
    }

    /// The same; `None`: there is no repository.
    pub fn snapshots_if_there(&self, host: Option<&str>, tags: &[&str]) -> Result<Option<Vec<Snapshot>>> {
        let joined = tags.join(",");
        let mut arguments = vec!["snapshots", "--json"];
        if !tags.is_empty() {
            arguments.extend(["--tag", &joined]);
        }
        arguments.extend(host.iter().flat_map(|host| ["--host", host]));
        let Some(output) = self.ask(&arguments)? else { return Ok(None) };
        let mut found = told(&output)?;
        found.sort_by(|one, other| one.time.cmp(&other.time));
        Ok(Some(found))
    }

    /// Copies paths; gives the name of the copy. `None`: there is no repository.
    pub fn backup(&self, host: &str, tags: &[String], paths: &[String]) -> Result<Option<SnapshotId>> {
        let mut arguments = vec!["backup", "--json", "--quiet", "--host", host];
        arguments.extend(tags.iter().flat_map(|tag| ["--tag", tag]));
        arguments.push("--");
        arguments.extend(paths.iter().map(String::as_str));
        let output = self.output(&arguments, None)?;
        match output.status.code() {
            Some(NO_REPOSITORY) => return Ok(None),
            Some(3) => {}
            _ => self.well(&output, &arguments)?,
        }
        let id = summary(&output.stdout)?;
        // The copy is there, and lacks what could not be read: nobody shall take it for whole.
        if output.status.code() == Some(3) {
            self.run(&["tag", "--quiet", "--add", INCOMPLETE, id.as_str()])?;
        }
        self.well(&output, &arguments).with_context(|| format!("the copy {id} is incomplete"))?;
        Ok(Some(id))
    }

    /// Puts a word into the repository, which holds nothing but what it is tagged with.
    pub fn say(&self, host: &str, tags: &[String]) -> Result<SnapshotId> {
        let mut arguments =
            vec!["backup", "--json", "--quiet", "--host", host, "--stdin", "--stdin-filename", "word"];
        arguments.extend(tags.iter().flat_map(|tag| ["--tag", tag]));
        let output = self.output(&arguments, Some(tags.join("\n").as_bytes()))?;
        self.well(&output, &arguments)?;
        summary(&output.stdout)
    }

    /// Brings what a copy has at `path` to `target`. What is there already and not in the copy stays, unless it is to be `exact`.
    pub fn restore(&self, id: &SnapshotId, path: &str, target: &Path, exact: bool) -> Result<()> {
        let what = format!("{}:{path}", id.as_str());
        let to = target.display().to_string();
        let mut arguments = vec!["restore", "--quiet", &what, "--target", &to];
        if exact {
            // restic does not visit a directory that holds nothing, and leaves what is in the way.
            if self.is_empty(id, path)? {
                return empty(target);
            }
            arguments.push("--delete");
        }
        self.run(&arguments).map(drop)
    }

    /// A copy has nothing in this directory.
    fn is_empty(&self, id: &SnapshotId, path: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Node {
            path: String,
        }
        let output = self.run(&["ls", "--json", "--no-lock", id.as_str(), path])?;
        let lines = output.split(|&byte| byte == b'\n');
        let paths: Vec<String> = lines
            .filter_map(|line| serde_json::from_slice::<Node>(line).ok())
            .map(|node| node.path)
            .collect();
        if !paths.iter().any(|found| found == path) {
            refuse!("restic did not say what the copy has at {path}");
        }
        Ok(paths.len() == 1)
    }

    /// The same for several paths at a time: most of what restic takes for a small one goes into opening the repository.
    pub fn restore_all(&self, id: &SnapshotId, targets: &[(String, PathBuf, bool)]) -> Result<()> {
        let nested = |(one, (_, place, _)): (usize, &(String, PathBuf, bool))| {
            targets.iter().enumerate().any(|(other, (_, above, _))| one != other && place.starts_with(above))
        };
        let at_once = if targets.iter().enumerate().any(nested) { 1 } else { AT_ONCE };
        for some in targets.chunks(at_once) {
            thread::scope(|scope| {
                let start = |(path, target, exact): &'_ (String, PathBuf, bool)| {
                    let (path, target, exact) = (path.clone(), target.clone(), *exact);
                    scope.spawn(move || self.restore(id, &path, &target, exact))
                };
                let running: Vec<_> = some.iter().map(start).collect();
                let ended = running.into_iter().map(|one| {
                    one.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a restore ended in an unknown way")))
                });
                // All of them are waited for, whatever the first one says.
                ended.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
            })?;
        }
        Ok(())
    }

    /// What is known of a copy.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<Snapshot> {
        let output = self.ask(&["snapshots", "--json", id.as_str()])?.unwrap_or_else(|| b"[]".to_vec());
        told(&output)?.into_iter().next().with_context(|| format!("the repository has no copy {id}"))
    }

    /// Forgets copies of a service that the rules do not keep. Those before a switch, words to other hosts and the copy of this `number`
    /// stay; gives all that do.
    pub fn forget(
        &self,
        host: &str,
        tags: &[&str],
        number: u64,
        keep: &[(Keep, u32)],
    ) -> Result<Vec<Snapshot>> {
        let joined = tags.join(",");
        let mut arguments =
            vec!["forget", "--json", "--prune", "--host", host, "--tag", &joined, "--group-by", "host"];
        let number = format!("number={number}");
        for tag in WORDS.into_iter().chain([BEFORE_SWITCH, &number]) {
            arguments.extend(["--keep-tag", tag]);
        }
        let rules: Vec<[String; 2]> =
            keep.iter().map(|(rule, number)| [format!("--keep-{rule}"), number.to_string()]).collect();
        arguments.extend(rules.iter().flatten().map(String::as_str));
        kept(&self.run(&arguments)?)
    }

    /// Forgets these.
    pub fn remove(&self, ids: &[&SnapshotId]) -> Result<()> {
        let mut arguments = vec!["forget", "--quiet"];
        arguments.extend(ids.iter().map(|id| id.as_str()));
        self.run(&arguments).map(drop)
    }

    /// Sees that the repository is sound, and reads a part of all that it holds: `1/7`, `5%`.
    pub fn check(&self, part: &str) -> Result<()> {
        let part = format!("--read-data-subset={part}");
        self.run(&["check", "--quiet", &part]).map(drop)
    }
}

/// Removes what is in a directory, but for what file systems bring.
fn empty(directory: &Path) -> Result<()> {
    let cannot = || format!("cannot empty {}", directory.display());
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if entry.file_name() == "lost+found" {
            continue;
        }
        let is_directory = entry.file_type().with_context(cannot)?.is_dir();
        if is_directory { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }
            .with_context(cannot)?;
    }
    Ok(())
}

/// What restic knows of copies.
fn told(output: &[u8]) -> Result<Vec<Snapshot>> {
    serde_json::from_slice(output).context("restic told of its snapshots in no way that is known")
}

/// The copies that stay, in what `forget` says before it speaks of other things.
fn kept(output: &[u8]) -> Result<Vec<Snapshot>> {
    #[derive(Deserialize)]
    struct Group {
        #[serde(default)]
        keep: Option<Vec<Snapshot>>,
    }
    let mut said = serde_json::Deserializer::from_slice(output).into_iter::<Vec<Group>>();
    let groups = said.next().transpose().context("restic told what it keeps in no way that is known")?;
    Ok(groups.unwrap_or_default().into_iter().filter_map(|group| group.keep).flatten().collect())
}

/// The name of the copy, in what `backup` says at its end.
fn summary(output: &[u8]) -> Result<SnapshotId> {
    #[derive(Deserialize)]
    struct Summary {
        snapshot_id: SnapshotId,
    }
    let lines = output.split(|&byte| byte == b'\n');
    match lines.filter_map(|line| serde_json::from_slice::<Summary>(line).ok()).next_back() {
        Some(summary) => Ok(summary.snapshot_id),
        None => refuse!("restic did not say the name of the copy"),
    }
}

/// Waits until it is this process's turn: a host with many services must not call its repository for all of them at once, for servers turn such callers
/// away.
fn turn(state: &State) -> Result<Arc<File>> {
    /// One for all of this process: who has one and waits for another could wait for ever.
    static MINE: Mutex<Weak<File>> = Mutex::new(Weak::new());
    let mut mine = MINE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(turn) = mine.upgrade() {
        return Ok(turn);
    }
    let turn = Arc::new(new_turn(state)?);
    *mine = Arc::downgrade(&turn);
    Ok(turn)
}

fn new_turn(state: &State) -> Result<File> {
    let open = |number: u32| {
        let path = in_memory(state, &format!("turn-{number}"))?;
        open_lock(&path)
    };
    for number in 0..TURNS {
        let file = open(number)?;
        if file.try_lock().is_ok() {
            return Ok(file);
        }
    }
    let file = open(std::process::id() % TURNS)?;
    file.lock().context("cannot wait for others that speak with the repository")?;
    Ok(file)
}

/// Lines of `NAME=VALUE`: data, and only what restic and those it speaks to read.
fn variables_of(text: &str) -> Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let plain = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
                && VARIABLES.iter().any(|prefix| name.starts_with(prefix))
        };
        match line.split_once('=').filter(|(name, _)| plain(name)) {
            Some((name, value)) => variables.push((name.to_owned(), value.to_owned())),
            None => refuse!("the credentials have a line that is no NAME=VALUE for restic"),
        }
    }
    Ok(variables)
}

/// The file with a secret in clear. None is on a disk.
fn credential(
    state: &State,
    generation: &Generation,
    name: &SecretName,
    clear: &mut Vec<PathBuf>,
) -> Result<PathBuf> {
    let given =
        std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join(name.as_str()));
    if let Some(given) = given.filter(|file| file.exists()) {
        return Ok(given);
    }
    if let Some(path) = secrets::path_for_root(&generation.directory, name)? {
        return Ok(state.on_host(&path));
    }
    let folder = state.on_host(CLEAR);
    if !folder.is_dir() {
        durable::make_directory(&folder, 0o700)?;
    }
    let count = OPENED.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!("{name}.{}.{count}", std::process::id()));
    clear.push(path.clone());
    let mut command = Command::new("systemd-creds");
    command.arg("decrypt").arg(format!("--name={name}"));
    command.arg(state.on_host("/etc/credstore.encrypted").join(name.as_str())).arg("-");
    let output = command.stdin(Stdio::null()).output().context("cannot start systemd-creds")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        refuse!("the secret `{name}` cannot be decrypted on this host: {}", said.trim());
    }
    durable::remove_file_if_there(&path)?;
    durable::write_new(&path, &output.stdout, 0o400)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_data() {
        let text = "# server\nRESTIC_REST_USERNAME=box\nRESTIC_REST_PASSWORD=pass=word=\n\n";
        let expected = [("RESTIC_REST_USERNAME", "box"), ("RESTIC_REST_PASSWORD", "pass=word=")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables_of(text).unwrap(), expected);
        for wrong in ["PATH=/tmp", "LD_PRELOAD=x", "RESTIC_x=1", "RESTIC", "export RESTIC_A=1"] {
            variables_of(wrong).unwrap_err();
        }
    }

    #[test]
    fn the_name_of_a_copy_is_taken_from_the_end_of_what_is_said() {
        let id = "a".repeat(64);
        let said = format!(
            "{{\"message_type\":\"status\"}}\n{{\"message_type\":\"summary\",\"snapshot_id\":\"{id}\"}}\n"
        );
        assert_eq!(summary(said.as_bytes()).unwrap().as_str(), id);
        summary(b"{\"snapshot_id\":\"latest\"}").unwrap_err();
        summary(b"").unwrap_err();
    }
}
