package schemas

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/hamba/avro/v2"

	"github.com/assent-dev/assent/consent"
)

const randomRounds = 3000

// agrees holds one value against both codecs: ours gives the value back, and
// writes and reads exactly what the library's reflective codec does.
func agrees[T, W any](t *testing.T, schema avro.Schema, v T, wire *W,
	encode func([]byte, *T) ([]byte, error), decode func([]byte) (T, error), settle func(*T)) {
	t.Helper()
	b, err := encode(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	want, err := config.Marshal(schema, wire)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b[frameBytes:], want) {
		t.Fatalf("ours differs from the reflective codec:\n got %x\nwant %x", b[frameBytes:], want)
	}
	got, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if settle != nil {
		settle(&v)
	}
	if !reflect.DeepEqual(got, v) {
		t.Fatalf("came back changed:\n got %+v\nwant %+v", got, v)
	}
	var reflected W
	if err := config.Unmarshal(schema, b[frameBytes:], &reflected); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&reflected, wire) {
		t.Fatalf("the reflective codec reads something else:\n got %+v\nwant %+v", &reflected, wire)
	}
}

// settleEvent is what DecodeEvent adds.
func settleEvent(e *consent.Event) { e.Digest = EventDigest(e) }

func TestEvent_ComesBackWithEveryFieldAndAgreesWithReflection(t *testing.T) {
	r, schema := newRandom(t), parsed(t, source(t, "ConsentEvent"))
	for range randomRounds {
		e := r.event()
		agrees(t, schema, e, toWireEvent(&e), EncodeEvent, DecodeEvent, settleEvent)
	}
}

func TestState_ComesBackWithEveryFieldAndAgreesWithReflection(t *testing.T) {
	r, schema := newRandom(t), parsed(t, source(t, "ConsentState"))
	for range randomRounds {
		s := r.state()
		agrees(t, schema, s, toWireState(&s), EncodeState, DecodeState, nil)
	}
}

func TestChange_ComesBackWithEveryFieldAndAgreesWithReflection(t *testing.T) {
	r, schema := newRandom(t), parsed(t, source(t, "ConsentChange"))
	for range randomRounds {
		c := r.change()
		agrees(t, schema, c, toWireChange(&c), EncodeChange, DecodeChange, nil)
	}
}

func TestDelivery_ComesBackWithEveryFieldAndAgreesWithReflection(t *testing.T) {
	r, schema := newRandom(t), parsed(t, source(t, "DeliveryAttempt"))
	for range randomRounds {
		v := r.delivery()
		agrees(t, schema, v, toWireDelivery(&v), EncodeDelivery, DecodeDelivery, nil)
	}
}

func TestDeadLetter_ComesBackWithEveryFieldAndAgreesWithReflection(t *testing.T) {
	r, schema := newRandom(t), parsed(t, source(t, "DeadLetter"))
	for range randomRounds {
		l := r.deadLetter()
		agrees(t, schema, l, toWireDeadLetter(&l), EncodeDeadLetter, DecodeDeadLetter, nil)
	}
}

// A field that is added to a domain type and forgotten in its codec would stay
// zero for ever; here every field must differ from zero once.
func TestRandomValues_ReachEveryFieldOfTheDomain(t *testing.T) {
	r := newRandom(t)
	seen := map[string]bool{}
	var types []reflect.Type
	for range 400 {
		e, s, c, v, l := r.event(), r.state(), r.change(), r.delivery(), r.deadLetter()
		e.Digest = [32]byte{1} // not a field of the record
		for _, x := range []any{e, s, c, v, l} {
			noteFields(seen, reflect.ValueOf(x))
		}
	}
	types = append(types, reflect.TypeFor[consent.Event](), reflect.TypeFor[StateRow](), reflect.TypeFor[consent.Change](), reflect.TypeFor[Delivery](), reflect.TypeFor[DeadLetter]())
	for _, typ := range types {
		for _, name := range fieldNames(typ) {
			if !seen[name] {
				t.Errorf("%s was never set: give it a random value here, a field in the .avsc file and a line in its codec", name)
			}
		}
	}
}

