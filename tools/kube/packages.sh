#!/usr/bin/env bash
# Installs the programs of Debian that a Kubernetes for tests needs, if they are not there.
set -euo pipefail

packages=(containerd runc containernetworking-plugins nftables iptables conntrack busybox-static openssl iproute2)

missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *' installed' ]] || missing+=("$package")
done
((${#missing[@]} > 0)) || exit 0

command -v apt-get >/dev/null || {
  echo "A Kubernetes for tests needs these packages of Debian, or what they hold: ${missing[*]}" >&2
  exit 1
}
[[ $(id -u) == 0 ]] || {
  echo "A Kubernetes for tests needs packages. As root: apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
}
echo "Installing ${missing[*]}."
export DEBIAN_FRONTEND=noninteractive
apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null ||
  { apt-get update -qq && apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null; }
