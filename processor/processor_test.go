package processor

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/owner"
	"github.com/assent-dev/assent/processor/store"
)

const (
	anna consent.Subject = "user:anna"
	ben  consent.Subject = "user:ben"
)

func TestProcessor_AnEventBecomesAStateAndAChange(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 6)
	p := w.start()
	p.awaitReady()
	if s, ok := p.state(anna, false); !ok || s != nil {
		t.Fatalf("before: %v, %v; want nothing on record, and known", s, ok)
	}
	grant := event(r, anna, consent.Grant, "m.e", 1)
	withdraw := event(r, anna, consent.Withdraw, "*", 2)
	withdraw.Policy.Covers = []consent.Purpose{"m.e", "m.s"}
	positions := w.publish(grant, withdraw)
	last := positions[1]
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if err := p.WaitFolded(ctx, last.Index, int64(last.Offset)); err != nil {
		t.Fatal(err)
	}
	s, ok := p.state(anna, false)
	if !ok || s == nil {
		t.Fatal("no state after the events were folded")
	}
	d := consent.Decide(s, consent.NewCatalogue("default", "v1", nil), consent.Query{Purpose: "m.e", At: withdraw.ReceivedAt})
	if d.Allowed || d.Status != consent.Withdrawn || d.DecidedBy.EventID != withdraw.ID || d.Version != 2 {
		t.Errorf("decision %+v, want withdrawn by the second event, version 2", d)
	}
	var got []consent.Status
	for _, c := range w.changes() {
		if c.Purpose == "m.e" {
			got = append(got, c.To)
		}
	}
	if want := []consent.Status{consent.Granted, consent.Withdrawn}; !reflect.DeepEqual(got, want) {
		t.Errorf("changes of m.e: %v, want %v", got, want)
	}
	w.requireReference()
}

func TestProcessor_TestEventsFoldApart(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 2)
	p := w.start()
	e := event(r, anna, consent.Withdraw, "m", 1)
	e.Test = true
	w.publish(e)
	p.awaitFolded()
	if s, ok := p.state(anna, true); !ok || s == nil {
		t.Error("the test State has nothing")
	}
	if s, ok := p.state(anna, false); !ok || s != nil {
		t.Error("a test event is seen by queries that did not ask for tests")
	}
	if c := w.changes(); len(c) != 1 || !c[0].Test {
		t.Errorf("changes %+v, want one, marked as a test", c)
	}
}

func TestProcessor_ARestartRestoresAndTellsNothing(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 6)
	w.publish(randomLog(r, 400)...)
	p := w.start()
	p.awaitFolded()
	p.stop()
	if p.err != nil {
		t.Fatal(p.err)
	}
	told := len(w.changes())
	ends := w.ends(w.names.State())

	p = w.start()
	p.awaitReady()
	p.awaitFolded()
	want, _ := w.reference()
	for id, state := range want {
		if got, ok := p.State(w.ctx, id); !ok || got.State == nil || !reflect.DeepEqual(*got.State, state) {
			t.Errorf("restored state of %s differs (known: %v)", id.Subject, ok)
		}
	}
	p.stop()
	if n := len(w.changes()); n != told {
		t.Errorf("%d changes after the restart, %d before", n, told)
	}
	if again := w.ends(w.names.State()); !reflect.DeepEqual(again, ends) {
		t.Errorf("the changelog grew from %v to %v without an event", ends, again)
	}
	w.requireReference()
}

func TestProcessor_ARandomLogEqualsTheStraightFold(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 3)
	p := w.start(func(c *Config) { c.BatchRecords = 17 })
	log := randomLog(r, 1500)
	for len(log) > 0 {
		n := min(len(log), 1+r.IntN(90))
		w.publish(log[:n]...)
		log = log[n:]
	}
	p.awaitFolded()
	p.stop()
	w.requireReference()
}

