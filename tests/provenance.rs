//! Where a bundle comes from: the two documents of `rickbuild provenance`, and where `rickbuild publish` attaches them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rick::bundle::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::hub::Hub;
use crate::support::lab::{describe, lab, said};
use crate::support::registry::{Fault, Keys, Network, Proxy, Registry};
use crate::support::web::{Answer, Web};
use crate::support::{require_programs, require_root, root, source, source::Tree};

const ALWAYS: usize = usize::MAX;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The statement and the bill of an environment.
#[track_caller]
fn documents(tree: &Tree, environment: &str) -> (Value, Value) {
    let output = tree.rickbuild(&["provenance", environment]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [statement, bill] = lines.try_into().expect("two documents, a line each");
    (statement, bill)
}

/// What a statement says that was read: name or URI → digest.
fn read(statement: &Value) -> BTreeMap<String, String> {
    let all = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entry = |one: &Value| {
        let name = text(&one["name"]).or_else(|| text(&one["uri"])).unwrap();
        (name, format!("sha256:{}", one["digest"]["sha256"].as_str().unwrap()))
    };
    let read: BTreeMap<_, _> = all.iter().map(entry).collect();
    assert_eq!(read.len(), all.len(), "each once");
    read
}

fn digest_of_file(tree: &Tree, path: &str) -> String {
    Digest::of(&fs::read(tree.path().join(path)).unwrap()).to_string()
}

/// Who holds what, in a bill.
fn holds(bill: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = bill["dependencies"].as_array().unwrap();
    all.iter()
        .map(|one| (text(&one["ref"]), one["dependsOn"].as_array().unwrap().iter().map(text).collect()))
        .collect()
}

#[test]
fn the_statement_names_exactly_the_files_that_were_read() {
    let tree = source::buildable();
    tree.write("files/page/index.html", "page\n");
    tree.write("files/page/notes.md", "notes\n");
    tree.write("files/app.service", "[Service]\nExecStart=/bin/true\n");
    tree.write("files/unread", "nobody wants this\n");
    tree.write("environments/lab.star", "\u{feff}load(\"//modules/lab\", \"lab\")\nenvironment(name = \"lab\", hosts = [host(name = \"lab\", domain = \"lab.test\", os = \"debian-13\", services = [lab()])])\n");
    let items = |exclude: &str| {
        format!(
            "        image(\"x\", layers = {{\"/srv\": copied(\"//files/page\", exclude = [{exclude}])}}, entrypoint = [\"/srv\"]),\n        unit(\"app.service\", source = \"//files/app.service\"),\n"
        )
    };
    describe(&tree, &items(""));
    // All of it is known from now on: that is not what counts.
    let before = read(&documents(&tree, "lab").0);
    assert!(before.contains_key("files/page/notes.md"), "{before:#?}");
    describe(&tree, &items("\"*.md\""));
    let (statement, bill) = documents(&tree, "lab");
    let files =
        ["environments/lab.star", "files/app.service", "files/page/index.html", "modules/lab/lab.star"];
    let expected = files.map(|path| (path.to_owned(), digest_of_file(&tree, path)));
    assert_eq!(read(&statement), BTreeMap::from(expected), "byte by byte, also what stands before a text");

    for unread in
        ["files/unread", "files/page/notes.md", "environments/homelab.star", "modules/caddy/caddy.star"]
    {
        tree.write(unread, "another text\n");
    }
    tree.write("rick.lock", &(fs::read_to_string(tree.path().join("rick.lock")).unwrap() + "# a remark\n"));
    assert_eq!(documents(&tree, "lab"), (statement.clone(), bill));

    for path in files {
        let text = fs::read_to_string(tree.path().join(path)).unwrap();
        let more = if path.ends_with("html") { "<p>\n" } else { "\n# a remark\n" };
        tree.write(path, &(text.clone() + more));
        let mut expected = read(&statement);
        expected.insert(path.to_owned(), digest_of_file(&tree, path));
        assert_ne!(expected, read(&statement));
        assert_eq!(read(&documents(&tree, "lab").0), expected);
        tree.write(path, &text);
    }
}

/// Seen from outside: the files of the tree that the program and its children open.
#[test]
fn no_file_is_opened_that_the_statement_does_not_name() {
    require_programs!("strace");
    let (tree, log) = (source::whole(), tempfile::NamedTempFile::new().unwrap());
    tree.lay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("rick.lock"));
    let root = tree.path().canonicalize().unwrap();
    let mut command = Command::new("strace");
    command.args(["--follow-forks", "--quiet=all", "--trace=open,openat", "--successful-only", "--output"]);
    command.arg(log.path()).arg(env!("CARGO_BIN_EXE_rickbuild")).arg("--root").arg(&root);
    let output = command
        .args(["provenance", "homelab", "--slsa"])
        .env_remove("HOME")
        .env_remove("XDG_CACHE_HOME")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let log = fs::read_to_string(log.path()).unwrap();
    let calls = log.lines().filter(|line| !line.contains("O_DIRECTORY"));
    let opened = calls.filter_map(|line| Path::new(line.split('"').nth(1)?).strip_prefix(&root).ok());
    let mut opened: BTreeSet<String> = opened.map(|path| path.display().to_string()).collect();
    // Its entries that count are named, each by itself.
    assert!(opened.remove("rick.lock"));
    let named = read(&serde_json::from_slice(&output.stdout).unwrap());
    let named: BTreeSet<String> = named.into_keys().filter(|name| !name.contains(':')).collect();
    assert_eq!(opened, named);
}

