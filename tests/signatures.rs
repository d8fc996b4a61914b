//! Who signs, and whose bundles a host takes: with the real `ssh-keygen`, by the program as it is.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::bundle::{Bundle, Entry};
use crate::support::lab::{self, said};
use crate::support::registry::{Network, Registry};
use crate::support::require_hosts;
use crate::support::root::{self, NAME, activate, activator, differences, everything_below};
use crate::support::signing::{self, Ring, line};
use crate::support::source::Tree;

const ANNOTATION: &str = "vnd.rick.signatures";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const WHO: &str = "anna@example.net";

#[track_caller]
fn ends_with(output: &Output, code: i32) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What ssh-keygen signs of some bytes.
fn signature(key: &Path, namespace: &str, bytes: &[u8]) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "sign", "-q", "-n", namespace, "-f"]).arg(key);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The entry of a host in an index.
fn entry_of<'a>(index: &'a mut Value, host: &str) -> &'a mut Value {
    let name = format!("host-{host}");
    let mut all = index["manifests"].as_array_mut().unwrap().iter_mut();
    all.find(|entry| entry["annotations"][REF_NAME] == *name).unwrap()
}

/// The bundle with another `index.json`.
fn with_index(bundle: &Bundle, change: impl FnOnce(&mut Value)) -> Bundle {
    let mut index = bundle.json("index.json");
    change(&mut index);
    let mut changed = bundle.clone();
    let at = changed.entries.iter().position(|entry| entry.path == "index.json").unwrap();
    changed.entries[at] = Entry::file("index.json", &serde_json::to_vec(&index).unwrap());
    changed
}

/// The bundle with other signatures for the host [`NAME`].
fn with_signatures(bundle: &Bundle, signatures: &str) -> Bundle {
    with_index(bundle, |index| entry_of(index, NAME)["annotations"][ANNOTATION] = signatures.into())
}

fn signatures_of(bundle: &Bundle) -> String {
    let mut index = bundle.json("index.json");
    entry_of(&mut index, NAME)["annotations"][ANNOTATION].as_str().unwrap().to_owned()
}

fn manifest_of<'a>(bundle: &'a Bundle, host: &str) -> &'a [u8] {
    &bundle.entry(&place_of(bundle, host)).bytes
}

/// A host that is a directory, and trusts one key.
struct Scene {
    dir: TempDir,
    ring: Ring,
    key: PathBuf,
    tree: Tree,
}

impl Scene {
    fn set() -> Self {
        let ring = Ring::new();
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
            key: ring.key("anna", &["-t", "ed25519"]),
            ring,
            tree: root::environment("one"),
        };
        fs::create_dir_all(this.root().join("etc/rick")).unwrap();
        this.allow(&line(WHO, &this.key));
        this
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    fn allow(&self, lines: &str) {
        fs::write(self.root().join("etc/rick/allowed_signers"), lines).unwrap();
    }

    /// The environment, compiled and signed as these arguments say.
    #[track_caller]
    fn bytes(&self, more: &[&str]) -> Vec<u8> {
        let file = self.tree.path().join("built.tar");
        let output = self.tree.rickbuild(&[&["small", "--output", text(&file)], more].concat());
        assert!(output.status.success(), "{}", said(&output));
        fs::read(file).unwrap()
    }

    #[track_caller]
    fn built(&self, more: &[&str]) -> Bundle {
        Bundle::read(&self.bytes(more))
    }

    fn signed(&self) -> Bundle {
        self.built(&["--sign-key", text(&self.key)])
    }

    fn put(&self, bundle: &Bundle) -> PathBuf {
        let file = self.dir.path().join("bundle.tar");
        fs::write(&file, bundle.bytes()).unwrap();
        file
    }

    #[track_caller]
    fn taken(&self, bundle: &Bundle) -> String {
        ends_with(&activate(&self.root(), &self.put(bundle)), 0)
    }

    /// It is refused, and nothing is left of it.
    #[track_caller]
    fn refused(&self, bundle: &Bundle, why: &str) {
        let before = everything_below(&self.root());
        let said = ends_with(&activate(&self.root(), &self.put(bundle)), 1);
        assert!(said.contains(why), "`{why}` in {said}");
        assert_eq!(differences(&before, &everything_below(&self.root())), Vec::<String>::new());
    }

