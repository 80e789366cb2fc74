#!/bin/sh
# Fetches libchdb, the shared library of the embedded ClickHouse, into the per-user cache:
#
#   ${XDG_CACHE_HOME:-$HOME/.cache}/assent/libchdb/<version>/libchdb.so
#
# Name, version and integrity are pinned by package.json and package-lock.json beside this script.
# Nothing is written into the repository, and nothing is downloaded when the cached copy is right.
# The library appears by rename, its checksum file before it: a run that is cut off leaves no half a library.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

fail() {
	echo "libchdb: $1" >&2
	exit 1
}

# ---- which package this machine needs

os=$(uname -s)
arch=$(uname -m)
case "$os/$arch" in
Linux/x86_64 | Linux/amd64) platform=linux-x64-gnu size_mb=178 ;;
Linux/aarch64 | Linux/arm64) platform=linux-arm64-gnu size_mb=180 ;;
Darwin/x86_64) platform=darwin-x64 size_mb=180 ;;
Darwin/arm64) platform=darwin-arm64 size_mb=180 ;;
*) fail "there is no build for $os on $arch (Linux and macOS on x86-64 and arm64 only); point ASSENT_CLICKHOUSE_DSN at a ClickHouse server instead" ;;
esac
if [ "$os" = Linux ] && ls /lib/ld-musl-* >/dev/null 2>&1 && ! ls /lib*/ld-linux-* /lib/*/ld-linux-* >/dev/null 2>&1; then
	fail "the library needs glibc and this system has musl; use a glibc system, or point ASSENT_CLICKHOUSE_DSN at a ClickHouse server"
fi
package="@chdb/lib-$platform"

version=$(sed -n "s|^ *\"$package\": \"\\(.*\\)\",\{0,1\}\$|\\1|p" "$here/package.json")
[ -n "$version" ] || fail "$here/package.json does not name $package"

# ---- is it there already?

dir="${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/assent/libchdb/$version"
library="$dir/libchdb.so"
checksum="$library.sha256"

sha256() {
	if command -v sha256sum >/dev/null 2>&1; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

if [ -s "$library" ] && [ -s "$checksum" ]; then
	if [ "$(sha256 "$library")" = "$(cut -d' ' -f1 "$checksum")" ]; then
		exit 0
	fi
	echo "libchdb: the cached copy does not match its checksum; fetching it again" >&2
fi

# ---- what it must be

for tool in node npm tar; do
	command -v "$tool" >/dev/null 2>&1 ||
		fail "$tool is missing: install Node.js with npm (Debian: apt-get install npm), or set ASSENT_LIBCHDB to a libchdb.so $version that you have"
done
integrity=$(node -e '
	const lock = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"));
	const entry = lock.packages["node_modules/" + process.argv[2]] || {};
	if (entry.version === process.argv[3]) process.stdout.write(entry.integrity || "");
' "$here/package-lock.json" "$package" "$version")
[ -n "$integrity" ] ||
	fail "$here/package-lock.json pins no integrity for $package $version; run 'npm install --package-lock-only --omit-lockfile-registry-resolved' there and review the change, or set ASSENT_LIBCHDB to a libchdb.so that you trust"

# ---- room: the archive twice (npm keeps a copy while it works) and what is in it

mkdir -p "$dir" || fail "cannot create $dir"
need_mb=1000
free_mb=$(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1024) }')
[ "$free_mb" -ge "$need_mb" ] ||
	fail "the disk that holds $dir has $free_mb MB left, $need_mb MB are needed while unpacking; free some, or set XDG_CACHE_HOME to a folder on another disk"

work=$(mktemp -d "$dir/fetch.XXXXXX") || fail "cannot write into $dir"
npm_pid=
cleanup() {
	[ -z "$npm_pid" ] || kill "$npm_pid" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# ---- download

echo "libchdb: downloading $package $version, about $size_mb MB, once for this user, into $dir" >&2
(
	cd "$work" || exit 1
	exec npm pack "$package@$version" --pack-destination "$work" --cache "$work/npm" --silent --no-update-notifier >"$work/npm.out" 2>"$work/npm.err"
) &
npm_pid=$!
shown=-1
while kill -0 "$npm_pid" 2>/dev/null; do
	sleep 1
	# npm writes the archive into its cache, then copies it out: count the larger of the two.
	have=$(find "$work" -type f -size +1000k -exec ls -ln {} + 2>/dev/null | awk '$5 > m { m = $5 } END { print int(m / 1000000) }')
	if [ "$have" != "$shown" ]; then
		echo "libchdb: $have of about $size_mb MB" >&2
		shown=$have
	fi
done
wait "$npm_pid" || {
	npm_pid=
	sed 's/^/  /' "$work/npm.err" >&2
	fail "npm could not download $package $version (see above); check the network and npm's registry setting, and run it again"
}
npm_pid=

archive=$(find "$work" -maxdepth 1 -name '*.tgz')
[ -n "$archive" ] || fail "npm reported success but left no archive"
rm -rf "$work/npm"

# ---- verify the archive, then unpack it

actual=$(node -e '
	const { createHash } = require("crypto");
	const [algorithm] = process.argv[2].split("-");
	const hash = createHash(algorithm);
	require("fs").createReadStream(process.argv[1])
		.on("data", (chunk) => hash.update(chunk))
		.on("end", () => process.stdout.write(algorithm + "-" + hash.digest("base64")));
' "$archive" "$integrity")
[ "$actual" = "$integrity" ] ||
	fail "the archive has the wrong integrity and was thrown away.
  expected $integrity
  received $actual
  Somebody may have tampered with it, or a proxy has cut it off: try another network or registry before anything else."

tar -xzf "$archive" -C "$work" package/libchdb.so ||
	fail "unpacking into $dir failed; is the disk full? ($(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1024) }') MB left)"
echo "$(sha256 "$work/package/libchdb.so")  libchdb.so" >"$work/sha256"
sync "$work/package/libchdb.so" 2>/dev/null || sync
mv "$work/sha256" "$checksum"
mv "$work/package/libchdb.so" "$library"
echo "libchdb: ready, $library" >&2