#[test]
fn the_subjects_are_what_the_bundle_holds() {
    let tree = root::environment("one");
    let (statement, bill) = documents(&tree, "small");
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    assert!(tree.rickbuild(&["small", "--layout", layout.to_str().unwrap()]).status.success());
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap().iter();
    let held: BTreeMap<String, String> = entries
        .map(|entry| {
            let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
            (name.to_owned(), entry["digest"].as_str().unwrap().to_owned())
        })
        .collect();
    let subjects = statement["subject"].as_array().unwrap().iter();
    let subjects: BTreeMap<String, String> = subjects
        .map(|one| {
            let digest = format!("sha256:{}", one["digest"]["sha256"].as_str().unwrap());
            (one["name"].as_str().unwrap().to_owned(), digest)
        })
        .collect();
    assert_eq!(subjects, held);
    let image = held.keys().find(|name| name.starts_with("localhost/")).unwrap();
    let expected = [
        ("bundle", vec!["host-box", "host-other"]),
        ("host-box", vec![image.as_str()]),
        ("host-other", vec![image]),
        (image, vec![]),
    ];
    let expected =
        expected.map(|(who, what)| (who.to_owned(), what.into_iter().map(str::to_owned).collect()));
    assert_eq!(holds(&bill), BTreeMap::from(expected));
    // Nothing of this is in the bundle itself.
    for entry in
        walkdir::WalkDir::new(&layout).into_iter().flatten().filter(|entry| entry.file_type().is_file())
    {
        let text = fs::read(entry.path()).unwrap();
        for word in ["slsa", "CycloneDX"] {
            assert!(!String::from_utf8_lossy(&text).contains(word), "{}", entry.path().display());
        }
    }

    // One of the two, and numbered.
    let only = |arguments: &[&str]| {
        let output = tree.rickbuild(&[&["provenance", "small"], arguments].concat());
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!((only(&["--slsa"]), only(&["--sbom"])), (statement, bill));
    let numbered = only(&["--slsa", "--serial", "7"]);
    let parameters = &numbered["predicate"]["buildDefinition"]["externalParameters"];
    assert_eq!(parameters, &json!({"environment": "small", "serial": 7}));
    assert_eq!(only(&["--sbom", "--serial", "7"])["metadata"]["component"]["version"], "7");
}

#[test]
fn two_machines_say_the_same() {
    let (one, other) = (source::buildable(), source::buildable());
    let environments = ["production", "homelab"];
    let said_by = |tree: &Tree, cache: &Path, more: &[(&str, &str)]| {
        environments.map(|environment| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_rickbuild"));
            command
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("XDG_CACHE_HOME", cache)
                .envs(more.iter().copied());
            command.arg("--root").arg(tree.path()).args(["provenance", environment]);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
            output.stdout
        })
    };
    let ours = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    // The other one has only what was fetched.
    let theirs = tempfile::tempdir().unwrap();
    fs::create_dir(theirs.path().join("rick")).unwrap();
    let status = Command::new("cp")
        .args(["--recursive", "--link"])
        .arg(ours.join("rick/blobs"))
        .arg(theirs.path().join("rick"))
        .status()
        .unwrap();
    assert!(status.success());
    let elsewhere = [("TZ", "Asia/Tokyo"), ("LC_ALL", "tr_TR.UTF-8"), ("HOME", "/nowhere"), ("USER", "else")];
    assert_eq!(said_by(&one, &ours, &[]), said_by(&other, theirs.path(), &elsewhere));
}

