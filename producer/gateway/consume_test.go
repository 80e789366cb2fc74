package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/producer/intake"
	"github.com/assent-dev/assent/schemas"
)

func grantEvent(n int) consent.Event {
	return consent.Event{
		Subject: consent.Subject(fmt.Sprintf("user:%d", n)), Purpose: "marketing.email", Action: consent.Grant, Channel: consent.Web,
		OccurredAt: consent.InstantOf(time.Now()),
		Notice:     consent.Notice{ID: "newsletter", Version: "2", Language: "en"},
		Evidence:   consent.Evidence{Method: consent.ClickAccept},
	}
}

func withdrawEvent(n int) consent.Event {
	return consent.Event{Subject: consent.Subject(fmt.Sprintf("user:%d", n)), Purpose: "marketing.email", Action: consent.Withdraw}
}

// publish writes raw values to consent.intake, all to one partition. The gateway's clock
// then shows what the records' does.
func (r *rig) publish(values ...[]byte) []kafka.Position {
	r.Helper()
	r.mu.Lock()
	r.now = time.Now()
	r.mu.Unlock()
	p := r.client.NewProducer(kafka.ProducerOptions{})
	defer p.Close() //nolint:errcheck // all is acknowledged
	records := make([]kafka.Record, len(values))
	for i, v := range values {
		records[i] = kafka.Record{Topic: r.topics.Intake(), Key: []byte("any key"), Value: v, Headers: []kafka.Header{{Key: "app", Value: []byte("x")}}}
	}
	positions, err := p.Produce(r.context(), records...)
	if err != nil {
		r.Fatal(err)
	}
	return positions
}

