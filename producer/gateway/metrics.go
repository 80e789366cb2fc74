package gateway

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

// The doors, the outcomes: labels of assent_gateway_events_total.
const (
	doorHTTP   = "http"
	doorIntake = "intake"

	outcomeRecorded    = "recorded"
	outcomeRefused     = "refused"     // it breaks a rule
	outcomeUnusable    = "unusable"    // it could not be understood
	outcomeLimited     = "limited"     // a budget was used up
	outcomeUnavailable = "unavailable" // the broker did not confirm it
)

type metrics struct {
	events      *prometheus.CounterVec // door, action, channel, outcome
	latency     *prometheus.HistogramVec
	inFlight    prometheus.Gauge
	deadLetters prometheus.Counter
	lag         *prometheus.GaugeVec // partition
	stopped     *prometheus.GaugeVec // partition
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "assent_gateway_events_total", Help: "Events that came in, by what became of them.",
		}, []string{"door", "action", "channel", "outcome"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "assent_gateway_request_seconds", Help: "Time from a request's head to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"path"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "assent_gateway_requests_in_flight", Help: "Requests that are being answered.",
		}),
		deadLetters: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "assent_gateway_dead_letters_total", Help: "Records of consent.intake that were set aside.",
		}),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "assent_gateway_intake_lag_records", Help: "Records of consent.intake that wait, by partition.",
		}, []string{"partition"}),
		stopped: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "assent_gateway_intake_stopped", Help: "1 for a partition of consent.intake that cannot go on without losing records: raise an alarm.",
		}, []string{"partition"}),
	}
	if r == nil {
		return m, nil
	}
	var faults []error
	for _, c := range []prometheus.Collector{m.events, m.latency, m.inFlight, m.deadLetters, m.lag, m.stopped} {
		faults = append(faults, r.Register(c))
	}
	return m, errors.Join(faults...)
}

func (m *metrics) count(door string, e *consent.Event, outcome string) {
	m.events.WithLabelValues(door, e.Action.String(), e.Channel.String(), outcome).Inc()
}

func (m *metrics) behind(p kafka.Partition, records int64) {
	m.lag.WithLabelValues(strconv.Itoa(int(p.Index))).Set(float64(records))
	m.stopped.DeleteLabelValues(strconv.Itoa(int(p.Index)))
}

func (m *metrics) stop(p kafka.Partition) {
	m.stopped.WithLabelValues(strconv.Itoa(int(p.Index))).Set(1)
}
