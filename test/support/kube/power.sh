#!/usr/bin/env bash
# Takes the power from a node (off N), or gives it back (on N). Called by kube.sh, inside the cluster.
set -euo pipefail

verb=$1 n=$2
# shellcheck source=/dev/null
. "$KUBE_RUN/env"

off() {
  local world try process
  world=$(readlink "/proc/$(<"$KUBE_RUN/node$n.pid")/ns/mnt") || { echo "node $n is off already" >&2; exit 1; }
  # Three times, as something may be starting something just now.
  for try in 1 2 3; do
    for process in /proc/[0-9]*; do
      [[ $(readlink "$process/ns/mnt" 2>/dev/null) != "$world" ]] || kill -KILL "${process#/proc/}" 2>/dev/null || true
    done
    { find "/sys/fs/cgroup/pids/$KUBE_CGROUP/node$n" -name cgroup.procs -exec cat {} + | xargs -r kill -KILL; } 2>/dev/null || true
    sleep 0.1
  done
  # The kubelet would look for what ran in them, and start 25 seconds later.
  find /sys/fs/cgroup/*/"$KUBE_CGROUP/node$n" -mindepth 1 -depth -type d -exec rmdir {} \; 2>/dev/null || true
}

on() {
  setsid unshare --net --mount --uts "$KUBE_SCRIPTS/node.sh" "$n" </dev/null >>"$KUBE_RUN/log/node$n" 2>&1 &
  echo $! >"$KUBE_RUN/node$n.pid"
}

"$verb"