    fn fingerprint(&self, name: &str) -> String {
        let output = Command::new("ssh-keygen").arg("-lf").arg(self.ring.path(name)).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    }
}

#[test]
fn a_signature_changes_no_build_and_is_the_same_again() {
    let scene = Scene::set();
    let (key, file) = (text(&scene.key), scene.dir.path().join("bundle.tar"));
    let (plain, signed) = (scene.bytes(&[]), scene.bytes(&["--sign-key", key]));
    // Compiled and signed at once, or one after the other, or twice: the same bytes.
    fs::write(&file, &plain).unwrap();
    for _ in 0..2 {
        let told = ends_with(&scene.tree.rickbuild(&["sign", text(&file), "--key", key]), 0);
        assert!(told.contains(&format!("signed with {}", scene.fingerprint("anna"))), "{told}");
        assert!(fs::read(&file).unwrap() == signed);
    }
    // To another place, and what is read stays.
    fs::write(&file, &plain).unwrap();
    let output = scene.tree.rickbuild(&["sign", text(&file), "--key", key, "-o", "-"]);
    assert!(output.stdout == signed && fs::read(&file).unwrap() == plain);
    let (plain, signed) = (Bundle::read(&plain), Bundle::read(&signed));
    for host in [NAME, "other"] {
        assert_eq!(manifest_of(&plain, host), manifest_of(&signed, host));
    }

    // Both indexes say it.
    let index = signed.json("index.json");
    let all = index["manifests"].as_array().unwrap();
    let bundle = all.iter().find(|entry| entry["annotations"][REF_NAME] == "bundle").unwrap();
    let inner = signed.json(&bundle["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/"));
    for host in [NAME, "other"] {
        let of = |index: &Value| entry_of(&mut index.clone(), host)["annotations"][ANNOTATION].clone();
        assert!(of(&index).is_string() && of(&index) == of(&inner));
    }
}

#[test]
fn anybody_can_verify_by_hand() {
    let scene = Scene::set();
    let bundle = scene.signed();
    let place = |name: &str| scene.dir.path().join(name);
    fs::write(place("bundle.tar"), bundle.bytes()).unwrap();
    fs::write(place("allowed_signers"), line("anna@example.org", &scene.key)).unwrap();
    // As the page says it.
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/signing.md")).unwrap();
    let (_, script) = page.split_once("## Verify by hand").unwrap();
    let script = script.split("```").nth(1).unwrap().trim_start_matches("sh\n");
    let script = script.replace("host-arch-vps", "host-box");
    let script = &script.replace("blobs/sha256/5ee8104f3a98…", &place_of(&bundle, NAME));
    let verified =
        Command::new("bash").args(["-euc", script]).current_dir(scene.dir.path()).output().unwrap();
    assert!(ends_with(&verified, 0).contains("Good \"rick-bundle\" signature for anna@example.org"));
}

#[test]
fn a_directory_is_signed_where_it_is() {
    let scene = Scene::set();
    let layout = scene.dir.path().join("layout");
    let run = |arguments: &[&str]| scene.tree.rickbuild(arguments);
    ends_with(&run(&["small", "--layout", text(&layout)]), 0);
    ends_with(&run(&["sign", text(&layout), "--key", text(&scene.key)]), 0);
    let signed = scene.signed();
    for entry in &signed.entries {
        assert!(fs::read(layout.join(&entry.path)).unwrap() == entry.bytes, "{}", entry.path);
    }
    ends_with(&run(&["sign", text(&layout), "--key", text(&scene.key), "-o", "x"]), 2);
}

