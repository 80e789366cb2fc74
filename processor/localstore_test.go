package processor

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
)

// Each way in which a local store can be something else than the beginning of the
// changelog, on its own.
func TestUsable_OnlyAStoreThatIsAPrefixOfTheChangelog(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := &stripe{p: &Processor{config: Config{now: func() time.Time { return now }}}}
	by := kafka.Sender{ID: 7, Epoch: 2}
	type found struct {
		mark       store.Mark
		tail       tail
		topic      [16]byte
		start, end kafka.NextOffset
	}
	for what, change := range map[string]func(*found){
		"":                      func(*found) {},
		"a topic made anew":     func(f *found) { f.topic[0]++ },
		"a changelog cut":       func(f *found) { f.end = 39 },
		"a changelog compacted": func(f *found) { f.start = 41 },
		"no commit":             func(f *found) { f.tail.committed = false },
		"an offset set back":    func(f *found) { f.tail.next = 99 },
		"a torn transaction":    func(f *found) { f.tail.torn = true },
		"another producer":      func(f *found) { f.mark.Producer++ },
		"another epoch":         func(f *found) { f.mark.Epoch++ },
		"too long away":         func(f *found) { now = now.Add(maxStoreAge + time.Millisecond) },
	} {
		f := found{
			mark: store.Mark{Topic: [16]byte{1}, Changelog: 40, Input: 100, Producer: by.ID, Epoch: by.Epoch, At: now.UnixMilli()},
			tail: tail{committed: true, next: 100, note: commitNote{states: span{30, 40}, by: by}}, topic: [16]byte{1}, start: 40, end: 40,
		}
		change(&f)
		if got := s.usable(f.mark, &load{mark: store.Mark{Topic: f.topic}}, &f.tail, f.start, f.end); got != (what == "") {
			t.Errorf("%q: usable is %v", what, got)
		}
	}
}

// A partition where nothing happened for a day is as the changelog is, and its owner
// knows: the next start does not read all of it.
func TestProcessor_AnIdleStoreStaysFresh(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Grant, "m", 1), event(r, ben, consent.Withdraw, "a", 2)) // nothing that runs out: it would not be idle
	var hours atomic.Int64
	dir := t.TempDir()
	later := func(c *Config) {
		c.StateDir, c.now = dir, func() time.Time { return base.Time().Add(time.Duration(hours.Load()) * time.Hour) }
	}
	p := w.start(oneStripe, later)
	p.awaitFolded()
	p.awaitReady()
	hours.Store(24)
	part, _ := p.owned.find(0)
	w.eventually("the store's mark is of today", func() error {
		if mark, _ := part.table.rows.Mark(); time.UnixMilli(mark.At).Before(base.Time().Add(23 * time.Hour)) {
			return fmt.Errorf("it is of %s", time.UnixMilli(mark.At).UTC())
		}
		return nil
	})
	p.stop()
	p = w.start(oneStripe, later)
	p.awaitReady()
	if n := testutil.ToFloat64(p.metrics.discarded); n != 0 {
		t.Error("the store of a partition that was never given away was discarded")
	}
	p.requireStates()
	p.stop()
}

// Behind whatever step the process dies, its store knows no event that the group's
// offset does not: such a row could be of a transaction that never was.
func TestProcessor_TheLocalStoreIsNeverAheadOfTheCommittedOffset(t *testing.T) {
	for s := stepWrite; s <= stepStore; s++ {
		t.Run(stepNames[s], func(t *testing.T) {
			r := seed(t)
			w := newWorld(t, 1)
			w.publish(randomLog(r, 60)...)
			dir := t.TempDir()
			w.crashedBehind(s, 2, func(c *Config) { c.BatchRecords, c.StateDir = 20, dir })
			local, err := store.Open(store.Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = local.Close() }()
			rows, err := local.Partition(0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = rows.Close() }()
			mark, ok := rows.Mark()
			if !ok || mark.Input == 0 {
				t.Fatalf("the store has the mark %+v, want one from the first batch on", mark)
			}
			if committed := w.committed(); kafka.NextOffset(mark.Input) > committed {
				t.Errorf("the store has what came up to %d, and %d is committed", mark.Input, committed)
			}
		})
	}
}

// What is read from the store again is what was folded, whatever a purpose is called: the
// key of a test state ends with a name that a purpose may have.
func TestProcessor_APurposeMayBeCalledTest(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	dir := t.TempDir()
	start := func() *running {
		p := w.start(func(c *Config) { c.StateDir = dir })
		p.awaitFolded()
		p.awaitReady()
		return p
	}
	tried := event(r, anna, consent.Grant, "test", 3)
	tried.Test = true
	w.publish(event(r, anna, consent.Grant, "test.email", 1), event(r, anna, consent.Withdraw, "test", 2), tried, event(r, ben, consent.Grant, "test", 3))
	for range 2 { // folded, and read from the store
		p := start()
		state, _ := p.state(anna, false)
		if d := consent.Decide(state, &consent.Catalogue{}, consent.Query{Purpose: "test.email", At: base.Add(time.Hour)}); d.Allowed || d.Status != consent.Withdrawn {
			t.Errorf("below a purpose that was withdrawn: %s, allowed %v", d.Status, d.Allowed)
		}
		p.requireStates()
		p.stop()
	}
	p := start()
	again := event(r, anna, consent.Withdraw, "test", 5)
	again.Test = true
	w.publish(event(r, ben, consent.Withdraw, "test", 4), again)
	p.awaitFolded()
	p.requireStates()
	p.stop()
	w.requireReference()
}
