use std::collections::BTreeSet;

use super::*;
use crate::bundle::manifest::{FileEntry, OnChange, Role, UnitEntry, Validation};
use crate::bundle::names::{AccountName, HostPath};
use crate::compile::host::{Directory, File, Group, Quadlet, Unit, UnitBody, User};
use crate::compile::ini;
use crate::compile::item::{Handling, Os, Sections};
use crate::compile::source::SourcePath;

fn sections(text: &str) -> Sections {
    ini::sections(text)
}

fn unit(service: &str, name: &str, body: UnitBody) -> Unit {
    Unit {
        service: service.parse().unwrap(),
        name: name.parse().unwrap(),
        body,
        reload_on: vec![],
        replaces: false,
        follows: false,
        handling: Handling::default(),
    }
}

pub(super) fn whole(service: &str, name: &str, text: &str) -> Unit {
    unit(service, name, UnitBody::Whole(sections(text)))
}

pub(super) fn drop_in(service: &str, name: &str, stem: &str, text: &str) -> Unit {
    unit(service, name, UnitBody::DropIn(stem.parse().unwrap(), sections(text)))
}

pub(super) fn quadlet(name: &str, unit: &str, text: &str) -> Quadlet {
    Quadlet {
        service: "whoami".parse().unwrap(),
        name: name.parse().unwrap(),
        unit: unit.parse().unwrap(),
        sections: sections(text),
        pinned: None,
        replaces: false,
        handling: Handling::default(),
    }
}

fn text_file(text: &str) -> File {
    File { content: Source::Text(text.to_owned()), executable: false }
}

fn account(name: &str) -> AccountName {
    name.parse().unwrap()
}

pub(super) fn empty() -> Host {
    Host {
        environment: "homelab".parse().unwrap(),
        name: "arch-vps".parse().unwrap(),
        os: Os::Debian13,
        ssh_key: None,
        groups: BTreeMap::new(),
        users: BTreeMap::new(),
        directories: BTreeMap::new(),
        files: BTreeMap::new(),
        units: vec![],
        type_drop_ins: vec![],
        quadlets: vec![],
        images: BTreeMap::new(),
        embedded: BTreeMap::new(),
        probes: vec![],
        validations: vec![],
        programs: BTreeMap::new(),
        secrets: BTreeMap::new(),
        states: BTreeMap::new(),
        dumps: Vec::new(),
        at_rest: BTreeSet::new(),
        repositories: BTreeMap::new(),
        moved: BTreeMap::new(),
    }
}

fn with_units(units: Vec<Unit>) -> Host {
    Host { units, ..empty() }
}

fn user(description: &str) -> User {
    User { id: None, description: description.to_owned(), home: "/nonexistent".parse().unwrap() }
}

fn lowered(host: &Host) -> Lowered {
    lower(host, &Payloads::default(), &BTreeMap::new()).unwrap()
}

fn messages(host: &Host) -> Vec<String> {
    let findings = lower(host, &Payloads::default(), &BTreeMap::new()).unwrap_err();
    findings.into_iter().map(|finding| finding.message).collect()
}

impl Lowered {
    fn text(&self, path: &str) -> &str {
        match &self.files[path] {
            Content::Text(text) => text,
            Content::Payload(_) => panic!("{path} is a payload"),
        }
    }

    fn entry(&self, path: &str) -> &FileEntry {
        &self.manifest.files[path]
    }

    fn unit(&self, name: &str) -> &UnitEntry {
        self.manifest.units.iter().find(|unit| unit.name.as_str() == name).unwrap()
    }

    fn link(&self, path: &str) -> &str {
        &self.manifest.links[path]
    }

    fn order(&self) -> Vec<&str> {
        self.manifest.units.iter().map(|unit| unit.name.as_str()).collect()
    }
}

fn paths(paths: &[&str]) -> Vec<BundlePath> {
    paths.iter().map(|path| path.parse().unwrap()).collect()
}

