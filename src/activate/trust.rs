//! Whose builds this host takes: `/etc/rick/allowed_signers` says it, and `ssh-keygen` of this machine is the judge.
//!
//! The signature is over the manifest of this host, so it holds for no other host, no other serial and no other file. Of what nobody signed
//! whom the host trusts, nothing is looked at beyond the digests in that manifest.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use rustix::fs::{MemfdFlags, memfd_create};

use super::Activation;
use super::report::Report;
use super::state::State;
use crate::bundle::signature::{self, MAX_BYTES, MAX_SIGNATURES, NAMESPACE, Signature};
use crate::refusal::Refusal;

/// Whom this host trusts, as ssh writes it: a line for each, `NAME [OPTIONS] KEY`.
pub const SIGNERS: &str = "/etc/rick/allowed_signers";
/// How many seconds ssh-keygen may take. It takes some milliseconds.
const PATIENCE: &str = "30";
/// What `timeout` says of a program that is not there.
const NOT_FOUND: i32 = 127;

/// What a host asks of the builds that it is to take.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Whom it trusts.
    signers: PathBuf,
    /// What it runs is at stake: where it trusts nobody yet, it takes nothing.
    required: bool,
    /// Somebody answers for this one build with being root.
    allow_unsigned: bool,
}

/// Who answers for a build.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Somebody whom the host trusts: the name that it knows, and the fingerprint of the key.
    Signed(String),
    /// Nobody, why, and it is taken nevertheless.
    Unsigned(String),
    /// Nobody was asked: in a directory nothing runs.
    NotAsked,
}

impl Verdict {
    /// Says it, and loudly if nobody signed.
    pub fn tell(&self, report: &mut Report) {
        match self {
            Self::Signed(signer) => report.line("signed", &format!("by {signer}")),
            Self::Unsigned(why) => {
                report.line("UNSIGNED", &format!("and taken, for --allow-unsigned was said: {why}"));
            }
            Self::NotAsked => {}
        }
    }

    /// Who signed.
    pub fn signer(&self) -> Option<&str> {
        match self {
            Self::Signed(signer) => Some(signer),
            Self::Unsigned(_) | Self::NotAsked => None,
        }
    }
}

impl Activation<'_> {
    /// Whose builds this host takes, in this run.
    pub(super) fn trust(&self) -> Trust {
        Trust::on(&self.state, self.host.is_running(), self.allow_unsigned)
    }
}

impl Trust {
    /// Whose builds the host of `state` takes. Where it names nobody, it takes none if that is `required`, and all otherwise.
    pub fn on(state: &State, required: bool, allow_unsigned: bool) -> Self {
        Self { signers: state.on_host(SIGNERS), required, allow_unsigned }
    }

    /// Who answers for a manifest, with these signatures if there are any; a refusal if that will not do.
    pub fn judge(&self, manifest: &[u8], signatures: Option<&str>) -> Result<Verdict> {
        let signers = &self.signers;
        let there = signers.try_exists().with_context(|| format!("cannot read {}", signers.display()))?;
        let judged = match signatures {
            _ if !there && !self.required => return Ok(Verdict::NotAsked),
            _ if !there => Err(nobody_is_trusted()),
            None => Err(nobody_signed()),
            Some(signatures) => {
                spooled(manifest).and_then(|manifest| Judge { signers, manifest }.judge(signatures))
            }
        };
        match judged {
            Ok(signer) => Ok(Verdict::Signed(signer)),
            Err(why) if self.allow_unsigned => Ok(Verdict::Unsigned(why.to_string())),
            Err(why) => Err(why.help("or take it as it is, this once: `--allow-unsigned`").into()),
        }
    }
}

fn nobody_is_trusted() -> Refusal {
    Refusal::new("this host does not say whose bundles it takes: /etc/rick/allowed_signers is not there")
        .help("write a line into it for each who may sign: `NAME namespaces=\"rick-bundle\" KEY`, with KEY as in ~/.ssh/id_ed25519.pub")
}

fn nobody_signed() -> Refusal {
    Refusal::new("the bundle is not signed for this host")
        .help("sign it where the key is: `rickbuild sign bundle.tar --key ~/.ssh/id_ed25519`, or `--sign-key` when it is compiled or published")
}

/// A manifest, and who may sign it.
struct Judge<'a> {
    signers: &'a Path,
    manifest: File,
}

