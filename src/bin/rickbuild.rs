//! `rickbuild`: compiles an environment into a bundle. Arguments, one call, exit code.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use rick::bundle::digest::Digest;
use rick::bundle::names::HostName;
use rick::compile::emit::Layout;
use rick::compile::evaluate::fence;
use rick::compile::fetch::{self, Progress, Settings};
use rick::compile::finding::{Finding, Refused, Severity};
use rick::compile::lock::Anew;
use rick::compile::outside::Url;
use rick::compile::provenance::Provenance;
use rick::compile::source::Sources;
use rick::compile::store::Store;
use rick::compile::update::{self, End, Request};
use rick::compile::{self, Checked, Compiled, How, options, publish, report};
use rick::refusal::{Refusal, help_for};
use rick::registry::Origin;
use rick::registry::reference::{Reference, Version};
use rick::registry::skopeo::Skopeo;
use tempfile::TempDir;

/// The source has errors; nothing was written.
const FINDINGS: u8 = 1;
/// The network, or a program that asks it, did not give what was asked for, or did not take what was sent.
const REFUSED: u8 = 3;
/// A bug of rick, or something that it did not expect of the machine.
const BUG: u8 = 70;

const USAGE: &str = "rickbuild [OPTIONS] <ENVIRONMENT>
       rickbuild [OPTIONS] <COMMAND>";

/// Compile an environment into one content-addressed bundle for its hosts.
///
/// `rickbuild ENV` reads `environments/ENV.star` and all that it loads, checks everything that can be known before a host is
/// touched, and writes the bundle to standard output: an OCI image layout in a tar archive, the same bytes every time.
#[derive(Parser)]
#[command(name = "rickbuild", version, override_usage = USAGE, subcommand_precedence_over_arg = true)]
#[command(after_help = "\
Examples:
  rickbuild homelab > bundle.tar    compile
  rickbuild homelab --layout DIR    compile to a directory, for skopeo and others
  rickbuild homelab --rebuild       see that each build makes the same again
  rickbuild check homelab           look for mistakes only
  rickbuild lock                    write into rick.lock which one everything from outside is
  rickbuild show homelab            print what each host would get, file by file
  rickbuild options postgresql      print what a module can be told
  rickbuild publish homelab registry.example.org/homelab:stable
                                    compile, and send to a registry what it lacks of that
  rickbuild provenance homelab      print what the build read, and what is in its images

Findings go to standard error, and so does, when the bundle is written, each host with its digest: the
name of all that it gets, the same for the same source.

