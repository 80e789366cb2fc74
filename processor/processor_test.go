package processor

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
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
	if err := p.WaitFolded(ctx, 0, 0); err != context.DeadlineExceeded {
		t.Errorf("waiting for an event that never comes: %v", err)
	}
	if err := p.WaitFolded(ctx, 99, 0); err != context.DeadlineExceeded {
		t.Errorf("waiting in a partition that is not there: %v", err)
	}
}

func TestProcessor_IsReadyOnlyOnceTheBacklogIsFolded(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m", 1))
	hold := make(chan struct{})
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
	close(hold)
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
