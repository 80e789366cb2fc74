package processor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/assent-dev/assent/consent"
)

// newUUID is a random id.
func newUUID(r *rand.Rand) (u consent.UUID) {
	for i := range u {
		u[i] = byte(r.Uint32())
	}
	return u
}

// base is when random histories begin: long before the broker's clock.
var base = consent.InstantOf(time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC))

// event is a stamped event, received at base plus some seconds.
func event(r *rand.Rand, subject consent.Subject, action consent.Action, purpose consent.Purpose, seconds int) consent.Event {
	at := base.Add(time.Duration(seconds) * time.Second)
	return consent.Event{
		ID: newUUID(r), Tenant: consent.DefaultTenant, Subject: subject, Action: action, Purpose: purpose,
		OccurredAt: at, ReceivedAt: at, EffectiveAt: at, Channel: consent.Web,
		Policy: &consent.Policy{Version: "v1", Model: consent.OptIn, LegalBasis: consent.BasisConsent},
	}
}

// One has the name that ends the keys of test states.
var allPurposes = []consent.Purpose{"*", "test", "m", "m.e", "m.s"}

// randomLog is a log of events over few subjects and purposes: late ones, repeated
// ones, with and without expiry, jurisdictions, double opt-in and its confirmation,
// grants taken back by name, links that carry, erasures, test.
func randomLog(r *rand.Rand, n int) []consent.Event {
	endless := endlessLog{r: r}
	return endless.next(n)
}

// endlessLog is a random log that goes on for as long as somebody asks.
type endlessLog struct {
	r           *rand.Rand
	clock       int
	log, grants []consent.Event // of late: some are repeated, some are confirmed or taken back
}

// keptEvents bounds what is of late.
const keptEvents = 50_000

func (l *endlessLog) next(n int) []consent.Event {
	if len(l.log) > 2*keptEvents {
		l.log = slices.Clone(l.log[len(l.log)-keptEvents:])
		l.grants = slices.Clone(l.grants[len(l.grants)/2:])
	}
	from := len(l.log)
	for l.clock++; len(l.log) < from+n; l.clock += l.r.IntN(5) {
		l.add()
	}
	return slices.Clip(l.log[from:])
}

func (l *endlessLog) add() {
	r := l.r
	if len(l.log) > 0 && r.IntN(8) == 0 {
		l.log = append(l.log, l.log[r.IntN(len(l.log))])
		return
	}
	e := randomEvent(r, l.clock)
	switch {
	case e.Action == consent.Grant:
		l.grants = append(l.grants, e)
	case len(l.grants) > 0 && (e.Action == consent.Confirm || e.Action == consent.Invalidate && r.IntN(2) == 0):
		g := l.grants[r.IntN(len(l.grants))]
		ref := &consent.EventRef{EventID: g.ID, EffectiveAt: g.EffectiveAt}
		e.Subject, e.Purpose, e.Test = g.Subject, g.Purpose, g.Test
		if e.Action == consent.Confirm {
			e.Confirms, e.Policy = ref, g.Policy
		} else {
			e.Invalidates = ref
		}
	case e.Action == consent.Confirm:
		return // nothing to confirm yet
	}
	l.log = append(l.log, e)
}

func randomEvent(r *rand.Rand, clock int) consent.Event {
	subject := func() consent.Subject {
		return consent.Subject(fmt.Sprintf("%s:%d", [...]string{"user", "user", "device"}[r.IntN(3)], r.IntN(5)))
	}
	actions := [...]consent.Action{
		consent.Grant, consent.Grant, consent.Grant, consent.Grant, consent.Refuse, consent.Withdraw, consent.Withdraw, consent.Invalidate,
		consent.Request, consent.Defer, consent.Confirm, consent.Link, consent.Unlink,
	}
	action, purpose := actions[r.IntN(len(actions))], allPurposes[r.IntN(len(allPurposes))]
	if r.IntN(40) == 0 {
		action = consent.Erase
	}
	switch {
	case action.Whole():
		purpose = consent.Root
	case action == consent.Grant && purpose == consent.Root:
		purpose = "m.e"
	}
	e := event(r, subject(), action, purpose, clock)
	e.EffectiveAt = e.ReceivedAt.Add(-time.Duration(r.IntN(20)) * time.Second)
	if action == consent.Link || action == consent.Unlink {
		for e.LinkTo = subject(); e.LinkTo == e.Subject; {
			e.LinkTo = subject()
		}
	}
	for _, p := range allPurposes {
		if purpose.Covers(p) && p != consent.Root {
			e.Policy.Covers = append(e.Policy.Covers, p)
		}
	}
	if action == consent.Grant {
		if r.IntN(3) == 0 {
			e.Policy.ExpiresAt = e.EffectiveAt.Add(time.Duration(1+r.IntN(30)) * time.Second)
		}
		e.Policy.DoubleOptIn = r.IntN(5) == 0
	}
	e.Jurisdiction = [...]consent.Jurisdiction{"", "DE", "US-CA"}[r.IntN(3)]
	e.Test = r.IntN(10) == 0
	return e
}