const WANTED: &str = "[Install]\nWantedBy=multi-user.target\n";

#[test]
fn an_empty_host_has_accounts_directories_and_the_target() {
    let lowered = lowered(&empty());
    assert_eq!(
        lowered.files.keys().map(BundlePath::as_str).collect::<Vec<_>>(),
        ["sysusers.conf", "tmpfiles.conf", "units/rick.target"]
    );
    assert_eq!(
        lowered.text("units/rick.target"),
        "# rick: environment homelab, host arch-vps\n\n[Unit]\nDescription=rick: environment homelab on arch-vps\n"
    );
    assert_eq!(lowered.link("units/multi-user.target.wants/rick.target"), "../rick.target");
    assert_eq!(lowered.order(), ["rick.target"]);
}

#[test]
fn a_wanted_unit_is_run_and_linked_and_keeps_its_text() {
    let text = format!("[Unit]\nDescription=A\n{WANTED}Alias=other.service\n");
    let lowered = lowered(&with_units(vec![
        whole("app", "a.service", &text),
        whole("app", "job.service", "[Service]\nExecStart=/bin/true"),
        whole("app", "job.timer", "[Timer]\nOnCalendar=daily\n[Install]\nWantedBy=timers.target"),
    ]));
    assert_eq!(
        lowered.text("units/a.service"),
        "# rick: service app of environment homelab\n\n[Unit]\nDescription=A\n\n\
         [Install]\nWantedBy=multi-user.target\nAlias=other.service\n"
    );
    assert_eq!(lowered.link("units/multi-user.target.wants/a.service"), "../a.service");
    assert_eq!(lowered.link("units/timers.target.wants/job.timer"), "../job.timer");
    assert_eq!(lowered.link("units/other.service"), "a.service");
    assert_eq!(lowered.unit("a.service").role, Role::Run);
    assert_eq!(lowered.unit("a.service").restart_on, paths(&["units/a.service"]));
    assert_eq!(lowered.unit("job.service").role, Role::Follow);
    assert_eq!(lowered.unit("job.timer").role, Role::Run);
    assert_eq!(lowered.order(), ["a.service", "job.timer", "job.service", "rick.target"]);
    let target = lowered.text("units/rick.target");
    assert!(target.ends_with("on arch-vps\nWants=a.service\nWants=job.timer\n"), "{target}");
}

#[test]
fn a_drop_in_alone_runs_the_unit_of_the_distribution() {
    let mut reloading = drop_in("caddy", "caddy.service", "rick", "[Service]\nUMask=0007");
    reloading.reload_on = paths(&["etc/caddy/Caddyfile", "etc/caddy/sites"]);
    let mut host =
        with_units(vec![reloading, drop_in("other", "caddy.service", "more", "[Unit]\nAfter=a.service")]);
    for path in ["etc/caddy/Caddyfile", "etc/caddy/sites/a", "etc/caddy/sites/b"] {
        host.files.insert(path.parse().unwrap(), text_file("x"));
    }
    let lowered = lowered(&host);
    let entry = lowered.unit("caddy.service");
    assert_eq!(entry.role, Role::Run);
    assert_eq!(
        entry.restart_on,
        paths(&["units/caddy.service.d/more.conf", "units/caddy.service.d/rick.conf"])
    );
    assert_eq!(entry.reload_on, paths(&["etc/caddy/Caddyfile", "etc/caddy/sites/a", "etc/caddy/sites/b"]));
    assert!(lowered.text("units/rick.target").contains("Wants=caddy.service\n"));
}

#[test]
fn a_drop_in_of_an_own_unit_belongs_to_its_restart_key() {
    let lowered = lowered(&with_units(vec![
        drop_in("b", "a.service", "limits", "[Service]\nLimitNOFILE=1"),
        whole("a", "a.service", "[Service]\nExecStart=/bin/true"),
    ]));
    let entry = lowered.unit("a.service");
    assert_eq!((entry.service.as_str(), entry.role), ("a", Role::Follow));
    assert_eq!(entry.restart_on, paths(&["units/a.service", "units/a.service.d/limits.conf"]));
}

