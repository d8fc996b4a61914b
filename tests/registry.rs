//! Through a registry as from a file: `rickbuild publish` to the real `docker-registry`, and hosts that fetch from it and follow it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rick::bundle::digest::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::lab::{self, said};
use crate::support::registry::{
    FAILS, Fault, IS_BUSY, IS_NO_HTTP, IS_NO_REGISTRY, Keys, Network, Proxy, Registry,
};
use crate::support::root::{self, NAME, activator, differences, everything_below};
use crate::support::source::{self, Tree};
use crate::support::{Host, require_hosts, signing};

const ALWAYS: usize = usize::MAX;

/// A registry behind a proxy, and somebody who publishes there.
struct Scene {
    home: TempDir,
    registry: Registry,
    proxy: Proxy,
}

impl Scene {
    fn set(network: Network) -> Self {
        let registry = Registry::start(network, "", "");
        let proxy = Proxy::before(&registry);
        Self { home: tempfile::tempdir().unwrap(), registry, proxy }
    }

    /// What is published at a tag, as hosts name it.
    fn at(&self, version: &str) -> String {
        format!("oci://127.0.0.1:{}/fleet{version}", self.proxy.port)
    }

    fn publish(&self, tree: &Tree, environment: &str, more: &[&str]) -> Output {
        let to = self.at(":stable");
        let usual =
            ["publish", environment, &to, "--insecure", "--no-provenance", "--sign-key", signing::key()];
        let arguments = [&usual, more].concat();
        rickbuild(self.registry.network, tree, self.home.path(), &arguments)
    }

    #[track_caller]
    fn published(&self, tree: &Tree, environment: &str) -> String {
        let output = self.publish(tree, environment, &[]);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The bytes of what has a tag or digest.
    #[track_caller]
    fn manifest(&self, version: &str) -> Vec<u8> {
        let mut skopeo = self.registry.network.command(Path::new("skopeo"));
        let what = format!("docker://127.0.0.1:{}/fleet{version}", self.registry.port);
        let output = skopeo.args(["inspect", "--raw", "--tls-verify=false", &what]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    }
}

/// Runs `rickbuild` on a network.
pub(crate) fn rickbuild(network: Network, tree: &Tree, home: &Path, arguments: &[&str]) -> Output {
    let mut command = network.command(Path::new(env!("CARGO_BIN_EXE_rickbuild")));
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", home);
    command.arg("--root").arg(tree.path()).args(arguments).output().unwrap()
}

#[track_caller]
fn ends_with(output: &Output, code: i32) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// Bytes that no compression makes fewer, the same for the same seed.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..size).map(|_| next()).collect()
}

/// Two hosts and an image, a part of which is large.
fn large(seed: u64) -> Tree {
    let tree = root::environment("one");
    make_large(&tree, seed);
    tree
}

fn make_large(tree: &Tree, seed: u64) {
    fs::write(tree.path().join("modules/app/program"), noise(seed, 6 << 20)).unwrap();
}

/// The digest that stands behind a word in what `publish` says.
pub(crate) fn digest_of<'a>(said: &'a str, what: &str) -> &'a str {
    let line =
        said.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("no {what}: {said}"));
    line.rsplit_once('@').unwrap().1
}

#[test]
fn only_what_a_registry_lacks_is_sent() {
    let scene = Scene::set(Network::MACHINE);
    let tree = root::environment("one");
    let said = scene.published(&tree, "small");
    // Config and layer of two hosts and of an image.
    assert_eq!(scene.proxy.uploads(), 6, "{:#?}", scene.proxy.seen());
    let puts: Vec<String> =
        scene.proxy.seen().into_iter().filter(|seen| seen.method == "PUT").map(|seen| seen.path).collect();
    let (tag, before) = puts.split_last().unwrap();
    assert_eq!(tag, "/v2/fleet/manifests/stable", "the name comes last");
    assert!(before.iter().all(|path| !path.ends_with("/stable")));

    // What is said is what is there, and the digest of a host is that of its build.
    let bundle = scene.manifest(":stable");
    assert_eq!(digest_of(&said, "bundle"), Digest::of(&bundle).to_string());
    let built = tree.rickbuild(&["small", "--output", "/dev/null"]);
    let built = String::from_utf8(built.stderr).unwrap();
    for host in [NAME, "other"] {
        let digest = digest_of(&said, &format!("host {host}"));
        assert!(built.lines().any(|line| line.starts_with(host) && line.ends_with(digest)), "{built}");
        assert_eq!(Digest::of(&scene.manifest(&format!("@{digest}"))).to_string(), digest);
    }

    scene.proxy.reset();
    let again = scene.publish(&tree, "small", &["--message-format", "json"]);
    ends_with(&again, 0);
    assert_eq!(scene.proxy.uploads(), 0);
    let lines: Vec<Value> = String::from_utf8(again.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["published"], scene.at(":stable"));
    assert_eq!(lines[0]["digest"], digest_of(&said, "bundle"));
    assert_eq!((&lines[1]["host"], lines.len()), (&Value::from(NAME), 3));
    assert_eq!(lines[1]["reference"], scene.at(&format!("@{}", digest_of(&said, "host box"))));

    scene.proxy.reset();
    tree.edit("environments/small.star", "app(text = \"one\")", "app(text = \"two\")");
    scene.published(&tree, "small");
    assert_eq!(scene.proxy.uploads(), 2, "config and layer of the one host that changed");
    assert_eq!(fs::read_dir(scene.home.path().join(".cache/rick/publish")).unwrap().count(), 1);
}

