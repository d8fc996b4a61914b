//! What services keep survives: copied, restored where it is absent, brought back with an older generation, moved to another host. On live
//! hosts, with the real restic; every byte is compared.

use crate::plaintext::{encrypt, key_of};
use crate::support::kept::{
    LOCAL, activate, backup, boot, environment, everything, fill, is_active, make_secret, refused, restic,
};
use crate::support::lab::{self, is_well, said};
use crate::support::{Host, require_hosts, source};

#[test]
fn what_is_absent_is_restored_before_a_service_starts() {
    require_hosts!();
    let tree = source::modules();
    environment(&tree, "one", LOCAL, "keeper()");
    let host = boot("one");
    let first = activate(&host, &tree, "one");
    assert!(!first.contains("restored"), "{first}");
    fill(&host, "keeper");
    let directories = ["/var/lib/keeper", "/srv/keeper-more"];
    let there = directories.map(|directory| everything(&host, directory));
    let told = host.ok(&["rick-activate", "backup", "keeper"]);
    assert!(told.contains("copied"), "{told}");
    is_well(&host);

    // All is gone, and the host activates what it has.
    host.sh("systemctl stop keeper; rm -rf /var/lib/keeper /srv/keeper-more/*");
    let told = host.ok(&["rick-activate", "/root/bundle.tar"]);
    assert!(told.contains("start      keeper.service"), "{told}");
    assert_eq!(directories.map(|directory| everything(&host, directory)), there);
    is_well(&host);

    // Rules forget copies, and no word between hosts.
    let one = format!("{LOCAL}, keep_last = 1, keep_daily = 0, keep_weekly = 0, keep_monthly = 0");
    environment(&tree, "one", &one, "keeper()");
    activate(&host, &tree, "one");
    for word in ["released", "taken", "reclaimed"] {
        restic(
            &host,
            &format!(
                "backup -q --host one --tag one,keeper,{word} --time '2001-01-01 00:00:00' --stdin <<<word"
            ),
        );
    }
    for _ in 0..3 {
        backup(&host, "keeper");
    }
    let left = restic(&host, "snapshots --json --tag one,keeper | jq -r '.[].tags[2]' | sort");
    let left: Vec<&str> = left.lines().collect();
    assert!(
        matches!(left[..], [generation, "reclaimed", "released", "taken"] if generation.starts_with("generation=")),
        "{left:?}"
    );
}

/// The password of the repository is a secret of the bundle, which only the host can decrypt.
#[test]
fn a_host_with_a_key_opens_its_repository_by_timer_and_by_hand() {
    require_hosts!();
    let tree = source::modules();
    let host = lab::host("lab");
    environment(&tree, "lab", LOCAL, "keeper()");
    let key = key_of(&host);
    tree.edit(
        "environments/lab.star",
        "os = \"debian-13\"",
        &format!("os = \"debian-13\", ssh_key = \"{}\"", key.trim()),
    );
    encrypt(&tree, "restic-password", "correct horse", &key);
    activate(&host, &tree, "lab");
    fill(&host, "keeper");
    let there = everything(&host, "/var/lib/keeper");
    host.ok(&["systemctl", "start", "rick-backup-keeper.service"]);
    host.ok(&["rick-activate", "backup", "keeper"]);
    assert_eq!(host.ok(&["rick-activate", "snapshots"]).lines().count(), 2);
    assert_eq!(restic(&host, "snapshots --json --tag lab,keeper | jq length").trim(), "2");
    host.sh("systemctl stop keeper; rm -rf /var/lib/keeper /srv/keeper-more/*; systemctl start keeper");
    assert_eq!(everything(&host, "/var/lib/keeper"), there);
    host.ok(&["rick-activate", "restore", "keeper", "--to", "/root/look"]);
    assert_eq!(host.sh("cat '/root/look/var/lib/keeper/d 7/7'"), host.sh("cat '/var/lib/keeper/d 7/7'"));
    is_well(&host);
}

