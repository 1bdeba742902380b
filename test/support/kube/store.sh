#!/usr/bin/env bash
# store.sh STORE ARCHIVE...: makes STORE a folder of containerd that holds these images, unpacked. Nodes
# start with links to it: to unpack the images for each node would be most of the work of a start.
set -euo pipefail

if [[ ${KUBE_STORE_INSIDE:-} != 1 ]]; then
  # As process 1 of a namespace of its own: containerd ends with this script.
  KUBE_STORE_INSIDE=1 exec unshare --mount --pid --fork --kill-child=KILL --mount-proc "${BASH_SOURCE[0]}" "$@"
fi

store=$1
shift
rm -rf "$store" "$store.part"
mkdir -p "$store.part"
mount --make-rprivate /
mount -t tmpfs -o mode=755 run /run
cat >/run/containerd.toml <<X
version = 2
root = "$store.part"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
X
containerd -c /run/containerd.toml --log-level warn &
for _ in {1..600}; do
  ctr version >/dev/null 2>&1 && break
  sleep 0.05
done
for archive in "$@"; do ctr -n k8s.io images import --digests=false "$archive" >/dev/null; done
kill %1
wait %1 || true
mv "$store.part" "$store"
