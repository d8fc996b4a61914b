//! Units: keys, names, rules, references, order.

use super::super::super::item::{Body, Handling, Noun, Os, Unit, UnitBody};
use super::super::super::lock::Lock;
use super::super::check;
use super::bench::{Bench, a_quadlet, a_unit, says};
use crate::bundle::manifest::OnChange;

fn one(entries: &[(&str, &str, &str)]) -> Bench {
    Bench::new().service("a").runs("a.service", entries)
}

#[test]
fn sections_belong_to_the_kind() {
    says(one(&[("Socket", "ListenStream", "1")]), &["unknown section `[Socket]` in `a.service`"]);
    says(one(&[("X-Mine", "Anything", "1")]), &[]);
    let outcome = one(&[("Instal", "WantedBy", "multi-user.target")]).check();
    assert!(outcome.text.contains("did you mean `Install`?"), "{}", outcome.text);
    let outcome = one(&[("Unit", "MemoryMax", "1G")]).check();
    assert!(outcome.text.contains("help: move it to `[Service]`"), "{}", outcome.text);
}

#[test]
fn keys_have_versions() {
    let newer = || one(&[("Service", "RefreshOnReload", "yes")]);
    says(newer(), &["`RefreshOnReload=` came with systemd 260, and debian-13 has 257"]);
    says(newer().os(Os::Arch), &[]);
    let gone = || one(&[("Service", "CPUAccounting", "yes")]);
    says(gone(), &[]);
    says(
        gone().os(Os::Debian14),
        &["`CPUAccounting=` does nothing any more: systemd 262 lacks it, and debian-14 has 262"],
    );
}

#[test]
fn values_stay_one_line() {
    let bench = one(&[
        ("Unit", "Description", "a\nExecStart=/bin/evil"),
        ("Unit", "Documentation", "a\0"),
        ("Unit", "X-A", "b\\"),
        ("Unit", "X-\n", "b"),
    ]);
    says(
        bench,
        &[
            "`Description` of `a.service` has a line break in its value",
            "`Documentation` of `a.service` has a control character in its value",
            "`X-A` of `a.service` has a value that ends in a backslash, which would swallow the next line",
            "`X-\\n` of `a.service` has a key that is more than a word",
        ],
    );
}

#[test]
fn files_and_pasted_texts_are_checked_where_they_stand() {
    let text = "[Unit]\nDescription=x\n\n[Service]\nExecStart=/bin/x\nUser=ghost\nnonsense\n";
    let outcome = Bench::new().service("a").unit_file("a.service", text).check();
    let expected = "\
error: `a.service` names the user `ghost`, and no service declares it
 --> modules/a.service:6:6
  |
6 | User=ghost
  |      ^^^^^ unknown user
  |
 ::: environments/test.star:2:1
  |
2 | a()
  | --- asked for by `a` here
  |
  = help: declare it with `user(\"ghost\")`; one that the host already has is kept as it is
";
    assert!(outcome.text.starts_with(expected), "{}", outcome.text);
    assert!(outcome.text.contains("7 | nonsense\n  | ^^^^^^^^"), "{}", outcome.text);
    let outcome = Bench::new().service("a").unit_text("a.service", text).check();
    assert!(outcome.text.contains("note: in line 6 of the text"), "{}", outcome.text);
    assert!(outcome.text.contains("text = TEXT"), "{}", outcome.text);
}

#[test]
fn a_unit_has_one_claim() {
    let bench = one(&[]).service("b").runs("a.service", &[]);
    says(bench, &["unit `a.service` is stated twice"]);
    says(one(&[]).container("a.container", &[]), &["unit `a.service` is stated twice"]);
    let drop_ins = Bench::new().service("a").drop_in("x.service", &[]).service("b").drop_in("x.service", &[]);
    says(drop_ins, &["drop-in `x.service.d/rick.conf` is stated twice"]);
    says(one(&[]).service("b").drop_in("a.service", &[]), &[]);
    let bench = Bench::new().service("a").runs("systemd-resolved.service", &[]);
    says(bench, &["`systemd-resolved.service` would stand in the place of a unit that the host has already"]);
}

#[test]
fn reloads_need_files_that_stay() {
    let unit = |file: &str| {
        Noun::Unit(Unit { reload_on: vec![file.to_owned()], ..a_unit("a.service", UnitBody::Mask) })
    };
    let bench = |file| {
        Bench::new().service("a").file("stays", "", true).file("moves", "", false).item("unit()", unit(file))
    };
    says(bench("stays"), &[]);
    says(bench("moves"), &["`a.service` cannot reload on `moves`: the file's path changes with its content"]);
    says(bench("stay"), &["`a.service` reloads on `stay`, which is no file of `a`"]);
}

