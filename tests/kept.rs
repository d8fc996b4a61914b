//! What services keep survives: copied, restored where it is absent, brought back with an older generation, moved to another host. On live
//! hosts, with the real restic; every byte is compared.

use crate::plaintext::{encrypt, key_of};
use crate::support::kept::{LOCAL, activate, backup, boot, environment, everything, fill, restic};
use crate::support::lab::{self, is_well};
use crate::support::{require_hosts, source};

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
