package decision

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-dev/assent/consent"
)

// metrics are the decisions' numbers.
type metrics struct {
	allowed   map[consent.Reason]prometheus.Counter
	denied    map[consent.Reason]prometheus.Counter
	notFolded prometheus.Counter
	latency   prometheus.Histogram
}

var reasons = []consent.Reason{
	consent.ReasonExplicit, consent.ReasonDefault, consent.ReasonAncestor, consent.ReasonExpiry,
	consent.ReasonLink, consent.ReasonBasis, consent.ReasonGPC, consent.ReasonUnavailable,
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "assent", Name: "decisions_total", Help: "Decisions answered, by reason and answer.",
	}, []string{"reason", "allowed"})
	m := &metrics{
		allowed: make(map[consent.Reason]prometheus.Counter),
		denied:  make(map[consent.Reason]prometheus.Counter),
		notFolded: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "assent", Name: "decisions_not_folded_total", Help: "Requests whose at_least was not folded in time.",
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "assent", Name: "decisions_seconds", Help: "Time of a request for decisions, its wait included.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 2.5, 14),
		}),
	}
	for _, reason := range reasons {
		m.allowed[reason] = decisions.WithLabelValues(string(reason), "true")
		m.denied[reason] = decisions.WithLabelValues(string(reason), "false")
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{decisions, m.notFolded, m.latency} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("decision metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) count(d *consent.Decision) {
	by := m.denied
	if d.Allowed {
		by = m.allowed
	}
	if c := by[d.Reason]; c != nil {
		c.Inc()
	}
}