#[test]
fn what_a_build_took_is_read_and_not_held() {
    let tree = source::buildable();
    let (statement, bill) = documents(&tree, "production");
    let read = read(&statement);
    let lock = fs::read_to_string(tree.path().join("rick.lock")).unwrap();
    let packages = lock.lines().filter_map(|line| line.split_once(".deb\" = \""));
    let mut count = 0;
    for (path, digest) in packages {
        let (name, version) = path.rsplit('/').next().unwrap().split_once('_').unwrap();
        let version = version.split('_').next().unwrap().replace('+', "%2B");
        let uri = format!("pkg:deb/debian/{}@", name.replace('+', "%2B"));
        let (uri, said) = read.iter().find(|(known, _)| known.starts_with(&uri)).expect(name);
        assert_eq!(said, digest.trim_end_matches('"'), "{uri}");
        // The version is whole, also where the file's name leaves out the epoch.
        let whole = uri.split(['@', '?']).nth(1).unwrap();
        assert!(whole == version || whole.ends_with(&format!(":{version}")), "{uri} is {path}");
        count += 1;
    }
    assert!(count > 50 && read.keys().any(|uri| uri.starts_with("pkg:deb/debian/gcc@4:14")), "{read:#?}");
    assert_eq!(read.keys().filter(|uri| uri.starts_with("pkg:deb/")).count(), count);
    assert!(!bill.to_string().contains("pkg:deb/"), "they made the program, and are not in it");
    let (image, holds) = holds(&bill).into_iter().find(|(who, _)| who.starts_with("localhost/")).unwrap();
    assert_eq!(holds, BTreeSet::from([format!("{image}/gallery-server")]));
    assert_eq!(bill["compositions"][0], json!({"aggregate": "incomplete", "dependencies": [image]}));
}

/// Packages, an image of a registry and an archive, in images and on a host.
fn everything(hub: &Hub, web: &Web) -> Tree {
    web.answer("/x-1.0.tar.gz", Answer::File(b"an archive".to_vec()));
    let host = hub.host();
    let packages = "debian(\"trixie\", [\"hello\"])";
    let mut tree = lab(&format!(
        "        image(\"greets\", base = {packages}, layers = {{\"/etc/greeting\": written(\"hi\")}}, entrypoint = [\"/usr/bin/hello\"]),\n\
         \x20       image(\"above\", base = {packages}, layers = {{\"/srv/x\": archive(\"{}\")}}, entrypoint = [\"/usr/bin/hello\"]),\n\
         \x20       image(\"part\", layers = {{\"/hello\": path_in({packages}, \"/usr/bin/hello\")}}, entrypoint = [\"/hello\"]),\n\
         \x20       quadlet(\"a.container\", {{\"Container\": {{\"Image\": \"{host}/a:1\"}}}}),\n",
        web.url("/x-1.0.tar.gz")
    ));
    tree.lock(&["--insecure-registry", &host]);
    tree
}

