//! The command line of `rick-activate`, here so that `rickbuild` can print its manual page and completions.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::bundle::names::HostName;

const USAGE: &str = "rick-activate [OPTIONS] <BUNDLE|->
       rick-activate [OPTIONS] list
       rick-activate [OPTIONS] rollback [N]";

const EXAMPLES: &str = "\
Examples:
  rick-activate bundle.tar --dry-run       say what would be done
  rick-activate bundle.tar                 do it
  ssh HOST rick-activate - < bundle.tar    the same on another host
  rick-activate list                       the generations of this host
  rick-activate rollback                   go back to the one before
  rick-activate bundle.tar --root DIR --host NAME
                                           try it on a directory

Exit codes:
  0   done, or nothing to do
  1   refused before anything was switched
  2   wrong usage
  3   switched, and something is not well: a unit or a probe failed, or the switch broke off
  70  a bug in rick-activate";

/// Switches this host to what a bundle describes, in one step, and restarts what changed.
#[derive(Parser)]
#[command(name = "rick-activate", version, override_usage = USAGE, after_help = EXAMPLES, subcommand_negates_reqs = true, arg_required_else_help = true)]
pub struct Arguments {
    /// The bundle, as `rickbuild` wrote it; `-` reads standard input.
    #[arg(required = true, value_name = "BUNDLE")]
    pub bundle: Option<PathBuf>,
    /// Say what would be done, and do nothing.
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Take this to be the name of this host.
    #[arg(long, global = true, value_name = "NAME")]
    pub host: Option<HostName>,
    /// Switch the root file system in DIR instead of this host: nothing is run, and images are left in their layout.
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print the outcome as JSON instead of a line per action.
    #[arg(long, global = true)]
    pub json: bool,
    /// Something else than to activate a bundle.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What there is to do beside activating a bundle.
#[derive(Subcommand)]
pub enum Command {
    /// Show the generations of this host.
    List,
    /// Go back to the generation before the current one, or to generation N (0 is the host without rick).
    Rollback {
        /// The number of the generation.
        #[arg(value_name = "N", value_parser = generation)]
        number: Option<u32>,
    },
}

fn generation(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "generations are numbers, and `rick-activate list` shows them".to_owned())
}
