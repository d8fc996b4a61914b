//! The workflows of `ci/workflows`, as far as they go without the service that they are for: their steps run as it would run them, against a
//! registry of the test. What is left out is what installs programs, and what the service does itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::lab::{said, wait_for};
use crate::support::registry::{Keys, Network, Registry};
use crate::support::root::activator;
use crate::support::signing;
use crate::support::source::{self, Tree};

const FILES: [&str; 2] = ["github.yml", "gitea.yml"];
/// What is not run: it installs programs.
const INSTALLS: &str = "Install programs";
/// The service found the program in its cache.
const HIT: (&str, &str) = ("steps.rickbuild.outputs.cache-hit", "true");

/// A workflow, read by Debian's reader of YAML.
fn workflow(file: &str) -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/workflows").join(file);
    let output = Command::new("/usr/bin/python3").args(["-I", "-c", script]).arg(path).output().unwrap();
    assert!(output.status.success(), "ci/setup installs python3-yaml: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn steps(workflow: &Value) -> &Vec<Value> {
    workflow["jobs"]["rick"]["steps"].as_array().unwrap()
}

/// A service that runs a job for an event.
struct Service {
    /// The home of the job, its temporary folder, and where it writes what later steps have.
    machine: TempDir,
    tree: Tree,
    /// What stands for expressions.
    knows: BTreeMap<&'static str, String>,
    registry: Registry,
    keys: Keys,
}

impl Service {
    fn of(tree: Tree, event: &str) -> Self {
        let keys = Keys::make();
        let registry = Registry::start(Network::MACHINE, &keys.tls(), &keys.password());
        let machine = tempfile::tempdir().unwrap();
        let this = Self {
            machine,
            tree,
            knows: BTreeMap::from([
                ("github.event_name", event.to_owned()),
                ("github.ref", "refs/heads/main".to_owned()),
                ("github.actor", "lab".to_owned()),
                ("secrets.GITHUB_TOKEN", "open sesame".to_owned()),
                ("secrets.REGISTRY_USER", "lab".to_owned()),
                ("secrets.SIGNING_KEY", fs::read_to_string(signing::key()).unwrap()),
                ("secrets.REGISTRY_PASSWORD", "open sesame".to_owned()),
                (HIT.0, HIT.1.to_owned()),
            ]),
            registry,
            keys,
        };
        for folder in ["home/.local/rick/bin", "home/.cache/rick", "temp"] {
            fs::create_dir_all(this.place(folder)).unwrap();
        }
        // What the service's cache brings: the program, and what was fetched before.
        fs::copy(env!("CARGO_BIN_EXE_rickbuild"), this.place("home/.local/rick/bin/rickbuild")).unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache/rick");
        for kept in ["blobs", "builds", "files"] {
            let mut copy = Command::new("cp");
            copy.args(["--recursive", "--link"]).arg(cache.join(kept)).arg(this.place("home/.cache/rick"));
            assert!(copy.status().unwrap().success());
        }
        this.trusts_the_registry();
        this
    }

    fn place(&self, name: &str) -> PathBuf {
        self.machine.path().join(name)
    }

    fn at(&self) -> String {
        format!("127.0.0.1:{}", self.registry.port)
    }

    fn trusts_the_registry(&self) {
        let folder = self.place("home/.config/containers/certs.d").join(self.at());
        fs::create_dir_all(&folder).unwrap();
        fs::copy(self.keys.path("authority.crt"), folder.join("ca.crt")).unwrap();
    }

    /// A text with its expressions replaced.
    fn filled(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        while let Some((before, rest)) = filled.split_once("${{") {
            let (expression, after) = rest.split_once("}}").unwrap();
            let value = self.knows.get(expression.trim()).unwrap_or_else(|| panic!("{expression}"));
            filled = [before, value, after].concat();
        }
        filled
    }

    /// Comparisons, joined by words of one kind.
    fn holds(&self, condition: &str) -> bool {
        let one = |comparison: &str| {
            let equal = !comparison.contains("!=");
            let (left, right) = comparison.split_once(if equal { "==" } else { "!=" }).unwrap();
            (self.knows[left.trim()] == right.trim().trim_matches('\'')) == equal
        };
        if condition.contains("||") { condition.split("||").any(one) } else { condition.split("&&").all(one) }
    }