// noteFields marks the struct fields in v, and below, that are not zero.
func noteFields(seen map[string]bool, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			noteFields(seen, v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			noteFields(seen, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				seen[v.Type().Name()+"."+v.Type().Field(i).Name] = true
				noteFields(seen, f)
			}
		}
	}
}

func fieldNames(t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return fieldNames(t.Elem())
	case reflect.Struct:
		var names []string
		for i := range t.NumField() {
			if t.Field(i).Type == reflect.TypeFor[*consent.Original]() { // of no record
				continue
			}
			names = append(names, t.Name()+"."+t.Field(i).Name)
			names = append(names, fieldNames(t.Field(i).Type)...)
		}
		return names
	}
	return nil
}

func TestDecode_KeepsNothingOfItsInput(t *testing.T) {
	r := newRandom(t)
	for range 300 {
		e, s, l := r.event(), r.state(), r.deadLetter()
		settleEvent(&e)
		holds(t, e, EncodeEvent, DecodeEvent)
		holds(t, s, EncodeState, DecodeState)
		holds(t, l, EncodeDeadLetter, DecodeDeadLetter)
	}
}

// holds decodes, ruins the input, decodes others, and looks again.
func holds[T any](t *testing.T, v T, encode func([]byte, *T) ([]byte, error), decode func([]byte) (T, error)) {
	t.Helper()
	b, err := encode(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	again := bytes.Clone(b)
	for i := range b {
		b[i] = 'X'
	}
	for range 3 {
		if _, err := decode(again); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(got, v) {
		t.Fatalf("the value changed with the bytes that it was read from: %+v", got)
	}
}

func TestEncode_AppendsAndLeavesWhatIsThere(t *testing.T) {
	e := typicalEvent()
	alone, err := EncodeEvent(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	b := append(make([]byte, 0, 4096), "before"...)
	b, err = EncodeEvent(b, &e)
	if err != nil || string(b[:6]) != "before" || !bytes.Equal(b[6:], alone) {
		t.Fatalf("got %x, %v", b, err)
	}
	e.Action = 200
	kept, err := EncodeEvent(b, &e)
	if err == nil || !bytes.Equal(kept, b) {
		t.Fatalf("a refused event must leave dst as it was: %v", err)
	}
}

func TestIntake_DropsStampsAndLeavesNamesToTheGateway(t *testing.T) {
	e := typicalEvent()
	e.Tenant, e.Subject, e.Purpose, e.Jurisdiction = "", "anna@example.org ", "Marketing.E-Mail", "zz"
	e.Carried = &consent.Carried{Subject: "x"}
	b, err := EncodeIntakeEvent(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeEvent(b); err == nil {
		t.Fatal("a raw subject must not pass as an event")
	}
	got, err := DecodeIntakeEvent(b)
	if err != nil {
		t.Fatal(err)
	}
	want := e
	want.ReceivedAt, want.EffectiveAt, want.Policy, want.Carried = 0, 0, nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v\nwant %+v", got, want)
	}

	// A sender that fills the stamps by other means is not believed either.
	stamped := typicalEvent()
	if b, err = EncodeEvent(nil, &stamped); err != nil {
		t.Fatal(err)
	}
	if got, err = DecodeIntakeEvent(b); err != nil || got.Policy != nil || got.ReceivedAt != 0 || got.EffectiveAt != 0 {
		t.Fatalf("stamps came through: %+v, %v", got, err)
	}
}

func TestIntake_ATimeThatNoCalendarShowsIsAbsent(t *testing.T) {
	e := typicalEvent()
	w := toWireEvent(&e)
	micros := int64(e.OccurredAt) * 1000 * 1000
	w.OccurredAt = &micros
	body, err := config.Marshal(parsed(t, source(t, "ConsentEvent")), w)
	if err != nil {
		t.Fatal(err)
	}
	b := append(appendFrame(nil, eventFingerprint), body...)
	got, err := DecodeIntakeEvent(b)
	if err != nil || got.OccurredAt != 0 || got.SentAt != e.SentAt {
		t.Fatalf("occurred_at %d, sent_at %d, %v", got.OccurredAt, got.SentAt, err)
	}
	wantFault(t, b, DecodeEvent, CodeInvalid, "occurred_at")
}
