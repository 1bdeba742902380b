#!/usr/bin/env bash
# One node: containerd, kubelet and kube-proxy in a mount namespace of their own; from the second node on
# also in a network of their own. Called by cluster.sh, and by power.sh when the node comes back.
set -euo pipefail

n=$1
name=node$n
dir=$KUBE_RUN/$name
if ((n == 1)); then address=$KUBE_ADDRESS; else address=10.99.0.$((10 + n)); fi

disks() {
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 run /run
  mkdir -p /run/lock /run/netns
  local folder
  for folder in /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers; do
    mkdir -p $folder "$dir/disk$folder"
    mount --bind "$dir/disk$folder" $folder
  done
  # What a kubelet mounts for a pod has to reach the pod's own namespace.
  mount --make-rshared /
}

# A cable from here to the bridge of the control plane, whose network is that of process 1.
cable() {
  hostname "$name"
  ip link set lo up
  ip link add eth0 type veth peer name "$name" netns 1
  nsenter -t 1 --net sh -c "ip link set $name master lan up; ip route replace 10.99.$n.0/24 via $address dev lan onlink"
  ip link set eth0 address "02:00:00:00:00:0$n"
  ip addr add "$address/24" dev eth0
  ip link set eth0 up
  ip route add default via "$KUBE_ADDRESS"
  local m
  for ((m = 2; m <= KUBE_NODES; m++)); do
    ((m == n)) || ip route add "10.99.$m.0/24" via "10.99.0.$((10 + m))"
  done
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

# Images are never written to, so all nodes can have the same files; what is known of them changes. A node
# that comes back has them on its disk.
images() {
  [[ ! -e $dir/containerd ]] || return 0
  # Not while others make them, see images.ts.
  flock --shared "$KUBE_SCRIPTS/images.ts" cp -al "$KUBE_STORE" "$dir/containerd"
  find "$dir/containerd" -name '*.db' -exec cp {} {}.own \; -exec mv {}.own {} \;
}

# This containerd, 1.6, is the last that kubelets of 1.37 still speak with; a newer one will be needed for 1.38.
# It may not lower OOM scores, as CAP_SYS_RESOURCE may be missing.
runtime() {
  mkdir -p "$dir/cni"
  cat >"$dir/cni/pods.conflist" <<X
{ "cniVersion": "0.4.0", "name": "pods", "plugins": [
  { "type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": { "type": "host-local",
    "ranges": [[{ "subnet": "10.99.$n.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }
X
  cat >"$dir/containerd.toml" <<X
version = 2
root = "$dir/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt",
  "io.containerd.tracing.processor.v1.otlp"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
X
  containerd -c "$dir/containerd.toml" >"$dir/containerd.log" 2>&1 &
  local try
  for try in {1..200}; do
    ctr version >/dev/null 2>&1 && break
    sleep 0.05
  done
}

kubelet_() {
  local controller
  for controller in /sys/fs/cgroup/*/; do mkdir -p "$controller$KUBE_CGROUP/$name"; done
  cat >"$dir/kubelet.yaml" <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$KUBE_CGROUP/$name
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
evictionHard: {memory.available: 200Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
clusterDNS: [$KUBE_ADDRESS]
clusterDomain: cluster.local
resolvConf: ""
oomScoreAdj: 0
nodeStatusUpdateFrequency: 3s
nodeLeaseDurationSeconds: 8
X
  kubelet --config="$dir/kubelet.yaml" --kubeconfig="$KUBE_RUN/kubelet$n.conf" --hostname-override="$name" \
    --node-ip="$address" --cert-dir="$dir/pki" >"$dir/kubelet.log" 2>&1 &
}

# The settings of conntrack can't be written in a network namespace: leave them alone.
proxy() {
  cat >"$dir/proxy.yaml" <<X
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $name
bindAddress: $address
clusterCIDR: 10.99.0.0/16
clientConnection: {kubeconfig: $KUBE_RUN/proxy.conf}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
oomScoreAdj: 0
X
  kube-proxy --config="$dir/proxy.yaml" >"$dir/proxy.log" 2>&1 &
}

mkdir -p "$dir"
disks
((n == 1)) || cable
images
runtime
kubelet_
proxy
wait
