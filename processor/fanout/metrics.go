package fanout

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/schemas"
)

// metrics are those of all lanes, by tenant and downstream.
type metrics struct {
	deliveries *prometheus.CounterVec
	latency    *prometheus.HistogramVec
	pending    *prometheus.GaugeVec
	waiting    *prometheus.GaugeVec
	overdue    *prometheus.CounterVec
	state      *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	lane := []string{"tenant", "downstream"}
	m := &metrics{
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assent_fanout_deliveries_total", Help: "Attempts to tell a downstream, by outcome.",
		}, append(lane, "outcome")),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "assent_fanout_propagation_seconds", Help: "From the event's receipt to the downstream's 2xx.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 120, 600, 3600, 86400},
		}, append(lane, "withdrawal")),
		pending: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "assent_fanout_pending_changes", Help: "Changes that this process has read and that have no outcome.",
		}, lane),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "assent_fanout_overdue_changes", Help: "Of the pending changes, those past their legal deadline, whether they were tried or wait for their turn.",
		}, append(lane, "withdrawal")),
		overdue: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assent_fanout_overdue_attempts_total", Help: "Attempts that ended after the legal deadline of their change.",
		}, append(lane, "withdrawal")),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "assent_fanout_lane_state", Help: "0 open, 1 broken (endpoint away), 2 paused (endpoint wrong).",
		}, lane),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.deliveries), r.Register(m.latency), r.Register(m.pending), r.Register(m.waiting), r.Register(m.overdue), r.Register(m.state))
}

// laneMetrics are those of one lane.
type laneMetrics struct {
	all          *metrics
	tenant, name string
	pending      prometheus.Gauge
	state        prometheus.Gauge

	overdueWithdrawals, overdueOthers prometheus.Gauge
}

func (m *metrics) lane(d *registry.Downstream) *laneMetrics {
	t := string(d.Tenant)
	return &laneMetrics{all: m, tenant: t, name: d.Name,
		pending: m.pending.WithLabelValues(t, d.Name), state: m.state.WithLabelValues(t, d.Name),
		overdueWithdrawals: m.waiting.WithLabelValues(t, d.Name, yes(true)), overdueOthers: m.waiting.WithLabelValues(t, d.Name, yes(false))}
}

// forget drops the series of a lane that was removed.
func (m *metrics) forget(d *registry.Downstream) {
	labels := prometheus.Labels{"tenant": string(d.Tenant), "downstream": d.Name}
	m.deliveries.DeletePartialMatch(labels)
	m.latency.DeletePartialMatch(labels)
	m.pending.DeletePartialMatch(labels)
	m.waiting.DeletePartialMatch(labels)
	m.overdue.DeletePartialMatch(labels)
	m.state.DeletePartialMatch(labels)
}

// attempted counts an attempt whose outcome is recorded.
func (l *laneMetrics) attempted(d *schemas.Delivery) {
	l.all.deliveries.WithLabelValues(l.tenant, l.name, d.Outcome.String()).Inc()
	ended := d.StartedAt.Time().Add(time.Duration(d.DurationMillis) * time.Millisecond)
	if d.DeadlineAt != 0 && !ended.Before(d.DeadlineAt.Time()) {
		l.all.overdue.WithLabelValues(l.tenant, l.name, yes(d.Withdrawal)).Inc()
	}
}

// told observes how long a change took.
func (l *laneMetrics) told(d *schemas.Delivery, received, now time.Time) {
	l.all.latency.WithLabelValues(l.tenant, l.name, yes(d.Withdrawal)).Observe(now.Sub(received).Seconds())
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
