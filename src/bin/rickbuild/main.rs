//! `rickbuild`: compiles an environment into a bundle. Arguments, one call, exit code.

mod cli;
mod lock;
mod publish;
mod say;
mod secrets;
mod sign;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use clap::error::ErrorKind;
use rick::compile::evaluate::fence;
use rick::compile::finding::Refused;
use rick::compile::secret::scratch;
use rick::compile::{self, Checked, Compiled, How, options};
use rick::refusal::{Refusal, help_for};
use rick::registry::Origin;
use rick::registry::skopeo::Skopeo;

use cli::{Build, Cli, Command, wrong_usage};
use publish::{provenance, send};
use say::{print, say, say_digests, say_progress};
use sign::signer;

/// The source has errors; nothing was written.
const FINDINGS: u8 = 1;
/// The network, or a program, did not give what was asked for, or did not take what was sent.
const REFUSED: u8 = 3;
/// A bug of rick, or something that it did not expect of the machine.
const BUG: u8 = 70;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(io::stderr(), "error: rickbuild has a bug: {panic}");
        std::process::exit(BUG.into());
    }));
    if let Some(code) = evaluation_child().or_else(removing_child) {
        return code;
    }
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            if !error.is::<Refusal>() {
                return ExitCode::from(BUG);
            }
            for line in help_for(&error) {
                let _ = writeln!(io::stderr(), "help: {line}");
            }
            ExitCode::from(REFUSED)
        }
    }
}

/// The work of a fenced evaluation, if that is what this process was started for.
fn evaluation_child() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let [_, command, task, root, name] = arguments.as_slice() else { return None };
    if command != fence::COMMAND {
        return None;
    }
    Some(match fence::serve(&task.to_string_lossy(), Path::new(root), &name.to_string_lossy()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::from(BUG)
        }
    })
}

/// The work of the process that removes a folder in the end, if that is what this one was started for.
fn removing_child() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let [_, command, folder] = arguments.as_slice() else { return None };
    if command != scratch::COMMAND {
        return None;
    }
    Some(match scratch::serve(Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(BUG)
        }
    })
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Some(Command::Completions { shell, program }) => {
            let mut command = program.command();
            let (name, mut script) = (command.get_name().to_owned(), Vec::new());
            clap_complete::generate(*shell, &mut command, name, &mut script);
            print(&script)
        }
        Some(Command::Man { program }) => {
            let mut page = Vec::new();
            clap_mangen::Man::new(program.command()).render(&mut page)?;
            print(&page)
        }
        Some(Command::Check { environment }) => {
            let checked = compile::check(&source_root(cli)?, environment, cache().as_deref())?;
            Ok(say(cli, &checked.findings, &checked.sources))
        }
        Some(Command::Plan { environments, json }) => plan(cli, environments, *json),
        Some(Command::Lock(arguments)) => lock::lock(cli, arguments),
        Some(Command::Secrets { command }) => secrets::secrets(cli, command),
        Some(Command::Show { environment, host, json }) => {
            with_compiled(cli, environment, cli.build.serial, |_, compiled| {
                let text = show(compiled, host.as_deref(), *json)?;
                print(&text).map(drop)
            })
        }
        Some(Command::Publish { environment, to, serial, sign_key, authfile, insecure, no_provenance }) => {
            let skopeo = Skopeo { authfile: authfile.clone(), insecure: *insecure };
            let to = Origin { reference: to.clone(), skopeo };
            let signer = signer(sign_key.as_ref().or(cli.build.sign_key.as_ref()))?;
            with_compiled(cli, environment, serial.or(cli.build.serial), |checked, compiled| {
                let layout = compiled.assemble(signer.as_ref())?;
                let wanted = (!no_provenance).then(|| provenance(environment, checked, compiled, &layout));
                send(cli, environment, &layout, wanted.transpose()?.as_ref(), &to)
            })
        }
        Some(Command::Provenance { environment, slsa, sbom, serial }) => {
            with_compiled(cli, environment, serial.or(cli.build.serial), |checked, compiled| {
                let provenance = provenance(environment, checked, compiled, &compiled.assemble(None)?)?;
                // Whoever names none wants both.
                let (slsa, sbom) = (*slsa || !sbom, *sbom || !slsa);
                let bundle = provenance.bundle();
                let documents = [
                    slsa.then(|| provenance.statement(bundle)).transpose()?,
                    sbom.then(|| provenance.bill(bundle)).transpose()?,
                ];
                let lines = documents.into_iter().flatten().flat_map(|line| [line, b"\n".to_vec()]);
                print(&lines.collect::<Vec<_>>().concat()).map(drop)
            })
        }
        Some(Command::Sign { bundle, key, output }) => sign::sign(cli, bundle, key, output.as_deref()),
        Some(Command::Options { module, markdown, json }) => describe(cli, module, *markdown, *json),
        None => build(cli),
    }
}

/// What hosts keep, and how services move.
fn plan(cli: &Cli, environments: &[String], json: bool) -> Result<ExitCode> {
    let planned = compile::plan(&source_root(cli)?, environments, cache().as_deref())?;
    let code = say(cli, &planned.findings, &planned.sources);
    match planned.plan {
        Some(plan) if json => print((serde_json::to_string_pretty(&plan)? + "\n").as_bytes()),
        Some(plan) => print(plan.text().as_bytes()),
        None => Ok(code),
    }
}

