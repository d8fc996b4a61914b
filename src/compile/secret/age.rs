//! The program that encrypts and decrypts: age, or rage, which reads and writes the same. Values go through pipes, and keys are its
//! business: what it asks a person for, and what its plugins say, reaches the terminal.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result};

use crate::refusal::{Refusal, refuse};

/// The first of them that the machine has is asked.
const PROGRAMS: [&str; 2] = ["age", "rage"];

/// Encrypts to each of these keys, as armoured text.
///
/// # Errors
/// There is no such program, or it refuses.
pub(super) fn encrypt(keys: &BTreeSet<&str>, value: &[u8]) -> Result<Vec<u8>> {
    let recipients = keys.iter().flat_map(|key| ["-r", key]);
    let Some(file) = run(&["-a"], recipients, value)? else {
        refuse!("the value could not be encrypted");
    };
    Ok(file)
}

/// Decrypts with the first of these private keys that can.
///
/// # Errors
/// The same.
pub(super) fn decrypt(file: &[u8], identities: &[PathBuf]) -> Result<Vec<u8>> {
    if identities.is_empty() {
        return Err(Refusal::new("there is no private key to decrypt with").help(IDENTITY).into());
    }
    let files = identities.iter().flat_map(|identity| ["-i".into(), identity.clone().into_os_string()]);
    let Some(value) = run(&["-d"], files, file)? else {
        let tried: Vec<String> = identities.iter().map(|identity| identity.display().to_string()).collect();
        let refusal = Refusal::new(format!("no private key of these decrypts it: {}", tried.join(", ")));
        return Err(refusal.help(IDENTITY).into());
    };
    Ok(value)
}

const IDENTITY: &str = "name the file of an operator's private key with --identity FILE, or in RICK_IDENTITY";

/// What it makes of the input; nothing if it refuses, which it has told itself.
fn run<A: AsRef<std::ffi::OsStr>>(
    task: &[&str],
    arguments: impl Iterator<Item = A>,
    input: &[u8],
) -> Result<Option<Vec<u8>>> {
    let arguments: Vec<A> = arguments.collect();
    let mut child = start(|program| {
        let mut command = Command::new(program);
        command.args(task).args(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    })?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut output = Vec::new();
    thread::scope(|scope| {
        // At once, or each could wait for the other. One that ends early does not read it all, and says why.
        scope.spawn(|| stdin.map(|mut pipe| pipe.write_all(input)));
        stdout.map(|mut pipe| pipe.read_to_end(&mut output)).transpose()
    })?;
    Ok(child.wait()?.success().then_some(output))
}

fn start(command: impl Fn(&str) -> Command) -> Result<Child> {
    for program in PROGRAMS {
        match command(program).spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            child => return child.with_context(|| format!("cannot start {program}")),
        }
    }
    let refusal =
        Refusal::new("neither `age` nor `rage` is installed, which encrypt secrets and decrypt them");
    Err(refusal.help("install the package `age`").into())
}
