//! `rickbuild lock`: what is asked for, to what was changed and how it ended.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use rick::compile::fetch::{Progress, Settings};
use rick::compile::lock::Anew;
use rick::compile::outside::Url;
use rick::compile::update::{self, End, Request};

use crate::cli::{Cli, Format, LockArguments, wrong_usage};
use crate::say::say;
use crate::{FINDINGS, REFUSED, cache, source_root};

/// What comes from outside into `rick.lock` and the cache.
pub(crate) fn lock(cli: &Cli, arguments: &LockArguments) -> Result<ExitCode> {
    let root = source_root(cli)?;
    let whole = arguments.environments.is_empty();
    let environments = if whole { environments_of(&root)? } else { arguments.environments.clone() };
    if environments.is_empty() {
        let message = format!("{} holds no environment", root.join("environments").display());
        wrong_usage(ErrorKind::MissingRequiredArgument, message);
    }
    let mirror: Result<Url, _> = format!("{}/debian", arguments.debian_mirror).parse();
    if mirror.is_err() || arguments.debian_mirror.ends_with('/') {
        let message =
            format!("--debian-mirror: `{}` is no URL without a `/` at its end", arguments.debian_mirror);
        wrong_usage(ErrorKind::InvalidValue, message);
    }
    let settings = Settings {
        debian_mirror: arguments.debian_mirror.clone(),
        insecure_registries: arguments.insecure_registry.clone(),
    };
    let cache = cache();
    let request = Request {
        root: &root,
        environments: &environments,
        whole,
        anew: if arguments.update_all { Anew::All } else { Anew::Named(&arguments.update) },
        only_check: arguments.check,
        cache: cache.as_deref(),
        settings: &settings,
    };
    let progress = Progress::new(cli.common.message_format == Format::Json);
    let updated = update::update(&request, &progress)?;
    say(cli, &updated.findings, &updated.sources);
    Ok(match updated.end {
        End::Done => ExitCode::SUCCESS,
        End::Wrong | End::WouldChange => ExitCode::from(FINDINGS),
        End::Refused => ExitCode::from(REFUSED),
        End::Unknown(names) => {
            let message =
                format!("--update: no environment that was looked at wants `{}`", names.join("`, `"));
            wrong_usage(ErrorKind::InvalidValue, message);
        }
    })
}

/// The names of all environments, sorted.
fn environments_of(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("environments");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "star") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}
