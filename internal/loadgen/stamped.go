package loadgen

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/assent-dev/assent/consent"
)

// mailed is a grant whose confirmation is asked for by mail.
type mailed struct {
	grant consent.Event // stamped
}

const confirmWithin = 2000 // events until who confirms has confirmed

// Stamped gives the next n events as they stand in consent.events: accepted,
// stamped by the catalogue and the virtual clock, with the confirmations of most
// grants that need one. Digest is left out; whoever decodes an event fills it.
// Raw identifiers are hashed by a key of the generator's own.
func (g *Generator) Stamped(n int) []consent.Event {
	events := make([]consent.Event, 0, n)
	for len(events) < n {
		g.stamped++
		if m, due := g.mails.pop(g.stamped); due {
			events = append(events, g.confirm(&m.grant))
			continue
		}
		c := g.Next()
		if !c.Expect.Accepted() {
			continue
		}
		events = append(events, c.Event)
		e := &events[len(events)-1]
		g.stamp(e)
		if e.Action == consent.Grant && e.Policy.DoubleOptIn && g.later.IntN(10) < 7 {
			g.mails.push(mailed{*e}, g.stamped+1+int64(g.later.IntN(confirmWithin)))
		}
	}
	return events
}

// stamp does what intake does to an accepted event.
func (g *Generator) stamp(e *consent.Event) {
	if e.Tenant == "" {
		e.Tenant = consent.DefaultTenant
	}
	if !e.Subject.Pseudonymous() {
		sum := sha256.Sum256([]byte(e.Subject))
		e.Subject = consent.Subject(consent.NamespaceEmailHMAC + ":" + hex.EncodeToString(sum[:]))
	}
	e.ReceivedAt = g.now()
	e.EffectiveAt = consent.EffectiveAt(e, e.ReceivedAt)
	g.options.Catalogue.Stamp(e)
}

// confirm is what the gateway writes when the link in the mail is clicked: it
// stands by itself, with the notice, the method and the policy of the grant.
func (g *Generator) confirm(grant *consent.Event) consent.Event {
	now := g.now()
	id := uuid(g.later)
	e := consent.Event{
		ID: id, InteractionID: grant.InteractionID, Tenant: grant.Tenant, Subject: grant.Subject, Purpose: grant.Purpose,
		Action: consent.Confirm, Property: grant.Property, OccurredAt: now, ReceivedAt: now, EffectiveAt: now,
		Channel: consent.Email, Source: "assent", Jurisdiction: grant.Jurisdiction, Notice: grant.Notice,
		Policy: grant.Policy, Confirms: &consent.EventRef{EventID: grant.ID, EffectiveAt: grant.EffectiveAt}, Test: grant.Test,
	}
	e.Evidence.Method = grant.Evidence.Method
	e.Evidence.Token = "loadgen." + hex.EncodeToString(id[:])
	return e
}