#[test]
fn keys_of_all_kinds_sign_and_none_is_read_by_us() {
    let scene = Scene::set();
    let bundle = scene.put(&scene.built(&[]));
    let rsa = scene.ring.key("rsa", &["-t", "rsa", "-b", "3072"]);
    let ecdsa = scene.ring.key("ecdsa", &["-t", "ecdsa"]);
    let agent = scene.ring.key("agent", &["-t", "ed25519"]);
    for key in [&rsa, &ecdsa] {
        ends_with(&scene.tree.rickbuild(&["sign", text(&bundle), "--key", text(key)]), 0);
    }
    // The agent has the private key, and only the public one is there.
    let script = r#"
        eval "$(ssh-agent)" >&2
        trap 'kill "$SSH_AGENT_PID"' EXIT
        ssh-add -q "$2" && rm "$2"
        "$1" sign "$3" --key "$2.pub""#;
    let mut signing = Command::new("bash");
    signing.args(["-euc", script, "-", env!("CARGO_BIN_EXE_rickbuild"), text(&agent), text(&bundle)]);
    ends_with(&signing.output().unwrap(), 0);
    let signed = Bundle::read(&fs::read(&bundle).unwrap());
    assert_eq!(signatures_of(&signed).matches("BEGIN SSH SIGNATURE").count(), 3);
    for (name, key) in [("rsa", &rsa), ("ecdsa", &ecdsa), ("agent", &agent)] {
        scene.allow(&line(name, key));
        let said = scene.taken(&signed);
        assert!(said.contains(&format!("signed     by {name} (SHA256:")), "{said}");
    }
}

#[test]
fn a_passphrase_is_asked_for_on_the_terminal() {
    let scene = Scene::set();
    let key = scene.ring.key("locked", &["-t", "ed25519", "-N", "open sesame"]);
    let bundle = scene.put(&scene.built(&[]));
    let sign = format!("{} sign {} --key {}", env!("CARGO_BIN_EXE_rickbuild"), text(&bundle), text(&key));
    // On a terminal of its own, with somebody who types when asked.
    let script = r#"
        mkfifo "$2/typed"
        script --quiet --return --flush --command "$1" "$2/screen" < "$2/typed" > /dev/null &
        exec 3> "$2/typed"
        until grep -q passphrase "$2/screen" 2> /dev/null; do sleep 0.05; done
        echo 'open sesame' >&3
        exec 3>&-
        wait $! || { cat "$2/screen"; exit 1; }"#;
    let mut typed = Command::new("timeout");
    typed.args(["30", "bash", "-euc", script, "-", &sign, text(scene.dir.path())]);
    ends_with(&typed.output().unwrap(), 0);
    scene.allow(&line(WHO, &key));
    scene.taken(&Bundle::read(&fs::read(&bundle).unwrap()));

    // Where nobody can type, it ends, and the bundle is as it was.
    let before = fs::read(&bundle).unwrap();
    let mut alone = Command::new("setsid");
    let output = alone.args(["--wait", "bash", "-c", &sign]).stdin(Stdio::null()).output().unwrap();
    let said = ends_with(&output, 3);
    assert!(said.contains("error: ssh-keygen does not sign with") && said.contains("ssh-add KEY"), "{said}");
    assert!(fs::read(&bundle).unwrap() == before);
}

#[test]
fn what_cannot_be_signed_is_said() {
    let scene = Scene::set();
    let (key, bundle) = (text(&scene.key), scene.put(&scene.built(&[])));
    let run = |arguments: &[&str]| scene.tree.rickbuild(arguments);
    for arguments in [
        &["small", "-o", "/dev/null", "--sign-key", "/no/key"][..],
        &["sign", text(&bundle), "--key", "/no/key"],
    ] {
        assert!(ends_with(&run(arguments), 3).contains("error: there is no key /no/key\n"));
    }
    assert!(
        ends_with(&run(&["sign", "/no/bundle", "--key", key]), 3)
            .contains("cannot sign /no/bundle: No such file")
    );
    for (bytes, why) in [
        (b"this is a text".to_vec(), "the archive is truncated"),
        (scene.built(&[]).with(|all| all.retain(|entry| !entry.is_blob())), "is missing or damaged"),
        (
            with_index(&scene.built(&[]), |index| index["manifests"] = Value::Array(vec![])).bytes(),
            "there is no host in it",
        ),
    ] {
        fs::write(&bundle, &bytes).unwrap();
        let said = ends_with(&run(&["sign", text(&bundle), "--key", key]), 3);
        assert!(said.contains(why), "{said}");
        assert!(fs::read(&bundle).unwrap() == bytes);
    }
}

