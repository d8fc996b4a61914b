//! Same input, same bytes: the environments of this repository, compiled in every way that must not matter.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::require_programs;
use crate::support::source::{self, Tree};

/// What a bundle holds, blob by blob, and what each host would get: the text that a person reviews when it changes.
///
/// Of what is compressed it names images only, whose digests may change with a compressor: nothing else of it does.
#[test]
fn golden_environments_are_as_reviewed() {
    for environment in ["homelab", "production"] {
        let tree = source::buildable();
        let shown = tree.rickbuild(&["show", environment]);
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let said = without_builds(&String::from_utf8(shown.stdout).unwrap());
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/golden/{environment}.txt"));
        if std::env::var_os("RICK_BLESS").is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &said).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            said == expected,
            "{environment} is not as reviewed: compare `rickbuild show {environment}` with {}",
            file.display()
        );
    }
}

/// Without the digest of the image that a compiler of `rick.lock` made: it is another one with each of its updates, which nobody reviews here.
fn without_builds(text: &str) -> String {
    let marked = "localhost/sigvild@sha256:";
    let Some(at) = text.find(marked) else { return text.to_owned() };
    let digest = &text[at + marked.len()..][..64];
    text.replace(digest, "DIGEST").replace(&digest[..12], "DIGEST")
}

#[test]
fn the_same_input_gives_the_same_bytes_everywhere() {
    let reference = compile(&source::whole(), |_| {});
    assert!(reference.len() > 10_000);

    let shuffled = source::whole();
    shuffle(&shuffled);
    assert!(
        compile(&shuffled, |_| {}) == reference,
        "another directory, other times, another order of files"
    );
    let surroundings = |command: &mut Command| {
        command
            .env("LANG", "tr_TR.UTF-8")
            .env("TZ", "Asia/Kathmandu")
            .env("SOURCE_DATE_EPOCH", "1")
            .env("HOME", "/nonexistent");
        command.current_dir("/");
    };
    assert!(compile(&shuffled, surroundings) == reference, "another locale, time zone and directory");
    assert!(compile_as(&shuffled, "umask 077; exec \"$@\"") == reference, "another umask");
    if rustix::process::geteuid().is_root() {
        Command::new("chmod").args(["-R", "a+rX"]).arg(shuffled.path()).status().unwrap();
        let other = "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
        assert!(compile_as(&shuffled, other) == reference, "another user");
    }
}

/// Makes every file anew, last first, with other times and modes of directories.
fn shuffle(tree: &Tree) {
    let mut files: Vec<_> =
        walkdir::WalkDir::new(tree.path()).into_iter().map(|entry| entry.unwrap()).collect();
    files.reverse();
    for entry in files.iter().filter(|entry| entry.file_type().is_file()) {
        let (bytes, mode) = (fs::read(entry.path()).unwrap(), entry.metadata().unwrap().permissions().mode());
        fs::remove_file(entry.path()).unwrap();
        fs::write(entry.path(), bytes).unwrap();
        let executable = if mode & 0o100 == 0 { 0o600 } else { 0o700 };
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(executable)).unwrap();
        Command::new("touch").args(["-d", "1999-12-31"]).arg(entry.path()).status().unwrap();
    }
}

fn compile(tree: &Tree, prepare: impl Fn(&mut Command)) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rickbuild"));
    command.env_clear().arg("--root").arg(tree.path()).arg("homelab");
    prepare(&mut command);
    output(command)
}

