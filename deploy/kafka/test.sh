#!/usr/bin/env bash
# Runs the integration tests against Apache Kafka: on one broker, then on three.
#
# Which: every package whose tests use internal/brokertest, and of cmd/assent the tests that
# are called TestKafka_. On three brokers, where all takes longer: internal/kafka, whose
# coordinators and leaders are apart there, the tests that say ThreeBrokers, and TestKafka_.
set -euo pipefail
cd "$(dirname "$0")/../.."
go=${GO:-go}

packages=$(grep -rl '/internal/brokertest"' --include='*_test.go' . | xargs -n 1 dirname | sort -u | grep -vx './cmd/assent')

# tests KIND PATTERN package … [flag …]: one package after the other, since each starts its
# own brokers, and under the race detector.
tests() {
  local kind=$1 pattern=$2 from=$SECONDS
  shift 2
  echo "== ASSENT_TEST_KAFKA=$kind, ${pattern:-all tests}: $*"
  ASSENT_TEST_KAFKA=$kind CGO_ENABLED=1 $go test -race -count=1 -p 1 -timeout 20m -run "$pattern" "$@"
  echo "   ($((SECONDS - from)) s)"
}

# without takes a package out of the list.
without() { echo "$packages" | grep -vx "$1"; }

# A few kills of each kind: many take long.
kills='-soak 4'

# What concerns the broker: the others need one that takes faults, or none.
fold='TestProcessor_(ACrashBehind|AnOwnerThatWasFenced|ATornCommit|ARestartReads|ALinkCarries|AnEventBecomes|TwoShare|ARandomLog|RandomCrashes)|TestSoak_'

# shellcheck disable=SC2046,SC2086 # lists
{
  tests apache '' $(without ./processor)
  tests apache "$fold" ./processor $kills
  tests apache '^TestKafka_' ./cmd/assent
  tests apache3 '' ./internal/kafka
  tests apache3 ThreeBrokers ./internal/brokertest
  tests apache3 ThreeBrokers ./processor $kills
  tests apache3 '^TestKafka_' ./cmd/assent
}
