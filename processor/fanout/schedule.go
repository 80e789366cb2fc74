package fanout

import (
	"math/rand/v2"
	"time"

	"github.com/assent-dev/assent/consent"
)

// DefaultBackoff is the time before the second, third … attempt; the last one
// repeats. The first attempt is made at once. Source: interfaces.md, Webhooks.
var DefaultBackoff = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour}

const (
	// afterDeadline is how often a withdrawal is tried once it is overdue: it
	// never stops.
	afterDeadline = 24 * time.Hour
	// giveUpWithout is when a change without a deadline that is no withdrawal
	// becomes a dead letter: as long as consent.changes is kept.
	giveUpWithout = 30 * 24 * time.Hour
	// jitterPart spreads attempts by up to this part of the wait, both ways.
	jitterPart = 0.2
)

// schedule tells when a change is tried again.
type schedule struct {
	backoff []time.Duration
	// jitter gives a factor around 1; nil = none.
	jitter func() float64
}

func randomJitter() float64 { return 1 + jitterPart*(2*rand.Float64()-1) } //nolint:gosec // spreads load, protects nothing

// next gives the wait after a failed attempt (attempt counts from 1), or ok =
// false when the change is given up: past its deadline, unless it is a withdrawal.
func (s schedule) next(attempt int, asked time.Duration, withdrawal bool, received, due consent.Instant, now time.Time) (wait time.Duration, ok bool) {
	wait = s.backoff[min(attempt, len(s.backoff))-1]
	if due == 0 {
		due = received.Add(giveUpWithout)
	}
	overdue := !now.Before(due.Time())
	switch {
	case overdue && !withdrawal:
		return 0, false
	case overdue && attempt >= len(s.backoff):
		wait = afterDeadline
	}
	if s.jitter != nil {
		wait = time.Duration(float64(wait) * s.jitter())
	}
	return max(wait, asked), true
}
