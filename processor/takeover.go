package processor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/owner"
)

// takeover makes the stripe this process's own, from whatever state a former owner,
// or an unknown outcome of its own, left it in. It gives where each partition goes
// on. The order of its steps is the promise: see the package's documentation.
func (s *stripe) takeover(ctx context.Context) (map[kafka.Partition]kafka.NextOffset, error) {
	began := time.Now()
	for _, part := range s.parts {
		part.restore()
	}
	if err := s.init(ctx); err != nil {
		return nil, err
	}
	commits, err := s.claim.Committed(ctx)
	if err := s.then(stepOffsets, err); err != nil {
		return nil, err
	}
	tails, err := s.verify(ctx, commits)
	if err := s.then(stepVerify, err); err != nil {
		return nil, err
	}
	if err := s.then(stepRestore, s.restore(ctx, tails)); err != nil {
		return nil, err
	}
	from, err := s.begin(ctx, tails)
	if err != nil {
		return nil, err
	}
	if err := s.then(stepAnnounce, s.announce(ctx, tails)); err != nil {
		return nil, err
	}
	s.stick(nil)
	s.p.metrics.takeover.Observe(time.Since(began).Seconds())
	return from, nil
}

// then is the seam behind a step: its error is the step's, or a test's crash.
func (s *stripe) then(at step, err error) error {
	if err != nil {
		return err
	}
	return s.p.config.behind(at)
}

// init takes the transactional id: a former owner's transaction is ended, and
// whatever it still sends is refused.
func (s *stripe) init(ctx context.Context) error {
	names := s.p.config.Names
	if age := s.claim.HeartbeatAge(); age > s.p.config.heartbeatLimit() {
		return fmt.Errorf("take the stripe over: %w (%s)", errOldHeartbeat, age.Round(time.Millisecond))
	}
	tx, err := s.p.client.OpenTransactor(ctx, kafka.TransactorOptions{
		ID:            names.TransactionalID(s.p.config.Stripes, s.claim.Stripe()),
		Timeout:       s.p.config.TransactionTimeout,
		MaxBatchBytes: maxBatchBytes,
	})
	s.tx = tx
	return s.then(stepInit, err)
}

// begin decides where folding goes on, and what has to be folded before a
// partition answers.
func (s *stripe) begin(ctx context.Context, tails map[int32]*tail) (map[kafka.Partition]kafka.NextOffset, error) {
	ends, starts, err := s.bounds(ctx, s.p.config.Names.Events())
	if err != nil {
		return nil, err
	}
	from := make(map[kafka.Partition]kafka.NextOffset, len(s.parts))
	for at, part := range s.parts {
		t := tails[at.Index]
		if t.alarm == nil && t.next > ends[at] {
			t.alarm = fmt.Errorf("the states of %s know events up to %d, but the log ends at %d: the events were cut or made anew; bring them back, or delete the topics of states and changes with them", at, t.next, ends[at])
		}
		if t.alarm != nil {
			s.stop(part, t.alarm)
			continue
		}
		if !t.committed && t.next == 0 {
			t.next = starts[at]
		}
		from[at] = t.next
		part.starts(t.next, ends[at])
		part.note, part.told, part.seenEnd, part.expiring = t.note, t.told, t.seenEnd, make(map[string]expiring)
		s.p.metrics.lag.WithLabelValues(label(at.Index)).Set(float64(max(0, ends[at]-t.next)))
		s.p.metrics.stopped.WithLabelValues(label(at.Index)).Set(0)
	}
	return from, nil
}

// announce tells the other processors who answers for the stripe now. It is a
// transaction of the new epoch, so that a former owner cannot take it back; and the
// committed offsets are part of it, as they are, so that the group's coordinator
// refuses a process that lost the stripe before its init and woke up since. Offsets
// that were never committed are from then on: a partition without one has lost it.
func (s *stripe) announce(ctx context.Context, tails map[int32]*tail) error {
	record := owner.Record{
		Stripes: s.p.config.Stripes, Stripe: s.claim.Stripe(),
		Address: s.p.config.Address, Instance: s.p.config.Instance,
		Producer: s.tx.Sender().ID, Epoch: s.tx.Sender().Epoch, Since: s.p.config.now().UTC(),
	}
	names := s.p.config.Names
	commits := make(map[kafka.Partition]kafka.Commit)
	for at := range s.parts {
		switch t := tails[at.Index]; {
		case t.alarm != nil:
		case t.committed:
			commits[at] = t.commit // as it is: what counts is that the group lets us
		default:
			commits[at] = kafka.Commit{Next: t.next, Metadata: t.note.String()}
		}
	}
	announcement, err := record.Kafka(names)
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	ctx, cancel := kafka.Outlive(ctx, s.p.config.FinishTimeout)
	defer cancel()
	partitions, announcements := []kafka.Partition{{Topic: names.Owners()}}, []kafka.Record{announcement}
	if _, err := s.p.client.PartitionCount(ctx, names.Owners()); errors.Is(err, kafka.ErrUnknownTopic) {
		// Folding is worth more than being found: what this process owns is unavailable elsewhere.
		s.log.Error("nobody can be told who owns the stripe: the topic is missing, make it with `assent topics apply`", "topic", names.Owners())
		partitions, announcements = nil, nil
	}
	if err := s.tx.Begin(ctx, s.claim, partitions); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if len(announcements) > 0 {
		if _, err := s.tx.Write(ctx, announcements); err != nil {
			return fmt.Errorf("announce: %w", err)
		}
	}
	if err := s.tx.CommitOffsets(ctx, s.claim, commits); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if err := s.tx.End(ctx); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}