#[test]
fn an_upload_that_breaks_goes_on_with_the_blob_at_which_it_broke() {
    let scene = Scene::set(Network::MACHINE);
    let tree = large(1);
    scene.proxy.breaks("PATCH", "/blobs/uploads/", 1, &Fault::Cut(2 << 20));
    let said = ends_with(&scene.publish(&tree, "small", &[]), 0);
    assert!(said.contains("retry") || scene.proxy.seen().iter().any(|seen| seen.sent > 2 << 20), "{said}");
    assert_eq!(scene.proxy.uploads(), 6, "nothing that was finished is sent again");

    // It breaks each time: the name stays where it was, and the next run sends what is missing.
    let before = scene.manifest(":stable");
    make_large(&tree, 2);
    scene.proxy.reset();
    scene.proxy.breaks("PATCH", "/blobs/uploads/", ALWAYS, &Fault::Cut(2 << 20));
    let said = ends_with(&scene.publish(&tree, "small", &[]), 3);
    assert!(said.contains("does not answer as it should"), "{said}");
    assert_eq!(scene.manifest(":stable"), before);
    let finished = scene.proxy.uploads();
    assert!(finished > 0 && finished < 6, "{finished}");
    scene.proxy.reset();
    scene.published(&tree, "small");
    assert_eq!(finished + scene.proxy.uploads(), 6, "each blob was sent once");
    assert_ne!(scene.manifest(":stable"), before);
}

#[test]
fn whoever_ends_a_publication_moves_no_name() {
    let scene = Scene::set(Network::MACHINE);
    let tree = root::environment("one");
    scene.published(&tree, "small");
    let before = scene.manifest(":stable");
    tree.edit("environments/small.star", "app(text = \"one\")", "app(text = \"two\")");
    scene.proxy.reset();
    // The last thing but one: all is there, and then somebody ends it.
    scene.proxy.breaks("PUT", "/manifests/stable", ALWAYS, &IS_NO_HTTP);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rickbuild"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", scene.home.path());
    command.arg("--root").arg(tree.path()).args(["publish", "small", &scene.at(":stable"), "--insecure"]);
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    lab::wait_for("the attempt", || {
        scene.proxy.seen().iter().any(|seen| seen.method == "PUT" && seen.path.ends_with("/stable"))
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(scene.manifest(":stable"), before);
    scene.proxy.reset();
    scene.published(&tree, "small");
    assert_eq!(scene.proxy.uploads(), 0, "only the name was missing");
    assert_ne!(scene.manifest(":stable"), before);
}

/// A host that is a directory, with generation 1 from a registry.
struct Stage {
    scene: Scene,
    dir: TempDir,
    tree: Tree,
}

impl Stage {
    /// Generation 1 is there, and what is published now is another build.
    fn set() -> Self {
        let (scene, tree) = (Scene::set(Network::MACHINE), root::environment("one"));
        scene.published(&tree, "small");
        let this = Self { scene, dir: tempfile::tempdir().unwrap(), tree };
        ends_with(&this.activate(&this.scene.at(":stable")), 0);
        this.tree.edit("environments/small.star", "app(text = \"one\")", "app(text = \"two\")");
        this.tree.write("modules/app/program", "another program\n");
        this.scene.published(&this.tree, "small");
        this.scene.proxy.reset();
        this
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = activator(self.dir.path());
        command.args(["--host", NAME, "--insecure"]).args(arguments).output().unwrap()
    }

    fn activate(&self, from: &str) -> Output {
        self.run(&[from])
    }

    /// All that lies there, but for blobs of images: what came whole stays.
    fn everything(&self) -> BTreeMap<PathBuf, String> {
        let mut all = everything_below(self.dir.path());
        all.retain(|path, _| !path.starts_with("var/lib/rick/images/blobs"));
        all
    }

    /// It is refused, and the host is as it was; what was said.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let before = self.everything();
        let said = ends_with(&self.run(arguments), 1);
        assert_eq!(differences(&before, &self.everything()), Vec::<String>::new(), "{said}");
        said
    }

    /// Where the registry has the config and the files of the host that is published, and the one layer of its image.
    fn places(&self) -> [String; 3] {
        let parse = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let index = parse(self.scene.manifest(":stable"));
        let entry = |name: &str| {
            let all = index["manifests"].as_array().unwrap().clone();
            let named = |entry: &Value| {
                entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned()
            };
            let found = all.into_iter().find(|entry| named(entry).starts_with(name)).unwrap();
            parse(self.scene.manifest(&format!("@{}", found["digest"].as_str().unwrap())))
        };
        let (host, image) = (entry("host-box"), entry("localhost/app"));
        [&host["config"], &host["layers"][0], &image["layers"][0]]
            .map(|blob| format!("/blobs/{}", blob["digest"].as_str().unwrap()))
    }
}

