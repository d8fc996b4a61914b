//! Builds run where there is nothing but what they were given, and run only when something of that changed.
//!
//! The root of most is an image of nothing but busybox.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::source::{self, Tree};
use crate::support::{require_programs, require_root};

/// A module with a build of this script, whose `/out` is in an image at `/made`.
fn forge(script: &str, more: &str) -> Tree {
    let tree = source::empty();
    tree.write(
        "environments/e.star",
        "load(\"//modules/forge\", \"forge\")\n\
         environment(name = \"e\", hosts = [host(name = \"h\", domain = \"h.test\", os = \"debian-13\", services = [forge()])])\n",
    );
    describe(&tree, script, more);
    fs::copy("/bin/busybox", tree.path().join("modules/forge/busybox")).unwrap();
    tree.write("modules/forge/source/a.txt", "alpha\n");
    tree.write("modules/forge/source/sub/b.txt", "beta\n");
    tree
}

fn describe(tree: &Tree, script: &str, more: &str) {
    tree.write("modules/forge/script", script);
    tree.write(
        "modules/forge/forge.star",
        &format!(
            r#""""Makes things."""

def _build(ctx):
    root = image("root", layers = {{
        "/bin/busybox": copied("busybox", mode = 0o755),
        "/bin/sh": linked("busybox"),
        "/etc/passwd": written("root:x:0:0::/:/bin/sh\n"),
    }})
    made = build(
        "things",
        root = root,
        command = ["/bin/busybox", "sh", "-eu", "/script"],
        inputs = {{"/src": "source", "/script": "script"}},
        outputs = ["made"],
        {more}
    )
    return [image("forge", layers = {{"/made": made.outputs["made"]}}, entrypoint = ["/made"])]

forge = module(doc = "Makes things.", build = _build)
"#
        ),
    );
}

/// A machine that never built anything.
struct Machine {
    cache: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { cache: tempfile::tempdir().unwrap() }
    }

    fn rickbuild(&self, tree: &Tree, more: &[&str]) -> Output {
        self.command(tree, more).output().unwrap()
    }

    fn command(&self, tree: &Tree, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rickbuild"));
        command.env_clear().env("XDG_CACHE_HOME", self.cache.path()).env("PATH", "/usr/bin:/bin");
        command.arg("--root").arg(tree.path()).args(["e", "-o"]).arg(self.bundle()).args(more);
        command
    }

    fn bundle(&self) -> std::path::PathBuf {
        self.cache.path().join("bundle.tar")
    }

    /// What it says, once it succeeded.
    #[track_caller]
    fn builds(&self, tree: &Tree, more: &[&str]) -> String {
        let output = self.rickbuild(tree, more);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }

    #[track_caller]
    fn fails(&self, tree: &Tree, more: &[&str]) -> String {
        let output = self.rickbuild(tree, more);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }

    /// The text at this path of the image.
    fn text(&self, path: &str) -> String {
        let layers = self.unpacked();
        fs::read_to_string(layers.path().join(path)).unwrap()
    }

    /// The layers of the image `forge`, one over the other.
    fn unpacked(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path().join("layout");
        fs::create_dir(&layout).unwrap();
        succeed(Command::new("tar").arg("-x").arg("-C").arg(&layout).arg("-f").arg(self.bundle()));
        let json =
            |path: &Path| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let blob = |digest: &serde_json::Value| {
            layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"))
        };
        let index = json(&layout.join("index.json"));
        let mut entries = index["manifests"].as_array().unwrap().iter();
        let name =
            |entry: &serde_json::Value| entry["annotations"]["org.opencontainers.image.ref.name"].to_string();
        let entry = entries.find(|entry| name(entry).contains("localhost/forge:")).unwrap();
        let manifest = json(&blob(&entry["digest"]));
        let unpacked = tempfile::tempdir().unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            let plain = zstd::decode_all(fs::File::open(blob(&layer["digest"])).unwrap()).unwrap();
            let file = folder.path().join("layer.tar");
            fs::write(&file, plain).unwrap();
            succeed(Command::new("tar").arg("-x").arg("-C").arg(unpacked.path()).arg("-f").arg(&file));
        }
        unpacked
    }
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_build_sees_what_it_was_given_and_nothing_else() {
    let script = r"
bb=/bin/busybox
{
    echo $($bb ls -a /)
    $bb env | $bb sort
    $bb id -u; $bb id -g; $bb hostname; umask; $bb nproc; $bb pwd
    $bb wc -l </proc/net/route
    $bb ls -1 /sys 2>/dev/null | $bb wc -l
    $bb find /src /script -exec $bb stat -c '%n %a %u %Y' {} + | $bb sort
    $bb ps -o pid= >/tmp/processes
    $bb wc -l </tmp/processes
    $bb cat /etc/passwd
    $bb ls /proc/self/fd
} >/out/made
";
    let tree = forge(script, "environment = {\"B\": \"2\"}, cores = 1,");
    let machine = Machine::new();
    machine.builds(&tree, &[]);
    let seen = machine.text("made");
    let (fixed, fds) = seen.rsplit_once("/bin/sh\n").unwrap();
    let expected = "\
. .. bin build dev etc out proc script src tmp
B=2
HOME=/build
LC_ALL=C.UTF-8
OUT=/out
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PWD=/build
SHLVL=1
SOURCE_DATE_EPOCH=315532800
TMPDIR=/tmp
TZ=UTC
1000
1000
rick
0022
1
/build
1
0
/script 444 1000 315532800
/src 755 1000 315532800
/src/a.txt 444 1000 315532800
/src/sub 755 1000 315532800
/src/sub/b.txt 444 1000 315532800
2
root:x:0:0::/:";
    // Line by line: what differs is said in few words. Of the numbers alone: processors; the table of routes, which has its heading only; nothing of
    // `/sys`; the shell and `ps`.
    for (number, (seen, expected)) in fixed.lines().zip(expected.lines()).enumerate() {
        assert_eq!(seen, expected, "line {}", number + 1);
    }
    assert_eq!(fixed.lines().count(), expected.lines().count());
    assert_eq!(fds, "0\n1\n2\n3\n", "the directory that is listed, and nothing of ours");
}

