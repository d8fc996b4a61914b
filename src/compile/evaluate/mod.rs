//! Stages `load`, `evaluate` and `resolve`: from Starlark files to plain data. The only folder that knows the language.
//!
//! 1. `load`: the environment and, first, all that it loads; confined to the source root (`tree`).
//! 2. the environment's calls run and leave a value: hosts with services (`builtins`).
//! 3. `service`: each service's options are checked against its module's.
//! 4. `wire`: facts find their consumers.
//! 5. `build`: modules run, providers first; contributions are gathered; collectors finish.
//!
//! The language has no I/O, no clock and no randomness; `limits` bound it where a line can be named, `fence` bounds all of it.

mod build;
mod builtins;
mod describe;
mod dialect;
pub mod fence;
mod index;
mod limits;
mod load;
mod service;
mod session;
mod tree;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use starlark::environment::{FrozenModule, Globals, Module};
use starlark::eval::{Evaluator, ReturnFileLoader};
use starlark::syntax::{AstModule, Dialect};
use starlark::values::list::ListRef;

use super::finding::{Finding, Severity};
use super::item::{Evaluation, PublicKey};
use super::options;
use super::similar::closest;
use super::source::{SourcePath, Sources, Span};
use crate::bundle::names::Label;
use builtins::{ENVIRONMENT, PRELUDE, field};
use load::Loaded;
use session::{Session, Trail};
use tree::{Refusal, Tree};

/// The stack of the thread that evaluates; syntax trees are walked recursively.
const STACK: usize = 256 << 20;

/// What an evaluation gave: findings, and the environment as far as it could be built.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The environment; all its services are there unless one of `findings` is an error.
    pub evaluation: Evaluation,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Every service was built, so that checking the whole makes sense even if there are errors.
    pub complete: bool,
}

/// What a description of modules gave.
#[derive(Debug, Serialize, Deserialize)]
pub struct Description {
    /// The modules of the file.
    pub modules: Vec<options::Module>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The texts that the findings point into.
    pub sources: Sources,
}

/// Does `work` in a thread with a stack that fits; the process may not survive it all the same: [`fence`] is for everybody else.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("evaluate".to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Evaluates `environments/NAME.star` of the source tree at `root`. `trail` is told what is being done.
fn evaluate(root: &Path, environment: &str, trail: Trail) -> io::Result<Outcome> {
    with_stack(|| evaluate_here(root, environment, trail))
}

/// Describes the modules of one file of the source tree at `root`.
fn describe(root: &Path, module: &str, trail: Trail) -> io::Result<Description> {
    with_stack(|| match open(root, trail) {
        Ok(mut session) => {
            let modules = describe::describe(&mut session, module).unwrap_or_default();
            Description { modules, findings: session.findings, sources: session.sources }
        }
        Err(finding) => Description::failed(*finding),
    })
}

/// What comes of a child: itself, or one finding in its place.
pub(crate) trait Fallible {
    /// Nothing but one finding.
    fn failed(finding: Finding) -> Self;
}

impl Fallible for Outcome {
    fn failed(finding: Finding) -> Self {
        Self { evaluation: Evaluation::default(), findings: vec![finding], complete: false }
    }
}

impl Fallible for Description {
    fn failed(finding: Finding) -> Self {
        Self { modules: Vec::new(), findings: vec![finding], sources: Sources::default() }
    }
}

fn evaluate_here(root: &Path, environment: &str, trail: Trail) -> Outcome {
    let mut session = match open(root, trail) {
        Ok(session) => session,
        Err(finding) => return Outcome::failed(*finding),
    };
    let (evaluation, complete) = run(&mut session, environment).unwrap_or_default();
    let errors = session.findings.iter().any(|finding| finding.severity == Severity::Error);
    Outcome {
        evaluation: Evaluation { sources: session.sources, read: session.read, ..evaluation },
        findings: session.findings,
        complete: complete || !errors,
    }
}

fn open(root: &Path, trail: Trail) -> Result<Session, Box<Finding>> {
    let tree = Tree::new(root).map_err(|error| {
        Finding::error(format!("cannot open the source root `{}`", root.display())).note(error.to_string())
    })?;
    let globals = builtins::globals();
    let prelude = prelude(&globals)
        .map_err(|error| Finding::error(format!("the prelude of rick is broken: {error}")))?;
    Ok(Session {
        tree,
        globals,
        prelude,
        sources: Sources::default(),
        read: BTreeMap::new(),
        indexes: BTreeMap::new(),
        modules: BTreeMap::new(),
        loading: Vec::new(),
        findings: Vec::new(),
        trail,
    })
}

