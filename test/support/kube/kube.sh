#!/usr/bin/env bash
# A real Kubernetes for the tests, in namespaces of its own. CONTRIBUTING.md says what it needs, and what
# is not real about it.
#
#   kube.sh up NAME [NODES]     start; returns once every node is Ready
#   kube.sh run NAME [NODES]    the same in the foreground: lives until its standard input ends
#   kube.sh exec NAME CMD...    run CMD inside, as administrator: kube.sh exec default kubectl get pods -A
#   kube.sh off|on NAME N       node N (from 2 on) loses its power / gets it back, with the disk it had
#   kube.sh cut|heal NAME N     pull / plug the network cable of node N
#   kube.sh down NAME           end it, and leave nothing
#
# Clusters of different names run side by side. All that one writes is in .tools/kube/run/NAME.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../../.." && pwd)
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
fail() { echo "kube: $*" >&2; exit 1; }

[[ $# -ge 2 && $2 =~ ^[a-z0-9-]+$ ]] || usage
VERB=$1 NAME=$2
shift 2

export KUBE_BIN=$ROOT/.tools/bin KUBE_STORE=$ROOT/.tools/kube/store KUBE_SCRIPTS=$HERE
export KUBE_RUN=$ROOT/.tools/kube/run/$NAME

# Another process may have its number by now.
alive() {
  [[ -e $KUBE_RUN/run.pid ]] &&
    tr '\0' ' ' 2>/dev/null <"/proc/$(<"$KUBE_RUN/run.pid")/cmdline" | grep -q "kube.sh run $NAME "
}

check_machine() {
  [[ $(id -u) == 0 ]] || fail 'namespaces, mounts and cgroups need root'
  local controller file tool
  for controller in cpu cpuset memory pids; do
    [[ -e /sys/fs/cgroup/$controller/tasks ]] ||
      fail "needs cgroup v1, with the controller '$controller' at /sys/fs/cgroup/$controller"
  done
  for tool in containerd runc nft conntrack openssl nsenter unshare; do
    command -v $tool >/dev/null || fail "$tool is missing: make kube-tools"
  done
  for file in kube-apiserver etcd kubelet coredns; do
    [[ -x $KUBE_BIN/$file ]] || fail "$file is missing: make kube-tools"
  done
  [[ -e $KUBE_STORE ]] || fail 'there are no images: make kube-images'
  [[ $(stat -f -c %T "$ROOT") != overlayfs ]] ||
    fail "containers can't have their layers on an overlay: put the repository on a disk of its own"
}

# A process that has just been killed may stay in its cgroup for a moment.
remove_cgroups() {
  local group try
  [[ -s $KUBE_RUN/cgroup ]] || return 0
  group=$(<"$KUBE_RUN/cgroup")
  for try in {1..50}; do
    find /sys/fs/cgroup/*/"$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    compgen -G "/sys/fs/cgroup/*/$group" >/dev/null || return 0
    sleep 0.1
  done
  fail "these cgroups still have processes: $(echo /sys/fs/cgroup/*/"$group")"
}

# The first process of the PID namespace is the cluster: it ends with its lifeline, and all others with it.
run() {
  export KUBE_NODES=${1:-1}
  [[ $KUBE_NODES =~ ^[1-9]$ ]] || usage
  check_machine
  ! alive || fail "'$NAME' is up already"
  remove_cgroups
  rm -rf "$KUBE_RUN"
  mkdir -p "$KUBE_RUN/log"
  echo $BASHPID >"$KUBE_RUN/run.pid"
  export KUBE_CGROUP=agenthub-kube-$NAME-$BASHPID
  echo "$KUBE_CGROUP" >"$KUBE_RUN/cgroup"
  local outer
  unshare --net --mount --ipc --uts --pid --fork --kill-child=KILL --mount-proc \
    "$HERE/cluster.sh" <&0 2>"$KUBE_RUN/log/cluster" &
  outer=$!
  trap 'kill -KILL $outer 2>/dev/null' INT TERM
  until [[ -s $KUBE_RUN/pid ]]; do
    kill -0 $outer 2>/dev/null || break
    tr -d ' ' <"/proc/$outer/task/$outer/children" >"$KUBE_RUN/pid" 2>/dev/null || true
    sleep 0.02
  done
  wait $outer || true
  remove_cgroups
  # What is left is for whoever wonders what went wrong.
  rm -rf "$KUBE_RUN"/node*/containerd "$KUBE_RUN"/{run.pid,etcd,volumes}
  [[ -e $KUBE_RUN/ready ]] || { cat "$KUBE_RUN/log/cluster" >&2; fail "'$NAME' did not start; more is in $KUBE_RUN"; }
}

up() {
  ! alive || { echo "'$NAME' is up already: make kube-down ends it."; return; }
  check_machine
  mkdir -p "$KUBE_RUN"
  rm -f "$KUBE_RUN/ready"
  KUBE_DETACHED=1 setsid "$HERE/kube.sh" run "$NAME" "${1:-1}" </dev/null >"$KUBE_RUN.log" 2>&1 &
  local runner=$!
  until [[ -e $KUBE_RUN/ready ]]; do
    kill -0 $runner 2>/dev/null || { cat "$KUBE_RUN.log" >&2; exit 1; }
    sleep 0.1
  done
  cat "$KUBE_RUN.log"
}

down() {
  [[ -e $KUBE_RUN ]] || { echo "'$NAME' is not there."; return; }
  if alive; then
    local runner
    runner=$(<"$KUBE_RUN/run.pid")
    kill -KILL "$(<"$KUBE_RUN/pid")"
    while kill -0 "$runner" 2>/dev/null; do sleep 0.05; done
  fi
  remove_cgroups
  rm -rf "$KUBE_RUN" "$KUBE_RUN.log"
}

enter() {
  alive || fail "'$NAME' is not up"
  # Not `ip netns exec`, which hides /sys/fs/cgroup.
  PATH=$KUBE_BIN:$PATH KUBECONFIG=$KUBE_RUN/admin.conf \
    HELM_CACHE_HOME=$KUBE_RUN/helm HELM_CONFIG_HOME=$KUBE_RUN/helm HELM_DATA_HOME=$KUBE_RUN/helm \
    exec nsenter -t "$(<"$KUBE_RUN/pid")" --net --mount --pid --ipc --uts --wdns="$PWD" -- "$@"
}

case $VERB in
  run) run "$@" ;;
  up) up "$@" ;;
  down) down ;;
  exec) [[ $# -gt 0 ]] || usage; enter "$@" ;;
  cut) enter ip link set "node$1" down ;;
  heal) enter ip link set "node$1" up ;;
  off | on) [[ ${1:-} =~ ^[2-9]$ ]] || usage; enter "$HERE/power.sh" "$VERB" "$1" ;;
  *) usage ;;
esac
