//! One test for each check, on evaluations made by hand.

mod bench;
mod containers;
mod moves;
mod probes;
mod units;

use bench::{Bench, says};

use super::super::item::{Noun, User};
use super::super::lock::Lock;

// The golden ones: what a person sees, whole.

#[test]
fn two_claims_on_a_port() {
    let bench = Bench::new().service("caddy").port(443, "0.0.0.0").service("admin").port(443, "127.0.0.1");
    let expected = "\
error: two claims on port 443/tcp
 --> modules/admin.star:1:1
  |
1 | port(443)
  | ^^^^^^^^^ by `admin`
  |
 ::: modules/caddy.star:1:1
  |
1 | port(443)
  | --------- first by `caddy`
  |
 ::: environments/test.star:2:1
  |
2 | caddy()
  | ------- asked for by `caddy` here
3 | admin()
  | ------- asked for by `admin` here
  |
  = note: `0.0.0.0` and `127.0.0.1` overlap
  = help: give one of them another port, or put both behind one web server

error: 1 error; nothing was written
";
    assert_eq!(bench.check().text, expected);
}

#[test]
fn unknown_unit_key() {
    let bench = Bench::new().service("valkey").runs("valkey.service", &[("Unit", "Aftr", "network.target")]);
    let expected = "\
error: unknown key `Aftr` in `[Unit]` of `valkey.service`
 --> modules/valkey.star:2:14
  |
2 |     \"Unit\": {\"Aftr\": \"network.target\"},
  |              ^^^^^^ systemd does not know it
  |
 ::: environments/test.star:2:1
  |
2 | valkey()
  | -------- asked for by `valkey` here
  |
  = help: did you mean `After`?

error: 1 error; nothing was written
";
    assert_eq!(bench.check().text, expected);
}

#[test]
fn unknown_user_in_a_unit() {
    let bench = Bench::new()
        .service("valkey")
        .user("valkey", &[], None)
        .runs("valkey.service", &[("Service", "User", "valky")]);
    let expected = "\
error: `valkey.service` names the user `valky`, and no service declares it
 --> modules/valkey.star:3:25
  |
3 |     \"Service\": {\"User\": \"valky\", \"ExecStart\": \"/bin/x\"},
  |                         ^^^^^^^ unknown user
  |
 ::: environments/test.star:2:1
  |
2 | valkey()
  | -------- asked for by `valkey` here
  |
  = help: did you mean `valkey`?
  = help: or declare it with `user(\"valky\")`; one that the host already has is kept as it is

error: 1 error; nothing was written
";
    assert_eq!(bench.check().text, expected);
}

// Nouns other than units and Quadlets.

#[test]
fn a_host_that_is_right_is_complete() {
    let outcome = Bench::new()
        .service("valkey")
        .group("valkey-clients", &["valkey"], None)
        .user("valkey", &[], Some(900))
        .directory("/run/valkey-sock", 0o2750, "valkey", "valkey-clients")
        .file("valkey.conf", "port 0\n", false)
        .runs(
            "valkey.service",
            &[("Service", "User", "valkey"), ("Install", "WantedBy", "multi-user.target")],
        )
        .service("whoami")
        .user("whoami", &["valkey-clients", "valkey"], None)
        .image("whoami")
        .container(
            "whoami.container",
            &[
                ("Container", "Image", "localhost/whoami"),
                ("Container", "User", "@rick(uid:whoami)"),
                ("Container", "GroupAdd", "@rick(gid:valkey-clients)"),
                ("Container", "Volume", "/run/valkey-sock:/run/valkey-sock"),
                ("Unit", "After", "valkey.service"),
            ],
        )
        .check();
    assert_eq!(outcome.text, "");
    let host = &outcome.hosts[0];
    let members = |name: &str| {
        let group = host.groups.iter().find(|(group, _)| group.as_str() == name).unwrap().1;
        group.members.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(members("valkey-clients"), ["valkey", "whoami"]);
    assert_eq!(members("valkey"), ["whoami"]);
    assert_eq!(host.files.keys().next().unwrap().as_str(), "objects/valkey/valkey.conf");
    assert_eq!(host.quadlets[0].unit.as_str(), "whoami.service");
}

#[test]
fn environment_host_and_service_names() {
    let mut evaluation = Bench::new().service("a").service("a").service("B").evaluation();
    evaluation.hosts.push(evaluation.hosts[0].clone());
    evaluation.hosts[1].services.clear();
    evaluation.hosts[1].domain = "-".into();
    evaluation.environment = "Home Lab".into();
    let checked = super::check(&evaluation, &Lock::default());
    let messages: Vec<_> = checked.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the environment's name: `Home Lab` is not a name: at most 64 of a-z, 0-9, `-` and `_`, the first a letter or digit",
            "two services have the name `a`",
            "the service's name: `B` is not a name: at most 64 of a-z, 0-9, `-` and `_`, the first a letter or digit",
            "two hosts have the name `box`",
            "the host's domain: `-` is not a host name: labels of a-z, 0-9 and inner `-`, joined by dots",
        ]
    );
}