func TestProcessor_ReadersSeeAStateOnlyOnceItIsCommitted(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	var p *running
	started := make(chan struct{})
	seen := make(map[step]bool)
	p = w.start(func(c *Config) {
		c.Stripes = 1
		c.after = func(s step) error {
			<-started
			if part, _ := p.owned.find(0); part != nil && part.table != nil { // else the test has stopped it already
				state, err := part.table.State(consent.SubjectID{Tenant: consent.DefaultTenant, Subject: anna})
				seen[s] = err != nil || state != nil
			}
			return nil
		}
	})
	close(started)
	w.publish(event(r, anna, consent.Grant, "m.e", 1))
	p.awaitFolded()
	p.stop()
	for _, s := range []step{stepFetch, stepDecode, stepFold, stepCarry, stepBegin, stepWrite, stepCommitOffsets, stepEnd} {
		if visible, ran := seen[s]; visible || !ran {
			t.Errorf("after step %d: visible %v, step seen %v; want hidden", s, visible, ran)
		}
	}
	if !seen[stepPublish] {
		t.Error("not visible after it was published")
	}
}

func TestProcessor_WaitFoldedGivesUpWithItsContext(t *testing.T) {
	w := newWorld(t, 2)
	p := w.start()
	p.awaitReady()
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
	defer cancel()
	if err := p.WaitFolded(ctx, 0, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for an event that never comes: %v", err)
	}
	if err := p.WaitFolded(ctx, 99, 0); !errors.Is(err, owner.ErrNotOwner) {
		t.Errorf("waiting in a partition that is not there: %v", err)
	}
}

// gate is a channel that letGo closes, once.
func gate() (hold <-chan struct{}, letGo func()) {
	c := make(chan struct{})
	return c, sync.OnceFunc(func() { close(c) })
}

func TestProcessor_IsReadyOnlyOnceTheBacklogIsFolded(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m", 1))
	hold, letGo := gate()
	reached := make(chan struct{}, 1)
	p := w.start(func(c *Config) {
		c.Stripes = 1
		c.after = func(s step) error {
			if s == stepFold {
				reached <- struct{}{}
				<-hold
			}
			return nil
		}
	})
	t.Cleanup(letGo) // before the processor is stopped
	if p.Ready() == nil {
		t.Error("ready before it joined the group")
	}
	<-reached
	if p.Ready() == nil {
		t.Error("ready with a record of the backlog not folded")
	}
	if _, ok := p.state(anna, false); ok {
		t.Error("answers with a record of the backlog not folded")
	}
	letGo()
	p.awaitReady()
	if s, ok := p.state(anna, false); !ok || s == nil {
		t.Error("does not answer though it is ready")
	}
	p.stop()
	if p.Ready() == nil {
		t.Error("ready after it has stopped")
	}
	if _, ok := p.state(anna, false); ok {
		t.Error("answers after it has stopped")
	}
}

// One stripe, two processors: the one that was given nothing is ready all the same,
// since it asks the other one.
func TestProcessor_OneThatStandsByIsReady(t *testing.T) {
	w := newWorld(t, 2)
	one := func(c *Config) { c.Stripes = 1 }
	a, b := w.start(one), w.start(one)
	w.eventually("both are ready, and one answers", func() error {
		_, first := a.state(anna, false)
		_, second := b.state(anna, false)
		if err := errors.Join(a.Ready(), b.Ready()); err != nil || first == second {
			return fmt.Errorf("answer: %v and %v; ready: %w", first, second, err)
		}
		return nil
	})
	a.stop()
	w.eventually("the other one answers", func() error {
		if _, ok := b.state(anna, false); !ok {
			return errors.New("no answer")
		}
		return nil
	})
}

// What was begun is finished: an abandoned write could reach the broker after the
// next owner has restored.
func TestProcessor_AStopFinishesTheBatchInHand(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m", 1))
	var p *running
	started := make(chan struct{})
	p = w.start(func(c *Config) {
		c.Stripes = 1
		c.after = func(s step) error {
			if s == stepFold {
				<-started
				p.cancel()
			}
			return nil
		}
	})
	close(started)
	<-p.done
	if n := len(w.changes()); n != 1 {
		t.Errorf("%d changes, want 1", n)
	}
	if n := len(w.logged()); n != 1 {
		t.Errorf("%d states, want 1", n)
	}
	if next := w.committed(); next != 1 {
		t.Errorf("offset %d committed, want 1", next)
	}
}

