//! `rickbuild plan` says what hosts keep, and how services move between them, in an order that loses nothing.

use std::process::Output;

use crate::support::kept::KEEPER;
use crate::support::source::{self, Tree};

const COMMON: &str = r#"repository = "rest:https://backup.example.net/all", keep_last = 0, keep_weekly = 0"#;

/// A module of a service that has a site and a database.
const LEDGER: &str = r#"
load("//modules/caddy", "CaddyInfo")

def _build(ctx, web: CaddyInfo):
    name, true = ctx.name, ["/usr/bin/true"]
    return [
        user(name),
        program("/usr/bin/true", package = "coreutils"),
        state("/var/lib/" + name, user = name, group = name, copied = "stopped"),
        dump("book", user = name, save = true, restore = true, empty = true, clear = true),
        site(name + "." + ctx.host.domain, auth = "public", proxy = "127.0.0.1:8080"),
    ]

ledger = module(doc = "Keeps books.", requires = {"web": CaddyInfo}, contributes = ["site"], build = _build)
"#;

/// An environment of one host, which has a web server and copies of what these services keep.
fn environment(tree: &Tree, name: &str, host: &str, backups: &str, services: &str) {
    tree.write(
        &format!("environments/{name}.star"),
        &format!(
            r#"load("//modules/backups", "backups")
load("//modules/caddy", "caddy")
load("//modules/keeper", "keeper")
load("//modules/ledger", "ledger")

environment(
    name = "{name}",
    services = [backups({backups})],
    hosts = [host(name = "{host}", domain = "example.net", os = "debian-13", services = [
        caddy(email = "a@example.net"),
        {services}
    ])],
)
"#
        ),
    );
}

/// Everything moves from one to the other.
fn tree() -> Tree {
    let tree = source::modules();
    tree.write("modules/keeper/keeper.star", KEEPER);
    tree.write("modules/ledger/ledger.star", LEDGER);
    environment(&tree, "homelab", "attic", COMMON, "");
    let moved = r#"ledger(moved_from = "homelab/attic"), keeper(name = "notes", moved_from = "homelab/attic"), keeper(name = "stays"),"#;
    environment(&tree, "production", "cellar", COMMON, moved);
    tree
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[track_caller]
fn ends(output: &Output, code: i32) -> String {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn what_hosts_keep_and_how_services_move_is_said_step_by_step() {
    let output = tree().rickbuild(&["plan", "production"]);
    assert_eq!(ends(&output, 0), "");
    let expected = "\
host cellar of environment production
  ledger keeps, comes from homelab/attic, is stopped while it is copied:
    /var/lib/ledger
    dump book by ledger
  notes keeps, comes from homelab/attic:
    /srv/notes-more
    /var/lib/notes
  stays keeps:
    /srv/stays-more
    /var/lib/stays
  nothing is kept of backups and caddy
  copies go to rest:https://backup.example.net/all of backups, keeps 7 daily, 6 monthly

ledger and notes from homelab/attic to production/cellar, by way of rest:https://backup.example.net/all
  `restic-password` of homelab/attic and `restic-password` of production/cellar must have one value: both open it
  1. activate the build of homelab on attic: stops ledger and notes, copies what they keep (/var/lib/ledger, dump book, /srv/notes-more, /var/lib/notes), and releases them
       $ rickbuild homelab --sign-key KEY > homelab.tar
       attic# rick-activate homelab.tar
  2. activate the build of production on cellar: restores ledger and notes, and starts them; if this is first, they wait for 1 and ask every minute
       $ rickbuild production --sign-key KEY > production.tar
       cellar# rick-activate production.tar
  3. point ledger.example.net to cellar
  4. when all is well, remove what attic still has, and take `moved_from` out of environments/production.star
       attic# rick-activate forget ledger --yes
       attic# rick-activate forget notes --yes
";
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn programs_get_the_same_as_json() {
    let output = tree().rickbuild(&["plan", "homelab", "production", "--json"]);
    ends(&output, 0);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(plan["hosts"][0]["host"], "attic");
    assert_eq!(plan["hosts"][1]["services"][0]["dumps"][0]["name"], "book");
    let moves = plan["moves"].as_array().unwrap();
    assert_eq!(moves.len(), 1);
    let commands: Vec<_> = moves[0]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|step| step["commands"].as_array().unwrap())
        .map(|command| (command["on"].as_str(), command["command"].as_str().unwrap()))
        .collect();
    assert_eq!(commands.len(), 6);
    assert_eq!(commands[1], (Some("attic"), "rick-activate homelab.tar"));
    assert_eq!(commands[2], (None, "rickbuild production --sign-key KEY > production.tar"));
}

#[test]
fn a_move_that_would_lose_something_is_refused() {
    let tree = tree();
    environment(&tree, "homelab", "attic", r#"repository = "/srv/backups""#, "ledger(),");
    let output = tree.rickbuild(&["plan", "production"]);
    let said = ends(&output, 1);
    assert_eq!(text(&output.stdout), "");
    let expected = "\
error: `ledger` would be on two hosts
  --> environments/production.star:11:29
   |
11 |         ledger(moved_from = \"homelab/attic\"), keeper(name = \"notes\", moved_from = \"homelab/attic\"), keeper(name = \"stays\"),
   |                             ^^^^^^^^^^^^^^^ it comes from there
   |
  ::: environments/homelab.star:11:9
   |
11 |         ledger(),
   |         -------- and is still there
   |
   = help: take it out of `homelab/attic`
";
    assert!(said.contains(expected), "{said}");
    assert!(
        said.contains("`notes` cannot come from `homelab/attic`: the two hosts have no repository in common")
    );
    // Neither environment is wrong in itself.
    for environment in ["homelab", "production"] {
        ends(&tree.rickbuild(&["check", environment]), 0);
    }
}

#[test]
fn an_environment_of_another_source_tree_is_left_to_who_looks_after_it() {
    let tree = tree();
    std::fs::remove_file(tree.path().join("environments/homelab.star")).unwrap();
    let output = tree.rickbuild(&["plan", "production"]);
    let said = ends(&output, 0);
    assert!(
        said.starts_with("warning: there is no environment `homelab`, from which `ledger` comes"),
        "{said}"
    );
    assert!(text(&output.stdout).contains("1. activate the build of homelab on attic"));
}

#[test]
fn what_is_wrong_with_either_environment_is_said_and_nothing_is_planned() {
    let tree = tree();
    tree.edit("environments/homelab.star", "caddy(email", "caddy(emial");
    let output = tree.rickbuild(&["plan", "production"]);
    assert!(ends(&output, 1).contains("`caddy` has no option `emial`"));
    assert_eq!(text(&output.stdout), "");
    let output = tree.rickbuild(&["plan", "productoin"]);
    assert!(ends(&output, 1).contains("did you mean `production`?"));
    assert_eq!(tree.rickbuild(&["plan"]).status.code(), Some(2));
}

#[test]
fn a_plan_writes_nothing() {
    let tree = tree();
    let files = || {
        let output = std::process::Command::new("find").arg(tree.path()).output().unwrap();
        text(&output.stdout)
    };
    let before = files();
    ends(&tree.rickbuild(&["plan", "production"]), 0);
    assert_eq!(files(), before);
}