#[test]
fn a_mask_is_a_link_and_has_no_keys() {
    let lowered = lowered(&with_units(vec![
        unit("valkey", "redis.service", UnitBody::Mask),
        unit("other", "redis.service", UnitBody::Mask),
    ]));
    assert_eq!(lowered.link("units/redis.service"), "/dev/null");
    let entry = lowered.unit("redis.service");
    assert_eq!((entry.role, entry.restart_on.len()), (Role::Mask, 0));
    assert!(!lowered.text("units/rick.target").contains("Wants="));
}

#[test]
fn how_a_unit_is_handled_is_said_by_who_defines_it_and_then_by_who_adds_to_it() {
    let nothing = Handling { on_change: Some(OnChange::Nothing), optional: true, barrier: false };
    let slow = Handling { on_change: Some(OnChange::StopStart), optional: false, barrier: true };
    let plain = Handling::default();
    let units = [
        (whole("a", "a.service", "[Service]"), slow),
        (drop_in("b", "a.service", "x", "[Service]"), nothing),
        (whole("a", "b.service", "[Service]"), plain),
        (drop_in("b", "b.service", "x", "[Service]"), nothing),
        (drop_in("b", "c.service", "x", "[Service]"), plain),
    ];
    let units = units.map(|(unit, handling)| Unit { handling, ..unit });
    let replacing = Unit { replaces: true, ..whole("a", "d.service", "[Service]") };
    let mut host = with_units(units.into_iter().chain([replacing]).collect());
    host.quadlets = vec![Quadlet { handling: slow, ..quadlet("q.container", "q.service", "[Container]") }];
    let lowered = lowered(&host);
    let said = |name: &str| {
        let unit = lowered.unit(name);
        (unit.on_change, unit.optional, unit.barrier, unit.replaces)
    };
    assert_eq!(said("a.service"), (OnChange::StopStart, true, true, false));
    assert_eq!(said("b.service"), (OnChange::Nothing, true, false, false));
    assert_eq!(said("c.service"), (OnChange::Restart, false, false, true));
    assert_eq!(said("d.service"), (OnChange::Restart, false, false, true));
    assert_eq!(said("q.service"), (OnChange::StopStart, false, true, false));
}

#[test]
fn templates_run_as_their_instances_and_are_followed() {
    let lowered = lowered(&with_units(vec![
        whole("a", "a@.service", "[Install]\nDefaultInstance=one\nWantedBy=x.target"),
        drop_in("a", "a@two.service", "extra", "[Unit]\nAfter=b.service"),
        whole("a", "b@.service", WANTED),
        drop_in("pg", "postgresql@.service", "all", "[Service]\nUMask=0"),
        drop_in("pg", "postgresql@17-main.service", "this", "[Service]\nUMask=0"),
    ]));
    assert_eq!(
        lowered.order(),
        [
            "a@.service",
            "a@one.service",
            "a@two.service",
            "b@.service",
            "postgresql@.service",
            "postgresql@17-main.service",
            "rick.target"
        ]
    );
    assert_eq!(lowered.unit("b@.service").role, Role::Follow);
    assert_eq!(lowered.unit("postgresql@.service").role, Role::Follow);
    assert_eq!(lowered.link("units/x.target.wants/a@one.service"), "../a@.service");
    assert_eq!(lowered.unit("a@one.service").role, Role::Run);
    assert_eq!(lowered.unit("a@one.service").restart_on, paths(&["units/a@.service"]));
    assert_eq!(lowered.unit("a@two.service").role, Role::Follow);
    assert_eq!(
        lowered.unit("postgresql@17-main.service").restart_on,
        paths(&["units/postgresql@.service.d/all.conf", "units/postgresql@17-main.service.d/this.conf"])
    );
}

