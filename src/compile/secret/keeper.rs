//! Secrets written: by hand, at random, or for other readers. The only place that changes `secrets/`.
//!
//! A value is in clear in pipes and in memory only; each file appears whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::audience::{Audience, Difference, audiences};
use super::folder::MAX_FILE;
use super::header::{Header, Wrong};
use super::scratch::Scratch;
use super::shape::Shape;
use super::{FOLDER, age, editor, file_of, folder_of, name_of, prompt};
use crate::bundle::names::SecretName;
use crate::compile::Checked;
use crate::compile::similar::did_you_mean;
use crate::compile::source::SourcePath;
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// The secrets of an environment, to be written.
pub struct Keeper<'a> {
    root: &'a Path,
    environment: &'a str,
    checked: &'a Checked,
    audiences: BTreeMap<&'a SecretName, Audience<'a>>,
    /// Is told what was done, a line for each.
    tell: &'a dyn Fn(&str),
}

/// Which files are encrypted anew.
#[derive(Clone, Copy, Debug)]
pub struct Anew<'a> {
    /// Only these; all if there are none.
    pub names: &'a [SecretName],
    /// Also those that need not.
    pub all: bool,
}

impl<'a> Keeper<'a> {
    /// The secrets of an environment that has no errors.
    ///
    /// # Errors
    /// What lies in the place of the folder is none.
    pub fn new(
        root: &'a Path,
        environment: &'a str,
        checked: &'a Checked,
        tell: &'a dyn Fn(&str),
    ) -> Result<Self> {
        for folder in [SourcePath(FOLDER.to_owned()), folder_of(environment)] {
            if checked.secrets.files.contains_key(&folder) {
                refuse!("`{folder}` is no folder: it could lead out of the source tree");
            }
        }
        let audiences = audiences(&checked.hosts, &checked.operators);
        Ok(Self { root, environment, checked, audiences, tell })
    }

    /// Why one of these is no secret that a host takes from the source tree, and what may be meant.
    pub fn unknown(&self, names: &[SecretName]) -> Option<String> {
        let name = names.iter().find(|name| !self.audiences.contains_key(name))?;
        if let Some(host) = self.checked.hosts.iter().find(|host| host.secrets.contains_key(name)) {
            let (name, host) = (name.as_str(), &host.name);
            return Some(format!(
                "`{host}` needs `{name}`, and keeps its secrets itself, since it says no `ssh_key`"
            ));
        }
        let known = self.audiences.keys().map(|name| name.as_str());
        let advice = did_you_mean(name.as_str(), known)
            .unwrap_or_else(|| "`--new` writes it all the same, for the operators".to_owned());
        Some(format!("no host of `{}` needs the secret `{name}`: {advice}", self.environment))
    }

    /// Writes what comes on standard input, byte for byte; from a terminal, what is typed, without the end of the line.
    ///
    /// # Errors
    /// There is nothing, or too much; age refuses; what the machine says.
    pub fn set(&self, name: &SecretName) -> Result<()> {
        if io::stdin().is_terminal() {
            return self.write(name, &prompt::ask(name.as_str())?);
        }
        let mut value = Vec::new();
        io::stdin()
            .lock()
            .take(MAX_FILE + 1)
            .read_to_end(&mut value)
            .context("cannot read standard input")?;
        self.write(name, &value)?;
        if value.strip_suffix(b"\n").is_some_and(|line| !line.contains(&b'\n')) {
            (self.tell)("note: the value ends with a line break, as it came: `printf %s` writes none");
        }
        Ok(())
    }

    /// Writes random values.
    ///
    /// # Errors
    /// One of them is there, and `replace` is not said: then none is written. Otherwise as of [`Self::set`].
    pub fn generate(&self, names: &[SecretName], shape: Shape, length: usize, replace: bool) -> Result<()> {
        let there = |name: &&SecretName| self.checked.secrets.files.contains_key(&self.file(name));
        if let (Some(name), false) = (names.iter().find(there), replace) {
            let refusal =
                Refusal::new(format!("`{}` is there already, so nothing is written", self.file(name)));
            return Err(refusal.help("--force replaces it, and the value that it has is gone").into());
        }
        names.iter().try_for_each(|name| self.write(name, &shape.random(length)?))
    }

    /// The secrets that hosts need and that are not there.
    pub fn missing(&self) -> Vec<SecretName> {
        let missing = |name: &&&SecretName| !self.checked.secrets.files.contains_key(&self.file(name));
        self.audiences.keys().filter(missing).map(|name| (*name).clone()).collect()
    }

    /// Has a person change a value. One that had no line break at its end gets none from the editor.
    ///
    /// # Errors
    /// As of [`Self::set`]; none of these private keys opens the file, or the editor fails.
    pub fn edit(&self, name: &SecretName, identities: &[PathBuf]) -> Result<()> {
        let scratch = Scratch::new()?;
        let there = self.checked.secrets.files.contains_key(&self.file(name));
        let before = if there { self.read(name, identities)? } else { Vec::new() };
        let path = scratch.path().join(name.as_str());
        durable::write_new(&path, &before, 0o600)?;
        editor::edit(&path)?;
        let mut after = fs::read(&path).context("the editor has left no file")?;
        if !before.ends_with(b"\n") && after.ends_with(b"\n") {
            after.pop();
        }
        if before == after {
            (self.tell)(&format!("{}  as it was", self.file(name)));
            return Ok(());
        }
        self.write(name, &after)
    }

