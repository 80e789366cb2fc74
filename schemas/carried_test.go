package schemas

import (
	"reflect"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// What a link carries is the same event after it was written and read, its digest
// included, whichever way it came: so it is ordered the same wherever it is folded.
func TestCarried_ReadBackIsWhatTheFoldMade(t *testing.T) {
	r := newRandom(t)
	carried := 0
	for range 500 {
		first := r.event()
		first.Action, first.Carried, first.Confirms, first.LinkTo, first.ID = consent.Withdraw, nil, nil, "", consent.UUID{1, 15: 2}
		if first.Policy != nil {
			first.Policy.Scope = consent.ScopePerson
		}
		first.Digest = EventDigest(&first)
		at := max(first.EffectiveAt, first.ReceivedAt, 1)
		for _, to := range []consent.Subject{"user:link-1", "user:link-2"} {
			link := consent.Event{ID: consent.UUID{3}, Tenant: first.Tenant, Subject: first.Subject, Purpose: consent.Root, Action: consent.Link, LinkTo: to, EffectiveAt: at, ReceivedAt: at, Test: first.Test}
			s, _, _ := consent.Fold(consent.State{}, &link)
			_, _, events := consent.Fold(s, &first)
			if len(events) != 1 {
				t.Fatalf("%d events are carried", len(events))
			}
			b, err := EncodeEvent(nil, &events[0])
			if err != nil {
				t.Fatal(err)
			}
			read, err := DecodeEvent(b)
			if err != nil {
				t.Fatal(err)
			}
			want := events[0]
			if want.Digest = first.Digest; !reflect.DeepEqual(read, want) {
				t.Fatalf("read\n%+v, want\n%+v", read, want)
			}
			carried++
			first = read // and on, to the next
		}
	}
	if carried != 1000 {
		t.Errorf("%d events were carried", carried)
	}
}

func TestExpireEvent_CanBeWrittenAndRead(t *testing.T) {
	s := consent.State{Tenant: "default", Subject: "user:1", Rows: []consent.Row{{
		Purpose: "m", Version: 1, Announced: consent.Verdict{Status: consent.Granted, Allowed: consent.Allowed},
		Yes: &consent.Record{OrderKey: consent.OrderKey{EventID: consent.UUID{5}, ExpiresAt: 1_770_000_000_000}, PolicyVersion: "v1"},
	}}}
	e := consent.ExpireEvent(&s, "m", 1_770_000_000_001)
	b, err := EncodeEvent(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	read, err := DecodeEvent(b)
	e.Digest = EventDigest(e)
	if err != nil || !reflect.DeepEqual(read, *e) {
		t.Errorf("read %+v, %v, want %+v", read, err, *e)
	}
}