#[test]
fn a_registry_that_fails_is_told_of_and_changes_nothing() {
    let host = Stage::set();
    let Stage { scene, tree, .. } = &host;
    let before = scene.manifest(":stable");
    tree.edit("environments/small.star", "app(text = \"two\")", "app(text = \"three\")");
    for (fault, told) in [
        (FAILS, "does not answer as it should"),
        (IS_NO_HTTP, "does not answer as it should"),
        (IS_NO_REGISTRY, "does not answer as it should"),
        (IS_BUSY, "is asked too often"),
    ] {
        scene.proxy.reset();
        scene.proxy.breaks("POST", "/blobs/uploads/", ALWAYS, &fault);
        let said = ends_with(&scene.publish(tree, "small", &[]), 3);
        assert!(said.contains(told), "{said}");
        assert_eq!(scene.manifest(":stable"), before);
    }
    // A host, at whichever question it is.
    let (stable, [config, files, image]) = (scene.at(":stable"), host.places());
    for (path, fault, told) in [
        ("/manifests/stable", FAILS, "does not answer as it should"),
        ("/manifests/stable", IS_NO_HTTP, "does not answer as it should"),
        ("/manifests/stable", IS_NO_REGISTRY, "is not readable"),
        ("/manifests/sha256", FAILS, "does not answer as it should"),
        (config.as_str(), FAILS, "does not answer as it should"),
        (files.as_str(), IS_NO_REGISTRY, "cannot be had"),
        (image.as_str(), FAILS, "does not answer as it should"),
        (image.as_str(), IS_BUSY, "is asked too often"),
        (image.as_str(), IS_NO_REGISTRY, "cannot be had"),
    ] {
        scene.proxy.reset();
        scene.proxy.breaks("GET", path, ALWAYS, &fault);
        let said = host.refused(&[&stable]);
        assert!(said.contains(told), "{path} {fault:?}: {said}");
    }
    let said = host.refused(&["follow", &stable]);
    assert!(said.contains("cannot be had"), "{said}");

    // What passes is waited for.
    scene.proxy.reset();
    scene.proxy.breaks("POST", "/blobs/uploads/", 1, &FAILS);
    scene.proxy.breaks("GET", "/manifests/stable", 1, &IS_NO_HTTP);
    scene.proxy.breaks("GET", &files, 1, &FAILS);
    assert!(ends_with(&scene.publish(tree, "small", &[]), 0).contains("retry"));
    let said = ends_with(&host.activate(&stable), 0);
    assert!(said.contains("retry      in 1 s") && said.contains("done:"), "{said}");
}