    /// Encrypts to those who are declared what is encrypted to others.
    ///
    /// # Errors
    /// At the first file that no private key opens; those before it are done. At the end, if there are files that hold no secret.
    pub fn rekey(&self, anew: Anew<'_>, identities: &[PathBuf]) -> Result<()> {
        let (mut done, mut right, mut left, mut wrong) = (0, 0, false, Vec::new());
        for (file, header) in &self.checked.secrets.files {
            let name = name_of(self.environment, file);
            let Some(name) = name.filter(|name| anew.names.is_empty() || anew.names.contains(name)) else {
                continue;
            };
            let difference = match header {
                Ok(header) => self.audience(&name).compare(header),
                Err(Wrong::Binary) => Difference::default(),
                Err(_) => {
                    wrong.push(format!("`{file}`"));
                    continue;
                }
            };
            if header.is_ok() && difference.is_none() && !anew.all {
                right += 1;
                continue;
            }
            self.encrypt(&name, &self.read(&name, identities)?)?;
            left |= !difference.others.is_empty();
            (self.tell)(&format!("{file}  {}", changes(&difference)));
            done += 1;
        }
        (self.tell)(&format!("{done} encrypted anew, {right} left as they were"));
        if left {
            (self.tell)(
                "note: who has left could read these values, and still can in the history: make new ones",
            );
        }
        if !wrong.is_empty() {
            let refusal =
                Refusal::new(format!("left as they are, since they hold no secret: {}", wrong.join(", ")));
            return Err(refusal.help(format!("see `rickbuild secrets check {}`", self.environment)).into());
        }
        Ok(())
    }

    fn file(&self, name: &SecretName) -> SourcePath {
        file_of(self.environment, name)
    }

    /// One that no host needs is for the operators.
    fn audience(&self, name: &SecretName) -> Audience<'a> {
        let operators = &self.checked.operators;
        self.audiences.get(name).cloned().unwrap_or(Audience { operators, ..Audience::default() })
    }

    fn read(&self, name: &SecretName, identities: &[PathBuf]) -> Result<Vec<u8>> {
        let file = self.file(name);
        match self.checked.secrets.files.get(&file) {
            Some(Ok(_) | Err(Wrong::Binary)) => {}
            _ => refuse!("`{file}` is no age file: see `rickbuild secrets check {}`", self.environment),
        }
        let sealed = fs::read(self.root.join(&file.0)).with_context(|| format!("cannot read {file}"))?;
        age::decrypt(&sealed, identities).with_context(|| format!("cannot decrypt {file}"))
    }

    fn write(&self, name: &SecretName, value: &[u8]) -> Result<()> {
        let file = self.file(name);
        let what = if self.checked.secrets.files.contains_key(&file) { "replaced" } else { "new" };
        self.encrypt(name, value)?;
        (self.tell)(&format!("{file}  {what}, for {}", self.audience(name).readers().join(", ")));
        Ok(())
    }

    fn encrypt(&self, name: &SecretName, value: &[u8]) -> Result<()> {
        let (file, audience) = (self.file(name), self.audience(name));
        if value.is_empty() {
            refuse!("the value of `{name}` is empty, so nothing is changed");
        }
        let keys = audience.keys();
        if keys.is_empty() {
            let refusal = Refusal::new(format!("nobody could read `{file}`, so it is not written"));
            return Err(refusal
                .help("name who keeps secrets: `environment(…, operators = [\"age1…\"])`")
                .into());
        }
        let sealed = age::encrypt(&keys, value).with_context(|| format!("cannot encrypt {file}"))?;
        if sealed.len() as u64 > MAX_FILE {
            refuse!(
                "the value of `{name}` is too large: its file would have more than {} KiB",
                MAX_FILE >> 10
            );
        }
        match Header::of(&sealed) {
            Ok(header) if audience.compare(&header).is_none() => {}
            _ => bail!("what age made of {file} is not what it was asked for"),
        }
        self.replace(&file, &sealed).with_context(|| format!("cannot write {file}"))
    }

    fn replace(&self, file: &SourcePath, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(&file.0);
        let folder = path.parent().context("it has no folder")?;
        fs::create_dir_all(folder)?;
        // Its name begins with a dot, so that nobody takes it for a secret; the umask narrows its permissions.
        let mut new = tempfile::Builder::new();
        let mut new = new.permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
        new.write_all(bytes)?;
        new.as_file().sync_all()?;
        new.persist(&path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Who came, and who left.
fn changes(difference: &Difference) -> String {
    let hosts = difference.hosts.iter().map(|host| format!("+ {host}"));
    let operators = difference.operators.iter().map(|operator| format!("+ {operator}"));
    let others = difference.others.iter().map(|other| format!("- {other}"));
    let changes: Vec<String> = hosts.chain(operators).chain(others).collect();
    if changes.is_empty() { "anew".to_owned() } else { changes.join("  ") }
}
