//! What images and builds take from elsewhere: names that are whole, paths that are free, builds that say what they make.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::super::super::finding::Finding;
use super::super::super::host::{self, Base, Source};
use super::super::super::item::{self, BaseKind, Build, Item, Noun};
use super::super::super::outside::{Outside, Wrong};
use super::super::super::source::Span;
use super::super::stated::Stated;
use super::settings::no_tokens;
use crate::bundle::names::{BundlePath, HostPath};

/// Where a sandbox has something of its own.
const TAKEN: [&str; 6] = ["/out", "/build", "/tmp", "/proc", "/dev", "/sys"];
/// What Linux takes as one argument or variable, and a little less.
const MAX_TEXT: usize = 120_000;
/// Far above all that can be had in one machine.
const MAX_CORES: u32 = 1024;

/// The source of a layer; `place` is where it is asked for.
pub(super) fn source(
    stated: Stated<'_>,
    source: &item::Source,
    place: &Span,
    findings: &mut Vec<Finding>,
) -> Option<Source> {
    Some(match source {
        item::Source::Tree(path) => Source::Tree(path.clone()),
        item::Source::Archive(archive) => {
            let stated_outside = item::Outside::Archive(&archive.url);
            match outside(stated, stated_outside, &archive.span, findings)? {
                Outside::Archive(url) => Source::Archive(url, archive.span.clone()),
                Outside::Image(_) | Outside::Packages(_) => return None,
            }
        }
        item::Source::Output(made, name) => {
            let made = build(stated, made, findings)?;
            Source::Output(Box::new(made), name.parse().ok()?)
        }
        item::Source::Within(of, path) => {
            let path =
                inside(path).map_err(|why| findings.push(stated.locate(Finding::error(why), place, ""))).ok();
            let of = base(stated, of, findings)?;
            Source::Within(Box::new(of), path?)
        }
    })
}

/// The image that another stands on, or a build runs in.
pub(super) fn base(stated: Stated<'_>, base: &item::Base, findings: &mut Vec<Finding>) -> Option<Base> {
    let stated_outside = match &base.kind {
        BaseKind::Upstream(reference) => item::Outside::Image(reference),
        BaseKind::Debian { release, packages } => item::Outside::Debian { release, packages },
        BaseKind::Image(image) => {
            // Stated by a call of its own, whose arguments are not known here.
            let noun = Noun::Image(image.clone());
            let item = Item { noun, span: base.span.clone(), places: BTreeMap::new() };
            let mut own = Vec::new();
            let image = super::image(Stated { item: &item, ..stated }, image, false, &mut own);
            // A module may give it to the host as well, and what is wrong with it is told there.
            own.retain(|finding| findings.iter().all(|told| told.message != finding.message));
            findings.append(&mut own);
            let kind = host::BaseKind::Image(Box::new(image?));
            return Some(Base { kind, span: base.span.clone() });
        }
    };
    let kind = match outside(stated, stated_outside, &base.span, findings)? {
        Outside::Image(reference) => host::BaseKind::Upstream(reference),
        Outside::Packages(packages) => host::BaseKind::Debian(packages),
        Outside::Archive(_) => return None,
    };
    Some(Base { kind, span: base.span.clone() })
}

fn outside(
    stated: Stated<'_>,
    outside: item::Outside<'_>,
    place: &Span,
    findings: &mut Vec<Finding>,
) -> Option<Outside> {
    let wrong =
        |Wrong { message, help }| findings.push(stated.locate(Finding::error(message), place, "").help(help));
    Outside::parse(outside).map_err(wrong).ok()
}

