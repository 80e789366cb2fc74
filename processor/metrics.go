package processor

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the processor's numbers.
type metrics struct {
	events      *prometheus.CounterVec // by action
	skipped     prometheus.Counter
	changes     *prometheus.CounterVec // by status
	withdrawals prometheus.Counter
	letters     *prometheus.CounterVec // by code
	lag         *prometheus.GaugeVec   // by partition
	stopped     *prometheus.GaugeVec   // by partition
	batch       prometheus.Histogram
	records     prometheus.Histogram
	restored    prometheus.Counter
	restoreTime prometheus.Histogram
	restoreRate prometheus.Gauge
	subjects    *prometheus.GaugeVec // by partition
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "assent", Subsystem: "processor", Name: name, Help: help}
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "assent", Subsystem: "processor", Name: name, Help: help, Buckets: buckets})
	}
	m := &metrics{
		events:      prometheus.NewCounterVec(prometheus.CounterOpts(opts("events_folded_total", "Events folded, by action.")), []string{"action"}),
		skipped:     prometheus.NewCounter(prometheus.CounterOpts(opts("events_skipped_total", "Events read again that the restored states contained."))),
		changes:     prometheus.NewCounterVec(prometheus.CounterOpts(opts("changes_total", "Changes told, by new status.")), []string{"status"}),
		withdrawals: prometheus.NewCounter(prometheus.CounterOpts(opts("withdrawals_total", "Changes told that are withdrawals."))),
		letters:     prometheus.NewCounterVec(prometheus.CounterOpts(opts("dead_letters_total", "Records of consent.events set aside, by code.")), []string{"code"}),
		lag:         prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("lag_records", "Records of consent.events not folded yet, by partition.")), []string{"partition"}),
		stopped:     prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("partition_stopped", "1 while a partition is stopped by an alarm.")), []string{"partition"}),
		batch:       histogram("batch_seconds", "Time from a batch's fetch to its commit.", prometheus.ExponentialBuckets(0.0005, 2, 15)),
		records:     histogram("batch_records", "Records of a batch.", prometheus.ExponentialBuckets(1, 4, 8)),
		restored:    prometheus.NewCounter(prometheus.CounterOpts(opts("restored_records_total", "Records of consent.state read by restores."))),
		restoreTime: histogram("restore_seconds", "Time that restoring a stripe took.", prometheus.ExponentialBuckets(0.01, 2, 14)),
		restoreRate: prometheus.NewGauge(prometheus.GaugeOpts(opts("restore_records_per_second", "Rate of the last restore."))),
		subjects:    prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("subjects", "Subjects on record, by partition.")), []string{"partition"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.skipped, m.changes, m.withdrawals, m.letters, m.lag, m.stopped,
		m.batch, m.records, m.restored, m.restoreTime, m.restoreRate, m.subjects} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("processor metrics: %w", err)
		}
	}
	return m, nil
}

// forget drops the gauges of a partition that is no longer ours.
func (m *metrics) forget(index int32) {
	l := label(index)
	m.lag.DeleteLabelValues(l)
	m.stopped.DeleteLabelValues(l)
	m.subjects.DeleteLabelValues(l)
}

func label(index int32) string { return strconv.Itoa(int(index)) }
