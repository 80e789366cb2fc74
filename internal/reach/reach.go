// Package reach tells whether an engine that a role works with answers: a broker,
// ClickHouse. A role that is asked whether it is ready must answer at once, so the
// engine is asked now and then, and the last finding counts.
package reach

import (
	"context"
	"sync/atomic"
	"time"
)

// A Watch asks one engine. All fields are needed.
type Watch struct {
	// Probe asks; nil = the engine answers, and can be worked with.
	Probe func(context.Context) error
	// Timeout bounds a probe: an engine that hangs is away, too.
	Timeout time.Duration
	// Every is how often it is asked, Again how often while it is away.
	Every, Again time.Duration
	// Changed hears of each finding that is another than the one before: nil = it is
	// back. The first finding is none.
	Changed func(error)

	found atomic.Pointer[error]
}

// Note takes a finding that somebody else made.
func (w *Watch) Note(err error) { w.found.Store(&err) }

// Found gives the last finding; known is false while there is none. It asks nobody.
func (w *Watch) Found() (known bool, err error) {
	found := w.found.Load()
	if found == nil {
		return false, nil
	}
	return true, *found
}

// Run asks until ctx ends: at once if nothing is known yet, and then again and again.
func (w *Watch) Run(ctx context.Context) {
	wait := w.Every
	if known, _ := w.Found(); !known {
		wait = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := w.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		if before := w.found.Swap(&err); before != nil && (*before == nil) != (err == nil) {
			w.Changed(err)
		}
		next := w.Every
		if err != nil {
			next = w.Again
		}
		timer.Reset(next)
	}
}

func (w *Watch) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.Timeout)
	defer cancel()
	return w.Probe(ctx)
}
