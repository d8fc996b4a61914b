# shellcheck shell=bash
# Runs one test host from boot to power-off; host.rs starts it in a mount namespace of its own.
#
# bash boot.sh TREE DIR NAME CGROUP, standard input being a pipe from the test:
#   a line      cuts the host's power
#   its end     the same, and DIR is removed: the test is over, however it ended
# Everything that the host mounts lies in this namespace or in one below it, and everything that it runs in one cgroup:
# so nothing is left when this script ends.
set -euo pipefail
umask 022
tree=$1 dir=$2 name=$3 cgroup=/sys/fs/cgroup/$4

mkdir -p "$dir"/{upper,work,root,containers}
mount -t overlay rick-test -o "lowerdir=$tree,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"

# The machine may have cgroup v1 here; systemd in the host wants v2.
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
# What systemd-nspawn notes about its machines would outlive a power cut.
mkdir -p /run/systemd/nspawn
mount -t tmpfs rick-test /run/systemd/nspawn

if [[ ! -e $dir/root/etc/hostname ]]; then
    printf '%s\n' "$name" >"$dir/root/etc/hostname"
    printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$name" >"$dir/root/etc/hosts"
    tr -d - </proc/sys/kernel/random/uuid >"$dir/root/etc/machine-id"
    # No cgroup controller is delegated to the host, so Podman may set no limit.
    mkdir -p "$dir/root/etc/containers/containers.conf.d"
    printf '[containers]\npids_limit = 0\n' >"$dir/root/etc/containers/containers.conf.d/rick-test.conf"
fi

mkdir "$cgroup"
exec 3<&0 </dev/null >"$dir/console.log" 2>&1

(
    printf '%s\n' "$BASHPID" >"$cgroup/cgroup.procs"
    # Podman's overlays want a file system below that is no overlay itself.
    exec systemd-nspawn --quiet --directory="$dir/root" --machine="$4" --hostname="$name" --boot \
        --register=no --keep-unit --notify-ready=yes --console=read-only \
        --capability=all --system-call-filter='@keyring bpf' \
        --private-network --resolv-conf=off --timezone=off --link-journal=no \
        --bind="$dir/containers:/var/lib/containers" 3<&-
) &
host=$!

(
    unset NOTIFY_SOCKET
    read -r _ <&3 && over= || over=yes
    [[ -z $over ]] || : >"$dir/over"
    # Only what runs in the host: systemd-nspawn then buries PID 1, and ends.
    printf '1\n' >"$cgroup/payload/cgroup.kill" || printf '1\n' >"$cgroup/cgroup.kill"
) &
watcher=$!

code=0
wait "$host" || code=$?
# Whoever is dying still.
while ! grep -q '^populated 0' "$cgroup/cgroup.events"; do
    printf '1\n' >"$cgroup/cgroup.kill"
    sleep 0.02
done
find "$cgroup" -depth -type d -exec rmdir {} +
kill "$watcher" 2>/dev/null || true
wait "$watcher" 2>/dev/null || true

if [[ -e $dir/over ]]; then
    umount -l "$dir/root"
    rm -rf --one-file-system "$dir"
fi
# 133 is systemd-nspawn's way to say that the host asked for a reboot.
exit "$code"