/// Garage: one node, an empty bucket, and a key to it.
const GARAGE: &str = r#"
metadata_dir = "/root/garage/meta"
data_dir = "/root/garage/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:3901"
rpc_secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:3900"
"#;
const KEY: &str = "GK0123456789abcdef01234567";
const KEY_SECRET: &str = "89abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234567";

fn serve_a_bucket(host: &Host, garage: &str) {
    host.push(garage.as_ref(), "/usr/local/bin/garage");
    host.write("/etc/garage.toml", GARAGE);
    host.sh(&format!(
        "chmod 600 /etc/garage.toml
        systemd-run --quiet --unit=garage garage server
        for i in $(seq 600); do garage status >/dev/null 2>&1 && break; sleep 0.1; done
        garage layout assign -z here -c 1G $(garage node id -q | cut -d@ -f1)
        garage layout apply --version 1
        garage key import --yes -n lab {KEY} {KEY_SECRET}
        garage bucket create lab
        garage bucket allow --read --write lab --key lab"
    ));
}

#[test]
#[ignore = "building Garage takes ten minutes: `cargo install --locked garage`, and RICK_GARAGE with the path of the program"]
fn a_bucket_holds_what_is_kept() {
    require_hosts!();
    let garage = std::env::var("RICK_GARAGE").expect("RICK_GARAGE is the path of Garage's program");
    let tree = source::modules();
    let host = boot("one");
    serve_a_bucket(&host, &garage);
    let describe = |bucket: &str| {
        let rules = "keep_last = 1, keep_daily = 0, keep_weekly = 0, keep_monthly = 0";
        let address = format!("s3:http://127.0.0.1:3900/{bucket}");
        let backups = format!(r#"repository = "{address}", credentials = "bucket", {rules}"#);
        environment(&tree, "one", &backups, "keeper()");
    };
    let credentials = |secret: &str| {
        let region = "AWS_DEFAULT_REGION=garage";
        let value = format!("AWS_ACCESS_KEY_ID={KEY}\nAWS_SECRET_ACCESS_KEY={secret}\n{region}\n");
        host.sh("rm -f /etc/credstore.encrypted/bucket");
        make_secret(&host, "bucket", &value);
    };

    // Who is not let in does not begin with nothing.
    credentials(&"0".repeat(64));
    describe("lab");
    host.push(&tree.bundle("one"), "/root/bundle.tar");
    let told = refused(&host, "rick-activate --settle=0 /root/bundle.tar");
    assert!(told.contains("Fatal: unable to open config file: Stat: Access Denied."), "{told}");
    assert!(!told.contains("message_type") && !is_active(&host, "keeper.service"), "{told}");

    // A bucket that is not there may not be made with this key.
    credentials(KEY_SECRET);
    describe("other");
    activate(&host, &tree, "one");
    fill(&host, "keeper");
    let told = refused(&host, "rick-activate backup keeper");
    assert!(told.contains("is not allowed to create buckets"), "{told}");

    describe("lab");
    activate(&host, &tree, "one");
    let directories = ["/var/lib/keeper", "/srv/keeper-more"];
    let there = directories.map(|directory| everything(&host, directory));
    host.ok(&["rick-activate", "backup", "keeper"]);
    host.ok(&["systemctl", "start", "rick-backup-keeper.service", "rick-check-backups.service"]);
    assert_eq!(host.ok(&["rick-activate", "snapshots", "keeper"]).lines().count(), 1, "one is kept");
    host.sh("systemctl stop keeper; rm -rf /var/lib/keeper /srv/keeper-more/*; systemctl start keeper");
    assert_eq!(directories.map(|directory| everything(&host, directory)), there);

    // It is away for a moment, which is waited for.
    host.sh("systemctl stop garage; systemd-run --quiet --unit=later sh -c 'sleep 4; exec garage server'");
    let output = host.run(&["rick-activate", "backup", "keeper"]);
    assert!(output.status.success() && said(&output).contains(", retrying after "), "{}", said(&output));
    is_well(&host);
}
