//! `rick-activate`: arguments → [`rick::activate`] → lines and an exit code.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser as _};
use rick::activate::ahead::Ahead;
use rick::activate::cli::{
    Arguments, BUG, Bundle, Command, Kept, NOT_WELL, NOTHING_TO_DO, REFUSED, ROLLED_BACK, WAITS,
};
use rick::activate::directory::Directory;
use rick::activate::generation::Known;
use rick::activate::host::Host;
use rick::activate::kept::admit::Admission;
use rick::activate::kept::restore::Wish;
use rick::activate::kept::{self, Scene, overview};
use rick::activate::receive::HostNames;
use rick::activate::report::{Ending, Outcome, Problem, Report, in_colour};
use rick::activate::state::{Claim, State};
use rick::activate::systemd::Systemd;
use rick::activate::{Activation, Conclusion, Failure, diff, list, preflight};
use rick::refusal::{Refusal, help_for, printable};
use serde::Serialize;
use serde_json::json;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("error: rick-activate has a bug: {panic}");
        eprintln!(
            "help: please report it with the line above; `rick-activate resume` goes on with what it left"
        );
        std::process::exit(BUG);
    }));
    let arguments = Arguments::parse();
    let code = match run(&arguments) {
        Ok(code) => code,
        Err(Failure::Refused(error)) => {
            show(&error);
            REFUSED
        }
        Err(Failure::Halfway(error)) => {
            show(&error);
            hint(
                "the switch broke off halfway: `rick-activate resume` goes on, and so does systemd at its deadline",
            );
            NOT_WELL
        }
    };
    ExitCode::from(code)
}

fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let command = match (&arguments.command, &arguments.bundle) {
        (Some(_), Some(_)) => usage("a bundle and a subcommand cannot both be given"),
        (command, _) => command.as_ref(),
    };
    if arguments.root.is_some() && arguments.switch.confirm_within.is_some() {
        usage("in a directory nothing runs, so there is nothing to confirm");
    }
    match command {
        None => concluded(arguments, |activation| match &arguments.bundle {
            Some(Bundle::Registry(reference)) => activation.activate_from(&arguments.origin(reference)),
            Some(Bundle::File(file)) => activation.activate(open(file).map_err(Failure::Refused)?),
            None => usage("a bundle or a subcommand is needed"),
        }),
        Some(Command::Follow { reference }) => {
            concluded(arguments, |activation| activation.follow(&arguments.origin(reference)))
        }
        Some(Command::Rollback { number, .. }) => {
            concluded(arguments, |activation| activation.roll_back(*number))
        }
        Some(Command::Status { all, verify }) => {
            show_status(arguments, *all, *verify).map_err(Failure::Refused)
        }
        Some(Command::Diff { from, to, stat }) => {
            show_diff(arguments, *from, *to, *stat).map_err(Failure::Refused)
        }
        Some(Command::Gc { keep }) => {
            keep_house(arguments, |activation| activation.collect(*keep)).map_err(Failure::Refused)
        }
        Some(Command::Pin { number, remove }) => {
            keep_house(arguments, |activation| activation.pin(*number, !remove)).map_err(Failure::Refused)
        }
        Some(Command::List) => show_list(arguments).map_err(Failure::Refused),
        Some(Command::Confirm) => {
            concluded(arguments, |activation| activation.confirm().map(Conclusion::Here))
        }
        // The method itself would be for one lifetime only.
        #[allow(clippy::redundant_closure_for_method_calls)]
        Some(Command::Uninstall) => concluded(arguments, |activation| activation.uninstall()),
        Some(Command::Resume { overdue }) => {
            concluded(arguments, |activation| activation.resume(*overdue).map(Conclusion::Here))
        }
        Some(Command::Secrets) => bring_secrets(arguments).map_err(Failure::Refused),
        Some(Command::Kept(command)) => with_kept(arguments, command).map_err(Failure::Refused),
        Some(Command::SwitchTo { number, .. }) => concluded(arguments, |activation| {
            let _claim = Claim::handed_over(&activation.state, io::stdin()).map_err(Failure::Refused)?;
            activation.serve(*number).map(Conclusion::Here)
        }),
    }
}

