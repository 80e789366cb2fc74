package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

func TestSurvey_CopiesCountOnceAndMarksCloseTheirLetterOnly(t *testing.T) {
	d := newDesk(t)
	a, b := d.fromIntake("k", 1, "a"), d.fromIntake("k", 2, "b")
	sameRecord := a
	sameRecord.Code = schemas.CodeTruncated
	told := schemas.DeadLetter{Topic: d.names.Changes(), Offset: 1, Code: "rejected_400", Downstream: "crm", Key: []byte("k")}
	other := told
	other.Downstream = "mailer"
	at := d.put(a, b, a, sameRecord, told, other, told)
	m, err := mark(d.names.DeadLetters(), &Letter{Position: at[0], RecordKey: []byte("k"), DeadLetter: a}, kafka.Position{Partition: kafka.Partition{Topic: "x"}, Offset: 5}, 77)
	if err != nil {
		t.Fatal(err)
	}
	marked := d.produce(m)[0]
	x := d.survey()
	var got []string
	for _, e := range x.Entries {
		got = append(got, fmt.Sprintf("%d %s %s %v", e.Letter.Offset, e.Code, e.Downstream, e.Mark))
	}
	want := []string{"0 no_schema  &{77 x/0@5}", "1 no_schema  <nil>", "3 truncated  <nil>", "4 rejected_400 crm <nil>", "5 rejected_400 mailer <nil>"}
	for i := range got {
		got[i] = strings.Replace(got[i], consent.Instant(77).String(), "77", 1)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, p := range []kafka.Position{at[0], at[2], marked} { // itself, its copy, its mark
		if found := x.Find(p); len(found) != 1 || found[0].Letter != at[0] {
			t.Errorf("at %s: %+v", p, found)
		}
	}
	if found := x.Find(x.Entries[0].Origin); len(found) != 2 {
		t.Errorf("at the origin: %+v, want both codes", found)
	}
}

func TestReplay_PublishesTheOriginalBytesToTheIntakeOnce(t *testing.T) {
	d := newDesk(t)
	intake := d.fromIntake("default|user:1", 7, "what somebody wrote")
	intake.Headers = []schemas.Header{{Key: "traceparent", Value: []byte("t")}, {Key: "empty"}}
	events := d.fromIntake("default|user:2", 3, "what somebody wrote to the log")
	events.Topic, events.Role = d.names.Events(), "processor"
	unkeyed := d.fromIntake("", 9, "nobody's")
	d.put(intake, events, unkeyed, intake)
	steps := d.replay(Selection{}, false)
	if len(steps) != 3 {
		t.Fatalf("%d steps: %+v", len(steps), steps)
	}
	sources := map[string]schemas.DeadLetter{string(intake.Value): intake, string(events.Value): events, string(unkeyed.Value): unkeyed}
	for _, m := range d.read(d.names.Intake()) {
		l, known := sources[string(m.Value)]
		delete(sources, string(m.Value))
		origin := (&Letter{DeadLetter: l}).Origin()
		want := []kafka.Header{}
		for _, h := range l.Headers {
			want = append(want, kafka.Header{Key: h.Key, Value: h.Value})
		}
		want = append(want, kafka.Header{Key: HeaderReplayOf, Value: []byte(origin.String())})
		if !known || !bytes.Equal(m.Key, l.Key) || (m.Key == nil) != (l.Key == nil) || fmt.Sprint(m.Headers) != fmt.Sprint(want) {
			t.Errorf("%s holds %+v; its letter %+v", m.Position, m, l)
		}
		if !slices.ContainsFunc(steps, func(s Step) bool { return s.Verdict == Published && s.To == m.Position && s.Origin == origin }) {
			t.Errorf("the record at %s is in no step", m.Position)
		}
	}
	if len(sources) > 0 {
		t.Errorf("not published: %v", slices.Collect(maps.Keys(sources)))
	}
	if n := len(d.read(d.names.Events())); n != 0 {
		t.Errorf("%d records were written to consent.events: only the gateway may", n)
	}
	for _, e := range d.survey().Entries {
		if e.Mark == nil || e.Mark.At == 0 {
			t.Errorf("%s is not marked", e.Letter)
		}
	}
	if again := d.replay(Selection{}, false); len(again) != 0 {
		t.Errorf("a second replay did %+v", again)
	}
}

func TestReplay_KeepsTheOrderOfEachKeyOverBatchesAndCrashes(t *testing.T) {
	for _, step := range []string{"publish", "mark"} {
		t.Run(step, func(t *testing.T) {
			d := newDesk(t)
			r := seed(t)
			want := map[string][]string{}
			var letters []schemas.DeadLetter
			for i := range 3 * batchLetters {
				key, value := fmt.Sprint("k", r.IntN(5)), fmt.Sprint("value ", i)
				want[key] = append(want[key], value)
				letters = append(letters, d.fromIntake(key, int64(i), value))
			}
			d.put(letters...)
			told := d.crash(step, 2)
			if step == "publish" && len(told) != batchLetters {
				t.Fatalf("%d letters told, want one batch: what is not marked is not certain", len(told))
			}
			if step == "mark" && len(told) != 2*batchLetters {
				t.Fatalf("%d letters told, want two batches", len(told))
			}
			if rest := d.replay(Selection{}, false); len(rest) != len(letters)-len(told) {
				t.Errorf("the next replay did %d of %d letters", len(rest), len(letters)-len(told))
			}
			repeats := 0
			for key, values := range d.intakeValues() {
				// The first of each value are in order, and repeats come in the same order.
				var firsts []string
				for _, v := range values {
					if slices.Contains(firsts, v) {
						repeats++
					} else {
						firsts = append(firsts, v)
					}
				}
				if !slices.Equal(firsts, want[key]) {
					t.Errorf("key %s: %q, want %q", key, firsts, want[key])
				}
			}
			if at := map[string]int{"publish": batchLetters, "mark": 0}[step]; repeats != at {
				t.Errorf("%d letters were published twice, want %d: those that were published and not marked", repeats, at)
			}
		})
	}
}

func TestReplay_APartialLetterIsCompletedFromItsOrigin(t *testing.T) {
	d := newDesk(t)
	whole := kafka.Record{
		Topic: d.names.Intake(), Key: []byte("k"), Value: bytes.Repeat([]byte("long "), 400_000),
		Headers: []kafka.Header{{Key: "h", Value: []byte("v")}},
	}
	origin := d.produce(whole)[0]
	part := d.fromIntake("k", int64(origin.Offset), string(whole.Value))
	part.Partition = origin.Index
	lost := d.fromIntake("other", 4711, strings.Repeat("x", 800<<10))
	behind := d.fromIntake("other", 4712, "behind")
	nowhere := d.fromIntake("third", 1, strings.Repeat("x", 800<<10))
	nowhere.Partition = 99
	d.put(part, lost, behind, nowhere)
	if got := verdicts(d.survey().Plan(Selection{Topic: d.names.Intake()}, false)); strings.Count(got, "impossible") != 2 || strings.Count(got, "held") != 1 {
		t.Errorf("the plan, before anything is written: %s", got)
	}
	got := map[string]Step{}
	for _, s := range d.replay(Selection{}, false) {
		got[s.Origin.String()] = s
	}
	if s := got[origin.String()]; s.Verdict != Published {
		t.Errorf("%+v", s)
	}
	if s := got[(&Letter{DeadLetter: lost}).Origin().String()]; s.Verdict != Impossible || !strings.Contains(s.Why, "no longer at") {
		t.Errorf("a record that is gone: %+v", s)
	}
	if s := got[(&Letter{DeadLetter: behind}).Origin().String()]; s.Verdict != Held || s.Behind == nil {
		t.Errorf("behind a record that is gone: %+v", s)
	}
	if s := got[(&Letter{DeadLetter: nowhere}).Origin().String()]; s.Verdict != Impossible {
		t.Errorf("a partition that never was: %+v", s)
	}
	all := d.read(d.names.Intake())
	if len(all) != 2 {
		t.Fatalf("%d records in the intake", len(all))
	}
	m := all[1]
	if !bytes.Equal(m.Value, whole.Value) || len(m.Headers) != 2 || string(m.Headers[0].Value) != "v" {
		t.Errorf("%d bytes and headers %v, want the whole record", len(m.Value), m.Headers)
	}
	for _, s := range d.replay(Selection{Topic: d.names.Intake()}, true) {
		if forced := s.Origin.Offset == 4712; forced != (s.Verdict == Published) {
			t.Errorf("with force: %+v", s)
		}
	}
}

// The letter says that a downstream refused a change, or the processor's own event
// could not be folded: nothing is published, and the letters stay open.
func TestReplay_PublishesNoChangeAndNoExpiry(t *testing.T) {
	d := newDesk(t)
	told := schemas.DeadLetter{Topic: d.names.Changes(), Offset: 1, Code: "rejected_400", Downstream: "crm", Key: []byte("k"), Value: []byte("change")}
	expire := d.fromIntake("default|user:1", 2, encode(t, &consent.Event{ID: consent.UUID{1}, Tenant: "default", Subject: "user:1", Purpose: "a", Action: consent.Expire}))
	expire.Topic, expire.Role, expire.Code = d.names.Events(), "processor", string(consent.CodeNotYet)
	foreign := d.fromIntake("k", 1, "x")
	foreign.Topic = "consent.intake" // without the prefix: another installation's
	d.put(told, expire, foreign)
	steps := d.replay(Selection{}, true)
	if len(steps) != 3 {
		t.Fatalf("%+v", steps)
	}
	for _, s := range steps {
		if s.Verdict != Impossible || s.Why == "" {
			t.Errorf("%+v", s)
		}
	}
	for _, name := range []string{d.names.Intake(), d.names.Events(), d.names.Changes()} {
		if n := len(d.read(name)); n != 0 {
			t.Errorf("%d records in %s", n, name)
		}
	}
}

func TestReplay_ARecordThatFailsOnceMoreNamesItsFirstLetter(t *testing.T) {
	d := newDesk(t)
	first := d.fromIntake("k", 5, "still poison")
	d.put(first)
	to := d.replay(Selection{}, false)[0].To
	again := d.read(d.names.Intake())[0]
	second := d.fromIntake("k", int64(to.Offset), string(again.Value))
	second.Partition = to.Index
	for _, h := range again.Headers {
		second.Headers = append(second.Headers, schemas.Header{Key: h.Key, Value: h.Value})
	}
	d.put(second)
	if steps := d.replay(Selection{}, false); len(steps) != 1 || steps[0].Origin != to {
		t.Fatalf("%+v, want the new letter alone", steps)
	}
	root := (&Letter{DeadLetter: first}).Origin()
	m := d.read(d.names.Intake())[1]
	if len(m.Headers) != 1 || string(m.Headers[0].Value) != root.String() {
		t.Errorf("headers %v, want the first letter's origin once", m.Headers)
	}
	if p, ok := (&Letter{DeadLetter: second}).ReplayOf(); !ok || p != root {
		t.Errorf("the second letter is a replay of %v %v, want %s", p, ok, root)
	}
}

func TestReplay_LettersWithoutAKeyHoldEachOtherBackNowhere(t *testing.T) {
	d := newDesk(t)
	first, second := d.fromIntake("", 1, "first"), d.fromIntake("", 2, "second")
	second.Code = schemas.CodeTruncated
	d.put(first, second)
	if steps := d.replay(Selection{Code: schemas.CodeTruncated}, false); len(steps) != 1 || steps[0].Verdict != Published {
		t.Errorf("%+v", steps)
	}
}

type refusing struct{ err error }

func (p refusing) Produce(_ context.Context, _ ...kafka.Record) ([]kafka.Position, error) {
	return nil, p.err
}

func TestReplay_WhatIsNotAcknowledgedIsNeitherToldNorMarked(t *testing.T) {
	d := newDesk(t)
	d.put(d.fromIntake("k", 1, "a"))
	away := errors.New("broker away")
	r := &replay{client: d.client, names: d.names, records: refusing{away}, now: time.Now, told: func(s Step) { t.Errorf("told %+v", s) }}
	if err := r.run(t.Context(), d.survey().Plan(Selection{}, false)); !errors.Is(err, away) {
		t.Errorf("error %v", err)
	}
	if e := d.survey().Entries[0]; e.Mark != nil {
		t.Error("it is marked")
	}
}

func TestRenew_KeepsTheSkewAndGivesAnAbsentIDThatEveryAttemptHas(t *testing.T) {
	root, err := ParsePosition("consent.intake/3@1042")
	if err != nil {
		t.Fatal(err)
	}
	received := consent.InstantOf(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	const lay = 72 * time.Hour
	const way = 100 * time.Millisecond // of the new record to the broker
	for _, action := range []consent.Action{consent.Withdraw, consent.Grant} {
		for _, skew := range []time.Duration{0, 5 * time.Second, 3 * time.Hour, -2 * time.Hour} {
			e := consent.Event{
				Tenant: "default", Subject: "jane@shop.example", Purpose: "a", Action: action, Channel: consent.Web,
				OccurredAt: received.Add(-time.Minute - skew), SentAt: received.Add(-skew),
			}
			want := consent.EffectiveAt(&e, received)
			again, err := schemas.DecodeIntakeEvent(renew([]byte(encode(t, &e)), root, lay))
			if err != nil {
				t.Fatal(err)
			}
			most := want.Add(way)
			if action == consent.Withdraw { // a clock that is ahead is believed up to the time of receipt, which is later now
				most = max(most, e.OccurredAt)
			}
			if got := consent.EffectiveAt(&again, received.Add(lay+way)); got < want || got > most {
				t.Errorf("%s, skew %s: takes effect at %s, want %s as it would have", action, skew, got, want)
			}
			if want := consent.DeriveUUID(consent.NamespaceEvent, []byte("position\x00consent.intake/3@1042")); again.ID != want {
				t.Errorf("id %s, want %s", again.ID, want)
			}
			again.ID, again.SentAt = e.ID, e.SentAt
			if encode(t, &again) != encode(t, &e) {
				t.Error("something else was changed")
			}
		}
	}
	bare := encode(t, &consent.Event{ID: consent.UUID{7}, Tenant: "default", Subject: "user:1", Purpose: "a", Action: consent.Withdraw})
	for _, value := range []string{"poison", "", bare} {
		if got := renew([]byte(value), root, lay); string(got) != value {
			t.Errorf("%q became %q: what needs nothing stays as it is", value, got)
		}
	}
	late := consent.Event{ID: consent.UUID{7}, Tenant: "default", Subject: "user:1", Purpose: "a", Action: consent.Withdraw, SentAt: 253_402_300_799_999}
	if value := encode(t, &late); string(renew([]byte(value), root, lay)) != value {
		t.Error("a time that cannot be moved was")
	}
}

func TestReplay_NoErrorOrSentenceHoldsPayload(t *testing.T) {
	d := newDesk(t)
	at := d.put(d.fromIntake("default|jane@shop.example", 1, "jane@shop.example"))
	x := d.survey()
	x.Entries[0].Letter.Offset += 1000 // a letter that retention took
	err := Replay(t.Context(), d.client, d.names, x.Plan(Selection{}, false), func(Step) {})
	if err == nil || strings.Contains(err.Error(), "jane") || !strings.Contains(err.Error(), at[0].Partition.String()) {
		t.Errorf("error %v, want one that names the position alone", err)
	}
}

func TestReadable_ExplainsEventsAndChangesAndNothingElse(t *testing.T) {
	e := consent.Event{Tenant: "default", Subject: "jane@shop.example", Purpose: "a", Action: consent.Withdraw}
	if name, json := Readable([]byte(encode(t, &e))); name != "ConsentEvent" || !bytes.Contains(json, []byte("jane@shop.example")) {
		t.Errorf("%s %s", name, json)
	}
	c, err := schemas.EncodeChange(nil, &consent.Change{ID: consent.UUID{1}, Tenant: "default", Subject: "user:1", Purpose: "a", To: consent.Withdrawn, Version: 1, EventID: consent.UUID{2}, EffectiveAt: 1, Timestamp: 1})
	if err != nil {
		t.Fatal(err)
	}
	if name, json := Readable(c); name != "ConsentChange" || !bytes.Contains(json, []byte("withdrawn")) {
		t.Errorf("%s %s", name, json)
	}
	if name, json := Readable([]byte("poison")); name != "" || json != nil {
		t.Errorf("%s %s", name, json)
	}
}
