package consent_test

import (
	"encoding/binary"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func TestFold_ChangesNeitherStateNorEvent(t *testing.T) {
	eachLog(t, func(t *testing.T, _ drawer, log []consent.Event) {
		var s consent.State
		for i := range log {
			e := log[i]
			stateBefore, eventBefore := deepCopy(s), deepCopy(e)
			next, changes, _ := consent.Fold(s, &e)
			if !reflect.DeepEqual(s, stateBefore) {
				t.Errorf("event %d writes to the State that it is folded into", i)
			}
			if !reflect.DeepEqual(e, eventBefore) {
				t.Errorf("event %d is written to", i)
			}
			// Nor later: what a further fold does stays invisible here.
			nextBefore, changesBefore := deepCopy(next), slices.Clone(changes)
			for j := i + 1; j < min(i+4, len(log)); j++ {
				consent.Fold(next, &log[j])
			}
			if !reflect.DeepEqual(next, nextBefore) || !slices.Equal(changes, changesBefore) {
				t.Errorf("a fold after event %d writes to what that one gave", i)
			}
			s = next
		}
	})
}

func TestDecide_ChangesNoState(t *testing.T) {
	eachLog(t, func(t *testing.T, d drawer, log []consent.Event) {
		half := len(log) / 2
		a, _ := foldAll(log[:half])
		b, _ := foldAll(log[half:])
		beforeA, beforeB := deepCopy(a), deepCopy(b)
		for _, p := range askedOf {
			consent.Decide(&a, d.cat, consent.Query{Purpose: p, Jurisdiction: "US", At: minute * 9})
			consent.DecideTogether([]*consent.State{&a, &b}, d.cat, consent.Query{Purpose: p, Jurisdiction: "US", At: minute * 9})
		}
		if !reflect.DeepEqual(a, beforeA) || !reflect.DeepEqual(b, beforeB) {
			t.Error("a question changes the State")
		}
	})
}

// Goroutines that share a State may fold and ask at once; the race detector
// watches.
func TestFold_ConcurrentlyFromOneState(t *testing.T) {
	d := drawer{seeded(t), catalogue()}
	for range 20 {
		h := d.history(eventsPerHistory)
		base, _ := foldAll(d.log(h))
		next := d.history(eventsPerHistory)
		want, wantChanges := foldFrom(base, next)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				got, changes := foldFrom(base, next)
				if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(changes, wantChanges) {
					t.Error("a concurrent fold gives something else")
				}
				for _, p := range askedOf {
					consent.DecideTogether([]*consent.State{&base, &got}, d.cat, consent.Query{Purpose: p, At: minute * 9})
				}
			})
		}
		wg.Wait()
	}
}

// What a fold leaves alone compares equal by ==, so that a writer knows which
// rows to write.
func TestFold_RowsThatAreUntouchedCompareEqual(t *testing.T) {
	eachLog(t, func(t *testing.T, _ drawer, log []consent.Event) {
		var s consent.State
		for i := range log {
			next, changes, _ := consent.Fold(s, &log[i])
			if log[i].Action == consent.Erase {
				s = next // takes rows away
				continue
			}
			touched := map[consent.Purpose]bool{log[i].Purpose: true}
			for _, c := range changes {
				touched[c.Purpose] = true
			}
			for _, row := range s.Rows {
				if after := next.Row(row.Purpose); after == nil || !touched[row.Purpose] && *after != row {
					t.Errorf("event %d alters the row of %s", i, row.Purpose)
				}
			}
			if !slices.IsSortedFunc(next.Rows, func(a, b consent.Row) int { return compareText(a.Purpose, b.Purpose) }) {
				t.Errorf("rows are out of order after event %d", i)
			}
			s = next
		}
	})
}

// Who folds uses the memory of an event again, unless the State may keep it.
func TestFold_KeepsOnlyEventsThatAreKept(t *testing.T) {
	eachLog(t, func(t *testing.T, _ drawer, log []consent.Event) {
		want, _ := foldAll(log)
		var s consent.State
		for i := range log {
			e := log[i]
			s, _, _ = consent.Fold(s, &e)
			if !e.Action.Kept() {
				e = consent.Event{Subject: "user:another", Purpose: "x", Property: "gone"}
			}
		}
		if !reflect.DeepEqual(s, want) {
			t.Error("the State changed with the memory of an event")
		}
	})
}

