package processor

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
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
	if s, ok := p.State(consent.DefaultTenant, anna, false); !ok || s != nil {
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
	s, ok := p.State(consent.DefaultTenant, anna, false)
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
	if s, ok := p.State(consent.DefaultTenant, anna, true); !ok || s == nil {
		t.Error("the test State has nothing")
	}
	if s, ok := p.State(consent.DefaultTenant, anna, false); !ok || s != nil {
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
		if got, ok := p.State(id.tenant, id.subject, id.test); !ok || got == nil || !reflect.DeepEqual(*got, state) {
			t.Errorf("restored state of %s differs (known: %v)", id.subject, ok)
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

func TestProcessor_ReadersSeeAStateOnlyOnceItIsSaved(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	var p *running
	started := make(chan struct{})
	seen := make(map[step]bool)
	p = w.start(func(c *Config) {
		c.Stripes = 1
		c.after = func(s step) error {
			<-started
			if part, _ := p.owned.find(0); part != nil { // else the test has stopped it already
				seen[s] = part.table.State(consent.DefaultTenant, anna, false) != nil
			}
			return nil
		}
	})
	close(started)
	w.publish(event(r, anna, consent.Grant, "m.e", 1))
	p.awaitFolded()
	p.stop()
	for _, s := range []step{stepFetch, stepDecode, stepFold, stepTell, stepSave} {
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
	if err := p.WaitFolded(ctx, 99, 0); !errors.Is(err, context.DeadlineExceeded) {
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
	if _, ok := p.State(consent.DefaultTenant, anna, false); ok {
		t.Error("answers with a record of the backlog not folded")
	}
	letGo()
	p.awaitReady()
	if s, ok := p.State(consent.DefaultTenant, anna, false); !ok || s == nil {
		t.Error("does not answer though it is ready")
	}
	p.stop()
	if p.Ready() == nil {
		t.Error("ready after it has stopped")
	}
	if _, ok := p.State(consent.DefaultTenant, anna, false); ok {
		t.Error("answers after it has stopped")
	}
}

// One stripe, two processors: the one that stands by says so, and is not ready,
// since it can answer for nobody; the other one is.
func TestProcessor_OneThatStandsByIsNotReadyAndSaysWhy(t *testing.T) {
	w := newWorld(t, 2)
	one := func(c *Config) { c.Stripes = 1 }
	a := w.start(one)
	a.awaitReady()
	b := w.start(one)
	standsBy := func(p *running) bool {
		err := p.Ready()
		return err != nil && strings.Contains(err.Error(), "stands by")
	}
	w.eventually("one stands by and the other is ready", func() error {
		if a.Ready() == nil && standsBy(b) || b.Ready() == nil && standsBy(a) {
			return nil
		}
		return errors.Join(a.Ready(), b.Ready())
	})
	a.stop()
	b.awaitReady()
	b.stop()
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
	if n := len(w.restored()); n != 1 {
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
			if s == stepTell {
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
	if _, ok := p.State(consent.DefaultTenant, anna, false); !ok {
		t.Error("does not answer while it writes")
	}
	p.cancel()
	w.eventually("it stops answering", func() error {
		if _, ok := p.State(consent.DefaultTenant, anna, false); ok {
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
	p.starts(newTable(), 0, 0)
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
	_, err := o.write(w.ctx, "states", []kafka.Record{{Topic: w.names.State(), Key: []byte("k")}})
	if !errors.Is(err, errOldHeartbeat) || w.ends(w.names.State())[0] != 0 {
		t.Errorf("wrote up to %d, error %v", w.ends(w.names.State())[0], err)
	}
}

func TestOutlive_EndsSomeTimeAfterItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	out, done := outlive(ctx, 20*time.Millisecond)
	defer done()
	began := time.Now()
	cancel()
	if out.Err() != nil {
		t.Error("ended at once")
	}
	<-out.Done()
	if took := time.Since(began); took < 20*time.Millisecond {
		t.Errorf("ended after %s", took)
	}
}

func TestFolding_AStateMovesWithItsWhole(t *testing.T) {
	r := seed(t)
	table := newTable()
	add := func(offset int64, events ...consent.Event) []*subjectFold {
		f := newFolding(table, consent.Fold)
		for i := range events {
			if _, err := f.add(&events[i], kafka.LastOffset(offset)+kafka.LastOffset(i)); err != nil {
				t.Fatal(err)
			}
		}
		moved := f.moved()
		table.publish(moved)
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
	if input := table.get(subjectID{consent.DefaultTenant, anna, false}).input; input != 4 {
		t.Errorf("folded up to %d, want 4", input)
	}
	if n := len(add(0, newer, late)); n != 0 {
		t.Errorf("events read again moved %d states", n)
	}
}