#[test]
fn changed_groups_of_a_user_change_the_units_that_run_as_it() {
    let mut host = with_units(vec![
        whole("app", "app.service", "[Service]\nUser=app\n"),
        whole("app", "other.service", "[Service]\nUser=other\n"),
        drop_in("app", "caddy.service", "rick", "[Service]\nUser=caddy\n"),
    ]);
    host.users.insert(account("app"), user(""));
    host.users.insert(account("other"), user(""));
    for (group, members) in [("web", &["app", "caddy"] as &[&str]), ("db", &["app"])] {
        let members: BTreeSet<AccountName> = members.iter().map(|name| account(name)).collect();
        host.groups.insert(account(group), Group { id: None, members });
    }
    let lowered = lowered(&host);
    assert!(
        lowered
            .text("units/app.service")
            .ends_with("\n[Unit]\nX-Rick-Groups=db web\n\n[Service]\nUser=app\n")
    );
    assert!(!lowered.text("units/other.service").contains("X-Rick-Groups"));
    assert!(lowered.text("units/caddy.service.d/rick.conf").contains("X-Rick-Groups=web\n"));
}

#[test]
fn own_images_are_named_by_digest_and_never_pulled() {
    let mut host = empty();
    host.quadlets = vec![
        quadlet(
            "whoami.container",
            "whoami.service",
            &format!("[Container]\nImage=localhost/whoami\n{WANTED}"),
        ),
        quadlet("b.container", "b.service", "[Container]\nImage=localhost/whoami\nPull=missing"),
        quadlet("c.container", "c.service", "[Container]\nImage=docker.io/library/x@sha256:00\n"),
    ];
    let digest = Digest::of(b"manifest");
    let images = BTreeMap::from([("localhost/whoami".to_owned(), digest)]);
    let lowered = lower(&host, &Payloads::default(), &images).unwrap();
    let text = lowered.text("quadlets/whoami.container");
    assert!(text.contains(&format!("Image=localhost/whoami@{digest}\nPull=never\n")), "{text}");
    assert!(lowered.text("quadlets/b.container").ends_with("Pull=missing\n"));
    assert!(lowered.text("quadlets/c.container").ends_with("Image=docker.io/library/x@sha256:00\n"));
    let reference = format!("localhost/whoami:{}", digest.short());
    assert_eq!(lowered.manifest.images, BTreeMap::from([(reference, digest)]));
    assert_eq!(lowered.unit("whoami.service").role, Role::Run);
    assert_eq!(lowered.unit("whoami.service").restart_on, paths(&["quadlets/whoami.container"]));
    // The generator makes the links of a Quadlet itself.
    assert_eq!(lowered.manifest.links.len(), 1);
}

#[test]
fn images_that_the_lock_pins_are_named_by_tag_and_digest() {
    let pinned = Some(Digest::of(b"index"));
    let mut host = empty();
    host.quadlets = vec![
        Quadlet {
            pinned,
            ..quadlet("a.container", "a.service", "[Container]\nImage=old\nImage=docker.io/library/x:1\n")
        },
        Quadlet { pinned, ..quadlet("b.image", "b-image.service", "[Image]\nImage=docker.io/library/x:1\n") },
    ];
    let lowered = lowered(&host);
    let whole = format!("Image=docker.io/library/x:1@{}\n", Digest::of(b"index"));
    let text = lowered.text("quadlets/a.container");
    assert!(text.contains(&format!("Image=old\n{whole}")) && !text.contains("Pull="), "{text}");
    assert!(lowered.text("quadlets/b.image").ends_with(&whole));
}

