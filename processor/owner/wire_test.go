package owner

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/processor/decision"
	"github.com/assent-dev/assent/schemas"
)

// randomState folds random events: whatever a State can hold, it comes to.
func randomState(r *rand.Rand, id consent.SubjectID, events int) *consent.State {
	actions := []consent.Action{consent.Grant, consent.Grant, consent.Withdraw, consent.Refuse, consent.Invalidate}
	purposes := []consent.Purpose{consent.Root, "m", "m.e", "m.s", "ads", "ads.video.short"}
	var s consent.State
	var grants []consent.UUID
	for range events {
		at := consent.Instant(1 + r.IntN(1_000_000))
		e := &consent.Event{
			ID: consent.UUID{byte(r.Uint32()), byte(r.Uint32()), 7}, Tenant: id.Tenant, Subject: id.Subject, Test: id.Test,
			Action: actions[r.IntN(len(actions))], Purpose: purposes[r.IntN(len(purposes))],
			Jurisdiction: []consent.Jurisdiction{"", "DE", "US-CA"}[r.IntN(3)],
			OccurredAt:   at, ReceivedAt: at + 5, EffectiveAt: at,
			Notice: consent.Notice{ID: "n", Version: "é"}, Policy: &consent.Policy{Version: "v1", Model: consent.OptIn, DoubleOptIn: r.IntN(4) == 0},
		}
		switch {
		case e.Action == consent.Grant:
			grants = append(grants, e.ID)
		case e.Action == consent.Invalidate && len(grants) > 0:
			e.Invalidates = &consent.EventRef{EventID: grants[r.IntN(len(grants))], EffectiveAt: at}
		}
		if err := schemas.SetOriginal(e); err != nil {
			panic(err) // they are valid
		}
		s, _, _ = consent.Fold(s, e)
	}
	return &s
}

func TestEntry_AnyStateComesBackAsItWas(t *testing.T) {
	r := seed(t)
	for range 300 {
		id := subject(r.IntN(9))
		id.Test = r.IntN(2) == 0
		want := Folded{AsOf: time.UnixMilli(r.Int64N(1 << 41)).UTC()}
		if r.IntN(10) > 0 {
			want.State = randomState(r, id, 1+r.IntN(12))
		}
		b, err := appendEntry(nil, id, &want)
		if err != nil {
			t.Fatal(err)
		}
		in := newReader(bytes.NewReader(b))
		got, c := in.entry(id)
		in.end()
		if in.err != nil || c != answered {
			t.Fatalf("%v, cause %d", in.err, c)
		}
		if !got.AsOf.Equal(want.AsOf) || !reflect.DeepEqual(got.State, want.State) {
			t.Fatalf("got %+v\nwant %+v", got.State, want.State)
		}
	}
}

