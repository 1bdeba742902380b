#!/usr/bin/env bash
# Puts what `make bench-compare` measures beside AgentHub into .tools/compare: Debian's Redis and RabbitMQ, unpacked but
# not installed, so that it needs no root, starts no service, and changes nothing of the machine. What can't be had is
# said, and left out of the comparison.
set -uo pipefail
cd "$(dirname "$0")/../.."
into="$PWD/.tools/compare"
archives="$into/archives"
root="$into/root"
mkdir -p "$archives/partial"

# unpack NAME PACKAGE: with all that it needs and this machine does not have.
unpack() {
  local name=$1 package=$2
  [ -e "$into/$name.done" ] && return
  if ! command -v apt-get >/dev/null; then
    echo "There is no apt-get here, so $name is left out." >&2
    return
  fi
  echo "Fetching $name from the Debian archive." >&2
  if ! apt-get -y -qq -o Debug::NoLocking=1 -o Dir::Cache::archives="$archives" --no-install-recommends \
    --reinstall --download-only install "$package" >"$into/$name.log" 2>&1; then
    echo "$name can't be fetched and is left out; $into/$name.log says why (apt-get update may help)." >&2
    return
  fi
  mkdir -p "$root"
  for archive in "$archives"/*.deb; do dpkg -x "$archive" "$root" || return; done
  # It is not where it was built for.
  [ -e "$root/usr/lib/erlang/bin/erl" ] && sed -i "s|ROOTDIR=/usr/lib/erlang|ROOTDIR=$root/usr/lib/erlang|" "$root/usr/lib/erlang/bin/erl"
  touch "$into/$name.done"
}

unpack redis redis-server
unpack rabbitmq rabbitmq-server
rm -rf "$archives"

if ! cmp -s tools/compare/package.json tools/compare/node_modules/.installed 2>/dev/null; then
  echo 'Installing the clients of the others.' >&2
  if npm install --no-save --no-audit --no-fund --loglevel=error --prefix tools/compare >&2; then
    cp tools/compare/package.json tools/compare/node_modules/.installed
  else
    echo 'The clients of RabbitMQ and BullMQ can not be installed: both are left out.' >&2
  fi
fi
exit 0
