//! The program that talks to registries, and what its complaints mean.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::reference::Reference;
use crate::bundle::digest::Digest;
use crate::refusal::Refusal;

/// How long a registry may take to answer a short question.
const SHORT: &str = "60s";
/// What stands between one try and the next. skopeo itself waits as long as a registry asks for that is busy.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// How many characters of a complaint are shown.
const SHOWN: usize = 600;
/// How much of its complaints is read.
const MAX_COMPLAINT: u64 = 64 << 10;

/// How to get into registries: beyond what is said here, skopeo looks where every container tool does.
#[derive(Clone, Debug, Default)]
pub struct Skopeo {
    /// A file with passwords, in the place of the usual ones.
    pub authfile: Option<PathBuf>,
    /// Plain HTTP, and certificates of anybody, will do.
    pub insecure: bool,
}

/// Why skopeo did not do it.
#[derive(Debug)]
pub enum Trouble {
    /// It may well work in a moment.
    Passing(Refusal),
    /// It will not as long as nobody does something about it.
    Lasting(Refusal),
}

impl Trouble {
    fn into_refusal(self) -> Refusal {
        match self {
            Self::Passing(refusal) | Self::Lasting(refusal) => refusal,
        }
    }
}

/// Does something again as long as what goes wrong may pass; `told` hears of each failure before the pause that follows.
pub fn patiently<T>(
    mut told: impl FnMut(&str, Duration),
    mut once: impl FnMut() -> Result<T, Trouble>,
) -> Result<T> {
    for pause in PAUSES {
        match once() {
            Ok(done) => return Ok(done),
            Err(Trouble::Lasting(refusal)) => return Err(refusal.into()),
            Err(Trouble::Passing(refusal)) => told(&refusal.to_string(), pause),
        }
        thread::sleep(pause);
    }
    once().map_err(|trouble| trouble.into_refusal().into())
}

impl Skopeo {
    /// The bytes of a manifest or index, at most `limit`. Nothing of them is verified.
    pub fn manifest(&self, what: &Reference, limit: u64) -> Result<Vec<u8>, Trouble> {
        self.inspect(&["--raw"], what, limit)
    }

    /// The bytes of the config that a manifest names.
    pub fn config(&self, what: &Reference, limit: u64) -> Result<Vec<u8>, Trouble> {
        self.inspect(&["--raw", "--config"], what, limit)
    }

    fn inspect(&self, how: &[&str], what: &Reference, limit: u64) -> Result<Vec<u8>, Trouble> {
        let mut command = Command::new("skopeo");
        command.args(["--command-timeout", SHORT, "inspect"]).args(how);
        if self.insecure {
            command.arg("--tls-verify=false");
        }
        self.authenticate(&mut command)?;
        let mut bytes = Vec::new();
        run(command.arg(what.for_skopeo()).stdout(Stdio::piped()), what, None, &mut |stdout| {
            stdout.take(limit + 1).read_to_end(&mut bytes).map(|_| bytes.len() as u64 <= limit)
        })?;
        Ok(bytes)
    }

    /// Copies a manifest and all that it names into an OCI layout, under a name; what lies there is not fetched. Nothing that is written
    /// has more than `largest` bytes, whatever the registry sends.
    pub fn fetch(&self, what: &Reference, layout: &Path, name: &str, largest: u64) -> Result<(), Trouble> {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--preserve-digests"]);
        if self.insecure {
            command.arg("--src-tls-verify=false");
        }
        self.authenticate(&mut command)?;
        command.arg(what.for_skopeo()).arg(format!("oci:{}:{name}", layout.display()));
        run(command.stdout(Stdio::null()), what, Some(largest), &mut drained)
    }

    /// Copies an index of an OCI layout, and all that it names, to a registry: what is there already is not sent again, and the name comes
    /// last. Gives the digest that the index has there. `heard` is told each line that skopeo says; without it, skopeo draws its progress on
    /// the terminal that is standard error.
    pub fn publish(
        &self,
        layout: &Path,
        name: &str,
        to: &Reference,
        heard: Option<&mut dyn FnMut(&str)>,
    ) -> Result<Digest, Trouble> {
        let digest_file = layout.join("published");
        let mut command = Command::new("skopeo");
        command.args(["copy", "--all", "--digestfile"]).arg(&digest_file);
        if self.insecure {
            command.arg("--dest-tls-verify=false");
        }
        self.authenticate(&mut command)?;
        command.arg(format!("oci:{}:{name}", layout.display())).arg(to.for_skopeo());
        match heard {
            None => run(command.stdout(io::stderr()), to, None, &mut drained)?,
            Some(heard) => run(command.stdout(Stdio::piped()), to, None, &mut |stdout| {
                BufReader::new(stdout).lines().try_for_each(|line| line.map(|line| heard(&line)))?;
                Ok(true)
            })?,
        }
        let digest = fs::read_to_string(&digest_file).map_err(|error| error.to_string());
        digest.and_then(|digest| digest.trim().parse()).map_err(|why| {
            Trouble::Lasting(Refusal::new(format!("skopeo does not say which digest {to} has: {why}")))
        })
    }

