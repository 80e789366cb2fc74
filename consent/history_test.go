package consent_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/assent-dev/assent/consent"
)

const (
	histories        = 1000
	ordersPerHistory = 4
	eventsPerHistory = 24
)

// times at which decisions are asked: before, between and after everything that
// the histories speak of.
var times = []consent.Instant{minute, minute*4 + 1, minute * 6, minute * 11, minute * 100}

func TestFold_RandomHistoriesInAnyOrderWithRepetitionsEqualTheReference(t *testing.T) {
	d := drawer{seeded(t), catalogue()}
	logs, events, changes := 0, 0, 0
	for n := range histories {
		h := d.history(eventsPerHistory)
		said := refHear(h)
		var first consent.State
		for order := range ordersPerHistory {
			log := d.log(h)
			got, emitted := foldAll(log)
			logs, events, changes = logs+1, events+len(log), changes+len(flat(emitted))
			if order == 0 {
				first = recordsOf(got)
			} else if !reflect.DeepEqual(recordsOf(got), first) {
				t.Fatalf("history %d: order %d gives other records than order 0\nlog:\n%s", n, order, describe(log))
			}
			problem := differsInRecords(&got, said)
			if problem == "" {
				problem = differsInDecisions(&got, d.cat, said)
			}
			if problem == "" {
				problem = differsInChanges(emitted, refChanges(log))
			}
			if problem != "" {
				t.Fatalf("history %d, order %d: %s\nlog:\n%s", n, order, problem, describe(log))
			}
		}
	}
	t.Logf("%d histories, %d logs, %d events folded, %d changes", histories, logs, events, changes)
}

func TestFold_TheSameLogTwiceGivesTheSameStateAndChanges(t *testing.T) {
	d := drawer{seeded(t), catalogue()}
	for n := range histories {
		log := d.log(d.history(eventsPerHistory))
		s1, c1 := foldAll(log)
		s2, c2 := foldAll(deepCopy(log))
		if !reflect.DeepEqual(s1, s2) {
			t.Fatalf("history %d: two folds of one log differ in state\n%s", n, describe(log))
		}
		if !reflect.DeepEqual(c1, c2) {
			t.Fatalf("history %d: two folds of one log differ in changes\n%s", n, describe(log))
		}
	}
}

// A device and an account are one person: the answer is the one that all their
// events under one id would give.
func TestDecideTogether_EqualsTheReferenceOverAllSubjectsEvents(t *testing.T) {
	d := drawer{seeded(t), catalogue()}
	for n := range histories {
		var all []consent.Event
		states := []*consent.State{nil, {}} // two subjects with nothing on record
		for range 1 + d.IntN(3) {
			h := d.history(8)
			all = append(all, h...)
			s, _ := foldAll(d.log(h))
			states = append(states, &s)
		}
		d.Shuffle(len(states), func(i, j int) { states[i], states[j] = states[j], states[i] })
		said := refHear(all)
		for _, p := range askedOf {
			for _, at := range times {
				j := pick(d, jurisdictions)
				got := consent.DecideTogether(states, d.cat, consent.Query{Purpose: p, Jurisdiction: j, At: at})
				if problem := differs(got, registry.refDecide(said, p, j, at)); problem != "" {
					t.Fatalf("history %d, %s in %q at %d: %s\n%s", n, p, j, at, problem, describe(all))
				}
			}
		}
	}
}

// differsInRecords compares every row with the reference's largest events.
func differsInRecords(s *consent.State, said []refSaid) string {
	if clock := refClock(said); s.Whole.Clock != clock {
		return fmt.Sprintf("clock %d, want %d", s.Whole.Clock, clock)
	}
	var want []consent.Jurisdiction
	for i := range said {
		if j := said[i].Jurisdiction; j != "" && !slices.Contains(want, j) {
			want = append(want, j)
		}
	}
	slices.Sort(want)
	if !slices.Equal(s.Whole.Jurisdictions, want) {
		return fmt.Sprintf("jurisdictions %v, want %v", s.Whole.Jurisdictions, want)
	}
	for _, p := range saidOf {
		row := s.Row(p)
		if row == nil {
			row = &consent.Row{}
		}
		for kind, got := range map[string]*consent.Record{"yes": row.Yes, "pending": row.Pending, "no": row.No, "ended": row.Ended} {
			if problem := differsInRecord(got, refLargest(said, p, kind)); problem != "" {
				return fmt.Sprintf("%s of %s: %s", kind, p, problem)
			}
		}
		no := refLargest(said, p, "no")
		if (row.NoEvent == nil) != (no == nil) || no != nil && row.NoEvent.Event().Digest != no.Digest {
			return fmt.Sprintf("the event kept of %s's no is not the largest", p)
		}
	}
	return ""
}

