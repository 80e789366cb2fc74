package model

import (
	"fmt"
	"strings"
)

// Kind is what an event does when it is folded.
type Kind uint8

const (
	Plain Kind = iota + 1 // moves the subject's state and is told: a withdrawal, a grant, an expiry
	Quiet                 // moves the subject's state and is not told: a link
	Dead                  // moves nothing but the offset: a dead letter
)

// Event is an event of the script.
type Event struct {
	Kind      Kind
	Subject   string
	Partition int    // of its subject
	Carries   string // event that its fold derives: a carried withdrawal, an expire
	Derived   bool   // it is in no log at the beginning
}

// Config is a configuration to explore.
type Config struct {
	Events     map[string]Event
	Log        []string // ids in the order of the log; each goes to its event's partition
	Partitions int
	Instances  int

	Takeovers int // claims that the group gives in all
	Losses    int // requests that are late, or whose answer is lost
	Tears     int // kills of a broker that tear a commit
	Renewals  int // times that an operator drops topics and offsets, to fold everything again

	Compacts bool // the changelog is compacted at any time, but not between a tear and the end of its repair

	// TearsAnswered: a tear can also hit a commit that was answered but whose markers are not
	// all written. Otherwise only one whose answer never comes.
	TearsAnswered bool
	// Leases: time counts. A member is given up only when its lease has run out, and decisions are asked.
	Leases bool

	Deviations Deviation
	MaxStates  int // Default 20 million
}

// Deviation is a set of places in which the protocol is not followed.
type Deviation uint64

// Has reports whether all of d2 is in the set.
func (d Deviation) Has(d2 Deviation) bool { return d&d2 == d2 }

const (
	NoFencing              Deviation = 1 << iota // a takeover keeps the old producer epoch, and what is open
	OffsetsBeforeInit                            // as with an assignment that brings offsets along
	NoVerify                                     // the last transaction is not looked for
	StaleRowsUsed                                // rows at or above the offset where the fold goes on are used
	RowsBelowCommitUsed                          // only rows at or above the committed offset are ignored, even if the fold goes back behind it
	NoDedup                                      // changes that are there already are told again
	DedupBehindNoteOnly                          // of the changes that are there, only those behind the note's are known
	SpanOfWrittenOnly                            // the note's changes leave out those that were found and not told again
	NoOffsetMeansRows                            // without a committed offset the newest row says where the fold goes on
	ForgetNote                                   // a transaction that writes nothing empties the note
	NoGeneration                                 // offsets are committed with generation -1
	NoRequireStable                              // offsets are read although a transaction's are not applied yet
	NoDiscard                                    // a local store is used whatever its mark says
	NoTopicCheck                                 // … of another topic
	NoEndCheck                                   // … that covers more than the changelog has
	NoInputCheck                                 // … that is ahead of where the fold goes on
	NoProducerCheck                              // … whose last covered row is another producer's, or not committed
	MarkBehindIgnored                            // a restore's mark covers rows that it ignored
	MarkAfterAnnounce                            // the store is written when the announcement is committed, not at the restore
	StoreBeforeEnd                               // the store is written before the transaction ends
	CarryInside                                  // carried events are part of the transaction
	CarryAfterEnd                                // carried events are written when the transaction has ended
	ChangesOutside                               // changes are written before the transaction begins
	LostEndIsCommit                              // an EndTxn without an answer counts as committed
	LostEndIsAbort                               // … as aborted
	LostEndIsRepeated                            // … is sent again under the same epoch, and the next transaction begins
	LeaseCheckedBefore                           // the lease is checked before a decision is computed, not after
	BeatWithoutMembership                        // any answered heartbeat renews a lease
	AnnounceWithoutOffsets                       // the announcing transaction commits no offsets, so that no generation is checked
	CutGoesOn                                    // a cut connection between two transactions is not taken for an indefinite error
	CompactedUnrepaired                          // the changelog is compacted although a torn commit is not repaired yet
)

