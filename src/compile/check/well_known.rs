//! Units that every systemd host has: systemd's own, and those that stand for a boot's stages.

/// From systemd.special(7) and what every boot starts.
pub(super) const NAMES: [&str; 57] = [
    "-.mount",
    "-.slice",
    "basic.target",
    "bluetooth.target",
    "boot-complete.target",
    "cryptsetup.target",
    "ctrl-alt-del.target",
    "dbus.service",
    "dbus.socket",
    "default.target",
    "emergency.target",
    "exit.target",
    "final.target",
    "first-boot-complete.target",
    "getty-pre.target",
    "getty.target",
    "graphical.target",
    "halt.target",
    "init.scope",
    "initrd.target",
    "integritysetup.target",
    "kexec.target",
    "local-fs-pre.target",
    "local-fs.target",
    "machine.slice",
    "machines.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "nss-lookup.target",
    "nss-user-lookup.target",
    "paths.target",
    "poweroff.target",
    "printer.target",
    "reboot.target",
    "remote-cryptsetup.target",
    "remote-fs-pre.target",
    "remote-fs.target",
    "rescue.target",
    "rpcbind.target",
    "shutdown.target",
    "sleep.target",
    "slices.target",
    "smartcard.target",
    "sockets.target",
    "sound.target",
    "ssh-access.target",
    "suspend.target",
    "swap.target",
    "sysinit.target",
    "system.slice",
    "time-set.target",
    "time-sync.target",
    "timers.target",
    "umount.target",
    "user.slice",
];

/// The units that rick brings itself: what it runs hangs on the target, and switches that go on without it on the others.
const RICKS_OWN: [&str; 5] = [
    "rick.target",
    "rick-resume.service",
    "rick-rollback.service",
    "rick-rollback.timer",
    "rick-switch.service",
];

/// A unit that rick brings itself.
pub(super) fn is_ricks_own(name: &str) -> bool {
    RICKS_OWN.contains(&name)
}

/// A unit that every host has, or that rick brings itself.
pub(super) fn is_well_known(name: &str) -> bool {
    NAMES.contains(&name)
        || is_ricks_own(name)
        || (name.starts_with("systemd-") && !name.ends_with(".target"))
        || ["getty@", "serial-getty@", "user@", "user-runtime-dir@", "modprobe@"]
            .iter()
            .any(|template| name.starts_with(template))
}

/// A unit that exists without a file: systemd makes it of mounts, hardware and processes.
pub(super) fn is_made_at_run_time(name: &str) -> bool {
    [".device", ".mount", ".automount", ".swap", ".scope", ".slice"].iter().any(|kind| name.ends_with(kind))
}
