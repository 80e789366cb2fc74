package processor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// poison lists records that can never be folded, with the code that each must get.
// The topic needs two partitions at least.
func poison(w *world, r *rand.Rand) map[string]kafka.Record {
	good := func(change func(*consent.Event)) kafka.Record {
		e := event(r, anna, consent.Withdraw, "m", 1)
		change(&e)
		return w.record(&e)
	}
	value := func(v []byte) kafka.Record {
		return kafka.Record{Topic: w.names.Events(), Key: consent.Key(consent.DefaultTenant, anna), Value: v}
	}
	noise := make([]byte, 300)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	whole := good(func(*consent.Event) {}).Value
	bomb := good(func(e *consent.Event) { e.Policy.Covers = []consent.Purpose{"bomb.bomb"} }).Value
	// One item in the array becomes a hundred million.
	at := bytes.Index(bomb, []byte("bomb.bomb")) - 2
	if bomb[at] != 2 {
		w.Fatal("the array's count is not where it was expected")
	}
	bomb = append(append(bytes.Clone(bomb[:at]), binary.AppendVarint(nil, 100_000_000)...), bomb[at+1:]...)
	stranger := good(func(*consent.Event) {})
	stranger.Key = []byte("default|user:somebody-else")
	misplaced := good(func(*consent.Event) {})
	elsewhere := kafka.PartitionFor(misplaced.Key, w.partitions)
	for i := 0; ; i++ {
		key := fmt.Appendf(nil, "x%d", i)
		if kafka.PartitionFor(key, w.partitions) != elsewhere {
			misplaced.PartitionKey = key
			break
		}
	}
	unkeyed := good(func(*consent.Event) {})
	unkeyed.Key = nil
	return map[string]kafka.Record{
		"no_schema random":          value(noise),
		"no_schema empty":           value([]byte{}),
		"no_schema tombstone":       value(nil),
		"truncated":                 value(whole[:len(whole)/2]),
		"trailing":                  value(append(bytes.Clone(whole), 7)),
		"truncated bomb":            value(bomb),
		"too_large":                 value(append(bytes.Clone(whole), make([]byte, schemas.MaxEventBytes)...)),
		"wrong_key":                 stranger,
		"wrong_key missing":         unkeyed,
		"wrong_partition":           misplaced,
		"unstamped":                 good(func(e *consent.Event) { e.Action, e.Policy = consent.Grant, nil }),
		"unstamped no received_at":  good(func(e *consent.Event) { e.Action, e.ReceivedAt = consent.Grant, 0 }),
		"unstamped no effective_at": good(func(e *consent.Event) { e.Action, e.EffectiveAt = consent.Grant, 0 }),
		"not_yet unknown":           good(func(e *consent.Event) { e.Action = consent.ActionUnknown }),
	}
}

func TestProcessor_PoisonedRecordsAreDeadLettersAndThePartitionGoesOn(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 2)
	records := poison(w, r)
	wantCode := make(map[string]string) // by position
	original := make(map[string]kafka.Record)
	for name, record := range records {
		w.publish(event(r, anna, consent.Grant, "m.e", 1), event(r, ben, consent.Grant, "m.e", 1))
		position := w.produce(record)[0].String()
		wantCode[position], _, _ = strings.Cut(name, " ")
		original[position] = record
	}
	w.publish(event(r, anna, consent.Withdraw, "m", 9), event(r, ben, consent.Withdraw, "m", 9))
	p := w.start()
	p.awaitReady()
	p.awaitFolded()
	for _, subject := range []consent.Subject{anna, ben} {
		if s, ok := p.state(subject, false); !ok || s.Row("m") == nil || s.Row("m").Announced.Status != consent.Withdrawn {
			t.Errorf("the withdrawal behind the poison was not folded")
		}
	}
	p.stop()
	letters := w.letters()
	if len(letters) != len(records) {
		t.Errorf("%d dead letters, want %d", len(letters), len(records))
	}
	for _, l := range letters {
		position := kafka.Position{Partition: kafka.Partition{Topic: l.Topic, Index: l.Partition}, Offset: kafka.LastOffset(l.Offset)}.String()
		if l.Code != wantCode[position] {
			t.Errorf("%s: code %q (%s), want %q", position, l.Code, l.Reason, wantCode[position])
		}
		want := original[position]
		if !bytes.Equal(l.Key, want.Key) || !bytes.HasPrefix(want.Value, l.Value) || (!l.Partial && !bytes.Equal(want.Value, l.Value)) || len(l.Headers) != len(want.Headers) {
			t.Errorf("%s: the letter does not hold the original bytes", position)
		}
		if strings.Contains(l.Reason, "anna") || l.Reason == "" {
			t.Errorf("%s: reason %q", position, l.Reason)
		}
	}
	w.requireReference()
}