    /// Runs the job until a step fails; gives the names of those that ran, and what the last one said.
    fn run(&self, workflow: &Value) -> (Vec<String>, Output) {
        let mut variables: BTreeMap<String, String> = BTreeMap::from([
            ("HOME".to_owned(), self.place("home").display().to_string()),
            ("CI".to_owned(), "true".to_owned()),
            ("GITHUB_ACTIONS".to_owned(), "true".to_owned()),
            ("GITHUB_PATH".to_owned(), self.place("path").display().to_string()),
            ("GITHUB_REPOSITORY".to_owned(), "Example/Fleet".to_owned()),
            ("GITHUB_RUN_NUMBER".to_owned(), "42".to_owned()),
            ("RUNNER_TEMP".to_owned(), self.place("temp").display().to_string()),
        ]);
        variables.extend(self.environment(&workflow["env"]));
        variables.insert("REGISTRY".to_owned(), self.at());
        let (mut ran, mut last) = (Vec::new(), None);
        for step in steps(workflow) {
            let Some(script) = step["run"].as_str() else { continue };
            let name = step["name"].as_str().unwrap();
            let wanted = step["if"].as_str().is_none_or(|condition| self.holds(condition));
            if name == INSTALLS || !wanted {
                continue;
            }
            let file = self.place("step.sh");
            fs::write(&file, script).unwrap();
            let added = fs::read_to_string(self.place("path")).unwrap_or_default();
            let path: Vec<&str> = added.lines().rev().chain(["/usr/bin:/bin:/usr/sbin:/sbin"]).collect();
            let mut command = Command::new("bash");
            command
                .args(["--noprofile", "--norc", "-eo", "pipefail"])
                .arg(&file)
                .current_dir(self.tree.path());
            command
                .env_clear()
                .envs(&variables)
                .env("PATH", path.join(":"))
                .envs(self.environment(&step["env"]));
            let output = command.stdin(Stdio::null()).output().unwrap();
            ran.push(name.to_owned());
            let failed = !output.status.success();
            last = Some(output);
            if failed {
                break;
            }
        }
        (ran, last.unwrap())
    }

    /// Something that a step has started is there yet, and with it what it was told.
    fn still_runs(&self) -> bool {
        let home = format!("HOME={}", self.place("home").display()).into_bytes();
        let environment = |entry: fs::DirEntry| fs::read(entry.path().join("environ")).unwrap_or_default();
        let mut all = fs::read_dir("/proc").unwrap().map(|entry| environment(entry.unwrap()));
        all.any(|environment| environment.split(|&byte| byte == 0).any(|variable| variable == home))
    }

    fn environment(&self, stated: &Value) -> Vec<(String, String)> {
        let stated = stated.as_object().into_iter().flatten();
        stated.map(|(name, value)| (name.clone(), self.filled(value.as_str().unwrap()))).collect()
    }
}

#[test]
fn each_has_the_same_steps_and_as_few_rights_as_can_be() {
    let [github, gitea] = FILES.map(workflow);
    for (file, workflow) in FILES.into_iter().zip([&github, &gitea]) {
        // YAML takes `on` for a word of logic.
        let on = &workflow["true"];
        assert_eq!(on["push"]["branches"], serde_json::json!(["main"]), "{file}");
        for event in ["pull_request", "workflow_dispatch", "schedule"] {
            assert!(on.as_object().unwrap().contains_key(event), "{file}: {event}");
        }
        assert_eq!(workflow["permissions"]["contents"], "read");
        assert_eq!(workflow["jobs"].as_object().unwrap().len(), 1);
        for step in steps(workflow) {
            if let Some(action) = step["uses"].as_str() {
                let commit = action.rsplit_once('@').unwrap().1;
                assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{action}");
            }
            // What comes from outside reaches scripts by the environment alone.
            assert!(!step["run"].as_str().unwrap_or_default().contains("${{"), "{file}: {step}");
            let secret = step.to_string().contains("secrets.");
            assert_eq!(secret, step["name"] == "Publish", "{file}: {step}");
        }
        assert_eq!(steps(workflow)[0]["with"]["persist-credentials"], false);
    }
    assert_eq!(github["permissions"]["packages"], "write");
    assert_eq!(gitea["permissions"].as_object().unwrap().len(), 1);
    // What they do is the same, but for how programs come to be there.
    let scripts = |workflow: &Value| -> Vec<(Value, Value, Value)> {
        let of = |step: &Value| (step["name"].clone(), step["if"].clone(), step["run"].clone());
        steps(workflow).iter().map(of).filter(|(name, ..)| name != INSTALLS).collect()
    };
    assert_eq!(scripts(&github), scripts(&gitea));
}