func encoded(t testing.TB, e consent.Event) []byte {
	t.Helper()
	b, err := schemas.EncodeIntakeEvent(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *rig) deadLetters() []schemas.DeadLetter {
	r.Helper()
	var all []schemas.DeadLetter
	for _, m := range r.read(r.topics.DeadLetters()) {
		l, err := schemas.DecodeDeadLetter(m.value)
		if err != nil {
			r.Fatal(err)
		}
		all = append(all, l)
	}
	return all
}

func TestIntake_ChecksStampsAndWritesAsOverHTTP(t *testing.T) {
	r := newRig(t)
	withdrawal := withdrawEvent(1)
	withdrawal.Subject, withdrawal.Purpose, withdrawal.Tenant = "Jane@shop.example", "Marketing.Email", ""
	given := grantEvent(2)
	given.ID = consent.UUID{9}
	at := r.publish(encoded(t, grantEvent(1)), encoded(t, withdrawal), encoded(t, given))
	r.eventually("three events are in the log", func() bool { return len(r.read(r.topics.Events())) == 3 })

	intake := map[int64]message{}
	for _, m := range r.read(r.topics.Intake()) {
		intake[int64(m.Offset)] = m
	}
	derived := func(p kafka.Position) consent.UUID {
		return consent.DeriveUUID(consent.NamespaceEvent, []byte("position\x00"+p.String()))
	}
	byID := map[consent.UUID]consent.Event{}
	for _, e := range r.events() {
		byID[e.ID] = e
	}
	if e, ok := byID[derived(at[0])]; !ok || e.Policy == nil || e.Policy.ExpiresAt == 0 || e.ReceivedAt != consent.InstantOf(intake[int64(at[0].Offset)].time) {
		t.Errorf("the grant: %+v", e)
	}
	if e, ok := byID[derived(at[1])]; !ok || e.Subject != janeID || e.Purpose != "marketing.email" || e.Tenant != "default" || e.EffectiveAt != e.ReceivedAt {
		t.Errorf("the withdrawal: %+v", e)
	}
	if e, ok := byID[given.ID]; !ok || e.Subject != "user:2" {
		t.Errorf("the event with an id: %+v", e)
	}
}

func TestIntake_PoisonedAndRefusedRecordsBecomeDeadLettersAndThePartitionGoesOn(t *testing.T) {
	r := newRig(t)
	good := encoded(t, grantEvent(1))
	refused := grantEvent(2)
	refused.Evidence.Method, refused.Notice, refused.OccurredAt = consent.Scroll, consent.Notice{}, 0
	raw := grantEvent(3)
	raw.Subject = "jane@shop.example"
	ours, confirm := withdrawEvent(4), withdrawEvent(4)
	ours.Action, confirm.Action = consent.Expire, consent.Confirm
	toNobody, toItself := withdrawEvent(6), withdrawEvent(6)
	toNobody.Action, toItself.Action = consent.Link, consent.Unlink
	toItself.LinkTo = toItself.Subject
	nobody := withdrawEvent(5)
	nobody.Subject = ""
	poisoned := []struct {
		value []byte
		codes string
	}{
		{[]byte("random bytes that are no record at all"), "no_schema"},
		{nil, "no_schema"},
		{good[:len(good)-3], "truncated"},
		{append(bytes.Clone(good), 0), "trailing"},
		{append(bytes.Clone(good[:10]), 0xfe, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff), ""},
		{encoded(t, refused), "affirmative,informed,fresh"},
		{encoded(t, raw), "pseudonymous"},
		{encoded(t, ours), "malformed"},
		{encoded(t, confirm), "confirm"},
		{encoded(t, toNobody), "malformed"},
		{encoded(t, toItself), "malformed"},
		{encoded(t, nobody), "malformed"},
	}
	var values [][]byte
	for _, p := range poisoned {
		values = append(values, p.value)
	}
	at := r.publish(append(values, encoded(t, withdrawEvent(7)))...)
	r.eventually("the withdrawal behind them is in the log", func() bool { return len(r.read(r.topics.Events())) == 1 })
	r.eventually("all are dead letters", func() bool { return len(r.deadLetters()) >= len(poisoned) })
	letters := r.deadLetters()
	if len(letters) != len(poisoned) {
		t.Fatalf("%d dead letters, want %d", len(letters), len(poisoned))
	}
	for i, l := range letters {
		p := poisoned[i]
		if l.Topic != r.topics.Intake() || l.Partition != at[i].Index || l.Offset != int64(at[i].Offset) || !bytes.Equal(l.Value, p.value) || string(l.Key) != "any key" || len(l.Headers) != 1 || l.Role != "gateway" {
			t.Errorf("dead letter %d: %+v", i, l)
		}
		if l.Code == "" || (p.codes != "" && l.Code != p.codes) {
			t.Errorf("dead letter %d: code %q, want %q", i, l.Code, p.codes)
		}
		if strings.Contains(l.Reason, "jane") {
			t.Errorf("dead letter %d tells the subject: %s", i, l.Reason)
		}
	}
	r.stop()
	if log := r.log.String(); strings.Contains(log, "jane") || strings.Contains(log, "random bytes") || !strings.Contains(log, at[0].String()) {
		t.Errorf("the log tells a payload, or no position:\n%s", log)
	}
}

func TestIntake_AWithdrawalCountsWhateverTheTimeOfItsRecord(t *testing.T) {
	r := newOffline(t, &memoryLog{})
	for name, c := range map[string]struct{ record, received time.Time }{
		"milliseconds":               {noon.Add(-time.Hour), noon.Add(-time.Hour)},
		"a broker's clock ahead":     {noon.Add(time.Minute), noon.Add(time.Minute)},
		"further ahead than clocks":  {noon.Add(time.Minute + time.Millisecond), noon},
		"microseconds":               {time.UnixMilli(noon.UnixMicro()), noon},
		"nanoseconds":                {time.UnixMilli(noon.UnixNano()), noon},
		"seconds":                    {time.UnixMilli(noon.Unix()), noon},
		"none":                       {time.Time{}, noon},
		"none, as Kafka writes it":   {time.UnixMilli(-1), noon},
		"the largest that there can": {time.UnixMilli(1<<63 - 1), noon},
	} {
		records, err := r.gateway.decide(&kafka.Message{Value: encoded(t, withdrawEvent(1)), Time: c.record})
		if err != nil || len(records) != 1 || records[0].Topic != r.topics.Events() {
			t.Errorf("%s: not accepted: %v, %d records", name, err, len(records))
			continue
		}
		e, err := schemas.DecodeEvent(records[0].Value)
		if want := consent.InstantOf(c.received); err != nil || e.ReceivedAt != want || e.EffectiveAt != want {
			t.Errorf("%s: %v, received %s, takes effect %s, want %s", name, err, e.ReceivedAt, e.EffectiveAt, want)
		}
	}
}

// large gives the event with texts that make its value as many bytes as asked for, or a
// few less.
func large(t testing.TB, e consent.Event, size int) consent.Event {
	t.Helper()
	texts := []*string{&e.Evidence.Reference, &e.Evidence.PageURL, &e.Evidence.UserAgent, &e.Evidence.IP, &e.Evidence.TCString, &e.Evidence.GPPString, &e.Evidence.Token, &e.Source, &e.Property}
	for left := size - len(encoded(t, e)) - 3*len(texts); left > 0; texts = texts[1:] {
		n := min(left, 60<<10)
		*texts[0] = strings.Repeat("x", n)
		left -= n
	}
	return e
}

func TestIntake_AWithdrawalThatIsTooLargeToBeFoldedIsWrittenWithoutItsTexts(t *testing.T) {
	r := newRig(t)
	small := large(t, withdrawEvent(1), maxValueBytes-1<<10)
	before := large(t, withdrawEvent(2), maxValueBytes+1<<10)
	before.Jurisdiction = "FR"
	link := large(t, withdrawEvent(3), maxValueBytes+1<<10)
	link.Action, link.LinkTo = consent.Link, "user:4"
	r.publish(encoded(t, small), encoded(t, before), encoded(t, link), encoded(t, large(t, withdrawEvent(5), schemas.MaxEventBytes+9<<10)), encoded(t, large(t, grantEvent(6), maxValueBytes+1<<10)))
	r.eventually("all but the grant are in the log", func() bool { return len(r.read(r.topics.Events())) == 4 })
	for _, m := range r.read(r.topics.Events()) {
		if len(m.value) > maxValueBytes {
			t.Errorf("%s has %d bytes: a link's copy of it may never be folded", m.Position, len(m.value))
		}
	}
	for _, e := range r.events() {
		switch bare := e.Source == "" && e.Evidence == (consent.Evidence{}); e.Subject {
		case "user:1":
			if bare {
				t.Error("a withdrawal that fits has lost its texts")
			}
		case "user:3":
			if !bare || e.Action != consent.Link || e.LinkTo != "user:4" {
				t.Errorf("the link: %.300v", e)
			}
		default:
			if !bare || e.Action != consent.Withdraw || e.Purpose != "marketing.email" || e.Policy == nil || (e.Subject == "user:2") != (e.Jurisdiction == "FR") {
				t.Errorf("a withdrawal: %.300v", e)
			}
		}
	}
	r.eventually("the grant is a dead letter", func() bool { return len(r.deadLetters()) == 1 })
	if l := r.deadLetters()[0]; l.Code != "malformed" || !strings.Contains(l.Reason, "more than 256 KiB with its stamps: send shorter texts") {
		t.Errorf("the grant: %s: %s", l.Code, l.Reason)
	}
}

// declares is a registry with one catalogue.
type declares struct{ catalogue *consent.Catalogue }

func (d declares) Catalogue(consent.Tenant) *consent.Catalogue { return d.catalogue }

func (declares) Heard(consent.Tenant, consent.Purpose) bool { return true }

// A withdrawal of everything names all that it covers. The most that one file of
// purposes can make of that is 128 KiB of ids, as short as there are.
func TestRecord_WhatDecidesFitsWhateverIsDeclared(t *testing.T) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789_-"
	var declared []*consent.Declaration
	left := 128 << 10
	for ids := []string{""}; left > 0; {
		var longer []string
		for _, id := range ids {
			for _, c := range letters {
				longer = append(longer, id+string(c))
			}
		}
		for _, id := range longer {
			if left -= len(id); left < 0 {
				break
			}
			declared = append(declared, &consent.Declaration{ID: consent.Purpose(id), LegalBasis: consent.BasisConsent})
		}
		ids = longer
	}
	registry := declares{consent.NewCatalogue(consent.DefaultTenant, strings.Repeat("0", 64), declared)}
	r := newOffline(t, &memoryLog{}, func(_ *Config, d *Deps) { d.Registry = func() intake.Registry { return registry } })
	all := withdrawEvent(1)
	all.Purpose = consent.Root
	records, err := r.gateway.decide(&kafka.Message{Value: encoded(t, large(t, all, maxValueBytes)), Time: noon})
	if err != nil || len(records) != 1 || records[0].Topic != r.topics.Events() {
		t.Fatalf("%v: %d records", err, len(records))
	}
	e, err := schemas.DecodeEvent(records[0].Value)
	if err != nil || len(declared) < 44_000 || len(e.Policy.Covers) != len(declared) || len(records[0].Value) > maxValueBytes {
		t.Errorf("%v: %d bytes, which name %d of %d purposes", err, len(records[0].Value), len(e.Policy.Covers), len(declared))
	}
}