Exit codes:
  0   done
  1   the source has errors, or something cannot be built; nothing was written
  2   the command line is wrong
  3   the network did not give what was asked for, or a registry did not take what was sent
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
    /// Write the bundle to FILE, which appears whole or not at all; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    output: PathBuf,
    /// Write the bundle as a directory, an OCI image layout, in the place of a tar archive. What is there already is not written
    /// again, and nothing is removed from it
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    layout: Option<PathBuf>,
    /// Number the build: a host refuses a bundle whose number is lower than one that it had. It counts up from build to
    /// build, as the number of the CI's run or of the commits does; without it, the bundle has none
    #[arg(long, value_name = "N")]
    serial: Option<u64>,
    /// Run each build twice, also those whose result is known, and fail if what they make differs
    #[arg(long)]
    rebuild: bool,
    /// Do not say the digests of the hosts, nor what is built
    #[arg(short, long)]
    quiet: bool,
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
        /// The environment: the name of a file in environments/, without `.star`
        environment: String,
    },
    /// Write into rick.lock which one everything from outside the source tree is, and fetch what builds need of it
    ///
    /// The only command that asks the network. What has an entry keeps it, unless --update names it: a tag that has moved is not followed.
    /// Each change is said in a line: `+` new, `~` another, `-` gone because no environment wants it any more.
    #[command(after_help = LOCK_EXAMPLES)]
    Lock(LockArguments),
    /// Compile, and send to a registry what it lacks of that
    ///
    /// What the registry has is not sent again, a broken transfer goes on with the blob at which it broke, and the tag moves last. At the end
    /// stand the names that never change: of the whole, and of each host's build. Hosts activate any of them with
    /// `rick-activate oci://…`. To each is attached what `rickbuild provenance` prints, which needs curl.
    Publish {
        /// The environment: the name of a file in environments/, without `.star`
        environment: String,
        /// Where to: one repository for each environment; the tag is `latest` unless it is said
        #[arg(value_name = "REGISTRY/REPOSITORY[:TAG]", value_parser = to_publish)]
        to: Reference,
        /// Number the build, as `rickbuild --serial` does
        #[arg(long, value_name = "N")]
        serial: Option<u64>,
        /// The file with names and passwords, as `skopeo login` writes it, instead of the usual ones
        #[arg(long, value_name = "FILE")]
        authfile: Option<PathBuf>,
        /// Speak plain HTTP if the registry does, and take any certificate
        #[arg(long)]
        insecure: bool,
        /// Attach nothing: neither the SLSA provenance nor the SBOM that `rickbuild provenance` prints
        #[arg(long)]
        no_provenance: bool,
    },
    /// Print where a bundle comes from: what its build read, and what is in its images
    ///
    /// Two documents for the tools of others, a JSON object each on a line of its own: an in-toto statement with SLSA provenance, and an
    /// SBOM in CycloneDX. Both are the same for the same source. `rickbuild publish` attaches them to what it sends.
    #[command(after_help = PROVENANCE_EXAMPLES)]
    Provenance {
        /// The environment: the name of a file in environments/, without `.star`
        environment: String,
        /// Only the SLSA provenance: each file and each thing from outside that the build read, by digest
        #[arg(long)]
        slsa: bool,
        /// Only the SBOM: hosts, images, and the packages in them
        #[arg(long)]
        sbom: bool,
        /// Number the build, as `rickbuild --serial` does: the digests of hosts depend on it
        #[arg(long, value_name = "N")]
        serial: Option<u64>,
    },
    /// Print what each host would get, file by file
    Show {
        /// The environment: the name of a file in environments/, without `.star`
        environment: String,
        /// Only this host
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what a module can be told, and what it exchanges with others
    Options {
        /// A module of modules/, or `//FOLDER` for one that stands elsewhere below the source root
        module: String,
        /// As Markdown
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
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

const LOCK_EXAMPLES: &str = "\
Examples:
  rickbuild lock                                     what has no entry yet, for all environments
  rickbuild lock --update docker.io/library/debian   the newest of all tags of this image
  rickbuild lock --update trixie                     the newest packages of this release of Debian
  rickbuild lock --check                             in CI: is rick.lock complete?

Needs skopeo for images, curl for archives and packages, and apt-get for packages of Debian.";

const PROVENANCE_EXAMPLES: &str = "\
Examples:
  rickbuild provenance homelab --sbom > homelab.cdx.json    for scanners of packages
  rickbuild provenance homelab --slsa | jq .predicate.buildDefinition.resolvedDependencies
                                                            what the build read";

#[derive(Args)]
struct LockArguments {
    /// Environments, by the names of files in environments/, without `.star` [default: all of them; only then are entries removed]
    environments: Vec<String>,
    /// Ask again for what has this name: an image or a whole repository, a URL, a key of `[debian.…]` or a whole release
    #[arg(long, value_name = "NAME", conflicts_with = "update_all")]
    update: Vec<String>,
    /// Ask again for everything
    #[arg(long)]
    update_all: bool,
    /// Leave rick.lock as it is; the exit code is 1 if it would change
    #[arg(long)]
    check: bool,
    /// A mirror of Debian's archives, which has `debian` and `debian-security` side by side
    #[arg(long, value_name = "URL", default_value = fetch::DEBIAN_MIRROR)]
    debian_mirror: String,
    /// Speak with this registry without verifying who it is, as in `localhost:5000`
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
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
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(io::stderr(), "error: rickbuild has a bug: {panic}");
        std::process::exit(BUG.into());
    }));
    if let Some(code) = evaluation_child() {
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
        Some(Command::Lock(arguments)) => lock(cli, arguments),
        Some(Command::Show { environment, host, json }) => {
            with_compiled(cli, environment, cli.build.serial, |_, compiled| {
                let text = show(compiled, host.as_deref(), *json)?;
                print(&text).map(drop)
            })
        }
        Some(Command::Publish { environment, to, serial, authfile, insecure, no_provenance }) => {
            let skopeo = Skopeo { authfile: authfile.clone(), insecure: *insecure };
            let to = Origin { reference: to.clone(), skopeo };
            with_compiled(cli, environment, serial.or(cli.build.serial), |checked, compiled| {
                let layout = compiled.assemble()?;
                let wanted = (!no_provenance).then(|| provenance(environment, checked, compiled, &layout));
                send(cli, environment, &layout, wanted.transpose()?.as_ref(), &to)
            })
        }
        Some(Command::Provenance { environment, slsa, sbom, serial }) => {
            with_compiled(cli, environment, serial.or(cli.build.serial), |checked, compiled| {
                let provenance = provenance(environment, checked, compiled, &compiled.assemble()?)?;
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
        Some(Command::Options { module, markdown, json }) => describe(cli, module, *markdown, *json),
        None => build(cli),
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

/// What comes from outside into `rick.lock` and the cache.
fn lock(cli: &Cli, arguments: &LockArguments) -> Result<ExitCode> {
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
    with_compiled(cli, environment, cli.build.serial, |_, compiled| {
        let layout = compiled.assemble()?;
        if let Some(directory) = directory {
            layout
                .write_directory(directory)
                .with_context(|| format!("cannot write the bundle to {}", directory.display()))?;
        } else if to_stdout {
            let written = layout.write(io::BufWriter::new(io::stdout().lock()));
            written.context("cannot write the bundle to standard output")?;
        } else {
            write_file(&layout, output)
                .with_context(|| format!("cannot write the bundle to {}", output.display()))?;
        }
        if !quiet {
            say_digests(cli, &layout);
        }
        Ok(())
    })
}

/// Says what is wrong with the command line, and ends the program.
fn wrong_usage(kind: ErrorKind, message: impl std::fmt::Display) -> ! {
    Cli::command().error(kind, message).exit()
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

/// Says what is done, where it may take a while.
fn say_progress(cli: &Cli, what: &str) {
    let line = match cli.common.message_format {
        Format::Human => format!("{what}\n"),
        Format::Json => serde_json::json!({"progress": what}).to_string() + "\n",
    };
    let _ = io::stderr().write_all(line.as_bytes());
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

/// Says the digest of each host's build on standard error.
fn say_digests(cli: &Cli, layout: &Layout) {
    let hosts = layout.hosts();
    let width = hosts.keys().map(|name| name.as_str().len()).max().unwrap_or_default();
    let line = |(name, digest): (&HostName, &Digest)| match cli.common.message_format {
        Format::Human => format!("{:width$}  {digest}\n", name.as_str()),
        Format::Json => serde_json::json!({"host": name, "digest": digest}).to_string() + "\n",
    };
    let text: String = hosts.iter().map(line).collect();
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Where a bundle comes from.
fn provenance(
    environment: &str,
    checked: &Checked,
    compiled: &Compiled,
    layout: &Layout,
) -> Result<Provenance> {
    // Without a cache nothing was fetched for it, so nothing is asked of that folder.
    let store = Store::at(&cache().unwrap_or_default());
    Provenance::of(environment, checked, compiled, layout, &store)
}

/// Sends a layout to a registry, and says by which names it is to be had there.
fn send(
    cli: &Cli,
    environment: &str,
    layout: &Layout,
    provenance: Option<&Provenance>,
    to: &Origin,
) -> Result<()> {
    let human = cli.common.message_format == Format::Human;
    let (folder, _gone_at_the_end) = publishing_folder(&source_root(cli)?, environment)?;
    let terminal = human && io::stderr().is_terminal();
    let published = publish::publish(layout, provenance, to, &folder, terminal, &mut |news| {
        if human {
            let _ = writeln!(io::stderr(), "{news}");
        }
    })?;
    let text = if human { published.text() } else { published.json() };
    print(text.as_bytes()).map(drop)
}

/// Where a layout waits to be sent: in the cache, so that the next one finds there what did not change; without a cache, in a folder that
/// goes.
fn publishing_folder(root: &Path, environment: &str) -> Result<(PathBuf, Option<TempDir>)> {
    if let Some(cache) = cache() {
        return Ok((cache.join("publish").join(compile::cache_key(root, environment)), None));
    }
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    Ok((folder.path().to_owned(), Some(folder)))
}

fn to_publish(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse()?;
    match reference.version() {
        Version::Tag(_) => Ok(reference),
        Version::Digest(_) => Err("a digest cannot be chosen: name a tag".to_owned()),
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

/// Writes the bundle to a file, which appears whole or not at all; a device or pipe is written to as it is.
fn write_file(layout: &Layout, output: &Path) -> io::Result<()> {
    // A link is followed: what it leads to is replaced, not the link.
    let path = fs::canonicalize(output).unwrap_or_else(|_| output.to_owned());
    if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
        return layout.write(io::BufWriter::new(OpenOptions::new().write(true).open(&path)?));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such folder"));
    }
    // With the permissions of any new file, which the umask narrows.
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    layout.write(io::BufWriter::new(file.as_file_mut()))?;
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

/// Writes text to standard output; a reader that went away is no error.
fn print(text: &[u8]) -> Result<ExitCode> {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
