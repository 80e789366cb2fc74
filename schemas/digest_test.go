package schemas

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/hamba/avro/v2"
)

// The digest of an event that was read is taken from its bytes where they are as ours are
// written. Writers may say the same in other bytes: a null as a value that is empty, an
// array in several blocks with their sizes, a number in more bytes than it needs. It is
// the same event, and has the same digest.
func TestDecodeEvent_TheDigestIsTheEventsHoweverItIsWritten(t *testing.T) {
	r, schema := newRandom(t), parsed(t, source(t, "ConsentEvent"))
	blocks := avro.Config{BlockLength: 1}.Freeze() // with the size of each
	odd, longer := 0, 0
	for range 3000 {
		e := r.event()
		w := toWireEvent(&e)
		r.fillWithEmpty(reflect.ValueOf(w).Elem())
		body, err := blocks.Marshal(schema, w)
		if err != nil {
			continue // an enum has no empty symbol
		}
		ours, err := EncodeEvent(nil, &e)
		if err != nil {
			t.Fatal(err)
		}
		written := [][]byte{append(bytes.Clone(ours[:frameBytes]), body...)}
		if ours[frameBytes] == 0 || ours[frameBytes] == 2 { // the branch of event_id, in two bytes
			longer++
			written = append(written, append(append(bytes.Clone(ours[:frameBytes]), ours[frameBytes]|0x80, 0), ours[frameBytes+1:]...))
		}
		for _, b := range append(written, ours) {
			if !bytes.Equal(b, ours) {
				odd++
			}
			read, err := DecodeEvent(b)
			if err != nil {
				t.Fatalf("%x: %v", b, err)
			}
			if want := EventDigest(&e); read.Digest != want || EventDigest(&read) != want {
				t.Fatalf("digest %x, of the event %x, want %x\n%x\n%x", read.Digest, EventDigest(&read), want, b, ours)
			}
			checkOriginal(t, b, read)
		}
	}
	if odd < 2000 || longer < 1000 {
		t.Errorf("only %d other ways to write an event, %d with a long number", odd, longer)
	}
}

// fillWithEmpty gives about one in four of the absent fields a value that is empty.
func (r random) fillWithEmpty(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() != reflect.Pointer {
			continue
		}
		// What is absent or there, and not absent or empty, stays as it is.
		switch v.Type().Field(i).Name {
		case "Policy", "Confirms", "Invalidates", "Carried", "Link":
			if f.IsNil() {
				continue
			}
		}
		if f.IsNil() && r.maybe() {
			continue
		}
		if f.IsNil() {
			f.Set(reflect.New(f.Type().Elem()))
			switch v.Type().Field(i).Name {
			case "Method", "Control", "ControlDefault", "Type", "Channel", "Model", "LegalBasis", "Scope":
				f.Elem().SetString("UNKNOWN")
			}
		}
		if f.Elem().Kind() == reflect.Struct {
			r.fillWithEmpty(f.Elem())
		}
	}
}
