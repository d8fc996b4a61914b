//! A bundle that is not right is refused, in words that say what is wrong with it, and the host stays as it was.
//!
//! The host is a directory that already has a generation, of a small environment that needs nothing installed. Each bad bundle is made
//! of the next generation's good one, which is activated in the end: so it was for the damage that the others were refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rick::bundle::digest::Digest;
use rick::bundle::manifest::FORMAT;
use serde_json::json;
use tempfile::TempDir;

use crate::support::bundle::{Bundle, Entry, HostPart, path_of};
use crate::support::require_root;
use crate::support::root::{self, NAME, activate, activator, differences, everything_below, ok};

/// A host with generation 1, and the bundle that is to become its generation 2.
struct Scene {
    dir: TempDir,
    next: Bundle,
    before: BTreeMap<PathBuf, String>,
}

impl Scene {
    fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("host");
        fs::create_dir(&host).unwrap();
        ok(activate(&host, &root::environment("one").bundle("small")));
        let tree = root::environment("two");
        // An account, an image and a payload that generation 1 does not have.
        tree.edit("modules/app/app.star", "user(\"app\",", "user(\"late\"), user(\"app\",");
        tree.write("modules/app/program", &"another program\n".repeat(1000));
        let next = Bundle::read(&fs::read(tree.bundle("small")).unwrap());
        Self { before: everything_below(&host), dir, next }
    }

    fn host(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    /// What is said about a bundle that must be refused. Digests and this test's directory stand in it as names.
    #[track_caller]
    fn refused(&self, bundle: &[u8]) -> String {
        let file = self.dir.path().join("bundle.tar");
        fs::write(&file, bundle).unwrap();
        let from_file = activate(&self.host(), &file);
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(bundle).and_then(|()| input.rewind()).unwrap();
        let from_input = activator(&self.host()).args(["--host", NAME, "-"]).stdin(input).output().unwrap();
        assert_eq!(from_file.stderr, from_input.stderr, "a file and standard input differ");
        self.expect_refusal(&from_file)
    }

    #[track_caller]
    fn expect_refusal(&self, output: &Output) -> String {
        let said = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let done = String::from_utf8_lossy(&output.stdout);
        assert!(done.lines().all(|line| line.starts_with("bundle ") || line.starts_with("note ")), "{done}");
        let changed = differences(&self.before, &everything_below(&self.host()));
        assert!(changed.is_empty(), "the host is not as it was: {changed:#?}\n{said}");
        said.replace(self.dir.path().to_str().unwrap(), "DIR")
    }

    /// Holds every bundle against what must be said about it.
    #[track_caller]
    fn judge(&self, cases: &[(&str, Vec<u8>, &str)]) {
        let mut wrong = Vec::new();
        for (case, bundle, expected) in cases {
            let said = without_digests(&self.refused(bundle));
            if said != *expected {
                wrong.push(format!("{case}\n--- expected\n{expected}--- said\n{said}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        self.end();
    }

    /// The bundle without any damage is taken.
    #[track_caller]
    fn end(&self) {
        let file = self.dir.path().join("bundle.tar");
        fs::write(&file, self.next.bytes()).unwrap();
        assert!(ok(activate(&self.host(), &file)).contains("done:      generation 2 (before: 1)\n"));
    }

    fn with(&self, change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
        self.next.with(change)
    }

    fn with_host(&self, change: impl FnOnce(&mut HostPart)) -> Vec<u8> {
        self.next.with_host(NAME, change)
    }

    fn with_layer(&self, change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
        self.with_host(|part| change(&mut part.files))
    }

    fn with_manifest(&self, change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        self.with_host(|part| change(&mut part.manifest))
    }
}

/// Digests depend on a compressor's release; a message is the same with every digest.
fn without_digests(text: &str) -> String {
    let mut parts = text.split("sha256:").map(str::to_owned).collect::<Vec<_>>();
    for part in &mut parts[1..] {
        let hex = part.chars().take_while(char::is_ascii_hexdigit).count();
        assert_eq!(hex, 64, "{text}");
        part.replace_range(..hex, "…");
    }
    parts.join("sha256:")
}

#[test]
fn a_bundle_that_ends_early_is_refused_wherever_it_ends() {
    let scene = Scene::set();
    let whole = scene.next.bytes();
    let no_bundle = "error: this is no bundle: it ends where `oci-layout` was expected\n";
    let no_end = "error: the archive is truncated: its end marker is missing\n\
                  help: it was cut short: compile or copy it again\n";
    let mut at = 0;
    for entry in &scene.next.entries {
        let body = at + 512;
        let end = body + entry.bytes.len().next_multiple_of(512);
        if at > 0 {
            let said = scene.refused(&whole[..at]);
            assert!(said == no_end || said.contains("it ends where `index.json` was expected"), "{said}");
            assert_eq!(scene.refused(&whole[..at + 300]), said, "in a header");
        }
        for cut in [body, body + entry.bytes.len() / 2, end - 1] {
            let expected = format!(
                "error: the archive is truncated: it ends in the middle of `{}`\n\
                 help: it was cut short: compile or copy it again\n",
                entry.path
            );
            assert_eq!(scene.refused(&whole[..cut]), expected);
        }
        at = end;
    }
    for cut in [at, at + 1, at + 512, at + 1023] {
        assert_eq!(scene.refused(&whole[..cut]), no_end);
    }
    for cut in [0, 1, 511] {
        assert_eq!(scene.refused(&whole[..cut]), no_bundle);
    }
    scene.end();
}

#[test]
fn a_flipped_byte_in_any_blob_is_refused_by_its_name() {
    let scene = Scene::set();
    for at in (0..scene.next.entries.len()).filter(|at| scene.next.entries[*at].is_blob()) {
        let blob = scene.next.entries[at].digest();
        let length = scene.next.entries[at].bytes.len();
        for byte in [0, length / 2, length - 1] {
            let said = scene.refused(&scene.with(|entries| entries[at].bytes[byte] ^= 1));
            let (start, rest) = said.split_once(": its bytes have the digest sha256:").expect(&said);
            assert_eq!(start, format!("error: blob {blob} is damaged"));
            assert_eq!(
                rest[64..],
                *"\nhelp: the bundle changed after it was compiled: compile or copy it again\n"
            );
        }
    }
    scene.end();
}

#[test]
fn a_bundle_with_blobs_too_few_or_too_many_is_refused() {
    let scene = Scene::set();
    let last = scene.next.entries.len() - 1;
    let first = scene.next.entries.iter().position(Entry::is_blob).unwrap();
    let missing = "error: blob sha256:… is missing in the bundle\n\
                   help: it was cut short or put together wrongly: compile or copy it again\n";
    scene.judge(&[
        ("an image's layer is missing", scene.with(|all| drop(all.remove(last))), missing),
        (
            "a host manifest is missing",
            scene.with(|all| drop(all.remove(first))),
            "error: blob sha256:… of the bundle is named by nothing before it\n",
        ),
        (
            "one comes twice",
            scene.with(|all| all.push(all[last].clone())),
            "error: blob sha256:… stands in the bundle twice\n",
        ),
        (
            "one that nothing lists",
            scene.with(|all| all.push(Entry::blob(b"stuffed"))),
            "error: blob sha256:… of the bundle is named by nothing before it\n",
        ),
        (
            "one comes before what lists it",
            scene.with(|all| all.swap(first, last)),
            "error: blob sha256:… of the bundle is named by nothing before it\n",
        ),
        (
            "a file that is no blob",
            scene.with(|all| all.push(Entry::file("hosts/evil", b""))),
            "error: entry `hosts/evil` has no place in a bundle\n",
        ),
        (
            "bytes behind the end",
            [scene.next.bytes(), vec![1; 512]].concat(),
            "error: this is no bundle: there are bytes after its end marker\n",
        ),
    ]);
}

#[test]
fn a_size_is_never_believed() {
    let scene = Scene::set();
    let last = scene.next.entries.len() - 1;
    let first = scene.next.entries.iter().position(Entry::is_blob).unwrap();
    let sized = |at: usize, size: u64| scene.with(|all| all[at].size = size);
    let host_listed = |size: u64| {
        scene.with(|all| {
            let index = all.iter_mut().find(|entry| entry.path == "index.json").unwrap();
            let mut value: serde_json::Value = serde_json::from_slice(&index.bytes).unwrap();
            value["manifests"][0]["size"] = size.into();
            *index = Entry::file("index.json", &serde_json::to_vec(&value).unwrap());
        })
    };
    scene.judge(&[
        (
            "8 GiB of oci-layout",
            sized(0, (8 << 30) - 1),
            "error: entry `oci-layout` of the archive is refused: it has 8589934591 bytes, and at most 4096 are allowed\n",
        ),
        (
            "8 GiB of index.json",
            sized(1, (8 << 30) - 1),
            "error: entry `index.json` of the archive is refused: it has 8589934591 bytes, and at most 4194304 are allowed\n",
        ),
        (
            "a header says more than is listed",
            sized(last, (8 << 30) - 1),
            &format!(
                "error: blob sha256:… should have {} bytes and has 8589934591\n",
                scene.next.entries[last].size
            ),
        ),
        (
            "a header says less than is listed",
            sized(first, 100),
            "error: blob sha256:… should have 511 bytes and has 100\n",
        ),
        (
            "a list says more than there is",
            host_listed(512),
            "error: blob sha256:… should have 512 bytes and has 511\n",
        ),
        (
            "a list says more than anything may have",
            host_listed(u64::MAX),
            "error: blob sha256:… has 18446744073709551615 bytes, and at most 4194304 are allowed\n",
        ),
    ]);
}

#[test]
fn an_entry_of_the_bundle_leads_nowhere() {
    let scene = Scene::set();
    let added = |entry: Entry| scene.with(|all| all.insert(2, entry));
    scene.judge(&[
        (
            "..",
            added(Entry::file("blobs/../../etc/passwd", b"")),
            "error: entry `blobs/../../etc/passwd` of the archive is refused: `blobs/../../etc/passwd` is not a path inside a bundle: it contains `..`\n",
        ),
        (
            "an absolute path",
            added(Entry::file("/etc/passwd", b"")),
            "error: entry `/etc/passwd` of the archive is refused: `/etc/passwd` is not a path inside a bundle: it is absolute\n",
        ),
        (
            "a symbolic link",
            added(Entry::special("blobs/sha256", b'2')),
            "error: entry `blobs/sha256` of the archive is refused: it is a symbolic link, and a bundle holds regular files only\n",
        ),
        (
            "a hard link",
            added(Entry::special("a", b'1')),
            "error: entry `a` of the archive is refused: it is a hard link, and a bundle holds regular files only\n",
        ),
        (
            "a device",
            added(Entry::special("a", b'4')),
            "error: entry `a` of the archive is refused: it is a device, and a bundle holds regular files only\n",
        ),
        (
            "a pax record",
            added(Entry { kind: b'x', ..Entry::file("a", b"30 path=../../../etc/passwd\n") }),
            "error: entry `a` of the archive is refused: it is a pax record, and a bundle holds regular files only\n",
        ),
        (
            "a directory",
            added(Entry::special("blobs", b'5')),
            "error: entry `blobs` of the archive is refused: it is a directory, and a bundle holds regular files only\n",
        ),
        (
            "a set-user-id file",
            added(Entry { mode: 0o4755, ..Entry::file("a", b"") }),
            "error: entry `a` of the archive is refused: its mode is neither 0644 nor 0755\n",
        ),
    ]);
}

#[test]
fn an_entry_of_a_hosts_layer_leads_nowhere() {
    let scene = Scene::set();
    let added = |entry: Entry| scene.with_layer(|files| files.insert(0, entry));
    scene.judge(&[
        (
            "..",
            added(Entry::file("units/../../../../etc/passwd", b"")),
            "error: the host layer of the bundle is refused: entry `units/../../../../etc/passwd` of the archive is refused: `units/../../../../etc/passwd` is not a path inside a bundle: it contains `..`\n",
        ),
        (
            "an absolute path",
            added(Entry::file("/etc/passwd", b"")),
            "error: the host layer of the bundle is refused: entry `/etc/passwd` of the archive is refused: `/etc/passwd` is not a path inside a bundle: it is absolute\n",
        ),
        (
            "a symbolic link",
            added(Entry::special("units/app.service", b'2')),
            "error: the host layer of the bundle is refused: entry `units/app.service` of the archive is refused: it is a symbolic link, and a bundle holds regular files only\n",
        ),
        (
            "a hard link",
            added(Entry::special("units/app.service", b'1')),
            "error: the host layer of the bundle is refused: entry `units/app.service` of the archive is refused: it is a hard link, and a bundle holds regular files only\n",
        ),
        (
            "a device",
            added(Entry::special("units/app.service", b'3')),
            "error: the host layer of the bundle is refused: entry `units/app.service` of the archive is refused: it is a device, and a bundle holds regular files only\n",
        ),
        (
            "a pax record",
            added(Entry { kind: b'x', ..Entry::file("a", b"30 path=../../../etc/passwd\n") }),
            "error: the host layer of the bundle is refused: entry `a` of the archive is refused: it is a pax record, and a bundle holds regular files only\n",
        ),
        (
            "a larger size than any file may have",
            added(Entry { size: 300 << 20, ..Entry::file("units/app.service", b"") }),
            "error: the files of the host layer have more than 268435456 bytes\n",
        ),
    ]);
}

/// Everything that some reader of archives takes for something, and ours for nothing.
#[test]
fn an_archive_holds_regular_files_and_no_other_type() {
    let scene = Scene::set();
    let kinds = [
        (b'\0', "of the unknown type 0x00"),
        (b'1', "a hard link"),
        (b'2', "a symbolic link"),
        (b'3', "a device"),
        (b'4', "a device"),
        (b'5', "a directory"),
        (b'6', "a pipe"),
        (b'7', "of the unknown type 0x37"),
        (b'D', "of the unknown type 0x44"),
        (b'K', "a GNU record"),
        (b'L', "a GNU record"),
        (b'M', "of the unknown type 0x4d"),
        (b'S', "a GNU record"),
        (b'V', "of the unknown type 0x56"),
        (b'g', "a pax record"),
        (b'x', "a pax record"),
    ];
    for (kind, what) in kinds {
        let entry = Entry::special("units/a.service", kind);
        let expected = format!(
            "entry `units/a.service` of the archive is refused: it is {what}, and a bundle holds regular files only\n"
        );
        let outer = scene.refused(&scene.with(|all| all.insert(2, entry.clone())));
        assert_eq!(outer, format!("error: {expected}"));
        let inner = scene.refused(&scene.with_layer(|files| files.insert(0, entry)));
        assert_eq!(inner, format!("error: the host layer of the bundle is refused: {expected}"));
    }
    scene.end();
}

#[test]
fn a_header_says_what_it_says_in_one_way() {
    let scene = Scene::set();
    let header = |at: usize, bytes: &[u8]| {
        let mut bundle = scene.next.bytes();
        bundle[at..at + bytes.len()].copy_from_slice(bytes);
        bundle[148..156].fill(b' ');
        let sum: u32 = bundle[..512].iter().map(|&byte| u32::from(byte)).sum();
        bundle[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bundle
    };
    let refused = "error: entry `oci-layout` of the archive is refused:";
    scene.judge(&[
        (
            "the header of GNU tar",
            header(257, b"ustar  \0"),
            "error: this is no bundle: it is not a USTAR archive (is it compressed?)\n",
        ),
        ("a size in binary", header(124, &[0x80; 12]), &format!("{refused} its size is not a number\n")),
        ("a negative size", header(124, b"-0000000001\0"), &format!("{refused} its size is not a number\n")),
        ("a negative mode", header(100, &[0xff; 8]), &format!("{refused} its mode is not a number\n")),
        (
            "a file for everybody to write",
            header(100, b"0000666\0"),
            &format!("{refused} its mode is neither 0644 nor 0755\n"),
        ),
        (
            "a path that a terminal would obey",
            header(0, b"\x1b[2J\0"),
            "error: entry `\\u{1b}[2J` of the archive is refused: `\\u{1b}[2J` is not a path inside a bundle: it contains a control character\n",
        ),
        (
            "a path of more than 100 bytes in a piece",
            header(345, &[b'a'; 155]),
            &format!(
                "error: entry `{0}/oci-layout` of the archive is refused: `{1}…` is not a path inside a bundle: it has a component of more than 100 bytes\n",
                "a".repeat(155),
                "a".repeat(80)
            ),
        ),
    ]);
}

#[test]
fn rights_that_a_service_could_take_are_refused() {
    let scene = Scene::set();
    let refused = "error: the host layer of the bundle is refused: entry `units/app.service` of the archive is refused: its mode is neither 0644 nor 0755\n";
    let mode = |mode: u32| {
        scene.with_layer(move |files| {
            files.iter_mut().find(|file| file.path == "units/app.service").unwrap().mode = mode;
        })
    };
    scene.judge(&[
        ("set-user-id", mode(0o4755), refused),
        ("set-group-id", mode(0o2755), refused),
        ("sticky", mode(0o1755), refused),
        ("for everybody to write", mode(0o666), refused),
        (
            "a manifest that wants it",
            scene.with_manifest(|manifest| manifest["files"]["units/app.service"]["mode"] = 0o4755.into()),
            "error: `units/app.service` has mode 4755, and 644 and 755 are allowed\n",
        ),
    ]);
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let scene = Scene::set();
    let page = |size: usize| {
        scene.with_layer(|files| {
            let page = files.iter_mut().find(|file| file.path == "objects/app/page").unwrap();
            *page = Entry::file("objects/app/page", &vec![0; size]);
        })
    };
    let zeros = "this is no bundle: more than 65536 bytes of zeros are its end\n";
    assert_eq!(
        scene.refused(&[scene.next.bytes(), vec![0; 64 << 10]].concat()),
        format!("error: {zeros}"),
        "zeros without end after the bundle"
    );
    assert_eq!(
        scene.refused(&scene.with_host(|part| part.more_zeros = 64 << 20)),
        format!("error: the host layer of the bundle is refused: {zeros}"),
        "zeros without end in the layer"
    );
    let bomb = scene.refused(&page(64 << 20));
    let (packed, rest) = bomb.strip_prefix("error: the ").unwrap().split_once(' ').unwrap();
    assert!(packed.parse::<u64>().unwrap() < (64 << 20) / 200, "it is a bomb: {bomb}");
    assert!(rest.starts_with("bytes of the host layer become more than "), "{bomb}");
    // The limits refuse no file that is merely dull.
    let file = scene.dir.path().join("dull.tar");
    fs::write(&file, page(8 << 20)).unwrap();
    ok(activate(&scene.host(), &file));
}

#[test]
fn json_is_read_in_one_way_and_to_a_depth() {
    let scene = Scene::set();
    let with_text = |from: &str, to: &str| {
        scene.next.with_text(NAME, |text| {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text.replace(from, to)
        })
    };
    let (deep, end) = ("[".repeat(100_000), "]".repeat(100_000));
    let same = "{\"mode\":420,\"tokens\":true},";
    let format = format!("\"format\":{FORMAT}");
    let cases = [
        (format.as_str(), format!("{format},\"format\":1"), "not readable: duplicate field `format`"),
        ("\"host\":", "\"host\":\"evil\",\"host\":".to_owned(), "not valid: duplicate field `host`"),
        (
            "\"files\":{",
            format!("\"files\":{{\"units/app.service\":{same}"),
            "not valid: `units/app.service` stands there twice",
        ),
        (
            "\"links\":{",
            "\"links\":{\"units/x\":\"y\",\"units/x\":\"/dev/null\",".to_owned(),
            "not valid: `units/x` stands there twice",
        ),
        ("\"units\":[", format!("\"units\":{deep}{end},\"units\":["), "not valid: invalid type: sequence"),
        ("\"host\":", format!("\"x\":{deep}{end},\"host\":"), "not valid: unknown field `x`"),
        (
            "\"host\":",
            "\"\\u001b[2J\\nhelp: all is well\":1,\"host\":".to_owned(),
            "not valid: unknown field `?[2J?help: all is well`",
        ),
        ("\"host\":", "\"serial\":-1,\"host\":".to_owned(), "not valid: invalid value: integer `-1`"),
        ("\"host\":", "\"serial\":1e999,\"host\":".to_owned(), "not "),
    ];
    for (from, to, expected) in cases {
        let said = scene.refused(&with_text(from, &to));
        assert!(said.starts_with(&format!("error: the host manifest is {expected}")), "{said:.500}");
        assert_eq!(said.lines().count(), 1, "{said:.500}");
    }
    let index = scene.with(|all| {
        let index = all.iter_mut().find(|entry| entry.path == "index.json").unwrap();
        *index = Entry::file("index.json", format!("{{\"manifests\":{deep}").as_bytes());
    });
    let said = scene.refused(&index);
    assert!(said.starts_with("error: `index.json` of the bundle is not readable: "), "{said:.500}");
    scene.end();
}

#[test]
fn a_bundle_names_only_so_much() {
    let scene = Scene::set();
    let blobs = |kind: &str, from: usize| -> Vec<serde_json::Value> {
        let blob = |at| json!({"mediaType": kind, "digest": format!("sha256:{at:064x}"), "size": 1});
        (from..from + 33_000).map(blob).collect()
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "",
        "config": {"mediaType": "", "digest": format!("sha256:{:064x}", 0), "size": 1},
        "layers": blobs("", 100_000),
    });
    let manifest = Entry::blob(manifest.to_string().as_bytes());
    let many = scene.with(|all| {
        all.truncate(1);
        let mut listed = blobs("", 1);
        listed.push(json!({"mediaType": "", "digest": manifest.digest(), "size": manifest.size}));
        let index = json!({"schemaVersion": 2, "mediaType": "", "manifests": listed});
        all.push(Entry::file("index.json", index.to_string().as_bytes()));
        all.push(manifest);
    });
    assert_eq!(scene.refused(&many), "error: the bundle names more than 65536 blobs\n");
    let files = scene.with_manifest(|manifest| {
        for at in 0..101_000 {
            manifest["files"][format!("etc/{at}")] = json!({"mode": 420, "tokens": true});
        }
    });
    let said = scene.refused(&files);
    assert!(said.ends_with(" files for this host, and at most 100000 are allowed\n"), "{said}");
    let larger = scene.next.with_text(NAME, |text| [text, &" ".repeat(4 << 20)].concat());
    let said = scene.refused(&larger);
    assert!(said.ends_with(" bytes, and at most 4194304 are allowed\n"), "{said}");
    let blob = json!({"mediaType": "", "digest": format!("sha256:{:064x}", 0), "size": (8_u64 << 30) + 1});
    let manifest = json!({"schemaVersion": 2, "mediaType": "", "config": blob, "layers": []}).to_string();
    let manifest = Entry::blob(manifest.as_bytes());
    let image = scene.with(|all| {
        let index = all.iter_mut().find(|entry| entry.path == "index.json").unwrap();
        let mut value: serde_json::Value = serde_json::from_slice(&index.bytes).unwrap();
        let listed = json!({"mediaType": "", "digest": manifest.digest(), "size": manifest.size});
        value["manifests"].as_array_mut().unwrap().push(listed);
        *index = Entry::file("index.json", value.to_string().as_bytes());
        all.push(manifest);
    });
    assert_eq!(
        without_digests(&scene.refused(&image)),
        "error: blob sha256:… has 8589934593 bytes, and at most 8589934592 are allowed\n"
    );
    scene.end();
}

#[test]
fn a_blob_in_the_place_of_another_is_refused() {
    let scene = Scene::set();
    let manifest_of = |host: &str| scene.next.json(&path_of(&scene.next.host(host)));
    let (ours, theirs) = (manifest_of(NAME), manifest_of("other"));
    let path = |manifest: &serde_json::Value| path_of(&manifest["layers"][0]["digest"]);
    // The name is kept, and the bytes are those of another.
    let renamed = scene.with(|all| {
        let bytes = scene.next.entry(&path(&theirs)).bytes.clone();
        let at = all.iter().position(|entry| entry.path == path(&ours)).unwrap();
        all[at] = Entry::file(&path(&ours), &bytes);
        // As long as it should be, so that only the digest tells.
        all[at].bytes.resize(scene.next.entry(&path(&ours)).bytes.len(), 0);
        all[at].size = all[at].bytes.len() as u64;
    });
    let said = scene.refused(&renamed);
    assert!(said.contains("is damaged: its bytes have the digest"), "{said}");
    // All digests are right, and the files are those of another host.
    let mut swapped = scene.next.clone();
    let mut manifest = ours.clone();
    manifest["layers"] = theirs["layers"].clone();
    swapped.entries.retain(|entry| entry.path != path(&ours));
    swapped.replace(scene.next.host(NAME).as_str().unwrap(), manifest.to_string().as_bytes());
    assert_eq!(
        scene.refused(&swapped.bytes()),
        "error: `etc/app/settings` has 5 bytes in the host layer and 3 in the manifest\n"
    );
    scene.end();
}

#[test]
fn a_hosts_layer_holds_exactly_what_its_manifest_lists() {
    let scene = Scene::set();
    let with_unit = |change: fn(&mut Vec<Entry>, usize)| {
        scene.with_layer(|files| {
            let at = files.iter().position(|file| file.path == "units/app.service").unwrap();
            change(files, at);
        })
    };
    scene.judge(&[
        (
            "a file too many",
            scene.with_layer(|files| files.push(Entry::file("units/more.service", b""))),
            "error: the host layer holds `units/more.service`, and the manifest does not list it\n",
        ),
        (
            "a file too few",
            with_unit(|files, at| drop(files.remove(at))),
            "error: the manifest lists `units/app.service`, and the host layer does not hold it\n",
        ),
        (
            "a file twice",
            with_unit(|files, at| files.push(files[at].clone())),
            "error: the host layer holds `units/app.service` twice\n",
        ),
        (
            "a file that may be run, and should not",
            with_unit(|files, at| files[at].mode = 0o755),
            "error: `units/app.service` has mode 755 in the host layer and 644 in the manifest\n",
        ),
    ]);
}

#[test]
fn a_manifest_that_lies_about_the_bytes_of_a_file_is_refused() {
    let scene = Scene::set();
    let said = |path: &str, key: &str, value: serde_json::Value| {
        scene.with_manifest(|manifest| manifest["files"][path][key] = value)
    };
    let other = Digest::of(b"something else").to_string();
    scene.judge(&[
        (
            "payload of the store that is something else",
            said("objects/app/page", "digest", json!(other)),
            "error: `objects/app/page` has the digest sha256:… in the host layer and sha256:… in the manifest\n",
        ),
        (
            "payload of the generation that is something else",
            said("etc/app/settings", "digest", json!(other)),
            "error: `etc/app/settings` has the digest sha256:… in the host layer and sha256:… in the manifest\n",
        ),
        (
            "a definition that is something else",
            said("units/rick.target", "digest", json!(other)),
            "error: `units/rick.target` has the digest sha256:… in the host layer and sha256:… in the manifest\n",
        ),
        (
            "a file that should be longer",
            said("objects/app/page", "size", json!(4)),
            "error: `objects/app/page` has 3 bytes in the host layer and 4 in the manifest\n",
        ),
        (
            "a file that should be larger than anything",
            said("objects/app/page", "size", json!(u64::MAX)),
            "error: `objects/app/page` has 3 bytes in the host layer and 18446744073709551615 in the manifest\n",
        ),
        (
            "a file of which nothing is said",
            said("objects/app/page", "digest", json!(null)),
            "error: the manifest does not say which digest `objects/app/page` has\n",
        ),
        (
            "a text with tokens that nobody can know",
            said("units/app.service", "digest", json!(other)),
            "error: `units/app.service` has tokens, and the manifest says which digest it has\n",
        ),
        (
            "more text than anybody writes",
            scene.with_host(|part| {
                let unit = part.files.iter_mut().find(|file| file.path == "units/rick.target").unwrap();
                *unit = Entry::file("units/rick.target", &vec![b'#'; (4 << 20) + 1]);
            }),
            "error: the texts of the host layer have more than 4194304 bytes\n",
        ),
    ]);
}

#[test]
fn a_manifest_that_leads_out_of_its_generation_is_refused() {
    let scene = Scene::set();
    let link =
        |path: &str, target: &str| scene.with_manifest(|manifest| manifest["links"][path] = target.into());
    let file = |path: &str| {
        scene.with_manifest(|manifest| manifest["files"][path] = json!({"mode": 0o644, "tokens": false}))
    };
    let cases = [
        (
            "a link to above",
            link("units/a.service", "../../etc/passwd"),
            "error: the link `units/a.service` of the bundle is refused: `../../etc/passwd` leads out of units/\n",
        ),
        (
            "a link to anywhere",
            link("units/a.service", "/etc/passwd"),
            "error: the link `units/a.service` of the bundle is refused: `/etc/passwd` leads out of units/\n",
        ),
        (
            "a link elsewhere",
            link("etc/app/link", "settings"),
            "error: the link `etc/app/link` of the bundle is refused: only units/ may hold links\n",
        ),
        (
            "a link over a file",
            link("units/app.service", "a.service"),
            "error: the bundle has `units/app.service` as a file and as a link\n",
        ),
        (
            "a file below a link",
            link("etc/app", "../a"),
            "error: the link `etc/app` of the bundle is refused: only units/ may hold links\n",
        ),
        ("a file in the wrong place", file("store/a"), "error: `store/a` has no place in a bundle\n"),
        (
            "a token of nothing",
            scene.with_host(|part| {
                let unit = part.files.iter_mut().find(|file| file.path == "units/app.service").unwrap();
                *unit = Entry::file("units/app.service", b"[Service]\nUser=@rick(uid:nobody)\n");
                part.manifest["files"]["units/app.service"]["tokens"] = true.into();
            }),
            "error: `units/app.service` of the bundle is refused: the manifest knows nothing of `@rick(uid:nobody)`\n",
        ),
    ];
    // Where a JSON text is wrong is told by its column, which says nothing here.
    for (path, why) in [("../../etc/passwd", "it contains `..`"), ("/etc/passwd", "it is absolute")] {
        for bundle in [link(path, "a"), file(path)] {
            let said = scene.refused(&bundle);
            let expected = format!(
                "error: the host manifest is not valid: `{path}` is not a path inside a bundle: {why} at line 1 column "
            );
            assert!(said.starts_with(&expected), "{said}");
        }
    }
    scene.judge(&cases);
}

#[test]
fn a_bundle_for_others_is_refused() {
    let scene = Scene::set();
    let file = scene.dir.path().join("bundle.tar");
    fs::write(&file, scene.next.bytes()).unwrap();
    let elsewhere = activator(&scene.host()).args(["--host", "third"]).arg(&file).output().unwrap();
    assert_eq!(
        scene.expect_refusal(&elsewhere),
        "error: this bundle is for `box`, `other`; this host is `third`\n\
         help: if this is that host under another name, say `--host box`\n"
    );
    let format = |format: u32| scene.with_manifest(|manifest| manifest["format"] = format.into());
    scene.judge(&[
        (
            "a format from the future",
            // Of which nothing else can be known.
            scene.with_manifest(|manifest| *manifest = json!({"format": FORMAT + 1, "hosts": []})),
            &format!(
                "error: the bundle has format {}, and this rick-activate knows {FORMAT}: upgrade rick-activate on this host\n",
                FORMAT + 1
            ),
        ),
        (
            "a format of the past",
            format(0),
            &format!("error: the bundle has format 0, and this rick-activate knows {FORMAT}: compile it again\n"),
        ),
        (
            "a format of which only generations are read",
            format(FORMAT - 1),
            &format!(
                "error: the bundle has format {}, and this rick-activate takes {FORMAT}: compile it again\n",
                FORMAT - 1
            ),
        ),
    ]);
}

#[test]
fn what_is_no_bundle_is_said_to_be_none() {
    let scene = Scene::set();
    let text = "this is a text\n".repeat(100);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(&scene.next.bytes()).unwrap();
    let packed = "error: this is no bundle: it is not a USTAR archive (is it compressed?)\n";
    scene.judge(&[
        (
            "an empty file",
            Vec::new(),
            "error: this is no bundle: it ends where `oci-layout` was expected\n",
        ),
        ("a text", text.into_bytes(), packed),
        ("a packed bundle", gzip.finish().unwrap(), packed),
        (
            "another archive",
            scene.with(|all| drop(all.remove(0))),
            "error: this is no bundle: `oci-layout` was expected, and `index.json` stands there\n",
        ),
        (
            "an empty archive",
            vec![0; 10240],
            "error: this is no bundle: it ends where `oci-layout` was expected\n",
        ),
        (
            "an image layout without a host of ours",
            scene.with(|all| {
                all.truncate(1);
                let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []});
                all.push(Entry::file("index.json", index.to_string().as_bytes()));
            }),
            "error: this bundle holds no host that this rick-activate knows\n\
             help: was it made by `rickbuild`, of the same version?\n",
        ),
    ]);
    let absent = activate(&scene.host(), Path::new("/nonexistent/bundle.tar"));
    assert_eq!(
        String::from_utf8_lossy(&absent.stderr),
        "error: cannot read /nonexistent/bundle.tar: No such file or directory (os error 2)\n"
    );
}

#[test]
fn of_two_activators_the_second_is_refused() {
    let mut scene = Scene::set();
    let lock = File::open(scene.host().join("var/lib/rick/lock")).unwrap();
    lock.lock().unwrap();
    // What the first is about to do with must stay.
    fs::create_dir(scene.host().join("var/lib/rick/incoming")).unwrap();
    scene.before = everything_below(&scene.host());
    assert_eq!(
        scene.refused(&scene.next.bytes()),
        "error: another rick-activate is running\nhelp: wait until it is done, then run this again\n\
         help: if it waits to be confirmed: `rick-activate confirm`, or let its time run out\n"
    );
    // Not by dropping it: a process that another test is just starting has the file open as well, until it becomes its program.
    lock.unlock().unwrap();
    scene.end();
}

#[test]
fn what_somebody_else_put_in_ricks_places_stays() {
    for (place, make, what) in [
        ("usr/local/lib/systemd/system", Foreign::Directory, "is a directory"),
        ("etc/containers/systemd/rick", Foreign::Directory, "is a directory"),
        ("etc/sysusers.d/rick.conf", Foreign::File, "is a file"),
        ("etc/tmpfiles.d/rick.conf", Foreign::Link, "is a link to /etc/passwd"),
    ] {
        let mut scene = Scene::set();
        let path = scene.host().join(place);
        fs::remove_file(&path).unwrap();
        match make {
            Foreign::File => fs::write(&path, "mine").unwrap(),
            Foreign::Link => symlink("/etc/passwd", &path).unwrap(),
            Foreign::Directory => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("mine.service"), "mine").unwrap();
            }
        }
        scene.before = everything_below(&scene.host());
        let part = match place {
            "usr/local/lib/systemd/system" => "units",
            "etc/containers/systemd/rick" => "quadlets",
            other => other.rsplit_once("d/rick").unwrap().0.rsplit('/').next().unwrap(),
        };
        let target = if part.ends_with('.') { format!("{part}conf") } else { part.to_owned() };
        assert_eq!(
            scene.refused(&scene.next.bytes()),
            format!(
                "error: /{place} is in the way: it {what}, and rick needs a link there\n\
                 help: look what it is for, and move it away: it would lead to /var/lib/rick/current/{target}\n"
            )
        );
    }
}

