package drive

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Patience repeats what a target that is away did not take. All that speak to
// one target share one: that it is away is told once, and once when it is back.
type Patience struct {
	log     *slog.Logger
	retries atomic.Int64

	mu    sync.Mutex
	since time.Time // the target has been away; zero = it is not
}

// NewPatience makes a Patience that logs to log; nil = nowhere.
func NewPatience(log *slog.Logger) *Patience {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Patience{log: log}
}

// Retries tells how many attempts were not the first.
func (p *Patience) Retries() int64 { return p.retries.Load() }

// LaterError is an attempt that is worth another: the target is busy, or away.
type LaterError struct {
	Busy  bool          // it is there, and asks for time; not told as being away
	After time.Duration // as the target asks; 0 = as we see fit
	Err   error
}

func (e *LaterError) Error() string { return e.Err.Error() }
func (e *LaterError) Unwrap() error { return e.Err }

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// Persist repeats attempt as long as its error is a [*LaterError], with growing
// pauses, until ctx ends.
func (p *Patience) Persist(ctx context.Context, attempt func() error) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := attempt()
		later := new(LaterError)
		if !errors.As(err, &later) {
			if err == nil {
				p.worked()
			}
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if !later.Busy {
			p.failed(later.Err)
		}
		p.retries.Add(1)
		timer := time.NewTimer(max(later.After, pause/2+rand.N(pause/2)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
	}
}

func (p *Patience) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		p.since = time.Now()
		p.log.Warn("the target does not take events: trying again until it does", "error", err)
	}
}

func (p *Patience) worked() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.since.IsZero() {
		p.log.Info("the target takes events again", "after", time.Since(p.since).Round(time.Millisecond).String())
		p.since = time.Time{}
	}
}
