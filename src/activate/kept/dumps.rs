//! The commands of dumps, run as their users in an environment that says nothing. Those that change something hold the lock of the service: it lasts as
//! long as they do, whatever becomes of this process.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};

use super::Kept;
use crate::bundle::manifest::Dump;
use crate::bundle::names::{AccountName, Label};
use crate::refusal::refuse;

/// What the commands find beside nothing.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];

/// There is nothing.
pub(super) fn is_empty(kept: &Kept, name: &Label) -> Result<bool> {
    let dump = named(kept, name)?;
    let output =
        command(dump, &dump.empty)?.stdin(Stdio::null()).output().with_context(|| cannot(&dump.empty))?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => Err(failed(&dump.empty, &output)),
    }
}

/// Writes it to a file.
pub(super) fn save(dump: &Dump, to: File) -> Result<()> {
    let output = command(dump, &dump.save)?.stdin(Stdio::null()).stdout(to).stderr(Stdio::piped()).output();
    ended(&dump.save, &output.with_context(|| cannot(&dump.save))?)
}

/// Removes it.
pub(super) fn clear(dump: &Dump, lock: &File) -> Result<()> {
    let _inherited = inherited(lock)?;
    let output = command(dump, &dump.clear)?.stdin(Stdio::null()).output();
    ended(&dump.clear, &output.with_context(|| cannot(&dump.clear))?)
}

/// Takes it from a file.
pub(super) fn restore(dump: &Dump, from: File, lock: &File) -> Result<()> {
    let _inherited = inherited(lock)?;
    let output = command(dump, &dump.restore)?.stdin(from).output();
    ended(&dump.restore, &output.with_context(|| cannot(&dump.restore))?)
}

/// The dump of that name.
pub(super) fn named<'a>(kept: &'a Kept, name: &Label) -> Result<&'a Dump> {
    kept.dumps.iter().find(|dump| dump.name == *name).with_context(|| format!("there is no dump `{name}`"))
}

fn command(dump: &Dump, words: &[String]) -> Result<Command> {
    let Some((program, arguments)) = words.split_first() else { refuse!("a command without a program") };
    let (uid, gid) = account(&dump.user)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(ENVIRONMENT).current_dir("/").uid(uid).gid(gid);
    Ok(command)
}

/// The numbers of a user and of its group.
fn account(user: &AccountName) -> Result<(u32, u32)> {
    let output =
        Command::new("getent").args(["passwd", user.as_str()]).output().context("cannot start getent")?;
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut fields = line.trim().split(':').skip(2).map_while(|field| field.parse::<u32>().ok());
    match (fields.next(), fields.next()) {
        (Some(uid), Some(gid)) => Ok((uid, gid)),
        _ => refuse!("this host has no user `{user}`"),
    }
}

/// The lock, open in whatever is started as long as this is.
fn inherited(lock: &File) -> Result<OwnedFd> {
    rustix::io::dup(lock).context("a lock cannot be shared")
}

fn cannot(words: &[String]) -> String {
    format!("cannot run `{}`", words.join(" "))
}

fn ended(words: &[String], output: &Output) -> Result<()> {
    if output.status.success() { Ok(()) } else { Err(failed(words, output)) }
}

fn failed(words: &[String], output: &Output) -> anyhow::Error {
    let mut said = String::new();
    // What cannot be read as text is not shown.
    let _ = output.stderr.as_slice().take(2000).read_to_string(&mut said);
    let said = said.trim().replace('\n', "; ");
    anyhow::anyhow!("`{}` failed ({}): {said}", words.join(" "), output.status)
}