var deviationNames = map[Deviation]string{
	NoFencing: "no fencing", OffsetsBeforeInit: "offsets before init", NoVerify: "no verify", StaleRowsUsed: "stale rows used",
	RowsBelowCommitUsed: "rows below the committed offset used", NoDedup: "no dedup", DedupBehindNoteOnly: "dedup behind the note only",
	SpanOfWrittenOnly: "span of written changes only", NoOffsetMeansRows: "no offset means rows", ForgetNote: "forget the note",
	NoGeneration: "no generation", NoRequireStable: "no require_stable", NoDiscard: "no discard", NoTopicCheck: "no topic check", NoEndCheck: "no end check",
	NoInputCheck: "no input check", NoProducerCheck: "no producer check", MarkBehindIgnored: "mark behind ignored rows",
	MarkAfterAnnounce: "mark after announce", StoreBeforeEnd: "store before end", CarryInside: "carry inside", CarryAfterEnd: "carry after end",
	ChangesOutside: "changes outside", LostEndIsCommit: "lost end is commit", LostEndIsAbort: "lost end is abort", LostEndIsRepeated: "lost end is repeated",
	LeaseCheckedBefore: "lease checked before", BeatWithoutMembership: "beat without membership",
	AnnounceWithoutOffsets: "announce without offsets", CutGoesOn: "cut goes on", CompactedUnrepaired: "compacted unrepaired",
}

func (d Deviation) String() string {
	var names []string
	for bit := Deviation(1); bit <= d && bit <= CompactedUnrepaired; bit <<= 1 {
		if d&bit != 0 {
			names = append(names, deviationNames[bit])
		}
	}
	if names == nil {
		return "the protocol"
	}
	return strings.Join(names, ", ")
}

// definition is an event of the script, resolved.
type definition struct {
	name    string
	kind    Kind
	subject uint8
	home    uint8 // its partition
	carries uint8 // id; 0: nothing
}

// Model is a configuration, ready to be explored.
type Model struct {
	config   Config
	events   []definition // by id; 0 is none
	subjects []string
	homes    []uint8 // by subject: its partition
	log      []uint8
}

// New resolves a configuration. It answers names that nobody knows and sizes that do not fit.
func New(c Config) (*Model, error) {
	if c.MaxStates == 0 {
		c.MaxStates = 20_000_000
	}
	m := &Model{config: c, events: make([]definition, 1)}
	if c.Partitions < 1 || c.Partitions > maxPartitions || c.Instances < 1 || c.Instances > maxInstances {
		return nil, fmt.Errorf("%d partitions, %d instances: 1 to %d and 1 to %d fit", c.Partitions, c.Instances, maxPartitions, maxInstances)
	}
	ids := make(map[string]uint8)
	for _, name := range c.names() {
		e, ok := c.Events[name]
		if !ok {
			return nil, fmt.Errorf("event %s: not in the script", name)
		}
		subject, err := m.subject(e)
		if err != nil {
			return nil, fmt.Errorf("event %s: %w", name, err)
		}
		ids[name] = uint8(len(m.events))
		m.events = append(m.events, definition{name: name, kind: e.Kind, subject: subject, home: uint8(e.Partition)})
	}
	for name, id := range ids {
		m.events[id].carries = ids[c.Events[name].Carries]
	}
	for _, name := range c.Log {
		m.log = append(m.log, ids[name])
	}
	return m, nil
}

// names gives each event that can be in a log, once, in a fixed order.
func (c *Config) names() []string {
	var names []string
	seen := map[string]bool{"": true}
	for _, name := range c.Log {
		for ; !seen[name]; name = c.Events[name].Carries {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

func (m *Model) subject(e Event) (uint8, error) {
	if e.Partition < 0 || e.Partition >= m.config.Partitions {
		return 0, fmt.Errorf("there is no partition %d", e.Partition)
	}
	for i, name := range m.subjects {
		if name != e.Subject {
			continue
		}
		if m.homes[i] != uint8(e.Partition) {
			return 0, fmt.Errorf("subject %s is in two partitions", name)
		}
		return uint8(i), nil
	}
	if len(m.subjects) == maxSubjects {
		return 0, fmt.Errorf("%d subjects fit", maxSubjects)
	}
	m.subjects, m.homes = append(m.subjects, e.Subject), append(m.homes, uint8(e.Partition))
	return uint8(len(m.subjects) - 1), nil
}

// Explore visits every state of the configuration.
func (m *Model) Explore() (Result, error) {
	return explore[State](m, m.config.MaxStates, m.describe)
}

func (m *Model) off(d Deviation) bool { return m.config.Deviations.Has(d) }

func (m *Model) starts() []State {
	s := State{
		losses: uint8(m.config.Losses), tears: uint8(m.config.Tears), renewal: uint8(m.config.Renewals),
		tx: coordinator{epoch: 1},
	}
	for _, id := range m.log {
		put(s.events[m.events[id].home][:], event{id, committed})
	}
	return []State{s}
}

// put writes a record to a log and gives its offset.
func put[R comparable](log []R, record R) uint8 {
	var none R
	for i := range log {
		if log[i] == none {
			log[i] = record
			return uint8(i)
		}
	}
	panic(fmt.Sprintf("model: a log of %d %T is full: the configuration is too large for the arrays", len(log), record))
}
