//! Quadlet files.

use super::super::super::host::Architecture;
use super::super::super::item::{Base, BaseKind, Image, Noun, Os};
use super::super::super::lock::Lock;
use super::super::super::source::{SourcePath, Span};
use super::bench::{Bench, an_image, says};
use crate::bundle::digest::Digest;

fn one(entries: &[(&str, &str, &str)]) -> Bench {
    Bench::new().service("a").container("a.container", entries)
}

#[test]
fn kinds_and_names_are_quadlets() {
    let bench = Bench::new().service("a").quadlet("a.containr", &[]).quadlet("x/a.pod", &[]);
    says(
        bench,
        &[
            "`a.containr` is not a Quadlet file: `containr` is no kind of Quadlet",
            "`x/a.pod` is not a Quadlet file: its name holds a `/`",
        ],
    );
    says(one(&[]).container("a.container", &[]), &["Quadlet `a.container` is stated twice"]);
    says(
        one(&[]).container("b.container", &[("Container", "ServiceName", "a")]),
        &["unit `a.service` is stated twice"],
    );
}

#[test]
fn keys_have_versions() {
    says(one(&[("Container", "Memory", "1G")]), &["`Memory=` came with Podman 5.5, and debian-13 has 5.4"]);
    says(one(&[("Container", "Memory", "1G")]).os(Os::Debian14), &[]);
    says(
        one(&[("Container", "Voulme", "/a:/a")]),
        &["unknown key `Voulme` in `[Container]` of `a.container`"],
    );
    says(one(&[("Service", "Restart", "always"), ("Quadlet", "DefaultDependencies", "no")]), &[]);
    says(one(&[("Pod", "PodName", "a")]), &["unknown section `[Pod]` in `a.container`"]);
}

#[test]
fn what_quadlet_would_not_do_is_refused() {
    let bench = one(&[("Service", "User", "ghost"), ("Service", "DynamicUser", "no")]);
    says(
        bench,
        &[
            "`User=` stands in `[Service]` of `a.container`, where it would run podman itself as that user",
            "`DynamicUser=` stands in `[Service]` of `a.container`, where it would run podman itself as that user",
        ],
    );
    says(
        one(&[("Install", "UpheldBy", "multi-user.target")]),
        &["`UpheldBy=` in Quadlets came with Podman 5.5, and debian-13 has 5.4"],
    );
    let bench = Bench::new().service("a").quadlet("a.pod", &[("Service", "Restart", "always")]);
    says(bench, &["`Restart=` of `a.pod` would be thrown away: Quadlet always writes `on-failure` for pods"]);
}

#[test]
fn paths_are_absolute() {
    for (key, value) in [
        ("Volume", "./data:/data"),
        ("Volume", "data/x:/data"),
        ("EnvironmentFile", "env"),
        ("Mount", "type=bind,source=./x,target=/x"),
    ] {
        let path = value.split(':').next().unwrap().trim_start_matches("type=bind,source=");
        let path = path.split(',').next().unwrap();
        let message = format!("`{key}=` of `a.container` has the relative path `{path}`");
        says(one(&[("Container", key, value)]), &[&message]);
    }
    let fine = one(&[
        ("Container", "Volume", "/srv/a:/a:ro"),
        ("Container", "Volume", "named:/b"),
        ("Container", "Volume", "@rick(object:a)/env:/env:ro"),
        ("Container", "EnvironmentFile", "@rick(object:a)/env"),
    ]);
    says(fine.file("env", "", false), &[]);
}

#[test]
fn what_a_container_writes_is_somebodys_state() {
    let warning = "`a.container` can write to `/srv/a`, which is nobody's state";
    for (key, value) in [
        ("Volume", "/srv/a:/a"),
        ("Volume", "/srv/a:/a:rw,Z"),
        ("Mount", "type=bind,src=/srv/a,target=/a"),
        ("Mount", "type=bind,source=/srv/a,target=/a,ro=false"),
    ] {
        says(one(&[("Container", key, value)]), &[warning]);
        says(one(&[("Container", key, value)]).state("/srv/a", "root", "root"), &[]);
    }
    for (key, value) in [
        ("Volume", "/srv/a:/a:ro"),
        ("Volume", "/run/a:/a"),
        ("Mount", "type=bind,src=/srv/a,target=/a,readonly"),
        ("Mount", "type=tmpfs,target=/srv/a"),
    ] {
        says(one(&[("Container", key, value)]), &[]);
    }
}