#[test]
fn what_runs_can_be_handled_as_it_is_asked() {
    let on = |change| Handling { on_change: Some(change), ..Handling::default() };
    let reload = || on(OnChange::Reload);
    says(one(&[]).handled(reload()), &["`a.service` is to reload when it changes, and does not say how"]);
    says(one(&[("Service", "ExecReload", "/bin/x")]).handled(reload()), &[]);
    says(one(&[("Service", "Type", "notify-reload")]).handled(reload()), &[]);
    says(one(&[]).handled(reload()).drop_in("a.service", &[("Service", "ExecReload", "/bin/x")]), &[]);
    says(Bench::new().service("a").drop_in("x.service", &[]).handled(reload()), &[]);
    says(
        Bench::new().service("a").container("a.container", &[]).handled(reload()),
        &["`a.service` is to reload when it changes, and does not say how"],
    );
    let timer = || one(&[]).unit("a.timer", &[("Timer", "OnCalendar", "daily")]);
    says(timer().handled(reload()), &["`a.timer` cannot reload: a timer has nothing to read again"]);
    says(timer().handled(on(OnChange::Nothing)), &[]);
    let target = |change| one(&[]).unit("a.target", &[]).handled(on(change));
    says(target(OnChange::StopStart), &["`a.target` is a target, and `on_change` is for what runs"]);
    says(target(OnChange::Restart), &[]);
}

#[test]
fn drop_ins_for_one_unit_mean_the_same_unless_the_unit_says_it() {
    let on = |change| Handling { on_change: Some(change), ..Handling::default() };
    let two = |bench: Bench| {
        let bench = bench.drop_in("a.service", &[]).handled(on(OnChange::Nothing));
        let other = UnitBody::DropIn("other".into(), Body::Sections(vec![]));
        let bench = bench.service("b").item("unit(\"a.service\")", Noun::Unit(a_unit("a.service", other)));
        bench.handled(on(OnChange::StopStart))
    };
    let disagree = ["two drop-ins for `a.service` say different things of a change of it"];
    says(two(Bench::new().service("a")), &disagree);
    says(two(one(&[])), &disagree);
    says(two(one(&[]).handled(on(OnChange::Restart))), &[]);
}

#[test]
fn ricks_own_units_are_nobody_elses() {
    let own = |name: &str| format!("`{name}` is a unit of rick itself");
    let whole = |name: &str| {
        Noun::Unit(Unit { replaces: true, ..a_unit(name, UnitBody::Whole(Body::Sections(vec![]))) })
    };
    let bench = Bench::new()
        .service("a")
        .item("unit()", whole("rick.target"))
        .item("mask()", Noun::Unit(a_unit("rick-resume.service", UnitBody::Mask)))
        .drop_in("rick-rollback.timer", &[])
        .runs("a.service", &[("Install", "Alias", "rick-rollback.service")])
        .container("rick-switch.container", &[])
        .runs("b.service", &[("Unit", "PartOf", "rick.target")]);
    let names = [
        "rick.target",
        "rick-resume.service",
        "rick-rollback.timer",
        "rick-rollback.service",
        "rick-switch.service",
    ];
    let expected = names.map(own);
    says(bench, &expected.each_ref().map(String::as_str));
}

#[test]
fn a_quadlet_takes_the_place_of_a_unit_knowingly_only() {
    let bench = || Bench::new().service("a").container("dbus.container", &[]);
    says(bench(), &["`dbus.service` would stand in the place of a unit that the host has already"]);
    let mut knowingly = bench().evaluation();
    let Noun::Quadlet(quadlet) = &mut knowingly.hosts[0].services[0].items[0].noun else { panic!() };
    quadlet.replaces = true;
    assert_eq!(check(&knowingly, &Lock::default()).findings, []);
}

#[test]
fn services_start_as_systemd_wants_it() {
    says(
        one(&[("Service", "ExecStart", "/bin/y")]),
        &["`a.service` has 2 `ExecStart=`, which needs `Type=oneshot`"],
    );
    says(one(&[("Service", "ExecStart", "/bin/y"), ("Service", "Type", "oneshot")]), &[]);
    says(one(&[("Service", "ExecStart", "/bin/y"), ("Service", "ExecStart", "")]), &[]);
    let stop = [
        ("Service", "Type", "oneshot"),
        ("Service", "RemainAfterExit", "yes"),
        ("Service", "ExecStop", "/bin/x"),
    ];
    says(Bench::new().service("a").unit("a.service", &stop), &[]);
    says(Bench::new().service("a").unit("a.service", &stop[..2]), &["`a.service` has no `ExecStart=`"]);
    says(
        one(&[("Service", "Type", "oneshot"), ("Service", "Restart", "always")]),
        &["`a.service` is a oneshot, and `Restart=always` would run it for ever"],
    );
    says(one(&[("Service", "Type", "dbus")]), &["`a.service` has `Type=dbus` without a `BusName=`"]);
}

#[test]
fn commands_start_with_a_path() {
    says(
        one(&[("Service", "ExecReload", "kill -HUP $MAINPID")]),
        &["`ExecReload=` of `a.service` leaves it to the host where `kill` is"],
    );
    says(
        one(&[("Service", "ExecReload", "-bin/x")]),
        &["`ExecReload=` of `a.service` does not start with an absolute path"],
    );
    let file = one(&[
        ("Service", "ExecStartPre", "-@rick(object:a)/x"),
        ("Service", "ExecStartPre", "+\"/bin/a b\" c"),
    ]);
    says(file.file("x", "", false), &[]);
}

