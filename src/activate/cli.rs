//! The command line of `rick-activate`, here so that `rickbuild` can print its manual page and completions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand};

use super::gc::KEEP;
use super::kept::upgrade::OnBarrier;
use super::terms::{DEADLINE_S, SETTLE_S, Terms};
use crate::bundle::names::{HostName, Label};
use crate::registry::Origin;
use crate::registry::reference::{Reference, SCHEME};
use crate::registry::skopeo::Skopeo;

const USAGE: &str = "rick-activate [OPTIONS] <BUNDLE|-|oci://REGISTRY/REPOSITORY[:TAG]>
       rick-activate [OPTIONS] <COMMAND>";

const EXAMPLES: &str = "\
Examples:
  rick-activate bundle.tar --dry-run       say what would be done
  rick-activate bundle.tar                 do it
  ssh HOST rick-activate - < bundle.tar    the same on another host
  rick-activate oci://registry.example.org/fleet:stable
                                           the same with what a registry has, of which only
                                           what this host lacks is fetched
  rick-activate follow oci://registry.example.org/fleet:stable
                                           switch if that is something new; for a timer
  rick-activate bundle.tar --confirm-within 60
                                           and go back unless `rick-activate confirm` is said
                                           from another session within a minute
  rick-activate status                     how this host is
  rick-activate list                       the generations of this host
  rick-activate diff                       what the last switch changed
  rick-activate rollback                   go back to the one before
  rick-activate backup gitea               copy now what a service keeps
  rick-activate restore gitea --to DIR     look into the last copy
  rick-activate bundle.tar --root DIR --host NAME
                                           try it on a directory

Exit codes:
  0   done, or nothing to do
  1   refused before anything was switched
  2   wrong usage
  3   not well, so the host was switched back, and is as it was
  4   not well, and not switched back: the last lines say why; with status: not as it should be
  10  nothing to do, with --detailed-exit-code
  70  a bug in rick-activate";

/// Refused before anything was switched.
pub const REFUSED: u8 = 1;
/// Not well, and switched back.
pub const ROLLED_BACK: u8 = 3;
/// Not well, and not switched back.
pub const NOT_WELL: u8 = 4;
/// There was nothing to do, and somebody wants to know.
pub const NOTHING_TO_DO: u8 = 10;
/// A service has to wait for another host.
pub const WAITS: u8 = 75;
/// A bug.
pub const BUG: i32 = 70;

/// Switches this host to what a bundle describes, in one step, and restarts what changed.
///
/// The switch runs as a service of systemd, `rick-switch.service`, so it goes on when the session ends that called. If a unit or a probe is not
/// well afterwards, the host is switched back.
#[derive(Parser)]
#[command(name = "rick-activate", version, override_usage = USAGE, after_help = EXAMPLES, subcommand_negates_reqs = true, arg_required_else_help = true)]
pub struct Arguments {
    /// The bundle, as `rickbuild` wrote it; `-` reads standard input, and `oci://REGISTRY/REPOSITORY:TAG` (or `…@sha256:…`) fetches from a
    /// registry.
    #[arg(required = true, value_name = "BUNDLE", value_parser = OsStringValueParser::new().try_map(bundle))]
    pub bundle: Option<Bundle>,
    /// Say what would be done, and do nothing.
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// With --dry-run: show how the files of each unit would change that is restarted or reloaded.
    #[arg(long, global = true)]
    pub diff: bool,
    /// Take this to be the name of this host.
    #[arg(long, global = true, value_name = "NAME")]
    pub host: Option<HostName>,
    /// Switch the root file system in DIR instead of this host: nothing is run, and images are left in their layout.
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print a JSON object per line instead of a line per action; the last is the outcome.
    #[arg(long, global = true)]
    pub json: bool,
    /// How the switch is done.
    #[command(flatten)]
    pub switch: SwitchArguments,
    /// How registries are asked.
    #[command(flatten)]
    pub registry: RegistryArguments,
    /// Something else than to activate a bundle.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How a switch is done.
#[derive(Args)]
// Each is a flag of its own.
#[allow(clippy::struct_excessive_bools)]
#[command(next_help_heading = "How to switch")]
pub struct SwitchArguments {
    /// Go back unless `rick-activate confirm` is said within so many seconds; wait for it.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub confirm_within: Option<u32>,
    /// Watch the services that were started for so many seconds before they are called well.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = SETTLE_S)]
    pub settle: u32,
    /// Go back if the switch is not done after so many seconds.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = DEADLINE_S, value_parser = clap::value_parser!(u32).range(1..))]
    pub deadline: u32,
    /// Stay with the new generation though it is not well, once the host has it.
    #[arg(long, global = true)]
    pub no_rollback: bool,
    /// Take a bundle whose serial is lower than one that this host had.
    #[arg(long, global = true)]
    pub allow_older: bool,
    /// Take a bundle that nobody signed whom this host trusts.
    #[arg(long, global = true)]
    pub allow_unsigned: bool,
    /// Take over unit files of others that say the same as the bundle's: they are kept, and come back when the unit leaves.
    #[arg(long, global = true)]
    pub adopt: bool,
    /// Take no copies of what services keep before their programs change or they leave.
    #[arg(long, global = true)]
    pub no_copies: bool,
    /// Exit with 10 if there was nothing to do.
    #[arg(long, global = true)]
    pub detailed_exit_code: bool,
    /// Switch in this process, not in a service of systemd: it ends with the session.
    #[arg(long, global = true)]
    pub foreground: bool,
}

/// Where a bundle is.
#[derive(Clone, Debug)]
pub enum Bundle {
    /// In a file; `-`: on standard input.
    File(PathBuf),
    /// In a registry.
    Registry(Reference),
}

/// How registries are asked.
#[derive(Args)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArguments {
    /// The file with names and passwords, as `skopeo login` writes it, instead of the usual ones of root.
    #[arg(long, global = true, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Speak plain HTTP, and take any certificate: what comes is only what its digest says if that is part of the reference.
    #[arg(long, global = true)]
    pub insecure: bool,
}

