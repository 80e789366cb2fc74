package processor

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
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
	benchWarm     = 400_000
	benchMeasured = 500_000
)

var benchPurposes = []consent.Purpose{"marketing.email", "marketing.sms", "marketing.phone", "analytics", "ads", "ads.personalisation", "sharing.partners", "research"}

// benchUserAgent makes an event 351 bytes.
const benchUserAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/149.0.0.0"

// benchEvents makes encoded events as they stand in consent.events, without end:
// one purpose each, two thirds of them grants, as a gateway stamps them.
func benchEvents(n int) []benchRecord {
	r := rand.New(rand.NewPCG(1, 2))
	records := make([]benchRecord, n)
	var text []byte // of all, so that the garbage collector has nothing to look at, as in a fetcher
	for i := range records {
		subject := consent.Subject(fmt.Sprintf("user:%08d", r.IntN(benchSubjects)))
		action := []consent.Action{consent.Grant, consent.Grant, consent.Withdraw}[r.IntN(3)]
		e := event(r, subject, action, benchPurposes[r.IntN(len(benchPurposes))], i)
		e.Source, e.Property, e.Jurisdiction = "shop-web/3.2", "shop.example", "DE"
		e.Policy.Version, e.Policy.Covers = "3f0c2a9e51b7", []consent.Purpose{e.Purpose}
		e.Evidence = consent.Evidence{Method: consent.Toggle, ControlDefault: consent.DefaultOff, PageURL: "https://shop.example/privacy", UserAgent: benchUserAgent}
		e.Notice = consent.Notice{ID: "privacy", Version: "4", Language: "de", SHA256: [32]byte{1}}
		if len(text)+benchTextBytes/16 > cap(text) {
			text = make([]byte, 0, benchTextBytes)
		}
		from := len(text)
		text = consent.AppendKey(text, e.Tenant, e.Subject)
		middle := len(text)
		text, _ = schemas.EncodeEvent(text, &e)
		records[i] = benchRecord{text[from:middle:middle], text[middle:len(text):len(text)], e.ReceivedAt}
	}
	return records
}

// benchTextBytes are the keys and values that share an allocation.
const benchTextBytes = 1 << 20

// benchRecord is an event in consent.events.
type benchRecord struct {
	key, value []byte
	at         consent.Instant
}

func (r *benchRecord) message(offset int) kafka.Message {
	return kafka.Message{Position: kafka.Position{Offset: kafka.LastOffset(offset)}, Key: r.key, Value: r.value, Time: r.at.Time()}
}

// setBenchMemory does as the command does.
func setBenchMemory() {
	percent, limit := Config{CacheBytes: benchCacheBytes}.Memory()
	debug.SetGCPercent(percent)
	debug.SetMemoryLimit(limit)
}

// BenchmarkFoldAlone is everything between the bytes of events and the bytes of states
// and changes, without a broker; once more with the local store beneath it. Run it with
// -cpu 1 and -benchtime 1x: events/s are those of one core.
func BenchmarkFoldAlone(b *testing.B) {
	setBenchMemory()
	records := benchEvents(benchWarm + benchMeasured)
	b.Run("decode to encode", func(b *testing.B) { benchFold(b, records, false) })
	b.Run("and store", func(b *testing.B) { benchFold(b, records, true) })
}

func benchFold(b *testing.B, records []benchRecord, storing bool) {
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
	fetched := make([]kafka.Message, benchBatch)
	one := func(records []benchRecord) {
		for i, r := range records {
			fetched[i] = r.message(folded + i)
		}
		w.events[0].reset()
		batch := &batch{events: &w.events[0]}
		if err := w.decode(batch, &kafka.Batch{Partition: at, Messages: fetched[:len(records)], Next: kafka.NextOffset(folded + len(records))}); err != nil {
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
		folded += len(records)
	}
	pass := func(records []benchRecord) {
		for batch := range slices.Chunk(records, benchBatch) {
			one(batch)
		}
	}
	pass(records[:benchWarm]) // every subject is in memory
	changed, folded = 0, 0
	b.ReportAllocs()
	b.ResetTimer()
	pass(records[benchWarm:])
	b.ReportMetric(float64(folded)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(changed)/float64(folded), "changes/event")
	b.ReportMetric(0, "ns/op") // one operation is all of it
}
