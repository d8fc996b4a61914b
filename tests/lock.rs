//! `rickbuild lock` against real programs: skopeo with a registry, curl with a web server, apt-get with Debian's archive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rick::bundle::digest::Digest;
use tempfile::TempDir;

use crate::support::hub::Hub;
use crate::support::source::{self, Tree};
use crate::support::web::{Answer, Web};
use crate::support::{require_programs, require_root};

/// The exit code for a network that says no.
const REFUSED: Option<i32> = Some(3);

/// A source tree with a cache of its own.
struct Lab {
    tree: Tree,
    cache: TempDir,
}

impl Lab {
    /// One environment whose one service states these items.
    fn new(items: &str) -> Self {
        let lab = Self { tree: source::empty(), cache: tempfile::tempdir().unwrap() };
        lab.environment("case", items);
        lab
    }

    fn environment(&self, name: &str, items: &str) {
        let module = format!(
            "def _build(ctx):\n    return [{items}]\n\n{name} = module(doc = \"Takes from outside.\", build = _build)\n"
        );
        self.tree.write(&format!("modules/{name}/{name}.star"), &module);
        let environment = format!(
            "load(\"//modules/{name}\", \"{name}\")\nenvironment(name = \"{name}\", hosts = [host(name = \"box\", domain = \"example.net\", services = [{name}()])])\n"
        );
        self.tree.write(&format!("environments/{name}.star"), &environment);
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("XDG_CACHE_HOME", self.cache.path()).env("HOME", self.cache.path());
        command
    }

    fn rickbuild(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_rickbuild"));
        command.arg("--root").arg(self.tree.path()).args(arguments);
        command
    }

    fn lock(&self, arguments: &[&str]) -> Said {
        said(self.rickbuild(&[&["lock"], arguments].concat()))
    }

    #[track_caller]
    fn lock_well(&self, arguments: &[&str]) -> Said {
        let said = self.lock(arguments);
        assert_eq!(said.code, Some(0), "{}", said.text);
        said
    }

    fn check(&self) -> Said {
        said(self.rickbuild(&["check", "case"]))
    }

    fn file(&self) -> PathBuf {
        self.tree.path().join("rick.lock")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    /// The names of all blobs, each of which holds what its name says.
    fn blobs(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.cache.path().join("rick/blobs")).into_iter().flatten();
        let name = |path: PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(Digest::of(&fs::read(path).unwrap()).hex(), name);
            name
        };
        entries.map(|entry| name(entry.unwrap().path())).collect()
    }

    fn forget_blobs(&self) {
        fs::remove_dir_all(self.cache.path().join("rick/blobs")).unwrap();
    }
}

/// What came of a call.
struct Said {
    code: Option<i32>,
    text: String,
}

fn said(mut command: Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stdout), "");
    Said { code: status.code(), text: String::from_utf8(stderr).unwrap() }
}

impl Said {
    /// The lines that say a change.
    fn changes(&self) -> Vec<&str> {
        self.text
            .lines()
            .filter(|line| ["+ ", "~ ", "- "].iter().any(|mark| line.starts_with(mark)))
            .collect()
    }

    #[track_caller]
    fn has(&self, text: &str) {
        assert!(self.text.contains(text), "`{text}` is not in:\n{}", self.text);
    }
}

/// An image whose layer is a file of the network.
fn with_archive(url: &str) -> String {
    format!("image(\"own\", layers = {{\"/a\": archive(\"{url}\")}}, entrypoint = [\"/a\"])")
}

fn with_base(reference: &str) -> String {
    format!(
        "image(\"own\", base = upstream(\"{reference}\"), layers = {{\"/a\": written(\"a\")}}, entrypoint = [\"/a\"])"
    )
}

fn container(reference: &str) -> String {
    format!("quadlet(\"run.container\", {{\"Container\": {{\"Image\": \"{reference}\", \"User\": \"1\"}}}})")
}

fn insecure(registry: &Hub) -> [String; 2] {
    ["--insecure-registry".to_owned(), registry.host()]
}

/// The one line in which two texts differ.
#[track_caller]
fn one_line(old: &str, new: &str) -> (String, String) {
    assert_eq!(old.lines().count(), new.lines().count());
    let pairs: Vec<_> = old.lines().zip(new.lines()).filter(|(old, new)| old != new).collect();
    let [(old, new)] = pairs.as_slice() else { panic!("{pairs:?}") };
    ((*old).to_owned(), (*new).to_owned())
}