fn prelude(globals: &Globals) -> starlark::Result<FrozenModule> {
    let ast = AstModule::parse(PRELUDE, include_str!("prelude.star").to_owned(), &Dialect::Standard)?;
    Module::with_temp_heap(|module| {
        Evaluator::new(&module).eval_module(ast, globals)?;
        module.freeze().map_err(|error| starlark::Error::new_other(anyhow::anyhow!("{error:?}")))
    })
}

/// The environment's name, its hosts, and whether all their services were built. `None` if it could not even be read.
fn run(session: &mut Session, environment: &str) -> Option<(Evaluation, bool)> {
    let path = environment_path(session, environment)?;
    let Loaded { ast, imports } = session.load_environment(&path)?;
    Module::with_temp_heap(|module| {
        module.import_public_symbols(&session.prelude);
        let refs: HashMap<&str, &FrozenModule> =
            imports.iter().map(|(name, module)| (name.as_str(), module)).collect();
        let loader = ReturnFileLoader { modules: &refs };
        let mut evaluator = Evaluator::new(&module);
        limits::set(&mut evaluator).map_err(|error| session.report_error(&error, None)).ok()?;
        evaluator.set_loader(&loader);
        (session.trail)(&format!("evaluating `{path}`"));
        evaluator
            .eval_module(ast, &session.globals)
            .map_err(|error| session.report_error(&error, None))
            .ok()?;
        let Some(described) = module.get(ENVIRONMENT) else {
            session.report(
                Finding::error(format!("`{path}` describes no environment"))
                    .at(&Span::start_of(&path), "")
                    .help("add a call `environment(name = …, hosts = [host(…)])`"),
            );
            return None;
        };
        let name = field(described, "name")?.unpack_str()?.to_owned();
        let call = builtins::place_of(described)?;
        if name != environment {
            let place = session.argument_value(&call, "name");
            session.report(
                Finding::error(format!("the file `{path}` describes an environment called `{name}`"))
                    .at(&place, format!("must be `{environment}`, the name of the file")),
            );
        }
        let mut complete = true;
        let mut hosts = Vec::new();
        let embeds =
            field(described, "embeds").and_then(starlark::values::Value::unpack_bool).unwrap_or_default();
        let services = field(described, "services").and_then(ListRef::from_value)?.content().to_vec();
        let operators = field(described, "operators").and_then(ListRef::from_value)?;
        let operators = operators.iter().enumerate().filter_map(|(number, key)| {
            let span = session.element(&call, "operators", number);
            Some(PublicKey { text: key.unpack_str()?.to_owned(), span })
        });
        let operators = operators.collect();
        let environment = build::Environment { name, span: call.clone(), services };
        let described = field(described, "hosts").and_then(ListRef::from_value)?;
        if described.is_empty() {
            session.report(
                Finding::error(format!("the environment `{}` has no hosts", environment.name))
                    .at(&session.argument_value(&call, "hosts"), "a bundle for nobody"),
            );
        }
        for (number, value) in described.iter().enumerate() {
            let place = session.element(&call, "hosts", number);
            let (host, whole) = build::host(session, &mut evaluator, &environment, value, &place);
            complete &= whole;
            hosts.extend(host);
        }
        let name = environment.name;
        let evaluation = Evaluation { environment: name, hosts, embeds, operators, ..Evaluation::default() };
        Some((evaluation, complete))
    })
}

/// The file of an environment.
pub(super) fn path_of(environment: &str) -> SourcePath {
    SourcePath(format!("environments/{environment}.star"))
}

/// The environment's file; a name that does not exist is explained.
fn environment_path(session: &mut Session, environment: &str) -> Option<SourcePath> {
    let path = path_of(environment);
    if environment.parse::<Label>().is_err() {
        let shown = environment.escape_debug();
        let finding = Finding::error(format!("`{shown}` is not the name of an environment"))
            .note("a name has at most 64 of a-z, 0-9, `-` and `_`, the first a letter or digit");
        let stem = environment.rsplit('/').next().and_then(|file| file.strip_suffix(".star"));
        session.report(match stem.filter(|stem| stem.parse::<Label>().is_ok()) {
            Some(stem) => finding.help(format!("did you mean `{stem}`?")),
            None => finding.help("name a file of `environments/` without its `.star`"),
        });
        return None;
    }
    match session.tree.read(&path) {
        Err(Refusal::Missing(_, beside)) => {
            let names: Vec<&str> = beside.iter().filter_map(|name| name.strip_suffix(".star")).collect();
            let mut finding = Finding::error(format!("there is no environment `{environment}`"))
                .note(format!("it would be the file `{path}` below the source root"));
            if let Some(close) = closest(environment, names.iter().copied()) {
                finding = finding.help(format!("did you mean `{close}`?"));
            } else if !names.is_empty() {
                finding = finding.help(format!("choose one of: {}", names.join(", ")));
            }
            session.report(finding);
            None
        }
        _ => Some(path),
    }
}