/// Compiles by a shell script that ends in running `"$@"`.
fn compile_as(tree: &Tree, script: &str) -> Vec<u8> {
    let mut command = Command::new("sh");
    command.env_clear().env("PATH", "/usr/bin:/bin").args(["-c", script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_rickbuild")).arg("--root").arg(tree.path()).arg("homelab");
    output(command)
}

fn output(mut command: Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().expect("rickbuild runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn what_differs_between_two_bundles_is_told() {
    require_programs!("diffoscope", "jq");
    let compare = |one: &Path, other: &Path| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ci/reproducible");
        let output = Command::new(script).args([one, other]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (one, other) = (source::small(), source::small());
    assert_eq!(compare(&one.bundle("small"), &other.bundle("small")), (Some(0), String::new()));

    other.edit("environments/small.star", "valkey()", "valkey(maxmemory = \"64mb\")");
    fs::copy("/bin/busybox", other.path().join("modules/whoami/whoami")).unwrap();
    let (code, told) = compare(&one.bundle("small"), &other.bundle("small"));
    assert_eq!(code, Some(1));
    for line in [
        "objects/valkey/valkey.conf",
        "-maxmemory \"256mb\"",
        "+maxmemory \"64mb\"",
        "localhost/whoami/layer0.tar.zstd",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }

    // All the same, but for the times of files in the archive.
    let packed = one.path().join("again.tar");
    let again = r#"mkdir "$1/layout"; tar -x -C "$1/layout" -f "$1/small.tar"; tar -c -C "$1/layout" -f "$2" --mtime=@5 ."#;
    let output =
        Command::new("sh").args(["-euc", again, "sh"]).arg(one.path()).arg(&packed).output().unwrap();
    assert!(output.status.success());
    let (code, told) = compare(&one.bundle("small"), &packed);
    assert!(code == Some(1) && told.contains("1970-01-01 00:00:05"), "{told}");
}

#[test]
fn a_bundle_is_not_written_to_a_terminal() {
    let tree = source::whole();
    // `script` gives the program a terminal as its standard output.
    let command = format!("{} --root {} homelab", env!("CARGO_BIN_EXE_rickbuild"), tree.path().display());
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .output()
        .expect("script runs");
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("rickbuild homelab > bundle.tar"));
}

#[test]
fn a_failed_build_writes_nothing() {
    let tree = source::whole();
    tree.edit("environments/homelab.star", "valkey()", "valkey(maxmemroy = \"1mb\")");
    let target = tree.path().join("bundle.tar");
    let output = tree.rickbuild(&["homelab", "--output", target.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty() && !target.exists());
}

#[test]
fn the_digest_of_each_host_is_said_unless_nobody_wants_it() {
    let tree = source::whole();
    let bundle = tree.path().join("bundle.tar");
    let output = ["-o", bundle.to_str().unwrap()];
    let said = |arguments: &[&str]| {
        let done = tree.rickbuild(&[arguments, &output].concat());
        assert!(done.status.success() && done.stdout.is_empty());
        String::from_utf8(done.stderr).unwrap()
    };
    let line = said(&["homelab"]);
    let digest = line.strip_prefix("arch-vps  sha256:").unwrap().trim_end();
    assert_eq!(digest.len(), 64);
    let index = Command::new("tar").arg("-xOf").arg(&bundle).arg("index.json").output().unwrap().stdout;
    assert!(String::from_utf8(index).unwrap().contains(digest), "it is a manifest of the bundle");
    let json = format!("{{\"digest\":\"sha256:{digest}\",\"host\":\"arch-vps\"}}\n");
    assert_eq!(said(&["homelab", "--message-format", "json"]), json);
    assert_eq!(said(&["homelab", "--quiet"]), "");
}

#[test]
fn a_build_has_a_number_if_it_is_given_one() {
    let tree = source::small();
    let serial = |arguments: &[&str]| {
        let shown = tree.rickbuild(&[arguments, &["show", "small", "--json"]].concat());
        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
        let hosts: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        hosts[0]["manifest"].get("serial").cloned()
    };
    assert_eq!(serial(&[]), None);
    assert_eq!(serial(&["--serial", "18446744073709551615"]), Some(u64::MAX.into()));
    let digest = |arguments: &[&str]| {
        let built = tree.rickbuild(&[&["small", "-o", "/dev/null"], arguments].concat());
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        built.stderr
    };
    let numbered = digest(&["--serial", "7"]);
    assert!(numbered == digest(&["--serial", "7"]) && numbered != digest(&[]), "the number is in the bundle");
    assert_eq!(tree.rickbuild(&["small", "--serial", "-1"]).status.code(), Some(2));
}

#[test]
fn an_output_that_is_no_file_is_written_to_and_stays_what_it_is() {
    let tree = source::buildable();
    let pipe = tree.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut reader = Command::new("cat");
    reader.arg(&pipe).stdout(Stdio::piped());
    // Read while it is written: a bundle is larger than any pipe.
    let reader = std::thread::spawn(move || reader.output().unwrap().stdout);
    assert!(tree.rickbuild(&["production", "-o", pipe.to_str().unwrap()]).status.success());
    let read = reader.join().unwrap();
    let file = tree.path().join("bundle.tar");
    assert!(tree.rickbuild(&["production", "-o", file.to_str().unwrap()]).status.success());
    assert!(read == fs::read(file).unwrap());
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
}

#[test]
fn an_output_that_cannot_be_written_is_no_findings() {
    let tree = source::buildable();
    // What is built for the first time is told of.
    assert!(tree.rickbuild(&["production", "-o", "/dev/null"]).status.success());
    let folder = tree.path().to_str().unwrap();
    for output in [folder, "/dev/full", &format!("{folder}/missing/bundle.tar")] {
        let failed = tree.rickbuild(&["production", "-o", output]);
        let said = String::from_utf8(failed.stderr).unwrap();
        assert_eq!(failed.status.code(), Some(70), "{said}");
        assert!(said.starts_with(&format!("error: cannot write the bundle to {output}: ")), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
