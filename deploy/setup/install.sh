#!/usr/bin/env bash
# install.sh WHAT package…: installs packages, on Debian and its kin as root through
# apt-get; elsewhere it says what is missing, and WHAT to do about it.
set -euo pipefail
what=$1
shift
[ $# -gt 0 ] || exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "installing $* with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  exit 0
fi
echo "make: missing: $*"
echo "      $what"
exit 2