#[test]
fn only_who_is_trusted_now_and_with_bundles_is_taken() {
    let scene = Scene::set();
    let (bundle, key) = (scene.signed(), scene.fingerprint("anna"));
    let stranger = scene.ring.key("stranger", &["-t", "ed25519"]);
    for (lines, why) in [
        (line(WHO, &stranger), "was signed by nobody whom this host trusts"),
        (String::new(), "was signed by nobody whom this host trusts"),
        (line("anna@example.net valid-before=\"20200101\"", &scene.key), "with a key that has expired"),
        (line("anna@example.net valid-after=\"20990101\"", &scene.key), "with a key that is not yet valid"),
        (
            line("anna@example.net namespaces=\"file,git\"", &scene.key),
            "with a key that this host does not trust with bundles",
        ),
        // It is no certificate.
        (line("anna@example.net cert-authority", &scene.key), "was signed by nobody whom this host trusts"),
    ] {
        scene.allow(&lines);
        scene.refused(&bundle, why);
        scene.refused(&bundle, &key);
    }
    // Times are those of the host, wherever the caller is at home.
    let soon = Command::new("date").args(["--utc", "+%Y%m%d%H%M", "--date", "3 hours"]).output().unwrap();
    let soon = String::from_utf8(soon.stdout).unwrap();
    scene.allow(&line(&format!("anna@example.net valid-before=\"{}\"", soon.trim()), &scene.key));
    let file = scene.put(&bundle);
    let mut far = activator(&scene.root());
    let output =
        far.env("TZ", "X-14").env("LC_ALL", "tr_TR.UTF-8").args(["--host", NAME]).arg(&file).output();
    assert!(ends_with(&output.unwrap(), 0).contains(&format!("signed     by {WHO} ({key})")));
    let said = ends_with(&activator(&scene.root()).arg("list").output().unwrap(), 0);
    assert!(said.contains(&format!("good, signed by {WHO} ({key})")), "{said}");
}

#[test]
fn an_authority_signs_for_those_who_sign() {
    let scene = Scene::set();
    let authority = scene.ring.key("authority", &["-t", "ed25519"]);
    let certify = |validity: &str| {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-s"]).arg(&authority).args(["-I", "anna", "-n", WHO, "-V", validity]);
        assert!(command.arg(scene.key.with_extension("pub")).status().unwrap().success());
    };
    scene.allow(&line("*@example.net cert-authority,namespaces=\"rick-bundle\"", &authority));
    certify("-1h:+1h");
    let certificate = scene.ring.path("anna-cert.pub");
    let bundle = scene.built(&["--sign-key", text(&certificate)]);
    let said = scene.taken(&bundle);
    assert!(said.contains(&format!("signed     by {WHO} ({})", scene.fingerprint("anna"))), "{said}");
    scene.allow(&line("*@example.org cert-authority", &authority));
    scene.refused(&bundle, "by nobody whom this host trusts");
    scene.allow(&line("*@example.net cert-authority", &authority));
    certify("-2h:-1h");
    scene.refused(&scene.built(&["--sign-key", text(&certificate)]), "the bundle was signed");
}