    /// Copies what has a name in an OCI layout to a registry, under its digest alone, as it is.
    pub fn push(&self, layout: &Path, name: &str, to: &Reference) -> Result<(), Trouble> {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--preserve-digests"]);
        if self.insecure {
            command.arg("--dest-tls-verify=false");
        }
        self.authenticate(&mut command)?;
        command.arg(format!("oci:{}:{name}", layout.display())).arg(to.for_skopeo());
        run(command.stdout(Stdio::null()), to, None, &mut drained)
    }

    fn authenticate(&self, command: &mut Command) -> Result<(), Trouble> {
        let Some(file) = &self.authfile else { return Ok(()) };
        if !file.is_file() {
            return Err(Trouble::Lasting(
                Refusal::new(format!("there is no file {} with the passwords of registries", file.display()))
                    .help(format!("make it: `skopeo login --authfile {} REGISTRY`", file.display())),
            ));
        }
        command.arg("--authfile").arg(file);
        Ok(())
    }
}

fn drained(stdout: &mut dyn Read) -> io::Result<bool> {
    io::copy(stdout, &mut io::sink()).map(|_| true)
}

/// Runs skopeo to its end. `listen` reads what it prints to a pipe, and says whether that was not too much.
fn run(
    command: &mut Command,
    at: &Reference,
    largest: Option<u64>,
    listen: &mut dyn FnMut(&mut dyn Read) -> io::Result<bool>,
) -> Result<(), Trouble> {
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| not_run(&error))?;
    if let Some(largest) = largest {
        limit_files(&child, largest);
    }
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (heard, said) = thread::scope(|scope| {
        let complaints = scope.spawn(move || {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.by_ref().take(MAX_COMPLAINT).read_to_end(&mut said);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            String::from_utf8_lossy(&said).into_owned()
        });
        let heard = stdout.map_or(Ok(true), |mut stdout| listen(&mut stdout));
        if !matches!(heard, Ok(true)) {
            let _ = child.kill();
        }
        (heard, complaints.join().unwrap_or_default())
    });
    let status = child.wait().map_err(|error| not_run(&error))?;
    match heard {
        Ok(false) => Err(Trouble::Lasting(Refusal::new(format!(
            "the registry `{}` sends more than a manifest may have",
            at.registry()
        )))),
        Err(error) => Err(not_run(&error)),
        Ok(true) if status.success() => Ok(()),
        Ok(true) => Err(meaning(at, &said, status)),
    }
}

/// A registry may send what it likes, for as long as it likes: the kernel ends that where it must be wrong. That the limit comes a moment
/// after the start does no harm.
fn limit_files(child: &Child, largest: u64) {
    let limit = Rlimit { current: Some(largest), maximum: Some(largest) };
    // If it is gone already, there is nothing to limit.
    let _ = prlimit(Some(Pid::from_child(child)), Resource::Fsize, limit);
}

fn not_run(error: &io::Error) -> Trouble {
    Trouble::Lasting(match error.kind() {
        io::ErrorKind::NotFound => {
            Refusal::new("`skopeo` is needed to talk to registries, and not installed here")
                .help("install the package `skopeo`")
        }
        _ => Refusal::new(format!("cannot run skopeo: {error}")),
    })
}

