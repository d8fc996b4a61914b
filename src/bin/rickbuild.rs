//! `rickbuild`: compiles an environment into a bundle. Arguments, one call, exit code.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use rick::compile::evaluate::fence;
use rick::compile::finding::{Finding, Severity};
use rick::compile::source::Sources;
use rick::compile::{self, Compiled, report};

/// The source has errors; nothing was written.
const FINDINGS: u8 = 1;
/// A bug of rick, or something that it did not expect of the machine.
const BUG: u8 = 70;

/// Compile an environment into one content-addressed bundle for its hosts.
///
/// `rickbuild ENV` reads `environments/ENV.star` and all that it loads, checks everything that can be known before a host is
/// touched, and writes the bundle to standard output: an OCI image layout in a tar archive, the same bytes every time.
#[derive(Parser)]
#[command(name = "rickbuild", version, subcommand_precedence_over_arg = true)]
#[command(after_help = "\
Examples:
  rickbuild homelab > bundle.tar    compile
  rickbuild check homelab           look for mistakes only
  rickbuild show homelab            print what each host would get, file by file

Exit codes:
  0   done
  1   the source has errors; nothing was written
  2   the command line is wrong
  70  a bug of rick, or the machine failed (no space, no permission)")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    build: Build,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Build {
    /// The environment: the name of a file in environments/, without `.star`
    environment: Option<String>,
    /// Write the bundle to FILE instead of standard output; the file appears whole or not at all
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Args)]
struct Common {
    /// The source root [default: the nearest folder upwards that has environments/]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// How to say findings: for people, or one JSON object a line for tools
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Human)]
    message_format: Format,
    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Colour::Auto)]
    color: Colour,
}

#[derive(Subcommand)]
enum Command {
    /// Look for mistakes; build no images and write nothing
    Check {
        /// The environment
        environment: String,
    },
    /// Print what each host would get, file by file
    Show {
        /// The environment
        environment: String,
        /// Only this host
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
        /// Of which program
        #[arg(long, value_enum, value_name = "PROGRAM", default_value_t = Program::Rickbuild)]
        program: Program,
    },
    /// Print the manual page
    Man {
        /// Of which program
        #[arg(value_enum, value_name = "PROGRAM", default_value_t = Program::Rickbuild)]
        program: Program,
    },
}

/// Both programs: the one for hosts stays small, and leaves this to the other.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Program {
    Rickbuild,
    RickActivate,
}

