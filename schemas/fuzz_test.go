package schemas

import (
	"bytes"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func addGolden(f *testing.F, names ...string) {
	f.Helper()
	for _, name := range names {
		b := readHex(f, filepath.Join("testdata", "golden", name+".hex"))
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
}

// settles holds that what was read can be written, and reads the same again.
func settles[T any](t *testing.T, b []byte, encode func([]byte, *T) ([]byte, error), decode func([]byte) (T, error)) (v T, ok bool) {
	t.Helper()
	v, err := decode(b)
	if err != nil {
		return v, false
	}
	written, err := encode(nil, &v)
	if err != nil {
		t.Fatalf("was read, and cannot be written: %v", err)
	}
	again, err := decode(written)
	if err != nil || !reflect.DeepEqual(again, v) {
		t.Fatalf("reads differently the second time: %+v, then %+v, %v", v, again, err)
	}
	return v, true
}

func FuzzDecodeEvent_NeverPanics(f *testing.F) {
	addGolden(f, "event_minimal", "event_typical", "event_full")
	schema := parsed(f, source(f, "ConsentEvent"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = DecodeIntakeEvent(b)
		e, ok := settles(t, b, EncodeEvent, DecodeEvent)
		if !ok {
			return
		}
		var w wireEvent
		if err := config.Unmarshal(schema, b[frameBytes:], &w); err != nil {
			t.Fatalf("ours reads what the reflective codec refuses: %v", err)
		}
		if e.Digest != EventDigest(&e) {
			t.Fatalf("the digest of the bytes is not that of the event %+v", e)
		}
		checkOriginal(t, b, e)
		// An absent value has more than one form; ours writes the shortest.
		ours, _ := EncodeEvent(nil, &e)
		theirs, err := config.Marshal(schema, toWireEvent(&e))
		if err != nil || !bytes.Equal(ours[frameBytes:], theirs) {
			t.Fatalf("written differently: %x, %x, %v", ours[frameBytes:], theirs, err)
		}
		if w.Subject != string(e.Subject) || w.Action != wireSymbol(e.Action) || w.Test != e.Test {
			t.Fatalf("read differently: %+v, %+v", e, w)
		}
	})
}

func FuzzDecodeState_NeverPanics(f *testing.F) {
	addGolden(f, "state_row", "state_root")
	f.Fuzz(func(t *testing.T, b []byte) {
		settles(t, b, EncodeState, DecodeState)
		_, _, _, _, _ = ParseStateKey(b)
	})
}

func FuzzDecodeChange_NeverPanics(f *testing.F) {
	addGolden(f, "change")
	f.Fuzz(func(t *testing.T, b []byte) { settles(t, b, EncodeChange, DecodeChange) })
}

func FuzzDecodeDelivery_NeverPanics(f *testing.F) {
	addGolden(f, "delivery")
	f.Fuzz(func(t *testing.T, b []byte) { settles(t, b, EncodeDelivery, DecodeDelivery) })
}

func FuzzDecodeDeadLetter_NeverPanics(f *testing.F) {
	addGolden(f, "deadletter")
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = DecodeDeadLetter(b)
		// Whatever the bytes are, they can be set aside.
		if _, err := EncodeDeadLetter(nil, &DeadLetter{Topic: string(b), Code: string(b), Value: b, Headers: []Header{{Key: string(b)}}}); err != nil {
			t.Fatal(err)
		}
	})
}

// unknown never reads as a yes.
func TestDecode_AnActionThatIsUnknownAffirmsNothing(t *testing.T) {
	e := typicalEvent()
	e.Action = consent.ActionUnknown
	b, err := EncodeEvent(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEvent(b)
	if err != nil || got.Action.Affirms() || got.Action.Folds() {
		t.Fatalf("%v, %v", got.Action, err)
	}
}