enum Foreign {
    File,
    Link,
    Directory,
}

#[test]
fn a_full_disk_is_refused_and_nothing_is_left_on_it() {
    require_root!();
    let scene = Scene::set();
    let next = scene.dir.path().join("next.tar");
    fs::write(&next, scene.next.bytes()).unwrap();
    let said = with_less_and_less_missing(scene.dir.path(), &next, true);
    assert!(said.iter().any(|said| said.contains("/incoming/generation/")), "{said:#?}");

    // Without a new account it goes on longer before it takes more space.
    let same_accounts = root::environment("two");
    with_less_and_less_missing(scene.dir.path(), &same_accounts.bundle("small"), true);

    // The very first generation, where there was nothing.
    with_less_and_less_missing(scene.dir.path(), &next, false);
}

/// Activates a bundle on disks with more and more space, until there is enough; gives what was said before.
fn with_less_and_less_missing(dir: &Path, bundle: &Path, second: bool) -> Vec<String> {
    let disk = Disk::mount(dir.join("disk"));
    if second {
        ok(disk.activate(&root::environment("one").bundle("small")));
    }
    let before = everything_below(&disk.seen("host"));
    let mut refusals = Vec::new();
    for free in (0..).step_by(4) {
        disk.leave(free);
        let output = disk.activate(bundle);
        if output.status.success() {
            break;
        }
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{free} KiB: {said}");
        let mut changed = differences(&before, &everything_below(&disk.seen("host")));
        // systemd-sysusers, which is not rick's, keeps copies of what it is about to change; and empty directories do no harm.
        changed.retain(|line| {
            let copy = line.starts_with("+ etc/") && line.contains(" 100");
            let directory = line.ends_with(" 40755 0:0 ") && !line.contains("rick");
            !line.starts_with("+ ") || !(copy || directory)
        });
        assert!(changed.is_empty(), "{free} KiB: {changed:#?}\n{said}");
        refusals.push(said.replace(dir.to_str().unwrap(), "DIR"));
    }
    assert!(refusals.len() > 10, "{refusals:#?}");
    for said in refusals.iter().filter(|said| !said.contains("systemd-sysusers")) {
        assert!(said.starts_with("error: cannot write DIR/disk/host/var/lib/rick/"), "{said}");
        let end = ": No space left on device (os error 28)\n\
                   help: free some space on that file system (`df -h` shows it), then run this again\n";
        assert!(said.ends_with(end), "{said}");
    }
    refusals
}