/// Switches, and tells how that ended.
fn concluded(
    arguments: &Arguments,
    act: impl FnOnce(&mut Activation<'_>) -> Result<Conclusion, Failure>,
) -> Result<u8, Failure> {
    let conclusion = on_stage(arguments, |activation| Ok(act(activation))).map_err(Failure::Refused)??;
    Ok(match conclusion {
        Conclusion::Here(outcome) => conclude(arguments, &outcome),
        Conclusion::Apart(code) => code,
    })
}

/// Does something that is no switch. What came of it is for programs: people have read the lines.
fn keep_house<T: Serialize>(
    arguments: &Arguments,
    act: impl FnOnce(&mut Activation<'_>) -> Result<T>,
) -> Result<u8> {
    let outcome = on_stage(arguments, act)?;
    if arguments.json {
        print(&(serde_json::to_string(&json!({"event": "outcome", "outcome": outcome}))? + "\n"));
    }
    Ok(0)
}

fn bring_secrets(arguments: &Arguments) -> Result<u8> {
    on_stage(arguments, |activation| {
        activation.bring_current_secrets()?;
        Ok(0)
    })
}

/// What is about what services keep.
fn with_kept(arguments: &Arguments, command: &Kept) -> Result<u8> {
    match command {
        Kept::Backup { check: Some(part), to, .. } => {
            scene(arguments, |scene| scene.check(part, to.as_ref()).map(|()| 0))
        }
        Kept::Backup { make: true, to, .. } => scene(arguments, |scene| scene.make(to.as_ref()).map(|()| 0)),
        Kept::Backup { service, to, .. } => {
            scene(arguments, |scene| scene.copy_all(service.as_ref(), to.as_ref()).map(|()| 0))
        }
        Kept::Snapshots { service, all } => scene(arguments, |scene| {
            let copies = scene.snapshots(service.as_ref(), *all)?;
            print(&if arguments.json { json(&copies)? } else { overview::list(&copies) });
            Ok(0)
        }),
        Kept::Restore { service, snapshot, to, replace, without_copy } => {
            let wish = Wish {
                snapshot: snapshot.clone(),
                to: to.clone(),
                replace: *replace,
                without_copy: *without_copy,
            };
            scene(arguments, |scene| scene.restore(service, &wish).map(|()| 0))
        }
        Kept::State => scene(arguments, |scene| {
            let all = scene.overview()?;
            print(&if arguments.json { json(&all)? } else { overview::table(&all) });
            Ok(0)
        }),
        Kept::Accept { service } => scene(arguments, |scene| scene.accept(service).map(|()| 0)),
        Kept::Forget { service, yes: true } => scene(arguments, |scene| scene.forget(service).map(|()| 0)),
        Kept::Forget { service, .. } => {
            Err(Refusal::new(format!("what `{service}` kept would be removed from this host for good"))
                .help("say `--yes` if that is meant; `rick-activate state` shows what it is")
                .into())
        }
        Kept::Admit { service, and_start } => scene(arguments, |scene| {
            Ok(match (scene.admit(service)?, and_start) {
                (Admission::Granted, true) => scene.start(service).map(|()| 0)?,
                (Admission::Granted, false) | (Admission::Waits, true) => 0,
                (Admission::Waits, false) => WAITS,
            })
        }),
        Kept::EndBackup { service } => on_stage(arguments, |activation| {
            kept::copy::resume(&activation.state, activation.host, service).map(|()| 0)
        }),
    }
}

fn scene(arguments: &Arguments, act: impl FnOnce(&mut Scene<'_>) -> Result<u8>) -> Result<u8> {
    on_stage(arguments, |activation| {
        let Activation { state, known, host, report, .. } = activation;
        if !host.is_running() {
            return Err(Refusal::new("in a directory nothing runs, and nothing is copied").into());
        }
        act(&mut Scene::current(state, known, *host, report)?)
    })
}

/// Sets the scene, this host or a directory, and acts.
fn on_stage<T>(arguments: &Arguments, act: impl FnOnce(&mut Activation<'_>) -> Result<T>) -> Result<T> {
    let state = state_of(arguments)?;
    let host = host_of(arguments, &state)?;
    let names = names_of(arguments, host.as_ref())?;
    let apart = (host.is_running() && !arguments.switch.foreground).then(|| arguments.for_service());
    act(&mut Activation {
        state,
        known: Known::default(),
        host: host.as_ref(),
        names,
        dry_run: arguments.dry_run,
        allow_older: arguments.switch.allow_older,
        allow_unsigned: arguments.switch.allow_unsigned,
        terms: arguments.terms(),
        apart,
        report: report_for(arguments),
    })
}

/// What PID 1 calls is for the journal as well, since nobody may listen.
fn report_for(arguments: &Arguments) -> Report {
    let report = if arguments.json { Report::json() } else { Report::lines() };
    let report = report.with_diffs(arguments.diff);
    match arguments.command {
        Some(Command::SwitchTo { .. }) => report.and_to_the_journal(),
        _ => report,
    }
}

fn state_of(arguments: &Arguments) -> Result<State> {
    let root = arguments.root.as_deref().unwrap_or(Path::new("/"));
    let root = root.canonicalize().with_context(|| format!("cannot use {} as a root", root.display()))?;
    Ok(State::new(&root))
}

fn host_of(arguments: &Arguments, state: &State) -> Result<Box<dyn Host>> {
    if arguments.root.is_some() {
        return Ok(Box::new(Directory::open(state)?));
    }
    if !matches!(arguments.command, Some(Command::Status { .. })) {
        preflight::check_rights()?;
        preflight::check_file_system(state)?;
    }
    Ok(Box::new(Systemd))
}

fn names_of(arguments: &Arguments, host: &dyn Host) -> Result<HostNames> {
    match (&arguments.host, &arguments.command) {
        (Some(name), _) => Ok(HostNames::given(name)),
        (None, None | Some(Command::Follow { .. })) => Ok(HostNames::of_host(&host.name()?)),
        // Generations that are there already were for this host.
        (None, Some(_)) => Ok(HostNames::of_host("")),
    }
}

fn open(bundle: &Path) -> Result<Ahead> {
    let ahead = if bundle != Path::new("-") {
        Ahead::of(File::open(bundle).with_context(|| format!("cannot read {}", bundle.display()))?)
    } else if io::stdin().is_terminal() {
        usage("a bundle is expected on standard input, and that is a terminal")
    } else {
        Ahead::of(io::stdin())
    };
    ahead.context("cannot start a thread that reads the bundle")
}

fn show_status(arguments: &Arguments, all: bool, verify: bool) -> Result<u8> {
    let status = on_stage(arguments, |activation| activation.status(verify))?;
    match &status {
        _ if arguments.json => print(&json(&status)?),
        Some(status) => print(&status.text(all, in_colour(&io::stdout()))),
        None => print("rick never activated anything on this host\n"),
    }
    Ok(if status.is_none_or(|status| status.well) { 0 } else { NOT_WELL })
}

fn show_diff(arguments: &Arguments, from: Option<u32>, to: Option<u32>, stat: bool) -> Result<u8> {
    let found = diff::diff(&state_of(arguments)?, from, to)?;
    let found = if stat { found.without_lines() } else { found };
    print(&if arguments.json { json(&found)? } else { found.text(in_colour(&io::stdout())) });
    Ok(0)
}

fn show_list(arguments: &Arguments) -> Result<u8> {
    let state = state_of(arguments)?;
    let mut rows = list::list(&state)?;
    let boot = if arguments.root.is_some() { String::new() } else { Systemd.boot_id()? };
    // That the current generation is damaged stands in its row.
    let _ = list::count_units(&mut rows, &state, &boot);
    print(&if arguments.json { json(&rows)? } else { list::table(&rows) });
    Ok(0)
}

/// What is not well goes to standard error, and into the exit code.
fn conclude(arguments: &Arguments, outcome: &Outcome) -> u8 {
    if arguments.json
        && let Ok(text) = serde_json::to_string(&json!({"event": "outcome", "outcome": outcome}))
    {
        print(&(text + "\n"));
    }
    for warning in &outcome.warnings {
        tell_problem("warning", "1;33", warning);
    }
    for problem in &outcome.problems {
        tell_problem("error", "1;31", problem);
    }
    match &outcome.ending {
        Ending::NothingToDo if arguments.switch.detailed_exit_code => NOTHING_TO_DO,
        Ending::Told if !outcome.changed && arguments.switch.detailed_exit_code => NOTHING_TO_DO,
        Ending::NothingToDo | Ending::Told | Ending::Done => 0,
        Ending::RolledBack => {
            let again = format!(
                "the host has generation {} again; mend it and activate once more",
                outcome.generation
            );
            // Who wanted that already never had the new one.
            let look =
                if arguments.switch.no_rollback { "" } else { ", or look around with `--no-rollback`" };
            hint(&(again + look));
            ROLLED_BACK
        }
        Ending::NotWell { .. } => {
            hint("mend it and run the same again: only what is not well is done again");
            if outcome.previous != outcome.generation {
                hint(&format!("`rick-activate rollback {}` goes back", outcome.previous));
            }
            NOT_WELL
        }
    }
}

fn tell_problem(word: &str, colour: &str, problem: &Problem) {
    say(word, colour, &problem.message);
    for line in &problem.log {
        // Nobody may be left to read it.
        let _ = writeln!(io::stderr(), "  {}", printable(line));
    }
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn print(text: &str) {
    // Whoever reads may have gone away.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn show(error: &anyhow::Error) {
    complain(&format!("{error:#}"));
    for line in help_for(error) {
        hint(&line);
    }
}

fn complain(text: &str) {
    say("error", "1;31", text);
}

fn hint(text: &str) {
    say("help", "1;36", text);
}

fn say(word: &str, colour: &str, text: &str) {
    let text = printable(text);
    let _ = if in_colour(&io::stderr()) {
        writeln!(io::stderr(), "\x1b[{colour}m{word}\x1b[0m: {text}")
    } else {
        writeln!(io::stderr(), "{word}: {text}")
    };
}

fn usage(message: &str) -> ! {
    Arguments::command().error(clap::error::ErrorKind::ArgumentConflict, message).exit()
}
