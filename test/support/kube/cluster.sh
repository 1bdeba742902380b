#!/usr/bin/env bash
# The first process of a cluster's PID namespace: starts the control plane and the nodes, says `ready`,
# and ends, with everything else in here, when its standard input does. Called by kube.sh.
set -euo pipefail

export PATH=$KUBE_BIN:$PATH
# The address of node 1 and of the control plane; node N has 10.99.0.(10+N), its pods are in 10.99.N.0/24.
export KUBE_ADDRESS=10.99.0.1
SERVICES=10.96.0.0/16
RUN=$KUBE_RUN
LOG=$RUN/log

started=$(date +%s%N)
say() { printf '%d.%d s  %s\n' $((($(date +%s%N) - started) / 1000000000)) $((($(date +%s%N) - started) / 100000000 % 10)) "$*"; }
k() { kubectl --kubeconfig "$RUN/admin.conf" "$@"; }
# Tries a command until it succeeds; gives up after three minutes, as machines may be busy.
until_done() {
  local what=$1 deadline=$((SECONDS + 180))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { echo "waited three minutes in vain: $what" >&2; exit 1; }
    sleep 0.05
  done
}

isolate() {
  mount --make-rprivate /
  # kube-controller-manager makes the volumes in this folder, whose name is fixed.
  mkdir -p "$RUN/volumes" /tmp/hostpath_pv
  mount --bind "$RUN/volumes" /tmp/hostpath_pv
  # Kubelets insist on these settings of the whole machine: show them files that hold the wished values.
  mkdir -p "$RUN/sysctl"
  local setting file
  for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$RUN/sysctl/$(basename "${setting%=*}")
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${setting%=*}"
  done
  local controller
  for controller in /sys/fs/cgroup/*/; do mkdir -p "$controller$KUBE_CGROUP"; done
  # A new cpuset is empty, and nothing can run in it.
  for file in cpus mems; do
    cat "/sys/fs/cgroup/cpuset/cpuset.$file" >"/sys/fs/cgroup/cpuset/$KUBE_CGROUP/cpuset.$file"
  done
  echo 1 >"/sys/fs/cgroup/cpuset/$KUBE_CGROUP/cgroup.clone_children"
}

# A bridge that only the nodes hang on: there is no way out.
network() {
  ip link set lo up
  ip link add lan type bridge
  ip addr add $KUBE_ADDRESS/24 dev lan
  ip link set lan up
  # A bridge is down until something is plugged in.
  ip link add carrier0 type veth peer name carrier1
  ip link set carrier0 master lan up
  ip link set carrier1 up
  ip route add default dev lan
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

authority() { # NAME SUBJECT
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -subj "/CN=$2" -days 2 -out "$1.crt" 2>/dev/null
}

# A kubeconfig FILE for USER of GROUP, and a token for it.
user() { # FILE USER GROUP
  local token
  token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  echo "$token,$2,$2,\"$3\"" >>tokens.csv
  cat >"$RUN/$1.conf" <<X
apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: "https://$KUBE_ADDRESS:6443", certificate-authority: $RUN/pki/ca.crt}}]
users: [{name: $2, user: {token: "$token"}}]
contexts: [{name: test, context: {cluster: test, user: $2}}]
X
}

identities() {
  mkdir -p "$RUN/pki"
  cd "$RUN/pki"
  authority ca test-ca
  authority front-proxy front-proxy
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out service-accounts.key 2>/dev/null
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout api.key -subj /CN=kube-apiserver 2>/dev/null |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out api.crt -extfile <(
      echo "subjectAltName=IP:127.0.0.1,IP:$KUBE_ADDRESS,IP:${SERVICES%0.0/16}0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    ) 2>/dev/null
  user admin admin system:masters
  user controllers system:kube-controller-manager system:authenticated
  user scheduler system:kube-scheduler system:authenticated
  user proxy system:kube-proxy system:authenticated
  user dns coredns system:masters
  local n
  for ((n = 1; n <= KUBE_NODES; n++)); do user "kubelet$n" "system:node:node$n" system:nodes; done
}

api() {
  etcd --data-dir "$RUN/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
    --initial-cluster default=http://127.0.0.1:2380 >"$LOG/etcd" 2>&1 &
  kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=0.0.0.0 \
    --advertise-address=$KUBE_ADDRESS --service-cluster-ip-range=$SERVICES \
    --tls-cert-file=api.crt --tls-private-key-file=api.key --token-auth-file=tokens.csv \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=service-accounts.key --service-account-signing-key-file=service-accounts.key \
    --requestheader-client-ca-file=front-proxy.crt --requestheader-username-headers=X-Remote-User \
    --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file=front-proxy.crt --proxy-client-key-file=front-proxy.key \
    --enable-aggregator-routing=true --kubelet-preferred-address-types=InternalIP >"$LOG/apiserver" 2>&1 &
}

# Without the higher request rates the start takes five seconds more. The short periods are for tests
# that wait for a node to be given up, or for an autoscaler.
controllers() {
  kube-controller-manager --kubeconfig="$RUN/controllers.conf" --use-service-account-credentials \
    --service-account-private-key-file=service-accounts.key --root-ca-file=ca.crt --bind-address=127.0.0.1 \
    --leader-elect=false --kube-api-qps=500 --kube-api-burst=1000 --enable-hostpath-provisioner \
    --node-monitor-period=1s --node-monitor-grace-period=10s \
    --horizontal-pod-autoscaler-sync-period=2s --horizontal-pod-autoscaler-downscale-stabilization=5s \
    --horizontal-pod-autoscaler-cpu-initialization-period=5s >"$LOG/controllers" 2>&1 &
  kube-scheduler --kubeconfig="$RUN/scheduler.conf" --leader-elect=false --bind-address=127.0.0.1 \
    --kube-api-qps=500 --kube-api-burst=1000 >"$LOG/scheduler" 2>&1 &
}

names() {
  cat >"$RUN/Corefile" <<X
.:53 {
  bind $KUBE_ADDRESS
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $RUN/dns.conf
    pods insecure
    ttl 1
  }
  cache 1
}
X
  coredns -conf "$RUN/Corefile" >"$LOG/coredns" 2>&1 &
}

# Volumes follow their pods to any node, as network disks do. Their folders belong to root, and fsGroup
# has no say over host paths, so they are opened to everyone.
volumes() {
  k apply -f - >/dev/null <<X
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/host-path
reclaimPolicy: Delete
X
  while sleep 0.2; do chmod -f 0777 /tmp/hostpath_pv/* || true; done &
}

# Node 1 shares the network of the control plane; the others have their own.
nodes() {
  local n own
  for ((n = 1; n <= KUBE_NODES; n++)); do
    if ((n == 1)); then own=(--mount); else own=(--mount --net --uts); fi
    unshare "${own[@]}" "$KUBE_SCRIPTS/node.sh" "$n" >"$LOG/node$n" 2>&1 &
    echo $! >"$RUN/node$n.pid"
  done
}

nodes_ready() {
  local n
  for ((n = 1; n <= KUBE_NODES; n++)); do
    until_done "node $n is Ready" k wait --for=condition=Ready "node/node$n" --timeout=1s
  done
}

# Whoever started it may be gone before it is ready.
trap exit TERM
if [[ ! ${KUBE_DETACHED:-} ]]; then { cat >/dev/null; kill $$; } <&0 & fi

isolate
network
identities
# For what is started again later, by power.sh.
export -p | grep ' KUBE_' >"$RUN/env"
api
nodes
# Asking the kernel costs nothing; kubectl would take time from what it asks for.
listens() { (: </dev/tcp/127.0.0.1/6443) 2>/dev/null; }
until_done 'the API server listens' listens
until_done 'the API server is ready' k get --raw /readyz
say 'the API server is ready'
controllers
names
volumes
nodes_ready
until_done 'pods have a service account' k -n default get serviceaccount default
touch "$RUN/ready"
# Whoever started it waits for these words.
say "$KUBE_NODES nodes are ready"

sleep infinity &
wait $!
