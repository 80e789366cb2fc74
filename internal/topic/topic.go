// Package topic knows the names, settings and headers of Assent's topics, and
// the names of its consumer groups. It does no I/O.
//
// Source: interfaces.md, Topics. Names are a promise to whoever reads or writes
// the topics; a prefix puts several installations on one broker.
package topic

import (
	"strconv"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

// Names gives topic and group names under a prefix, which may be empty.
type Names struct{ Prefix string }

// Intake is written by channel apps that publish to Kafka themselves.
func (n Names) Intake() string { return n.Prefix + "consent.intake" }

// Events is the log of accepted events: the truth that all else derives from.
func (n Names) Events() string { return n.Prefix + "consent.events" }

// State is the compacted changelog of folded rows.
func (n Names) State() string { return n.Prefix + "consent.state" }

// Changes is the log of changes that downstreams are told.
func (n Names) Changes() string { return n.Prefix + "consent.changes" }

// Deliveries records each attempt to tell a downstream.
func (n Names) Deliveries() string { return n.Prefix + "consent.deliveries" }

// DeadLetters holds what could not be processed, with its position and bytes.
func (n Names) DeadLetters() string { return n.Prefix + "consent.deadletters" }

// Owners says which processor answers for which stripe: compacted, and one
// partition, so that the last record of a stripe is the newest of all.
func (n Names) Owners() string { return n.Prefix + "consent.owners" }

// IntakeGroup is the gateway's group on Intake.
func (n Names) IntakeGroup() string { return n.Prefix + "assent-intake" }

// ProcessorGroup is the processor's group on Events.
func (n Names) ProcessorGroup() string { return n.Prefix + "assent-processor" }

// TransactionalID is what the owner of a stripe writes under, and what fences the
// owner before it. The number of stripes is part of it: with another number, a stripe
// is another set of partitions.
func (n Names) TransactionalID(stripes, stripe int) string {
	return n.ProcessorGroup() + "-" + strconv.Itoa(stripes) + "-" + strconv.Itoa(stripe)
}

// SinkGroup is the sink's group on everything that becomes history.
func (n Names) SinkGroup() string { return n.Prefix + "assent-sink" }

// FanoutGroup is the group of one downstream on Changes: each keeps its own
// position, so that none waits for another.
func (n Names) FanoutGroup(t consent.Tenant, downstream string) string {
	return n.Prefix + "assent-fanout." + string(t) + "." + downstream
}

// Layout is how topics are laid out on the broker.
type Layout struct {
	Partitions  int // of every topic but owners, which has one; events, state and changes must be equal
	Replication int
}

const (
	sevenDaysMillis  = 7 * 24 * 60 * 60 * 1000
	thirtyDaysMillis = 30 * 24 * 60 * 60 * 1000
	// maxMessageBytes leaves room for the largest event that intake accepts
	// (64 KiB), and for a dead letter around it.
	maxMessageBytes = 4 << 20
)

// Specs lists every topic with its settings. Times are the broker's
// (LogAppendTime): recorded_at must not be a claim.
func (n Names) Specs(l Layout) []kafka.TopicSpec {
	forever, week, month := map[string]string{"cleanup.policy": "delete", "retention.ms": "-1"},
		map[string]string{"cleanup.policy": "delete", "retention.ms": strconv.Itoa(sevenDaysMillis)},
		map[string]string{"cleanup.policy": "delete", "retention.ms": strconv.Itoa(thirtyDaysMillis)}
	compact := map[string]string{"cleanup.policy": "compact", "retention.ms": "-1"}
	spec := func(name string, config map[string]string) kafka.TopicSpec {
		c := map[string]string{
			"message.timestamp.type": "LogAppendTime",
			"max.message.bytes":      strconv.Itoa(maxMessageBytes),
			"min.insync.replicas":    strconv.Itoa(minInSync(l.Replication)),
		}
		for k, v := range config {
			c[k] = v
		}
		return kafka.TopicSpec{Name: name, Partitions: l.Partitions, Replication: l.Replication, Config: c}
	}
	owners := spec(n.Owners(), compact)
	owners.Partitions = 1
	return []kafka.TopicSpec{
		spec(n.Intake(), week),
		spec(n.Events(), forever),
		spec(n.State(), compact),
		spec(n.Changes(), month),
		spec(n.Deliveries(), forever),
		spec(n.DeadLetters(), forever),
		owners,
	}
}

// minInSync is what an acknowledgement must have reached, so that the loss of
// one broker loses nothing.
func minInSync(replication int) int {
	if replication >= 3 {
		return 2
	}
	return 1
}