func differsInRecord(got *consent.Record, want *refSaid) string {
	if got == nil || want == nil {
		if got != nil || want != nil {
			return fmt.Sprintf("on record: %t, want %t", got != nil, want != nil)
		}
		return ""
	}
	if got.EventID != want.ID || got.Digest != want.Digest {
		return fmt.Sprintf("event %s (%x), want %s (%x)", got.EventID, got.Digest[:3], want.ID, want.Digest[:3])
	}
	names := consent.UUID{}
	switch {
	case want.Carried != nil:
		names = want.Carried.EventID
	case want.Action == consent.Confirm:
		names = want.Confirms.EventID
	case want.Invalidates != nil:
		names = want.Invalidates.EventID
	}
	if got.Action != want.Action || got.EffectiveAt != want.EffectiveAt || got.OrderAt != refOrderAt(&want.Event) ||
		got.ExpiresAt != refExpiry(&want.Event) || got.Channel != want.Channel || got.Jurisdiction != want.Jurisdiction || got.Names != names {
		return fmt.Sprintf("record %+v does not tell of event %+v", *got, want.Event)
	}
	return ""
}

func differsInDecisions(s *consent.State, c *consent.Catalogue, said []refSaid) string {
	for _, p := range askedOf {
		for _, j := range jurisdictions {
			for _, at := range times {
				got := consent.Decide(s, c, consent.Query{Purpose: p, Jurisdiction: j, At: at})
				if problem := differs(got, registry.refDecide(said, p, j, at)); problem != "" {
					return fmt.Sprintf("decision for %s in %q at %d: %s", p, j, at, problem)
				}
			}
		}
	}
	return ""
}

func differs(got consent.Decision, want refAnswer) string {
	g := refAnswer{Status: got.Status, Allowed: got.Allowed, Since: got.Since}
	if got.DecidedBy != nil {
		g.By = got.DecidedBy.EventID
	}
	if g != want {
		return fmt.Sprintf("got %s, want %s", showAnswer(g), showAnswer(want))
	}
	return ""
}

func showAnswer(a refAnswer) string {
	return fmt.Sprintf("{%s allowed=%t by=%s since=%d}", a.Status, a.Allowed, a.By, a.Since)
}

// differsInChanges compares the changes of each event, whatever their order
// within one fold.
func differsInChanges(got [][]consent.Change, want [][]refChange) string {
	for i := range got {
		var g []refChange
		for _, c := range got[i] {
			g = append(g, refChange{
				Purpose: c.Purpose, From: c.From, To: c.To, Before: c.AllowedBefore, After: c.AllowedAfter, Withdrawal: c.Withdrawal,
				Event: c.EventID, EffectiveAt: c.EffectiveAt, Version: c.Version, Clock: c.Timestamp,
			})
		}
		slices.SortFunc(g, func(a, b refChange) int { return compareText(a.Purpose, b.Purpose) })
		if !slices.Equal(g, want[i]) {
			return fmt.Sprintf("event %d emits\n  %+v, want\n  %+v", i, g, want[i])
		}
	}
	return ""
}

func compareText(a, b consent.Purpose) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// describe prints a log, one event a line, as small as a failure needs it.
func describe(log []consent.Event) string {
	text := ""
	for i := range log {
		e := &log[i]
		text += fmt.Sprintf("  %2d %s %-10s %-4s at=%d received=%d in=%q %s", i, e.ID, e.Action, e.Purpose, e.EffectiveAt, e.ReceivedAt, e.Jurisdiction, e.Channel)
		if e.Policy != nil {
			text += fmt.Sprintf(" expires=%d doi=%t history=%t covers=%v", e.Policy.ExpiresAt, e.Policy.DoubleOptIn, e.Policy.HistoryImport, e.Policy.Covers)
		}
		if e.Confirms != nil {
			text += fmt.Sprintf(" confirms=%s@%d", e.Confirms.EventID, e.Confirms.EffectiveAt)
		}
		if e.LinkTo != "" {
			text += " to=" + string(e.LinkTo)
		}
		if e.Invalidates != nil {
			text += fmt.Sprintf(" names=%s@%d", e.Invalidates.EventID, e.Invalidates.EffectiveAt)
		}
		text += fmt.Sprintf(" digest=%x\n", e.Digest[:3])
	}
	return text
}
