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

fn edited(text: &str, change: impl FnOnce(&mut Edit)) -> String {
    let mut edit = Edit::of(text).unwrap();
    change(&mut edit);
    edit.text()
}

fn image(reference: &str) -> Pin {
    Pin::Image(reference.parse().unwrap(), Digest::of(reference.as_bytes()))
}

fn packages(names: &str, files: &[&str]) -> Pin {
    let package = |file: &&str| Package {
        path: format!("debian/pool/{file}_amd64.deb").parse().unwrap(),
        digest: Digest::of(file.as_bytes()),
    };
    let resolved = Resolved {
        snapshot: "20270101T000000Z".parse().unwrap(),
        packages: files.iter().map(package).collect(),
    };
    Pin::Packages(names.parse().unwrap(), resolved)
}

fn outside(pin: &Pin) -> Outside {
    match pin {
        Pin::Image(reference, _) => Outside::Image(reference.clone()),
        Pin::Archive(url, _) => Outside::Archive(url.clone()),
        Pin::Packages(packages, _) => Outside::Packages(packages.clone()),
    }
}

#[test]
fn a_new_file_has_its_tables_in_order() {
    let text = edited("", |edit| {
        edit.set(&packages("trixie: gcc", &["b_2", "a_1"]));
        edit.set(&packages("forky: gcc", &["b_2"]));
        edit.set(&Pin::Archive("https://example.com/x".parse().unwrap(), Digest::of(b"")));
        edit.set(&image("docker.io/library/debian:13"));
        edit.set(&image("docker.io/library/alpine:3"));
    });
    let [alpine, debian, a, b] = ["docker.io/library/alpine:3", "docker.io/library/debian:13", "a_1", "b_2"]
        .map(|text| Digest::of(text.as_bytes()));
    let expected = format!(
        "\
# What rick takes from outside this tree, and which one it is. `rickbuild lock` writes it; commit it.
version = 1

[images]
\"docker.io/library/alpine:3\" = \"{alpine}\"
\"docker.io/library/debian:13\" = \"{debian}\"

[archives]
\"https://example.com/x\" = \"{DIGEST}\"

[debian.\"forky: gcc\"]
snapshot = \"20270101T000000Z\"
\"debian/pool/b_2_amd64.deb\" = \"{b}\"

[debian.\"trixie: gcc\"]
snapshot = \"20270101T000000Z\"
\"debian/pool/a_1_amd64.deb\" = \"{a}\"
\"debian/pool/b_2_amd64.deb\" = \"{b}\"
"
    );
    assert_eq!(text, expected);
    let (lock, findings) = Lock::parse(&text);
    assert_eq!((findings, lock.entries().count()), (vec![], 5));
}

#[test]
fn a_change_is_a_change_of_its_line() {
    let new = image("docker.io/library/debian:13");
    let Pin::Image(_, digest) = &new else { unreachable!() };
    let old = format!("debian:13\" = \"{DIGEST}\"  # mine");
    let expected = whole().replace(&old, &format!("debian:13\" = \"{digest}\"  # mine"));
    assert_ne!(expected, whole());
    assert_eq!(edited(&whole(), |edit| edit.set(&new)), expected);
}

#[test]
fn packages_come_and_go_line_by_line() {
    let before = edited(&whole(), |edit| edit.set(&packages("trixie: aa", &["a_1", "b_1", "d_1"])));
    let before = before.replace("\"debian/pool/a_1", "# The first.\n\"debian/pool/a_1");
    let after = edited(&before, |edit| edit.set(&packages("trixie: aa", &["a_1", "c_1", "d_1"])));
    let changed: Vec<_> = similar::TextDiff::from_lines(&before, &after)
        .iter_all_changes()
        .filter(|change| change.tag() != similar::ChangeTag::Equal)
        .map(|change| format!("{}{}", change.tag(), &change.value()[..23].trim_start_matches('"')))
        .collect();
    assert_eq!(changed, ["-debian/pool/b_1_amd64.", "+debian/pool/c_1_amd64."]);
}

#[test]
fn the_last_entry_takes_its_table_along() {
    let text = edited(&whole(), |edit| {
        edit.remove(&"docker.io/library/debian:13".parse().map(Outside::Image).unwrap());
        edit.remove(&"trixie: gcc libc6-dev".parse().map(Outside::Packages).unwrap());
        edit.remove(&"trixie: gcc".parse().map(Outside::Packages).unwrap());
    });
    let expected = format!(
        "# What is ours is said here.\nversion = 1\n\n[archives]\n\"https://example.com/x-1.0.tar.gz\" = '{DIGEST}'\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn every_difference_is_a_line() {
    let before = edited(&whole(), |edit| edit.set(&packages("trixie: aa", &["a_1", "b_1+x", "d_1"])));
    let after = edited(&before, |edit| {
        edit.set(&image("docker.io/library/debian:13"));
        edit.set(&packages("trixie: aa", &["a_1", "b_2", "c_1"]));
        edit.remove(&"https://example.com/x-1.0.tar.gz".parse().map(Outside::Archive).unwrap());
    });
    let (before, after) = (Lock::parse(&before).0, Lock::parse(&after).0);
    let lines: Vec<_> = before.changes_to(&after).iter().map(ToString::to_string).collect();
    let debian = Digest::of(b"docker.io/library/debian:13");
    assert_eq!(
        lines,
        [
            format!("~ docker.io/library/debian:13  {DIGEST} → {debian}"),
            format!("- https://example.com/x-1.0.tar.gz  {DIGEST}"),
            "~ trixie: aa / b  1+x → 2".to_owned(),
            "+ trixie: aa / c  1".to_owned(),
            "- trixie: aa / d  1".to_owned(),
        ]
    );
    assert_eq!(before.changes_to(&before), []);
}

#[test]
fn line_ends_stay_those_of_the_file() {
    let windows = whole().replace('\n', "\r\n");
    assert_eq!(edited(&windows, |_| {}), windows);
    let new = image("docker.io/library/zig:1");
    let text = edited(&windows, |edit| edit.set(&new));
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    assert_eq!(edited(&text, |edit| edit.remove(&outside(&new))), windows);
}

mod properties {
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;

    /// Comments, blank lines and spaces, as a person would write them.
    fn decoration() -> impl Strategy<Value = &'static str> {
        select(vec!["", "", "\n", "# a comment\n", "\n# two\n# lines\n\n", "   "])
    }

    fn table(header: &'static str, keys: Vec<&'static str>) -> impl Strategy<Value = String> {
        let count = keys.len();
        let all = (1..=count).prop_flat_map(move |n| subsequence(keys.clone(), n)).prop_shuffle();
        let line = (decoration(), select(vec!["", " # why", "  "]), select(vec!["\"", "'"]));
        (decoration(), all, prop::collection::vec(line, count)).prop_map(move |(above, keys, lines)| {
            let mut text = format!("{above}{header}\n");
            for (key, (above, after, quote)) in keys.into_iter().zip(lines) {
                text.extend([above, quote, key, quote, " = \"", DIGEST, "\"", after, "\n"]);
            }
            text
        })
    }

    fn texts() -> impl Strategy<Value = String> {
        let images = vec!["docker.io/library/a:1", "docker.io/library/c:1", "ghcr.io/a/b:1", "quay.io/x/y:2"];
        let archives = vec!["https://example.com/a", "https://example.com/c", "http://example.com/b"];
        let files = vec!["debian/pool/a_1_amd64.deb", "debian/pool/c_1_amd64.deb"];
        let optional = |strategy| prop::option::of(strategy).prop_map(Option::unwrap_or_default);
        let tables = (
            optional(table("[images]", images).boxed()),
            optional(table("[archives]", archives).boxed()),
            optional(table("[debian.\"trixie: bb\"]\nsnapshot = \"20260101T000000Z\"", files).boxed()),
        );
        (decoration(), tables, any::<bool>(), decoration()).prop_map(|(above, (a, b, c), turned, below)| {
            let tables = if turned { c + &b + &a } else { a + &b + &c };
            format!("{above}version = 1\n{tables}{below}")
        })
    }

    fn pins() -> impl Strategy<Value = Pin> {
        prop_oneof![
            select(vec!["docker.io/library/b:1", "aa.io/x:1", "zz.io/x:1"]).prop_map(image),
            select(vec!["https://example.com/b", "http://a.b/c", "https://z/z"])
                .prop_map(|url| Pin::Archive(url.parse().unwrap(), Digest::of(b""))),
            select(vec!["forky: aa", "trixie: aa", "trixie: zz"])
                .prop_map(|names| packages(names, &["x_1", "y_1"])),
        ]
    }

    proptest! {
        #[test]
        fn what_is_put_in_and_taken_out_leaves_no_trace(text in texts(), pins in prop::collection::vec(pins(), 1..4)) {
            let (before, findings) = Lock::parse(&text);
            prop_assert_eq!(findings, vec![]);
            let with = edited(&text, |edit| pins.iter().for_each(|pin| edit.set(pin)));
            let (lock, findings) = Lock::parse(&with);
            prop_assert_eq!(findings, vec![]);
            prop_assert!(pins.iter().all(|pin| lock.knows(&outside(pin))));
            prop_assert!(before.entries().all(|entry| lock.knows(&entry)));
            // Every line that was there is there, in the same order.
            let mut lines = with.lines();
            prop_assert!(text.lines().all(|line| lines.any(|other| other == line)));
            let without = edited(&with, |edit| pins.iter().for_each(|pin| edit.remove(&outside(pin))));
            prop_assert_eq!(without, text);
        }
    }
}