/// What the modules of one file can be told.
fn describe(cli: &Cli, module: &str, markdown: bool, json: bool) -> Result<ExitCode> {
    let description = fence::describe(&source_root(cli)?, module)?;
    let code = say(cli, &description.findings, &description.sources);
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let modules = &description.modules;
    let text = match (json, markdown) {
        (true, _) => serde_json::to_string_pretty(modules)? + "\n",
        (_, true) => modules.iter().map(options::markdown).collect::<Vec<_>>().join("\n"),
        _ => modules.iter().map(options::text).collect::<Vec<_>>().join("\n"),
    };
    print(text.as_bytes())
}

/// The main job: the bundle to where it is wanted, then the digests to standard error.
fn build(cli: &Cli) -> Result<ExitCode> {
    let Build { environment, output, layout: directory, quiet, .. } = &cli.build;
    let Some(environment) = environment else {
        wrong_usage(ErrorKind::MissingRequiredArgument, "name an environment: `rickbuild ENVIRONMENT`");
    };
    let to_stdout = directory.is_none() && output.as_os_str() == "-";
    if to_stdout && io::stdout().is_terminal() {
        let message = format!("a bundle is no text for a terminal: `rickbuild {environment} > bundle.tar`");
        wrong_usage(ErrorKind::InvalidValue, message);
    }
    let signer = signer(cli.build.sign_key.as_ref())?;
    with_compiled(cli, environment, cli.build.serial, |_, compiled| {
        let layout = compiled.assemble(signer.as_ref())?;
        if let Some(directory) = directory {
            layout
                .write_directory(directory, &compile::known_in(cache().as_deref(), directory))
                .with_context(|| format!("cannot write the bundle to {}", directory.display()))?;
        } else {
            write_bundle(output, &|out| layout.write(out))?;
        }
        if !quiet {
            say_digests(cli, &layout);
        }
        Ok(())
    })
}

/// Compiles, says the findings, and goes on if none is an error.
fn with_compiled(
    cli: &Cli,
    environment: &str,
    serial: Option<u64>,
    then: impl FnOnce(&Checked, &Compiled) -> Result<()>,
) -> Result<ExitCode> {
    let cache = cache();
    let checked = compile::check(&source_root(cli)?, environment, cache.as_deref())?;
    let code = say(cli, &checked.findings, &checked.sources);
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let tell = |what: &str| {
        if !cli.build.quiet {
            say_progress(cli, what);
        }
    };
    let how = How { cache: cache.as_deref(), serial, rebuild: cli.build.rebuild, tell: &tell };
    match compile::compile(&checked, how).and_then(|compiled| then(&checked, &compiled)) {
        Ok(()) => Ok(code),
        Err(error) => match error.downcast_ref::<Refused>() {
            Some(Refused(findings)) => Ok(say(cli, findings, &checked.sources)),
            None => Err(error),
        },
    }
}

/// The source root that was named, or the nearest folder upwards that has `environments/`.
fn source_root(cli: &Cli) -> Result<PathBuf> {
    if let Some(root) = &cli.common.root {
        if !root.is_dir() {
            wrong_usage(ErrorKind::InvalidValue, format!("--root: `{}` is not a folder", root.display()));
        }
        return Ok(root.clone());
    }
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    let Some(root) = here.ancestors().find(|folder| folder.join("environments").is_dir()) else {
        let message = format!(
            "neither `{}` nor a folder above it has environments/: name the source root with --root DIR",
            here.display()
        );
        wrong_usage(ErrorKind::MissingRequiredArgument, message);
    };
    Ok(root.to_owned())
}

/// Where is kept what makes the next build faster; nowhere if no cache folder is known.
fn cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(base.join("rick"))
}

/// Writes a bundle to a file, or to standard output: `-`.
fn write_bundle(output: &Path, write: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    if output.as_os_str() == "-" {
        return write(&mut io::BufWriter::new(io::stdout().lock()))
            .context("cannot write the bundle to standard output");
    }
    write_file(output, write).with_context(|| format!("cannot write the bundle to {}", output.display()))
}

/// Writes to a file, which appears whole or not at all; a device or pipe is written to as it is.
fn write_file(output: &Path, write: &dyn Fn(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    // A link is followed: what it leads to is replaced, not the link.
    let path = fs::canonicalize(output).unwrap_or_else(|_| output.to_owned());
    if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
        return write(&mut io::BufWriter::new(OpenOptions::new().write(true).open(&path)?));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such folder"));
    }
    // With the permissions of any new file, which the umask narrows.
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    write(&mut io::BufWriter::new(file.as_file_mut()))?;
    File::sync_all(file.as_file())?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

/// What each host would get, or the one that was named.
fn show(compiled: &Compiled, host: Option<&str>, json: bool) -> Result<Vec<u8>> {
    let all = compiled.hosts.iter().map(|(lowered, _)| lowered);
    let hosts: Vec<_> =
        all.filter(|lowered| host.is_none_or(|name| lowered.manifest.host.as_str() == name)).collect();
    if let (Some(name), true) = (host, hosts.is_empty()) {
        let known: Vec<_> =
            compiled.hosts.iter().map(|(lowered, _)| lowered.manifest.host.as_str()).collect();
        let message = format!("the environment has no host `{name}`; its hosts: {}", known.join(", "));
        wrong_usage(ErrorKind::InvalidValue, message);
    }
    let mut text = Vec::new();
    if json {
        compile::show::json(&hosts, &mut text)?;
    } else {
        compile::show::text(&hosts, &mut text)?;
    }
    Ok(text)
}