#[test]
fn a_signature_is_one_of_this_build_for_this_host() {
    let scene = Scene::set();
    let bundle = scene.signed();
    scene.taken(&bundle);
    let ours = signatures_of(&bundle);
    let changed = "and then changed, or has the signature of another build: SHA256:";

    // A file is swapped, and every digest made right again.
    let swapped = bundle.with_host(NAME, |part| {
        let unit = part.files.iter_mut().find(|file| file.path == "units/app.service").unwrap();
        *unit = Entry::file("units/app.service", b"[Service]\nExecStart=/bin/evil\n");
    });
    scene.refused(&Bundle::read(&swapped), changed);
    // So is the number of the build.
    let renumbered = bundle.with_host(NAME, |part| part.manifest["serial"] = 7.into());
    scene.refused(&Bundle::read(&renumbered), changed);
    // A blob is swapped, and the manifest that was signed is the right one.
    let layer =
        serde_json::from_slice::<Value>(manifest_of(&bundle, NAME)).unwrap()["layers"][0]["digest"].clone();
    let place = layer.as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let damaged = bundle.with(|all| all.iter_mut().find(|entry| entry.path == place).unwrap().bytes[20] ^= 1);
    scene.refused(&Bundle::read(&damaged), "is damaged: its bytes have the digest");

    // The right signature of another build.
    scene.tree.edit("environments/small.star", "app(text = \"one\")", "app(text = \"two\")");
    scene.refused(&with_signatures(&scene.built(&[]), &ours), changed);

    // The build of another host, which is signed, under the name of this one.
    let stolen = with_index(&bundle, |index| {
        let all = index["manifests"].as_array_mut().unwrap();
        all.retain(|entry| entry["annotations"][REF_NAME] == "host-other");
        all[0]["annotations"][REF_NAME] = "host-box".into();
    });
    let theirs = place_of(&bundle, "other");
    let named = named_by(&bundle, &theirs);
    let stolen =
        stolen.with(|all| all.retain(|e| !e.is_blob() || e.path == theirs || named.contains(&e.path)));
    scene.refused(&Bundle::read(&stolen), "this bundle is for `other`; this host is `box`");

    // Something else that was signed with the key: a file, say.
    let file = signature(&scene.key, "file", manifest_of(&bundle, NAME));
    scene.refused(&with_signatures(&bundle, &file), "for something else");
    scene.refused(&with_signatures(&bundle, &file), "for `file`");
    let hostile = signature(&scene.key, &"expired\u{1b}[2J".repeat(500), manifest_of(&bundle, NAME));
    scene.refused(&with_signatures(&bundle, &hostile), "for `expired\\u{1b}[2Jexpired");
}

/// Where the manifest of a host stands.
fn place_of(bundle: &Bundle, host: &str) -> String {
    let mut index = bundle.json("index.json");
    entry_of(&mut index, host)["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/")
}