#[test]
fn no_attempt_to_escape_succeeds() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let name = format!("rick-test-{}", std::process::id());
    let _abstract_socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    secret.as_file().write_all(b"of the machine").unwrap();
    let pid = std::process::id();
    let attempts = [
        ("reach a server of the machine", format!("echo x | $bb nc -w 2 127.0.0.1 {port}")),
        ("find a network", "$bb ip route | $bb grep .".to_owned()),
        ("find a socket of the machine", format!("$bb grep {name} /proc/net/unix")),
        ("read a file of the machine", format!("$bb cat {}", secret.path().display())),
        ("read accounts of the machine", "$bb grep -v '^root:x:0:0::/:' /etc/passwd".to_owned()),
        ("read the root of the machine by a process", "$bb ls /proc/1/root/home".to_owned()),
        ("write an input", "echo x >>/src/a.txt".to_owned()),
        ("replace an input", "$bb rm /src/a.txt || $bb mv /src /tmp/src".to_owned()),
        ("make an input writable", "$bb chmod u+w /src/a.txt || $bb mount -o remount,rw /src".to_owned()),
        ("write the root", "echo x >/bin/new || echo x >/new || echo x >>/etc/passwd".to_owned()),
        ("set the clock", "$bb date -s '2001-01-01 00:00:00'; [ $($bb date +%Y) = 2001 ]".to_owned()),
        ("set the name of the host", "$bb hostname other".to_owned()),
        ("mount something", "$bb mount -t tmpfs none /build".to_owned()),
        ("become root", "$bb unshare -U -r $bb true".to_owned()),
        ("make a device", "$bb mknod /build/disk b 254 0".to_owned()),
        ("set a parameter of the kernel", "echo 1 >/proc/sys/kernel/panic".to_owned()),
        ("signal a process of the machine", format!("$bb kill -0 {pid}")),
        ("see the processes of the machine", "$bb ps -o args | $bb grep -v grep | $bb grep cargo".to_owned()),
        (
            "read what rickbuild was told",
            "$bb grep -aq s3cr3t /proc/1/environ /proc/1/cmdline /proc/self/environ".to_owned(),
        ),
        ("read what its options were", "$bb grep -aq ro-bind /proc/1/cmdline".to_owned()),
        ("see keys of the caller", "$bb grep . /proc/keys".to_owned()),
        ("write the folder of devices", "echo x >/dev/new".to_owned()),
        (
            "hear what the caller does not hear",
            "$bb grep -q 'SigIgn:.*[13579bdf]$' /proc/1/status".to_owned(),
        ),
    ];
    let lines: Vec<String> = attempts
        .iter()
        .map(|(what, attempt)| {
            let told = format!("then echo 'could {what}'; else echo 'could not {what}'; fi");
            // What is no command says nothing of what it would have been able to.
            let missing = format!("if $bb grep 'not found' /tmp/said; then echo 'did not try to {what}'; fi");
            format!("if ({attempt}) >/tmp/said 2>&1; {told} >>/out/made\n{missing} >>/out/made\n")
        })
        .collect();
    let script = lines.concat();
    let tree = forge(&format!("bb=/bin/busybox\n{script}"), "");
    let machine = Machine::new();
    // Signals ignored, a descriptor open, and variables that shells read.
    let mut command = Command::new("bash");
    command.args([
        "-c",
        "trap '' HUP TERM; exec 77</etc/passwd; env TOKEN=s3cr3t BASH_ENV=/dev/full SHELLOPTS=xtrace \"$@\"",
        "bash",
    ]);
    let inner = machine.command(&tree, &[]);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    succeed(&mut command);
    let seen = machine.text("made");
    let expected: Vec<String> = attempts.iter().map(|(what, _)| format!("could not {what}")).collect();
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
    assert_eq!(fs::read(secret.path()).unwrap(), b"of the machine");
}

