package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
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
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("write events that follow: %w", ctx.Err())
		}
	}
}

// outlive gives a context that ends some time after ctx, so that what was begun
// can be finished: a transaction that is abandoned holds readers up until the next
// owner ends it.
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

// eventRecords encodes events that the processor derives. They are written as the
// gateway writes its own, under their subjects' keys.
func eventRecords(names topic.Names, events []consent.Event) ([]kafka.Record, error) {
	records := make([]kafka.Record, 0, len(events))
	for i := range events {
		e := &events[i]
		value, err := schemas.EncodeEvent(nil, e)
		if err != nil {
			return nil, fmt.Errorf("encode a derived event: %w", err)
		}
		records = append(records, kafka.Record{Topic: names.Events(), Key: e.Key(), Value: value, Headers: topic.EventHeaders(e, "")})
	}
	return records, nil
}

// changeRecords encodes the changes of a partition in the order of the fold,
// without those whose id told says are there already.
func changeRecords(names topic.Names, changes []consent.Change, told func(consent.UUID) bool) ([]kafka.Record, error) {
	records := make([]kafka.Record, 0, len(changes))
	for i := range changes {
		c := &changes[i]
		if told(c.ID) {
			continue
		}
		value, err := schemas.EncodeChange(nil, c)
		if err != nil {
			return nil, fmt.Errorf("encode a change: %w", err)
		}
		records = append(records, kafka.Record{Topic: names.Changes(), Key: c.Key(), Value: value, Headers: topic.ChangeHeaders(c)})
	}
	return records, nil
}

// rowWrite is a row on its way to the changelog and to the local store.
type rowWrite struct {
	record              kafka.Record
	expires, wasExpires int64 // the store's expiry index: what the row says now, and said before
}

// inputHeader is on a tombstone what [schemas.StateRow.InputOffset] is in a row.
const inputHeader = "input_offset"

// rowWrites encodes the rows that moved, tombstones for those that are gone, and
// last of each subject's, where something of it moved, the "*" row.
func rowWrites(names topic.Names, moved []*subjectFold) ([]rowWrite, error) {
	var writes []rowWrite
	for _, s := range moved {
		key := s.id.Key()
		input := int64(s.input) - 1
		add := func(p consent.Purpose, value []byte, was, is *consent.Row, headers ...kafka.Header) {
			writes = append(writes, rowWrite{
				record: kafka.Record{
					Topic: names.State(), Key: schemas.StateKey(s.id.Tenant, s.id.Subject, p, s.id.Test),
					PartitionKey: key, Value: value, Headers: headers,
				},
				expires: expiryMillis(is), wasExpires: expiryMillis(was),
			})
		}
		encode := func(row *consent.Row, whole *consent.Whole) ([]byte, error) {
			value, err := schemas.EncodeState(nil, &schemas.StateRow{
				Tenant: s.id.Tenant, Subject: s.id.Subject, Test: s.id.Test, Row: *row, Whole: whole, InputOffset: input,
			})
			if err != nil {
				return nil, fmt.Errorf("encode a state: %w", err)
			}
			return value, nil
		}
		for p, was := range s.goneRows {
			if p != consent.Root {
				add(p, nil, was, nil, kafka.Header{Key: inputHeader, Value: strconv.AppendInt(nil, input, 10)})
			}
		}
		for was, is := range s.movedRows {
			if is.Purpose == consent.Root {
				continue
			}
			value, err := encode(is, nil)
			if err != nil {
				return nil, err
			}
			add(is.Purpose, value, was, is)
		}
		if !s.rootMoved() {
			continue
		}
		is := &consent.Row{Purpose: consent.Root}
		if r := s.state.Row(consent.Root); r != nil {
			is = r
		}
		value, err := encode(is, &s.state.Whole)
		if err != nil {
			return nil, err
		}
		add(consent.Root, value, s.before.Row(consent.Root), is)
	}
	return writes, nil
}

// expiryMillis is when the grant that a row announces runs out; 0 = never.
func expiryMillis(row *consent.Row) int64 {
	if row == nil {
		return 0
	}
	at, ok := consent.Expiry(row)
	if !ok {
		return 0
	}
	return int64(at)
}