const ALWAYS: [&str; 5] =
    ["Find rickbuild", "See that rick.lock is complete", "Fetch what it names", "Check", "Build"];

#[test]
fn a_push_is_published_and_a_host_activates_it() {
    for file in FILES {
        let service = Service::of(source::buildable(), "push");
        let workflow = workflow(file);
        let (ran, last) = service.run(&workflow);
        assert!(last.status.success(), "{file}: {ran:?}: {}", said(&last));
        assert_eq!(ran, [&ALWAYS[..], &["Publish"]].concat(), "{file}");
        assert_eq!(
            fs::read_dir(service.place("temp")).unwrap().count(),
            0,
            "neither password nor key is left"
        );
        wait_for("the end of the agent", || !service.still_runs());
        let text = String::from_utf8(last.stdout).unwrap();
        let to = format!("oci://{}/example/fleet/homelab:stable", service.at());
        assert!(text.contains(&format!("\npublished      {to}\n")) && text.contains("\nsbom "), "{text}");

        // As a host does that was told of the registry.
        let root = service.place("host");
        fs::create_dir_all(root.join("etc/rick")).unwrap();
        fs::write(root.join("etc/rick/allowed_signers"), signing::allowed()).unwrap();
        let login = format!(r#"{{"auths": {{"{}": {{"auth": "bGFiOm9wZW4gc2VzYW1l"}}}}}}"#, service.at());
        fs::write(service.place("login.json"), login).unwrap();
        let mut command = activator(&root);
        command.env("HOME", service.place("home")).arg("--authfile").arg(service.place("login.json"));
        let output = command.args(["--host", "arch-vps", &to]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains(&format!("signed     by {} (", signing::SIGNER)), "{}", said(&output));
        assert!(root.join("var/lib/rick/current/units/caddy.service").is_file());
        let manifest = fs::read_to_string(root.join("var/lib/rick/current/manifest.json")).unwrap();
        assert!(manifest.contains("\"serial\":42"), "{manifest}");
    }
}

#[test]
fn nothing_else_is_published() {
    // One with something to build.
    let cases = [
        ("github.yml", "pull_request", "homelab", &[][..]),
        ("gitea.yml", "schedule", "production", &["Build twice and compare"]),
    ];
    for (file, event, environment, more) in cases {
        let service = Service::of(source::buildable(), event);
        let mut workflow = workflow(file);
        workflow["env"]["ENVIRONMENT"] = environment.into();
        let (ran, last) = service.run(&workflow);
        assert!(last.status.success(), "{file}: {}", said(&last));
        assert_eq!(ran, [&ALWAYS[..], more].concat(), "{file}: {event}");
    }
}

#[test]
fn a_lock_that_is_not_complete_ends_it() {
    let tree = source::buildable();
    tree.edit(
        "environments/production.star",
        "hosts = [",
        "hosts = [host(name = \"new\", domain = \"x.test\", os = \"debian-13\", services = [fresh()]), ",
    );
    tree.edit(
        "environments/production.star",
        "\"\"\"\n\nload(",
        "\"\"\"\n\nload(\"//modules/fresh\", \"fresh\")\nload(",
    );
    tree.write("modules/fresh/fresh.star", "def _build(ctx):\n    return [quadlet(\"x.container\", {\"Container\": {\"Image\": \"docker.io/library/new:1\"}})]\n\nfresh = module(doc = \"New.\", build = _build)\n");
    let service = Service::of(tree, "push");
    let (ran, last) = service.run(&workflow("github.yml"));
    assert_eq!(ran.last().map(String::as_str), Some("See that rick.lock is complete"));
    assert_eq!(last.status.code(), Some(1), "{}", said(&last));
    assert!(said(&last).contains("docker.io/library/new:1"), "{}", said(&last));
}