#[test]
fn a_known_result_is_not_built_again_and_a_changed_input_is() {
    let script = "/bin/busybox cat /src/a.txt /src/sub/b.txt >/out/made\n";
    let tree = forge(script, "");
    let machine = Machine::new();
    let runs = |said: &str| said.lines().filter(|line| line.starts_with("build ")).count();
    assert_eq!(runs(&machine.builds(&tree, &[])), 1);
    assert_eq!(machine.text("made"), "alpha\nbeta\n");
    assert_eq!(runs(&machine.builds(&tree, &[])), 0);
    // Nor is anything started: there is no bubblewrap.
    let output = machine.command(&tree, &[]).env("PATH", "/nowhere").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    tree.edit("modules/forge/forge.star", "\"things\"", "\"other\"");
    assert_eq!(runs(&machine.builds(&tree, &[])), 0, "what it is called does not matter");
    tree.write("modules/forge/source/a.txt", "gamma\n");
    assert_eq!(runs(&machine.builds(&tree, &[])), 1);
    assert_eq!(machine.text("made"), "gamma\nbeta\n");
    tree.edit("modules/forge/forge.star", "\"-eu\"", "\"-eux\"");
    assert_eq!(runs(&machine.builds(&tree, &[])), 1);
    // What is damaged is made again, also if it has its size.
    for damaged in [|_| Vec::new(), |size| vec![b'x'; size]] {
        for entry in fs::read_dir(machine.cache.path().join("rick/files")).unwrap() {
            let path = entry.unwrap().path();
            let size = fs::read(&path).unwrap().len();
            fs::write(path, damaged(size)).unwrap();
        }
        for folder in ["layers", "blobs"] {
            fs::remove_dir_all(machine.cache.path().join("rick").join(folder)).unwrap();
        }
        for _ in 0..3 {
            let _ = machine.rickbuild(&tree, &[]);
        }
        machine.builds(&tree, &[]);
        assert_eq!(machine.text("made"), "gamma\nbeta\n");
    }
}