#[test]
fn a_tag_is_followed_only_when_that_is_asked_for() {
    require_programs!("docker-registry", "skopeo");
    let mut registry = Hub::start();
    let first = registry.push("team/base:1", "first");
    let reference = format!("{}/team/base:1", registry.host());
    let lab = Lab::new(&with_base(&reference));
    let [option, host] = &insecure(&registry);
    let options = [option.as_str(), host];

    lab.check().has(&format!("error: `{reference}` is not in rick.lock"));
    let said = lab.lock_well(&options);
    assert_eq!(said.changes(), [format!("+ {reference}  {}", first.index)]);
    assert_eq!(lab.check().code, Some(0));

    // A person writes a comment; the tag moves.
    let commented =
        lab.text().replace("[images]\n", "[images]\n# The one that we have tested.\n") + "# The end.\n";
    fs::write(lab.file(), &commented).unwrap();
    let second = registry.push("team/base:1", "second");
    assert_ne!(first.index, second.index);
    assert_eq!(lab.lock_well(&options).changes(), Vec::<&str>::new());
    assert_eq!(lab.text(), commented);

    let said = lab.lock_well(&[&options[..], &["--update", &reference]].concat());
    assert_eq!(said.changes(), [format!("~ {reference}  {} → {}", first.index, second.index)]);
    let (old, new) = one_line(&commented, &lab.text());
    assert_eq!(old.replace(&first.index.to_string(), &second.index.to_string()), new);

    // All is here: nothing is asked for, by nobody.
    registry.stop();
    let said = lab.lock_well(&[]);
    assert_eq!(said.text, "");
    assert_eq!(lab.check().code, Some(0));
}

#[test]
fn of_an_image_comes_what_a_build_reads() {
    require_programs!("docker-registry", "skopeo");
    let registry = Hub::start();
    let pushed = registry.push("base:1", "content");
    let by_hex = |digests: &[Digest]| digests.iter().map(Digest::hex).collect::<BTreeSet<_>>();
    let [option, host] = &insecure(&registry);
    let options = [option.as_str(), host];
    let amd64 = [&[pushed.index][..], &pushed.amd64].concat();

    let lab = Lab::new(&with_base(&format!("{host}/base:1")));
    lab.lock_well(&options);
    assert_eq!(lab.blobs(), by_hex(&amd64));

    // What is damaged comes again.
    let layer = lab.cache.path().join("rick/blobs").join(pushed.amd64[2].hex());
    fs::write(&layer, "damaged").unwrap();
    lab.lock_well(&options);
    assert_eq!(lab.blobs(), by_hex(&amd64));

    // A name with a digest needs no entry, and its bytes are needed all the same.
    let lab = Lab::new(&with_base(&format!("{host}/base@{}", pushed.index)));
    lab.lock_well(&options);
    assert_eq!((lab.blobs(), lab.file().exists()), (by_hex(&amd64), false));

    // Of a single manifest too, if it is for the right processors.
    let lab = Lab::new(&with_base(&format!("{host}/base@{}", pushed.amd64[0])));
    lab.lock_well(&options);
    assert_eq!(lab.blobs(), by_hex(&pushed.amd64));
    let lab = Lab::new(&with_base(&format!("{host}/base@{}", pushed.arm64[0])));
    let said = lab.lock(&options);
    said.has("has no image for linux/amd64");
    assert_eq!(said.code, REFUSED);

    // An image for other processors stands on the same for those, and what is built in it runs here.
    let lab = Lab::new(
        &with_base(&format!("{host}/base:1")).replace("layers =", "platform = \"linux/arm64\", layers ="),
    );
    lab.lock_well(&options);
    assert_eq!(lab.blobs(), by_hex(&[&amd64[..], &pushed.arm64].concat()));

    // What hosts run, they fetch themselves.
    let lab = Lab::new(&container(&format!("{host}/base:1")));
    lab.lock_well(&options);
    assert_eq!(lab.blobs(), BTreeSet::new());
    let shown = lab.rickbuild(&["show", "case"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&format!("Image={host}/base:1@{}\n", pushed.index)), "{shown}");
}

