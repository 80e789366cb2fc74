package processor

import (
	"context"
	"fmt"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

// step is one of the seven steps of a batch.
type step uint8

const (
	stepFetch step = iota + 1
	stepDecode
	stepFold
	stepTell
	stepSave
	stepPublish
	stepCommit
)

type batchStep struct {
	step step
	do   func(context.Context, *batch) error
}

// batchSteps are steps 2 to 7, in the order that the package promises.
func (s *stripe) batchSteps(order Order) []batchStep {
	steps := []batchStep{
		{stepDecode, s.decode},
		{stepFold, s.fold},
		{stepTell, s.tell},
		{stepSave, s.save},
		{stepPublish, s.publish},
		{stepCommit, s.commit},
	}
	if order == StatesThenChanges {
		steps[2], steps[3] = steps[3], steps[2]
	}
	return steps
}

// batch is what one fetch brought, on its way through the steps.
type batch struct {
	fetched time.Time
	parts   []*partBatch
	records int
	letters map[string]int // by code
	tells   []kafka.Record // changes and dead letters
	saves   []kafka.Record // states
}

// partBatch is one partition's share of a batch.
type partBatch struct {
	kafka.Batch
	part    *partition
	events  []placedEvent
	letters []kafka.Record
	folding *folding
	moved   []*subjectFold
	next    kafka.NextOffset // behind what is done with: Batch.Next, or where an alarm cut it
	alarm   error            // stops the partition once what came before it is written
}

// placedEvent is an event with its offset. Each event is an allocation of its own:
// a State may keep it, and must not keep the whole batch with it.
type placedEvent struct {
	*consent.Event
	offset kafka.LastOffset
}

// decode is step 2. Nothing points into the fetched messages afterwards.
func (s *stripe) decode(_ context.Context, b *batch) error {
	for _, pb := range b.parts {
		pb.events = make([]placedEvent, 0, len(pb.Messages))
		for i := range pb.Messages {
			m := &pb.Messages[i]
			e, refused := decode(m, s.partitions)
			if refused == nil {
				pb.events = append(pb.events, placedEvent{&e, m.Offset})
				continue
			}
			letter, err := deadLetter(s.p.config.Names.DeadLetters(), m, refused)
			if err != nil {
				return err
			}
			pb.letters = append(pb.letters, letter)
			if b.letters[refused.code]++; b.letters[refused.code] == 1 { // one line a batch and code
				s.log.Warn("record set aside as a dead letter", "position", m.Position.String(), "code", refused.code, "reason", refused.reason)
			}
		}
	}
	return nil
}

// fold is step 3, and prepares what steps 4 and 5 write. Where the fold of an event
// fails, the partition is cut before it, and stopped once the rest is written.
func (s *stripe) fold(_ context.Context, b *batch) error {
	for _, pb := range b.parts {
		pb.folding = newFolding(pb.part.table, s.p.config.fold)
		for _, e := range pb.events {
			fresh, err := pb.folding.add(e.Event, e.offset)
			if err != nil {
				pb.next = kafka.NextOffset(e.offset)
				pb.alarm = fmt.Errorf("fold %s: %w", kafka.Position{Partition: pb.Partition, Offset: e.offset}, err)
				break
			}
			if fresh {
				s.p.metrics.events.WithLabelValues(e.Action.String()).Inc()
			} else {
				s.p.metrics.skipped.Inc()
			}
		}
		pb.moved = pb.folding.moved()
		changes, err := changeRecords(s.p.config.Names, pb.folding.changes)
		if err != nil {
			pb.withhold(err)
			continue
		}
		states, err := stateRecords(s.p.config.Names, pb.moved)
		if err != nil {
			pb.withhold(err)
			continue
		}
		b.tells = append(append(b.tells, pb.letters...), changes...)
		b.saves = append(b.saves, states...)
	}
	return nil
}

// withhold stops the partition with nothing of the batch done: what it gave cannot
// be written, and half of it must not be.
func (pb *partBatch) withhold(err error) {
	pb.next, pb.moved, pb.folding.changes = 0, nil, nil
	pb.alarm = fmt.Errorf("fold %s, records before %d: %w", pb.Partition, pb.Next, err)
}

// tell is step 4: changes and dead letters are acknowledged.
func (s *stripe) tell(ctx context.Context, b *batch) error {
	_, err := s.outbox.write(ctx, "changes", b.tells)
	return err
}

// save is step 5: states are acknowledged.
func (s *stripe) save(ctx context.Context, b *batch) error {
	positions, err := s.outbox.write(ctx, "states", b.saves)
	if err != nil {
		return err
	}
	for _, p := range positions {
		s.saved[p.Index] = max(s.saved[p.Index], p.Offset.Next())
	}
	return nil
}

// publish is step 6: decisions see the states, and who waits for an event is woken.
func (s *stripe) publish(_ context.Context, b *batch) error {
	for _, pb := range b.parts {
		pb.part.table.publish(pb.moved)
		pb.part.folded(pb.next)
		if pb.alarm != nil {
			s.stop(pb.part, pb.alarm)
		}
	}
	return nil
}

// commit is step 7.
func (s *stripe) commit(ctx context.Context, b *batch) error {
	commits := make(map[kafka.Partition]kafka.Commit, len(b.parts))
	for _, pb := range b.parts {
		if pb.next > 0 {
			commits[pb.Partition] = kafka.Commit{Next: pb.next, Metadata: commitMetadata(s.saved[pb.Partition.Index])}
		}
	}
	finish, cancel := outlive(ctx, s.p.config.FinishTimeout)
	defer cancel()
	return s.claim.Commit(finish, commits)
}

// measure counts a batch that is done.
func (s *stripe) measure(b *batch) {
	m := s.p.metrics
	m.batch.Observe(time.Since(b.fetched).Seconds())
	m.records.Observe(float64(b.records))
	for code, n := range b.letters {
		m.letters.WithLabelValues(code).Add(float64(n))
	}
	for _, pb := range b.parts {
		m.lag.WithLabelValues(label(pb.Partition.Index)).Set(float64(max(0, pb.HighWatermark-pb.Next)))
		m.subjects.WithLabelValues(label(pb.Partition.Index)).Set(float64(pb.part.table.Len()))
		for i := range pb.folding.changes {
			c := &pb.folding.changes[i]
			m.changes.WithLabelValues(c.To.String()).Inc()
			if c.Withdrawal {
				m.withdrawals.Inc()
			}
		}
	}
}
