//! The command line of `rickbuild`.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use rick::compile::fetch;
use rick::registry::reference::{Reference, Version};

use crate::secrets::{EXAMPLES, Secrets};

pub(crate) const USAGE: &str = "rickbuild [OPTIONS] <ENVIRONMENT>
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
  rickbuild secrets check homelab   print who can read which secret, and what is missing
  rickbuild show homelab            print what each host would get, file by file
  rickbuild plan homelab production print what hosts keep, and how services move between them
  rickbuild options postgresql      print what a module can be told
  rickbuild publish homelab registry.example.org/homelab:stable
                                    compile, and send to a registry what it lacks of that
  rickbuild sign bundle.tar --key ~/.ssh/id_ed25519
                                    sign what is compiled already
  rickbuild provenance homelab      print what the build read, and what is in its images

Findings go to standard error, and so does, when the bundle is written, each host with its digest: the
name of all that it gets, the same for the same source.

Exit codes:
  0   done
  1   the source has errors, or something cannot be built; nothing was written
  2   the command line is wrong
  3   the network did not give what was asked for, a registry did not take what was sent, a key did not
      sign, or a secret could not be read or written
  70  a bug of rick, or the machine failed (no space, no permission)")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) build: Build,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Args)]
pub(crate) struct Build {
    /// The environment: the name of a file in environments/, without `.star`
    pub(crate) environment: Option<String>,
    /// Write the bundle to FILE, which appears whole or not at all; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    pub(crate) output: PathBuf,
    /// Write the bundle as a directory, an OCI image layout, in the place of a tar archive. What is there already is not written
    /// again, and nothing is removed from it
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub(crate) layout: Option<PathBuf>,
    /// Number the build: a host refuses a bundle whose number is lower than one that it had. It counts up from build to
    /// build, as the number of the CI's run or of the commits does; without it, the bundle has none
    #[arg(long, value_name = "N")]
    pub(crate) serial: Option<u64>,
    /// Sign the build of each host, with a private key, or the public key of one that ssh-agent or a hardware key has
    #[arg(long, value_name = "KEY")]
    pub(crate) sign_key: Option<PathBuf>,
    /// Run each build twice, also those whose result is known, and fail if what they make differs
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// Do not say the digests of the hosts, nor what is built
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args)]
pub(crate) struct Common {
    /// The source root [default: the nearest folder upwards that has environments/]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// How to say findings: for people, or one JSON object a line for tools
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Human)]
    pub(crate) message_format: Format,
    /// When to use colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Colour::Auto)]
    pub(crate) color: Colour,
}

#[derive(Subcommand)]
pub(crate) enum Command {
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
    /// Write secrets into the source tree, encrypted to the hosts that need them and to the operators
    #[command(after_help = EXAMPLES)]
    Secrets {
        #[command(subcommand)]
        command: Secrets,
    },
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
        /// Sign the build of each host, as `rickbuild --sign-key` does
        #[arg(long, value_name = "KEY")]
        sign_key: Option<PathBuf>,
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
    /// Sign the build of each host in a bundle: hosts take what somebody signed whom they trust
    ///
    /// With ssh-keygen, which asks for passphrases and touches. What others signed stays, and no digest of a build changes. The signatures are what
    /// `ssh-keygen -Y verify -n rick-bundle` takes, of the manifest of a host.
    Sign {
        /// A bundle, or a directory that `--layout` made
        #[arg(value_name = "BUNDLE|DIR")]
        bundle: PathBuf,
        /// A private key, or the public key of one that ssh-agent or a hardware key has
        #[arg(long, value_name = "KEY")]
        key: PathBuf,
        /// Write the signed bundle to FILE, in the place of changing it where it is; `-` is standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
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
    /// Print what hosts keep, where copies of it go, and step by step how services move between hosts
    ///
    /// A service moves by an edit: it is taken out of one environment, and added to another with `moved_from = "ENVIRONMENT/HOST"`. That other
    /// environment is looked at too, and what hinders the move is an error. Builds no images and writes nothing.
    #[command(after_help = PLAN_EXAMPLES)]
    Plan {
        /// Environments, by the names of files in environments/, without `.star`
        #[arg(required = true, value_name = "ENVIRONMENT")]
        environments: Vec<String>,
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

pub(crate) const LOCK_EXAMPLES: &str = "\
Examples:
  rickbuild lock                                     what has no entry yet, for all environments
  rickbuild lock --update docker.io/library/debian   the newest of all tags of this image
  rickbuild lock --update trixie                     the newest packages of this release of Debian
  rickbuild lock --check                             in CI: is rick.lock complete?

Needs skopeo for images, curl for archives and packages, and apt-get for packages of Debian.";

pub(crate) const PROVENANCE_EXAMPLES: &str = "\
Examples:
  rickbuild provenance homelab --sbom > homelab.cdx.json    for scanners of packages
  rickbuild provenance homelab --slsa | jq .predicate.buildDefinition.resolvedDependencies
                                                            what the build read";

pub(crate) const PLAN_EXAMPLES: &str = "\
Examples:
  rickbuild plan production             what its hosts keep, and how what moves to them gets there
  rickbuild plan homelab production     the same of both
  rickbuild plan production --json | jq -r '.moves[].steps[].commands[].command'
                                        only the commands, in order";

#[derive(Args)]
pub(crate) struct LockArguments {
    /// Environments, by the names of files in environments/, without `.star` [default: all of them; only then are entries removed]
    pub(crate) environments: Vec<String>,
    /// Ask again for what has this name: an image or a whole repository, a URL, a key of `[debian.…]` or a whole release
    #[arg(long, value_name = "NAME", conflicts_with = "update_all")]
    pub(crate) update: Vec<String>,
    /// Ask again for everything
    #[arg(long)]
    pub(crate) update_all: bool,
    /// Leave rick.lock as it is; the exit code is 1 if it would change
    #[arg(long)]
    pub(crate) check: bool,
    /// A mirror of Debian's archives, which has `debian` and `debian-security` side by side
    #[arg(long, value_name = "URL", default_value = fetch::DEBIAN_MIRROR)]
    pub(crate) debian_mirror: String,
    /// Speak with this registry without verifying who it is, as in `localhost:5000`
    #[arg(long, value_name = "HOST")]
    pub(crate) insecure_registry: Vec<String>,
}

/// Both programs: the one for hosts stays small, and leaves this to the other.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    Rickbuild,
    RickActivate,
}

impl Program {
    pub(crate) fn command(self) -> clap::Command {
        match self {
            Self::Rickbuild => Cli::command(),
            Self::RickActivate => rick::activate::cli::Arguments::command(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Human,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    Auto,
    Always,
    Never,
}

pub(crate) fn to_publish(text: &str) -> Result<Reference, String> {
    let reference: Reference = text.parse()?;
    match reference.version() {
        Version::Tag(_) => Ok(reference),
        Version::Digest(_) => Err("a digest cannot be chosen: name a tag".to_owned()),
    }
}

/// Says what is wrong with the command line, and ends the program.
pub(crate) fn wrong_usage(kind: ErrorKind, message: impl std::fmt::Display) -> ! {
    Cli::command().error(kind, message).exit()
}
