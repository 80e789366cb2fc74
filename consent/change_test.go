package consent_test

import (
	"slices"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// eachLog gives a property many random logs to hold over.
func eachLog(t *testing.T, property func(t *testing.T, d drawer, log []consent.Event)) {
	t.Helper()
	d := drawer{seeded(t), catalogue()}
	for range histories {
		log := d.log(d.history(eventsPerHistory))
		property(t, d, log)
		if t.Failed() {
			t.Fatalf("log:\n%s", describe(log))
		}
	}
}

func TestChange_VersionsStartAtOneAndHaveNoGaps(t *testing.T) {
	eachLog(t, func(t *testing.T, _ drawer, log []consent.Event) {
		var s consent.State
		last := map[consent.Purpose]int64{}
		highest := int64(0)
		for i := range log {
			before := s
			var changes []consent.Change
			s, changes, _ = consent.Fold(s, &log[i])
			for _, c := range changes {
				want := last[c.Purpose] + 1
				if row := before.Row(c.Purpose); row == nil || row.Version == 0 { // of which nothing is known, or no more
					want = before.Whole.VersionFloor + 1
				}
				if c.Version != want || c.Version <= last[c.Purpose] {
					t.Errorf("%s goes from version %d to %d", c.Purpose, last[c.Purpose], c.Version)
				}
				last[c.Purpose], highest = c.Version, max(highest, c.Version)
			}
			if floor := s.Whole.VersionFloor; floor != before.Whole.VersionFloor && (floor != highest || log[i].Action != consent.Erase) {
				t.Errorf("event %d, %s: versions go on above %d, the highest is %d", i, log[i].Action, floor, highest)
			}
		}
		for _, row := range s.Rows {
			if row.Version != last[row.Purpose] && row.Version != 0 { // 0: come back after an erasure, with nothing to tell
				t.Errorf("row of %s has version %d, its last change %d", row.Purpose, row.Version, last[row.Purpose])
			}
		}
	})
}

func TestChange_BeginsWhereTheLastOneEndedAndMovesSomething(t *testing.T) {
	eachLog(t, func(t *testing.T, _ drawer, log []consent.Event) {
		var s consent.State
		var all []consent.Change
		for i := range log {
			next, changes, _ := consent.Fold(s, &log[i])
			for _, c := range changes {
				if row := s.Row(c.Purpose); (row == nil || row.Version == 0) && c.From != consent.None {
					t.Errorf("change %d of %s begins at %s: nothing was on record", c.Version, c.Purpose, c.From)
				}
			}
			all, s = append(all, changes...), next
		}
		last := map[consent.Purpose]consent.Change{}
		for _, c := range all {
			was, told := last[c.Purpose]
			if !told || (was.To == consent.Erased && c.From == consent.None) { // its row went with the erasure
				was = consent.Change{To: consent.None, AllowedAfter: consent.Undecided}
			}
			if c.From != was.To || c.AllowedBefore != was.AllowedAfter {
				t.Errorf("change %d of %s begins at %s, the one before ended at %s", c.Version, c.Purpose, c.From, was.To)
			}
			if c.From == c.To && c.AllowedBefore == c.AllowedAfter {
				t.Errorf("change %d of %s moves nothing", c.Version, c.Purpose)
			}
			if c.Type() != "consent."+c.To.String() {
				t.Errorf("type %q of a change to %s", c.Type(), c.To)
			}
			last[c.Purpose] = c
		}
	})
}

func TestChange_AnEventRepeatedAtOnceEmitsNothingAndKeepsEveryRow(t *testing.T) {
	eachLog(t, func(t *testing.T, _ drawer, log []consent.Event) {
		var s consent.State
		for i := range log {
			s, _, _ = consent.Fold(s, &log[i])
			again, changes, _ := consent.Fold(s, &log[i])
			if len(changes) != 0 {
				t.Errorf("event %d repeated emits %+v", i, changes)
			}
			if !slices.Equal(again.Rows, s.Rows) {
				t.Errorf("event %d repeated makes other rows", i)
			}
		}
	})
}

// While nothing expires, a repetition emits nothing however late it comes, but of
// a purpose of which nothing is on record: an event that leaves no record (an
// expire, one from before an erase) can find there what nobody was told.
func TestChange_AnEventRepeatedLateEmitsNothingWhenNothingRanOut(t *testing.T) {
	eachLog(t, func(t *testing.T, d drawer, log []consent.Event) {
		for i := range log {
			if p := log[i].Policy; p != nil && p.ExpiresAt != 0 {
				stamped := *p
				stamped.ExpiresAt = 0
				log[i].Policy = &stamped
				log[i] = digested(log[i])
			}
		}
		s, _ := foldAll(log)
		d.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
		once, changes := foldFrom(s, log)
		for _, c := range flat(changes) {
			if row := s.Row(c.Purpose); row != nil && row.Version > 0 || c.From != consent.None {
				t.Errorf("a full repetition emits %+v", c)
			}
		}
		for _, row := range s.Rows {
			if again := once.Row(row.Purpose); again == nil || row.Version > 0 && *again != row {
				t.Errorf("a full repetition makes another row of %s", row.Purpose)
			}
		}
		twice, changes := foldFrom(once, log)
		if len(flat(changes)) != 0 || !slices.Equal(twice.Rows, once.Rows) {
			t.Errorf("a second full repetition emits %+v", flat(changes))
		}
	})
}

func TestChange_IDsAreUniqueAndRepeatOnReplay(t *testing.T) {
	eachLog(t, func(t *testing.T, _ drawer, log []consent.Event) {
		_, first := foldAll(log)
		_, second := foldAll(deepCopy(log))
		seen := map[consent.UUID]bool{}
		for i, c := range flat(first) {
			if c.ID.IsZero() || seen[c.ID] {
				t.Errorf("change id %s is absent or used twice", c.ID)
			}
			seen[c.ID] = true
			if again := flat(second)[i]; again != c {
				t.Errorf("a replay gives change %+v instead of %+v", again, c)
			}
		}
	})
}

// change_id is derived from tenant, subject, purpose, version and event_id: each
// of them tells two changes apart, and test changes from others.
func TestChange_IDDependsOnEachOfItsParts(t *testing.T) {
	base := consent.Event{ID: id(1), Tenant: "default", Subject: "user:1", Purpose: "m.e", Action: consent.Grant, EffectiveAt: 5, ReceivedAt: 5}
	seen := map[consent.UUID]string{}
	for name, alter := range map[string]func(*consent.Event){
		"base":    func(*consent.Event) {},
		"tenant":  func(e *consent.Event) { e.Tenant = "other" },
		"subject": func(e *consent.Event) { e.Subject = "user:2" },
		"purpose": func(e *consent.Event) { e.Purpose = "m.s" },
		"event":   func(e *consent.Event) { e.ID = id(2) },
		"test":    func(e *consent.Event) { e.Test = true },
	} {
		e := base
		alter(&e)
		_, changes, _ := consent.Fold(consent.State{}, &e)
		if len(changes) != 1 {
			t.Fatalf("%s: %d changes, want 1", name, len(changes))
		}
		if other, taken := seen[changes[0].ID]; taken {
			t.Errorf("%s and %s have the same change id", name, other)
		}
		seen[changes[0].ID] = name
		if c := changes[0]; c.Tenant != e.Tenant || c.Subject != e.Subject || c.Test != e.Test || c.EventID != e.ID {
			t.Errorf("%s: change %+v does not speak of its event", name, c)
		}
		if got, want := string(changes[0].Key()), string(e.Key()); got != want {
			t.Errorf("%s: the change goes under key %q, its event under %q", name, got, want)
		}
	}
	// The version: the same event moves the purpose a second time.
	grant, withdraw := base, base
	grant.Policy = &consent.Policy{ExpiresAt: 10}
	withdraw.ID, withdraw.ReceivedAt, withdraw.Purpose = id(3), 20, "z" // moves the clock past the expiry
	_, changes := foldAll([]consent.Event{grant, withdraw, grant})
	all := flat(changes)
	if len(all) != 3 || all[0].EventID != all[2].EventID || all[0].ID == all[2].ID {
		t.Errorf("one event that moves a purpose twice gives changes %+v", all)
	}
}

// The last change of a purpose says what Decide says at the clock, as long as
// the event that moved the clock last reached that purpose; undecided is left
// to the registry.
func TestChange_TheLastOneOfEachPurposeEqualsTheDecisionAtTheClock(t *testing.T) {
	compared := 0
	eachLog(t, func(t *testing.T, d drawer, log []consent.Event) {
		s, _ := foldAll(log)
		// One event at the clock for every purpose makes all of them current:
		// it is on record already, and so says nothing new.
		var touch []consent.Event
		for i := range log {
			if refHeard(&log[i]) {
				touch = append(touch, log[i])
			}
		}
		_, changes := foldAll(append(slices.Clone(log), touch...))
		last := map[consent.Purpose]consent.Change{}
		for _, c := range flat(changes) {
			last[c.Purpose] = c
		}
		for p, c := range last {
			said := slices.ContainsFunc(touch, func(e consent.Event) bool { return e.Purpose == p })
			if !said {
				continue // covered only: moved when a protective event reaches it
			}
			compared++
			got := consent.Decide(&s, d.cat, consent.Query{Purpose: p, At: s.Whole.Clock})
			if got.Status != c.To {
				t.Errorf("%s: the decision is %s, the last change says %s", p, got.Status, c.To)
			}
			if c.AllowedAfter != consent.Undecided && got.Allowed != (c.AllowedAfter == consent.Allowed) {
				t.Errorf("%s: allowed is %t, the last change says %d", p, got.Allowed, c.AllowedAfter)
			}
			if c.AllowedAfter == consent.Undecided && (c.To != consent.Pending || got.Reason != consent.ReasonDefault) {
				t.Errorf("%s: %s is left to the default, the decision's reason is %s", p, c.To, got.Reason)
			}
		}
	})
	if compared == 0 {
		t.Error("no change was compared")
	}
}

func TestChange_WithdrawalIsTrueExactlyWhereAYesOrADefaultWasTakenAway(t *testing.T) {
	relied := []consent.Status{consent.Granted, consent.None, consent.Pending}
	denied := []consent.Status{consent.Refused, consent.Withdrawn, consent.Expired, consent.Invalidated, consent.Erased}
	all := append(append(slices.Clone(relied), denied...), consent.StatusUnknown)
	tris := []consent.Tri{consent.Undecided, consent.Denied, consent.Allowed}
	wanted := func(before, after consent.Verdict) bool {
		return slices.Contains(relied, before.Status) &&
			(slices.Contains(denied, after.Status) || after.Allowed == consent.Denied && before.Allowed != consent.Denied)
	}
	for _, from := range all {
		for _, to := range all {
			for _, before := range tris {
				for _, after := range tris {
					was, is := consent.Verdict{Status: from, Allowed: before}, consent.Verdict{Status: to, Allowed: after}
					if got := consent.IsWithdrawal(was, is); got != wanted(was, is) {
						t.Errorf("from %v to %v: withdrawal %t", was, is, got)
					}
				}
			}
		}
	}
	withdrawals, others := 0, 0
	eachLog(t, func(t *testing.T, _ drawer, log []consent.Event) {
		_, changes := foldAll(log)
		for _, c := range flat(changes) {
			want := wanted(consent.Verdict{Status: c.From, Allowed: c.AllowedBefore}, consent.Verdict{Status: c.To, Allowed: c.AllowedAfter})
			if c.Withdrawal != want {
				t.Errorf("change from %s to %s: withdrawal %t, want %t", c.From, c.To, c.Withdrawal, want)
			}
			if want {
				withdrawals++
			} else {
				others++
			}
		}
	})
	if withdrawals == 0 || others == 0 {
		t.Errorf("%d withdrawals and %d other changes: the histories show one kind only", withdrawals, others)
	}
}

// A protective event allows nothing, at its node or below; not even an
// invalidate that is larger than one which names a grant.
func TestChange_AProtectiveEventAllowsNothing(t *testing.T) {
	eachLog(t, func(t *testing.T, _ drawer, log []consent.Event) {
		_, changes := foldAll(log)
		for i := range log {
			for _, c := range changes[i] {
				if log[i].Action.Protective() && c.AllowedAfter == consent.Allowed {
					t.Errorf("event %d, %s, allows %s", i, log[i].Action, c.Purpose)
				}
			}
		}
	})
}