func TestEntry_ThatIsCutOrOfAnotherSubjectIsNeverTaken(t *testing.T) {
	r := seed(t)
	id := subject(1)
	whole, err := appendEntry(nil, id, &Folded{State: randomState(r, id, 8), AsOf: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		in := newReader(bytes.NewReader(whole[:n]))
		if _, c := in.entry(id); c != causeMalformed || !errors.Is(in.err, io.ErrUnexpectedEOF) {
			t.Fatalf("the first %d of %d bytes: cause %d, %v", n, len(whole), c, in.err)
		}
	}
	test := id
	test.Test = true
	for _, other := range []consent.SubjectID{subject(2), test, {Tenant: "other", Subject: id.Subject}} {
		// What follows it is read all the same.
		in := newReader(bytes.NewReader(append(bytes.Clone(whole), entryNotOwner)))
		if f, c := in.entry(other); c != causeMalformed || f.State != nil {
			t.Errorf("a State of somebody else was taken: cause %d", c)
		}
		if _, c := in.entry(id); c != causeNotOwner || in.err != nil {
			t.Errorf("the next entry: cause %d, %v", c, in.err)
		}
	}
}

// The row of * comes first, once, and with what belongs to the whole subject: without it
// a State would lack its erasure.
func TestEntry_WithoutItsRootIsNeverTaken(t *testing.T) {
	id := subject(1)
	row := func(p consent.Purpose, whole *consent.Whole) []byte {
		b, err := schemas.EncodeState(nil, &schemas.StateRow{Tenant: id.Tenant, Subject: id.Subject, Row: consent.Row{Purpose: p, Version: 1}, Whole: whole})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	root, bare, other := row(consent.Root, &consent.Whole{Clock: 1}), row(consent.Root, nil), row("m.e", nil)
	for name, rows := range map[string][][]byte{"none": {}, "not first": {other, root}, "bare": {bare}, "twice": {root, root}, "absent": {other}, "no row": {root, []byte("x")}} {
		b := []byte{entryState, 0, byte(len(rows))}
		for _, r := range rows {
			b = appendText(b, string(r))
		}
		in := newReader(bytes.NewReader(b))
		if f, c := in.entry(id); c != causeMalformed || f.State != nil {
			t.Errorf("%s: taken, cause %d", name, c)
		}
	}
}

func TestRequest_ComesBackAsItWas(t *testing.T) {
	r := seed(t)
	q := request{instance: "a-1", patience: 1500 * time.Millisecond}
	for i := range maxItems {
		id := subject(i)
		id.Test = r.IntN(2) == 0
		q.ids = append(q.ids, id)
		q.after = append(q.after, decision.Position{Partition: r.Int32(), Offset: r.Int64()})
	}
	ask, wait := q, q
	ask.after, wait.ids = nil, nil
	b := ask.appendTo(nil)
	if got, err := readQuestion(bytes.NewReader(b)); err != nil || !reflect.DeepEqual(got, ask) || len(b) > maxRequestBytes {
		t.Errorf("%v, %d bytes", err, len(b))
	}
	if got, err := readWait(bytes.NewReader(wait.appendTo(nil))); err != nil || !reflect.DeepEqual(got, wait) {
		t.Errorf("%v", err)
	}
	for n := range len(b) / 50 {
		if _, err := readQuestion(bytes.NewReader(b[:n])); err == nil {
			t.Fatalf("the first %d bytes were taken", n)
		}
	}
	ask.ids = append(ask.ids, subject(0))
	for name, bad := range map[string][]byte{"too many": ask.appendTo(nil), "too long": append(b, 0), "another version": append([]byte{wireVersion + 1}, b[1:]...)} {
		if _, err := readQuestion(bytes.NewReader(bad)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReader_NeverPanicsNorTakesMuch(f *testing.F) {
	id := subject(1)
	b, _ := appendEntry(nil, id, &Folded{State: randomState(rand.New(rand.NewPCG(1, 1)), id, 6)})
	f.Add(b)
	f.Add((&request{instance: "a", patience: time.Second, ids: []consent.SubjectID{id}}).appendTo(nil))
	f.Add((&request{instance: "a", after: []decision.Position{{Partition: 3, Offset: 7}}}).appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := readQuestion(bytes.NewReader(b)); err == nil && !bytes.Equal(mustQuestion(t, q.appendTo(nil)).appendTo(nil), q.appendTo(nil)) {
			t.Error("a request is not what it was")
		}
		_, _ = readWait(bytes.NewReader(b))
		in := newReader(bytes.NewReader(b))
		if got, c := in.entry(id); c == answered && got.State != nil && (got.State.Subject != id.Subject || got.State.Test) {
			t.Error("a State of somebody else")
		}
	})
}

func mustQuestion(t *testing.T, b []byte) *request {
	q, err := readQuestion(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return &q
}

// Binary against JSON with base64, for 1,000 subjects of eight purposes.
func BenchmarkEntry(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	var states []*consent.State
	var ids []consent.SubjectID
	for i := range 1000 {
		ids = append(ids, subject(i))
		s := randomState(r, ids[i], 1)
		for _, p := range []consent.Purpose{"a", "b", "c", "d", "e", "f", "g", "h"} {
			*s, _, _ = consent.Fold(*s, &consent.Event{ID: consent.UUID{byte(i)}, Tenant: ids[i].Tenant, Subject: ids[i].Subject, Action: consent.Grant, Purpose: p,
				ReceivedAt: 5, EffectiveAt: 5, Notice: consent.Notice{ID: "news", Version: "3"}, Policy: &consent.Policy{Version: "v1", Model: consent.OptIn}})
		}
		states = append(states, s)
	}
	encode := func() (out []byte) {
		for i, s := range states {
			out, _ = appendEntry(out, ids[i], &Folded{State: s})
		}
		return out
	}
	b.Run("binary", func(b *testing.B) {
		for b.Loop() {
			in := newReader(bytes.NewReader(encode()))
			for i := range ids {
				if _, c := in.entry(ids[i]); c != answered {
					b.Fatal(in.err)
				}
			}
		}
		b.ReportMetric(float64(len(encode())), "bytes")
	})
	b.Run("JSON", func(b *testing.B) {
		type entry struct {
			AsOf int64    `json:"as_of"`
			Rows []string `json:"rows"`
		}
		size := 0
		for b.Loop() {
			var all []entry
			for i, s := range states {
				row, _ := appendEntry(nil, ids[i], &Folded{State: s})
				all = append(all, entry{Rows: []string{base64.StdEncoding.EncodeToString(row)}})
			}
			text, err := json.Marshal(all)
			if err != nil {
				b.Fatal(err)
			}
			size = len(text)
			var back []entry
			if err := json.Unmarshal(text, &back); err != nil {
				b.Fatal(err)
			}
			for i := range back {
				row, err := base64.StdEncoding.DecodeString(back[i].Rows[0])
				if err != nil {
					b.Fatal(err)
				}
				in := newReader(bytes.NewReader(row))
				if _, c := in.entry(ids[i]); c != answered {
					b.Fatal(fmt.Errorf("entry: %w", in.err))
				}
			}
		}
		b.ReportMetric(float64(size), "bytes")
	})
}
