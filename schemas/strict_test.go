package schemas

import (
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/hamba/avro/v2"

	"github.com/assent-dev/assent/consent"
)

// wantFault holds that bytes are refused with a code, naming a field.
func wantFault[T any](t *testing.T, b []byte, decode func([]byte) (T, error), code, field string) {
	t.Helper()
	_, err := decode(b)
	var fault *DecodeError
	if !errors.As(err, &fault) {
		t.Fatalf("want a DecodeError %s at %q, got %v", code, field, err)
	}
	if fault.Code != code || fault.Field != field {
		t.Fatalf("want %s at %q, got %s at %q: %v", code, field, fault.Code, fault.Field, err)
	}
}

// refusesPrefixes cuts a record at every byte.
func refusesPrefixes[T any](t *testing.T, v T, encode func([]byte, *T) ([]byte, error), decode func([]byte) (T, error)) {
	t.Helper()
	b, err := encode(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	for n := range b {
		_, err := decode(b[:n:n])
		var fault *DecodeError
		if !errors.As(err, &fault) {
			t.Fatalf("%T: %d of %d bytes were taken for the whole: %v", v, n, len(b), err)
		}
		if want := n == 0 && fault.Code == CodeNoSchema || n > 0 && fault.Code == CodeTruncated; !want {
			t.Fatalf("%T: %d of %d bytes: %v", v, n, len(b), err)
		}
	}
	_, err = decode(append(b, 0))
	var fault *DecodeError
	if !errors.As(err, &fault) || fault.Code != CodeTrailing {
		t.Fatalf("%T: a byte after the record: %v", v, err)
	}
}

func TestDecode_RefusesEveryPrefixAndEverySurplus(t *testing.T) {
	r := newRandom(t)
	for range 40 {
		refusesPrefixes(t, r.event(), EncodeEvent, DecodeEvent)
		refusesPrefixes(t, r.event(), EncodeIntakeEvent, DecodeIntakeEvent)
		refusesPrefixes(t, r.state(), EncodeState, DecodeState)
		refusesPrefixes(t, r.change(), EncodeChange, DecodeChange)
		refusesPrefixes(t, r.delivery(), EncodeDelivery, DecodeDelivery)
		refusesPrefixes(t, r.deadLetter(), EncodeDeadLetter, DecodeDeadLetter)
	}
}

func TestDecode_TellsBytesThatNoSchemaExplains(t *testing.T) {
	e := typicalEvent()
	event, err := EncodeEvent(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	unknown := append([]byte{}, event...)
	unknown[5] ^= 1
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"text":                []byte(`{"subject":"user:42"}`),
		"a registry's prefix": append([]byte{0, 0, 0, 0, 7}, event[frameBytes:]...),
		"another marker":      append([]byte{0xC3, 2}, event[2:]...),
		"another fingerprint": unknown,
	} {
		t.Run(name, func(t *testing.T) { wantFault(t, b, DecodeEvent, CodeNoSchema, "") })
	}
	wantFault(t, event, DecodeState, CodeNoSchema, "")
	wantFault(t, make([]byte, MaxPayloadBytes+1), DecodeEvent, CodeTooLarge, "")
	if _, err := DecodeChange(event); !strings.Contains(err.Error(), "ConsentEvent") {
		t.Fatalf("want the record that it is: %v", err)
	}
}

// body starts a record's body by hand.
type body struct{ w *avro.Writer }

func newBody() body {
	return body{avro.NewWriter(nil, 64, avro.WithWriterConfig(config))}
}

func (b body) longs(v ...int64) body {
	for _, n := range v {
		b.w.WriteLong(n)
	}
	return b
}

func (b body) texts(v ...string) body {
	for _, s := range v {
		b.w.WriteString(s)
	}
	return b
}

func (b body) framed(fingerprint uint64) []byte {
	return append(appendFrame(nil, fingerprint), b.w.Buffer()...)
}

// eventHead is a body up to its action.
func eventHead() body { return newBody().longs(0, 0, 0).texts("default", "user:42", "analytics") }

// eventUpToPolicy is a body up to the branch of its policy.
func eventUpToPolicy() body {
	b := eventHead().longs(int64(consent.Withdraw))
	return b.longs(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // property to actor
}

func TestDecode_RefusesWhatAFieldMayNotHold(t *testing.T) {
	policy := func(b body) body { return eventUpToPolicy().longs(1, 0, 0, 0, 0, 0, 0, 0, 0, 0) }
	cases := []struct {
		name        string
		body        body
		code, field string
	}{
		{"an action that is not listed", eventHead().longs(int64(actions)), CodeInvalid, "action"},
		{"a negative action", eventHead().longs(-1), CodeInvalid, "action"},
		{"an action far out", eventHead().longs(math.MaxInt64), CodeInvalid, "action"},
		{"a third branch", newBody().longs(2), CodeInvalid, "event_id"},
		{"a negative branch", newBody().longs(-1), CodeInvalid, "event_id"},
		{"a text of negative length", newBody().longs(0, 0, 0, -5), CodeInvalid, "tenant"},
		{"a text of 100 million", newBody().longs(0, 0, 0, 100_000_000), CodeTooLarge, "tenant"},
		{"a text of 60,000 that is not there", newBody().longs(0, 0, 0, 60_000), CodeTruncated, "tenant"},
		{"text that is not UTF-8", newBody().longs(0, 0, 0).texts("default", "user:\xff"), CodeInvalid, "subject"},
		{"100 million covers", policy(body{}).longs(100_000_000).texts("a"), CodeTruncated, "policy.covers"},
		{"the least long of covers", policy(body{}).longs(math.MinInt64, 1), CodeInvalid, "policy.covers"},
		{"a block of negative size", policy(body{}).longs(-1, -1), CodeInvalid, "policy.covers"},
		{"covers without an end", policy(body{}).longs(1).texts("a"), CodeTruncated, "policy.covers"},
		{"a flag that is 2", eventUpToPolicy().longs(1, 0, 0, 0, 0, 1), CodeInvalid, "policy.sale_or_share"},
		{"a time in year 300000", eventHead().longs(1, 0, 1, 9_000_000_000_000_000), CodeInvalid, "occurred_at"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { wantFault(t, c.body.framed(eventFingerprint), DecodeEvent, c.code, c.field) })
	}
	long := eventHead().w.Buffer()
	long = append(append(appendFrame(nil, eventFingerprint), long...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	// A number of more than ten bytes: the library looks for its end beyond them.
	wantFault(t, long, DecodeEvent, CodeTruncated, "action")
}

func TestDecode_ALengthThatIsNotThereTakesNoMemory(t *testing.T) {
	d, err := newDecoder(newBody().longs(maxFieldBytes-1).framed(eventFingerprint), eventFingerprint)
	if err != nil {
		t.Fatal(err)
	}
	d.scratch = nil
	if d.text("tenant") != "" || d.err == nil || d.err.Code != CodeTruncated || d.scratch != nil {
		t.Fatalf("%v, and %d bytes were taken", d.err, cap(d.scratch))
	}
}

func TestDecode_RefusesNumbersOutsideTheirRange(t *testing.T) {
	for _, n := range []int64{math.MaxInt32 + 1, math.MinInt32 - 1, 1 << 40} {
		wantFault(t, newBody().texts("t").longs(n).framed(deadLetterFingerprint), DecodeDeadLetter, CodeInvalid, "partition")
	}
	for _, stage := range []int64{256, -1} {
		row := goldenRoot()
		w := toWireState(&row)
		w.Whole.Erased.Stage = int32(stage)
		b, err := config.Marshal(parsed(t, source(t, "ConsentState")), w)
		if err != nil {
			t.Fatal(err)
		}
		wantFault(t, append(appendFrame(nil, stateFingerprint), b...), DecodeState, CodeInvalid, "whole.erased")
	}
}

func TestDecode_TakesABlockWithItsSize(t *testing.T) {
	e := typicalEvent()
	e.Policy.Covers = []consent.Purpose{"a", "b.c", "d"}
	sized := avro.Config{BlockLength: 2}.Freeze() // two blocks, each with its size
	b, err := sized.Marshal(parsed(t, source(t, "ConsentEvent")), toWireEvent(&e))
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEvent(append(appendFrame(nil, eventFingerprint), b...))
	if err != nil || len(got.Policy.Covers) != 3 || got.Policy.Covers[2] != "d" {
		t.Fatalf("got %+v, %v", got.Policy, err)
	}
	if got.Digest != EventDigest(&e) {
		t.Fatal("the digest must not depend on how a writer cuts its blocks")
	}
}

// The bombs of GO-2026-5046, -5047 and -5048: a few bytes that ask for a lot.
func TestDecode_ABombCostsNothing(t *testing.T) {
	state := newBody().texts("default", "user:42", "*").longs(0, 0, 0, 0, 0, 0, 0, 0, 0, 0) // to ended
	letter := newBody().texts("t").longs(0, 0).texts("c").longs(0, 0, 0, 0, 0, 0)
	bombs := map[string]func() error{}
	for _, n := range []int64{1 << 20, 100_000_000, 1 << 40, math.MaxInt64, -100_000_000, math.MinInt64 + 1} {
		event := eventUpToPolicy().longs(1, 0, 0, 0, 0, 0, 0, 0, 0, 0).longs(n, n, n).framed(eventFingerprint)
		links := body{avro.NewWriter(nil, 64, avro.WithWriterConfig(config))}
		_, _ = links.w.Write(state.w.Buffer())
		whole := links.longs(0, 1, 0, 0, n, n, n).framed(stateFingerprint)
		namesOf := body{avro.NewWriter(nil, 64, avro.WithWriterConfig(config))}
		_, _ = namesOf.w.Write(state.w.Buffer())
		named := namesOf.longs(n, n, n).framed(stateFingerprint)
		headers := body{avro.NewWriter(nil, 64, avro.WithWriterConfig(config))}
		_, _ = headers.w.Write(letter.w.Buffer())
		dead := headers.longs(n, n, n).framed(deadLetterFingerprint)
		bombs["covers"] = func() error { _, err := DecodeEvent(event); return err }
		bombs["links"] = func() error { _, err := DecodeState(whole); return err }
		bombs["named"] = func() error { _, err := DecodeState(named); return err }
		bombs["headers"] = func() error { _, err := DecodeDeadLetter(dead); return err }
		for name, explode := range bombs {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := explode()
			runtime.ReadMemStats(&after)
			var fault *DecodeError
			if !errors.As(err, &fault) {
				t.Fatalf("%s × %d: %v", name, n, err)
			}
			// Not the first item that is not there: the array itself.
			if want := map[string]string{"covers": "policy.covers", "links": "whole.links", "headers": "headers", "named": "named"}[name]; fault.Field != want {
				t.Fatalf("%s × %d: %v", name, n, err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
				t.Fatalf("%s × %d allocated %d bytes", name, n, got)
			}
		}
	}
}

func TestDecode_HoldsNamesAgainstTheDomain(t *testing.T) {
	raw := func(change func(*consent.Event)) []byte {
		e := typicalEvent()
		change(&e)
		b, err := config.Marshal(parsed(t, source(t, "ConsentEvent")), toWireEvent(&e))
		if err != nil {
			t.Fatal(err)
		}
		return append(appendFrame(nil, eventFingerprint), b...)
	}
	for field, change := range map[string]func(*consent.Event){
		"tenant":          func(e *consent.Event) { e.Tenant = "Shop" },
		"subject":         func(e *consent.Event) { e.Subject = "secret|subject" },
		"purpose":         func(e *consent.Event) { e.Purpose = "Marketing" },
		"link.to":         func(e *consent.Event) { e.LinkTo = "x" },
		"policy.covers":   func(e *consent.Event) { e.Policy.Covers = []consent.Purpose{"a", "."} },
		"carried.subject": func(e *consent.Event) { e.Carried = &consent.Carried{Subject: "ü:1"} },
		"carried.via":     func(e *consent.Event) { e.Carried = &consent.Carried{Subject: "user:1", Via: []consent.Subject{""}} },
	} {
		t.Run(field, func(t *testing.T) {
			b := raw(change)
			wantFault(t, b, DecodeEvent, CodeInvalid, field)
			_, err := DecodeEvent(b)
			if strings.Contains(err.Error(), "secret") {
				t.Fatalf("the error tells the subject: %v", err)
			}
			e := typicalEvent()
			change(&e)
			var fault *EncodeError
			if _, err := EncodeEvent(nil, &e); !errors.As(err, &fault) || fault.Field != field {
				t.Fatalf("must not be written either: %v", err)
			}
		})
	}
}

func TestEncode_RefusesWhatCouldNotBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		change      func(*consent.Event)
		code, field string
	}{
		"not UTF-8":        {func(e *consent.Event) { e.Source = "\xff" }, CodeInvalid, "source"},
		"a long text":      {func(e *consent.Event) { e.Evidence.PageURL = strings.Repeat("x", maxFieldBytes+1) }, CodeTooLarge, "evidence.page_url"},
		"an unknown enum":  {func(e *consent.Event) { e.Evidence.Method = consent.Method(methods) }, CodeInvalid, "evidence.method"},
		"a time too late":  {func(e *consent.Event) { e.Policy.ExpiresAt = maxInstant + 1 }, CodeInvalid, "policy.expires_at"},
		"a time too early": {func(e *consent.Event) { e.SentAt = minInstant - 1 }, CodeInvalid, "sent_at"},
		"over 1 MiB": {func(e *consent.Event) {
			for range 5000 {
				e.Policy.Covers = append(e.Policy.Covers, consent.Purpose(strings.Repeat("p", 250)))
			}
		}, CodeTooLarge, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := typicalEvent()
			c.change(&e)
			_, err := EncodeEvent(nil, &e)
			var fault *EncodeError
			if !errors.As(err, &fault) || fault.Code != c.code || fault.Field != c.field {
				t.Fatalf("want %s at %q, got %v", c.code, c.field, err)
			}
		})
	}
	for name, r := range map[string]StateRow{
		"whole":            {Tenant: "t", Subject: "user:1", Row: consent.Row{Purpose: "a"}, Whole: &consent.Whole{}},
		"no_event":         {Tenant: "t", Subject: "user:1", Row: consent.Row{Purpose: "a", NoEvent: consent.OriginalOf(&consent.Event{})}},
		"no_event.tenant":  {Tenant: "t", Subject: "user:1", Row: consent.Row{Purpose: "a", No: &consent.Record{}, NoEvent: consent.OriginalOf(&consent.Event{})}},
		"whole.links.to":   {Tenant: "t", Subject: "user:1", Row: consent.Row{Purpose: "*"}, Whole: &consent.Whole{Links: []consent.LinkRecord{{}}}},
		"purpose":          {Tenant: "t", Subject: "user:1"},
		"allowed":          {Tenant: "t", Subject: "user:1", Row: consent.Row{Purpose: "a", Announced: consent.Verdict{Allowed: 3}}},
		"status":           {Tenant: "t", Subject: "user:1", Row: consent.Row{Purpose: "a", Announced: consent.Verdict{Status: 99}}},
		"no_event.channel": {Tenant: "t", Subject: "user:1", Row: consent.Row{Purpose: "a", No: &consent.Record{}, NoEvent: consent.OriginalOf(&consent.Event{Tenant: "t", Subject: "u:1", Purpose: "a", Channel: 99})}},
	} {
		var fault *EncodeError
		if _, err := EncodeState(nil, &r); !errors.As(err, &fault) || fault.Field != name {
			t.Errorf("want a fault at %s, got %v", name, err)
		}
	}
}

func TestChange_ATypeThatNamesAnotherStatusIsRefused(t *testing.T) {
	c := consent.Change{Tenant: "t", Subject: "user:1", Purpose: "a", From: consent.Granted, To: consent.Withdrawn}
	w := toWireChange(&c)
	w.Type = "consent.granted"
	b, err := config.Marshal(parsed(t, source(t, "ConsentChange")), w)
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, append(appendFrame(nil, changeFingerprint), b...), DecodeChange, CodeInvalid, "type")
}

// Two goroutines share the pools; with -race this finds what they share besides.
func TestCodecs_MayBeUsedConcurrently(t *testing.T) {
	done := make(chan error, 4)
	for i := range 4 {
		go func() {
			r := random{newRandom(t).Rand}
			for range 500 {
				s := r.state()
				b, err := EncodeState(nil, &s)
				if err == nil {
					_, err = DecodeState(b)
				}
				if _, bad := DecodeState(b[:len(b)-1-i]); bad == nil {
					err = errors.New("a cut record was read")
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
