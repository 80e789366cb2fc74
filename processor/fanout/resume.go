package fanout

import (
	"context"
	"fmt"
	"slices"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// codeGone is that of a dead letter for what was removed from consent.changes before
// the downstream was told.
const codeGone = "gone"

// resume fills queues and windows with what the positions say is open, and gives where
// reading goes on.
//
// What retention took cannot be told, however long one waits: it is set aside, so that
// somebody hears of it, and the rest goes on. A log that ends before a position is another
// matter: reading it fails, and nothing is skipped.
func (s *session) resume(ctx context.Context, commits map[kafka.Partition]kafka.Commit) (map[kafka.Partition]kafka.NextOffset, error) {
	starts, err := s.kafka.Offsets(ctx, s.claim.Partitions(), kafka.Earliest)
	if err != nil {
		return nil, err
	}
	next := map[kafka.Partition]kafka.NextOffset{}
	lost := false
	for p, c := range commits {
		open, err := decodeOpen(c.Metadata)
		if err != nil {
			return nil, fmt.Errorf("position of %s: %w", p, err)
		}
		start := starts[p]
		next[p] = max(c.Next, start)
		s.windows[p] = newWindow(next[p])
		for len(open) > 0 && kafka.NextOffset(open[0]) < start {
			if err := s.lose(ctx, kafka.Position{Partition: p, Offset: open[0]}, "the change was removed from the log before the downstream had taken it"); err != nil {
				return nil, err
			}
			open, lost, s.dirty[p] = open[1:], true, true
		}
		if c.Next < start {
			reason := fmt.Sprintf("all that was in the log from here up to offset %d was removed before it was read", start-1)
			if err := s.lose(ctx, kafka.Position{Partition: p, Offset: kafka.LastOffset(c.Next)}, reason); err != nil {
				return nil, err
			}
			lost, s.dirty[p] = true, true
		}
		if err := s.reopen(ctx, p, open, c.Next); err != nil {
			return nil, err
		}
	}
	if lost { // it is not set aside again, whatever happens next
		return next, s.commit(s.attempts)
	}
	return next, nil
}

// reopen reads the changes again that had no outcome below the position.
func (s *session) reopen(ctx context.Context, p kafka.Partition, open []kafka.LastOffset, next kafka.NextOffset) error {
	if len(open) == 0 {
		return nil
	}
	f := s.kafka.NewFetcher(map[kafka.Partition]kafka.NextOffset{p: kafka.NextOffset(open[0])}, kafka.FetchOptions{})
	defer f.Close()
	for f.Position(p) < next {
		batches, err := f.Fetch(ctx)
		if err != nil {
			return fmt.Errorf("read the open changes of %s: %w", p, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, b := range batches {
			for i := range b.Messages {
				if _, found := slices.BinarySearch(open, b.Messages[i].Offset); found {
					s.take(fetched{partition: p, next: next, entries: s.filter(b.Messages[i : i+1])})
				}
			}
		}
	}
	return nil
}

// lose sets aside what the log no longer holds: a letter without key and bytes. It
// returns when the letter is acknowledged; an error is that of ctx.
func (s *session) lose(ctx context.Context, at kafka.Position, reason string) error {
	letter := &schemas.DeadLetter{
		Topic: at.Topic, Partition: at.Index, Offset: int64(at.Offset),
		Code: codeGone, Reason: reason, Role: "fanout", Downstream: s.downstream.Name, At: consent.InstantOf(s.now()),
	}
	if !s.record(ctx, nil, letter) {
		return ctx.Err()
	}
	s.log.Error("changes were removed from the log before their downstream was told; withdrawals may be among them", "position", at.String(), "code", codeGone, "reason", reason)
	return nil
}