/// A small file system in a mount namespace, which ends with it.
struct Disk {
    keeper: Child,
    place: PathBuf,
}

impl Disk {
    fn mount(place: PathBuf) -> Self {
        fs::create_dir_all(&place).unwrap();
        let script = "mount -t tmpfs -o size=1m,mode=755 rick-test \"$1\" && mkdir \"$1/host\" && echo ready && read -r _";
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--propagation=private", "sh", "-c", script, "sh"])
            .arg(&place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 5];
        keeper.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        Self { keeper, place }
    }

    /// A path on it, as it can be reached from outside.
    fn seen(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{}/{path}", self.keeper.id(), self.place.display()).into()
    }

    fn activate(&self, bundle: &Path) -> Output {
        let inner = activator(&self.place.join("host"));
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.keeper.id())).args(["--mount", "--"]);
        command.arg(inner.get_program()).args(inner.get_args()).args(["--host", NAME]).arg(bundle);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap()
    }

    /// Fills it up, but for so many KiB.
    fn leave(&self, free: u64) {
        let filler = self.seen("filler");
        let _ = fs::remove_file(&filler);
        let found = rustix::fs::statvfs(self.seen("")).unwrap();
        let fill = (found.f_bavail * found.f_frsize).saturating_sub(free << 10);
        fs::write(&filler, vec![0; usize::try_from(fill).unwrap()]).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
