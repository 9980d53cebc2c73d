#!/bin/sh
# Starts harnessd confined (PROTOCOL.md, "Confined"), with what util-linux and coreutils offer.
# Needs root. Takes everything from its environment, which the daemon made clean:
#   DECO_ROOT       empty directory for the new root (mounted only in our own namespace)
#   DECO_RUN        host directory that becomes /run/deco
#   DECO_WORKSPACE  host directory that becomes /workspace
#   DECO_BINARY     harnessd
#   DECO_UID        user and group inside, without rights anywhere
#   DECO_CGROUPS    cgroup directories with the limits set, parted by blanks
#   DECO_PIDS       most processes and threads
#   DECO_HOSTNAME   name of the machine inside
set -eu

if [ "${1:-}" != inside ]; then
  for cgroup in $DECO_CGROUPS; do
    echo $$ >"$cgroup/cgroup.procs"
  done
  # Not --kill-child alone: the change of the user clears it. The daemon kills init itself.
  exec unshare --mount --pid --net --ipc --uts --fork --kill-child --propagation private \
    /bin/sh "$0" inside
fi

# ---- From here on in namespaces of our own, as pid 1.
echo "$DECO_HOSTNAME" >/proc/sys/kernel/hostname
if command -v ip >/dev/null 2>&1; then
  ip link set lo up
elif command -v busybox >/dev/null 2>&1; then
  busybox ip link set lo up
else
  ifconfig lo 127.0.0.1 up
fi

# What runs inside is chrooted below the pivoted root: the kernel then refuses it user namespaces,
# and with them every capability that they would give.
jail=$DECO_ROOT/jail
mount -t tmpfs -o mode=0755,size=1m,nosuid,nodev deco "$DECO_ROOT"
mkdir "$jail" "$DECO_ROOT/old"
mount -t tmpfs -o mode=0755,size=4m,nosuid,nodev deco "$jail"
cd "$jail"

for name in usr bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$name" ]; then
    cp -P "/$name" "$name"
  elif [ -d "/$name" ]; then
    mkdir "$name"
    mount --bind "/$name" "$name"
    mount -o remount,bind,ro,nosuid,nodev "$name"
  else
    continue
  fi
  # So that programs find their loader between the pivot and the chroot.
  ln -s "jail/$name" "$DECO_ROOT/$name"
done

# umount asks /proc.
ln -s jail/proc "$DECO_ROOT/proc"
mkdir -p etc/ssl/certs proc dev tmp var workspace home/agent run/deco run/harnessd opt/deco
ln -s /tmp var/tmp
printf 'root:x:0:0:root:/:/bin/sh\nagent:x:%s:%s::/home/agent:/bin/sh\n' "$DECO_UID" "$DECO_UID" >etc/passwd
printf 'root:x:0:\nagent:x:%s:\n' "$DECO_UID" >etc/group
printf '127.0.0.1 localhost %s\n::1 localhost\n' "$DECO_HOSTNAME" >etc/hosts
printf 'passwd: files\ngroup: files\nhosts: files\n' >etc/nsswitch.conf
echo "$DECO_HOSTNAME" >etc/hostname
for file in ld.so.cache ssl/certs/ca-certificates.crt; do
  if [ -f "/etc/$file" ]; then cp "/etc/$file" "etc/$file"; fi
done
# Links only: without them there is no awk on Debian.
if [ -d /etc/alternatives ]; then cp -R -P /etc/alternatives etc/alternatives; fi

own="uid=$DECO_UID,gid=$DECO_UID,nosuid,nodev"
mount -t tmpfs -o "mode=1777,size=256m,nosuid,nodev" deco tmp
mount -t tmpfs -o "mode=0700,size=256m,$own" deco home/agent
mount -t tmpfs -o "mode=0700,size=192m,$own" deco run/harnessd
mount --bind "$DECO_WORKSPACE" workspace
mount -o remount,bind,nosuid,nodev workspace
mount --bind "$DECO_RUN" run/deco
mount -o remount,bind,nosuid,nodev,noexec run/deco
: >opt/deco/harnessd
mount --bind "$DECO_BINARY" opt/deco/harnessd
mount -o remount,bind,ro,nosuid,nodev opt/deco/harnessd

mount -t tmpfs -o mode=0755,size=64k,nosuid,noexec deco dev
for device in null zero full random urandom; do
  : >"dev/$device"
  mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm
mount -t tmpfs -o "mode=1777,size=64m,nosuid,nodev" deco dev/shm
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mount -o remount,ro,nosuid,noexec dev

mount -t proc -o nosuid,nodev,noexec proc proc
for path in sys sysrq-trigger irq bus fs; do
  [ -e "proc/$path" ] || continue
  mount --bind "proc/$path" "proc/$path"
  mount -o remount,bind,ro,nosuid,nodev,noexec "proc/$path"
done
for path in kcore keys key-users timer_list sched_debug kallsyms kmsg; do
  if [ -f "proc/$path" ]; then mount --bind /dev/null "proc/$path"; fi
done

mount -o remount,ro,nosuid,nodev "$jail"
cd "$DECO_ROOT"
pivot_root . old
cd /
umount -l /old
mount -o remount,ro,nosuid,nodev,noexec /

# /bin/sh stays as pid 1: it reaps what nobody waits for, and hands SIGTERM on.
init='/opt/deco/harnessd & pid=$!
trap "kill -TERM $pid" TERM INT
wait $pid; code=$?
while kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done
exit $code'
cd /jail

# Keys of the daemon's login session (Kerberos, encrypted disks) stay outside: a session keyring of
# its own, by keyctl, or by the system call from perl, which Debian always has.
set --
if [ -x /usr/bin/keyctl ]; then
  set -- keyctl session -
elif [ -x /usr/bin/perl ]; then
  case "$(uname -m)" in
    x86_64) set -- perl -e 'syscall(250, 1, 0); exec @ARGV' ;;
    aarch64) set -- perl -e 'syscall(219, 1, 0); exec @ARGV' ;;
  esac
fi
exec chroot /jail "$@" prlimit --core=0:0 --nofile=4096:4096 "--nproc=$DECO_PIDS:$DECO_PIDS" \
  setpriv "--reuid=$DECO_UID" "--regid=$DECO_UID" --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all --ambient-caps=-all \
  env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/agent LANG=C.UTF-8 \
  HARNESS_ADDR=off HARNESS_SWEEP=1 HARNESS_LOG_MIB=128 \
  /bin/sh -c "cd /workspace; $init"
