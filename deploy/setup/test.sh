#!/usr/bin/env bash
# What the tests need beside Go: a C compiler (the race detector), a Chromium (the
# page test) and Python with venv (the interoperability test).
set -euo pipefail

missing=()
command -v "${CC:-cc}" >/dev/null 2>&1 || missing+=(gcc libc6-dev)
[ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null 2>&1 || missing+=(chromium)
python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || missing+=(python3 python3-venv)
for tool in node npm; do
  command -v "$tool" >/dev/null 2>&1 || { echo "make: $tool is not installed: the page test and the ClickHouse library need Node.js 18 or later with npm"; exit 2; }
done
exec "$(dirname "$0")/install.sh" "install them, or point CC at a C compiler and CHROMIUM at a Chromium" ${missing[@]+"${missing[@]}"}