impl SwitchArguments {
    /// What is asked of a switch.
    pub fn terms(&self) -> Terms {
        Terms {
            settle_s: self.settle,
            deadline_s: self.deadline,
            confirm_within_s: self.confirm_within,
            go_back: !self.no_rollback,
            adopt: self.adopt,
            copies: !self.no_copies,
            on_barrier: OnBarrier::Refuse,
        }
    }
}

impl Arguments {
    /// What is asked of a switch.
    pub fn terms(&self) -> Terms {
        let on_barrier = match &self.command {
            Some(Command::Rollback { with_state: true, .. } | Command::SwitchTo { with_state: true, .. }) => {
                OnBarrier::Restore
            }
            Some(Command::Rollback { without_state: true, .. }) => OnBarrier::Leave,
            _ => OnBarrier::Refuse,
        };
        Terms { on_barrier, ..self.switch.terms() }
    }

    fn with_state(&self) -> bool {
        self.terms().on_barrier == OnBarrier::Restore
    }

    /// What a registry is asked for, and how.
    pub fn origin(&self, reference: &Reference) -> Origin {
        let RegistryArguments { authfile, insecure } = &self.registry;
        let skopeo = Skopeo { authfile: authfile.clone(), insecure: *insecure };
        Origin { reference: reference.clone(), skopeo }
    }

    /// The arguments that say the same to the service that switches.
    pub fn for_service(&self) -> Vec<String> {
        let switch = &self.switch;
        let mut arguments =
            vec![format!("--settle={}", switch.settle), format!("--deadline={}", switch.deadline)];
        arguments.extend(switch.confirm_within.map(|seconds| format!("--confirm-within={seconds}")));
        let flags = [
            ("--no-rollback", switch.no_rollback),
            ("--adopt", switch.adopt),
            ("--no-copies", switch.no_copies),
            ("--with-state", self.with_state()),
            ("--json", self.json),
        ];
        arguments.extend(flags.iter().filter(|(_, said)| *said).map(|(flag, _)| (*flag).to_owned()));
        arguments
    }
}