/// The blobs that a manifest names.
fn named_by(bundle: &Bundle, path: &str) -> Vec<String> {
    let manifest = bundle.json(path);
    let place = |blob: &Value| blob["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers.chain([&manifest["config"]]).map(place).collect()
}

#[test]
fn who_else_names_the_config_of_a_signed_build_lends_it_nothing() {
    let scene = Scene::set();
    let bundle = scene.signed();
    let mut forged: Value = serde_json::from_slice(manifest_of(&bundle, NAME)).unwrap();
    let theirs: Value = serde_json::from_slice(manifest_of(&bundle, "other")).unwrap();
    forged["layers"] = theirs["layers"].clone();
    let forged = Entry::blob(&serde_json::to_vec(&forged).unwrap());
    for name in [Some("host-other2"), Some("host-box"), None] {
        let mut twice = with_index(&bundle, |index| {
            let mut entry = entry_of(index, NAME).clone();
            entry["digest"] = forged.digest().into();
            entry["size"] = forged.size.into();
            entry["annotations"].as_object_mut().unwrap().remove(REF_NAME);
            if let Some(name) = name {
                entry["annotations"][REF_NAME] = name.into();
            }
            index["manifests"].as_array_mut().unwrap().insert(0, entry);
        });
        let first = twice.entries.iter().position(Entry::is_blob).unwrap();
        twice.entries.insert(first, forged.clone());
        let why = if name == Some("host-other2") { "twice, and differently" } else { "and then changed" };
        scene.refused(&twice, why);
    }
}

#[test]
fn a_build_of_before_does_not_come_back_unasked() {
    let scene = Scene::set();
    let key = text(&scene.key);
    let [old, new, none] = [&["--serial", "1"][..], &["--serial", "2"], &[]]
        .map(|serial| scene.built(&[serial, &["--sign-key", key]].concat()));
    scene.taken(&old);
    scene.taken(&new);
    scene.refused(&old, "the bundle has serial 1, and this host had 2 already");
    scene.refused(&none, "the bundle has no serial, and this host had 2 already");
    let file = scene.put(&old);
    let output = activator(&scene.root()).args(["--host", NAME, "--allow-older"]).arg(file).output();
    ends_with(&output.unwrap(), 0);
}

#[test]
fn of_several_signatures_one_that_is_good_will_do() {
    let scene = Scene::set();
    let stranger = scene.ring.key("stranger", &["-t", "ed25519"]);
    let bundle = scene.signed();
    let (ours, manifest) = (signatures_of(&bundle), manifest_of(&bundle, NAME));
    let theirs = signature(&stranger, "rick-bundle", manifest);
    let damaged = ours.replacen("U1NIU0lH", "U1NIU0lI", 1);
    let cut = &ours[..100];
    for signatures in [
        [&theirs, ours.as_str()].concat(),
        [&ours, theirs.as_str()].concat(),
        [damaged.as_str(), &ours].concat(),
        [&ours, cut].concat(),
        ours.replace('\n', "\n\n"),
    ] {
        scene.taken(&with_signatures(&bundle, &signatures));
    }
    for (signatures, why) in [
        (damaged.clone(), "a signature of the bundle is damaged"),
        (cut.to_owned(), "a signature of the bundle is damaged"),
        (String::new(), "the bundle is not signed for this host"),
        (" \n ".to_owned(), "the bundle is not signed for this host"),
        (
            [damaged.as_str(), &theirs].concat(),
            "is damaged; and the bundle was signed by nobody whom this host trusts",
        ),
        (theirs.repeat(17), "more signatures than any bundle needs"),
        ("A".repeat(65 << 10), "more signatures than any bundle needs"),
        ([ours.as_str(), &"A".repeat(1 << 20)].concat(), "more signatures than any bundle needs"),
        ("A".repeat(5 << 20), "at most 4194304 are allowed"),
    ] {
        scene.refused(&with_signatures(&bundle, &signatures), why);
    }
}

#[test]
fn what_nobody_signed_is_taken_only_if_somebody_says_so() {
    let scene = Scene::set();
    let stranger = scene.ring.key("stranger", &["-t", "ed25519"]);
    let (plain, theirs) = (scene.built(&[]), scene.built(&["--sign-key", text(&stranger)]));
    scene.refused(&plain, "error: the bundle is not signed for this host\nhelp: sign it where the key is");
    for (bundle, why) in
        [(&plain, "is not signed for this host"), (&theirs, "by nobody whom this host trusts")]
    {
        let file = scene.put(bundle);
        let output = activator(&scene.root()).args(["--host", NAME, "--allow-unsigned"]).arg(file).output();
        let said = ends_with(&output.unwrap(), 0);
        assert!(said.contains("\nUNSIGNED   and taken, for --allow-unsigned was said: the bundle"), "{said}");
        assert!(said.contains(why), "{said}");
    }
    let said = ends_with(&activator(&scene.root()).arg("list").output().unwrap(), 0);
    assert!(!said.contains("signed by"), "{said}");

    // Who has no ssh-keygen cannot verify, and is told.
    let programs = scene.dir.path().join("bin");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink("/usr/bin/timeout", programs.join("timeout")).unwrap();
    let mut lacks = activator(&scene.root());
    lacks.env("PATH", &programs).args(["--host", NAME]).arg(scene.put(&scene.signed()));
    let said = ends_with(&lacks.output().unwrap(), 1);
    assert!(said.contains("`ssh-keygen` is needed") && said.contains("`openssh-client`"), "{said}");

    // A directory that trusts nobody asks nobody.
    fs::remove_file(scene.root().join("etc/rick/allowed_signers")).unwrap();
    let said = scene.taken(&plain);
    assert!(!said.contains("signed") && !said.contains("UNSIGNED"), "{said}");
}

#[test]
fn a_host_takes_what_somebody_signed_whom_it_trusts() {
    require_hosts!();
    let host = lab::host("lab");
    let tree = lab::lab(&lab::sleeper("a.service", "", "Environment=N=1"));
    let bundle = |options: &[&str]| {
        let file = tree.path().join("lab.tar");
        let output = tree.rickbuild(&[&["lab", "--output", text(&file)], options].concat());
        assert!(output.status.success(), "{}", said(&output));
        host.push(&file, "/root/bundle.tar");
    };
    let run = |options: &[&str]| {
        host.run(&[&["rick-activate", "--settle=0", "/root/bundle.tar"], options].concat())
    };
    // It trusts nobody yet: whatever is signed or not, nothing is taken, and nothing is left.
    host.ok(&["rm", "-r", "/etc/rick"]);
    for options in [&[][..], &["--sign-key", signing::key()]] {
        bundle(options);
        for dry in [&[][..], &["--dry-run"]] {
            let said = ends_with(&run(dry), 1);
            assert!(said.contains("error: this host does not say whose bundles it takes: /etc/rick/allowed_signers is not there\nhelp: write a line"), "{said}");
        }
    }
    assert!(!host.run(&["test", "-e", "/var/lib/rick"]).status.success());

    // As the help says.
    let anna = line("anna namespaces=\"rick-bundle\"", Path::new(signing::key()));
    host.write("/etc/rick/allowed_signers", &anna);
    let said = ends_with(&run(&[]), 0);
    assert!(said.contains("\nsigned     by anna (SHA256:"), "{said}");
    lab::is_well(&host);
    assert!(host.ok(&["rick-activate", "list"]).contains("good, signed by anna (SHA256:"));

    // Nobody signed the next one, or a stranger did, or it was changed.
    lab::describe(&tree, &lab::sleeper("a.service", "", "Environment=N=2"));
    let (ring, life) = (Ring::new(), host.property("a.service", "InvocationID"));
    let stranger = ring.key("stranger", &["-t", "ed25519"]);
    bundle(&[]);
    assert!(ends_with(&run(&[]), 1).contains("error: the bundle is not signed for this host"));
    bundle(&["--sign-key", text(&stranger)]);
    assert!(ends_with(&run(&[]), 1).contains("by nobody whom this host trusts"));
    bundle(&["--sign-key", signing::key()]);
    let changed = Bundle::read(&fs::read(tree.path().join("lab.tar")).unwrap()).with_host("lab", |part| {
        let unit = part.files.iter_mut().find(|file| file.path == "units/a.service").unwrap();
        *unit = Entry::file("units/a.service", b"[Service]\nExecStart=/bin/evil\n");
    });
    host.write("/root/changed.tar", &changed);
    let said = ends_with(&host.run(&["rick-activate", "/root/changed.tar"]), 1);
    assert!(said.contains("and then changed, or has the signature of another build"), "{said}");
    assert_eq!(host.property("a.service", "InvocationID"), life);
    assert_eq!(host.ok(&["ls", "/var/lib/rick/gens"]), "0\n1");

    // A person who is root anyway may say so, and it is said loudly.
    bundle(&[]);
    let said = ends_with(&run(&["--allow-unsigned"]), 0);
    assert!(said.contains("\nUNSIGNED   and taken"), "{said}");

    // What the host has, it has: to go back takes no signature, nor a signer who is trusted still, nor the program.
    host.sh("rm -r /etc/rick; mv /usr/bin/ssh-keygen /usr/bin/ssh-keygen.away");
    host.ok(&["rick-activate", "--settle=0", "rollback"]);
    assert!(host.sh("systemctl show -p Environment a.service").contains("N=1"));
    host.ok(&["rick-activate", "--settle=0", "rollback", "2"]);
    lab::is_well(&host);
    host.write("/etc/rick/allowed_signers", &anna);
    bundle(&["--sign-key", signing::key()]);
    assert!(ends_with(&run(&[]), 1).contains("help: install the package `openssh-client`"));
}

#[test]
fn a_host_that_follows_takes_no_name_for_a_signature() {
    require_hosts!();
    let host = lab::host("lab");
    let registry = Registry::start(Network::of(&host), "", "");
    let stable = format!("oci://127.0.0.1:{}/fleet:stable", registry.port);
    let tree = lab::lab("");
    let home = tempfile::tempdir().unwrap();
    let ring = Ring::new();
    let stranger = ring.key("stranger", &["-t", "ed25519"]);
    let publish = |n: u32, options: &[&str]| {
        lab::describe(&tree, &lab::sleeper("a.service", "", &format!("Environment=N={n}")));
        let mut command = registry.network.command(Path::new(env!("CARGO_BIN_EXE_rickbuild")));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", home.path())
            .arg("--root")
            .arg(tree.path());
        command.args(["publish", "lab", &stable, "--insecure", "--no-provenance"]).args(options);
        let said = ends_with(&command.output().unwrap(), 0);
        said.lines().find_map(|line| line.strip_prefix("host lab   ")).unwrap().trim().to_owned()
    };
    let follow = |options: &[&str]| {
        let usual = ["rick-activate", "follow", "--insecure", "--settle=0", &stable];
        host.run(&[&usual, options].concat())
    };
    let has = || host.sh("systemctl show -p Environment a.service");
    let ours = ["--sign-key", signing::key()];
    publish(1, &[&ours[..], &["--serial", "1"]].concat());
    ends_with(&follow(&[]), 0);

    // Somebody who may write the tag, and has no key.
    publish(2, &[]);
    assert!(ends_with(&follow(&[]), 1).contains("error: the bundle is not signed for this host"));
    publish(2, &["--serial", "2", "--sign-key", text(&stranger)]);
    assert!(ends_with(&follow(&[]), 1).contains("by nobody whom this host trusts"));
    assert!(has().contains("N=1"));
    // Or who has what was signed before.
    let third = publish(3, &[&ours[..], &["--serial", "3"]].concat());
    ends_with(&follow(&[]), 0);
    publish(1, &[&ours[..], &["--serial", "1"]].concat());
    assert!(ends_with(&follow(&[]), 1).contains("the bundle has serial 1, and this host had 3 already"));
    assert!(has().contains("N=3"));
    // It travels on as registries and skopeo have it.
    let copy = format!("docker://127.0.0.1:{}/mirror:stable", registry.port);
    let from = stable.replace("oci://", "docker://");
    let mirrored = || {
        let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        host.ok(&[&["skopeo", "copy", "--all"], &insecure[..], &[&from, &copy]].concat());
    };
    mirrored();
    publish(4, &[&ours[..], &["--serial", "4"]].concat());
    mirrored();
    let mirror = copy.replace("docker://", "oci://");
    let said = ends_with(&host.run(&["rick-activate", "--insecure", "--settle=0", &mirror]), 0);
    assert!(said.contains(&format!("signed     by {} (SHA256:", signing::SIGNER)), "{said}");
    assert!(has().contains("N=4"));

    // With the digest of a host's build no signature comes.
    let exactly = ["rick-activate", "--insecure", "--settle=0", "--allow-older", &third];
    assert!(ends_with(&host.run(&exactly), 1).contains("is not signed for this host"));
    ends_with(&host.run(&[&exactly[..], &["--allow-unsigned"]].concat()), 0);
    assert!(has().contains("N=3"));

    // What was told so takes all.
    publish(5, &["--serial", "5"]);
    ends_with(&follow(&[]), 1);
    ends_with(&follow(&["--allow-unsigned"]), 0);
    assert!(has().contains("N=5"));
    lab::is_well(&host);
}

#[test]
fn the_module_that_follows_wants_signatures_unless_it_is_told_otherwise() {
    let tree = lab::lab("");
    tree.edit("environments/lab.star", "load(", "load(\"//modules/rick\", \"rick\")\nload(");
    tree.edit("environments/lab.star", "[lab()]", "[lab(), rick(follow = \"r.test/fleet:stable\")]");
    let shown = || String::from_utf8(tree.rickbuild(&["show", "lab"]).stdout).unwrap();
    assert!(!shown().contains("--allow-unsigned") && shown().contains("/usr/bin/ssh-keygen"), "{}", shown());
    tree.edit("environments/lab.star", ":stable\"", ":stable\", allow_unsigned = True");
    assert!(shown().contains(" --allow-unsigned") && !shown().contains("/usr/bin/ssh-keygen"), "{}", shown());
}
