package sink

import (
	"fmt"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/sink/table"
)

const benchRows = 100_000

// BenchmarkSink writes records that wait in consent.events into the history:
// fetched, decoded, announced, inserted, confirmed. The peer is the same rows,
// ready-made, in one insert of the bare client in the same run.
func BenchmarkSink(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b, 4)
		rows := w.produceEvents(benchRows)
		db := w.open()
		began := time.Now()
		for part := range 4 {
			if err := db.Insert(w.ctx, table.Deliveries, rows[part*len(rows)/4:(part+1)*len(rows)/4], fmt.Sprint("peer", part), time.Now().Add(time.Minute)); err != nil {
				b.Fatal(err)
			}
		}
		peer := benchRows / time.Since(began).Seconds()
		b.StartTimer()
		began = time.Now()
		s := w.start(func(c *Config) { c.FlushInterval = 200 * time.Millisecond })
		w.eventually("all rows", func() bool { _, positions := w.counts("events"); return positions == benchRows })
		rate := benchRows / time.Since(began).Seconds()
		b.StopTimer()
		s.stop()
		b.ReportMetric(rate, "rows/s")
		b.ReportMetric(rate/peer, "sink/bare-insert")
		b.StartTimer()
	}
}

// produceEvents writes n events, and gives delivery rows of about their size.
func (w *world) produceEvents(n int) []table.Row {
	w.Helper()
	rows := make([]table.Row, 0, n)
	records := make([]kafka.Record, 0, n)
	for i := range n {
		e := consent.Event{ID: consent.UUID{1, byte(i >> 16), byte(i >> 8), byte(i)}, Tenant: "default", Subject: consent.Subject(fmt.Sprintf("user:%d", i)), Purpose: "analytics",
			Action: consent.Withdraw, Channel: consent.Web, Source: "bench/1", ReceivedAt: 1, EffectiveAt: 1, Policy: &consent.Policy{Version: "v", Covers: []consent.Purpose{"analytics"}}}
		value, err := schemas.EncodeEvent(nil, &e)
		if err != nil {
			w.Fatal(err)
		}
		records = append(records, kafka.Record{Topic: w.names.Events(), Key: e.Key(), Value: value})
		d := schemas.Delivery{ID: e.ID, ChangeID: e.ID, Tenant: e.Tenant, Subject: e.Subject, Purpose: e.Purpose, Downstream: "crm", Outcome: schemas.Delivered}
		if value, err = schemas.EncodeDelivery(nil, &d); err != nil {
			w.Fatal(err)
		}
		rows = append(rows, table.Deliveries.NewRow(&kafka.Message{Position: kafka.Position{Partition: kafka.Partition{Topic: "peer"}, Offset: kafka.LastOffset(i)}, Value: value, Time: time.Now()}))
	}
	for len(records) > 0 {
		batch := min(len(records), 2000)
		if _, err := w.producer.Produce(w.ctx, records[:batch]...); err != nil {
			w.Fatal(err)
		}
		records = records[batch:]
	}
	return rows
}