#[test]
fn a_host_believes_a_registry_no_more_than_its_digests() {
    let host = Stage::set();
    let Stage { scene, .. } = &host;
    let stable = scene.at(":stable");
    let index = Digest::of(&scene.manifest(":stable"));
    let by_digest = scene.at(&format!("@{index}"));
    let [config, files, image] = host.places();
    for (what, path, fault, told) in [
        (&stable, config.as_str(), Fault::Tamper, "does not match"),
        (&stable, files.as_str(), Fault::Tamper, "did not match"),
        (&stable, image.as_str(), Fault::Tamper, "did not match"),
        (&stable, "/manifests/sha256", Fault::Tamper, "is damaged"),
        (&by_digest, "/manifests/sha256", Fault::Tamper, "is damaged"),
        // Whatever has the name may be had, but what it says must make sense.
        (&stable, "/manifests/stable", Fault::Tamper, "is not readable"),
        (&stable, config.as_str(), Fault::Flood, "sends more than"),
        (&stable, files.as_str(), Fault::Flood, "sends more than"),
        (&stable, image.as_str(), Fault::Flood, "sends more than"),
        (&stable, "/manifests/stable", Fault::Flood, "sends more than"),
    ] {
        scene.proxy.reset();
        scene.proxy.breaks("GET", path, ALWAYS, &fault);
        let said = host.refused(&[what]);
        assert!(said.contains(told), "{path} {fault:?}: {said}");
    }
    let sent: usize = scene.proxy.seen().iter().map(|seen| seen.received).sum();
    assert!(sent < 256 << 20, "{sent}");
    scene.proxy.reset();
    let other = scene.at(&format!("@{}", Digest::of(b"something else")));
    assert!(host.refused(&[&other]).contains(&format!("there is no {other}")));
    assert!(host.refused(&[&scene.at(":unstable")]).contains("there is no oci://"));

    // A dry run leaves nothing either, and says what would be fetched.
    let before = everything_below(host.dir.path());
    let said = ends_with(&host.run(&[&by_digest, "--dry-run"]), 0);
    assert!(said.contains("would fetch localhost/app") && said.contains("would switch to"), "{said}");
    assert_eq!(differences(&before, &everything_below(host.dir.path())), Vec::<String>::new());
    assert!(ends_with(&host.activate(&by_digest), 0).contains("done:      generation 2"));
}

#[test]
fn a_host_finds_its_part_whatever_names_it() {
    let host = Stage::set();
    let Stage { scene, .. } = &host;
    // Somebody copied it with a tool that drops what it does not know.
    let mut index: Value = serde_json::from_slice(&scene.manifest(":stable")).unwrap();
    for entry in index["manifests"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("annotations");
    }
    put(&scene.registry, "copied", &serde_json::to_vec(&index).unwrap());
    let said = ends_with(&host.run(&[&scene.at(":copied"), "--dry-run"]), 0);
    assert!(said.contains("would switch to generation 2"), "{said}");
    // The digest of a host's build names it as well; that of another host is refused.
    let digest = |host: &str| {
        let index: Value = serde_json::from_slice(&scene.manifest(":stable")).unwrap();
        let name = format!("host-{host}");
        let all = index["manifests"].as_array().unwrap().clone();
        let found =
            all.iter().find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == *name);
        format!("@{}", found.unwrap()["digest"].as_str().unwrap())
    };
    let said = host.refused(&[&scene.at(&digest("other"))]);
    assert!(said.contains("this bundle is for `other`; this host is `box`"), "{said}");
    let said = ends_with(&host.run(&["--host", "nobody", &scene.at(":stable")]), 2);
    assert!(said.contains("--host"), "{said}");
    // An image is no bundle.
    let image = index["manifests"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
    assert!(host.refused(&[&scene.at(&format!("@{image}"))]).contains("is no bundle of rick's"));
    assert!(ends_with(&host.activate(&scene.at(&digest(NAME))), 0).contains("done:      generation 2"));
}

