package processor

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
	"github.com/assent-dev/assent/schemas"
)

// The workload of the benchmarks: who says what.
const (
	benchSubjects = 100_000
	benchBatch    = 5000
)

var benchPurposes = []consent.Purpose{"marketing.email", "marketing.sms", "marketing.phone", "analytics", "ads", "ads.personalisation", "sharing.partners", "research"}

// benchEvents makes encoded events as they stand in consent.events, without end:
// one purpose each, two thirds of them grants, as a gateway stamps them.
func benchEvents(n int) []kafka.Message {
	r := rand.New(rand.NewPCG(1, 2))
	messages := make([]kafka.Message, n)
	for i := range messages {
		subject := consent.Subject(fmt.Sprintf("user:%08d", r.IntN(benchSubjects)))
		action := []consent.Action{consent.Grant, consent.Grant, consent.Withdraw}[r.IntN(3)]
		e := event(r, subject, action, benchPurposes[r.IntN(len(benchPurposes))], i)
		e.Source, e.Property, e.Jurisdiction = "shop-web/3.2", "shop.example", "DE"
		e.Policy.Version, e.Policy.Covers = "3f0c2a9e51b7", []consent.Purpose{e.Purpose}
		e.Evidence = consent.Evidence{Method: consent.Toggle, ControlDefault: consent.DefaultOff, PageURL: "https://shop.example/privacy"}
		e.Notice = consent.Notice{ID: "privacy", Version: "4", Language: "de", SHA256: [32]byte{1}}
		value, err := schemas.EncodeEvent(nil, &e)
		if err != nil {
			panic(err)
		}
		messages[i] = kafka.Message{Position: kafka.Position{Offset: kafka.LastOffset(i)}, Key: e.Key(), Value: value, Time: e.ReceivedAt.Time()}
	}
	return messages
}

// BenchmarkFoldAlone is everything between the bytes of events and the bytes of states
// and changes, without a broker; once more with the local store beneath it. Run it with
// -cpu 1: events/s are those of one core.
func BenchmarkFoldAlone(b *testing.B) {
	messages := benchEvents(600_000)
	b.Run("decode to encode", func(b *testing.B) { benchFold(b, messages, false) })
	b.Run("and store", func(b *testing.B) { benchFold(b, messages, true) })
}

func benchFold(b *testing.B, messages []kafka.Message, storing bool) {
	s, err := store.Open(store.Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	rows, err := s.Partition(0)
	if err != nil {
		b.Fatal(err)
	}
	table := newTable(rows, 8<<30)
	defer func() { _ = table.close() }()
	w := &stripe{p: &Processor{}, partitions: 1}
	w.p.config.ensureDefaults()
	if w.p.metrics, err = newMetrics(nil); err != nil {
		b.Fatal(err)
	}
	at := kafka.Partition{Topic: "e"}
	w.parts = map[kafka.Partition]*partition{at: {table: table}}
	changed, folded := 0, 0
	one := func(messages []kafka.Message) {
		batch := &batch{letters: map[string]int{}}
		if err := w.decode(batch, &kafka.Batch{Partition: at, Messages: messages, Next: kafka.NextOffset(folded + len(messages))}); err != nil {
			b.Fatal(err)
		}
		if err := w.fold(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		changed += len(batch.parts[0].changes)
		if err := w.publish(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		if storing {
			if err := w.store(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		folded += len(messages)
	}
	const warm = 400_000 // every subject is in memory
	for i := 0; i < warm; i += benchBatch {
		one(messages[i : i+benchBatch])
	}
	changed, folded = 0, 0
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		i := warm + n*benchBatch%(len(messages)-warm)
		one(messages[i : i+benchBatch])
		n++
	}
	b.ReportMetric(float64(folded)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(changed)/float64(folded), "changes/event")
}
