package consent_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func linkTo(n int, from, to consent.Subject, at consent.Instant) consent.Event {
	return consent.Event{ID: id(n), Tenant: "default", Subject: from, Purpose: consent.Root, Action: consent.Link, LinkTo: to, EffectiveAt: at, ReceivedAt: at}
}

// fullRefusal sets every field that a refusal can have.
func fullRefusal() consent.Event {
	e := consent.Event{
		ID: id(7), InteractionID: id(8), RequestID: id(9), Tenant: "shop", Subject: "device:1", Purpose: "m.e", Action: consent.Refuse, Property: "app",
		OccurredAt: 90, SentAt: 110, ReceivedAt: 200, EffectiveAt: 100, Channel: consent.App, Source: "app/1", Jurisdiction: "FR",
		Notice:   consent.Notice{ID: "n", Version: "1", Language: "fr", SHA256: [32]byte{1}},
		Evidence: consent.Evidence{Method: consent.Toggle, Reference: "r", UserAgent: "u"}, Actor: consent.Actor{Type: consent.ActorGuardian, ID: "g"},
		Policy: &consent.Policy{Version: "v1", Model: consent.OptOut, Covers: []consent.Purpose{"m.e", "m.e.x"}}, Test: true,
	}
	return digested(e)
}

// formOf is the form of one event.
type formOf struct{ e consent.Event }

func (f formOf) Event([]byte) consent.Event { return f.e }

func TestLink_ACarriedEventIsACopyWithItsOwnIDAndTimes(t *testing.T) {
	first := fullRefusal()
	l := linkTo(1, "device:1", "user:1", 150)
	l.Tenant, l.Test = "shop", true
	s, _, _ := consent.Fold(consent.State{}, &first)
	_, _, carried := consent.Fold(s, &l)
	if len(carried) != 1 {
		t.Fatalf("%d events are carried, want 1", len(carried))
	}
	want := first
	want.ID, want.Subject, want.EffectiveAt = refUUIDv5(first.ID, "user:1"), "user:1", 150
	want.Carried = &consent.Carried{Subject: "device:1", EventID: first.ID, EffectiveAt: 100, Via: []consent.Subject{"device:1"}}
	if !reflect.DeepEqual(carried[0], want) {
		t.Errorf("carried\n%+v, want\n%+v", carried[0], want)
	}
	// As well from an event that is kept as a text, in either order.
	kept := first
	kept.Original = consent.OriginalIn(formOf{first}, nil)
	s, _, _ = consent.Fold(consent.State{}, &l)
	_, _, before := consent.Fold(s, &kept)
	s, _, _ = consent.Fold(consent.State{}, &kept)
	s, _, behind := consent.Fold(s, &l)
	if !reflect.DeepEqual(before, carried) || !reflect.DeepEqual(behind, carried) || s.Row("m.e").NoEvent != kept.Original {
		t.Errorf("kept as a text, carried\n%+v and\n%+v, want\n%+v", before, behind, carried)
	}
	if again := digested(carried[0]); again.Digest != first.Digest {
		t.Error("the copy has another digest than the first event")
	}
	// A link that is newer than the receipt: nothing holds from before it was received.
	late := linkTo(2, "device:1", "user:2", 300)
	late.Tenant, late.Test = "shop", true
	if _, _, carried = consent.Fold(s, &late); len(carried) != 1 || carried[0].EffectiveAt != 300 || carried[0].ReceivedAt != 300 {
		t.Errorf("carried %+v", carried)
	}
	// And on from there: the first event stays the first.
	on := linkTo(3, "user:1", "user:3", 120)
	on.Tenant, on.Test = "shop", true
	s, _, _ = consent.Fold(consent.State{}, &on)
	_, _, carried = consent.Fold(s, &want)
	if len(carried) != 1 || carried[0].ID != refUUIDv5(first.ID, "user:3") || carried[0].EffectiveAt != 150 ||
		!reflect.DeepEqual(carried[0].Carried, &consent.Carried{Subject: "device:1", EventID: first.ID, EffectiveAt: 100, Via: []consent.Subject{"device:1", "user:1"}}) {
		t.Errorf("carried on %+v", carried)
	}
}