func TestState_PutRowAndRemoveRowKeepRowsSortedAndSingle(t *testing.T) {
	d := drawer{seeded(t), nil}
	var s consent.State
	want := map[consent.Purpose]int64{}
	for v := int64(1); v < 500; v++ {
		p := pick(d, askedOf)
		if d.chance(30) {
			s.RemoveRow(p)
			delete(want, p)
		} else {
			s.PutRow(consent.Row{Purpose: p, Version: v})
			want[p] = v
		}
		if len(s.Rows) != len(want) {
			t.Fatalf("%d rows, want %d", len(s.Rows), len(want))
		}
		for _, q := range askedOf {
			row := s.Row(q)
			if version, ok := want[q]; ok != (row != nil) || ok && row.Version != version {
				t.Fatalf("row of %s is %+v, want version %d", q, row, version)
			}
		}
	}
	var none *consent.State
	if none.Row("m") != nil {
		t.Error("no State has a row")
	}
}

// FuzzFold_AnyOrderSameRecords folds a history that the input describes as it
// stands, and in another order with repetitions: the records are the same, and
// are those of the reference.
func FuzzFold_AnyOrderSameRecords(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add([]byte{0, 0, 0, 0, 0, 4, 0, 0, 0, 0}, uint64(2))
	f.Add([]byte("\x00\x21\x02\x00\x01\x03\x21\x02\x00\x02\x05\x21\x02\x10\x03\x00\x21\x42\x80\x04"), uint64(3))
	f.Add([]byte("a withdrawal is never refused and never lost; doubt favours the subject"), uint64(4))
	f.Fuzz(func(t *testing.T, data []byte, order uint64) {
		h := historyFrom(data)
		got, _ := foldAll(h)
		if problem := differsInRecords(&got, refHear(h)); problem != "" {
			t.Fatalf("%s\n%s", problem, describe(h))
		}
		for _, p := range askedOf {
			at := minute * 5
			decision := consent.Decide(&got, catalogue(), consent.Query{Purpose: p, At: at})
			if problem := differs(decision, registry.refDecide(refHear(h), p, "", at)); problem != "" {
				t.Fatalf("%s: %s\n%s", p, problem, describe(h))
			}
		}
		other, _ := foldAll(reorder(h, order))
		if !reflect.DeepEqual(recordsOf(got), recordsOf(other)) {
			t.Fatalf("order %d gives other records\n%s", order, describe(h))
		}
	})
}

// historyFrom reads five bytes an event, at most 32 events. Every input is a
// history.
func historyFrom(data []byte) []consent.Event {
	actions := []consent.Action{consent.Grant, consent.Refuse, consent.Withdraw, consent.Invalidate, consent.Request, consent.Defer, consent.Confirm, consent.Erase, consent.Expire}
	var h []consent.Event
	for ; len(data) >= 5 && len(h) < 32; data = data[5:] {
		e := consent.Event{
			ID: id(int(data[4] % 16)), Tenant: consent.DefaultTenant, Subject: "user:42",
			Action: actions[int(data[0])%len(actions)], Purpose: saidOf[int(data[1])%len(saidOf)],
			EffectiveAt: minute * consent.Instant(1+data[2]%4), Jurisdiction: jurisdictions[int(data[2]/4)%len(jurisdictions)],
			Channel: []consent.Channel{consent.Web, consent.Import}[data[3]&1],
		}
		e.ReceivedAt = e.EffectiveAt + minute*consent.Instant(data[2]>>6)
		if data[3]&2 == 0 {
			e.Policy = &consent.Policy{DoubleOptIn: data[3]&4 != 0, HistoryImport: data[3]&8 != 0, ExpiresAt: minute * consent.Instant(data[3]>>5)}
		}
		if data[3]&16 != 0 && e.Action == consent.Invalidate {
			e.Invalidates = &consent.EventRef{EventID: id(int(data[4] >> 4)), EffectiveAt: minute * consent.Instant(data[0]>>6)}
		}
		if data[3]&16 != 0 && e.Action == consent.Confirm {
			e.Confirms = &consent.EventRef{EventID: id(int(data[4] >> 4)), EffectiveAt: minute * consent.Instant(data[0]>>6)}
		}
		h = append(h, digested(e))
	}
	return h
}

// reorder shuffles a history, and says some of it twice, as the number says.
func reorder(h []consent.Event, order uint64) []consent.Event {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], order)
	log := slices.Clone(h)
	for i := range h {
		if key[i%8]>>(i/8%8)&1 == 1 {
			log = append(log, h[i])
		}
	}
	for i := len(log) - 1; i > 0; i-- {
		order = order*6364136223846793005 + 1442695040888963407
		j := int(order>>33) % (i + 1)
		log[i], log[j] = log[j], log[i]
	}
	return log
}
