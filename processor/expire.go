package processor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas"
)

const (
	// expireAgain is after how long an expire event is written again that was not
	// folded, or folded at a time of the broker's before the expiry: where the clock here
	// is ahead. It doubles from one time to the next.
	expireAgain    = 10 * time.Second
	maxExpireAgain = 5 * time.Minute
	// expireAtOnce bounds the expire events of one look: the others come with the next.
	expireAtOnce = 1000
)

// expiring is an expire event that is written, and not folded yet.
type expiring struct {
	written time.Time
	wait    time.Duration // until it is written again
}

// expire writes an event for each grant that ran out, so that downstreams hear of
// it; decisions see an expiry when they are asked. Like a carried event it is written to consent.events and folded when it is
// read: a grant that came before it in the log wins.
func (s *stripe) expire(ctx context.Context) error {
	now := s.p.config.now()
	var events []consent.Event
	for _, part := range s.parts {
		if !part.isLive() {
			continue
		}
		due, err := s.due(part, now)
		if damaged := new(storeError); errors.As(err, &damaged) {
			return err
		} else if err != nil {
			s.stop(part, fmt.Errorf("look for grants that ran out: %w", err))
			continue
		}
		events = append(events, due...)
	}
	if len(events) == 0 {
		return nil
	}
	s.encoding.reset()
	records, err := s.encoding.events(events)
	if err != nil {
		return err
	}
	if err := s.outbox.write(ctx, records); err != nil {
		return err
	}
	s.p.metrics.expired.Add(float64(len(events)))
	return nil
}

// due gives the expire events of one partition. An entry of the index that no longer
// says what its row says is removed.
func (s *stripe) due(part *partition, now time.Time) ([]consent.Event, error) {
	rows := part.table.rows
	if at, ok := rows.NextDue(); !ok || at > now.UnixMilli() {
		return nil, nil
	}
	type entry struct {
		at  int64
		key []byte
	}
	var entries []entry
	err := rows.Due(now.UnixMilli(), expireAtOnce+len(part.expiring), func(at int64, key []byte) {
		entries = append(entries, entry{at, bytes.Clone(key)})
	})
	if err != nil {
		return nil, &storeError{err}
	}
	var events []consent.Event
	for _, e := range entries {
		last, again := part.expiring[string(e.key)]
		if again && time.Since(last.written) < last.wait {
			continue
		}
		event, err := s.expireEvent(part, e.key, e.at, now)
		if err != nil {
			return nil, err
		}
		if event == nil {
			delete(part.expiring, string(e.key))
			if err := rows.Settle(e.key, e.at); err != nil {
				return nil, &storeError{err}
			}
			continue
		}
		wait := expireAgain
		if again {
			wait = min(2*last.wait, maxExpireAgain)
		}
		part.expiring[string(e.key)] = expiring{time.Now(), wait}
		events = append(events, *event)
	}
	return events, nil
}

// expireEvent gives the event for a row, nil when the row does not run out then.
func (s *stripe) expireEvent(part *partition, key []byte, at int64, now time.Time) (*consent.Event, error) {
	tenant, subject, purpose, test, err := schemas.ParseStateKey(key)
	if err != nil {
		return nil, &storeError{fmt.Errorf("expiry index: %w", err)}
	}
	state, err := part.table.State(consent.SubjectID{Tenant: tenant, Subject: subject, Test: test})
	if err != nil {
		return nil, err
	}
	row := state.Row(purpose)
	if row == nil || expiryMillis(row) != at {
		return nil, nil
	}
	return consent.ExpireEvent(state, purpose, consent.InstantOf(now)), nil
}