#[test]
fn references_resolve() {
    let bench = one(&[
        ("Container", "Pod", "p.pod"),
        ("Container", "Network", "n.network"),
        ("Container", "Volume", "v.volume:/v"),
        ("Container", "Image", "i.image"),
    ]);
    says(
        bench,
        &[
            "`a.container` names `p.pod`, which no service of the host states",
            "`a.container` names `n.network`, which no service of the host states",
            "`a.container` names `v.volume`, which no service of the host states",
            "`a.container` names `i.image`, which no service of the host states",
        ],
    );
    let fine = one(&[("Container", "Network", "host"), ("Container", "Network", "n.network:ip=10.0.0.2")]);
    says(fine.quadlet("n.network", &[("Network", "Driver", "bridge")]), &[]);
}

#[test]
fn images_are_built_or_have_a_whole_name() {
    says(one(&[("Container", "Image", "nginx:1")]), &["`nginx:1` is no whole name of an image"]);
    says(
        one(&[("Container", "Image", "localhost/whoam")]).image("whoami"),
        &["`a.container` runs `localhost/whoam`, which no service of the host builds"],
    );
    says(one(&[("Container", "Image", "localhost/whoami")]).image("whoami"), &[]);
    let bench = Bench::new().service("a").quadlet("a.container", &[("Container", "User", "1")]);
    says(bench, &["`a.container` has no `Image=`"]);
}

#[test]
fn the_lock_pins_what_names_no_digest() {
    let digest = Digest::of(b"index");
    let lock = format!("version = 1\n[images]\n\"docker.io/library/nginx:1\" = \"{digest}\"\n");
    let placed = format!("docker.io/library/nginx@{digest}");
    let number = digest.hex();
    let cases = [
        ("docker.io/library/nginx:1", Some(digest), true),
        ("docker.io/library/nginx:2", None, false),
        (&placed, None, true),
        (&number, None, true),
    ];
    for (image, pinned, known) in cases {
        let bench = one(&[("Container", "Image", image)]).lock(&lock);
        let (outcome, lock) = (bench.check(), Lock::parse(&lock).0);
        assert_eq!(outcome.hosts[0].quadlets[0].pinned, pinned, "{image}");
        assert!(outcome.wanted.iter().all(|wanted| lock.knows(&wanted.outside) == known), "{image}");
        // Hosts fetch what they run themselves.
        assert!(outcome.wanted.iter().all(|wanted| wanted.built_for.is_empty()), "{image}");
    }
    let bench =
        Bench::new().service("a").quadlet("a.image", &[("Image", "Image", "docker.io/library/nginx:1")]);
    assert_eq!(bench.lock(&lock).check().hosts[0].quadlets[0].pinned, Some(digest));
}

#[test]
fn what_images_stand_on_is_wanted_with_its_bytes() {
    let call = "image(\"a\", base = upstream(\"docker.io/library/debian:13\"))";
    let image = |platform: &str| {
        let kind = BaseKind::Upstream("docker.io/library/debian:13".into());
        let base = Base { kind, span: Span::start_of(&SourcePath("modules/a.star".into())) };
        let image = Image { base: Some(base), platform: platform.into(), ..an_image("a") };
        Bench::new().service("a").item(call, Noun::Image(Box::new(image))).check()
    };
    let outcome = image("linux/amd64");
    let wanted = &outcome.wanted[0];
    assert_eq!(wanted.built_for, [Architecture::Amd64]);
    assert_eq!(wanted.missing.message, "`docker.io/library/debian:13` is not in rick.lock");
    assert_eq!(wanted.missing.help, ["run `rickbuild lock`"]);
    assert_eq!(image("linux/arm64").wanted[0].built_for, [Architecture::Amd64, Architecture::Arm64]);
}

#[test]
fn root_inside_is_told() {
    let image = format!("docker.io/library/x@sha256:{}", "0".repeat(64));
    let bench = Bench::new().service("a").quadlet("a.container", &[("Container", "Image", &image)]);
    let outcome = bench.check();
    assert!(
        outcome.text.starts_with("warning: `a.container` runs as root inside the container"),
        "{}",
        outcome.text
    );
    assert!(outcome.text.ends_with("\nwarning: 1 warning\n"), "{}", outcome.text);
    says(
        one(&[("Container", "User", "")]),
        &["`User=` of `a.container` is empty, and the container would run as root"],
    );
    says(
        one(&[("Container", "User", "${APP}")]),
        &["`User=` of `a.container` is a variable, and an unset one means root"],
    );
    let bench = one(&[("Container", "GroupAdd", "clients")]).group("clients", &[], None);
    says(bench, &["`GroupAdd=clients` of `a.container` is looked up inside the image, not on the host"]);
}

