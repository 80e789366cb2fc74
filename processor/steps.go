package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
	"github.com/assent-dev/assent/schemas"
)

// step is one of the steps of a takeover or of a batch. Their order is the promise
// of the package's documentation; a test can crash behind each.
type step uint8

const (
	stepInit step = iota + 1
	stepOffsets
	stepVerify
	stepRestore
	stepAnnounce

	stepFetch
	stepDecode
	stepFold
	stepCarry
	stepBegin
	stepWrite
	stepCommitOffsets
	stepEnd
	stepPublish
	stepStore
)

type batchStep struct {
	step step
	do   func(context.Context, *batch) error
}

// batchSteps are what follows on decode, in the order that the package promises.
func (s *stripe) batchSteps() []batchStep {
	return []batchStep{
		{stepFold, s.fold},
		{stepCarry, s.carry},
		{stepBegin, s.beginTransaction},
		{stepWrite, s.write},
		{stepCommitOffsets, s.commitOffsets},
		{stepEnd, s.end},
		{stepPublish, s.publish},
		{stepStore, s.store},
	}
}

// batch is what one or more fetches brought, on its way through the steps.
type batch struct {
	began   time.Time
	parts   []*partBatch
	records int
	carried []kafka.Record // carried events and dead letters

	events     *slab[schemas.Folding]
	unreadable []unreadable
}

// leavesMore tells whether the log had more records when the batch was fetched.
func (b *batch) leavesMore() bool {
	return slices.ContainsFunc(b.parts, func(pb *partBatch) bool { return pb.next < pb.high })
}

// unreadable is a partition whose log cannot be read on.
type unreadable struct {
	part  *partition
	alarm error
}

// partBatch is one partition's share of a batch.
type partBatch struct {
	at      kafka.Partition
	part    *partition
	events  []placedEvent
	letters []kafka.Record
	codes   map[string]int   // of letters
	begins  kafka.NextOffset // of the first record of the batch
	next    kafka.NextOffset // behind what is done with: the last record, or where an alarm cut it
	high    kafka.NextOffset // high watermark of the log
	folding *folding
	folded  map[consent.Action]int // events
	moved   []*subjectFold
	rows    []rowWrite
	changes []kafka.Record
	retold  span // changes of the batch that were told already, by a torn transaction
	note    commitNote
	alarm   error // stops the partition once what came before it is written
}

// placedEvent is an event with its offset.
type placedEvent struct {
	*consent.Event
	offset kafka.LastOffset
}

// decode takes a fetch into the batch. Nothing points into the fetched messages
// afterwards.
func (s *stripe) decode(b *batch, fetched *kafka.Batch) error {
	pb := b.of(s.parts[fetched.Partition], fetched)
	for i := range fetched.Messages {
		m := &fetched.Messages[i]
		e := b.events.next()
		refused := decode(m, s.partitions, e)
		if refused == nil {
			pb.events = append(pb.events, placedEvent{&e.Event, m.Offset})
			continue
		}
		letter, err := deadLetter(s.p.config.Names.DeadLetters(), m, refused)
		if err != nil {
			return err
		}
		pb.letters = append(pb.letters, letter)
		if pb.codes[refused.code]++; pb.codes[refused.code] == 1 { // one line a batch, partition and code
			s.log.Warn("record set aside as a dead letter", "position", m.Position.String(), "code", refused.code, "reason", refused.reason)
		}
	}
	b.records += len(fetched.Messages)
	return nil
}

// of gives the share of a partition, and notes how far it goes.
func (b *batch) of(part *partition, fetched *kafka.Batch) *partBatch {
	var pb *partBatch
	for _, known := range b.parts {
		if known.part == part {
			pb = known
		}
	}
	if pb == nil {
		pb = &partBatch{at: fetched.Partition, part: part, folded: make(map[consent.Action]int), codes: make(map[string]int)}
		b.parts = append(b.parts, pb)
	}
	pb.next, pb.high = fetched.Next, fetched.HighWatermark
	return pb
}