#[test]
fn users_and_groups_of_units_are_declared() {
    says(
        one(&[
            ("Service", "User", "root"),
            ("Service", "Group", "1000"),
            ("Service", "SupplementaryGroups", "%i"),
        ]),
        &[],
    );
    says(one(&[("Service", "User", "any"), ("Service", "DynamicUser", "yes")]), &[]);
    let bench = one(&[("Service", "SupplementaryGroups", "clients")]).user("clients", &[], None);
    says(bench, &[]);
    let bench = one(&[("Service", "SupplementaryGroups", "root client")]).group("clients", &[], None);
    says(bench, &["`a.service` names the group `client`, and no service declares it"]);
}

#[test]
fn needed_units_are_brought_by_somebody() {
    says(
        one(&[("Unit", "Requires", "b.service")]),
        &["`a.service` needs `b.service`, which no service of `box` brings"],
    );
    for fine in [
        "network-online.target",
        "dbus.service",
        "systemd-tmpfiles-setup.service",
        "srv-data.mount",
        "a.service",
    ] {
        says(one(&[("Unit", "BindsTo", fine)]), &[]);
    }
    says(one(&[("Unit", "Requires", "pg@17.service")]).drop_in("pg@17.service", &[]), &[]);
    says(one(&[("Unit", "Requires", "pg@17.service")]).runs("pg@.service", &[]), &[]);
    says(
        one(&[("Unit", "Requires", "n.service")])
            .container("b.container", &[("Container", "ServiceName", "n")]),
        &[],
    );
    says(one(&[("Unit", "Requires", "b-pod.service")]).quadlet("b.pod", &[("Pod", "PodName", "b")]), &[]);
}

#[test]
fn mentioned_units_are_looked_at_only_if_a_name_is_near() {
    says(one(&[("Unit", "After", "postgresql.service")]), &[]);
    let bench = one(&[("Unit", "After", "valky.service")]).runs("valkey.service", &[]);
    says(bench, &["`a.service` names `valky.service`, which no service of `box` brings"]);
    says(
        one(&[("Install", "WantedBy", "multi-usr.target")]),
        &["`a.service` names `multi-usr.target`, which no service of `box` brings"],
    );
}

#[test]
fn quadlet_files_are_no_units() {
    let native = || one(&[("Unit", "After", "b.container")]).container("b.container", &[]);
    says(native(), &["`After=` of `a.service` names the Quadlet file `b.container` in the place of a unit"]);
    let quadlet = || {
        Bench::new()
            .service("a")
            .container("a.container", &[("Unit", "After", "b.container")])
            .container("b.container", &[])
    };
    says(
        quadlet(),
        &["`After=` of `a.container` names the Quadlet file `b.container` in the place of a unit"],
    );
    says(quadlet().os(Os::Debian14), &[]);
    let outcome = native().check();
    assert!(outcome.text.contains("write `b.service`"), "{}", outcome.text);
}

#[test]
fn timers_start_something() {
    let bench = Bench::new().service("a").unit("a.timer", &[("Timer", "OnCalendar", "daily")]);
    says(bench, &["`a.timer` starts `a.service`, which no service of the host brings"]);
    says(one(&[]).unit("a.timer", &[("Timer", "OnCalendar", "daily")]), &[]);
    says(one(&[]).unit("b.timer", &[("Timer", "Unit", "a.service")]), &[]);
    says(
        one(&[]).unit("b.timer", &[("Timer", "Unit", "b.service")]),
        &["`b.timer` needs `b.service`, which no service of `box` brings"],
    );
}

#[test]
fn no_unit_waits_for_itself() {
    let bench = one(&[("Unit", "After", "b.service")])
        .runs("b.service", &[("Unit", "After", "c.service")])
        .runs("c.service", &[("Unit", "Before", "d.service"), ("Unit", "After", "a.service")]);
    says(
        bench,
        &[
            "these units wait for each other: `a.service` after `b.service` after `c.service` after `a.service`",
        ],
    );
    says(one(&[("Unit", "After", "b.service")]).runs("b.service", &[]), &[]);
    let pod = Bench::new()
        .service("a")
        .quadlet("p.pod", &[("Unit", "After", "c.service")])
        .container("c.container", &[("Container", "Pod", "p.pod")]);
    says(pod, &["these units wait for each other: `c.service` after `p-pod.service` after `c.service`"]);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_checks_panic(
        name in "[a-c@.:(ü]{0,6}(\\.service|\\.timer|\\.container|\\.pod)?",
        text in "(\\[(Unit|Service|Container|Timer)\\]\n|(After|User|Volume|Image|ExecStart|Unit|PublishPort|GroupAdd)=[a-c/:.@ü(\\\\ ]{0,9}\n|[^\n]{0,9}\n){0,12}",
    ) {
        let quadlet = Noun::Quadlet(a_quadlet(&name, Body::Text(text.clone(), None)));
        let outcome = Bench::new().service("a").unit_file(&name, &text).unit_text("b.service", &text).item("q", quadlet).check();
        proptest::prop_assert!(!outcome.text.is_empty());
    }
}
