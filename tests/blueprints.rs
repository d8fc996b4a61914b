//! What authentik is told is what authentik's own models take, release by release: judged by its generated client, with its tags.

use std::path::Path;
use std::process::Command;

use crate::support::{require_root, source};

const BLUEPRINT: &str = "objects/authentik-blueprints/sign-in.yaml";

/// Has the models of a release judge the blueprint of an environment.
#[track_caller]
fn judge(tree: &source::Tree, release: &str) -> String {
    let output = tree.rickbuild(&["show", "homelab", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let hosts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = hosts[0]["files"][BLUEPRINT]["text"].as_str().expect("the homelab has a blueprint").to_owned();
    tree.write("sign-in.yaml", &text);
    let judged = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/blueprint-judge"))
        .args(["--strict", release])
        .arg(tree.path().join("sign-in.yaml"))
        .output()
        .expect("ci/blueprint-judge runs");
    let said = [judged.stdout, judged.stderr].concat();
    assert!(judged.status.success(), "{release}: {}", String::from_utf8_lossy(&said));
    text
}

/// The homelab, with something of everything that can be asked of a provider.
fn everything() -> source::Tree {
    let tree = source::whole();
    let file = "environments/homelab.star";
    tree.edit(
        file,
        "access = Access(mfa = True)",
        "access = Access(mfa = True, groups = [\"developers\", \"ops\"], networks = INTERNAL)",
    );
    tree.edit(
        file,
        "whoami(name = \"app\", auth = \"forward\",",
        "whoami(name = \"app\", auth = \"forward\", access = Access(groups = [\"ops\"], mfa = True),",
    );
    tree.edit(
        file,
        "authentik(subdomain = \"auth\")",
        "authentik(subdomain = \"auth\", gone = [\"grafana\", \"site-old_jnss_me\"])",
    );
    tree
}

#[test]
fn the_models_of_each_release_take_the_blueprint() {
    require_root!();
    let tree = everything();
    let text = judge(&tree, "2026.8");
    for part in ["grant_types:", "request.user.groups.all()", "policy-groups-gitea", "state: \"absent\""] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    tree.edit("environments/homelab.star", "gone = [", "release = \"2025.10\", gone = [");
    let text = judge(&tree, "2025.10");
    assert!(!text.contains("grant_types:") && text.contains("request.user.ak_groups.all()"), "{text}");
}

#[test]
fn a_guarded_site_is_open_to_those_only_whom_all_its_conditions_let_in() {
    let tree = everything();
    let output = tree.rickbuild(&["show", "homelab", "--json"]);
    let hosts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = hosts[0]["files"][BLUEPRINT]["text"].as_str().unwrap();
    let applications = text.matches("model: \"authentik_core.application\"\n    id:").count();
    assert_eq!(applications, 6);
    assert_eq!(text.matches("policy_engine_mode: \"all\"").count(), applications);
    // Each condition of one application is a binding of its own.
    let bindings = text.matches("target: !KeyOf \"application-gitea\"").count();
    assert_eq!(bindings, 2);
    let provider = text.split("id: \"provider-gitea\"").nth(1).unwrap();
    assert!(provider.split("\n\n").next().unwrap().contains("authorization_flow: !KeyOf \"flow-mfa\""));
    // A place that has no condition says so: one that an earlier generation made would go on deciding.
    let open = text.split("id: \"application-site-docs_jnss_me\"").nth(1).unwrap();
    assert_eq!(
        open.split("model: \"authentik_core").next().unwrap().matches("state: \"absent\"").count(),
        2,
        "{open}"
    );
    // What is public is so in the very words of the proxy, and nothing that could be read as another path.
    assert!(text.contains(
        r#"skip_path_regex: "^/health$\n^/metrics$\n^/public(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$""#
    ));
}

#[test]
fn a_release_that_needs_redis_is_refused() {
    let tree = source::whole();
    tree.edit(
        "environments/homelab.star",
        "authentik(subdomain = \"auth\")",
        "authentik(subdomain = \"auth\", release = \"2025.8\")",
    );
    let output = tree.rickbuild(&["check", "homelab"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("authentik 2025.8 keeps its sessions in Redis"), "{said}");
}
