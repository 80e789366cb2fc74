package schemas

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// changes sets one field after the other to something else, and calls visit
// with the event and the field's name; nested fields are dotted Go names.
func changes(t *testing.T, visit func(name string, e *consent.Event)) {
	t.Helper()
	var walk func(path string, at func(*consent.Event) reflect.Value)
	walk = func(path string, at func(*consent.Event) reflect.Value) {
		e := fullEvent()
		v := at(&e)
		if v.Type() == reflect.TypeFor[*consent.Original]() { // of no record
			return
		}
		if v.Kind() == reflect.Pointer {
			walk(path, func(e *consent.Event) reflect.Value { return at(e).Elem() })
			return
		}
		if v.Kind() == reflect.Struct {
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, func(e *consent.Event) reflect.Value { return at(e).Field(i) })
			}
			return
		}
		switch v.Kind() {
		case reflect.String:
			v.SetString("different")
		case reflect.Bool:
			v.SetBool(!v.Bool())
		case reflect.Int64:
			v.SetInt(v.Int() + 1)
		case reflect.Uint8:
			v.SetUint(v.Uint()%2 + 1)
		case reflect.Array:
			v.Index(0).SetUint(v.Index(0).Uint() ^ 1)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		default:
			t.Fatalf("%s: %v", path, v.Kind())
		}
		visit(path[1:], &e)
	}
	walk("", func(e *consent.Event) reflect.Value { return reflect.ValueOf(e).Elem() })
}

func TestClaims_ChangeWithWhatTheSenderClaimsAndNothingElse(t *testing.T) {
	leftOut := map[string]bool{"ID": true, "SentAt": true, "ReceivedAt": true, "EffectiveAt": true, "Digest": true}
	original := fullEvent()
	want := EventClaims(&original)
	fields := 0
	changes(t, func(name string, e *consent.Event) {
		fields++
		stamp := leftOut[name] || len(name) > 7 && (name[:7] == "Policy." || name[:7] == "Carried")
		if same := bytes.Equal(EventClaims(e), want); same != stamp {
			t.Errorf("%s changed: claims the same = %v", name, same)
		}
	})
	if fields < 50 {
		t.Fatalf("only %d fields were tried", fields)
	}
}

func TestClaims_DoNotRunIntoEachOther(t *testing.T) {
	a := consent.Event{Subject: "ab", Property: "c"}
	b := consent.Event{Subject: "a", Property: "bc"}
	c := consent.Event{Property: "x", Source: ""}
	d := consent.Event{Property: "", Source: "x"}
	if bytes.Equal(EventClaims(&a), EventClaims(&b)) || bytes.Equal(EventClaims(&c), EventClaims(&d)) {
		t.Fatal("two events claim the same bytes")
	}
	if len(EventClaims(&consent.Event{})) != 0 {
		t.Fatal("who claims nothing leaves a trace")
	}
}

func TestDigest_ChangesWithEveryFieldButSentAndReceived(t *testing.T) {
	original := fullEvent()
	want := EventDigest(&original)
	// A carried event is the event that it carries: what it became here, and the
	// way it came, make no other.
	same := map[string]bool{"SentAt": true, "ReceivedAt": true, "Digest": true, "ID": true, "Subject": true, "EffectiveAt": true, "Carried.Via": true}
	changes(t, func(name string, e *consent.Event) {
		if got := EventDigest(e) == want; got != same[name] {
			t.Errorf("%s changed: digest the same = %v", name, got)
		}
	})
	original.Carried = nil
	want = EventDigest(&original)
	for name, change := range map[string]func(*consent.Event){
		"ID": func(e *consent.Event) { e.ID[3]++ }, "Subject": func(e *consent.Event) { e.Subject += "x" }, "EffectiveAt": func(e *consent.Event) { e.EffectiveAt++ },
	} {
		e := original
		if change(&e); EventDigest(&e) == want {
			t.Errorf("%s of an event that is not carried changed: the digest is the same", name)
		}
	}
}

func TestDigest_IsTheHashOfTheBodyWithTheTwoTimesNull(t *testing.T) {
	e := fullEvent()
	e.Carried = nil
	got := EventDigest(&e)
	e.SentAt, e.ReceivedAt = 0, 0
	b, err := EncodeEvent(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	if got != sha256.Sum256(b[frameBytes:]) {
		t.Fatal("the digest is of something else")
	}
}

func TestDigest_OfACarriedEventIsThatOfTheFirst(t *testing.T) {
	first := fullEvent()
	first.Carried, first.LinkTo = nil, ""
	want := EventDigest(&first)
	for _, via := range [][]consent.Subject{nil, {"device:1"}, {"device:1", "user:2"}} {
		c := first
		c.ID, c.Subject, c.EffectiveAt, c.ReceivedAt = consent.UUID{9}, "user:9", first.EffectiveAt+5, first.ReceivedAt+7
		c.Carried = &consent.Carried{Subject: first.Subject, EventID: first.ID, EffectiveAt: first.EffectiveAt, Via: via}
		b, err := EncodeEvent(nil, &c)
		if err != nil {
			t.Fatal(err)
		}
		if read, err := DecodeEvent(b); err != nil || read.Digest != want {
			t.Errorf("via %d subjects: %x, %v, want %x", len(via), read.Digest, err, want)
		}
	}
}

func TestStateKey_ComesApartAgain(t *testing.T) {
	r := newRandom(t)
	for range 1000 {
		s := r.state()
		tenant, subject, purpose, test, err := ParseStateKey(StateKey(s.Tenant, s.Subject, s.Row.Purpose, s.Test))
		if err != nil || tenant != s.Tenant || subject != s.Subject || purpose != s.Row.Purpose || test != s.Test {
			t.Fatalf("%v %v %v %v: %v", tenant, subject, purpose, test, err)
		}
	}
	if got := string(StateKey("default", "user:42", "a.b", true)); got != "default|user:42|a.b|test" {
		t.Fatal(got)
	}
	for _, bad := range []string{"", "default|user:42", "default|user:42|a|tests", "default|user:42|a|test|", "|user:42|a", "default||a", "default|user:42|A", "default|user:42|"} {
		if _, _, _, _, err := ParseStateKey([]byte(bad)); err == nil {
			t.Errorf("%q passes as a state's key", bad)
		}
	}
}