func TestLink_TheSameLogCarriesTheSameEvents(t *testing.T) {
	d := drawer{seeded(t), nil}
	for range histories {
		log := d.events([]consent.Action{consent.Link, consent.Withdraw, consent.Refuse, consent.Unlink, consent.Erase})
		fold := func() (all []consent.Event) {
			states := map[consent.Subject]consent.State{}
			for _, e := range deepCopy(log) {
				s, _, carried := consent.Fold(states[e.Subject], &e)
				states[e.Subject] = s
				all = append(all, carried...)
			}
			return all
		}
		if a, b := fold(), fold(); !reflect.DeepEqual(a, b) {
			t.Fatalf("two folds of one log carry %d and %d events, or other ones\n%s", len(a), len(b), describeAll(log))
		}
	}
}

func TestLink_WhatSaysNothingIsLeftAlone(t *testing.T) {
	for _, to := range []consent.Subject{"", "device:1"} {
		e := linkTo(1, "device:1", to, 5)
		s, changes, carried := consent.Fold(consent.State{}, &e)
		if len(s.Whole.Links)+len(changes)+len(carried) != 0 || s.Whole.Clock != 5 {
			t.Errorf("a link to %q: %+v", string(to), s.Whole)
		}
	}
}

// Who could write what looks carried must not lift anything with it.
func TestLink_NothingButANoIsTakenAsCarried(t *testing.T) {
	for a := consent.Grant; a <= consent.Defer; a++ {
		e := consent.Event{
			ID: id(1), Subject: "user:1", Purpose: "m", Action: a, EffectiveAt: 5, ReceivedAt: 5, Confirms: &consent.EventRef{EventID: id(3), EffectiveAt: 4},
			Carried: &consent.Carried{Subject: "device:1", EventID: id(2), EffectiveAt: 4, Via: []consent.Subject{"device:1"}},
		}
		s, changes, _ := consent.Fold(consent.State{}, &e)
		no := a == consent.Refuse || a == consent.Withdraw
		if row := s.Row("m"); no != (row != nil && row.No != nil) || a != consent.Erase && (len(changes) > 0) != no {
			t.Errorf("a carried %s: %+v, changes %+v", a, row, changes)
		}
	}
}

// A list that is full drops what is not in force first, then the oldest, whatever
// the order; and who folds is told.
func TestLink_AFullListKeepsTheNewestInForceAndTellsWhatFellOut(t *testing.T) {
	const bound, more = 256, 300
	var forward, backward consent.State
	dropped := map[consent.Subject]bool{}
	no := consent.Event{ID: id(9999), Subject: "user:1", Purpose: "m", Action: consent.Withdraw, EffectiveAt: 1, ReceivedAt: 1}
	forward, _, _ = consent.Fold(forward, &no)
	carried := 0
	for i := range more {
		up := linkTo(i, "user:1", consent.Subject(fmt.Sprintf("device:%04d", i)), consent.Instant(10+i))
		next, _, events := consent.Fold(forward, &up)
		if to, ok := consent.DroppedLink(&forward, &next, &up); ok {
			dropped[to] = true
		}
		carried += len(events)
		forward = next
		down := linkTo(more-1-i, "user:1", consent.Subject(fmt.Sprintf("device:%04d", more-1-i)), consent.Instant(10+more-1-i))
		backward, _, _ = consent.Fold(backward, &down)
	}
	if len(forward.Whole.Links) != bound || !reflect.DeepEqual(forward.Whole.Links, backward.Whole.Links) {
		t.Fatalf("%d and %d links are kept, or not the same", len(forward.Whole.Links), len(backward.Whole.Links))
	}
	if carried != more {
		t.Errorf("%d of %d links carried what was said: one that falls out carries all up to then", carried, more)
	}
	if len(dropped) != more-bound || !dropped["device:0000"] || dropped["device:0299"] {
		t.Errorf("%d links are told to have fallen out", len(dropped))
	}
	// One that ended makes room before one that is in force.
	unlink := linkTo(900, "user:1", "device:0299", 900)
	unlink.Action = consent.Unlink
	s, _, _ := consent.Fold(forward, &unlink)
	newer := linkTo(901, "user:1", "device:new", 5)
	next, _, _ := consent.Fold(s, &newer)
	if to, ok := consent.DroppedLink(&s, &next, &newer); !ok || to != "device:0299" {
		t.Errorf("%q fell out", string(to))
	}
	oldest := linkTo(902, "user:1", "device:old", 1)
	after, _, _ := consent.Fold(next, &oldest)
	if to, ok := consent.DroppedLink(&next, &after, &oldest); !ok || to != "device:old" || len(after.Whole.Links) != bound {
		t.Errorf("%q fell out", string(to))
	}
	// What takes no link away says so.
	for _, e := range []consent.Event{no, newer, unlink} {
		s, _, _ := consent.Fold(next, &e)
		if to, ok := consent.DroppedLink(&next, &s, &e); ok {
			t.Errorf("%s: %q fell out", e.Action, string(to))
		}
	}
}

