#!/usr/bin/env bash
# build.sh [kube-apiserver]: builds what a Kubernetes for tests consists of into .tools/bin, or only its API
# server, etcd and helm, from the versions in go.mod alone; what is built already is not built again. All of it has
# one module, so that it is compiled once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bin=$PWD/../../.tools/bin

command -v go >/dev/null || { echo 'Building Kubernetes needs Go: https://go.dev/dl' >&2; exit 1; }

# Without these Kubernetes takes itself for version 0.0.0.
kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${kubernetes#v1.}
at=k8s.io/component-base/version
version="-X $at.gitVersion=$kubernetes -X $at.gitMajor=1 -X $at.gitMinor=${minor%%.*} -X $at.gitTreeState=clean"

export CGO_ENABLED=0 GOFLAGS=-buildvcs=false
build() { go build -trimpath -ldflags "-s -w $version" -o "$@"; }

main=k8s.io/kubernetes/cmd
build "$bin/" $main/kube-apiserver helm.sh/helm/v4/cmd/helm
[ "${1:-}" = kube-apiserver ] ||
  build "$bin/" $main/kube-controller-manager $main/kube-scheduler \
    $main/kubelet $main/kube-proxy $main/kubectl ./coredns ./pause
# The package has no name of its own.
build "$bin/etcd" go.etcd.io/etcd/server/v3
