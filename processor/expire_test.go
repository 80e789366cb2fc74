package processor

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
)

// An expire event waits behind somebody's open transaction, while the processor goes
// on looking for what has run out.
func TestProcessor_AnExpiryThatIsNotFoldedYetIsWrittenOnce(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	grant := event(r, anna, consent.Grant, "m.e", 0)
	grant.Policy.ExpiresAt = grant.ReceivedAt.Add(time.Hour)
	w.publish(grant)
	var past atomic.Bool
	var looks atomic.Int64
	p := w.start(oneStripe, func(c *Config) {
		c.now = func() time.Time {
			looks.Add(1)
			if past.Load() {
				return base.Time().Add(2 * time.Hour)
			}
			return base.Time()
		}
	})
	p.awaitFolded()

	at := kafka.Partition{Topic: w.names.Events()}
	publisher, err := w.client.OpenTransactor(w.ctx, kafka.TransactorOptions{ID: "a publisher"})
	if err != nil {
		t.Fatal(err)
	}
	if err := publisher.Begin(w.ctx, nil, []kafka.Partition{at}); err != nil {
		t.Fatal(err)
	}
	withdrawal := event(r, ben, consent.Withdraw, "m", 1)
	if _, err := publisher.Write(w.ctx, []kafka.Record{w.record(&withdrawal)}); err != nil {
		t.Fatal(err)
	}
	past.Store(true)
	end := func() kafka.NextOffset {
		ends, err := w.client.Offsets(w.ctx, []kafka.Partition{at}, kafka.Latest)
		if err != nil {
			t.Fatal(err)
		}
		return ends[at]
	}
	w.eventually("the expire event", func() error {
		if n := end(); n < 3 {
			return fmt.Errorf("the log ends at %d", n)
		}
		return nil
	})
	before := looks.Load()
	w.eventually("three more looks", func() error {
		if looks.Load() < before+3 {
			return errors.New("not yet")
		}
		return nil
	})
	if n := end(); n != 3 {
		t.Errorf("the log ends at %d, want the grant, the withdrawal and one expire event", n)
	}
	if err := publisher.End(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.eventually("all changes", func() error {
		if n := len(w.changes()); n != 3 {
			return fmt.Errorf("%d changes", n)
		}
		return nil
	})
	p.awaitFolded()
	p.stop()
	w.requireReference()
}

// Where the clock here is ahead of the broker's, an expire event moves nothing, each time
// that it is folded.
func TestDue_WhatIsNotFoldedComesLessAndLessOften(t *testing.T) {
	r := seed(t)
	rows, closeStore := openRows(t)
	defer closeStore()
	s := &stripe{p: &Processor{}}
	s.p.config.ensureDefaults()
	part := &partition{table: newTable(rows, 1<<20), expiring: make(map[string]expiring)}
	f := newFolding(part.table, (*consent.Folder).Fold, new(slab[subjectFold]))
	grant := event(r, anna, consent.Grant, "m.e", 0)
	grant.Policy.ExpiresAt = grant.ReceivedAt.Add(time.Hour)
	if err := f.add(&grant, 1); err != nil {
		t.Fatal(err)
	}
	writes, err := new(encoding).states(f.moved())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range writes {
		if err := rows.Write([]store.Row{{Key: w.record.Key, Value: w.record.Value, Expires: w.expires}}, store.Mark{}); err != nil {
			t.Fatal(err)
		}
	}
	part.table.forget() // that there was nothing
	now := grant.Policy.ExpiresAt.Time().Add(time.Second)
	due := func(waited time.Duration) int {
		for key, e := range part.expiring {
			e.written = time.Now().Add(-waited)
			part.expiring[key] = e
		}
		events, err := s.due(part, now)
		if err != nil {
			t.Fatal(err)
		}
		return len(events)
	}
	if n := due(0); n != 1 {
		t.Fatalf("%d expire events at first, want 1", n)
	}
	for wait := expireAgain; ; wait = min(2*wait, maxExpireAgain) {
		if n := due(wait - time.Second); n != 0 {
			t.Errorf("written again before %s", wait)
		}
		if n := due(wait + time.Second); n != 1 {
			t.Errorf("not written again after %s", wait)
		}
		if wait == maxExpireAgain {
			break
		}
	}
}
