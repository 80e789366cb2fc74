package owner

import (
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/processor/decision"
)

// askEverywhere asks each process, and fails unless all give want.
func askEverywhere(t *testing.T, all []*process, ids []consent.SubjectID, want []consent.Instant) {
	t.Helper()
	for _, p := range all {
		if got := clocks(p.States(t.Context(), ids)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v\nwant %v", p.config.Instance, got, want)
		}
	}
}

func TestStates_AnyProcessAnswersForEverybodyInOrder(t *testing.T) {
	r := seed(t)
	w := newWorld(t)
	all := three(w)
	var ids []consent.SubjectID
	var want []consent.Instant
	for range 2500 { // more than one request takes
		id := subject(r.IntN(800)) // so that some come more than once
		id.Test = r.IntN(5) == 0
		if w.states[id] == nil && r.IntN(3) > 0 {
			w.grant(id, consent.Instant(1+r.IntN(1_000_000)))
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		if s := w.states[id]; s != nil {
			want = append(want, s.Whole.Clock)
		} else {
			want = append(want, 0)
		}
	}
	askEverywhere(t, all, ids, want)
	askEverywhere(t, all, nil, []consent.Instant{})
}

func TestStates_OneRequestGoesToEachOtherOwner(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	var ids []consent.SubjectID
	others := 0.0
	for i := range maxItems {
		ids = append(ids, subject(i))
		if stripe := int(partitionOf(ids[i])) % stripes; stripe%3 != 0 {
			others++
		}
	}
	all[0].States(t.Context(), ids)
	for i, want := range []int{0, 1, 1} {
		if got := all[i].requests.get(); got != want {
			t.Errorf("%d requests to %s, want %d", got, all[i].config.Instance, want)
		}
	}
	if got, want := all[0].counts(), map[string]float64{"forwarded_total": others, "peer_seconds": 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	if served := all[1].counts()["served_total"] + all[2].counts()["served_total"]; served != others {
		t.Errorf("%v were served, want %v", served, others)
	}
}

// of gives a subject of a stripe.
func of(stripe int) consent.SubjectID {
	for i := 0; ; i++ {
		if id := subject(i); int(partitionOf(id))%stripes == stripe {
			return id
		}
	}
}

func TestStates_AStripeThatMovesIsFoundAtItsNewOwner(t *testing.T) {
	for name, to := range map[string]int{"to another": 2, "to the asker": 0} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			all := three(w)
			id := of(1) // of b
			w.grant(id, 77)
			all[1].local.own(1, false)
			var once sync.Once
			all[1].local.before = func(consent.SubjectID) { // b is asked, and is none any more: the news comes after
				once.Do(func() {
					all[to].local.own(1, true)
					all[0].tell(all[to].record(1, 2))
				})
			}
			if got := clocks(all[0].States(t.Context(), []consent.SubjectID{id})); got[0] != 77 {
				t.Errorf("got %d", got[0])
			}
			if got := all[0].counts()["unavailable_total not_owner"]; got != 0 {
				t.Errorf("%v counted as unavailable", got)
			}
		})
	}
}

func TestStates_AStripeThatIsLostHereIsFoundAtItsNewOwner(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	id := of(0)
	w.grant(id, 77)
	all[0].local.own(0, false)
	all[1].local.own(0, true)
	time.AfterFunc(moveWait/4, func() { all[0].tell(all[1].record(0, 2)) })
	if got := clocks(all[0].States(t.Context(), []consent.SubjectID{id})); got[0] != 77 {
		t.Errorf("got %d", got[0])
	}
	if n := all[0].requests.get(); n != 0 {
		t.Errorf("asked itself over HTTP %d times", n)
	}
}

func TestRouter_CloseGivesItsConnectionsBack(t *testing.T) {
	w := newWorld(t)
	a, b := w.start("a"), w.start("b")
	b.takes([]*process{a, b}, 1, 1)
	b.local.fold(1, 7)
	a.States(t.Context(), []consent.SubjectID{of(1)})
	if err := a.WaitFolded(t.Context(), []decision.Position{{Partition: 1, Offset: 7}}); err != nil {
		t.Fatal(err)
	}
	if n := b.conns.get(); n != 2 {
		t.Errorf("%d connections, want one for States and one for waiting", n)
	}
	_ = a.Close()
	eventually(t, "no connection is open", func() bool { return b.conns.get() == 0 })
}