#[test]
fn what_is_not_the_same_twice_is_named() {
    let machine = Machine::new();
    let script = "bb=/bin/busybox\n$bb mkdir /out/made\necho same >/out/made/a\n$bb date +%s >/out/made/b\n";
    let tree = forge(script, "");
    machine.builds(&tree, &[]);
    let said = machine.fails(&tree, &["--rebuild"]);
    assert!(said.contains("the build `things` does not make the same each time"), "{said}");
    assert!(said.contains("`/out/made/b` differs") && !said.contains("made/a`"), "{said}");
    assert!(said.contains("forge.star:"), "{said}");
    describe(&tree, &script.replace("date +%s", "echo $SOURCE_DATE_EPOCH"), "");
    let said = machine.builds(&tree, &["--rebuild"]);
    assert_eq!(said.lines().filter(|line| line.starts_with("build things")).count(), 2, "{said}");
}

#[test]
fn a_build_that_fails_says_so_where_it_stands_and_leaves_nothing() {
    let machine = Machine::new();
    let tree = forge("echo 'the oven is cold' >&2\nexit 3\n", "");
    let said = machine.fails(&tree, &[]);
    assert!(said.contains("the build `things` failed: exit status: 3"), "{said}");
    assert!(said.contains("the oven is cold") && said.contains("forge.star:9:"), "{said}");
    assert!(!machine.bundle().exists());
    describe(&tree, "echo nothing\n", "");
    let said = machine.fails(&tree, &[]);
    assert!(said.contains("`/out/made` was not made"), "{said}");
    tree.edit("modules/forge/forge.star", "\"/bin/busybox\", \"sh\"", "\"/bin/none\", \"sh\"");
    assert!(machine.fails(&tree, &[]).contains("/bin/none"));
    let scratch = fs::read_dir(machine.cache.path().join("rick/scratch")).unwrap();
    assert_eq!(scratch.count(), 0, "nothing is left of them");
    // The machine's fault is not the source's.
    let programs = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/bash", programs.path().join("bash")).unwrap();
    let output = machine.command(&tree, &[]).env("PATH", programs.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(70));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("`apt install bubblewrap`"), "{said}");
}

/// What a build leaves cannot lead to what it was not given.
#[test]
fn outputs_that_lead_elsewhere_are_refused() {
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("key"), "of the machine").unwrap();
    let away = secret.path().display();
    let machine = Machine::new();
    let bb = "/bin/busybox";
    let tree = forge(&format!("{bb} ln -s {away} /out/made\n"), "");
    assert!(machine.fails(&tree, &[]).contains("`/out/made` is a link"));
    describe(&tree, &format!("{bb} ln -s {away} /out/a\n"), "");
    tree.edit("modules/forge/forge.star", "outputs = [\"made\"]", "outputs = [\"a/key\"]");
    tree.edit("modules/forge/forge.star", "made.outputs[\"made\"]", "made.outputs[\"a/key\"]");
    assert!(machine.fails(&tree, &[]).contains("does not stand in directories"));
    describe(&tree, &format!("{bb} mkdir /out/made; {bb} mkfifo /out/made/pipe\n"), "");
    assert!(
        machine.fails(&tree, &[]).contains("`/out/made/pipe` is neither a file nor a directory nor a link")
    );
    describe(&tree, &format!("{bb} mkdir -p /out/made/a; {bb} ln -s {away} /out/made/a/b\n"), "");
    machine.builds(&tree, &[]);
    let made = machine.unpacked();
    assert!(made.path().join("made/a/b").symlink_metadata().unwrap().is_symlink(), "a link is a link");
}

/// When the command ends, whatever it started has ended too.
#[test]
fn nothing_of_a_build_lives_on_and_writes() {
    let script = "bb=/bin/busybox\nfor i in $($bb seq 100); do $bb setsid $bb sh -c 'while :; do echo x >>/out/made; done' & done\n\
        $bb sleep 1; echo end >>/out/made; exit 0\n";
    let tree = forge(script, "");
    let machine = Machine::new();
    machine.builds(&tree, &[]);
    let scratch = machine.cache.path().join("rick/scratch");
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0);
    assert!(fs::metadata(machine.unpacked().path().join("made")).unwrap().len() > 100);
}

