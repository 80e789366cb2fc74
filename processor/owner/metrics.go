package owner

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// cause is why a State is not known: its decision is unavailable.
type cause uint8

const (
	answered       cause = iota // it is known
	causeUnplaced               // the number of partitions is not known yet
	causeNoOwner                // no record of an owner
	causeNoAddress              // the owner serves nobody else
	causeNotOwner               // who is recorded does not own it, or not safely enough
	causeUnreached              // no connection, or it was cut
	causeRefused                // the peer does not take our requests
	causeLate                   // no answer in time
	causeMalformed              // an answer that cannot be read
	causeStale                  // it was known, and could not be told any more
	causes
)

var causeNames = [causes]string{
	causeUnplaced: "unplaced", causeNoOwner: "no_owner", causeNoAddress: "no_address", causeNotOwner: "not_owner",
	causeUnreached: "unreached", causeRefused: "refused", causeLate: "late", causeMalformed: "malformed", causeStale: "stale",
}

// metrics are the numbers of asking and of being asked.
type metrics struct {
	forwarded   prometheus.Counter
	unavailable [causes]prometheus.Counter
	peer        prometheus.Histogram
	served      prometheus.Counter
	refused     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "assent", Subsystem: "owner", Name: name, Help: help}
	}
	unavailable := prometheus.NewCounterVec(opts("unavailable_total", "Subjects whose State was not known, by cause: their decisions are denied."), []string{"cause"})
	m := &metrics{
		forwarded: prometheus.NewCounter(opts("forwarded_total", "Subjects asked for at the process that owns them.")),
		peer: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "assent", Subsystem: "owner", Name: "peer_seconds", Help: "Time of one request for States to another process.",
			Buckets: prometheus.ExponentialBuckets(0.0002, 2, 14),
		}),
		served:  prometheus.NewCounter(opts("served_total", "Subjects whose States were given to other processes.")),
		refused: prometheus.NewCounter(opts("refused_total", "Requests of peers that were refused: no right, another instance meant, or too many at once.")),
	}
	for c := causeUnplaced; c < causes; c++ {
		m.unavailable[c] = unavailable.WithLabelValues(causeNames[c])
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.forwarded, unavailable, m.peer, m.served, m.refused} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("owner metrics: %w", err)
		}
	}
	return m, nil
}