func TestProcessor_StopsAnsweringWhenItsClaimEndsEvenInTheMiddleOfABatch(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	hold, letGo := gate()
	reached := make(chan struct{}, 1)
	p := w.start(func(c *Config) {
		c.Stripes = 1
		c.after = func(s step) error {
			if s == stepBegin {
				reached <- struct{}{}
				<-hold
			}
			return nil
		}
	})
	t.Cleanup(letGo) // before the processor is stopped
	p.awaitReady()
	w.publish(event(r, anna, consent.Withdraw, "m", 1))
	<-reached
	if _, ok := p.state(anna, false); !ok {
		t.Error("does not answer while it writes")
	}
	p.cancel()
	w.eventually("it stops answering", func() error {
		if _, ok := p.state(anna, false); ok {
			return errors.New("answers")
		}
		return nil
	})
	letGo()
	p.stop()
}

func TestPartition_AnswersOnlyWithAYoungHeartbeat(t *testing.T) {
	age := 4 * time.Second
	p := &partition{heartbeatAge: func() time.Duration { return age }}
	p.open(newTable(nil, 0))
	p.starts(0, 0)
	if p.answers(age) == nil {
		t.Error("does not answer within the limit")
	}
	age++
	if p.answers(4*time.Second) != nil {
		t.Error("answers with a heartbeat that is older than the limit")
	}
}

func TestOutbox_WritesNothingWithAnOldHeartbeat(t *testing.T) {
	w := newWorld(t, 1)
	o := outbox{producer: w.producer, log: testLogger(t), heartbeatAge: func() time.Duration { return 5 * time.Second }, limit: 4 * time.Second}
	err := o.write(w.ctx, []kafka.Record{{Topic: w.names.Events(), Key: []byte("k")}})
	if !errors.Is(err, errOldHeartbeat) || w.ends(w.names.Events())[0] != 0 {
		t.Errorf("wrote up to %d, error %v", w.ends(w.names.Events())[0], err)
	}
}

func TestFolding_AStateMovesWithItsWhole(t *testing.T) {
	r := seed(t)
	rows, closeStore := openRows(t)
	defer closeStore()
	table := newTable(rows, 1<<20)
	add := func(offset int64, events ...consent.Event) []*subjectFold {
		f := newFolding(table, (*consent.Folder).Fold, new(slab[subjectFold]))
		for i := range events {
			if err := f.add(&events[i], kafka.LastOffset(offset)+kafka.LastOffset(i)); err != nil {
				t.Fatal(err)
			}
		}
		moved := f.moved()
		table.publish(moved)
		f.reset()
		return moved
	}
	newer := event(r, anna, consent.Withdraw, "m", 10)
	if n := len(add(0, newer)); n != 1 {
		t.Fatalf("%d moved, want 1", n)
	}
	if n := len(add(1, newer)); n != 0 {
		t.Errorf("a repeated event moved %d states", n)
	}
	late := event(r, anna, consent.Withdraw, "m", 5) // loses to the newer, but came later
	late.ReceivedAt = newer.ReceivedAt.Add(time.Second)
	if n := len(add(2, late)); n != 1 {
		t.Errorf("the clock moved in %d states, want 1", n)
	}
	elsewhere := event(r, anna, consent.Withdraw, "m", 4)
	elsewhere.Jurisdiction = "DE"
	if n := len(add(3, elsewhere)); n != 1 {
		t.Errorf("the jurisdictions moved in %d states, want 1", n)
	}
	if n := len(add(4, newer, late)); n != 0 {
		t.Errorf("repeated events moved %d states", n)
	}
}

// openRows opens a store of one partition in memory.
func openRows(t testing.TB) (rows *store.Partition, close func()) {
	t.Helper()
	s, err := store.Open(store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rows, err = s.Partition(0)
	if err != nil {
		t.Fatal(err)
	}
	return rows, func() {
		_ = rows.Close()
		_ = s.Close()
	}
}