// Reading poison again writes the same letters.
func TestProcessor_DeadLettersAreWrittenBeforeTheOffsetMoves(t *testing.T) {
	w := newWorld(t, 1)
	w.produce(kafka.Record{Topic: w.names.Events(), Key: []byte("k"), Value: []byte("nonsense")})
	hook, crashed := crash(stepCarry, 1)
	p := w.start(hook)
	<-crashed
	p.stop()
	first := w.letters()
	if len(first) != 1 || w.committed() != 0 {
		t.Fatalf("%d letters with offset %d committed, want 1 letter before the offset moves", len(first), w.committed())
	}
	w.foldAll()
	all := w.letters()
	if len(all) != 2 || fmt.Sprint(all[1]) != fmt.Sprint(first[0]) {
		t.Errorf("letters after reading again: %v, want the same once more", all)
	}
}

func TestProcessor_UnstampedProtectiveEventsCountAtBrokerTime(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	grant := event(r, anna, consent.Grant, "m.e", 1)
	bare := event(r, anna, consent.Withdraw, "m", 2)
	bare.Policy, bare.ReceivedAt, bare.EffectiveAt = nil, 0, 0
	before := consent.InstantOf(time.Now().Add(-time.Second))
	w.publish(grant, bare)
	p := w.start()
	p.awaitFolded()
	s, _ := p.state(anna, false)
	no := s.Row("m").No
	after := consent.InstantOf(time.Now().Add(time.Second))
	if no.EffectiveAt < before || no.EffectiveAt > after || no.ReceivedAt != no.EffectiveAt || s.Whole.Clock != no.ReceivedAt {
		t.Errorf("effective %s, received %s, clock %s; want the broker's time", no.EffectiveAt, no.ReceivedAt, s.Whole.Clock)
	}
	if s.Row("m.e").Announced.Status != consent.Withdrawn {
		t.Error("the unstamped withdrawal did not reach the purpose below it")
	}
}

func TestProcessor_NoTimeIsLaterThanTheBrokers(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	future := consent.InstantOf(time.Now().Add(365 * 24 * time.Hour))
	e := event(r, anna, consent.Grant, "m.e", 1)
	e.ReceivedAt, e.EffectiveAt = future, future
	back := event(r, anna, consent.Invalidate, "m.s", 1)
	back.Invalidates = &consent.EventRef{EventID: newUUID(r), EffectiveAt: future}
	w.publish(e, back, event(r, anna, consent.Withdraw, "a", 3))
	p := w.start()
	p.awaitFolded()
	s, _ := p.state(anna, false)
	limit := consent.InstantOf(time.Now().Add(time.Second))
	if yes := s.Row("m.e").Yes; yes.EffectiveAt > limit || yes.ReceivedAt > limit || s.Whole.Clock > limit {
		t.Errorf("effective %s, received %s, clock %s: later than the broker's time", yes.EffectiveAt, yes.ReceivedAt, s.Whole.Clock)
	}
	if ended := s.Row("m.s").Ended; ended.OrderAt > limit {
		t.Errorf("ordered at %s, later than the broker's time", ended.OrderAt)
	}
}

// What a State keeps of a no in full is the event as it counts, not as it was written.
func TestDecode_AnEventIsKeptWithTheTimesThatCount(t *testing.T) {
	r := seed(t)
	written := event(r, anna, consent.Withdraw, "m", 1000)
	unstamped := written
	unstamped.Policy, unstamped.ReceivedAt, unstamped.EffectiveAt = nil, 0, 0
	carried := written
	carried.Carried = &consent.Carried{Subject: ben, EventID: newUUID(r), EffectiveAt: written.EffectiveAt}
	for name, e := range map[string]consent.Event{"stamped": written, "unstamped": unstamped, "carried": carried} {
		value, err := schemas.EncodeEvent(nil, &e)
		if err != nil {
			t.Fatal(err)
		}
		for _, broker := range []time.Time{written.ReceivedAt.Time().Add(-time.Minute), written.ReceivedAt.Time().Add(time.Minute)} {
			var got schemas.Folding
			m := &kafka.Message{Key: e.Key(), Value: value, Time: broker}
			if refused := decode(m, 1, &got); refused != nil {
				t.Fatal(name, refused)
			}
			kept := got.Original
			if got.Original = nil; !reflect.DeepEqual(*kept.Event(), got.Event) {
				t.Errorf("%s, broker's time %s: kept\n%+v, want\n%+v", name, broker, *kept.Event(), got.Event)
			}
		}
	}
}