/// Two files with the same content are two files: a tool that keeps hard links does not join them.
#[test]
fn equal_inputs_are_not_one_file() {
    let script = "bb=/bin/busybox\n$bb stat -c '%h' /src/* /script >/out/made\n$bb cp -a /src /build/s; $bb chmod -R u+w /build/s\n\
        echo more >>/build/s/one; $bb cat /build/s/two >>/out/made\n";
    let tree = forge(script, "");
    fs::remove_dir_all(tree.path().join("modules/forge/source")).unwrap();
    tree.write("modules/forge/source/one", "same\n");
    tree.write("modules/forge/source/two", "same\n");
    let machine = Machine::new();
    machine.builds(&tree, &[]);
    assert_eq!(machine.text("made"), "1\n1\n1\nsame\n");
}

#[test]
fn links_and_programs_come_out_as_they_were_made() {
    let script = "bb=/bin/busybox\n$bb mkdir -p /out/made/bin /out/made/empty\n$bb cp $bb /out/made/bin/tool\n\
        $bb ln -s bin/tool /out/made/tool\n$bb ln -s /etc/passwd /out/made/away\n$bb chmod 4711 /out/made/bin/tool\n$bb chmod 0 /out/made/empty\n";
    let tree = forge(script, "");
    let machine = Machine::new();
    machine.builds(&tree, &[]);
    let made = machine.unpacked();
    let tool = fs::symlink_metadata(made.path().join("made/bin/tool")).unwrap();
    assert_eq!(tool.permissions().mode() & 0o7777, 0o755, "of modes it counts who may execute it");
    assert_eq!(fs::read_link(made.path().join("made/tool")).unwrap(), Path::new("bin/tool"));
    assert_eq!(fs::read_link(made.path().join("made/away")).unwrap(), Path::new("/etc/passwd"));
    assert!(!made.path().join("made/empty").exists());
}

/// The host name and the clock, and the tree on another kind of file system, which names files in another order, before what runs as somebody else.
const ELSEWHERE: &str = r#"
    hostname elsewhere
    mount -t tmpfs -o mode=0755 none "$1/tree"
    cp -a "$1/modules" "$1/environments" "$1/tree"
    clock=$2
    shift 2
    exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'umask 077; exec taskset -c 0 faketime -f "$0" "$@"' "$clock" "$@""#;

/// That `/proc` belongs to whoever is root is the one thing that is left out. Directory, file system, user, umask, locale, time zone, clock, host name, order of creation and
/// number of processors are others. `ci/reproducible` does the same with the environments of the repository.
#[test]
fn two_machines_make_the_same_bundle() {
    require_root!();
    require_programs!("faketime");
    let script = "bb=/bin/busybox\n$bb find /src -type f >/tmp/found\n$bb sort /tmp/found | $bb xargs $bb cat >/out/made\n\
        $bb env >>/out/made\n$bb nproc >>/out/made\n$bb id >>/out/made\n$bb stat -c '%n %a %u %g' /[!p]* /src/* >>/out/made\n";
    let (one, other) = (Machine::new(), Machine::new());
    one.builds(&forge(script, ""), &[]);
    let tree = forge(script, "");
    fs::remove_dir_all(tree.path().join("modules/forge/source")).unwrap();
    tree.write("modules/forge/source/sub/b.txt", "beta\n");
    tree.write("modules/forge/source/a.txt", "alpha\n");
    let program = other.cache.path().join("rickbuild");
    fs::copy(env!("CARGO_BIN_EXE_rickbuild"), &program).unwrap();
    fs::create_dir(tree.path().join("tree")).unwrap();
    succeed(Command::new("chown").args(["-R", "65534:65534"]).arg(tree.path()).arg(other.cache.path()));
    // Nothing is in the cache, and then everything.
    for clock in ["-9y", "+12y"] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "sh", "-euc", ELSEWHERE, "sh"]).arg(tree.path()).arg(clock);
        command.arg(&program).arg("--root").arg(tree.path().join("tree")).args(["e", "-o"]);
        command.arg(other.bundle()).current_dir("/").env_clear();
        command.env("XDG_CACHE_HOME", other.cache.path()).env("PATH", "/usr/bin:/bin");
        command.envs([
            ("LANG", "de_DE.UTF-8"),
            ("LC_ALL", "tr_TR.UTF-8"),
            ("TZ", "Pacific/Apia"),
            ("SOURCE_DATE_EPOCH", "1"),
        ]);
        succeed(&mut command);
        assert_eq!(one.text("made"), other.text("made"));
        assert!(fs::read(one.bundle()).unwrap() == fs::read(other.bundle()).unwrap(), "{clock}");
    }
}

