#!/usr/bin/env bash
# Installs and starts what the test suites need on Debian or Ubuntu: a Docker engine (dockerd by
# hand where there is no systemd), Chromium, busybox and small tools. Idempotent. As root or by
# sudo; elsewhere it says what is missing and goes on. `--stop` stops just what it started.
set -u

here=$(cd "$(dirname "$0")/.." && pwd)
state="$here/.cache/engines"
pidfile="$state/dockerd.pid"
log="$state/dockerd.log"
waits=90

say() { printf 'engines: %s\n' "$*"; }

root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_root() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

# True when the pid in our file is still the dockerd that we started (pids are reused).
ours_runs() {
  [ -f "$pidfile" ] || return 1
  local pid start
  read -r pid start <"$pidfile" || return 1
  [ -d "/proc/$pid" ] && [ "$(start_time "$pid")" = "$start" ]
}

# Field 22 of stat, counted behind the command's name, which may hold blanks.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

stop() {
  if ! ours_runs; then
    say "nothing to stop"
    rm -f "$pidfile"
    return 0
  fi
  local pid
  read -r pid _ <"$pidfile"
  root kill -TERM "$pid"
  for _ in $(seq 1 300); do
    [ -d "/proc/$pid" ] || break
    sleep 0.1
  done
  if [ -d "/proc/$pid" ]; then root kill -KILL "$pid"; fi
  rm -f "$pidfile"
  say "stopped dockerd (pid $pid)"
}

docker_answers() {
  if command -v curl >/dev/null; then
    root curl -sf -m 5 --unix-socket /var/run/docker.sock http://docker/_ping >/dev/null 2>&1
  else
    root docker version >/dev/null 2>&1
  fi
}

# Installs one package unless its command is there; never fails the script.
package() { # command package
  command -v "$1" >/dev/null 2>&1 && return 0
  [ -x "/usr/sbin/$1" ] && return 0
  missing="$missing $2"
}

install_missing() {
  missing=""
  package dockerd docker.io
  package busybox busybox-static
  package ip iproute2
  package nft nftables
  package faketime faketime
  package newuidmap uidmap
  package curl curl
  if [ "${SOAK:-}" = 1 ]; then package podman "podman netavark aardvark-dns catatonit"; fi
  command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 ||
    command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
  [ -z "$missing" ] && return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    say "missing:$missing; this is no Debian or Ubuntu: install them yourself"
    return 0
  fi
  if ! can_root; then
    say "missing:$missing; neither root nor password-less sudo: run 'sudo apt-get install$missing'"
    return 0
  fi
  say "installing:$missing"
  # policy-rc.d is left alone: without systemd nothing is started by apt.
  # shellcheck disable=SC2086
  apt_install $missing || {
    root apt-get update -qq >>"$state/apt.log" 2>&1
    # shellcheck disable=SC2086
    apt_install $missing || say "apt-get could not install:$missing (see .cache/engines/apt.log)"
  }
}

apt_install() {
  root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@" >>"$state/apt.log" 2>&1
}

start_docker() {
  if docker_answers; then
    say "docker answers already"
    return 0
  fi
  if ! command -v dockerd >/dev/null 2>&1 && [ ! -x /usr/sbin/dockerd ]; then
    say "no dockerd: suites that need Docker will be skipped"
    return 0
  fi
  if ! can_root; then
    say "docker does not run and this user may not start it: run 'sudo scripts/engines.sh'"
    return 0
  fi
  if [ -d /run/systemd/system ]; then
    root systemctl start docker && say "started docker by systemd"
  else
    start_by_hand
  fi
  wait_for_docker
}

start_by_hand() {
  # A pid file of an engine that died with the machine keeps dockerd from starting.
  local old
  old=$(root cat /var/run/docker.pid 2>/dev/null)
  if [ -n "$old" ] && ! grep -q dockerd "/proc/$old/comm" 2>/dev/null; then
    root rm -f /var/run/docker.pid
  fi
  # setsid: it outlives this shell and its terminal, and gets no signal meant for them.
  root setsid env "PATH=$PATH:/usr/sbin:/sbin" sh -c 'echo $$ >"$1"; exec dockerd >>"$2" 2>&1 </dev/null' \
    sh "$state/dockerd.newpid" "$log" &
  for _ in $(seq 1 50); do
    [ -s "$state/dockerd.newpid" ] && break
    sleep 0.1
  done
  local pid
  pid=$(cat "$state/dockerd.newpid" 2>/dev/null) || return 1
  rm -f "$state/dockerd.newpid"
  printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$pidfile"
  say "started dockerd (pid $pid, log .cache/engines/dockerd.log)"
}

wait_for_docker() {
  for _ in $(seq 1 $((waits * 2))); do
    if docker_answers; then
      say "docker answers"
      return 0
    fi
    if [ -f "$pidfile" ] && ! ours_runs; then break; fi
    sleep 0.5
  done
  say "docker does not answer; the end of its log:"
  tail -n 5 "$log" 2>/dev/null
  rm -f "$pidfile"
}

mkdir -p "$state"
case "${1:-}" in
  --stop) stop ;;
  "")
    if [ "$(uname -s)" != Linux ]; then
      say "not Linux: start Docker Desktop, OrbStack or colima yourself; Chrome is enough for the page's tests"
      exit 0
    fi
    start_docker # first, where it is installed: the slow packages then don't hold it up
    install_missing
    docker_answers || start_docker
    ;;
  *)
    say "usage: engines.sh [--stop]"
    exit 2
    ;;
esac
exit 0