// fold is pure, and prepares what is written. Where the fold of an event fails, the
// partition is cut before it, and stopped once the rest is written.
func (s *stripe) fold(_ context.Context, b *batch) error {
	for _, part := range s.parts {
		if part.folding != nil {
			part.folding.reset()
		}
	}
	s.encoding.reset()
	s.room.reset()
	for _, pb := range b.parts {
		pb.begins, pb.note = pb.part.position(), pb.part.note // the batch before is published
		pb.folding = s.folding(pb.part)
		for _, e := range pb.events {
			if err := pb.folding.add(e.Event, e.offset); err != nil {
				if damaged := new(storeError); errors.As(err, &damaged) {
					return err
				}
				pb.next = kafka.NextOffset(e.offset)
				pb.alarm = fmt.Errorf("fold %s: %w", kafka.Position{Partition: pb.at, Offset: e.offset}, err)
				break
			}
			pb.folded[e.Action]++
		}
		if err := s.prepare(pb); err != nil {
			pb.withhold(err)
			continue
		}
		carried, err := s.encoding.events(pb.folding.folder.Carried)
		if err != nil {
			pb.withhold(err)
			continue
		}
		b.carried = append(append(b.carried, carried...), pb.letters...)
	}
	return nil
}

// folding gives the partition's, which is used again from batch to batch.
func (s *stripe) folding(part *partition) *folding {
	if part.folding == nil {
		part.folding = newFolding(part.table, s.p.config.fold, &s.room)
	}
	part.table.hold()
	return part.folding
}

// prepare encodes what the fold of a partition gave.
func (s *stripe) prepare(pb *partBatch) (err error) {
	told := func(id consent.UUID) bool {
		at, ok := pb.part.told[id]
		if ok {
			delete(pb.part.told, id) // it comes once
			pb.retold.cover(at)
		}
		return ok
	}
	if pb.changes, err = s.encoding.changes(pb.folding.folder.Changes, told); err != nil {
		return err
	}
	pb.moved = pb.folding.moved()
	pb.rows, err = s.encoding.states(pb.moved)
	return err
}

// withhold stops the partition with nothing of the batch done: what it gave cannot
// be written, and half of it must not be.
func (pb *partBatch) withhold(err error) {
	pb.alarm = fmt.Errorf("fold %s, records from %d to %d: %w", pb.at, pb.begins, pb.next-1, err)
	pb.next, pb.moved, pb.rows, pb.changes = pb.begins, nil, nil, nil
	pb.folding.folder.Reset()
}

// carry writes the events that links carried to other subjects, and dead letters,
// and waits until they are acknowledged. They are no part of the transaction: in it
// they would hold up other people's withdrawals when this process dies; behind it a
// crash would lose them.
func (s *stripe) carry(ctx context.Context, b *batch) error {
	return s.outbox.write(ctx, b.carried)
}

// beginTransaction opens a transaction over what the batch writes.
func (s *stripe) beginTransaction(ctx context.Context, b *batch) error {
	if age := s.claim.HeartbeatAge(); age > s.p.config.heartbeatLimit() {
		return fmt.Errorf("begin a transaction: %w (%s)", errOldHeartbeat, age.Round(time.Millisecond))
	}
	names := s.p.config.Names
	var partitions []kafka.Partition
	for _, pb := range b.parts {
		if len(pb.rows) > 0 {
			partitions = append(partitions, kafka.Partition{Topic: names.State(), Index: pb.at.Index})
		}
		if len(pb.changes) > 0 {
			partitions = append(partitions, kafka.Partition{Topic: names.Changes(), Index: pb.at.Index})
		}
	}
	return s.tx.Begin(ctx, s.claim, partitions)
}

// write puts states and changes into the transaction, and notes where they stand.
func (s *stripe) write(ctx context.Context, b *batch) error {
	clear(s.records)
	s.records = s.records[:0]
	for _, pb := range b.parts {
		s.records = append(s.records, pb.changes...)
		for i := range pb.rows {
			s.records = append(s.records, pb.rows[i].record)
		}
	}
	var positions []kafka.Position
	if len(s.records) > 0 {
		var err error
		if positions, err = s.tx.Write(ctx, s.records); err != nil {
			return err
		}
	}
	for _, pb := range b.parts {
		pb.takeNote(positions[:len(pb.changes)], positions[len(pb.changes):len(pb.changes)+len(pb.rows)])
		positions = positions[len(pb.changes)+len(pb.rows):]
	}
	return nil
}

