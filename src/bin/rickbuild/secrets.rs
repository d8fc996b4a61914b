//! `rickbuild secrets`: what is asked for, to what was written and how it ended.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Args, Subcommand};
use rick::bundle::names::SecretName;
use rick::compile::finding::Severity;
use rick::compile::secret::keeper::{Anew, Keeper};
use rick::compile::secret::overview;
use rick::compile::secret::shape::Shape;
use rick::compile::{self, Checked};

use crate::cli::{Cli, wrong_usage};
use crate::say::{print, say, say_progress};
use crate::{FINDINGS, cache, source_root};

#[derive(Subcommand)]
pub(crate) enum Secrets {
    /// Write a secret that comes on standard input, or is typed
    ///
    /// From a pipe or file the value is taken byte for byte, a line break at its end included. At a terminal it is asked for twice, and not
    /// shown.
    #[command(after_help = SET_EXAMPLES)]
    Set {
        #[command(flatten)]
        of: Named,
        /// Also if no host needs it (yet): then only the operators can read it
        #[arg(long)]
        new: bool,
    },
    /// Write secrets at random: for those that no person needs to know
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate {
        /// The environment: the name of a file in environments/, without `.star`
        environment: String,
        /// The secrets, by the names that modules give them
        #[arg(value_name = "NAME", required_unless_present = "missing", conflicts_with = "missing")]
        names: Vec<SecretName>,
        /// All that hosts need and that are not there
        #[arg(long)]
        missing: bool,
        /// What they are written with
        #[arg(long, value_enum, value_name = "SHAPE", default_value_t = Shape::Base64url)]
        shape: Shape,
        /// How many characters [default: as many as make 256 bits, which nobody guesses]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
        length: Option<u16>,
        /// Replace those that are there
        #[arg(long)]
        force: bool,
        /// Also if no host needs them (yet): then only the operators can read them
        #[arg(long)]
        new: bool,
    },
    /// Change a secret in an editor
    ///
    /// It is in clear in a folder in memory, which only you can enter and which goes whole, with all that the editor puts beside, however
    /// this ends. The editor is $VISUAL, $EDITOR or vi. If the value had no line break at its end, the one that the editor adds is left out.
    Edit {
        #[command(flatten)]
        of: Named,
        #[command(flatten)]
        with: Identities,
        /// Also if no host needs it (yet): then only the operators can read it
        #[arg(long)]
        new: bool,
    },
    /// Encrypt to those who are declared what is encrypted to others: after a host or an operator came or left
    ///
    /// Says for each file who came (`+`) and who left (`-`). Who has left knows the values all the same: make new ones, with `set` or
    /// `generate --force`. Keys of age itself and of plugins cannot be told from one another in a file, so if one of them took another's
    /// place, say --all.
    Rekey {
        /// The environment: the name of a file in environments/, without `.star`
        environment: String,
        /// Only these secrets
        #[arg(value_name = "NAME")]
        names: Vec<SecretName>,
        /// Also those whose readers seem to be right
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        with: Identities,
    },
    /// Print who can read what, what is missing and what is not needed; the exit code is 1 if something is wrong
    ///
    /// Needs no private key. A build says the same where it matters to it.
    Check {
        /// The environment: the name of a file in environments/, without `.star`
        environment: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct Named {
    /// The environment: the name of a file in environments/, without `.star`
    environment: String,
    /// The secret, by the name that modules give it
    name: SecretName,
}

const IDENTITY: &str = "A file with a private key that decrypts, of SSH or of age; may be said more than once [default: $RICK_IDENTITY, or those that are there of ~/.config/rick/identity, ~/.ssh/id_ed25519 and ~/.ssh/id_rsa]";

#[derive(Args)]
pub(crate) struct Identities {
    #[arg(short, long, value_name = "FILE", help = IDENTITY)]
    identity: Vec<PathBuf>,
}

pub(crate) const EXAMPLES: &str = "\
Examples:
  rickbuild secrets check homelab                  who can read what, and what is missing
  rickbuild secrets generate homelab --missing     random values for all that is not there
  rickbuild secrets set homelab smtp-password      a value that somebody gave you
  rickbuild secrets edit homelab smtp-password     change it in an editor
  rickbuild secrets rekey homelab                  after a host or an operator came or left

The secret NAME of the environment ENV is the file secrets/ENV/NAME.age, which age and rage can read:
  age -d -i ~/.ssh/id_ed25519 secrets/homelab/smtp-password.age

Needs the program age, or rage.";

const SET_EXAMPLES: &str = "\
Examples:
  rickbuild secrets set homelab smtp-password                asks for it
  rickbuild secrets set homelab tls-key < key.pem            a whole file
  pass smtp | head -c -1 | rickbuild secrets set homelab smtp-password
                                                             from another store, without its line break";

const GENERATE_EXAMPLES: &str = "\
Examples:
  rickbuild secrets generate homelab --missing
  rickbuild secrets generate homelab app-key --shape hex --length 32
  rickbuild secrets generate homelab db-password --force     a new one: who reads it restarts with the next switch";

/// Secrets of the source tree.
pub(crate) fn secrets(cli: &Cli, command: &Secrets) -> Result<ExitCode> {
    let root = source_root(cli)?;
    match command {
        Secrets::Set { of: Named { environment, name }, new } => {
            with_keeper(cli, &root, environment, asked(std::slice::from_ref(name), *new), |keeper| {
                keeper.set(name)
            })
        }
        Secrets::Generate { environment, names, missing, shape, length, force, new } => {
            let length = length.map_or(shape.usual_length(), usize::from);
            with_keeper(cli, &root, environment, asked(names, *new), |keeper| {
                let names = if *missing { keeper.missing() } else { names.clone() };
                if names.is_empty() {
                    say_progress(cli, "nothing is missing");
                }
                keeper.generate(&names, *shape, length, *force)
            })
        }
        Secrets::Edit { of: Named { environment, name }, with, new } => {
            with_keeper(cli, &root, environment, asked(std::slice::from_ref(name), *new), |keeper| {
                keeper.edit(name, &with.files())
            })
        }
        Secrets::Rekey { environment, names, all, with } => {
            with_keeper(cli, &root, environment, &[], |keeper| {
                keeper.rekey(Anew { names, all: *all }, &with.files())
            })
        }
        Secrets::Check { environment, json } => check(cli, &root, environment, *json),
    }
}

/// The names that must be known.
fn asked(names: &[SecretName], new: bool) -> &[SecretName] {
    if new { &[] } else { names }
}

fn with_keeper(
    cli: &Cli,
    root: &Path,
    environment: &str,
    asked: &[SecretName],
    then: impl FnOnce(&Keeper<'_>) -> Result<()>,
) -> Result<ExitCode> {
    let checked = match look(cli, root, environment)? {
        Ok(checked) => checked,
        Err(code) => return Ok(code),
    };
    let tell = |line: &str| say_progress(cli, line);
    let keeper = Keeper::new(root, environment, &checked, &tell)?;
    if let Some(message) = keeper.unknown(asked) {
        wrong_usage(ErrorKind::InvalidValue, message);
    }
    then(&keeper).map(|()| ExitCode::SUCCESS)
}

fn check(cli: &Cli, root: &Path, environment: &str, json: bool) -> Result<ExitCode> {
    let checked = match look(cli, root, environment)? {
        Ok(checked) => checked,
        Err(code) => return Ok(code),
    };
    let rows = overview::rows(environment, &checked);
    let text = if json { serde_json::to_string_pretty(&rows)? + "\n" } else { overview::text(&rows) };
    print(text.as_bytes())?;
    say(cli, &checked.sealed, &checked.sources);
    Ok(if checked.sealed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) })
}

/// An environment that has no errors but in its secrets; else the exit code, once they are said.
fn look(cli: &Cli, root: &Path, environment: &str) -> Result<Result<Checked, ExitCode>> {
    let checked = compile::check_for_secrets(root, environment, cache().as_deref())?;
    let errors = checked.findings.iter().any(|finding| finding.severity == Severity::Error);
    Ok(if errors { Err(say(cli, &checked.findings, &checked.sources)) } else { Ok(checked) })
}

impl Identities {
    /// Those that are named, or the usual ones that are there.
    fn files(&self) -> Vec<PathBuf> {
        if !self.identity.is_empty() {
            return self.identity.clone();
        }
        if let Some(file) = std::env::var_os("RICK_IDENTITY").filter(|file| !file.is_empty()) {
            return vec![file.into()];
        }
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let of_config =
            std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let config = of_config.or_else(|| Some(home.as_ref()?.join(".config")));
        let own = config.map(|folder| folder.join("rick/identity"));
        let of_ssh =
            home.iter().flat_map(|home| ["id_ed25519", "id_rsa"].map(|name| home.join(".ssh").join(name)));
        own.into_iter().chain(of_ssh).filter(|file| file.is_file()).collect()
    }
}
