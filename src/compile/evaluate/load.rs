//! Loads a file and, first, all files that it loads.

use std::collections::HashMap;

use starlark::environment::{FrozenModule, Module};
use starlark::eval::{Evaluator, ReturnFileLoader};
use starlark::syntax::{AstModule, Dialect, DialectTypes};

use super::super::finding::Finding;
use super::super::similar::closest;
use super::super::source::{SourcePath, Span};
use super::index::Index;
use super::limits;
use super::session::{Session, span_of};
use super::tree::{Refusal, folder_of, resolve};

/// The dialect of modules: all of the language, with types.
const MODULES: Dialect = Dialect {
    enable_def: true,
    enable_lambda: true,
    enable_load: true,
    enable_keyword_only_arguments: true,
    enable_positional_only_arguments: false,
    enable_types: DialectTypes::Enable,
    enable_load_reexport: false,
    enable_top_level_stmt: false,
    enable_f_strings: true,
    _non_exhaustive: (),
};

/// The dialect that environments are parsed in: wider than what they may hold, so that `dialect` can name all that is too much.
const ENVIRONMENTS: Dialect = Dialect { enable_top_level_stmt: true, ..MODULES };

/// A parsed file with the modules that its `load` statements name.
pub(super) struct Loaded {
    pub(super) ast: AstModule,
    /// The spelling in the `load` statement → the module.
    pub(super) imports: Vec<(String, FrozenModule)>,
}

impl Session {
    /// Parses an environment and loads all its modules. `None` if anything went wrong; that is then among the findings.
    pub(super) fn load_environment(&mut self, path: &SourcePath) -> Option<Loaded> {
        let ast = self.parse(path, None, &ENVIRONMENTS)?;
        let restricted = super::dialect::violations(&ast);
        let refused = !restricted.is_empty();
        self.findings.extend(restricted);
        let loaded = self.with_imports(path, ast)?;
        (!refused).then_some(loaded)
    }

    /// Loads one module that nobody asks for.
    pub(super) fn load_module(&mut self, path: &SourcePath) -> Option<FrozenModule> {
        self.loading.push(path.clone());
        let module = self.module(path, &Span::start_of(path));
        self.loading.pop();
        self.modules.insert(path.clone(), module.clone());
        module
    }

    fn with_imports(&mut self, path: &SourcePath, ast: AstModule) -> Option<Loaded> {
        let wanted: Vec<(String, Span)> =
            ast.loads().iter().map(|load| (load.module_id.to_owned(), span_of(&load.span))).collect();
        let mut imports = Vec::new();
        let mut complete = true;
        for (written, span) in wanted {
            match self.import(path, &written, &span) {
                Some(module) => imports.push((written, module)),
                None => complete = false,
            }
        }
        complete.then_some(Loaded { ast, imports })
    }

    fn import(&mut self, from: &SourcePath, written: &str, span: &Span) -> Option<FrozenModule> {
        let path = match module_path(from, written) {
            Ok(path) => path,
            Err(why) => {
                self.report(
                    Finding::error(format!("cannot load `{}`", written.escape_debug())).at(span, why),
                );
                return None;
            }
        };
        if let Some(known) = self.modules.get(&path) {
            return known.clone();
        }
        if let Some(start) = self.loading.iter().position(|loading| *loading == path) {
            let circle: Vec<String> = self.loading[start..].iter().map(ToString::to_string).collect();
            self.report(
                Finding::error(format!("cannot load `{written}`"))
                    .at(span, "it is being loaded already")
                    .note(format!("the circle: {} → {path}", circle.join(" → "))),
            );
            return None;
        }
        self.loading.push(path.clone());
        let module = self.module(&path, span);
        self.loading.pop();
        self.modules.insert(path, module.clone());
        module
    }

    fn module(&mut self, path: &SourcePath, span: &Span) -> Option<FrozenModule> {
        let ast = self.parse(path, Some(span), &MODULES)?;
        let Loaded { ast, imports } = self.with_imports(path, ast)?;
        (self.trail)(&format!("loading `{path}`"));
        let result = Module::with_temp_heap(|module| {
            module.import_public_symbols(&self.prelude);
            let refs: HashMap<&str, &FrozenModule> =
                imports.iter().map(|(name, module)| (name.as_str(), module)).collect();
            let loader = ReturnFileLoader { modules: &refs };
            {
                let mut evaluator = Evaluator::new(&module);
                limits::set(&mut evaluator)?;
                evaluator.enable_static_typechecking(true);
                evaluator.set_loader(&loader);
                evaluator.eval_module(ast, &self.globals)?;
            }
            module.freeze().map_err(|error| starlark::Error::new_other(anyhow::anyhow!("{error:?}")))
        });
        result.map_err(|error| self.report_error(&error, Some((span, "loaded here".to_owned())))).ok()
    }

    fn parse(&mut self, path: &SourcePath, asked_at: Option<&Span>, dialect: &Dialect) -> Option<AstModule> {
        let text = match self.read(path) {
            Ok(text) => text,
            Err(refusal) => {
                self.report(unreadable("cannot load", path, asked_at, refusal));
                return None;
            }
        };
        // What some editors put before a text, and the language takes for a part of it.
        let text = text.trim_start_matches('\u{feff}').to_owned();
        self.sources.0.insert(path.clone(), text.clone());
        match AstModule::parse(&path.0, text, dialect) {
            Ok(ast) => {
                self.indexes.insert(path.clone(), Index::of(&ast));
                Some(ast)
            }
            Err(error) => {
                self.report_error(&error, None);
                None
            }
        }
    }
}

/// `//modules/x` → `modules/x/x.star`; a path that ends in `.star` stays as it is.
pub(super) fn module_path(from: &SourcePath, written: &str) -> Result<SourcePath, String> {
    let SourcePath(path) = resolve(folder_of(&from.0), written.strip_prefix(':').unwrap_or(written))?;
    if path.rsplit_once('.').is_some_and(|(_, extension)| extension == "star") {
        return Ok(SourcePath(path));
    }
    let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
    Ok(SourcePath(format!("{path}/{name}.star")))
}

/// A file that cannot be read, with what a person can do.
pub(super) fn unreadable(
    what: &str,
    path: &SourcePath,
    asked_at: Option<&Span>,
    refusal: Refusal,
) -> Finding {
    let finding = Finding::error(format!("{what} `{path}`"));
    let (why, finding) = match refusal {
        Refusal::Outside(why) => {
            (why, finding.help("keep every file of an environment inside its source root"))
        }
        Refusal::Unreadable(why) => (why, finding),
        Refusal::Missing(name, beside) => {
            let finding = match closest(&name, beside.iter().map(String::as_str)) {
                Some(close) => finding.help(format!("did you mean `{close}` for `{name}`?")),
                None => finding,
            };
            ("there is no such file".to_owned(), finding)
        }
    };
    match asked_at {
        Some(span) => finding.at(span, why),
        None => finding.at(&Span::start_of(path), "").note(why),
    }
}
