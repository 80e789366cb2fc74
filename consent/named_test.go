package consent_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// invalidation names a grant by number.
func invalidation(id, names uint64, at consent.Instant) consent.Event {
	e := consent.Event{Tenant: "default", Subject: "user:1", Purpose: "m", Action: consent.Invalidate, EffectiveAt: at, ReceivedAt: at, Invalidates: &consent.EventRef{}}
	binary.BigEndian.PutUint64(e.ID[8:], id)
	binary.BigEndian.PutUint64(e.Invalidates.EventID[8:], names)
	return e
}

func TestNamed_IsAJoinAndKeepsTheLargestOfEachName(t *testing.T) {
	events := []consent.Event{invalidation(1, 1, 10), invalidation(2, 1, 20), invalidation(3, 2, 5), invalidation(4, 3, 30), invalidation(5, 1, 15)}
	want := map[consent.UUID]consent.UUID{}
	for _, i := range []int{1, 2, 3} {
		want[events[i].Invalidates.EventID] = events[i].ID
	}
	orders := [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}, {1, 1, 0, 3, 2, 4, 1}}
	for _, order := range orders {
		var s consent.State
		for _, i := range order {
			s, _, _ = consent.Fold(s, &events[i])
		}
		named := s.Row("m").Named.Records
		if len(named) != len(want) {
			t.Fatalf("order %v keeps %d names, want %d", order, len(named), len(want))
		}
		for i, r := range named {
			if want[r.Names] != r.EventID {
				t.Errorf("order %v keeps event %s for grant %s, want %s", order, r.EventID, r.Names, want[r.Names])
			}
			if i > 0 && string(named[i-1].Names[:]) >= string(r.Names[:]) {
				t.Errorf("order %v: names are not sorted", order)
			}
		}
	}
}

// However many grants somebody names, a row stays small; the largest stay, in
// any order.
func TestNamed_IsBoundedToTheLargest(t *testing.T) {
	const many = 1000
	var forward, backward consent.State
	for i := range uint64(many) {
		up, down := invalidation(i+1, i+1, consent.Instant(i+1)), invalidation(many-i, many-i, consent.Instant(many-i))
		forward, _, _ = consent.Fold(forward, &up)
		backward, _, _ = consent.Fold(backward, &down)
	}
	a, b := forward.Row("m").Named.Records, backward.Row("m").Named.Records
	if len(a) != 256 || len(b) != 256 {
		t.Fatalf("%d and %d names are kept", len(a), len(b))
	}
	for i := range a {
		if a[i].EventID != b[i].EventID || a[i].OrderAt <= many-256 {
			t.Fatalf("the kept names depend on the order, or are not the largest: %s and %s", a[i].EventID, b[i].EventID)
		}
	}
}

// An invalidate that names a grant can be smaller than the grant by its times, and another
// one, that names some other grant, larger than the first: the grant stays taken back.
func TestNamed_AGrantStaysTakenBackWhateverInvalidatesFollow(t *testing.T) {
	grant := invalidation(1, 0, 30)
	grant.Action, grant.Invalidates = consent.Grant, nil
	named, other := invalidation(2, 1, 10), invalidation(3, 9, 20)
	named.ReceivedAt, other.ReceivedAt = 40, 50
	orders := [][]consent.Event{{grant, named, other}, {grant, other, named}, {named, other, grant}, {other, named, grant}, {other, grant, named}, {named, grant, other}}
	for i, order := range orders {
		var s consent.State
		for j := range order {
			s, _, _ = consent.Fold(s, &order[j])
		}
		if row := s.Row("m"); row.Yes == nil || row.Announced.Status != consent.Invalidated || row.Announced.Allowed != consent.Denied {
			t.Errorf("order %d: it is %v", i, row.Announced)
		}
	}
}

// However many jurisdictions somebody names, a row stays small, the same in any order; and
// one that is not kept any more is not forgotten where it would deny.
func TestJurisdictions_AreBoundedAndAFullListIsStrict(t *testing.T) {
	const many = 100
	at := func(i int) consent.Jurisdiction {
		return consent.Jurisdiction([]byte{'U', 'S', '-', 'A' + byte(i/26), 'A' + byte(i%26)})
	}
	strict := at(many - 1) // the last of them in the alphabet
	declared := &consent.Declaration{ID: "m", Models: consent.ByJurisdiction[consent.Model]{"US": consent.OptOut, strict: consent.OptIn}, LegalBasis: consent.BasisConsent}
	catalogue := consent.NewCatalogue("default", "v1", []*consent.Declaration{declared})
	allowed := func(s *consent.State) bool {
		return consent.Decide(s, catalogue, consent.Query{Purpose: "m", Jurisdiction: "US", At: 1000}).Allowed
	}
	var forward, backward consent.State
	for i := range many {
		up, down := invalidation(uint64(i+1), 0, 1), invalidation(uint64(many-i), 0, 1)
		up.Purpose, up.Jurisdiction, down.Purpose, down.Jurisdiction = "other", at(i), "other", at(many-1-i)
		forward, _, _ = consent.Fold(forward, &up)
		backward, _, _ = consent.Fold(backward, &down)
		if got, want := allowed(&forward), i < 63; got != want {
			t.Fatalf("with %d jurisdictions on record: allowed %v, want %v", i+1, got, want)
		}
		if allowed(&backward) {
			t.Fatalf("allowed, though %s was named", strict)
		}
	}
	a, b := forward.Whole.Jurisdictions, backward.Whole.Jurisdictions
	if len(a) != 64 || !slices.Equal(a, b) {
		t.Fatalf("kept: %v and %v", a, b)
	}
}