// An event that came a long way still knows where it began, and does not grow
// without bound.
func TestLink_ALongWayKeepsTheFirstSubjectAndIsBounded(t *testing.T) {
	const hops = 400
	subject := func(i int) consent.Subject { return consent.Subject(fmt.Sprintf("user:%04d", i)) }
	e := fullRefusal()
	e.Tenant, e.Test, e.Subject = "default", false, subject(0)
	first := e
	for i := range hops {
		l := linkTo(i, subject(i), subject(i+1), 10)
		s, _, _ := consent.Fold(consent.State{}, &l)
		_, _, carried := consent.Fold(s, &e)
		if len(carried) != 1 {
			t.Fatalf("hop %d carries %d events", i, len(carried))
		}
		e = carried[0]
		via := e.Carried.Via
		if len(via) > 256 || via[0] != first.Subject || via[len(via)-1] != subject(i) || e.Carried.EventID != first.ID || e.Carried.Subject != first.Subject {
			t.Fatalf("after hop %d it came through %d subjects from %q", i, len(via), string(via[0]))
		}
		if slices.Contains(via, e.Subject) {
			t.Fatalf("hop %d leads back", i)
		}
	}
}

func TestExpireEvent_IsDueOnceTheTimeHasCome(t *testing.T) {
	grant := consent.Event{
		ID: id(1), Tenant: "shop", Subject: "user:1", Purpose: "m.e", Action: consent.Grant, EffectiveAt: 5, ReceivedAt: 5, Test: true,
		Policy: &consent.Policy{Version: "v1", Model: consent.OptOut, LegalBasis: consent.BasisConsent, ExpiresAt: 50},
	}
	s, _, _ := consent.Fold(consent.State{}, &grant)
	if at, ok := consent.Expiry(s.Row("m.e")); !ok || at != 50 {
		t.Errorf("runs out at %d, %t", at, ok)
	}
	if e := consent.ExpireEvent(&s, "m.e", 49); e != nil {
		t.Errorf("due before its time: %+v", e)
	}
	e := consent.ExpireEvent(&s, "m.e", 60)
	want := &consent.Event{
		ID: refUUIDv5(grant.ID, "expire|50"), Tenant: "shop", Subject: "user:1", Purpose: "m.e", Action: consent.Expire, ReceivedAt: 60, EffectiveAt: 50,
		Actor: consent.Actor{Type: consent.ActorSystem}, Policy: &consent.Policy{Version: "v1", Model: consent.OptOut, LegalBasis: consent.BasisConsent}, Test: true,
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("%+v, want %+v", e, want)
	}
	if later := consent.ExpireEvent(&s, "m.e", 90); later.ID != e.ID {
		t.Error("the id depends on when it is written")
	}
	next, changes, _ := consent.Fold(s, e)
	if len(changes) != 1 || changes[0].To != consent.Expired || changes[0].EffectiveAt != 50 || changes[0].EventID != e.ID || changes[0].ReceivedAt != 60 || !changes[0].Withdrawal {
		t.Errorf("changes %+v", changes)
	}
	if _, ok := consent.Expiry(next.Row("m.e")); ok || consent.ExpireEvent(&next, "m.e", 90) != nil {
		t.Error("announced, and due again")
	}
	// No yes that runs out was announced: nothing is due.
	for name, row := range map[string]*consent.Row{"none": nil, "empty": {}, "refused": {No: &consent.Record{}, Announced: consent.Verdict{Status: consent.Refused}, Version: 1}} {
		if at, ok := consent.Expiry(row); ok {
			t.Errorf("%s: runs out at %d", name, at)
		}
	}
	forever := grant
	forever.Policy = nil
	s, _, _ = consent.Fold(consent.State{}, &forever)
	if _, ok := consent.Expiry(s.Row("m.e")); ok {
		t.Error("a yes that never runs out does")
	}
}