func TestStampedBy_ARecordWithoutATime(t *testing.T) {
	r := seed(t)
	e := event(r, anna, consent.Withdraw, "m", 1)
	got := e
	if refused := stampedBy(&got, 0); refused != nil || got.EffectiveAt != e.EffectiveAt {
		t.Errorf("a stamped event: %v, effective %s; want it as it was", refused, got.EffectiveAt)
	}
	e.Policy = nil
	if refused := stampedBy(&e, 0); refused == nil || refused.code != string(consent.CodeUnstamped) {
		t.Error("an event without any time counted")
	}
	for _, at := range []time.Time{{}, time.UnixMilli(-1), time.UnixMilli(1 << 60)} {
		if got := brokerTime(&kafka.Message{Time: at}); got != 0 {
			t.Errorf("broker time of %s is %d, want none", at, got)
		}
	}
}

func TestProcessor_APanicInTheFoldStopsThePartitionAndSkipsNothing(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 4)
	bad := event(r, anna, consent.Withdraw, "m.s", 2)
	bad.Source = "bad"
	w.publish(event(r, anna, consent.Grant, "m.e", 1), bad, event(r, anna, consent.Withdraw, "m", 3))
	other := otherSubject(w, anna)
	w.publish(event(r, other, consent.Grant, "m.e", 1))
	var log bytes.Buffer
	p := w.start(func(c *Config) {
		c.Stripes, c.BatchRecords = 1, 1 // what follows the bad event is fetched with it
		c.Logger = logTo(&log)
		c.fold = func(f *consent.Folder, s consent.State, e *consent.Event) consent.State {
			if e.Source == "bad" {
				panic("about " + string(e.Subject))
			}
			return f.Fold(s, e)
		}
	})
	w.eventually("the alarm", func() error {
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "is stopped") {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	if _, ok := p.state(anna, false); ok {
		t.Error("a stopped partition answers")
	}
	w.eventually("the other partition", func() error {
		if s, ok := p.state(other, false); !ok || s == nil {
			return fmt.Errorf("not folded")
		}
		return nil
	})
	p.stop()
	if text := log.String(); strings.Contains(text, string(anna)) || !strings.Contains(text, "partition stopped") {
		t.Errorf("the log must have the alarm, and never the subject: %s", text)
	}
	if n := len(w.changes()); n != 2 {
		t.Errorf("%d changes, want those of the two grants: what came before the panic is told, nothing behind it", n)
	}
	// The bug is mended: everything is folded, nothing was skipped.
	p = w.start()
	p.awaitReady()
	p.awaitFolded()
	p.stop()
	w.requireReference()
}

// otherSubject is one in another partition.
func otherSubject(w *world, s consent.Subject) consent.Subject {
	index := func(s consent.Subject) int32 {
		return kafka.PartitionFor(consent.Key(consent.DefaultTenant, s), w.partitions)
	}
	for i := 0; ; i++ {
		if o := consent.Subject(fmt.Sprintf("user:o%d", i)); index(o) != index(s) {
			return o
		}
	}
}

func FuzzDecode_NeverPanicsAndAnEventHasItsKey(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	e := event(r, anna, consent.Withdraw, "m", 1)
	value, err := schemas.EncodeEvent(nil, &e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Key(), value, int64(1))
	f.Add([]byte(nil), []byte{0xc3, 1}, int64(-1))
	f.Fuzz(func(t *testing.T, key, value []byte, millis int64) {
		m := &kafka.Message{Key: key, Value: value, Time: time.UnixMilli(millis)}
		var e schemas.Folding
		if refused := decode(m, 1, &e); refused != nil {
			if _, err := deadLetter("d", m, refused); err != nil {
				t.Error(err)
			}
			return
		}
		if !bytes.Equal(e.Key(), key) || (millis > 0 && e.EffectiveAt > consent.Instant(max(0, millis))) {
			t.Errorf("an event with another key, or later than its record")
		}
		table := newTable(nil, 1<<20)
		table.keep(consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject, Test: e.Test}, new(place))
		folding := newFolding(table, (*consent.Folder).Fold, new(slab[subjectFold]))
		if err := folding.add(&e.Event, 5); err != nil {
			t.Fatal(err)
		}
		if _, err := new(encoding).states(folding.moved()); err != nil {
			t.Error(err)
		}
		if _, err := new(encoding).events(folding.folder.Carried); err != nil {
			t.Error(err)
		}
	})
}