// takeNote notes what the transaction wrote for the partition. Where it wrote
// nothing, the note of the one before stays.
func (pb *partBatch) takeNote(changes, rows []kafka.Position) {
	if pb.next == pb.begins {
		return // withheld: what it took for told already is told no further than before
	}
	if len(rows) > 0 {
		pb.note.from, pb.note.states = pb.begins, span{}
		for _, p := range rows {
			pb.note.states.cover(p.Offset)
		}
	}
	// Those that were told before are of this transaction all the same: if it tears
	// too, they are looked for.
	all := pb.retold
	for _, p := range changes {
		all.cover(p.Offset)
	}
	if !all.empty() {
		pb.note.changes = all
	}
	// A torn transaction was over events that were in the log at the takeover: behind
	// them nothing is told already.
	if len(pb.part.told) == 0 || pb.next >= pb.part.backlogEnd() {
		clear(pb.part.told)
		pb.note.seen = max(pb.note.seen, pb.note.changes.end, pb.part.seenEnd)
	}
}

// commitOffsets moves the offsets with the transaction.
func (s *stripe) commitOffsets(ctx context.Context, b *batch) error {
	commits := make(map[kafka.Partition]kafka.Commit, len(b.parts))
	for _, pb := range b.parts {
		pb.note.by = s.tx.Sender()
		commits[pb.at] = kafka.Commit{Next: pb.next, Metadata: pb.note.String()}
	}
	return s.tx.CommitOffsets(ctx, s.claim, commits)
}

// end commits. Without an answer nobody knows whether it did: the stripe is taken
// over anew, which ends the doubt.
func (s *stripe) end(ctx context.Context, _ *batch) error {
	return s.tx.End(ctx)
}

// publish shows the states to decisions, and wakes who waits for an event.
func (s *stripe) publish(_ context.Context, b *batch) error {
	for _, pb := range b.parts {
		pb.part.table.publish(pb.moved)
		pb.part.note = pb.note
		pb.part.folded(pb.next)
		if pb.alarm != nil {
			s.stop(pb.part, pb.alarm)
		}
	}
	return nil
}

// store takes the rows into the local store, now that they are known to be committed.
func (s *stripe) store(_ context.Context, b *batch) error {
	now := s.p.config.now().UnixMilli()
	for _, pb := range b.parts {
		mark, _ := pb.part.table.rows.Mark()
		mark.Input, mark.At = int64(pb.next), now
		mark.Producer, mark.Epoch = pb.note.by.ID, pb.note.by.Epoch
		if len(pb.rows) > 0 {
			mark.Changelog = int64(pb.note.states.end)
		}
		s.rows = s.rows[:0]
		for i := range pb.rows {
			w := &pb.rows[i]
			if w.wasExpires != 0 && w.wasExpires != w.expires {
				delete(pb.part.expiring, string(w.record.Key))
			}
			s.rows = append(s.rows, store.Row{Key: w.record.Key, Value: w.record.Value, Expires: w.expires, WasExpires: w.wasExpires})
		}
		if err := pb.part.table.rows.Write(s.rows, mark); err != nil {
			return &storeError{err}
		}
		pb.part.table.saved()
	}
	return nil
}

// measure counts a batch that is done.
func (s *stripe) measure(b *batch) {
	m := s.p.metrics
	m.batch.Observe(time.Since(b.began).Seconds())
	m.records.Observe(float64(b.records))
	for _, pb := range b.parts {
		m.lag.WithLabelValues(label(pb.at.Index)).Set(float64(max(0, pb.high-pb.next)))
		for code, n := range pb.codes {
			m.letters.WithLabelValues(code).Add(float64(n))
		}
		for action, n := range pb.folded {
			m.events.WithLabelValues(action.String()).Add(float64(n))
		}
		m.carried.Add(float64(len(pb.folding.folder.Carried)))
		if n := pb.folding.dropped; n > 0 {
			m.dropped.Add(float64(n))
			s.log.Error("links fell out of a subject's full list; what is said from now on is not carried there", "partition", pb.at.Index, "links", n)
		}
		for i := range pb.folding.folder.Changes {
			c := &pb.folding.folder.Changes[i]
			m.changes.WithLabelValues(c.To.String()).Inc()
			if c.Withdrawal {
				m.withdrawals.Inc()
			}
		}
	}
}
