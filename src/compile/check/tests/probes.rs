//! Probes, validations, and the programs that they run.

use super::super::super::item::{Noun, Probe, ProbeTarget, Program, Validation};
use super::bench::{Bench, says};
use crate::bundle::manifest::Check;

fn probe(target: ProbeTarget) -> Noun {
    Noun::Probe(Probe { target, timeout_s: 3 })
}

fn http(to: &str, path: &str, host: &str, status: Option<i32>) -> Bench {
    let target = ProbeTarget::Http { to: to.into(), path: path.into(), host: host.into(), status };
    Bench::new().service("a").item("probe()", probe(target))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

impl Bench {
    fn program(self, path: &str) -> Self {
        let call = format!("program(\"{path}\")");
        self.item(&call, Noun::Program(Program { path: path.into(), package: "x".into() }))
    }

    fn command(self, command: &[&str]) -> Self {
        let target = ProbeTarget::Command { command: words(command), user: None };
        self.item("probe()", probe(target))
    }
}

#[test]
fn sockets_and_addresses_can_be_asked() {
    let timeless = Noun::Probe(Probe { target: ProbeTarget::Unix("x.sock".into()), timeout_s: 0 });
    let bench = Bench::new().service("a").item("probe()", timeless);
    let tcp = |address: &str| probe(ProbeTarget::Tcp(address.into()));
    says(
        bench.item("probe()", tcp("localhost")).item("probe()", tcp("http://localhost:80")),
        &[
            "a probe with a timeout of 0 can only fail",
            "`x.sock` is not a path on a host: it is not absolute",
            "`localhost` is not an address and a port, as in `127.0.0.1:8080`",
            "`http://localhost:80` is not an address and a port, as in `127.0.0.1:8080`",
        ],
    );
}

#[test]
fn a_web_server_is_asked_for_what_can_be_said() {
    says(http("127.0.0.1:80", "/health?x=1", "cloud.example:80", Some(204)), &[]);
    says(http("/run/a.sock", "/", "localhost", None), &[]);
    says(http("[::1]:80", "/", "localhost", None), &[]);
    for to in ["127.0.0.1:80/health", "http://127.0.0.1:80", "run/a.sock", ""] {
        let message = format!(
            "`{to}` is neither an address and a port, as in `127.0.0.1:8080`, nor the absolute path of a socket"
        );
        says(http(to, "/", "localhost", None), &[&message]);
    }
    says(
        http("/run/../a.sock", "health", "a b", Some(99)),
        &[
            "`/run/../a.sock` is not a path on a host: it contains `..`",
            "`health` is nothing that a web server can be asked for",
            "`a b` cannot stand in `Host:`",
            "99 is no status of HTTP: 100 to 599 are",
        ],
    );
    says(
        http("127.0.0.1:80", "/a\r\nX: y", "a\r\nX: y", Some(70_000)),
        &[
            "`/a\\r\\nX: y` is nothing that a web server can be asked for",
            "`a\\r\\nX: y` cannot stand in `Host:`",
            "70000 is no status of HTTP: 100 to 599 are",
        ],
    );
}

#[test]
fn a_unit_is_one_that_the_host_has() {
    let bench = || Bench::new().service("a").runs("a.service", &[]).container("b.container", &[]);
    let unit = |name: &str| probe(ProbeTarget::Unit(name.into()));
    let outcome = bench().item("probe()", unit("a.service")).item("probe()", unit("b.container")).check();
    assert_eq!(outcome.text, "");
    let asked: Vec<String> = outcome.hosts[0].probes.iter().map(|probe| probe.check.to_string()).collect();
    assert_eq!(asked, ["unit a.service", "unit b.service"]);
    says(
        bench().item("probe()", unit("c.service")),
        &["the probe asks for `c.service`, which no service of `box` brings"],
    );
    says(bench().runs("t@.service", &[]).item("probe()", unit("t@x.service")), &[]);
    says(
        bench().runs("t@.service", &[]).item("probe()", unit("t@.service")),
        &["`t@.service` is a template, and never runs itself"],
    );
}

#[test]
fn a_command_runs_a_program_that_is_declared() {
    let bench = || Bench::new().service("a").program("/usr/bin/curl");
    says(bench().command(&["/usr/bin/curl", "x"]), &[]);
    says(bench().command(&["/usr/bin/env", "HOME=/tmp", "/usr/bin/curl", "x=y"]), &[]);
    says(bench().command(&["/usr/bin/crul"]), &["`/usr/bin/crul` is run, and no service declares it"]);
    says(
        bench().command(&["/usr/bin/env", "A=b", "/usr/bin/crul"]),
        &["`/usr/bin/crul` is run, and no service declares it"],
    );
    says(bench().command(&["/usr/bin/env", "A=b"]), &["`/usr/bin/env` is given no program to run"]);
    says(
        bench().command(&["/usr/bin/env", "-i", "/usr/bin/curl"]),
        &["the command does not start with an absolute path: `-i`"],
    );
    says(bench().command(&["curl"]), &["the command does not start with an absolute path: `curl`"]);
    says(
        bench().command(&["/usr/bin/curl", "a\nb", "@rick(uid:root)", "@rick(object:z)"]),
        &[
            "`a\\nb` is an argument with a control character",
            "a command is given no number of a user or group: a host has it run as it stands",
            "the service `z` has no configuration directory in the store",
        ],
    );
    let target = ProbeTarget::Command { command: words(&["/usr/bin/curl"]), user: Some("ap".into()) };
    says(
        bench().user("app", &[], None).item("probe()", probe(target)),
        &["the probe runs as the user `ap`, and no service declares it"],
    );
}

#[test]
fn files_of_services_are_named_through_the_current_generation() {
    let outcome = Bench::new()
        .service("a")
        .file("judge", "#!/bin/sh\n", false)
        .file("conf", "", true)
        .command(&["@rick(object:a)/judge", "/var/lib/rick/current/etc/a/conf"])
        .check();
    assert_eq!(outcome.text, "");
    let Check::Command { command, .. } = &outcome.hosts[0].probes[0].check else { panic!() };
    assert_eq!(*command, ["/var/lib/rick/current/objects/a/judge", "/var/lib/rick/current/etc/a/conf"]);
    let bench = Bench::new().service("a").file("judge", "", false).command(&["@rick(object:a)/jury"]);
    says(bench, &["`/var/lib/rick/current/objects/a/jury` is run, and no service declares it"]);
}

#[test]
fn a_validation_judges_files_of_its_own_service() {
    let judge = |places: &[&str]| {
        let command = words(&["/usr/bin/judge", "@rick(object:a)/conf"]);
        Noun::Validation(Validation { command, files: words(places) })
    };
    let bench = || Bench::new().service("b").file("conf", "", false).service("a").program("/usr/bin/judge");
    let outcome = bench().file("conf", "", false).item("validate()", judge(&["objects/a/conf"])).check();
    assert_eq!(outcome.text, "");
    let validation = &outcome.hosts[0].validations[0];
    assert_eq!(validation.command, ["/usr/bin/judge", "/var/lib/rick/current/objects/a/conf"]);
    assert_eq!(validation.files[0].as_str(), "objects/a/conf");
    says(
        bench().file("conf", "", false).item("validate()", judge(&["objects/b/conf", "etc/a/conf"])),
        &[
            "`objects/b/conf` is judged, and `a` does not bring it",
            "`etc/a/conf` is judged, and `a` does not bring it",
        ],
    );
}

#[test]
fn a_program_comes_from_one_package() {
    let other = Noun::Program(Program { path: "/usr/bin/x".into(), package: "y".into() });
    let bench = Bench::new().service("a").program("/usr/bin/x").item("program()", other);
    says(bench, &["`/usr/bin/x` is said to come from `x` and from `y`"]);
}