#[test]
fn a_scanner_can_tell_which_image_has_which_package() {
    let (hub, web) = (Hub::start(), Web::start());
    let pushed = hub.push("a:1", "one");
    let tree = everything(&hub, &web);
    let (statement, bill) = documents(&tree, "lab");
    let holds = holds(&bill);
    let of = |name: &str| -> BTreeSet<String> {
        let prefix = format!("localhost/{name}:");
        holds.iter().find(|(who, _)| who.starts_with(&prefix)).unwrap().1.clone()
    };
    let archive = web.url("/x-1.0.tar.gz");
    let greets = of("greets");
    let hello = greets.iter().find(|uri| uri.starts_with("pkg:deb/debian/hello@2.10-")).unwrap();
    assert!(hello.ends_with("?arch=amd64&distro=trixie"), "{hello}");
    let libc = greets.iter().find(|uri| uri.starts_with("pkg:deb/debian/libc6@")).unwrap();
    assert!(libc.ends_with("&upstream=glibc"), "{libc}");
    let mut both = greets.clone();
    both.insert(archive.clone());
    assert_eq!(of("above"), both);
    // Which packages the one file is of is not known for sure.
    assert!(of("part").is_empty());
    let a = format!("pkg:oci/a@{}?repository_url={}/a&tag=1", pushed.index, hub.host());
    assert!(holds["host-lab"].contains(&a) && holds["host-lab"].len() == 4, "{holds:#?}");
    assert_eq!(read(&statement)[&a], pushed.index.to_string());
    assert_eq!(read(&statement)[&archive], Digest::of(b"an archive").to_string());

    let known = bill["compositions"].as_array().unwrap().iter();
    let known: BTreeMap<&str, String> =
        known.map(|one| (one["aggregate"].as_str().unwrap(), one["dependencies"].to_string())).collect();
    assert!(known["complete"].contains("localhost/greets") && known["incomplete"].contains("localhost/part"));
    assert!(known["unknown"].contains(&a) && known["unknown"].contains(&archive), "{known:#?}");
}

#[test]
fn an_image_of_a_registry_in_the_bundle_is_a_part_of_it() {
    let hub = Hub::start();
    let pushed = hub.push("a:1", "one");
    let mut tree = lab(&format!(
        "        quadlet(\"a.container\", {{\"Container\": {{\"Image\": \"{}/a:1\"}}}}),\n",
        hub.host()
    ));
    tree.edit(
        "environments/lab.star",
        "name = \"lab\", hosts",
        "name = \"lab\", registry_images = \"embedded\", hosts",
    );
    tree.lock(&["--insecure-registry", &hub.host()]);
    let (statement, bill) = documents(&tree, "lab");
    let a = format!("pkg:oci/a@{}?repository_url={}/a&tag=1", pushed.index, hub.host());
    let subject = statement["subject"][2]["name"].as_str().unwrap();
    assert!(subject.starts_with(&format!("{}/a:", hub.host())), "{statement:#}");
    let holds = holds(&bill);
    assert_eq!(holds["host-lab"], BTreeSet::from([subject.to_owned()]));
    assert_eq!(holds[subject], BTreeSet::from([a]));
}

