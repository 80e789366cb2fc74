package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
)

// maxBatchBytes bounds a produced batch. It lets a dead letter around the largest
// value pass, and stays below what the topics allow (topic.Specs).
const maxBatchBytes = 3 << 20

// outbox writes what a batch gave. It repeats a write until it is acknowledged
// or the claim is over: readers know changes by their ids, states by their offsets.
type outbox struct {
	producer     *kafka.Producer
	log          *slog.Logger
	heartbeatAge func() time.Duration
	limit        time.Duration // of the heartbeat's age
	finish       time.Duration // how long a write may outlast its claim
}

var errOldHeartbeat = errors.New("the last heartbeat is too old: another process may own the stripe")

// write returns when every record is acknowledged by all in-sync replicas.
// Records of one partition keep their order.
func (o *outbox) write(ctx context.Context, what string, records []kafka.Record) ([]kafka.Position, error) {
	if len(records) == 0 {
		return nil, nil
	}
	attempt, cancel := outlive(ctx, o.finish)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		if age := o.heartbeatAge(); age > o.limit {
			return nil, fmt.Errorf("write %s: %w (%s)", what, errOldHeartbeat, age.Round(time.Millisecond))
		}
		positions, err := o.producer.Produce(attempt, records...)
		if err == nil {
			return positions, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("write %s: %w", what, err)
		}
		// Also what the broker refuses for good: skipping it would lose it, so the
		// stripe stays here, and says so, until somebody mends it.
		o.log.Error("cannot write; trying again", "what", what, "records", len(records), "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("write %s: %w", what, ctx.Err())
		}
	}
}

// outlive gives a context that ends some time after ctx, so that what was begun
// can be finished: a write that is abandoned may reach the broker later.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := time.AfterFunc(time.Hour, cancel)
	timer.Stop()
	stop := context.AfterFunc(ctx, func() { timer.Reset(d) })
	return out, func() {
		stop()
		timer.Stop()
		cancel()
	}
}

// changeRecords encodes the changes of a partition in the order of the fold.
func changeRecords(names topic.Names, changes []consent.Change) ([]kafka.Record, error) {
	records := make([]kafka.Record, 0, len(changes))
	for i := range changes {
		c := &changes[i]
		value, err := schemas.EncodeChange(nil, c)
		if err != nil {
			return nil, fmt.Errorf("encode a change: %w", err)
		}
		records = append(records, kafka.Record{Topic: names.Changes(), Key: c.Key(), Value: value, Headers: topic.ChangeHeaders(c)})
	}
	return records, nil
}

// stateRecords encodes the rows that moved, each subject's "*" row last: it is
// what makes the others count, see the package's documentation.
func stateRecords(names topic.Names, moved []*subjectFold) ([]kafka.Record, error) {
	var records []kafka.Record
	var fault error
	for _, s := range moved {
		root := consent.Row{Purpose: consent.Root}
		key := consent.Key(s.id.tenant, s.id.subject)
		put := func(row consent.Row, whole *consent.Whole) {
			value, err := schemas.EncodeState(nil, &schemas.StateRow{
				Tenant: s.id.tenant, Subject: s.id.subject, Test: s.id.test,
				Row: row, Whole: whole, InputOffset: int64(s.input) - 1,
			})
			if err != nil {
				fault = errors.Join(fault, fmt.Errorf("encode a state: %w", err))
				return
			}
			records = append(records, kafka.Record{
				Topic:        names.State(),
				Key:          schemas.StateKey(s.id.tenant, s.id.subject, row.Purpose, s.id.test),
				PartitionKey: key,
				Value:        value,
			})
		}
		if r := s.state.Row(consent.Root); r != nil {
			root = *r
		}
		s.rowsMoved(func(row *consent.Row) {
			if row.Purpose != consent.Root {
				put(*row, nil)
			}
		})
		put(root, &s.state.Whole)
	}
	return records, fault
}
