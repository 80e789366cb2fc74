#!/usr/bin/env bash
# What Apache Kafka needs beside its jars: Java, and Maven, which fetches them.
set -euo pipefail

missing=()
command -v "${JAVA_HOME:+$JAVA_HOME/bin/}java" >/dev/null 2>&1 || missing+=(default-jre-headless)
command -v mvn >/dev/null 2>&1 || missing+=(maven)
"$(dirname "$0")/install.sh" "install them: Apache Kafka needs Java 17 or later (on the PATH, or as JAVA_HOME), and Maven fetches it" ${missing[@]+"${missing[@]}"}
exec "$(dirname "$0")/../kafka/jars.sh" >/dev/null