fn build(stated: Stated<'_>, build: &Build, findings: &mut Vec<Finding>) -> Option<host::Build> {
    let error =
        |words: &[&str], message: String| stated.locate(Finding::error(message), build.place(words), "");
    let name = parsed(&build.name, |why| findings.push(error(&[&build.name], why)));
    let root = base(stated, &build.root, findings);
    let outputs = outputs(build, error, findings);
    let paths = input_paths(build, error, findings);
    let mut inputs = BTreeMap::new();
    for (path, input) in &build.inputs {
        let place = build.place(&[path, "inputs"]);
        if let (Some(input), Some(path)) = (source(stated, input, place, findings), paths.get(path.as_str()))
        {
            inputs.insert(path.clone(), input);
        }
    }
    if build.command.iter().all(String::is_empty) {
        findings.push(error(&["command"], format!("the build `{}` runs nothing", build.name)));
    }
    for text in &build.command {
        if text.contains('\0') || text.len() > MAX_TEXT {
            let message =
                format!("an argument of the build `{}` has a zero byte, or more than {MAX_TEXT}", build.name);
            findings.push(error(&["command"], message));
        }
        no_tokens(text, |message| error(&[text, "command"], message), findings);
    }
    for (name, value) in &build.environment {
        if name.is_empty()
            || name.contains(['=', '\0', '\n'])
            || value.contains('\0')
            || name.len() + value.len() > MAX_TEXT
        {
            let message =
                format!("`{}` cannot be a variable of the build `{}`", name.escape_debug(), build.name);
            findings.push(error(&[name, "environment"], message));
        }
        no_tokens(value, |message| error(&[name, "environment"], message), findings);
    }
    if !(1..=MAX_CORES).contains(&build.cores) {
        let message = format!("a build cannot have {} processors: between 1 and {MAX_CORES}", build.cores);
        findings.push(error(&["cores"], message));
    }
    Some(host::Build {
        name: name?,
        root: root?,
        inputs,
        command: build.command.clone(),
        environment: build.environment.clone(),
        outputs,
        cores: build.cores,
        span: build.span.clone(),
    })
}

/// What the build makes: at least one thing, none below another.
fn outputs(
    build: &Build,
    error: impl Fn(&[&str], String) -> Finding,
    findings: &mut Vec<Finding>,
) -> BTreeSet<BundlePath> {
    if build.outputs.is_empty() {
        let finding = error(&["outputs"], format!("the build `{}` makes nothing", build.name));
        findings
            .push(finding.help("name what it leaves in `/out`: `outputs = [\"program\"]` is `/out/program`"));
    }
    let mut outputs = BTreeSet::new();
    for text in &build.outputs {
        outputs.extend(parsed::<BundlePath>(text, |why| findings.push(error(&[text, "outputs"], why))));
    }
    for (outer, inner) in nested(outputs.iter().map(BundlePath::as_str)) {
        let message = format!("the output `{inner}` is a part of the output `{outer}`");
        findings.push(error(&[inner, "outputs"], message).help("leave one of the two out"));
    }
    outputs
}

/// The paths of inputs as they are below the root, by the text of the module.
fn input_paths<'a>(
    build: &'a Build,
    error: impl Fn(&[&str], String) -> Finding,
    findings: &mut Vec<Finding>,
) -> BTreeMap<&'a str, BundlePath> {
    let mut paths = BTreeMap::new();
    for text in build.inputs.keys() {
        if let Some(taken) = TAKEN.iter().find(|taken| is_at_or_below(text, taken)) {
            let message = format!("no input can stand at `{text}`: the sandbox has its own `{taken}`");
            findings.push(error(&[text, "inputs"], message).help("put it at another path, as in `/src`"));
            continue;
        }
        match inside(text) {
            Ok(path) => drop(paths.insert(text.as_str(), path)),
            Err(why) => findings.push(error(&[text, "inputs"], why)),
        }
    }
    for (outer, inner) in nested(paths.keys().copied()) {
        let message = format!("the input `{inner}` stands below the input `{outer}`, which is read-only");
        findings.push(error(&[inner, "inputs"], message).help("put them side by side"));
    }
    paths
}

/// An absolute path as one below a root.
fn inside(text: &str) -> Result<BundlePath, String> {
    text.parse::<HostPath>().and_then(|_| text.trim_start_matches('/').parse())
}

fn parsed<T: FromStr<Err = String>>(text: &str, wrong: impl FnOnce(String)) -> Option<T> {
    text.parse().map_err(wrong).ok()
}

/// Those that stand below others, each after one of these.
fn nested<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<(&'a str, &'a str)> {
    let paths: BTreeSet<&str> = paths.collect();
    let outer =
        |path: &str| path.match_indices('/').find_map(|(slash, _)| paths.get(&path[..slash]).copied());
    paths.iter().filter_map(|path| Some((outer(path)?, *path))).collect()
}

fn is_at_or_below(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