// What the gateway writes at most, and what a link makes of it at most: the event names all
// the subjects that it can have come through.
func TestDecode_TheLargestThatTheGatewayWritesIsFoldedAndCarried(t *testing.T) {
	r := seed(t)
	long := func(i int) consent.Subject {
		return consent.Subject(fmt.Sprintf("user:%0251d", i))
	}
	e := event(r, anna, consent.Withdraw, "m", 1)
	e.Subject = long(-1)
	via := make([]consent.Subject, 256)
	for i := range via {
		via[i] = long(i)
	}
	texts := strings.Repeat("x", 60<<10)
	e.Evidence = consent.Evidence{Reference: texts, PageURL: texts, UserAgent: texts, IP: texts}
	value, err := schemas.EncodeEvent(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	e.Source = strings.Repeat("x", schemas.MaxEventBytes/2-len(value)-4)
	decoded := func(e *consent.Event) int {
		t.Helper()
		value, err := schemas.EncodeEvent(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		m := &kafka.Message{Key: e.Key(), Value: value, Time: e.ReceivedAt.Time()}
		if refused := decode(m, 1, new(schemas.Folding)); refused != nil {
			t.Errorf("an event of %d bytes is not folded: %+v", len(value), refused)
		}
		return len(value)
	}
	if n := decoded(&e); n > schemas.MaxEventBytes/2 || n < schemas.MaxEventBytes/2-16 {
		t.Fatalf("the event has %d bytes: it is to be as large as may be", n)
	}
	e.Carried = &consent.Carried{Subject: anna, EventID: newUUID(r), EffectiveAt: e.EffectiveAt, Via: via}
	link := event(r, e.Subject, consent.Link, consent.Root, 2)
	link.LinkTo = long(-2)
	state, _, _ := consent.Fold(consent.State{}, &link)
	_, _, carried := consent.Fold(state, &e)
	if len(carried) != 1 || len(carried[0].Carried.Via) != len(via) {
		t.Fatalf("%d events are carried", len(carried))
	}
	decoded(&carried[0])
}

// Whatever accepted events say, the row that they make can be written: one that is too large
// would stop its partition.
func TestFolding_NoRowIsTooLarge(t *testing.T) {
	r := seed(t)
	rows, closeStore := openRows(t)
	defer closeStore()
	table := newTable(rows, 1<<30)
	long := strings.Repeat("x", 60<<10)
	var events []consent.Event
	add := func(action consent.Action, change func(*consent.Event)) {
		e := event(r, anna, action, consent.Root, len(events))
		e.Notice.ID, e.Notice.Version, e.Policy.Version = long, long, long
		change(&e)
		events = append(events, e)
	}
	longest := func(i int) consent.Subject {
		number := fmt.Sprint(i)
		return consent.Subject("user:" + strings.Repeat("a", 251-len(number)) + number)
	}
	for i := range 400 {
		add(consent.Invalidate, func(e *consent.Event) {
			e.Invalidates = &consent.EventRef{EventID: newUUID(r)}
			e.Jurisdiction = consent.Jurisdiction([]byte{'U', 'S', '-', 'A' + byte(i/26), 'A' + byte(i%26)})
		})
		add(consent.Link, func(e *consent.Event) { e.LinkTo = longest(i) })
		add(consent.Unlink, func(e *consent.Event) { e.LinkTo = longest(i) })
	}
	add(consent.Erase, func(e *consent.Event) { e.EffectiveAt = base })
	add(consent.Invalidate, func(*consent.Event) {})
	add(consent.Withdraw, func(e *consent.Event) {
		e.Evidence = consent.Evidence{Reference: long, PageURL: long, UserAgent: long, IP: long}
		e.Source = long
		if err := schemas.SetOriginal(e); err != nil {
			t.Fatal(err)
		}
		if n := e.Original.Bytes(); n < schemas.MaxEventBytes*9/10 || n > schemas.MaxEventBytes {
			t.Fatalf("the event has %d bytes: it is to be as large as may be", n)
		}
	})
	f := newFolding(table, (*consent.Folder).Fold, new(slab[subjectFold]))
	for i := range events {
		if err := f.add(&events[i], kafka.LastOffset(i)); err != nil {
			t.Fatal(err)
		}
	}
	writes, err := new(encoding).states(f.moved())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range writes {
		t.Logf("%s: %d of %d bytes", w.record.Key, len(w.record.Value), schemas.MaxPayloadBytes)
	}
}
