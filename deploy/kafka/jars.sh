#!/usr/bin/env bash
# Prints the folder with the jars of Apache Kafka, after fetching them by Maven where they are missing:
#
#   ${XDG_CACHE_HOME:-$HOME/.cache}/assent/kafka-<version>/*.jar      about 45 MB, once per user
#
# Versions are pinned by pom.xml; a folder that another pom.xml made is made anew. It appears by
# rename, so a run that is cut off leaves no half of it, and several may run at once.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

fail() {
  echo "kafka: $1" >&2
  exit 2
}

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
command -v "$java" >/dev/null 2>&1 ||
  fail "java is not installed: Apache Kafka needs a JDK or JRE 17 or later (Debian: apt-get install default-jre-headless), on the PATH or as JAVA_HOME"
major=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
[ "${major:-0}" -ge 17 ] ||
  fail "$java is version ${major:-unknown}: Apache Kafka needs 17 or later; install it, or point JAVA_HOME at it"

version=$(sed -n 's|.*<kafka\.version>\(.*\)</kafka\.version>.*|\1|p' "$here/pom.xml")
[ -n "$version" ] || fail "$here/pom.xml names no kafka.version"
cache=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/assent
jars=$cache/kafka-$version

right() { cmp -s "$here/pom.xml" "$jars/pom.xml"; }

if ! right; then
  command -v mvn >/dev/null 2>&1 ||
    fail "mvn is not installed: Maven fetches the jars of Apache Kafka (Debian: apt-get install maven)"
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/kafka.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  echo "kafka: fetching Apache Kafka $version by Maven into $jars" >&2
  # -C: a file whose checksum is wrong ends it.
  if ! mvn -B -q -C -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/jars" >"$work/said" 2>&1; then
    sed 's/^/  /' "$work/said" >&2
    fail "Maven could not fetch the jars (see above): check the network, and the mirrors in Maven's settings.xml"
  fi
  cp "$here/pom.xml" "$work/jars/pom.xml"
  if ! right; then
    [ ! -e "$jars" ] || mv "$jars" "$work/old"
    mv "$work/jars" "$jars"
    rm -rf "$jars/jars" # where somebody else was first, by a moment
  fi
fi
echo "$jars"