// sums gives the records of the event log by their id, each form of them once.
func (r *rig) sums() map[string]map[[32]byte]bool {
	r.Helper()
	all := map[string]map[[32]byte]bool{}
	for _, m := range r.read(r.topics.Events()) {
		e, err := schemas.DecodeEvent(m.value)
		if err != nil {
			r.Fatal(err)
		}
		id := e.ID.String()
		if all[id] == nil {
			all[id] = map[[32]byte]bool{}
		}
		all[id][sha256.Sum256(append(append(bytes.Clone(m.key), m.value...), fmt.Sprint(m.headers)...))] = true
	}
	return all
}

func TestIntake_ARepeatIsByteIdentical(t *testing.T) {
	r := newRig(t)
	r.brokers.InProcessOnly("cuts answers of the broker")
	// No commit is answered, so that what was written is written again by the
	// next membership.
	const offsetCommit = 8
	refused := 0
	r.cluster.ControlKey(offsetCommit, func(req kmsg.Request) (kmsg.Response, error, bool) {
		if refused++; refused > 3 {
			return nil, nil, false
		}
		r.cluster.KeepControl()
		return nil, fmt.Errorf("cut"), true
	})
	bare := withdrawEvent(2)
	bare.Subject = "jane@shop.example"
	r.publish(encoded(t, grantEvent(1)), encoded(t, bare))
	r.eventually("both are written twice", func() bool { return len(r.read(r.topics.Events())) >= 4 })
	sums := r.sums()
	if len(sums) != 2 {
		t.Errorf("%d events, want 2", len(sums))
	}
	for id, forms := range sums {
		if len(forms) != 1 {
			t.Errorf("event %s has %d forms", id, len(forms))
		}
	}
}

