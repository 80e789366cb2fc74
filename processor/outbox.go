package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
)

// maxBatchBytes bounds a produced batch. It lets a dead letter around the largest
// value pass, and stays below what the topics allow (topic.Specs).
const maxBatchBytes = 3 << 20

// outbox writes what must stand before the transaction that it follows from ends,
// and cannot be part of it: carried and expire events, dead letters. It repeats a
// write until it is acknowledged or the claim is over: readers know events by their
// ids, dead letters by their positions.
type outbox struct {
	producer     *kafka.Producer
	log          *slog.Logger
	heartbeatAge func() time.Duration
	limit        time.Duration // of the heartbeat's age
	stuck        func(error)   // told what cannot be written; nil once it can
}

var errOldHeartbeat = errors.New("the last heartbeat is too old: another process may own the stripe")

// write returns when every record is acknowledged by all in-sync replicas.
// Records of one partition keep their order.
func (o *outbox) write(ctx context.Context, records []kafka.Record) error {
	if len(records) == 0 {
		return nil
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		if age := o.heartbeatAge(); age > o.limit {
			return fmt.Errorf("write events that follow: %w (%s)", errOldHeartbeat, age.Round(time.Millisecond))
		}
		_, err := o.producer.Produce(ctx, records...)
		if err == nil {
			o.stuck(nil)
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("write events that follow: %w", err)
		}
		// Also what the broker refuses for good: skipping it would lose it, so the
		// stripe stays here, and says so, until somebody mends it.
		o.log.Error("cannot write events that follow; trying again", "records", len(records), "error", err)
		o.stuck(err)
		if !wait(ctx, pause) {
			return fmt.Errorf("write events that follow: %w", ctx.Err())
		}
	}
}

// wait waits, and gives false when ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