#[test]
fn the_order_knows_what_quadlet_adds() {
    let mut host = empty();
    host.quadlets = vec![
        quadlet("a.container", "a.service", "[Container]\nPod=z.pod\nVolume=data.volume:/data:rw"),
        quadlet(
            "b.container",
            "b.service",
            "[Unit]\nAfter=c.container\n[Container]\nNetwork=n.network:ip=10.0.0.2",
        ),
        quadlet(
            "c.container",
            "c.service",
            "[Container]\nMount=type=volume,source=data.volume,destination=/x",
        ),
        quadlet("data.volume", "data-volume.service", "[Volume]"),
        quadlet("n.network", "n-network.service", "[Network]"),
        quadlet("z.pod", "z-pod.service", "[Pod]"),
    ];
    host.units.push(drop_in("whoami", "z-pod.service", "restart", "[Service]\nRestart=always"));
    let lowered = lowered(&host);
    assert_eq!(
        lowered.order(),
        [
            "data-volume.service",
            "c.service",
            "n-network.service",
            "b.service",
            "z-pod.service",
            "a.service",
            "rick.target"
        ]
    );
    let pod = lowered.unit("z-pod.service");
    assert_eq!(pod.role, Role::Follow);
    assert_eq!(pod.restart_on, paths(&["quadlets/z.pod", "units/z-pod.service.d/restart.conf"]));
}

#[test]
fn the_order_knows_aliases() {
    let lowered = lowered(&with_units(vec![
        whole("a", "a.service", "[Unit]\nAfter=db.service"),
        whole("a", "z.service", "[Install]\nAlias=db.service"),
    ]));
    assert_eq!(lowered.order(), ["z.service", "a.service", "rick.target"]);
}

fn payload(relative: Option<&str>, executable: bool) -> PayloadFile {
    let relative = relative.map(|path| path.parse().unwrap());
    PayloadFile::of(relative, executable, b"@rick(uid:app)", "/nowhere")
}

#[test]
fn only_generated_files_have_tokens() {
    let mut host = empty();
    let source = |path: &str| Source::Payload(SourcePath(path.to_owned()));
    host.files
        .insert("etc/a/conf".parse().unwrap(), text_file("user = @rick(uid:postgres)\ngroup = @rick(gid:x)"));
    host.files.insert("etc/a/plain".parse().unwrap(), text_file("user = @example.org"));
    host.files.insert("objects/a/site".parse().unwrap(), File { content: source("site"), executable: false });
    host.files.insert("objects/a/run".parse().unwrap(), File { content: source("run"), executable: true });
    let payloads = Payloads(BTreeMap::from([
        (SourcePath("site".to_owned()), vec![payload(Some("a/x"), false), payload(Some("b"), true)]),
        (SourcePath("run".to_owned()), vec![payload(None, false)]),
    ]));
    let lowered = lower(&host, &payloads, &BTreeMap::new()).unwrap();
    assert_eq!(lowered.entry("etc/a/conf"), &FileEntry::with_tokens(0o644));
    let as_it_is =
        |mode: u32, text: &str| FileEntry::as_it_is(mode, Digest::of(text.as_bytes()), text.len() as u64);
    assert_eq!(lowered.entry("etc/a/plain"), &as_it_is(0o644, "user = @example.org"));
    assert_eq!(lowered.entry("objects/a/site/a/x"), &as_it_is(0o644, "@rick(uid:app)"));
    assert_eq!(lowered.entry("objects/a/site/b"), &as_it_is(0o755, "@rick(uid:app)"));
    assert_eq!(lowered.entry("objects/a/run"), &as_it_is(0o755, "@rick(uid:app)"));
    // What a token names is asserted on the host, even if the distribution made it.
    assert_eq!(lowered.manifest.accounts.users, BTreeMap::from([(account("postgres"), None)]));
    assert_eq!(lowered.manifest.accounts.groups, BTreeMap::from([(account("x"), None)]));
}

