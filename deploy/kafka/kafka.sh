#!/usr/bin/env bash
# Apache Kafka for tests: one broker or three, KRaft, on 127.0.0.1 and free ports.
#
#   kafka.sh up 1|3 [dir]     makes a cluster in an empty dir, or starts the one that is there; prints its addresses
#   kafka.sh kill n [dir]     kill -9 of broker n (1, 2, 3)
#   kafka.sh start n [dir]    starts broker n again, on its old port and data
#   kafka.sh status [dir]     a line for each broker
#   kafka.sh down [dir]       stops the brokers; their data stays
#   kafka.sh destroy [dir]    kills the brokers, and removes the cluster
#
# dir is ${TMPDIR:-/tmp}/assent-kafka where none is given:
#
#   <dir>/brokers                addresses, a line for each broker; written when all are ready
#   <dir>/<n>/broker.properties  settings
#   <dir>/<n>/pid, out, log/     process, what it says, data
#
# KAFKA_OWNER_PID: when that process is gone, the cluster is destroyed.
# KAFKA_HEAP: memory of each broker. Default: 512m
#
# up and start return when clients can work. They need java 17 or later, and Maven the first time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
ready_seconds=180
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

fail() {
  echo "kafka: $1" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0" >&2
  exit 2
}

# ---- processes

# pid_of prints the process of broker n. A pid file alone proves nothing, since the system uses
# numbers again: the process must have been started with this broker's settings.
pid_of() {
  local pid
  pid=$(cat "$dir/$1/pid" 2>/dev/null) && [ -n "$pid" ] || return 1
  case "$(command_line "$pid")" in
  *" $dir/$1/broker.properties"*) echo "$pid" ;;
  *) return 1 ;;
  esac
}

command_line() {
  if [ -r "/proc/$1/cmdline" ]; then
    tr '\0' ' ' <"/proc/$1/cmdline" 2>/dev/null || true
  else
    ps -o args= -p "$1" 2>/dev/null || true
  fi
}

members() { (cd "$dir" 2>/dev/null && ls -d [1-9] 2>/dev/null) || true; }

launch() {
  [ ! -f "$dir/$1/out" ] || mv "$dir/$1/out" "$dir/$1/out.before"
  # C1 only: a test cluster lives for minutes, and starts in less time without the second compiler.
  "$java" "-Xmx${KAFKA_HEAP:-512m}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$here/log4j2.properties" \
    -cp "$jars/*" kafka.Kafka "$dir/$1/broker.properties" >"$dir/$1/out" 2>&1 </dev/null &
  echo $! >"$dir/$1/pid"
  # Until the new process is java it is a copy of this script, which pid_of does not take for a broker.
  while kill -0 $! 2>/dev/null && ! pid_of "$1" >/dev/null; do sleep 0.02; done
}

# await waits until the given brokers are ready: started, and let in by the controller.
# 3: one of them could not have its port.
await() {
  local n until=$((SECONDS + ready_seconds))
  for n in "$@"; do
    until grep -q 'Kafka Server started' "$dir/$n/out"; do
      if ! pid_of "$n" >/dev/null; then
        ! grep -q 'Address already in use' "$dir/$n/out" || return 3
        tail -n 20 "$dir/$n/out" >&2
        fail "broker $n ended before it was ready; all that it said is in $dir/$n/out"
      fi
      [ $SECONDS -lt $until ] || fail "broker $n was not ready within $ready_seconds s; what it said is in $dir/$n/out"
      sleep 0.1
    done
  done
}

kill_hard() {
  local pid
  pid=$(pid_of "$1") || return 0
  kill -9 "$pid" 2>/dev/null || true
  while pid_of "$1" >/dev/null; do sleep 0.02; done
}

# ---- a new cluster

# pick_port prints a port on which nobody listens, below those that systems give to outgoing connections.
pick_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    case " $picked " in *" $port "*) continue ;; esac
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

# configure writes the settings of n brokers, on ports of their own.
configure() {
  local n=$1 i voters='' min_in_sync=1 picked='' clients=() controllers=()
  [ "$n" -lt 3 ] || min_in_sync=2
  for ((i = 1; i <= n; i++)); do
    clients[i]=$(pick_port) && picked+=" ${clients[i]}"
    controllers[i]=$(pick_port) && picked+=" ${controllers[i]}"
    voters+=${voters:+,}$i@127.0.0.1:${controllers[i]}
  done
  for ((i = 1; i <= n; i++)); do
    mkdir -p "$dir/$i"
    {
      cat "$here/broker.properties"
      printf '%s\n' '' "# Of this broker, by kafka.sh:" \
        "node.id=$i" \
        "controller.quorum.voters=$voters" \
        "listeners=CLIENT://127.0.0.1:${clients[i]},CONTROLLER://127.0.0.1:${controllers[i]}" \
        "advertised.listeners=CLIENT://127.0.0.1:${clients[i]}" \
        "log.dirs=$dir/$i/log" \
        "default.replication.factor=$n" \
        "min.insync.replicas=$min_in_sync" \
        "offsets.topic.replication.factor=$n" \
        "transaction.state.log.replication.factor=$n" \
        "transaction.state.log.min.isr=$min_in_sync"
    } >"$dir/$i/broker.properties"
  done
}