/// Puts a manifest under a tag, as it is.
fn put(registry: &Registry, tag: &str, manifest: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", registry.port)).unwrap();
    write!(
        stream,
        "PUT /v2/fleet/manifests/{tag} HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        manifest.len()
    )
    .unwrap();
    stream.write_all(manifest).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[test]
fn who_publishes_must_be_told_what_is_missing() {
    let tree = root::environment("one");
    let home = tempfile::tempdir().unwrap();
    let run = |to: &str, path: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rickbuild"));
        command.env_clear().env("PATH", path).env("HOME", home.path()).arg("--root").arg(tree.path());
        command.args(["publish", "small", to]).output().unwrap()
    };
    let said = ends_with(&run("127.0.0.1:1/fleet", "/nowhere"), 3);
    assert!(
        said.contains("`skopeo` is needed") && said.contains("help: install the package `skopeo`"),
        "{said}"
    );
    for wrong in ["fleet", "registry.test/Fleet", &format!("registry.test/fleet@{}", Digest::of(b""))] {
        ends_with(&run(wrong, "/usr/bin"), 2);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = activator(dir.path());
    let output = command.args(["--host", NAME, "oci://127.0.0.1:1/fleet"]).env("PATH", "/nowhere").output();
    assert!(ends_with(&output.unwrap(), 1).contains("`skopeo` is needed"));
    assert_eq!(everything_below(dir.path()).len(), 1, "nothing but the directory itself");
}

/// Two hosts with an image each. That of `lab` has layers that change apart.
fn fleet(page: &str) -> Tree {
    let tree = source::modules();
    tree.write(
        "environments/fleet.star",
        "load(\"//modules/fleet\", \"fleet\")\n\
         environment(name = \"fleet\", hosts = [\n    \
         host(name = \"lab\", domain = \"lab.test\", os = \"debian-13\", services = [fleet(page = \"one\")]),\n    \
         host(name = \"other\", domain = \"lab.test\", os = \"debian-13\", services = [fleet(page = \"theirs\", name = \"theirs\")]),\n])\n",
    );
    tree.write("modules/fleet/fleet.star", FLEET);
    fs::copy("/bin/busybox", tree.path().join("modules/fleet/busybox")).unwrap();
    fs::write(tree.path().join("modules/fleet/large"), noise(3, 3 << 20)).unwrap();
    fs::write(tree.path().join("modules/fleet/payload"), noise(4, 1 << 20)).unwrap();
    set_page(&tree, page);
    tree
}

fn set_page(tree: &Tree, page: &str) {
    tree.write("modules/fleet/page", page);
    tree.write("modules/fleet/note", &format!("beside {page}"));
}

const FLEET: &str = r#"def _build(ctx):
    picture = image(
        ctx.name,
        layers = {"/bin/busybox": "busybox", "/large": "large", "/page": "page", "/note": "note", "/host": written(ctx.options.page)},
        entrypoint = ["/bin/busybox", "sleep", "infinity"],
    )
    page = file("page", source = "payload")
    return [
        picture,
        page,
        unit(ctx.name + "-reader.service", {
            "Service": {"ExecStart": "/bin/sleep infinity", "Environment": [variable("PAGE", page.path)]},
            "Install": {"WantedBy": "multi-user.target"},
        }),
        quadlet(ctx.name + ".container", {
            "Container": {"Image": picture.ref, "Network": "none", "StopSignal": "SIGKILL"},
            "Service": {"SuccessExitStatus": 137},
            "Install": {"WantedBy": "multi-user.target"},
        }),
    ]

fleet = module(doc = "A fleet.", options = {"page": option(str, doc = "A word.")}, build = _build)
"#;

fn each_once(blobs: &[String]) -> usize {
    blobs.iter().collect::<BTreeSet<_>>().len()
}

/// The digests of the layers of a published image.
fn image_layers(scene: &Scene, name: &str) -> Vec<String> {
    let parse = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
    let index = parse(scene.manifest(":stable"));
    let entries = index["manifests"].as_array().unwrap();
    let named = |entry: &&Value| {
        entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().starts_with(name)
    };
    let digest = entries.iter().find(named).unwrap()["digest"].as_str().unwrap();
    let image = parse(scene.manifest(&format!("@{digest}")));
    image["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_host_fetches_its_own_part_and_of_that_what_it_lacks() {
    require_hosts!();
    let host = lab::host("lab");
    let (scene, tree) = (Scene::set(Network::of(&host)), fleet("one"));
    let said = scene.published(&tree, "fleet");
    let theirs: Value =
        serde_json::from_slice(&scene.manifest(&format!("@{}", digest_of(&said, "host other")))).unwrap();
    let theirs = theirs["layers"][0]["digest"].as_str().unwrap().to_owned();
    let stable = scene.at(":stable");
    let run = |options: &[&str]| {
        host.run(&[&["rick-activate", "--insecure", "--settle=0", &stable], options].concat())
    };

    scene.proxy.reset();
    let said = ends_with(&run(&["--dry-run"]), 0);
    assert!(said.contains("would fetch localhost/fleet"), "{said}");
    assert!(!host.run(&["test", "-e", "/var/lib/rick"]).status.success(), "a dry run leaves nothing");
    assert_eq!(host.sh("find /var/tmp -name '.rick*'"), "");

    scene.proxy.reset();
    ends_with(&run(&[]), 0);
    lab::is_well(&host);
    let (blobs, _) = scene.proxy.fetched();
    assert!(!blobs.contains(&theirs), "the files of the other host");
    // Config and files of the host, config and five layers of its image; the host's config comes twice, as it is read first.
    assert_eq!((blobs.len(), each_once(&blobs)), (9, 8), "{blobs:#?}");
    assert_eq!(host.ok(&["podman", "ps", "--format", "{{.Names}}"]), "systemd-fleet");

    // The same again: no blob but the config, which says what is to be looked at.
    scene.proxy.reset();
    assert!(ends_with(&run(&[]), 0).contains("nothing to do"));
    let (blobs, bytes) = scene.proxy.fetched();
    assert!(blobs.len() == 1 && bytes < 8 << 10, "{blobs:#?}, {bytes} bytes");

    // Two small files of the image: their layers, and what names them. The first time one does not come, and what came stays.
    set_page(&tree, "two");
    scene.published(&tree, "fleet");
    let layers = image_layers(&scene, "localhost/fleet:");
    scene.proxy.reset();
    // Layers are in the order of the module.
    scene.proxy.breaks("GET", &layers[3], ALWAYS, &FAILS);
    let life = host.property("fleet.service", "InvocationID");
    assert!(ends_with(&run(&[]), 1).contains("3 of 6 blobs"));
    assert_eq!(host.property("fleet.service", "InvocationID"), life);
    scene.proxy.reset();
    let said = ends_with(&run(&[]), 0);
    assert!(said.contains("2 of 6 blobs"), "{said}");
    let (blobs, bytes) = scene.proxy.fetched();
    assert_eq!(each_once(&blobs), 4, "{blobs:#?}");
    // The files of the host are one layer, of which a megabyte is payload.
    assert!(bytes < 1_200_000, "{bytes} bytes");
    let inside = host.ok(&["podman", "exec", "systemd-fleet", "/bin/busybox", "cat", "/page"]);
    assert_eq!(inside, "two");
    lab::is_well(&host);
    // What is kept can be gone back to, with its image, and without a registry.
    drop(scene);
    host.ok(&["rick-activate", "rollback"]);
    assert_eq!(host.ok(&["podman", "exec", "systemd-fleet", "/bin/busybox", "cat", "/page"]), "one");
}

#[test]
fn a_registry_wants_a_password_and_has_a_certificate() {
    require_hosts!();
    let host = lab::host("lab");
    let network = Network::of(&host);
    let keys = Keys::make();
    let registry = Registry::start(network, &keys.tls(), &keys.password());
    let at = format!("127.0.0.1:{}", registry.port);
    let (reference, tree) = (format!("oci://{at}/fleet:stable"), fleet("one"));
    let home = tempfile::tempdir().unwrap();
    let publish = |more: &[&str]| {
        rickbuild(
            network,
            &tree,
            home.path(),
            &[&["publish", "fleet", &reference, "--sign-key", signing::key()], more].concat(),
        )
    };
    let run = |more: &[&str]| host.run(&[&["rick-activate", "--settle=0", &reference], more].concat());

    // Nobody vouches for it.
    for said in [ends_with(&publish(&[]), 3), ends_with(&run(&[]), 1)] {
        assert!(said.contains("is not to be trusted") && said.contains("/etc/containers/certs.d/"), "{said}");
    }
    let authority = fs::read(keys.path("authority.crt")).unwrap();
    let ours = home.path().join(format!(".config/containers/certs.d/{at}"));
    fs::create_dir_all(&ours).unwrap();
    fs::write(ours.join("ca.crt"), &authority).unwrap();
    host.write(&format!("/etc/containers/certs.d/{at}/ca.crt"), &authority);

    // No password, and a wrong one.
    let wrong = auth_file(&at, "lab:open barley");
    let right = auth_file(&at, "lab:open sesame");
    let (wrong_file, right_file) = (home.path().join("wrong.json"), home.path().join("right.json"));
    fs::write(&wrong_file, &wrong).unwrap();
    fs::write(&right_file, &right).unwrap();
    host.write("/root/wrong.json", &wrong);
    let wrong_file = wrong_file.to_str().unwrap();
    for output in [publish(&[]), publish(&["--authfile", wrong_file])] {
        let said = ends_with(&output, 3);
        assert!(said.contains("does not let us in") && said.contains("skopeo login"), "{said}");
    }
    assert!(ends_with(&publish(&["--authfile", "/nowhere"]), 3).contains("there is no file /nowhere"));
    ends_with(&publish(&["--authfile", right_file.to_str().unwrap()]), 0);

    for output in [run(&[]), run(&["--authfile=/root/wrong.json"])] {
        let said = ends_with(&output, 1);
        assert!(said.contains("does not let us in") && said.contains("skopeo login"), "{said}");
    }
    assert!(!host.run(&["test", "-e", "/var/lib/rick"]).status.success(), "nothing is left of that");

    // Where every container tool looks.
    host.write("/run/containers/0/auth.json", &right);
    ends_with(&run(&[]), 0);
    lab::is_well(&host);
    host.ok(&["rm", "/run/containers/0/auth.json"]);
    host.write("/root/right.json", &right);
    let said = host.ok(&["rick-activate", "follow", "--authfile=/root/right.json", &reference]);
    assert!(said.contains("is what generation 1 has"), "{said}");
}

fn auth_file(registry: &str, login: &str) -> String {
    let output =
        Command::new("bash").args(["-c", "printf %s \"$1\" | base64 -w0", "-", login]).output().unwrap();
    let login = String::from_utf8(output.stdout).unwrap();
    format!(r#"{{"auths": {{"{registry}": {{"auth": "{login}"}}}}}}"#)
}

/// A host that follows, with one service whose lines a test writes.
fn follower(scene: &Scene, every: &str, more: &str) -> Tree {
    let tree = lab::lab("");
    tree.edit("environments/lab.star", "load(", "load(\"//modules/rick\", \"rick\")\nload(");
    tree.edit(
        "environments/lab.star",
        "[lab()]",
        &format!(
            "[lab(), rick(follow = \"127.0.0.1:{}/fleet:stable\", insecure = True, every = \"{every}\", spread = \"0\")]",
            scene.proxy.port
        ),
    );
    lab::describe(&tree, &lab::sleeper("a.service", "", more));
    tree
}

fn current(host: &Host) -> String {
    host.ok(&["readlink", "/var/lib/rick/current"])
}

fn generations(host: &Host) -> BTreeSet<String> {
    host.ok(&["ls", "/var/lib/rick/gens"]).lines().map(str::to_owned).collect()
}

#[test]
fn a_host_follows_a_name_and_tries_nothing_twice() {
    require_hosts!();
    let host = lab::host("lab");
    let scene = Scene::set(Network::of(&host));
    let tree = lab::lab(&lab::sleeper("a.service", "", ""));
    let publish = |more: &str| {
        lab::describe(&tree, &lab::sleeper("a.service", "", more));
        scene.published(&tree, "lab");
        scene.proxy.reset();
    };
    let stable = scene.at(":stable");
    let follow = |options: &[&str]| {
        host.run(&[&["rick-activate", "follow", "--insecure", "--settle=4", &stable], options].concat())
    };
    publish("Environment=N=1");
    assert!(ends_with(&follow(&["--dry-run"]), 0).contains("would switch to generation 1"));
    ends_with(&follow(&[]), 0);
    assert_eq!(current(&host), "gens/1");

    // Nothing moved: two short questions, and no unit is touched.
    scene.proxy.reset();
    let life = host.property("a.service", "InvocationID");
    let said = ends_with(&follow(&["--detailed-exit-code"]), 10);
    assert!(said.contains("nothing to do:") && said.contains("is what generation 1 has"), "{said}");
    let asked: Vec<String> = scene.proxy.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(asked, ["/v2/", "/v2/fleet/manifests/stable"]);
    assert_eq!(host.property("a.service", "InvocationID"), life);

    publish("Environment=N=2");
    ends_with(&follow(&[]), 0);
    assert_eq!(current(&host), "gens/2");

    // What is not well is tried once.
    publish("ExecStart=\nExecStart=/bin/sh -c 'sleep 2; exit 1'");
    assert!(ends_with(&follow(&[]), 3).contains("rolled back: generation 2"));
    let before = generations(&host);
    for _ in 0..2 {
        let said = ends_with(&follow(&[]), 0);
        assert!(said.contains("the host was not well with it (generation 3)"), "{said}");
    }
    assert_eq!((current(&host).as_str(), generations(&host)), ("gens/2", before));
    lab::is_well(&host);

    // Until the name moves.
    publish("Environment=N=4");
    ends_with(&follow(&[]), 0);
    assert_eq!(current(&host), "gens/4");

    // What a person went back from stays left, and a person can have it again.
    host.ok(&["rick-activate", "rollback"]);
    assert_eq!(current(&host), "gens/2");
    let said = ends_with(&follow(&[]), 0);
    assert!(said.contains("the host was taken back from it"), "{said}");
    assert_eq!(current(&host), "gens/2");
    host.ok(&["rick-activate", "--insecure", "--settle=0", &stable]);
    assert!(ends_with(&follow(&[]), 0).contains("is what generation"));
    // A name that moves back to what the host had is a move as well.
    publish("Environment=N=2");
    ends_with(&follow(&[]), 0);
    lab::is_well(&host);
    assert!(
        host.sh("tr '\\0' '\\n' </proc/$(systemctl show --value -p MainPID a.service)/environ")
            .contains("N=2")
    );

    // Somebody else is at it.
    publish("Environment=N=5\nExecStartPre=/bin/sh -c 'until test -e /run/go-on; do sleep 0.1; done'");
    let mut other = host.command(&["rick-activate", "--insecure", &stable]).spawn().unwrap();
    lab::wait_for("the other", || host.property("a.service", "ActiveState") == "activating");
    let said = ends_with(&follow(&[]), 0);
    assert!(said.contains("a switch is under way") || said.contains("another rick-activate"), "{said}");
    host.ok(&["touch", "/run/go-on"]);
    assert!(other.wait().unwrap().success());
    assert!(ends_with(&follow(&[]), 0).contains("is what generation"));
}

/// An account, an image and a container of it, among the items of a module.
const CONTAINER: &str = r#"        user("late"),
    ] + [noun for picture in [
        image("app", layers = {"/bin/busybox": "busybox"}, entrypoint = ["/bin/busybox", "sleep", "infinity"]),
    ] for noun in [
        picture,
        quadlet("app.container", {
            "Container": {"Image": picture.ref, "Network": "none", "StopSignal": "SIGKILL"},
            "Service": {"SuccessExitStatus": 137},
            "Install": {"WantedBy": "multi-user.target"},
        }),
    ]] + [
"#;

#[test]
fn a_host_that_has_the_module_follows_by_itself() {
    require_hosts!();
    let host = lab::host("lab");
    let scene = Scene::set(Network::of(&host));
    let tree = follower(&scene, "*:*:0/5", "Environment=N=1");
    scene.published(&tree, "lab");
    host.ok(&["rick-activate", "--insecure", "--settle=0", &scene.at(":stable")]);
    let followed = |n: u32| {
        lab::wait_for("the new generation", || {
            let pid = host.property("a.service", "MainPID");
            let found = host.run(&["grep", "-qz", &format!("^N={n}$"), &format!("/proc/{pid}/environ")]);
            found.status.success()
        });
        lab::wait_for("the end of the switch", || {
            !host.run(&["test", "-e", "/var/lib/rick/journal.json"]).status.success()
        });
    };
    lab::describe(&tree, &lab::sleeper("a.service", "", "Environment=N=2"));
    scene.published(&tree, "lab");
    followed(2);

    // The switch changes the very service that called it, and brings an image and an account.
    tree.edit("environments/lab.star", "*:*:0/5", "*:*:0/3");
    tree.edit("environments/lab.star", "insecure = True,", "insecure = True, login = \"registry-login\",");
    fs::copy("/bin/busybox", tree.path().join("modules/lab/busybox")).unwrap();
    lab::describe(&tree, &[lab::sleeper("a.service", "", "Environment=N=3").as_str(), CONTAINER].concat());
    scene.published(&tree, "lab");
    // It lacks the secret: refused, time and again, until it is there.
    lab::wait_for("the refusal", || {
        host.sh("journalctl -u rick-follow.service --no-pager")
            .contains("this host lacks the secret `registry-login`")
    });
    host.sh("install -d -m 0700 /etc/credstore.encrypted; printf '{\"auths\": {}}' | systemd-creds encrypt --name=registry-login - /etc/credstore.encrypted/registry-login");
    followed(3);
    lab::wait_for("a run as the new service", || {
        let said = host.sh("journalctl -u rick-follow.service --no-pager");
        said.contains("is what generation 3 has")
    });
    host.ok(&["systemctl", "reset-failed", "rick-follow.service"]);
    lab::wait_for("rest", || host.property("rick-follow.service", "ActiveState") == "inactive");
    lab::is_well(&host);
    assert_eq!(host.ok(&["podman", "ps", "--format", "{{.Names}}"]), "systemd-app");
    assert_eq!(host.property("rick-follow.service", "Result"), "success");
    assert!(host.sh("systemctl show -p TimersCalendar --value rick-follow.timer").contains("0/3"));
}
