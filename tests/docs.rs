//! What the documents show works as it stands there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::Parser as _;
use rick::activate::cli::Arguments;

use crate::support::source;

/// The first block of a language in a document of the project.
pub(crate) fn block(document: &str, language: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, rest) = text.split_once(&format!("```{language}\n")).expect("the document shows an example");
    rest.split_once("```").expect("the example ends").0.to_owned()
}

#[test]
fn the_environment_in_the_readme_compiles() {
    let tree = source::modules();
    tree.write("environments/homelab.star", &block("README.md", "python"));
    let output = tree.rickbuild(&["check", "homelab"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_mistake_in_the_readme_is_said_as_shown() {
    let shown = block("README.md", "text");
    let said = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/errors/misspelt-option/expected.txt"),
    )
    .unwrap();
    assert!(said.starts_with(&shown), "{said}");
}

#[test]
fn the_module_in_the_guide_compiles() {
    let tree = source::modules();
    tree.write("modules/notes/notes.star", &block("docs/modules.md", "python"));
    tree.write(
        "environments/guide.star",
        r#"
load("//modules/caddy", "caddy")
load("//modules/notes", "notes")
load("//modules/postgresql", "postgresql")

environment(
    name = "guide",
    hosts = [host(
        name = "box",
        domain = "example.net",
        services = [postgresql(), caddy(email = "a@example.net"), notes(auth = "public")],
    )],
)
"#,
    );
    let output = tree.rickbuild(&["check", "guide"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The guide to images has every argument, and `tests/images.rs` builds and runs its example.
#[test]
fn the_guide_to_images_tells_every_argument() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join("docs/images.md")).unwrap();
    let (_, tables) = guide.split_once("## What stands in it").unwrap();
    assert_tells(tables, "images.rs", 15);
}

#[test]
fn the_guide_to_builds_tells_every_argument() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_tells(&fs::read_to_string(root.join("docs/builds.md")).unwrap(), "builds.rs", 5);
}

/// A text has all arguments by name of the functions in a file; there are more than so many.
fn assert_tells(text: &str, file: &str, many: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = fs::read_to_string(root.join("src/compile/evaluate/builtins").join(file)).unwrap();
    let arguments =
        code.lines().filter_map(|line| line.split_once("#[starlark(require = named")?.1.split_once(")] "));
    let names: BTreeSet<&str> = arguments.map(|(_, rest)| rest.split(':').next().unwrap()).collect();
    assert!(names.len() > many, "{names:?}");
    for name in names {
        assert!(text.contains(&format!("`{name}")) || text.contains(&format!(", {name}")), "{name}");
    }
}

/// The commands in the blocks of a shell.
#[test]
fn every_command_of_the_pages_on_hosts_is_one() {
    let page = |name| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let pages = page("docs/activate.md") + &page("docs/registries.md");
    let mut commands = 0;
    for line in pages.lines().filter(|line| line.starts_with("rick-activate ")) {
        let words = line.split('#').next().unwrap().split_whitespace();
        let parsed = Arguments::try_parse_from(words);
        assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
        commands += 1;
    }
    assert!(commands > 20, "{commands}");
}

/// Every folder of modules/ whose file defines a module has its page; the others are what modules load.
#[test]
fn each_module_has_its_page_as_its_code_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tree = source::modules();
    let mut pages = BTreeSet::new();
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root.join("modules")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let code = fs::read_to_string(root.join(format!("modules/{name}/{name}.star"))).unwrap_or_default();
        if !code.contains(&format!("\n{name} = module(")) {
            continue;
        }
        let output = tree.rickbuild(&["options", &name, "--markdown"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let page = root.join(format!("docs/modules/{name}.md"));
        if std::env::var_os("RICK_BLESS").is_some() {
            fs::write(&page, &said).unwrap();
        }
        if fs::read_to_string(&page).unwrap_or_default() != said {
            wrong.push(name.clone());
        }
        pages.insert(format!("{name}.md"));
    }
    assert!(
        wrong.is_empty(),
        "run the tests with RICK_BLESS=1, and read what changed in docs/modules: {wrong:?}"
    );
    let kept = fs::read_dir(root.join("docs/modules")).unwrap();
    let kept: BTreeSet<String> =
        kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(kept, pages, "docs/modules holds a page for each module, and nothing else");
}
