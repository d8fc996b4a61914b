use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn whole() -> String {
    format!(
        "\
# What is ours is said here.
version = 1

[images]
# The stable one.
\"docker.io/library/debian:13\" = \"{DIGEST}\"  # mine

[archives]
\"https://example.com/x-1.0.tar.gz\" = '{DIGEST}'

[debian.\"trixie: gcc libc6-dev\"]
snapshot = \"20261128T081341Z\"
\"debian/pool/main/g/gcc-14/gcc-14_14.2.0-19_amd64.deb\" = \"{DIGEST}\"
\"debian-security/pool/updates/main/a/a/a_1_amd64.deb\" = \"{DIGEST}\"
"
    )
}

/// What is wrong with a text, and what of it a finding points at.
fn wrong(text: &str) -> Vec<(String, String)> {
    let (_, findings) = Lock::parse(text);
    let said = |finding: &Finding| {
        let span = &finding.primary.as_ref().unwrap().span;
        (finding.message.clone(), text[span.start..span.end].to_owned())
    };
    findings.iter().map(said).collect()
}

#[test]
fn everything_that_it_says_can_be_looked_up() {
    let (lock, findings) = Lock::parse(&whole());
    assert_eq!(findings, []);
    let digest = Digest::of(b"");
    let image = |text: &str| lock.image(&text.parse().unwrap());
    assert_eq!(image("docker.io/library/debian:13"), Some(digest));
    assert_eq!(image("docker.io/library/debian:12"), None);
    let other = Digest::of(b"other");
    assert_eq!(image(&format!("docker.io/library/debian:13@{other}")), Some(other));
    assert_eq!(lock.archive(&"https://example.com/x-1.0.tar.gz".parse().unwrap()), Some(digest));
    let packages = "trixie: libc6-dev gcc".parse().unwrap();
    let names: Vec<_> =
        lock.packages(&packages).unwrap().into_iter().map(|package| package.path.to_string()).collect();
    assert_eq!(
        names,
        [
            "debian/pool/main/g/gcc-14/gcc-14_14.2.0-19_amd64.deb",
            "debian-security/pool/updates/main/a/a/a_1_amd64.deb"
        ]
    );
    assert_eq!(lock.packages(&"trixie: gcc".parse().unwrap()), None);
    assert_eq!(lock.entries().count(), 3);
    assert!(lock.entries().all(|outside| lock.knows(&outside)));
}

#[test]
fn an_empty_file_says_nothing() {
    for text in ["", "\n \n"] {
        assert_eq!(Lock::parse(text), (Lock::default(), vec![]));
    }
}

#[test]
fn all_that_is_wrong_is_said_at_its_place() {
    let text = format!(
        "\
version = 1
[imges]
[images]
\"debian\" = \"{DIGEST}\"
\"docker.io/library/debian@{DIGEST}\" = \"{DIGEST}\"
\"docker.io/library/a:1\" = \"sha256:12\"
\"docker.io/library/b:1\" = 7
[archives]
\"file:///etc/passwd\" = \"{DIGEST}\"
[debian.\"trixie: gcc cpp\"]
[debian.\"trixie: cpp\"]
\"debian/pool/main/c/cpp_1_amd64.deb\" = \"{DIGEST}\"
[debian.\"trixie: gcc\"]
snapshot = \"now\"
\"debian/pool/../gcc_1_amd64.deb\" = \"{DIGEST}\"
\"debian/pool/a_1_amd64.deb\" = \"{DIGEST}\"
\"debian/pool/a_2_amd64.deb\" = \"{DIGEST}\"
"
    );
    let expected = [
        ("`rick.lock` has no `imges`", "imges"),
        ("`debian` is no whole name of an image", "\"debian\""),
        (
            &format!("`docker.io/library/debian@{DIGEST}` says its digest itself"),
            &format!("\"docker.io/library/debian@{DIGEST}\""),
        ),
        (
            "`sha256:12` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits",
            "\"sha256:12\"",
        ),
        ("what `docker.io/library/b:1` is set to is no text", "7"),
        ("`file:///etc/passwd` is no URL of a file", "\"file:///etc/passwd\""),
        ("`trixie: gcc cpp` is another way to write `trixie: cpp gcc`", "\"trixie: gcc cpp\""),
        ("`[debian.\"trixie: cpp\"]` has no `snapshot`", "\"trixie: cpp\""),
        (
            "`debian/pool/../gcc_1_amd64.deb` is no file of a package of Debian, as `debian/pool/main/b/busybox/busybox_1.37.0-6_amd64.deb` is one",
            "\"debian/pool/../gcc_1_amd64.deb\"",
        ),
        ("`[debian.\"trixie: gcc\"]` has two files of the package `a`", "\"debian/pool/a_2_amd64.deb\""),
        ("`now` is no moment: write one as in `20261128T081341Z`", "\"now\""),
    ];
    let expected: Vec<_> = expected.map(|(message, place)| (message.to_owned(), place.to_owned())).into();
    assert_eq!(wrong(&text), expected);
}

#[test]
fn another_version_is_not_guessed_at() {
    let message = "this `rickbuild` reads version 1 of `rick.lock`, and this is another one".to_owned();
    assert_eq!(wrong("version = 2\n[wonders]\n"), [(message.clone(), "2".to_owned())]);
    assert_eq!(wrong("version = \"1\"\n"), [(message, "\"1\"".to_owned())]);
    assert_eq!(wrong("[images]\n"), [("`rick.lock` says no version".to_owned(), String::new())]);
}

#[test]
fn what_has_no_line_of_its_own_is_refused() {
    let image = format!("\"docker.io/library/debian:13\" = \"{DIGEST}\"");
    for text in [
        format!("images = {{ {image} }}\nversion = 1\n"),
        format!("version = 1\nimages.{image}\n"),
        "version = 1\nimages = 1\n".to_owned(),
        "version = 1\n[[images]]\n".to_owned(),
    ] {
        assert_eq!(wrong(&text)[0].0, "`[images]` of `rick.lock` is no table", "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn garbage_is_a_finding_and_never_a_panic(text in "\\PC*", cut in 0..500_usize, with in "[\\[\\]\"'=.\n#a1]{0,8}") {
        let _ = Lock::parse(&text);
        let mut whole = whole();
        let cut = whole.floor_char_boundary(cut);
        whole.insert_str(cut, &with);
        let _ = Lock::parse(&whole);
        let _ = Lock::parse(&whole[..cut]);
    }
}
