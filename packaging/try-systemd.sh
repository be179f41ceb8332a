#!/bin/bash
# Installs the Debian package in a small Debian of its own, boots that with its systemd in namespaces of this
# machine, and attacks the router's unit: reload, a broken document, takeovers, an upgrade under load, SIGKILL,
# a hang. Needs root, debootstrap, and Debian's packages.
#   cargo xtask dist deb && sudo packaging/try-systemd.sh dist/switchyard_*.deb
set -euo pipefail
deb=${1:?usage: try-systemd.sh switchyard_VERSION_amd64.deb}
[ "$(id -u)" = 0 ] || { echo "needs root: namespaces, mounts, chroot" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 2; }

root=${ROOT_DIR:-$(mktemp -d /var/tmp/switchyard-systemd.XXXXXX)}
init=
end() {
    [ -z "$init" ] || kill -9 "$init" 2>/dev/null || true
    sleep 0.5
    [ -n "${ROOT_DIR:-}" ] || rm -rf --one-file-system "$root" "$root.log" "$root.boot.log"
}
trap end EXIT
[ -e "$root/lib/systemd/systemd" ] || {
    echo "== a small Debian in $root"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,curl,procps,adduser bookworm "$root" \
        http://deb.debian.org/debian >"$root.log" 2>&1 || { tail -5 "$root.log" >&2; exit 2; }
}
mkdir -p "$root/root/packages"
rm -f "$root"/root/packages/*.deb "$root/tmp/stop"
cp "$deb" "$root/root/packages/old.deb"
# The same files with a higher version: what an upgrade does is in the scripts.
work=$(mktemp -d)
dpkg-deb -R "$deb" "$work/tree"
sed -i 's/^Version: .*/&+next/' "$work/tree/DEBIAN/control"
dpkg-deb --root-owner-group -b "$work/tree" "$root/root/packages/new.deb" >/dev/null
rm -rf "$work"

echo "== booting it"
cat >"$root/root/boot.sh" <<'BOOT'
R=$1
mount --make-rprivate /
mount --bind "$R" "$R"
mount -t proc proc "$R/proc"
mount -t sysfs -o ro sysfs "$R/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$R/sys/fs/cgroup"
    mkdir "$R/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$R/sys/fs/cgroup/systemd"
fi
mount -t tmpfs tmpfs "$R/run"
mount -t tmpfs -o mode=755 tmpfs "$R/dev"
for node in null zero full random urandom tty; do touch "$R/dev/$node"; mount --bind "/dev/$node" "$R/dev/$node"; done
mkdir "$R/dev/pts" "$R/dev/shm" "$R/run/lock"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$R/dev/pts"
ln -s pts/ptmx "$R/dev/ptmx"
ln -s /proc/self/fd "$R/dev/fd"
chroot "$R" ip link set lo up 2>/dev/null || ip link set lo up
exec env -i container=switchyard-try PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$R" /lib/systemd/systemd \
    --log-target=null --unit=multi-user.target
BOOT
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p /sys/fs/cgroup/systemd/switchyard-try
    group=/sys/fs/cgroup/systemd/switchyard-try/cgroup.procs
else
    mkdir -p /sys/fs/cgroup/switchyard-try
    group=/sys/fs/cgroup/switchyard-try/cgroup.procs
fi
(echo $BASHPID >"$group"; exec setsid unshare --pid --mount --uts --ipc --net --cgroup --fork \
    bash "$root/root/boot.sh" "$root" >"$root.boot.log" 2>&1) &
outer=$!
for _ in $(seq 60); do
    init=$(pgrep -P "$outer" | head -1) && [ -S "$root/proc/1/root/run/systemd/private" ] && break
    inside=$(nsenter -t "${init:-1}" -m test -S "$root/run/systemd/private" 2>/dev/null && echo yes || true)
    [ "$inside" = yes ] && break
    sleep 0.5
done
[ "${inside:-}" = yes ] || { echo "systemd did not come up here:" >&2; cat "$root.boot.log" >&2; exit 3; }

cat >"$root/root/attack.sh" <<'ATTACK'
set -u
unit=switchyard-router failed=0
main() { systemctl show -p MainPID --value $unit; }
check() { if eval "$2"; then echo "ok    $1"; else echo "WRONG $1"; failed=1; fi; }
codes() { sort /tmp/codes | uniq -c | tr '\n' ';'; }
document=/etc/switchyard/linkerd.yaml
journal() { journalctl -u $unit --no-pager -o cat "$@"; }
dpkg -i /root/packages/old.deb >/dev/null 2>&1
check "the package installs and starts nothing" '[ "$(systemctl is-active $unit)" = inactive ]'
mkdir -p /etc/switchyard/disco && echo "127.0.0.1 7721" >/etc/switchyard/disco/web
switchyard helloworld --addr=127.0.0.1:7721 --text=world >/dev/null 2>&1 &
systemctl start $unit switchyard-namerd switchyard-pipeline
for part in router namerd pipeline; do
    check "$part is up when systemctl start returns" '[ "$(systemctl is-active switchyard-$part)" = active ]'
done
check "the filter of system calls holds" 'grep -q "^Seccomp:.*2" /proc/$(main)/status'
rm -f /tmp/stop
ask() { while [ ! -e /tmp/stop ]; do curl -s -o /dev/null -w '%{http_code} %{errormsg}\n' -H 'Host: web' localhost:4140; done >/tmp/codes; }
ask &
sleep 1
before=$(main)
systemctl reload $unit
check "reload keeps the process" '[ "$before" = "$(main)" ]'
cp $document /tmp/good && echo "nonsense: 1" >>$document && systemctl reload $unit && sleep 1
check "a broken document is refused, by name and line" 'journal -p err | grep -q "nonsense: unknown key.*line"'
check "and the one before it serves on" '[ "$(systemctl is-active $unit)" = active ]'
cp /tmp/good $document && systemctl reload $unit && sleep 0.5
for turn in first second; do
    before=$(main) && systemctl kill -s USR2 --kill-who=main $unit && sleep 2
    check "$turn takeover: systemd follows the new process" '[ "$before" != "$(main)" ] && [ "$(systemctl is-active $unit)" = active ]'
done
before=$(main) && dpkg -i /root/packages/new.deb >/dev/null 2>&1 && sleep 3
check "an upgrade takes over" '[ "$before" != "$(main)" ] && [ "$(systemctl is-active $unit)" = active ]'
touch /tmp/stop && sleep 0.5
check "not one request failed until now: $(codes)" '! grep -qv "^200 " /tmp/codes && grep -q "^200 " /tmp/codes'
kill -9 "$(main)" && sleep 3
check "SIGKILL: started again" '[ "$(systemctl is-active $unit)" = active ]'
restarts=$(systemctl show -p NRestarts --value $unit)
kill -STOP "$(main)" && for _ in $(seq 45); do sleep 1; [ "$(systemctl show -p NRestarts --value $unit)" = "$restarts" ] || break; done
sleep 2
check "a hang: the watchdog starts it again" '[ "$(systemctl is-active $unit)" = active ] && curl -sf -o /dev/null -H "Host: web" localhost:4140'
systemctl stop $unit
check "stop: exit code 0" '[ "$(systemctl show -p Result --value $unit)" = success ] && [ "$(systemctl show -p ExecMainStatus --value $unit)" = 0 ]'
apt-get -y remove switchyard >/dev/null 2>&1
check "removed: nothing runs, the documents stay" '! systemctl is-active --quiet switchyard-namerd && [ -e $document ]'
exit $failed
ATTACK
nsenter -t "$init" -m -u -i -n -p -C chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin bash /root/attack.sh