/// What others read in documents.
#[track_caller]
fn judge(documents: &[u8]) -> Vec<Value> {
    let mut judge = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/provenance-judge"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    judge.stdin.take().unwrap().write_all(documents).unwrap();
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_libraries_of_both_formats_take_the_documents() {
    require_root!();
    let (hub, web) = (Hub::start(), Web::start());
    hub.push("a:1", "one");
    let tree = everything(&hub, &web);
    let output = tree.rickbuild(&["provenance", "lab", "--serial", "3"]);
    let read = judge(&output.stdout);
    assert_eq!(read[0]["builder"], "urn:rick:rickbuild");
    let greets = read[1]["holds"]["localhost/greets"].as_array().unwrap();
    assert!(greets.contains(&json!("hello")) && greets.contains(&json!("libc6")), "{read:#?}");
    let tree = source::buildable();
    for environment in ["homelab", "production"] {
        assert_eq!(judge(&tree.rickbuild(&["provenance", environment]).stdout).len(), 2);
    }
}

/// A registry behind a proxy.
struct Scene {
    home: TempDir,
    registry: Registry,
    proxy: Proxy,
    tree: Tree,
}

impl Scene {
    fn set() -> Self {
        let registry = Registry::start(Network::MACHINE, "", "");
        let proxy = Proxy::before(&registry);
        Self { home: tempfile::tempdir().unwrap(), registry, proxy, tree: root::environment("one") }
    }

    fn publish(&self, more: &[&str]) -> Output {
        let to = format!("127.0.0.1:{}/fleet:stable", self.proxy.port);
        let mut command = Command::new(env!("CARGO_BIN_EXE_rickbuild"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home.path());
        command.arg("--root").arg(self.tree.path()).args(["publish", "small", &to, "--insecure"]).args(more);
        command.output().unwrap()
    }

    /// The names that are said: what → digest.
    #[track_caller]
    fn published(&self) -> BTreeMap<String, String> {
        let output = self.publish(&[]);
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let names = text.lines().filter_map(|line| line.rsplit_once('@'));
        names.map(|(what, digest)| (what.split("  ").next().unwrap().to_owned(), digest.to_owned())).collect()
    }

    fn curl(&self, arguments: &[&str], path: &str) -> Vec<u8> {
        let url = format!("http://127.0.0.1:{}/v2/fleet/{path}", self.registry.port);
        let output =
            Command::new("curl").args(["--silent", "--fail"]).args(arguments).arg(url).output().unwrap();
        assert!(output.status.success(), "{path}: {}", output.status);
        output.stdout
    }

    fn manifest(&self, version: &str) -> Vec<u8> {
        let accept = format!("Accept: {INDEX}, {MANIFEST}");
        self.curl(&["--header", &accept], &format!("manifests/{version}"))
    }

    /// What is attached to a digest, by the tag schema.
    fn referrers(&self, digest: &str) -> Vec<Value> {
        let index: Value = serde_json::from_slice(&self.manifest(&digest.replace(':', "-"))).unwrap();
        assert_eq!((&index["mediaType"], &index["schemaVersion"]), (&json!(INDEX), &json!(2)));
        index["manifests"].as_array().unwrap().clone()
    }

    /// The one document of a type that is attached to a digest, followed as any client follows it.
    fn attached(&self, digest: &str, kind: &str) -> Value {
        let all = self.referrers(digest);
        let of_kind: Vec<&Value> = all.iter().filter(|one| one["artifactType"] == kind).collect();
        assert_eq!(of_kind.len(), 1, "{all:#?}");
        let manifest = self.manifest(of_kind[0]["digest"].as_str().unwrap());
        assert_eq!(json!(manifest.len()), of_kind[0]["size"]);
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(
            (&manifest["artifactType"], &manifest["subject"]["digest"]),
            (&json!(kind), &json!(digest))
        );
        assert_eq!(manifest["subject"]["size"], self.manifest(digest).len());
        assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
        let [layer] = manifest["layers"].as_array().unwrap().as_slice() else {
            panic!("one layer: {manifest}")
        };
        assert_eq!(layer["mediaType"], kind);
        let bytes = self.curl(&[], &format!("blobs/{}", layer["digest"].as_str().unwrap()));
        serde_json::from_slice(&bytes).unwrap()
    }
}

const IN_TOTO: &str = "application/vnd.in-toto+json";
const CYCLONEDX: &str = "application/vnd.cyclonedx+json";

#[test]
fn both_are_found_beside_what_was_published() {
    let scene = Scene::set();
    let names = scene.published();
    let (statement, bill) = documents(&scene.tree, "small");
    for what in ["bundle", "host box", "host other"] {
        let digest = &names[what];
        let (mut attached, mut sbom) = (scene.attached(digest, IN_TOTO), scene.attached(digest, CYCLONEDX));
        // The index is the one that the registry has.
        let bundle = json!(names["bundle"].trim_start_matches("sha256:"));
        assert_eq!(attached["subject"][0], json!({"name": "bundle", "digest": {"sha256": bundle}}));
        attached["subject"][0] = statement["subject"][0].clone();
        assert_eq!(attached, statement);
        sbom["metadata"]["component"]["hashes"] = bill["metadata"]["component"]["hashes"].clone();
        assert_eq!(sbom, bill);
    }
    let is_said = |name: &str, kind: &str| {
        let all = scene.referrers(&names["bundle"]);
        let one = all.iter().find(|one| one["artifactType"] == kind).unwrap();
        assert_eq!(names[name], one["digest"].as_str().unwrap());
    };
    is_said("provenance", IN_TOTO);
    is_said("sbom", CYCLONEDX);

    // Somebody else attaches something, in words that are not ours.
    let tag = names["bundle"].replace(':', "-");
    let mut index: Value = serde_json::from_slice(&scene.manifest(&tag)).unwrap();
    let mut others = index["manifests"][0].clone();
    let host = scene.manifest(&names["host box"]);
    others["digest"] = json!(names["host box"]);
    others["size"] = json!(host.len());
    others["artifactType"] = json!("application/vnd.example.scan");
    others["annotations"] = json!({"org.example": "2026"});
    index["manifests"].as_array_mut().unwrap().insert(0, others.clone());
    let kind = format!("Content-Type: {INDEX}");
    scene.curl(
        &["--request", "PUT", "--header", &kind, "--data-binary", &index.to_string()],
        &format!("manifests/{tag}"),
    );

    // The same again: nothing is sent, nothing doubled, nothing lost.
    scene.proxy.reset();
    assert_eq!(scene.published(), names);
    let is_sent = |path: &str| path.contains("/blobs/") || path.contains("/manifests/sha256-");
    assert!(!scene.proxy.seen().iter().any(|seen| seen.method == "PUT" && is_sent(&seen.path)));
    assert_eq!(scene.referrers(&names["bundle"]), index["manifests"].as_array().unwrap().clone());

    // Another source of the same bundle is another statement: what was said before stays.
    let file = scene.tree.path().join("modules/app/app.star");
    fs::write(&file, fs::read_to_string(&file).unwrap() + "\n# a remark\n").unwrap();
    let after = scene.published();
    assert_eq!((&after["bundle"], &after["sbom"]), (&names["bundle"], &names["sbom"]));
    assert_ne!(after["provenance"], names["provenance"]);
    let all = scene.referrers(&names["bundle"]);
    assert_eq!((all.len(), &all[0]), (4, &others));
    assert_eq!(scene.referrers(&names["host box"]).len(), 3);

    // Another bundle has a list of its own.
    scene.tree.edit("environments/small.star", "app(text = \"one\")", "app(text = \"two\")");
    let other = scene.published();
    assert_eq!(scene.referrers(&other["bundle"]).len(), 2);
    assert_eq!(other["host other"], names["host other"]);
}

#[test]
fn what_is_attached_is_an_object_for_programs() {
    let scene = Scene::set();
    let output = scene.publish(&["--message-format", "json"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let attached: Vec<&Value> = lines.iter().filter(|line| line["attached"].is_string()).collect();
    assert_eq!((lines.len(), attached.len()), (9, 6), "{text}");
    for one in attached {
        let all = scene.referrers(one["subject"].as_str().unwrap());
        assert!(
            all.iter()
                .any(|other| other["digest"] == one["digest"] && other["artifactType"] == one["attached"])
        );
    }
}

#[test]
fn a_registry_that_takes_no_such_thing_is_told_and_left_alone() {
    let refuses = Fault::Answer(
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 53\r\nConnection: close\r\n\r\n{\"errors\":[{\"message\":\"tags with a dash are refused\"}]}",
    );
    let scene = Scene::set();
    scene.proxy.breaks("PUT", "/manifests/sha256-", ALWAYS, &refuses);
    let output = scene.publish(&[]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    for part in ["the bundle is published, and its provenance is not attached", "--no-provenance"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!scene.manifest("stable").is_empty());
    scene.proxy.reset();
    let output = scene.publish(&["--no-provenance"]);
    assert!(output.status.success(), "{}", said(&output));
    let asked = |word: &str| scene.proxy.seen().iter().any(|seen| seen.path.contains(word));
    assert!(!asked("referrers") && !asked("sha256-"));
    // What was missing comes with the next.
    let names = scene.published();
    assert_eq!(scene.referrers(&names["bundle"]).len(), 2);

    // Something else under the tag is nobody's to replace.
    scene.tree.edit("environments/small.star", "app(text = \"one\")", "app(text = \"two\")");
    let host = scene.manifest(&names["host other"]);
    scene.tree.write("manifest", &String::from_utf8(host).unwrap());
    let taken = documents_index(&scene);
    let kind = format!("Content-Type: {MANIFEST}");
    let file = format!("@{}", scene.tree.path().join("manifest").display());
    scene.curl(
        &["--request", "PUT", "--header", &kind, "--data-binary", &file],
        &format!("manifests/{}", taken.replace(':', "-")),
    );
    let output = scene.publish(&[]);
    assert!(said(&output).contains("the registry has something else under the tag"), "{}", said(&output));
    assert_eq!(output.status.code(), Some(3));
}

/// The digest that the index of the scene's bundle will have in the registry.
fn documents_index(scene: &Scene) -> String {
    let output = scene.publish(&["--no-provenance", "--message-format", "json"]);
    let first = String::from_utf8(output.stdout).unwrap().lines().next().unwrap().to_owned();
    serde_json::from_str::<Value>(&first).unwrap()["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_registry_that_keeps_its_own_list_needs_no_tag() {
    const LIST: Fault = Fault::Answer(
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\nContent-Length: 37\r\nConnection: close\r\n\r\n{\"schemaVersion\":2,\"manifests\":[   ]}",
    );
    let scene = Scene::set();
    scene.proxy.breaks("GET", "/referrers/sha256:", ALWAYS, &LIST);
    let names = scene.published();
    assert!(!scene.proxy.seen().iter().any(|seen| seen.path.contains("/manifests/sha256-")));
    assert!(!scene.manifest(&names["sbom"]).is_empty());
}

#[test]
fn names_and_passwords_are_those_that_skopeo_has() {
    let login = |scene: &Scene| {
        let text =
            json!({"auths": {format!("127.0.0.1:{}", scene.proxy.port): {"auth": "bGFiOm9wZW4gc2VzYW1l"}}});
        fs::write(scene.home.path().join("auth.json"), text.to_string()).unwrap();
        scene.home.path().join("auth.json").to_str().unwrap().to_owned()
    };
    let mut scene = Scene::set();
    let file = login(&scene);
    scene.proxy.wants_passes();
    assert_eq!(scene.publish(&[]).status.code(), Some(3));
    let output = scene.publish(&["--authfile", &file]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        scene
            .proxy
            .seen()
            .iter()
            .any(|seen| seen.path.contains("/manifests/sha256-") && seen.method == "PUT")
    );

    // By name and password itself.
    let keys = Keys::make();
    scene.registry = Registry::start(Network::MACHINE, "", &keys.password());
    scene.proxy = Proxy::before(&scene.registry);
    let file = login(&scene);
    let output = scene.publish(&["--authfile", &file]);
    assert!(output.status.success(), "{}", said(&output));
}
