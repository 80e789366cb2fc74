package sink

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/sink/table"
)

type metrics struct {
	rows, blocks                       *prometheus.CounterVec
	latency                            *prometheus.HistogramVec
	retries, recounts, doubles, alarms prometheus.Counter
	lag                                lagVec
}

// lagVec is how many records of the log, as it was when the partition was
// claimed, are not written yet.
type lagVec struct{ *prometheus.GaugeVec }

func (l lagVec) set(p kafka.Partition, records int64) {
	l.WithLabelValues(p.Topic, strconv.Itoa(int(p.Index))).Set(float64(records))
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "assent_sink_" + name, Help: help})
	}
	m := &metrics{
		rows:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "assent_sink_rows_total", Help: "Rows sent to ClickHouse."}, []string{"table"}),
		blocks: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "assent_sink_blocks_total", Help: "Inserts, by how they were answered."}, []string{"table", "answer"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "assent_sink_insert_seconds", Help: "Time of one insert.", Buckets: prometheus.ExponentialBuckets(.002, 2, 14),
		}, []string{"table"}),
		retries:  counter("retries_total", "Inserts without an answer, which are repeated."),
		recounts: counter("recounts_total", "Tries at a range whose outcome was unknown."),
		doubles:  counter("double_rows_total", "Positions found in the history twice: must stay 0."),
		alarms:   counter("alarms_total", "Partitions stopped because going on would make a gap or a double."),
		lag:      lagVec{prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "assent_sink_start_lag_records", Help: "Records before the end seen at the claim that are not written yet."}, []string{"topic", "partition"})},
	}
	if r == nil {
		return m, nil
	}
	var err error
	for _, c := range []prometheus.Collector{m.rows, m.blocks, m.latency, m.retries, m.recounts, m.doubles, m.alarms, m.lag} {
		err = errors.Join(err, r.Register(c))
	}
	return m, err
}

func (m *metrics) inserted(t *table.Table, rows int, took time.Duration, err error) {
	answer := "ok"
	if err != nil {
		answer = "error"
	} else {
		m.rows.WithLabelValues(t.Name).Add(float64(rows))
	}
	m.blocks.WithLabelValues(t.Name, answer).Inc()
	m.latency.WithLabelValues(t.Name).Observe(took.Seconds())
}