/// A module whose image stands on another, which has links and directories of its own.
fn standing(layers: &str) -> Tree {
    let tree = forge("/bin/busybox true\n", "");
    tree.write(
        "modules/forge/forge.star",
        &format!(
            r#""""Stands on another image."""

def _build(ctx):
    below = image("below", layers = {{
        "/usr/bin/busybox": copied("busybox", mode = 0o755),
        "/bin": linked("usr/bin"),
        "/tmp": empty_directory(mode = 0o1777),
        "/home/www": empty_directory(owner = "33:33", mode = 0o700),
        "/etc/file": written("x"),
    }})
    made = build(
        "made",
        root = below,
        command = ["/bin/busybox", "sh", "-euc", "cd /out; mkdir -p made/sub; echo 1 >made/a; echo 2 >made/sub/b; ln -s $(printf 'x%.0s' $(seq 101)) far; mkdir link; mv far link"],
        outputs = ["made", "link"],
        environment = {{"PATH": "/bin"}},
    )
    return [image("forge", base = below, layers = {{{layers}}}, entrypoint = ["/bin/busybox"])]

forge = module(doc = "Stands on another image.", build = _build)
"#
        ),
    );
    tree
}

#[test]
fn a_layer_takes_nothing_away_from_the_image_below() {
    let machine = Machine::new();
    // The applets that the script calls by their names.
    let layers = r#""/tmp/x": written("1"), "/home/www/y": written("2"), "/usr/bin/tool": written("3"), "/home/www/made": made.outputs["made"]"#;
    machine.builds(&standing(layers), &[]);
    let held = machine.unpacked();
    let mode = |path: &str| fs::metadata(held.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("home/www"), mode("home/www/made")), (0o1777, 0o700, 0o755));
    assert_eq!(fs::read_link(held.path().join("bin")).unwrap(), Path::new("usr/bin"));
    for (layers, said) in [
        (r#""/bin/tool": written("1")"#, "write `/usr/bin/tool`, where that leads"),
        (r#""/etc/file/x": written("1")"#, "which is a file of the base"),
        (r#""/home": written("1")"#, "what stands in it would be gone"),
        (r#""/a": copied(made.outputs["made"], exclude = ["*.none"])"#, "`*.none` matches no file"),
        (
            r#""/a": copied(made.outputs["made"], exclude = ["*"])"#,
            "nothing is there that the layer could take",
        ),
        (r#""/a": copied(made.outputs["made"], modes = {"none/*": 0o755})"#, "`none/*` matches no file"),
        (r#""/a": made.outputs["made"], "/a/sub/b": written("1")"#, "two layers put something at `/a/sub/b`"),
        (r#""/a": made.outputs["made"], "/a/a/x": written("1")"#, "`/a/a/x` stands below `/a/a`"),
        (r#""/a": made.outputs["link"]"#, "leads to a path of 101 bytes"),
        (r#""/a": path_in(below, "/tmp")"#, "nothing is there that the layer could take"),
        (r#""/a": path_in(below, "/none")"#, "has no `/none`"),
        (
            r#""/a": path_in(image("arm", platform = "linux/arm64", layers = {"/x": written("1")}), "/x")"#,
            "for other processors",
        ),
    ] {
        let said_of_it = machine.fails(&standing(layers), &[]);
        assert!(said_of_it.contains(said), "{layers}: {said_of_it}");
        assert!(said_of_it.contains("forge.star:"), "{said_of_it}");
    }
}

#[test]
fn the_names_of_a_layer_cannot_remove_what_is_below() {
    let machine = Machine::new();
    let tree = forge("/bin/busybox mkdir /out/made; echo >/out/made/.wh.passwd\n", "");
    assert!(machine.fails(&tree, &[]).contains("`.wh.`"));
}