#[test]
fn an_image_can_say_who_its_containers_run_as() {
    let says_of = |user: Option<&str>| {
        let mut image = an_image("app");
        image.user = user.map(str::to_owned);
        let bench = Bench::new().service("a").item("image(\"app\")", Noun::Image(Box::new(image)));
        bench.quadlet("a.container", &[("Container", "Image", "localhost/app")]).check().findings.len()
    };
    for root in [None, Some("0"), Some("root"), Some("00:1000")] {
        assert_eq!(says_of(root), 1, "{root:?}");
    }
    for other in ["1000", "1000:0", "app"] {
        assert_eq!(says_of(Some(other)), 0, "{other}");
    }
}

#[test]
fn an_image_for_other_processors_does_not_run_here() {
    let of = |platform: &str| {
        let image = Image { platform: platform.into(), ..an_image("app") };
        let bench = one(&[("Container", "Image", "localhost/app")]);
        bench.item("image(\"app\")", Noun::Image(Box::new(image)))
    };
    says(of("linux/amd64"), &[]);
    says(
        of("linux/arm64"),
        &["`a.container` runs `localhost/app`, an image for linux/arm64, which this host cannot run"],
    );
    says(of("linux/riscv64"), &["`linux/riscv64` is no platform that rick knows"]);
}

#[test]
fn stop_signals_are_those_of_linux() {
    let of = |signal: &str| {
        let image = Image { stop_signal: Some(signal.into()), ..an_image("app") };
        Bench::new().service("a").item("image(\"app\")", Noun::Image(Box::new(image))).check().findings.len()
    };
    for right in ["SIGTERM", "SIGRTMIN", "SIGRTMIN+3", "SIGRTMAX-15", "SIGRTMAX", "1", "64"] {
        assert_eq!(of(right), 0, "{right}");
    }
    for wrong in
        ["", "TERM", "sigterm", "0", "65", "SIGRTMIN-1", "SIGRTMAX+1", "SIGRTMIN+16", "SIGRTMIN+", "SIGFOO"]
    {
        assert_eq!(of(wrong), 1, "{wrong}");
    }
}

#[test]
fn a_mounted_socket_directory_needs_its_group() {
    let bench = |mode, more: &[(&str, &str, &str)]| {
        let entries: Vec<_> =
            more.iter().copied().chain([("Container", "Volume", "/run/pg/sub:/run/pg")]).collect();
        one(&entries)
            .user("postgres", &[], None)
            .group("clients", &[], Some(990))
            .directory("/run/pg", mode, "postgres", "clients")
    };
    let message = "`a.container` mounts `/run/pg`, and has not joined the group `clients` that it belongs to";
    says(bench(0o2750, &[]), &[message]);
    says(bench(0o2755, &[]), &[]);
    for joined in [
        ("Container", "GroupAdd", "@rick(gid:clients)"),
        ("Container", "Group", "@rick(gid:clients)"),
        ("Container", "GroupAdd", "990"),
        ("Container", "User", "@rick(uid:postgres)"),
        ("Container", "User", "0"),
    ] {
        says(bench(0o2750, &[joined]), &[]);
    }
}

#[test]
fn mounts_stay_what_they_are() {
    let mounts = |path: &str| one(&[("Container", "Volume", &format!("{path}:/x"))]);
    says(
        mounts("/var/lib/rick/current/etc/a/x"),
        &[
            "`a.container` mounts `/var/lib/rick/current/etc/a/x`, and would go on seeing the generation it started with",
        ],
    );
    let server = |more: &[(&str, &str, &str)]| {
        let entries: Vec<_> =
            [("Service", "RuntimeDirectory", "pg other")].iter().chain(more).copied().collect();
        mounts("/run/pg").runs("pg.service", &entries)
    };
    says(
        server(&[]),
        &["`a.container` mounts `/run/pg`, which `pg.service` makes anew whenever it restarts"],
    );
    says(server(&[("Service", "RuntimeDirectoryPreserve", "restart")]), &[]);
    says(
        mounts("/run/postgresq").directory("/run/postgresql", 0o755, "root", "root"),
        &["`a.container` mounts `/run/postgresq`, which no service of the host makes"],
    );
    says(mounts("/run/other").directory("/run/postgresql", 0o755, "root", "root"), &[]);
}