/// What skopeo's words mean, and what to do about it. The words are those of its versions from 1.9 on, and of the registries.
fn meaning(at: &Reference, said: &str, status: ExitStatus) -> Trouble {
    let registry = at.registry();
    let why = complaint(said).unwrap_or_else(|| format!("skopeo ended without a word ({status})"));
    let is = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if is(&["file too large", "exceeded maximum allowed size"]) {
        return Trouble::Lasting(Refusal::new(format!(
            "the registry `{registry}` sends more than {at} may have: {why}"
        )));
    }
    if status.code().is_none() {
        return Trouble::Lasting(Refusal::new(format!("skopeo was ended: {status}")));
    }
    if is(&[
        "unauthorized",
        "authentication required",
        "access to the resource is denied",
        "403 (Forbidden)",
        "403 Forbidden",
        "StatusCode: 403",
        "invalid username/password",
    ]) {
        return not_let_in(at, &why);
    }
    if is(&["x509:"]) {
        return Trouble::Lasting(
            Refusal::new(format!("the certificate of the registry `{registry}` is not to be trusted: {why}"))
                .help(format!("if an authority of your own made it, put the authority's certificate at /etc/containers/certs.d/{registry}/ca.crt")),
        );
    }
    if is(&["server gave HTTP response to HTTPS client"]) {
        return Trouble::Lasting(
            Refusal::new(format!("the registry `{registry}` speaks plain HTTP"))
                .help("give it a certificate; or say `--insecure` if nobody else can reach it or be it"),
        );
    }
    if is(&["manifest unknown", "name unknown", "repository name not known"]) {
        return Trouble::Lasting(
            Refusal::new(format!("there is no {at}"))
                .help("publish it: `rickbuild publish ENVIRONMENT REGISTRY/REPOSITORY:TAG`; and look whether the name is right"),
        );
    }
    if is(&["429 Too Many Requests", "StatusCode: 429", "toomanyrequests", "too many requests"]) {
        // skopeo has waited as long as it was told to, and then some.
        return Trouble::Lasting(
            Refusal::new(format!("the registry `{registry}` is asked too often, by us or others: {why}"))
                .help("try again later"),
        );
    }
    if is(&["no space left on device", "rejected by policy", "Digest did not match", "does not match"]) {
        return Trouble::Lasting(Refusal::new(format!("{at} cannot be had: {why}")));
    }
    Trouble::Passing(Refusal::new(format!("the registry `{registry}` does not answer as it should: {why}")))
}

/// A registry wants another name and password, or any.
pub fn not_let_in(at: &Reference, why: &str) -> Trouble {
    let registry = at.registry();
    Trouble::Lasting(
        Refusal::new(format!("the registry `{registry}` does not let us in: {why}"))
            .help(format!("give it a name and a password: `skopeo login {registry}`, as the same user"))
            .help("or name the file that holds them: `--authfile FILE`"),
    )
}

/// The last thing that it said, without the rest of its log line: `time="…" level=fatal msg="…"`. A registry can put what it likes into
/// that, so it is short, and nothing that a terminal would obey.
pub fn complaint(said: &str) -> Option<String> {
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let message = match line.split_once(" msg=") {
        Some((_, quoted)) => {
            serde_json::from_str(quoted).unwrap_or_else(|_| quoted.trim_matches('"').to_owned())
        }
        None => line.to_owned(),
    };
    // Every message says anyhow what was asked for.
    let rest = message.strip_prefix("Error parsing image name ").and_then(|rest| rest.split_once("\": "));
    let message = rest.map_or(message.as_str(), |(_, rest)| rest);
    Some(message.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn means(why: &str) -> (bool, String) {
        let at = "r.test/fleet:x".parse().unwrap();
        let quoted = serde_json::to_string(why).unwrap();
        let said = format!("time=\"x\" level=warning msg=\"a\"\ntime=\"x\" level=fatal msg={quoted}\n");
        let trouble = meaning(&at, &said, ExitStatus::from_raw(1 << 8));
        (matches!(trouble, Trouble::Passing(_)), trouble.into_refusal().to_string())
    }

    #[test]
    fn complaints_are_understood() {
        for (why, passes, meant) in [
            (
                "reading manifest x: unauthorized: \"no\"",
                false,
                "does not let us in: reading manifest x: unauthorized: \"no\"",
            ),
            (
                "tls: failed to verify certificate: x509: signed by unknown authority",
                false,
                "is not to be trusted",
            ),
            ("http: server gave HTTP response to HTTPS client", false, "speaks plain HTTP"),
            (
                "reading manifest x in r.test/fleet: manifest unknown",
                false,
                "there is no oci://r.test/fleet:x",
            ),
            (
                "received unexpected HTTP status: 500 Internal Server Error",
                true,
                "does not answer as it should",
            ),
            ("dial tcp: connection refused", true, "does not answer as it should"),
            (
                "Error parsing image name \"docker://r.test/fleet:x\": no such host",
                true,
                "should: no such host",
            ),
            ("error: \u{1b}[2Jmischief", true, "error:  [2Jmischief"),
        ] {
            let (passing, message) = means(why);
            assert!(passing == passes && message.contains(meant), "{why}: {message}");
        }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_lasts_is_not() {
        let mut tries = 0;
        let done = patiently(
            |why, _| assert_eq!(why, "later"),
            || {
                tries += 1;
                if tries < 2 { Err(Trouble::Passing(Refusal::new("later"))) } else { Ok(tries) }
            },
        );
        assert_eq!(done.unwrap(), 2);
        let never = || Err::<(), _>(Trouble::Lasting(Refusal::new("never")));
        assert_eq!(patiently(|_, _| unreachable!(), never).unwrap_err().to_string(), "never");
    }
}
