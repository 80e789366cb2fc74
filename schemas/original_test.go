package schemas

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// stored gives an event as the row of its State holds it.
func stored(e consent.Event) *consent.Original {
	if err := SetOriginal(&e); err != nil {
		panic(err)
	}
	return e.Original
}

// checkOriginal holds what Folding.Decode reads of a value against the event that
// DecodeEvent reads: an Original says the same, and is written as the event is.
func checkOriginal(t *testing.T, b []byte, want consent.Event) {
	t.Helper()
	var e Folding
	if err := e.Decode(b); err != nil {
		t.Fatalf("only DecodeEvent reads it: %v", err)
	}
	o := e.Original
	if e.Original = nil; !reflect.DeepEqual(e.Event, want) {
		t.Fatalf("for the fold it is another event: %+v, want %+v", e.Event, want)
	}
	if (o != nil) != want.Action.Kept() {
		t.Fatalf("action %s: has an Original: %t", want.Action, o != nil)
	}
	if o == nil {
		return
	}
	if got := o.Event(); !reflect.DeepEqual(*got, want) {
		t.Fatalf("the Original is of another event: %+v, want %+v", *got, want)
	}
	if !reflect.DeepEqual(o, stored(want)) {
		t.Fatalf("the Original of the bytes is not that of the event %+v", want)
	}
	row := func(o *consent.Original) []byte {
		b, err := EncodeState(nil, &StateRow{Tenant: "t", Subject: "user:1", Row: consent.Row{Purpose: "a", No: &consent.Record{OrderKey: consent.OrderKey{Digest: want.Digest}}, NoEvent: o}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	written := row(o)
	if !bytes.Equal(written, row(consent.OriginalOf(&want))) {
		t.Fatalf("the row of the Original is not that of the event %+v", want)
	}
	if s, err := DecodeState(written); err != nil || !reflect.DeepEqual(s.Row.NoEvent, o) {
		t.Fatalf("the row gives another Original than the event %+v, %v", want, err)
	}
}

// A reader of a changelog may meet a row whose event another writer wrote with other bytes.
func TestDecodeState_AnEventInOtherBytesIsKeptInOurs(t *testing.T) {
	e := minimalEvent()
	e.Digest = hashOf(0xcd)
	s := StateRow{Tenant: "t", Subject: "user:1", Row: consent.Row{Purpose: "a", No: &consent.Record{OrderKey: consent.OrderKey{Digest: e.Digest}}, NoEvent: stored(e)}}
	ours, err := EncodeState(nil, &s)
	if err != nil {
		t.Fatal(err)
	}
	body, ok := s.Row.NoEvent.Text(storedEvent{})
	at := bytes.Index(ours, body[:len(body)-len(e.Digest)])
	if !ok || at < 0 || ours[at] != 0 {
		t.Fatalf("the event does not stand in its row: %x in %x", body, ours)
	}
	theirs := append(append(bytes.Clone(ours[:at]), 0x80, 0), ours[at+1:]...) // event_id's null, in two bytes
	got, err := DecodeState(theirs)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Fatalf("%+v, %v, want %+v", got, err, s)
	}
	if again, err := EncodeState(nil, &got); err != nil || !bytes.Equal(again, ours) {
		t.Fatalf("written as %x, %v, want %x", again, err, ours)
	}
}