func TestIntake_SurvivesTheBrokersAbsenceAndSkipsNothing(t *testing.T) {
	r := newRig(t)
	r.brokers.InProcessOnly("cuts answers of the broker, and stops it")
	r.publish(encoded(t, withdrawEvent(0)))
	r.eventually("the first is in the log", func() bool { return len(r.read(r.topics.Events())) == 1 })
	// Produce to the event log fails for a while, then the broker goes away altogether.
	const produce = 0
	failing := true
	r.cluster.ControlKey(produce, func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		for _, t := range req.(*kmsg.ProduceRequest).Topics {
			if t.Topic == r.topics.Events() && failing {
				return nil, fmt.Errorf("cut"), true
			}
		}
		return nil, nil, false
	})
	for n := 1; n <= 20; n++ {
		r.publish(encoded(t, withdrawEvent(n)))
	}
	port := r.brokerPort()
	r.cluster.Close()
	r.startBroker(port)
	r.eventually("all are in the log", func() bool {
		subjects := map[consent.Subject]bool{}
		for _, e := range r.events() {
			subjects[e.Subject] = true
		}
		return len(subjects) == 21
	})
	if letters := r.deadLetters(); len(letters) != 0 {
		t.Errorf("%d dead letters", len(letters))
	}
}

// full is an event log of a broker that has no room.
type full struct {
	eventLog
	asked chan int // records of each attempt
}

func (f full) Produce(_ context.Context, records ...kafka.Record) ([]kafka.Position, error) {
	select {
	case f.asked <- len(records):
	default:
	}
	results := make([]kafka.RecordResult, len(records))
	for i := range results {
		results[i].Err = errors.New("no space left on device")
	}
	return nil, &kafka.ProduceError{Results: results}
}

func TestIntake_CommitsNothingThatIsNotWritten(t *testing.T) {
	r := newRig(t)
	r.stop()
	asked := make(chan int, 100)
	r.wrapLog = func(l eventLog) eventLog { return full{l, asked} }
	r.startGateway(func(_ *Config, d *Deps) { d.Metrics = nil })
	r.publish(encoded(t, withdrawEvent(1)), []byte("poison"), encoded(t, withdrawEvent(2)))
	for seen := 0; seen < 6; { // at least two attempts with all of them
		select {
		case n := <-asked:
			seen += n
		case <-time.After(patience):
			t.Fatal("nothing is tried")
		}
	}
	r.stop()
	r.wrapLog = nil
	r.startGateway(func(_ *Config, d *Deps) { d.Metrics = nil })
	r.eventually("both are in the log", func() bool { return len(r.read(r.topics.Events())) == 2 })
	r.eventually("the poison is a dead letter", func() bool { return len(r.deadLetters()) == 1 })
}

func TestIntake_GoesOnWhereItWas(t *testing.T) {
	r := newRig(t)
	r.publish(encoded(t, withdrawEvent(1)))
	r.eventually("it is in the log", func() bool { return len(r.read(r.topics.Events())) == 1 })
	r.stop() // politely: the position is committed
	r.publish(encoded(t, withdrawEvent(2)))
	r.startGateway(func(_ *Config, d *Deps) { d.Metrics = nil })
	r.eventually("the next is in the log", func() bool { return len(r.read(r.topics.Events())) >= 2 })
	if n := len(r.read(r.topics.Events())); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
}