/// What there is to do beside activating a bundle.
#[derive(Subcommand)]
pub enum Command {
    /// Show the generations of this host.
    List,
    /// Go back to what the host had before the current generation, or to generation N (0 is the host without rick).
    Rollback {
        /// The number of the generation.
        #[arg(value_name = "N", value_parser = generation)]
        number: Option<u32>,
        /// Where programs changed what services keep, bring back the copy that was taken before. What is there is copied, too, so that
        /// the way forth is open.
        #[arg(long)]
        with_state: bool,
        /// Leave what services keep as it is, whatever the older programs make of it.
        #[arg(long, conflicts_with = "with_state")]
        without_state: bool,
    },
    /// What is about what services keep.
    #[command(flatten)]
    Kept(Kept),
    /// Give the host back: stop what rick runs, start what ran before, and remove all that is rick's. Data and accounts stay.
    Uninstall,
    /// Tell how this host is: whether it has what its generation says, and what is remarkable.
    ///
    /// Looks only, and at any time, also in the middle of a switch. The exit code is 0 if all is as it should be, and 4 if a unit failed or
    /// something is not as the generation says: units that do not run or run something older, definitions that somebody changed in
    /// /etc/systemd or /run/systemd, links of rick's that are missing, images that podman lacks.
    Status {
        /// Tell of every unit.
        #[arg(long)]
        all: bool,
        /// Read all configuration of the store, and compare its bytes with their digests.
        #[arg(long)]
        verify: bool,
    },
    /// Show what differs between generation A and generation B: units, accounts, images, and files line by line.
    Diff {
        /// The number of a generation; the one to go back to, unless given.
        #[arg(value_name = "A", value_parser = generation)]
        from: Option<u32>,
        /// The number of another; the current one, unless given.
        #[arg(value_name = "B", value_parser = generation)]
        to: Option<u32>,
        /// Only tell what differs, not how.
        #[arg(long)]
        stat: bool,
    },
    /// Remove old generations, and what only they needed: configuration, images. A switch that goes well does so by itself.
    ///
    /// Kept are the current generation, the one to go back to, pinned ones, those that something still runs from, and the latest ones. Every
    /// generation that is kept can be gone back to.
    Gc {
        /// Keep so many of the latest generations, whatever they are.
        #[arg(long, value_name = "N", default_value_t = KEEP)]
        keep: usize,
    },
    /// Keep the current generation, or generation N, however old it gets.
    Pin {
        /// The number of the generation.
        #[arg(value_name = "N", value_parser = generation)]
        number: Option<u32>,
        /// Do not keep it any longer.
        #[arg(long)]
        remove: bool,
    },
    /// Switch to what a registry has under a name, unless the host has it already: for a timer, which the module `rick` brings.
    ///
    /// Nothing is done, with exit code 0, as long as the name stays where it is, also if the host was not well with that and went back, or if
    /// somebody took the host back from it; and while another rick-activate is running.
    Follow {
        /// What to follow.
        #[arg(value_name = "oci://REGISTRY/REPOSITORY:TAG")]
        reference: Reference,
    },
    /// Keep the generation that waits for that: see --confirm-within.
    Confirm,
    /// Go on with a switch that was cut short: finish it, or go back. systemd calls this when the host boots and when a switch is not done
    /// in time.
    Resume {
        /// Its time is up.
        #[arg(long, hide = true)]
        overdue: bool,
    },
    /// Put the secrets of the current generation into memory, as every boot does.
    Secrets,
    /// What the service runs that switches.
    #[command(hide = true)]
    SwitchTo {
        /// The number of the generation.
        number: u32,
        /// See `rollback`.
        #[arg(long)]
        with_state: bool,
    },
}

/// What there is to do with what services keep.
#[derive(Subcommand)]
pub enum Kept {
    /// Copy what services keep to the repositories of this host: of one service, or of all. Timers do so by themselves.
    Backup {
        /// The service.
        service: Option<Label>,
        /// Copy to the repository that this service of the environment brings, and to no other.
        #[arg(long, value_name = "SERVICE")]
        to: Option<Label>,
        /// See instead that the repositories are sound, and read a part of what they hold: `1/7`, `5%`.
        #[arg(long, value_name = "PART", conflicts_with = "service")]
        check: Option<String>,
        /// Make instead the repositories that are gone: they are not made anew by themselves.
        #[arg(long, conflicts_with_all = ["service", "check"])]
        make: bool,
    },
    /// Show the copies of what services keep.
    Snapshots {
        /// Only those of this service.
        service: Option<Label>,
        /// Also those of other hosts and environments.
        #[arg(long)]
        all: bool,
    },
    /// Bring back what a service keeps, from the last copy or another one. What is there is not touched, unless --replace is said.
    ///
    /// The service is stopped, and started afterwards. A restore that was cut short is gone on with.
    Restore {
        /// The service.
        service: Label,
        /// The copy: the first digits that `snapshots` shows.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// Into this directory; nothing of the service is touched.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Put it in the place of what is there, after a copy of that.
        #[arg(long, conflicts_with = "to")]
        replace: bool,
        /// Do without that copy.
        #[arg(long, requires = "replace")]
        without_copy: bool,
    },
    /// Show what services of this host keep, and what those kept that are gone.
    State,
    /// Take what a service keeps as it is now: what is missing is meant to be.
    Accept {
        /// The service.
        service: Label,
    },
    /// Remove for good what a service kept that is gone from this host.
    Forget {
        /// The service.
        service: Label,
        /// Yes, for good.
        #[arg(long)]
        yes: bool,
    },
    /// What is asked before a service starts.
    #[command(hide = true)]
    Admit {
        /// The service.
        service: Label,
        /// That it has to wait is fine; once it has not, start it.
        #[arg(long)]
        and_start: bool,
    },
    /// Start what was stopped for a copy.
    #[command(hide = true)]
    EndBackup {
        /// The service.
        service: Label,
    },
}

fn bundle(text: OsString) -> Result<Bundle, String> {
    match text.to_str().filter(|text| text.starts_with(SCHEME)) {
        Some(reference) => reference.parse().map(Bundle::Registry),
        None => Ok(Bundle::File(text.into())),
    }
}

fn generation(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "generations are numbers, and `rick-activate list` shows them".to_owned())
}