#[test]
fn a_build_works_without_a_network() {
    require_programs!("docker-registry", "skopeo", "unshare");
    require_root!();
    let registry = Hub::start();
    registry.push("app:1", "content");
    let [option, host] = &insecure(&registry);
    let web = Web::start();
    web.answer("/a.bin", Answer::File(b"archive".to_vec()));
    let items = [container(&format!("{host}/app:1")), with_archive(&web.url("/a.bin"))];
    let lab = Lab::new(&items.join(", "));
    lab.environment("other", &with_base(&format!("{host}/app:1")));
    lab.lock_well(&[option, host]);
    let cut_off = |arguments: &[&str]| {
        let mut command = lab.command("unshare");
        command.arg("--net").arg(env!("CARGO_BIN_EXE_rickbuild")).arg("--root").arg(lab.tree.path());
        command.args(arguments).output().unwrap()
    };
    // Neither the registry nor the web server can be seen from there.
    for arguments in [&["case"][..], &["check", "other"], &["lock"], &["lock", "--check"]] {
        let output = cut_off(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn files_are_what_they_were() {
    require_programs!("curl");
    let web = Web::start();
    web.answer("/x.tar", Answer::File(b"the first".to_vec()));
    let url = web.url("/x.tar");
    let lab = Lab::new(&with_archive(&url));
    let first = Digest::of(b"the first");
    let said = lab.lock_well(&[]);
    assert_eq!(said.changes(), [format!("+ {url}  {first}")]);
    // It came once, and does not come again.
    assert_eq!(web.asked(), ["/x.tar"]);
    assert_eq!(lab.lock_well(&[]).text, "");
    assert_eq!(web.asked(), ["/x.tar"]);

    let before = lab.text();
    web.answer("/x.tar", Answer::File(b"the second".to_vec()));
    lab.forget_blobs();
    let said = lab.lock(&[]);
    said.has(&format!("error: `{url}` holds other bytes than rick.lock says\n"));
    said.has(&format!("run `rickbuild lock --update {url}`"));
    said.has("archive(");
    assert_eq!((said.code, lab.text(), lab.blobs()), (REFUSED, before.clone(), BTreeSet::new()));

    let said = lab.lock_well(&["--update", &url]);
    let second = Digest::of(b"the second");
    assert_eq!(said.changes(), [format!("~ {url}  {first} → {second}")]);
    one_line(&before, &lab.text());
    assert_eq!(lab.blobs(), BTreeSet::from([second.hex()]));
}

#[test]
fn a_fetch_that_breaks_off_leaves_nothing() {
    require_programs!("curl");
    let web = Web::start();
    let bytes = vec![7; 1 << 20];
    let lab = Lab::new(&with_archive(&web.url("/x.tar")));
    web.answer("/x.tar", Answer::Half(bytes.clone()));
    let said = lab.lock(&[]);
    said.has(&format!("error: `{}` could not be fetched\n", web.url("/x.tar")));
    assert_eq!((said.code, lab.blobs(), lab.file().exists()), (REFUSED, BTreeSet::new(), false));

    // Killed in the middle.
    web.answer("/x.tar", Answer::Stall(bytes.clone()));
    let mut child = lab.rickbuild(&["lock"]).stderr(Stdio::null()).spawn().unwrap();
    let fetching = lab.cache.path().join("rick/fetching");
    wait(|| any_file(&fetching, |size| size >= 1 << 18));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((lab.blobs(), lab.file().exists()), (BTreeSet::new(), false));

    // The next one clears away what that one left, and begins anew where a connection breaks off.
    web.answer("/x.tar", Answer::HalfFirst(2, bytes.clone()));
    lab.lock_well(&[]);
    assert_eq!(lab.blobs(), BTreeSet::from([Digest::of(&bytes).hex()]));
    assert!(!fetching.exists());
}

fn any_file(folder: &Path, good: impl Fn(u64) -> bool + Copy) -> bool {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten();
    files.filter_map(|file| file.metadata().ok()).any(|file| file.is_file() && good(file.len()))
}

#[track_caller]
fn wait(until: impl Fn() -> bool) {
    for _ in 0..1200 {
        if until() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("it does not come to that");
}

#[test]
fn all_that_cannot_be_had_is_said_and_nothing_is_written() {
    require_programs!("docker-registry", "skopeo", "curl");
    let (registry, web) = (Hub::start(), Web::start());
    registry.push("app:1", "content");
    let [option, host] = &insecure(&registry);
    web.answer("/here", Answer::File(b"here".to_vec()));
    let items = [
        with_archive(&web.url("/here")),
        with_archive(&web.url("/gone")).replace("own", "second"),
        with_base(&format!("{host}/app:2")).replace("own", "third"),
        container(&format!("{host}/nobody:1")),
    ];
    let lab = Lab::new(&items.join(", "));
    let said = lab.lock(&[option, host]);
    said.has(&format!("error: `{}` could not be fetched\n", web.url("/gone")));
    said.has("The requested URL returned error: 404");
    said.has(&format!("error: `{host}/app:2` could not be had\n"));
    said.has("manifest unknown");
    said.has(&format!("error: `{host}/nobody:1` could not be had\n"));
    said.has(" --> modules/case/case.star:2:");
    said.has("error: 3 errors; nothing was written\n");
    assert_eq!((said.code, lab.file().exists(), said.changes().len()), (REFUSED, false, 0));

    // One that speaks no TLS is not spoken with unless that is said.
    let said = lab.lock(&[]);
    said.has(&format!("if that registry is yours, say `--insecure-registry {host}`"));
}

#[test]
fn check_says_what_would_change_and_writes_nothing() {
    require_programs!("curl");
    let web = Web::start();
    web.answer("/x", Answer::File(b"x".to_vec()));
    let url = web.url("/x");
    let lab = Lab::new(&with_archive(&url));
    let said = lab.lock(&["--check"]);
    assert_eq!((said.code, said.text.as_str()), (Some(1), format!("+ {url}\n").as_str()));
    assert_eq!((lab.file().exists(), web.asked().len()), (false, 0));
    lab.lock_well(&[]);
    let before = lab.text();
    assert_eq!(lab.lock_well(&["--check"]).text, "");
    assert_eq!(lab.lock_well(&["--check", "--update-all"]).changes().len(), 0);
    web.answer("/x", Answer::File(b"y".to_vec()));
    let said = lab.lock(&["--check", "--update", &url]);
    let change = format!("~ {url}  {} → {}", Digest::of(b"x"), Digest::of(b"y"));
    assert_eq!((said.code, said.changes()), (Some(1), vec![change.as_str()]));
    assert_eq!(lab.text(), before);

    let said = lab.lock(&["--message-format", "json", "--update", &url]);
    let lines: Vec<serde_json::Value> =
        said.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["progress"], format!("ask for {url}"));
    assert_eq!(lines[1]["change"]["name"], url);
    assert_eq!(lines[1]["change"]["new"], Digest::of(b"y").to_string());
}

#[test]
fn an_entry_goes_when_no_environment_wants_it() {
    require_programs!("curl");
    let web = Web::start();
    web.answer("/a", Answer::File(b"a".to_vec()));
    web.answer("/b", Answer::File(b"b".to_vec()));
    let lab = Lab::new(&with_archive(&web.url("/a")));
    lab.environment("other", &with_archive(&web.url("/b")));
    assert_eq!(lab.lock_well(&[]).changes().len(), 2);
    let both = lab.text();
    lab.environment("other", "group(\"nothing\")");
    assert_eq!(lab.lock_well(&["case"]).changes().len(), 0);
    assert_eq!(lab.text(), both);
    let said = lab.lock_well(&[]);
    assert_eq!(said.changes(), [format!("- {}  {}", web.url("/b"), Digest::of(b"b"))]);
    assert!(!lab.text().contains("/b\""));
}

#[test]
fn with_errors_in_the_source_nothing_is_asked_for() {
    let web = Web::start();
    let lab = Lab::new(&[with_archive(&web.url("/a")), container("nginx:1")].join(", "));
    let said = lab.lock(&[]);
    said.has("error: `nginx:1` is no whole name of an image");
    assert!(!said.text.contains("not in rick.lock"), "{}", said.text);
    assert_eq!((said.code, web.asked().len()), (Some(1), 0));

    let lab = Lab::new(&with_archive(&web.url("/a")));
    fs::write(lab.file(), "version = 1\n[image]\n").unwrap();
    let said = lab.lock(&[]);
    said.has("error: `rick.lock` has no `image`");
    assert_eq!((said.code, web.asked().len()), (Some(1), 0));
    let said = lab.lock(&["--update", "nobody"]);
    assert_eq!(said.code, Some(1));
    fs::remove_file(lab.file()).unwrap();
    let said = lab.lock(&["--update", "nobody"]);
    said.has("wants `nobody`");
    assert_eq!(said.code, Some(2));
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let lab = Lab::new(&[with_archive("https://x.invalid/a"), container("x.invalid/a:1")].join(", "));
    let mut command = lab.rickbuild(&["lock"]);
    command.env("PATH", lab.cache.path());
    let said = said(command);
    said.has("error: `curl` is not installed, which fetches files\n");
    said.has("install the package `skopeo`");
    assert_eq!(said.code, REFUSED);
}

const BUSYBOX: &str = "image(\"own\", base = debian(\"trixie\", [\"busybox-static\"]), layers = {\"/a\": written(\"a\")}, entrypoint = [\"/a\"])";

/// With the real archive, which is there for everybody.
#[test]
fn packages_of_debian_come_with_all_that_they_depend_on() {
    require_programs!("apt-get", "curl");
    let lab = Lab::new(BUSYBOX);
    let said = lab.lock_well(&[]);
    let changes = said.changes();
    assert!(changes.len() == 1 && changes[0].starts_with("+ trixie: busybox-static  "), "{changes:?}");
    let text = lab.text();
    let files: Vec<_> = text.lines().filter(|line| line.contains("_amd64.deb\" = \"sha256:")).collect();
    for name in ["base-files_", "busybox-static_", "libc6_"] {
        assert!(files.iter().any(|line| line.contains(&format!("/{name}"))), "{name}: {text}");
    }
    assert!(files.is_sorted() && text.contains("\nsnapshot = \""), "{text}");
    assert_eq!(lab.blobs().len(), files.len());
    assert_eq!(lab.lock_well(&[]).text, "");
    // The same files were the same at an earlier moment.
    assert_eq!(lab.lock_well(&["--update", "trixie"]).changes().len(), 0);
    assert_eq!(lab.text(), text);

    // A file that has left the archive is in its history.
    let proxy = Web::start();
    let (gone, hex) = entry(files[0]);
    let kept = fs::read(lab.cache.path().join("rick/blobs").join(&hex)).unwrap();
    fs::remove_file(lab.cache.path().join("rick/blobs").join(&hex)).unwrap();
    let snapshot =
        text.lines().find_map(|line| line.strip_prefix("snapshot = \"")).unwrap().trim_end_matches('"');
    let (archive, path) = gone.split_once('/').unwrap();
    let path = path.replace('+', "%2B");
    let old = format!("http://snapshot.debian.org/archive/{archive}/{snapshot}/{path}");
    let lock = || {
        let mut command = lab.rickbuild(&["lock", "--debian-mirror", "http://mirror.invalid"]);
        command.env("http_proxy", proxy.url(""));
        super::lock::said(command)
    };
    let said = lock();
    said.has(&format!("error: `{}` could not be had\n", gone.rsplit_once('/').unwrap().1));
    said.has("if it is gone, take what is there now: `rickbuild lock --update 'trixie: busybox-static'`");
    assert_eq!((said.code, lab.text()), (REFUSED, text.clone()));
    // Other bytes are no package.
    proxy.answer(&format!("http://mirror.invalid/{archive}/{path}"), Answer::File(b"another".to_vec()));
    let said = lock();
    said.has("what came is sha256:");
    assert!(!lab.blobs().contains(&hex));
    proxy.answer(&old, Answer::File(kept));
    let said = lock();
    assert_eq!((said.code, lab.text()), (Some(0), text), "{}", said.text);
    assert!(lab.blobs().contains(&hex));
}

/// Path and digest of a line.
fn entry(line: &str) -> (String, String) {
    let (path, digest) = line.split_once(" = ").unwrap();
    (path.trim_matches('"').to_owned(), digest.trim_matches('"').strip_prefix("sha256:").unwrap().to_owned())
}

#[test]
fn a_name_that_is_no_package_is_refused() {
    require_programs!("apt-get");
    // One that another provides, one that several do, a pattern, and one that nobody has.
    for (name, message) in [
        ("libgcc1", "error: `libgcc1` is no package of Debian trixie\n"),
        ("awk", "Package 'awk' has no installation candidate"),
        ("busybox.static", "busybox.static"),
        ("no-such-package", "Unable to locate package no-such-package"),
    ] {
        let lab = Lab::new(&BUSYBOX.replace("busybox-static", name));
        let said = lab.lock(&[]);
        said.has(message);
        assert_eq!((said.code, lab.file().exists()), (REFUSED, false), "{}", said.text);
    }
}
