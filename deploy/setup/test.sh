#!/usr/bin/env bash
# Installs what the tests need beside Go: a C compiler (the race detector), a
# Chromium (the page test) and Python with venv (the interoperability test).
# On Debian and its kin as root through apt-get; elsewhere it says what to set.
set -euo pipefail

missing=()
command -v "${CC:-cc}" >/dev/null 2>&1 || missing+=(gcc libc6-dev)
[ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null 2>&1 || missing+=(chromium)
python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || missing+=(python3 python3-venv)
for tool in node npm; do
  command -v "$tool" >/dev/null 2>&1 || { echo "make: $tool is not installed: the page test and the ClickHouse library need Node.js 18 or later with npm"; exit 2; }
done
[ ${#missing[@]} -eq 0 ] && exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "installing ${missing[*]} with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  exit 0
fi
echo "make: missing for the tests: ${missing[*]}"
echo "      install them, or point CC at a C compiler and CHROMIUM at a Chromium"
exit 2
