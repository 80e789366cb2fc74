package fanout

import (
	"sync"
	"time"
)

// gate lets attempts of one lane through, or makes them wait: while the
// endpoint is wrong (paused), away (broken) or busy (held). One probe at a time
// finds out whether it is well again; when it is, everything goes.
//
//	open ──failures in a row──▶ broken ──probe taken──▶ open
//	open ──401, 404 …────────▶ paused ──probe taken──▶ open
type gate struct {
	pausedEvery time.Duration // between probes of a wrong endpoint
	brokenFirst time.Duration // before the first probe of one that is away; doubles
	brokenMost  time.Duration
	failures    int // in a row that break it

	mu      sync.Mutex
	state   gateState
	reason  string
	until   time.Time // no attempt before it
	probing bool
	failed  int
	wait    time.Duration
	opened  chan struct{} // closed and made anew when the gate opens
}

type gateState uint8

const (
	gateOpen gateState = iota
	gateBroken
	gatePaused
)

func (s gateState) String() string { return [...]string{"open", "broken", "paused"}[s] }

func newGate(pausedEvery, brokenFirst, brokenMost time.Duration, failures int) *gate {
	return &gate{pausedEvery: pausedEvery, brokenFirst: brokenFirst, brokenMost: brokenMost, failures: failures, opened: make(chan struct{})}
}

// admit says whether an attempt may start now; if not, when to ask again.
func (g *gate) admit(now time.Time) (ok bool, again time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case now.Before(g.until):
		return false, g.until
	case g.state == gateOpen:
		return true, time.Time{}
	case g.probing:
		// The probe's answer opens the gate or sets the next time.
		return false, now.Add(g.brokenFirst)
	}
	g.probing = true
	return true, time.Time{}
}

// opening gives a channel that is closed when the gate opens the next time.
func (g *gate) opening() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}

// report takes what came of an attempt that was admitted. It returns true when
// the state changed.
func (g *gate) report(v verdict, now time.Time) (changed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.state
	g.probing = false
	switch v.kind {
	case taken, refused: // an answer about the change: the endpoint works
		g.state, g.failed, g.wait, g.reason, g.until = gateOpen, 0, 0, "", time.Time{}
		if before != gateOpen {
			close(g.opened)
			g.opened = make(chan struct{})
		}
	case wrongEndpoint:
		g.state, g.reason, g.until = gatePaused, v.reason, now.Add(g.pausedEvery)
	case busy:
		g.until = later(g.until, now.Add(max(v.wait, g.brokenFirst)))
	case away:
		if g.failed++; g.failed >= g.failures || g.state != gateOpen {
			if g.state == gateOpen {
				g.state = gateBroken
			}
			g.reason = v.reason
			g.wait = min(max(2*g.wait, g.brokenFirst), g.brokenMost)
			g.until = now.Add(g.wait)
		}
	}
	return g.state != before
}

// abandon takes back an attempt that was admitted and ended without an answer,
// because the work stopped.
func (g *gate) abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = false
}

func (g *gate) status() (gateState, string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state, g.reason
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