#[test]
fn names_are_parsed() {
    let bench = Bench::new()
        .service("a")
        .user("Äpfel", &[], None)
        .site("a_b.example.org")
        .image("a/b")
        .file("../x", "", false)
        .unit("a b.service", &[("Service", "ExecStart", "/x")])
        .directory("/var/lib/a/../b", 0o750, "root", "root");
    says(
        bench,
        &[
            "`Äpfel` is not a user or group name: at most 31 of a-z, 0-9, `_` and `-`, the first a letter or `_`",
            "`a_b.example.org` is not a host name: labels of a-z, 0-9 and inner `-`, joined by dots",
            "`a/b` is not a name: at most 64 of a-z, 0-9, `-` and `_`, the first a letter or digit",
            "`../x` is not a path inside a bundle: it contains `..`",
            "`a b.service` is not a unit name: letters, digits and `:_.\\-@` only",
            "`/var/lib/a/../b` is not a path on a host: it contains `..`",
        ],
    );
}

#[test]
fn the_same_account_may_be_stated_twice_in_the_same_words_only() {
    let twice = |id| Bench::new().service("a").user("app", &[], None).service("b").user("app", &[], id);
    says(twice(None), &[]);
    says(twice(Some(7)), &["user `app` is stated twice, with different details"]);
    let group = |members: &[&str]| {
        Bench::new()
            .service("a")
            .user("u", &[], None)
            .group("g", &[], None)
            .service("b")
            .group("g", members, None)
    };
    says(group(&[]), &[]);
    says(group(&["u"]), &["group `g` is stated twice, with different details"]);
}

#[test]
fn pinned_numbers_belong_to_one_name() {
    let bench = Bench::new().service("a").user("a", &[], Some(900)).user("b", &[], Some(900));
    says(bench, &["uid 900 is pinned for both `a` and `b`", "gid 900 is pinned for both `a` and `b`"]);
    let bench = Bench::new().service("a").user("a", &[], Some(900)).group("g", &[], Some(900));
    says(bench, &["gid 900 is pinned for both `g` and `a`"]);
    let bench = Bench::new().service("a").user("a", &[], Some(900)).group("a", &[], Some(901));
    says(bench, &[]);
    let bench = Bench::new().service("a").group("g", &[], Some(0));
    says(bench, &["gid 0 cannot be given to `g`: the system uses it"]);
}

#[test]
fn members_and_owners_are_declared() {
    let bench = Bench::new()
        .service("a")
        .group("clients", &["ap"], None)
        .user("app", &["client"], None)
        .directory("/srv/a", 0o750, "ap", "client");
    says(
        bench,
        &[
            "group `clients` has a member `ap`, and no service declares that user",
            "user `app` joins the group `client`, and no service declares it",
            "directory `/srv/a` belongs to the user `ap`, and no service declares it",
            "directory `/srv/a` belongs to the group `client`, and no service declares it",
        ],
    );
}

#[test]
fn a_description_stays_one_field() {
    let user =
        User { name: "app".into(), groups: vec![], description: "a:b".into(), home: "home".into(), id: None };
    says(
        Bench::new().service("a").item("user(\"app\")", Noun::User(user)),
        &[
            "the description of user `app` holds a `:` or a control character, which /etc/passwd cannot hold",
            "`home` is not a path on a host: it is not absolute",
        ],
    );
}

