package processor

import (
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the processor's numbers.
type metrics struct {
	events      *prometheus.CounterVec // by action
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
	torn        prometheus.Counter
	discarded   prometheus.Counter
	takeover    prometheus.Histogram
	retaken     prometheus.Counter
	carried     prometheus.Counter
	expired     prometheus.Counter
	dropped     prometheus.Counter
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
		torn:        prometheus.NewCounter(prometheus.CounterOpts(opts("torn_commits_total", "Transactions that the broker lost a part of, and whose events were folded again."))),
		discarded:   prometheus.NewCounter(prometheus.CounterOpts(opts("stores_discarded_total", "Local stores that were no prefix of their changelog."))),
		takeover:    histogram("takeover_seconds", "Time from the claim of a stripe to its first fetch.", prometheus.ExponentialBuckets(0.001, 2, 18)),
		retaken:     prometheus.NewCounter(prometheus.CounterOpts(opts("takeovers_again_total", "Stripes taken over anew within their claim, after a transaction whose outcome was not known."))),
		carried:     prometheus.NewCounter(prometheus.CounterOpts(opts("carried_events_total", "Restrictions that links carried to other subjects."))),
		dropped:     prometheus.NewCounter(prometheus.CounterOpts(opts("dropped_links_total", "Links that fell out of a subject's full list of 256."))),
		expired:     prometheus.NewCounter(prometheus.CounterOpts(opts("expire_events_total", "Expire events written for grants that ran out."))),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.changes, m.withdrawals, m.letters, m.lag, m.stopped,
		m.batch, m.records, m.restored, m.restoreTime, m.restoreRate,
		m.torn, m.discarded, m.takeover, m.retaken, m.carried, m.expired, m.dropped} {
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
}

func label(index int32) string { return strconv.Itoa(int(index)) }