func TestStates_AnOwnerIsLookedUpAgainOnce(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	id := of(1)
	for _, p := range all {
		p.local.own(1, false)
	}
	epoch := int16(1)
	next := func(p *process) func(consent.SubjectID) {
		return func(consent.SubjectID) { // whoever is asked names the other one
			epoch++
			all[0].tell(p.record(1, epoch))
		}
	}
	all[1].local.before, all[2].local.before = next(all[2]), next(all[1])
	if got := clocks(all[0].States(t.Context(), []consent.SubjectID{id})); got[0] != -1 {
		t.Errorf("got %d", got[0])
	}
	if n := all[1].requests.get() + all[2].requests.get(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	if got := all[0].counts()["unavailable_total not_owner"]; got != 1 {
		t.Errorf("counted %v", all[0].counts())
	}
}

func TestStates_AForwardedRequestIsNeverForwarded(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	id := of(1)
	w.grant(id, 77)
	all[1].local.own(1, false)
	all[2].local.own(1, true)
	all[1].tell(all[2].record(1, 2)) // b knows that c is the owner; a does not
	if got := clocks(all[0].States(t.Context(), []consent.SubjectID{id})); got[0] != -1 {
		t.Errorf("got %d", got[0])
	}
	if b, c := all[1].requests.get(), all[2].requests.get(); b != 1 || c != 0 {
		t.Errorf("%d requests to b, want 1; %d to c, want none", b, c)
	}
}

func TestStates_ADeadOwnerCostsOnlyItsSubjectsAndBoundedTime(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers: as a suspended process does
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	for name, c := range map[string]struct {
		address string
		cause   string
	}{"silent": {silent.Addr().String(), "late"}, "gone": {gone.Addr().String(), "unreached"}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			all := three(w, func(c *Config) { c.SessionTimeout = 3600 * time.Millisecond }) // 600 ms to get, 900 ms to use
			dead := all[2].record(2, 2)
			dead.Address = "http://" + c.address
			all[0].tell(dead)
			ids := []consent.SubjectID{of(0), of(1), of(2)}
			for i, id := range ids {
				w.grant(id, consent.Instant(10+i))
			}
			began := time.Now()
			known := all[0].States(t.Context(), ids)
			took := time.Since(began)
			if got := clocks(known); !reflect.DeepEqual(got, []consent.Instant{10, 11, -1}) {
				t.Errorf("got %v after %s", got, took)
			}
			if took > all[0].lease.toUse() {
				t.Errorf("took %s, longer than an answer may be used", took)
			}
			if n := all[0].counts()["unavailable_total "+c.cause]; n != 1 {
				t.Errorf("counted %v", all[0].counts())
			}
		})
	}
}

// The arithmetic of Config.lease, for every session that is allowed.
func TestLease_EndsBeforeTheOwnersSession(t *testing.T) {
	for _, session := range []time.Duration{100 * time.Millisecond, time.Second, 6 * time.Second, time.Minute} {
		c := Config{SessionTimeout: session}
		c.ensureDefaults()
		l := c.lease()
		if age := c.HeartbeatLimit + l.toUse(); age > session-session/12 {
			t.Errorf("session %s: an answer is used up to %s after the heartbeat", session, age)
		}
		if l.toGet() >= l.toUse() {
			t.Errorf("session %s: %s to get, %s to use", session, l.toGet(), l.toUse())
		}
	}
	c := Config{SessionTimeout: 6 * time.Second}
	c.ensureDefaults()
	if l := c.lease(); l.slack != 2*time.Second || l.toGet() != time.Second || l.toUse() != 1500*time.Millisecond {
		t.Errorf("not the figures of the documentation: %s, %s, %s", l.slack, l.toGet(), l.toUse())
	}
}

func TestStates_AnAnswerThatIsHeldUpIsNotUsed(t *testing.T) {
	w := newWorld(t)
	all := three(w, func(c *Config) { c.SessionTimeout = 600 * time.Millisecond }) // 100 ms to get
	id := of(1)
	w.grant(id, 77)
	release := make(chan struct{})
	all[1].hold = func() { <-release } // the owner has checked; its answer is on its way
	defer close(release)
	if got := clocks(all[0].States(t.Context(), []consent.SubjectID{id})); got[0] != -1 {
		t.Errorf("got %d", got[0])
	}
	if n := all[0].counts()["unavailable_total late"]; n != 1 {
		t.Errorf("counted %v", all[0].counts())
	}
}