#[test]
fn a_validation_names_each_file_that_it_judges() {
    let mut host = empty();
    let site = Source::Payload(SourcePath("site".to_owned()));
    host.files.insert("etc/a/site".parse().unwrap(), File { content: site, executable: false });
    host.files.insert("etc/a/conf".parse().unwrap(), text_file("x"));
    host.validations = vec![Validation {
        service: "a".parse().unwrap(),
        command: vec!["/usr/bin/judge".to_owned()],
        files: paths(&["etc/a/conf", "etc/a/site"]),
    }];
    let tree = vec![payload(Some("a/x"), false), payload(Some("b"), false)];
    let payloads = Payloads(BTreeMap::from([(SourcePath("site".to_owned()), tree)]));
    let lowered = lower(&host, &payloads, &BTreeMap::new()).unwrap();
    let judged = &lowered.manifest.validations[0].files;
    assert_eq!(*judged, paths(&["etc/a/conf", "etc/a/site/a/x", "etc/a/site/b"]));
}

#[test]
fn accounts_and_directories_are_lowered() {
    let mut host = empty();
    host.users.insert(account("app"), User { id: Some(966), ..user("App") });
    host.groups.insert(
        account("db"),
        Group { id: Some(962), members: [account("app"), account("postgres")].into_iter().collect() },
    );
    let path: HostPath = "/run/x".parse().unwrap();
    host.directories.insert(path, Directory { mode: 0o2750, user: account("app"), group: account("db") });
    let lowered = lowered(&host);
    assert_eq!(
        lowered.text("sysusers.conf"),
        "# rick: environment homelab, host arch-vps\ng db 962\nu app 966 \"App\" /nonexistent /usr/sbin/nologin\n\
         m app db\nm postgres db\n"
    );
    assert!(lowered.text("tmpfiles.conf").ends_with("\nd /run/x 2750 app db -\n"));
    let accounts = lowered.manifest.accounts;
    assert_eq!(accounts.users, BTreeMap::from([(account("app"), Some(966)), (account("postgres"), None)]));
    assert_eq!(accounts.groups, BTreeMap::from([(account("app"), None), (account("db"), Some(962))]));
}

#[test]
fn what_cannot_stand_in_a_bundle_is_reported_all_at_once() {
    let mut host = with_units(vec![
        whole("a", "a.service", "[Install]\nWantedBy=nonsense"),
        whole("a", "rick.target", "[Unit]"),
        whole("a", &format!("{}.service", "x".repeat(120)), "[Unit]"),
    ]);
    host.users.insert(account("app"), user("a:b"));
    host.files.insert("etc/a".parse().unwrap(), text_file("@rick(uid:"));
    host.files.insert("etc/b".parse().unwrap(), text_file("x"));
    host.files.insert("etc/b/c".parse().unwrap(), text_file("x"));
    host.files.insert(
        "etc/c".parse().unwrap(),
        File { content: Source::Payload(SourcePath("gone".to_owned())), executable: false },
    );
    let all = messages(&host).join("\n");
    for part in [
        "`WantedBy=` in [Install] of `a.service`",
        "two files have the path `units/rick.target`",
        "more than 100 bytes",
        "description of user `app`",
        "in `etc/a`: `@rick(` is never closed",
        "`etc/b` is a file, and `etc/b/c` needs it to be a directory",
        "the payload `gone` of `etc/c` was not read",
    ] {
        assert!(all.contains(part), "{part} is not in:\n{all}");
    }
}

#[test]
fn the_order_of_statements_does_not_matter() {
    let units = vec![
        whole("a", "a.service", &format!("[Unit]\nAfter=c.service\n{WANTED}")),
        drop_in("b", "c.service", "x", "[Unit]\nBefore=b.service"),
        drop_in("b", "c.service", "y", "[Unit]\nBefore=b.service"),
        whole("b", "b.service", WANTED),
    ];
    let backwards = units.iter().rev().cloned().collect();
    assert_eq!(lowered(&with_units(units)), lowered(&with_units(backwards)));
}