impl Judge<'_> {
    /// The first who signed and is trusted.
    fn judge(&self, signatures: &str) -> Result<String, Refusal> {
        if signatures.len() > MAX_BYTES || signature::split(signatures).nth(MAX_SIGNATURES).is_some() {
            return Err(Refusal::new("the bundle has more signatures than any bundle needs"));
        }
        let mut refusals = Vec::new();
        for armored in signature::split(signatures) {
            match self.judge_one(armored) {
                Ok(signer) => return Ok(signer),
                Err(refusal) => refusals.push(refusal),
            }
        }
        Err(Refusal::all(refusals).err().unwrap_or_else(nobody_signed))
    }

    fn judge_one(&self, armored: &str) -> Result<String, Refusal> {
        let Some(Signature { key, namespace }) = Signature::parse(armored) else {
            let damaged = Refusal::new("a signature of the bundle is damaged");
            return Err(damaged.help("copy the bundle again, or sign it again"));
        };
        if namespace != NAMESPACE {
            let namespace: String = namespace.escape_debug().take(60).collect();
            return Err(not_good(&key, &format!("for `{namespace}`")));
        }
        let file = spooled(armored.as_bytes())?;
        let found = self.ask("find-principals", &file, &[])?;
        let mut why = said(&found.stderr);
        for name in said(&found.stdout).lines() {
            let verified = self.ask("verify", &file, &["-I", name, "-n", NAMESPACE])?;
            if verified.status.success() {
                // `Good … signature for NAME with ED25519 key SHA256:…`: of a certificate, that of the key in it.
                let text = said(&verified.stdout);
                return Ok(format!("{name} ({})", text.rsplit(' ').next().unwrap_or(&key)));
            }
            why = said(&verified.stderr);
        }
        Err(not_good(&key, &why))
    }

    fn ask(&self, what: &str, signature: &File, more: &[&str]) -> Result<Output, Refusal> {
        let mut command = Command::new("timeout");
        command.args([PATIENCE, "ssh-keygen", "-Y", what, "-f"]).arg(self.signers);
        // Times without a zone are the host's, whoever calls.
        command.args(["-s", &by_path(signature)]).args(more).env("LC_ALL", "C").env("TZ", ":/etc/localtime");
        let manifest = File::open(by_path(&self.manifest)).map_err(cannot)?;
        let output = command.stdin(manifest).output().map_err(cannot)?;
        match output.status.code() {
            Some(0..=1 | 255) => Ok(output),
            Some(NOT_FOUND) => {
                Err(Refusal::new("`ssh-keygen` is needed to verify signatures, and not installed here")
                    .help("install the package `openssh-client` (Arch: `openssh`)"))
            }
            _ => Err(cannot(io::Error::other(output.status.to_string()))),
        }
    }
}

/// What is wrong with a signature by a key, by the words of ssh-keygen.
fn not_good(key: &str, why: &str) -> Refusal {
    let cases = [
        (
            "for `",
            "for something else",
            "sign it with `rickbuild sign`, or with `ssh-keygen -Y sign -n rick-bundle`",
        ),
        (
            "expired",
            "with a key that has expired",
            "sign it again with one that has not; or look at `valid-before` in /etc/rick/allowed_signers",
        ),
        (
            "not yet valid",
            "with a key that is not yet valid",
            "look whether the clock of this host is right; and at `valid-after` in /etc/rick/allowed_signers",
        ),
        (
            "No principal",
            "by nobody whom this host trusts",
            "if that key is to be trusted, write a line for it into /etc/rick/allowed_signers; else find out whose it is",
        ),
        (
            "not permitted",
            "with a key that this host does not trust with bundles",
            "if it is to be, its line in /etc/rick/allowed_signers says `namespaces=\"rick-bundle\"`",
        ),
        (
            "",
            "and then changed, or has the signature of another build",
            "compile or copy it again; if it is yours, sign it again",
        ),
    ];
    let (_, what, help) = cases.into_iter().find(|(word, ..)| why.contains(word)).unwrap_or_default();
    Refusal::new(format!("the bundle was signed {what}: {key}, {}", why.replace('\n', "; "))).help(help)
}

#[allow(clippy::needless_pass_by_value)] // As `map_err` gives it.
fn cannot(error: io::Error) -> Refusal {
    Refusal::new(format!("cannot run ssh-keygen: {error}"))
}

/// What ssh-keygen says, which is ASCII.
fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// A file in memory that holds this.
fn spooled(bytes: &[u8]) -> Result<File, Refusal> {
    let memory = |flags| memfd_create("rick", MemfdFlags::CLOEXEC | flags);
    // Some hosts refuse memory that could be executed, and before Linux 6.3 none knows how to say that it is not.
    let memory = memory(MemfdFlags::NOEXEC_SEAL).or_else(|_| memory(MemfdFlags::empty()));
    let memory = memory.map_err(|error| cannot(error.into()))?;
    let mut file = File::from(memory);
    file.write_all(bytes).map_err(cannot)?;
    Ok(file)
}

/// Where ssh-keygen finds a file of this process, and reads it from its begin.
fn by_path(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}
