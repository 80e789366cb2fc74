package processor

import (
	"context"
	"fmt"
	"maps"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// tail is what a takeover finds at the end of one partition: where its fold goes
// on, and what of it is written already.
//
// A commit moves states, changes and offset together, unless the broker was killed
// in the middle of it and is the only one: then each of the three may be there or
// not. So nothing is believed: the offset's note says what its transaction wrote,
// and that is looked for.
//
//	offset  states  changes     the fold goes on
//	moved   there   there       from the offset
//	moved   one of them missing from where that transaction began, over the states from before
//	not     some or all         from the offset; states above it are ignored, changes above it
//	                            are not told again
type tail struct {
	committed bool
	commit    kafka.Commit // as it was found
	note      commitNote
	next      kafka.NextOffset // fold from here; without a commit, restore decides
	torn      bool
	told      map[consent.UUID]kafka.LastOffset // changes that readers see, of events that are folded again
	own       map[consent.UUID]kafka.LastOffset // those of the note that stand before its seen
	blind     bool                              // the offset's metadata is not ours: nothing is verified
	seenEnd   kafka.NextOffset
	alarm     error
}

// verify looks for the last transaction of each partition.
func (s *stripe) verify(ctx context.Context, commits map[kafka.Partition]kafka.Commit) (map[int32]*tail, error) {
	tails := make(map[int32]*tail, len(s.parts))
	for at := range s.parts {
		tails[at.Index] = newTail(commits, at)
		if tails[at.Index].blind {
			s.log.Warn("the committed offset has metadata of another kind; its transaction is not verified", "partition", at.String())
		}
	}
	if err := s.verifyStates(ctx, tails); err != nil {
		return nil, err
	}
	if err := s.verifyChanges(ctx, tails); err != nil {
		return nil, err
	}
	for index, t := range tails {
		if t.torn && t.alarm == nil {
			s.p.metrics.torn.Inc()
			s.log.Error("the broker lost a part of the last transaction; its events are folded again",
				"partition", index, "from", int64(t.note.from), "committed", int64(t.next))
			t.next = t.note.from
			t.note.seen = min(t.note.seen, t.note.changes.first)
			maps.Copy(t.told, t.own)
		}
	}
	return tails, nil
}

func newTail(commits map[kafka.Partition]kafka.Commit, at kafka.Partition) *tail {
	t := &tail{told: make(map[consent.UUID]kafka.LastOffset), own: make(map[consent.UUID]kafka.LastOffset)}
	commit, ok := commits[at]
	if !ok {
		return t
	}
	t.committed, t.commit, t.next = true, commit, commit.Next
	note, err := parseNote(commit.Metadata)
	if err != nil {
		t.blind = true
		return t
	}
	t.note = note
	return t
}

// verifyOptions: what stands behind a note is next to nothing.
var verifyOptions = kafka.FetchOptions{MaxBytes: 4 << 20, PartitionMaxBytes: 256 << 10}

// verifyStates looks for the last state of each note.
func (s *stripe) verifyStates(ctx context.Context, tails map[int32]*tail) error {
	topic := s.p.config.Names.State()
	ends, starts, err := s.bounds(ctx, topic)
	if err != nil {
		return err
	}
	from, to := make(map[kafka.Partition]kafka.NextOffset), make(map[kafka.Partition]kafka.NextOffset)
	missing := make(map[int32]bool)
	for index, t := range tails {
		at := kafka.Partition{Topic: topic, Index: index}
		switch last := kafka.NextOffset(t.note.states.last()); {
		case t.note.states.empty():
		case ends[at] < t.note.states.first:
			t.alarm = fmt.Errorf("the changelog %s ends at %d, but %d were written when the offset was committed: it was cut or made anew; bring it back, or delete the group's offset to fold everything again", at, ends[at], t.note.states.end)
		case ends[at] <= last:
			t.torn = true // cut within the last transaction
		default:
			from[at], to[at] = max(last, starts[at]), last+1
			missing[index] = true
		}
	}
	return s.look(ctx, tails, from, to, missing, func(t *tail, m *kafka.Message) (last bool, err error) {
		return m.Offset == t.note.states.last(), nil
	})
}

// verifyChanges looks for the last change of each note, and collects the ids of
// those behind it: their events are folded again.
func (s *stripe) verifyChanges(ctx context.Context, tails map[int32]*tail) error {
	topic := s.p.config.Names.Changes()
	ends, starts, err := s.bounds(ctx, topic)
	if err != nil {
		return err
	}
	from, to := make(map[kafka.Partition]kafka.NextOffset), make(map[kafka.Partition]kafka.NextOffset)
	missing := make(map[int32]bool)
	for index, t := range tails {
		at := kafka.Partition{Topic: topic, Index: index}
		to[at], t.seenEnd = ends[at], ends[at]
		switch span := t.note.changes; {
		case t.blind:
			t.note.seen = ends[at]
		case ends[at] < span.first:
			t.alarm = fmt.Errorf("the changes %s end at %d, but %d were written when the offset was committed: they were cut or made anew; bring them back, or delete the group's offset to go on without them", at, ends[at], span.end)
		case !t.committed:
			// Either nothing was ever written, or the group's offset was lost, and the
			// states say how far all was told. No takeover need look at it again.
			t.note.seen = ends[at]
		case span.empty():
			from[at] = max(t.note.seen, starts[at])
		default:
			from[at] = max(min(span.first, t.note.seen), starts[at])
			if span.last() >= kafka.LastOffset(starts[at]) { // else told long ago, and expired
				missing[index] = true
			}
		}
	}
	return s.look(ctx, tails, from, to, missing, func(t *tail, m *kafka.Message) (last bool, err error) {
		c, err := schemas.DecodeChange(m.Value)
		if err != nil {
			return false, fmt.Errorf("%s: %w", m.Position, err)
		}
		if kafka.NextOffset(m.Offset) >= t.note.seen {
			t.told[c.ID] = m.Offset
		} else {
			t.own[c.ID] = m.Offset
		}
		return m.Offset.Next() == t.note.changes.end, nil
	})
}

// look reads what from and to say of each partition of a topic, and calls each for
// every record. A partition is torn when it is among the missing, and each met no
// record that is the last of its note.
func (s *stripe) look(ctx context.Context, tails map[int32]*tail, from, to map[kafka.Partition]kafka.NextOffset, missing map[int32]bool, each func(*tail, *kafka.Message) (last bool, err error)) error {
	faults, err := scan(ctx, s.p.client, from, to, verifyOptions, func(b *kafka.Batch) error {
		for i := range b.Messages {
			last, err := each(tails[b.Partition.Index], &b.Messages[i])
			if err != nil {
				return err
			}
			if last {
				delete(missing, b.Partition.Index)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	for at, fault := range faults {
		tails[at.Index].alarm = fmt.Errorf("verify: %w", fault)
	}
	for index := range missing {
		tails[index].torn = true
	}
	return nil
}

// bounds gives where the stripe's partitions of a topic end and begin, as far as
// readers can see.
func (s *stripe) bounds(ctx context.Context, topic string) (ends, starts map[kafka.Partition]kafka.NextOffset, err error) {
	logs := make([]kafka.Partition, 0, len(s.parts))
	for at := range s.parts {
		logs = append(logs, kafka.Partition{Topic: topic, Index: at.Index})
	}
	if ends, err = s.p.client.Offsets(ctx, logs, kafka.Latest); err != nil {
		return nil, nil, err
	}
	if starts, err = s.p.client.Offsets(ctx, logs, kafka.Earliest); err != nil {
		return nil, nil, err
	}
	return ends, starts, nil
}
