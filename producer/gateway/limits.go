package gateway

import (
	"context"
	"time"

	"github.com/assent-dev/assent/internal/problem"
)

// limits are the budgets of requests in flight. What restricts has its own, so
// that a flood of grants never stops a withdrawal: it waits for room, and is
// refused only when the broker itself is too slow. All else is told at once to
// come back.
//
// Before its budget a request costs its body: 64 KiB, or for a batch a place of
// batches or overflow first.
type limits struct {
	protective chan struct{}
	others     chan struct{}
	batches    chan struct{} // batches in memory
	overflow   chan struct{} // more of them, for the protective events in them only
	batchWait  time.Duration // for a place of batches, before one of overflow is taken
}

const retryAfter = time.Second

var (
	tooBusy = problem.Problem{
		Type: "too-busy", Status: 429, RetryAfter: retryAfter,
		Detail: "too many events are on their way: nothing was recorded of this one, send it again after Retry-After",
	}
	noRoom = problem.Unavailable("too-busy", "too many events are on their way: nothing was recorded of this one, send it again after Retry-After", retryAfter)
)

func newLimits(inFlight, batches int) limits {
	return limits{
		protective: make(chan struct{}, inFlight),
		others:     make(chan struct{}, inFlight),
		batches:    make(chan struct{}, batches),
		overflow:   make(chan struct{}, batches),
		batchWait:  2 * time.Second,
	}
}

// admit takes a place for the request's protective entries, waiting until ctx
// ends, and one for its others, without waiting. Entries without a place get a
// problem. release gives the places back.
func (l *limits) admit(ctx context.Context, entries []*entry) (release func()) {
	var protective, others bool
	for _, e := range entries {
		if e.problem == nil {
			protective = protective || e.protective()
			others = others || !e.protective()
		}
	}
	var taken []chan struct{}
	if others {
		select {
		case l.others <- struct{}{}:
			taken = append(taken, l.others)
		default:
			refuse(entries, tooBusy, func(e *entry) bool { return !e.protective() })
		}
	}
	if protective {
		select {
		case l.protective <- struct{}{}:
			taken = append(taken, l.protective)
		case <-ctx.Done():
			refuse(entries, noRoom, (*entry).protective)
		}
	}
	return func() {
		for _, place := range taken {
			<-place
		}
	}
}

// admitBatch takes a place for a batch, for which it waits a moment. After that
// protectiveOnly tells that only its protective events may be recorded; ok is
// false when there is no place at all until ctx ends.
func (l *limits) admitBatch(ctx context.Context) (release func(), protectiveOnly, ok bool) {
	timer := time.NewTimer(l.batchWait)
	defer timer.Stop()
	select {
	case l.batches <- struct{}{}:
		return func() { <-l.batches }, false, true
	case <-timer.C:
	case <-ctx.Done():
		return nil, false, false
	}
	select {
	case l.batches <- struct{}{}:
		return func() { <-l.batches }, false, true
	case l.overflow <- struct{}{}:
		return func() { <-l.overflow }, true, true
	case <-ctx.Done():
		return nil, false, false
	}
}

// refuse gives every entry that fits, and has no problem yet, this one.
func refuse(entries []*entry, p problem.Problem, fits func(*entry) bool) {
	for _, e := range entries {
		if e.problem == nil && fits(e) {
			e.problem = &p
		}
	}
}
