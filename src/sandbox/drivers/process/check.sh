#!/bin/sh
# Started in harnessd's place by the probe: says what it finds inside, one fact per line.
fact() { printf '%s=%s\n' "$1" "$2"; }
status() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status; }

fact uid "$(id -u)"
fact groups "$(id -G)"
for name in CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs; do fact "$name" "$(status $name)"; done
for name in pid net ipc uts mnt; do fact "ns_$name" "$(readlink /proc/self/ns/$name)"; done
fact pids "$(ls /proc | grep -c '^[0-9]*$')"
fact root "$(ls -A / | tr '\n' ' ')"
fact etc "$(ls -A /etc | tr '\n' ' ')"
fact env "$(env | cut -d= -f1 | sort | tr '\n' ' ')"
fact interfaces "$(cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' ' | tr '\n' ' ')"
fact nproc "$(ulimit -p 2>/dev/null || ulimit -u)"
(: >/usr/deco-check) 2>/dev/null && fact usr writable || fact usr read-only
(: >/deco-check) 2>/dev/null && fact top writable || fact top read-only
(: >/workspace/deco-check) 2>/dev/null && fact workspace writable || fact workspace read-only
(: >/tmp/deco-check) 2>/dev/null && fact tmp writable || fact tmp read-only
unshare --user true 2>/dev/null && fact userns allowed || fact userns refused
fact end reached
