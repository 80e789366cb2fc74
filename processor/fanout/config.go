package fanout

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/topic"
)

// Config is what a [Dispatcher] can be told. Zero values mean the defaults.
type Config struct {
	Names topic.Names
	// Stripes is how many shares the partitions of consent.changes are dealt into,
	// per downstream. Every process must say the same. Default: 4.
	Stripes int
	// MaxPending bounds the changes of a claim that were read and have no outcome.
	// Default: 10,000.
	MaxPending int
	// CommitInterval is how often a busy claim commits; an idle one at once. Default: 250ms.
	CommitInterval time.Duration
	// OverdueInterval is how often changes past their deadline are counted. Default: 10s.
	OverdueInterval time.Duration
	// Backoff is the time between attempts. Default: [DefaultBackoff].
	Backoff []time.Duration
	// BreakAfter is how many failures in a row break a lane. Default: 5.
	BreakAfter int
	// ProbeFirst and ProbeMost bound the time between probes of an endpoint that
	// is away; it doubles. Default: 1s and 1m.
	ProbeFirst, ProbeMost time.Duration
	// ProbePaused is the time between probes of a wrong endpoint. Default: 1m.
	ProbePaused time.Duration
	// FinishTimeout is how long requests in flight may take after a stop. Default: 2s.
	FinishTimeout time.Duration
}

// Deps is what a Dispatcher works with. Kafka, Registry and Secrets are needed.
type Deps struct {
	Kafka    *kafka.Client
	Registry *registry.Store
	Secrets  registry.Secrets
	Metrics  prometheus.Registerer // nil = none are kept
	Logger   *slog.Logger          // nil = none
	Now      func() time.Time      // nil = time.Now
}

func (c *Config) ensureDefaults() {
	setInt := func(v *int, otherwise int) {
		if *v == 0 {
			*v = otherwise
		}
	}
	setTime := func(v *time.Duration, otherwise time.Duration) {
		if *v == 0 {
			*v = otherwise
		}
	}
	setInt(&c.Stripes, 4)
	setInt(&c.MaxPending, 10_000)
	setInt(&c.BreakAfter, 5)
	setTime(&c.CommitInterval, 250*time.Millisecond)
	setTime(&c.OverdueInterval, 10*time.Second)
	setTime(&c.ProbeFirst, time.Second)
	setTime(&c.ProbeMost, time.Minute)
	setTime(&c.ProbePaused, time.Minute)
	setTime(&c.FinishTimeout, 2*time.Second)
	if len(c.Backoff) == 0 {
		c.Backoff = DefaultBackoff
	}
}

func (c *Config) validate() error {
	var faults []error
	positive := func(name string, ok bool) {
		if !ok {
			faults = append(faults, fmt.Errorf("fanout: %s must be more than 0", name))
		}
	}
	positive("stripes", c.Stripes > 0)
	positive("max pending", c.MaxPending > 0)
	positive("break after", c.BreakAfter > 0)
	positive("commit interval", c.CommitInterval > 0)
	positive("overdue interval", c.OverdueInterval > 0)
	positive("probe times", c.ProbeFirst > 0 && c.ProbeMost >= c.ProbeFirst && c.ProbePaused > 0)
	positive("finish timeout", c.FinishTimeout > 0)
	for _, b := range c.Backoff {
		positive("backoff", b > 0)
	}
	return errors.Join(faults...)
}