#[test]
fn directories_are_ricks_to_make() {
    for path in ["/var/lib/app", "/run/app", "/srv/app/data", "/opt/app", "/home/app"] {
        says(Bench::new().service("a").directory(path, 0o750, "root", "root"), &[]);
    }
    for path in [
        "/etc/app",
        "/usr/lib/app",
        "/boot/x",
        "/dev/x",
        "/var",
        "/var/lib",
        "/run/systemd/x",
        "/variable",
        "/var/lib/rick/x",
    ] {
        let message = format!("`{path}` is not a directory that rick may own");
        says(Bench::new().service("a").directory(path, 0o750, "root", "root"), &[&message]);
    }
    let outcome = Bench::new().service("a").directory("/var/run/app", 0o750, "root", "root").check();
    assert!(outcome.text.contains("write `/run/app`"), "{}", outcome.text);
}

#[test]
fn a_directory_has_one_owner_and_mode() {
    let twice = |mode| {
        let bench = Bench::new().service("a").directory("/srv/a", 0o750, "root", "root");
        bench.service("b").directory("/srv/a", mode, "root", "root")
    };
    says(twice(0o750), &[]);
    says(twice(0o755), &["directory `/srv/a` is stated twice, with another owner or mode"]);
    let bench = Bench::new().service("a").directory("/srv/a", 0o10_000, "root", "root");
    says(bench, &["0o10000 is no mode: the largest is 0o7777"]);
}

#[test]
fn files_have_one_claim_and_are_no_directories() {
    says(Bench::new().service("a").file("x", "", false).file("x", "", false), &["file `x` is stated twice"]);
    says(Bench::new().service("a").file("x", "", false).file("x", "", true), &[]);
    let bench = Bench::new().service("a").file("x", "", false).file("x/y", "", false);
    says(bench, &["`objects/a/x/y` stands below `objects/a/x`, which is a file"]);
}

#[test]
fn ports_overlap_by_address_and_protocol() {
    let two = |a, b| Bench::new().service("a").port(80, a).service("b").port(80, b);
    says(two("127.0.0.1", "10.0.0.1"), &[]);
    says(two("::", "10.0.0.1"), &["two claims on port 80/tcp"]);
    let publishes = |service| {
        let bench = Bench::new().service("a").port(80, "0.0.0.0").service(service);
        bench.container("x.container", &[("Container", "PublishPort", "127.0.0.1:80:8080")])
    };
    says(publishes("b"), &["two claims on port 80/tcp"]);
    let same = Bench::new().service("a").port(80, "0.0.0.0");
    says(same.container("x.container", &[("Container", "PublishPort", "80:8080/tcp")]), &[]);
    let socket = Bench::new().service("a").port(80, "0.0.0.0").service("b").runs("x.service", &[]);
    says(socket.unit("x.socket", &[("Socket", "ListenStream", "[::]:80")]), &["two claims on port 80/tcp"]);
}

#[test]
fn sites_and_images_have_one_name_each() {
    let bench = Bench::new().service("a").site("a.example.org").service("b").site("a.example.org");
    says(bench, &["two sites have the host name `a.example.org`"]);
    let bench = Bench::new().service("a").image("x").service("b").image("x");
    says(bench, &["two images have the name `x`"]);
}

#[test]
fn tokens_name_what_is_declared() {
    let bench = Bench::new()
        .service("a")
        .user("app", &[], None)
        .file("x.conf", "@rick(uid:app)@rick(gid:app)@rick(object:a)", false)
        .file("y.conf", "@rick(uid:ap)@rick(object:b)@rick(uid", true)
        .file("z.conf", "@rick(uid:ap)@rick(object:b)", true)
        .runs(
            "a.service",
            &[("Service", "ExecReload", "@rick(object:b)/x"), ("Service", "Nice", "@rick(gid:nobody)")],
        );
    says(
        bench,
        &[
            "in file `y.conf`: `@rick(` is never closed",
            "in file `z.conf`: the number of the user `ap` is asked for, and no service declares it",
            "in file `z.conf`: the service `b` has no configuration directory in the store",
            "the service `b` has no configuration directory in the store",
            "the number of the group `nobody` is asked for, and no service declares it",
        ],
    );
}