impl Program {
    fn command(self) -> clap::Command {
        match self {
            Self::Rickbuild => Cli::command(),
            Self::RickActivate => rick::activate::cli::Arguments::command(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

fn main() -> ExitCode {
    if let Some(code) = evaluation_child() {
        return code;
    }
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(BUG)
        }
    }
}

/// The work of a fenced evaluation, if that is what this process was started for.
fn evaluation_child() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let [_, command, root, environment] = arguments.as_slice() else { return None };
    if command != fence::COMMAND {
        return None;
    }
    let served = fence::serve(Path::new(root), &environment.to_string_lossy());
    Some(if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(BUG) })
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Some(Command::Completions { shell, program }) => {
            let mut command = program.command();
            let (name, mut text) = (command.get_name().to_owned(), Vec::new());
            clap_complete::generate(*shell, &mut command, name, &mut text);
            write_out(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Man { program }) => {
            let mut text = Vec::new();
            clap_mangen::Man::new(program.command()).render(&mut text)?;
            write_out(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Check { environment }) => {
            let root = source_root(cli)?;
            let checked = compile::check(&root, environment);
            Ok(say(cli, &checked.findings, &checked.sources))
        }
        Some(Command::Show { environment, host, json }) => with_compiled(cli, environment, |compiled| {
            let text = show(compiled, host.as_deref(), *json)?;
            write_out(&text)
        }),
        None => {
            let Some(environment) = &cli.build.environment else {
                Cli::command()
                    .error(
                        clap::error::ErrorKind::MissingRequiredArgument,
                        "name an environment: rickbuild ENV",
                    )
                    .exit()
            };
            if cli.build.output.is_none() && io::stdout().is_terminal() {
                Cli::command()
                    .error(
                        clap::error::ErrorKind::InvalidValue,
                        format!(
                            "a bundle is no text for a terminal: write `rickbuild {environment} > bundle.tar`"
                        ),
                    )
                    .exit()
            }
            with_compiled(cli, environment, |compiled| bundle(compiled, cli.build.output.as_deref()))
        }
    }
}

/// Compiles, says the findings, and goes on if none is an error.
fn with_compiled(
    cli: &Cli,
    environment: &str,
    then: impl FnOnce(&Compiled) -> Result<()>,
) -> Result<ExitCode> {
    let root = source_root(cli)?;
    let checked = compile::check(&root, environment);
    let code = say(cli, &checked.findings, &checked.sources);
    if code == ExitCode::SUCCESS {
        then(&compile::compile(&checked, image_cache().as_deref())?)?;
    }
    Ok(code)
}

/// Says the findings on standard error; the exit code that they call for.
fn say(cli: &Cli, findings: &[Finding], sources: &Sources) -> ExitCode {
    let coloured = match cli.common.color {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => {
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    };
    let text = match cli.common.message_format {
        Format::Human => report::render(findings, sources, coloured),
        Format::Json => report::json(findings, sources),
    };
    // Nobody is left to tell if standard error is closed.
    let _ = io::stderr().write_all(text.as_bytes());
    let errors = findings.iter().any(|finding| finding.severity == Severity::Error);
    if errors { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

/// The source root that was named, or the nearest folder upwards that has `environments/`.
fn source_root(cli: &Cli) -> Result<PathBuf> {
    if let Some(root) = &cli.common.root {
        return Ok(root.clone());
    }
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    match here.ancestors().find(|folder| folder.join("environments").is_dir()) {
        Some(root) => Ok(root.to_owned()),
        None => Cli::command()
            .error(
                clap::error::ErrorKind::MissingRequiredArgument,
                format!("neither `{}` nor a folder above it has environments/: name the source root with --root DIR", here.display()),
            )
            .exit(),
    }
}

/// Where built layers are kept between runs; nowhere if no cache folder is known.
fn image_cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(base.join("rick"))
}

/// Writes the bundle to a file, which appears whole or not at all, or to standard output.
fn bundle(compiled: &Compiled, output: Option<&Path>) -> Result<()> {
    let layout = compiled.assemble()?;
    let Some(path) = output else {
        let mut out = io::BufWriter::new(io::stdout().lock());
        return layout.write(&mut out).context("cannot write the bundle to standard output");
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let what = || format!("cannot write the bundle to {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(what)?;
    layout.write(io::BufWriter::new(&mut file)).with_context(what)?;
    file.as_file().sync_all().with_context(what)?;
    file.persist(path).with_context(what)?;
    Ok(())
}

/// What each host would get, or the one that was named.
fn show(compiled: &Compiled, host: Option<&str>, json: bool) -> Result<Vec<u8>> {
    let all = compiled.hosts.iter().map(|(lowered, _)| lowered);
    let hosts: Vec<_> =
        all.filter(|lowered| host.is_none_or(|name| lowered.manifest.host.as_str() == name)).collect();
    if let (Some(name), true) = (host, hosts.is_empty()) {
        Cli::command()
            .error(clap::error::ErrorKind::InvalidValue, format!("the environment has no host `{name}`"))
            .exit()
    }
    let mut text = Vec::new();
    if json {
        compile::show::json(&hosts, &mut text)?;
    } else {
        compile::show::text(&hosts, &mut text)?;
    }
    Ok(text)
}

/// Writes text to standard output; a reader that went away is no error.
fn write_out(text: &[u8]) -> Result<()> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}