# format makes the data folders of n brokers. The id starts with a letter: the tool takes a dash for an option.
format() {
  local id i jobs=()
  id=A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)
  for ((i = 1; i <= $1; i++)); do
    "$java" -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$here/log4j2.properties" -cp "$jars/*" \
      kafka.tools.StorageTool format --ignore-formatted --cluster-id "$id" --config "$dir/$i/broker.properties" >"$dir/$i/format" 2>&1 &
    jobs[i]=$!
  done
  for ((i = 1; i <= $1; i++)); do
    wait "${jobs[i]}" || { cat "$dir/$i/format" >&2 && fail "the data folder of broker $i could not be made"; }
  done
}

addresses() { sed -n 's|^advertised.listeners=CLIENT://||p' "$dir"/[1-9]/broker.properties; }

# owned destroys the cluster when its owner is gone, by whatever end.
owned() {
  while kill -0 "$1" 2>/dev/null; do
    [ -f "$dir/owner" ] && [ "$(cat "$dir/owner")" = "$1" ] || return 0
    sleep 0.5
  done
  destroy
}

# ---- commands

up() {
  local n=$1 i try status
  case "$n" in 1 | 3) ;; *) usage ;; esac
  mkdir -p "$dir"
  if [ -z "$(members)" ]; then
    configure "$n"
    format "$n"
  elif [ "$(members | wc -l)" -ne "$n" ]; then
    fail "$dir holds a cluster of $(members | wc -l): destroy it, or take another folder"
  fi
  if [ -n "${KAFKA_OWNER_PID:-}" ]; then
    echo "$KAFKA_OWNER_PID" >"$dir/owner"
    owned "$KAFKA_OWNER_PID" </dev/null >/dev/null 2>&1 &
  fi
  for try in 1 2 3; do
    for i in $(members); do pid_of "$i" >/dev/null || launch "$i"; done
    status=0
    await $(members) || status=$?
    [ $status -ne 0 ] || break
    # Somebody took a port in the meantime. A cluster that nobody has used yet takes others.
    [ ! -f "$dir/brokers" ] && [ "$try" -lt 3 ] || fail "a port of the cluster is taken; see $dir/*/out"
    for i in $(members); do kill_hard "$i"; done
    configure "$n"
  done
  addresses >"$dir/brokers.new"
  mv "$dir/brokers.new" "$dir/brokers"
  cat "$dir/brokers"
}

start() {
  pid_of "$1" >/dev/null || launch "$1"
  await "$1" || fail "the port of broker $1 is taken; see $dir/$1/out"
}

down() {
  local i n=0
  for i in $(members); do kill "$(pid_of "$i")" 2>/dev/null || true; done
  for i in $(members); do
    # The last ones of three miss the quorum, and would wait for it for minutes.
    while pid_of "$i" >/dev/null && [ $((n += 1)) -lt 100 ]; do sleep 0.1; done
    kill_hard "$i"
    rm -f "$dir/$i/pid"
  done
  rm -f "$dir/owner"
}

destroy() {
  local i
  for i in $(members); do kill_hard "$i"; done
  rm -rf "$dir"/[1-9] "$dir/brokers" "$dir/brokers.new" "$dir/owner"
  rmdir "$dir" 2>/dev/null || true
}

status() {
  local i pid
  [ -n "$(members)" ] || echo "no cluster in $dir"
  for i in $(members); do
    if pid=$(pid_of "$i"); then
      echo "$i $(sed -n 's|^advertised.listeners=CLIENT://||p' "$dir/$i/broker.properties") running, pid $pid, $(($(ps -o rss= -p "$pid" 2>/dev/null || echo 0) / 1024)) MB"
    else
      echo "$i $(sed -n 's|^advertised.listeners=CLIENT://||p' "$dir/$i/broker.properties") stopped"
    fi
  done
}

command=${1:-}
number=
case "$command" in
up | kill | start) number=${2:-} && [ $# -ge 2 ] && shift 2 || usage ;;
down | status | destroy) shift ;;
*) usage ;;
esac
dir=${1:-${TMPDIR:-/tmp}/assent-kafka}
case "$dir" in /*) ;; *) dir=$PWD/$dir ;; esac
dir=${dir%/}

case "$command" in
kill | start) [ -f "$dir/$number/broker.properties" ] || fail "there is no broker $number in $dir" ;;
esac
case "$command" in
up | start) jars=$("$here/jars.sh") ;;
esac
case "$command" in
up | start) "$command" "$number" ;;
kill) kill_hard "$number" ;;
*) "$command" ;;
esac