// However long an asker takes to use an answer: it stops before the owner's session may have
// ended. The owner's slack counts where it is the shorter one.
func TestStates_AnAnswerIsValidForLessThanTheOwnersSlack(t *testing.T) {
	for name, session := range map[string][2]time.Duration{
		"same":            {3 * time.Second, 3 * time.Second},
		"the owner's":     {time.Minute, 3 * time.Second},
		"the asker's own": {3 * time.Second, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.start("a", func(c *Config) { c.SessionTimeout = session[0] })
			b := w.start("b", func(c *Config) { c.SessionTimeout = session[1] })
			b.takes([]*process{a, b}, 1, 1)
			id := of(1)
			w.grant(id, 77)
			asked := time.Now()
			var checked time.Time
			b.hold = func() {
				checked = time.Now()
				time.Sleep(300 * time.Millisecond) // on its way: this counts too
			}
			known := a.States(t.Context(), []consent.SubjectID{id})
			if got := clocks(known); got[0] != 77 {
				t.Fatalf("got %d", got[0])
			}
			const slack = time.Second
			eventually(t, "not valid any more", func() bool { return !known[0].Valid() })
			if end := time.Now(); end.Sub(asked) < slack/2 || end.Sub(checked) > slack {
				t.Errorf("valid for %s after the question and %s after the check, with a slack of %s", end.Sub(asked), end.Sub(checked), slack)
			}
			if a.counts()["unavailable_total stale"] == 0 {
				t.Error("not counted")
			}
		})
	}
}

func TestStates_AnOwnerWithAnOldHeartbeatGivesNothing(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	id := of(1)
	w.grant(id, 77)
	for name, set := range map[string]func(){
		"before the State is read": func() { all[1].local.stale, all[1].local.unsafe = true, false },
		"while it is read":         func() { all[1].local.stale, all[1].local.unsafe = false, true },
	} {
		all[1].local.set(set)
		if got := clocks(all[0].States(t.Context(), []consent.SubjectID{id})); got[0] != -1 {
			t.Errorf("%s: a peer is told %d", name, got[0])
		}
		if got := clocks(all[1].States(t.Context(), []consent.SubjectID{id})); got[0] >= 0 {
			t.Errorf("%s: tells %d itself", name, got[0])
		}
	}
}

func TestStates_WhatHasNoOwnerIsUnavailableByCause(t *testing.T) {
	w := newWorld(t)
	a, b, foreign := w.start("a"), w.start("b"), w.start("b of yesterday")
	id := of(1)
	w.grant(id, 77)
	alone := b.record(1, 1)
	alone.Address = ""
	former := b.record(1, 1)
	former.Address = foreign.server.URL
	foreign.local.own(1, true) // it would answer, but another instance is meant
	for _, c := range []struct {
		cause  string
		record *Record
	}{{"no_owner", nil}, {"no_address", &alone}, {"not_owner", &former}} {
		before := a.counts()
		if c.record != nil {
			a.tell(*c.record)
		}
		if got := clocks(a.States(t.Context(), []consent.SubjectID{id})); got[0] != -1 {
			t.Errorf("%s: got %d", c.cause, got[0])
		}
		if a.counts()["unavailable_total "+c.cause] != before["unavailable_total "+c.cause]+1 {
			t.Errorf("%s is not the cause of %v, before %v", c.cause, a.counts(), before)
		}
	}
	a.local.set(func() { a.local.unknown = true })
	a.States(t.Context(), []consent.SubjectID{id})
	if a.counts()["unavailable_total unplaced"] != 1 {
		t.Errorf("counted %v", a.counts())
	}
	if n := b.requests.get(); n != 0 {
		t.Errorf("%d requests to an owner without an address", n)
	}
	if foreign.counts()["refused_total"] != 1 {
		t.Errorf("counted %v", foreign.counts())
	}
}

func TestStates_AreRightWhileStripesMove(t *testing.T) {
	r := seed(t)
	w := newWorld(t)
	all := three(w)
	var ids []consent.SubjectID
	var want []consent.Instant
	for i := range 200 {
		ids, want = append(ids, subject(i)), append(want, consent.Instant(i+1))
		w.grant(ids[i], want[i])
	}
	done := make(chan struct{})
	var askers sync.WaitGroup
	for _, p := range all {
		askers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				for i, clock := range clocks(p.States(t.Context(), ids)) {
					if clock >= 0 && clock != want[i] {
						t.Errorf("%s tells %d of %d", p.config.Instance, clock, i)
						return
					}
				}
			}
		})
	}
	for epoch := range int16(60) {
		all[r.IntN(3)].takes(all, 2+epoch, r.IntN(stripes))
		time.Sleep(time.Duration(r.IntN(4)) * time.Millisecond) // as it comes: some moves are seen, some are not
	}
	close(done)
	askers.Wait()
	askEverywhere(t, all, ids, want)
}
