//! What services keep survives: copied, restored where it is absent, brought back with an older generation, moved to another host. On live
//! hosts, with the real restic; every byte is compared.

use crate::support::kept::{LOCAL, activate, boot, environment, everything, fill};
use crate::support::lab::is_well;
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
    println!("{told}");
    assert_eq!(directories.map(|directory| everything(&host, directory)), there);
    is_well(&host);
}
