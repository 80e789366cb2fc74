package intake

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// Registry is one version of the declared purposes and downstreams, as intake
// asks it. It does not change while it is in use.
type Registry interface {
	// Catalogue gives a tenant's purposes: an empty catalogue for a tenant that
	// is not known, never nil.
	Catalogue(consent.Tenant) *consent.Catalogue
	// Heard tells whether some downstream would hear a withdrawal of the purpose.
	Heard(consent.Tenant, consent.Purpose) bool
}

// Claims is one event as its sender tells it, and what the door through which
// it came knows besides.
type Claims struct {
	Event consent.Event
	// Problems is what the JSON form could not take as it was.
	Problems []jsonform.Problem
	// ReceivedAt is when the event came in: the clock over HTTP, the record's
	// time on consent.intake.
	ReceivedAt consent.Instant
	// IDName derives the id of an event that has none; nil = by the claims or at
	// random.
	IDName []byte
	// GPC: the request came with a Global Privacy Control signal. Of a link it is a
	// withdrawal of what is sold or shared, by both subjects.
	GPC bool
}

// Accepted is an event that may be written to consent.events.
type Accepted struct {
	Event    consent.Event
	Hashed   bool // the subject was a raw identifier
	Warnings []consent.Warning
	// Withdrawals are events of their own that go with a link which came with a
	// Global Privacy Control signal. They are accepted as the link is: all or none.
	Withdrawals []consent.Event
}

// Intake decides whether an event is accepted, and stamps it. It is pure but for
// the registry in force, the subject key and, for an event that gives nothing to
// derive an id from, chance. Both doors use it: HTTP and consent.intake.
type Intake struct {
	registry func() Registry
	subjects *Pseudonymiser
	randomID func() consent.UUID
}

// New makes an Intake. registry gives the version in force; it is asked
// once per event.
func New(registry func() Registry, subjects *Pseudonymiser) *Intake {
	return &Intake{registry: registry, subjects: subjects, randomID: func() consent.UUID { return consent.UUID(uuid.New()) }}
}

// Accept takes an event's claims and gives the stamped event, or the reason why
// not: a [consent.Faults] with every broken rule, or an [*jsonform.Unusable]. Only a
// grant can break a rule; a protective event is refused only where it has no
// subject, purpose or action, or where its action is not offered yet.
//
// Source: semantics.md, sections 2 to 4.
func (in *Intake) Accept(c Claims) (Accepted, error) {
	a := Accepted{Event: c.Event}
	e := &a.Event
	problems := c.Problems

	// 1. What is there at all, and may a sender say it?
	whole := formWhole(e)
	if err := usable(e, problems); err != nil {
		return Accepted{}, err
	}
	// 2. Stamps are ours alone.
	problems = append(problems[:len(problems):len(problems)], dropStamps(e)...)
	// 3. Subject, purpose, tenant, jurisdiction and times: the forms that all who read rely on.
	a.Hashed = in.formSubject(e)
	problems = append(problems, in.formLink(e)...)
	problems = append(problems, formPurpose(e)...)
	problems = append(problems, formTenant(e)...)
	problems = append(problems, formJurisdiction(e)...)
	problems = append(problems, formTimes(e)...)
	// 4. Identity.
	in.identify(e, c.IDName)
	// 5. Time.
	e.ReceivedAt = c.ReceivedAt
	e.EffectiveAt = consent.EffectiveAt(e, c.ReceivedAt)
	// 6. The registry in force: stamp, then check.
	registry := in.registry()
	catalogue := registry.Catalogue(e.Tenant)
	catalogue.Stamp(e)
	faults := catalogue.Check(e)
	// 7. Problems of form are a fault of a grant, a warning on all else.
	more, warnings := sortProblems(e, problems, faults)
	if faults = append(faults, more...); len(faults) > 0 {
		return Accepted{}, faults
	}
	// 8. What else looks wrong.
	warnings = append(append(warnings, catalogue.Warnings(e)...), whole...)
	a.Warnings = warnings
	if e.Action == consent.Link && (c.GPC || e.Evidence.GPC) {
		a.Withdrawals = optOuts(catalogue, e)
	}
	if len(a.Withdrawals) > 0 {
		a.Warnings = append(a.Warnings, consent.Warning{Code: consent.WarnGPC, Field: "evidence.gpc", Message: "the request came with Sec-GPC: 1: what is sold or shared is withdrawn by both subjects, now"})
	}
	if a.Hashed {
		a.Warnings = append(a.Warnings, consent.Warning{Code: consent.WarnSubjectHashed, Field: "subject", Message: "a raw identifier was kept as the pseudonymous id given in this answer"})
	}
	if e.Action.Protective() && !heard(registry, e) {
		a.Warnings = append(a.Warnings, consent.Warning{Code: consent.WarnNoDownstream, Field: "purpose", Message: "recorded, but no downstream listens to this purpose: declare one in downstreams.yaml"})
	}
	return a, nil
}

// usable reports what no event can do without.
func usable(e *consent.Event, problems []jsonform.Problem) error {
	switch {
	case blank(string(e.Subject)):
		return &jsonform.Unusable{Field: "subject", Message: "say of whom: an opaque id such as user:42"}
	case blank(string(e.Purpose)):
		return &jsonform.Unusable{Field: "purpose", Message: "say of which purpose, or * for all of them"}
	case e.Action == consent.ActionUnknown:
		message := "name an action: grant, refuse, withdraw, invalidate, link, unlink, erase, request or defer"
		for _, p := range problems {
			if p.Field == "action" {
				message = p.Message
			}
		}
		return consent.Faults{{Code: consent.CodeMalformed, Field: "action", Message: message}}
	case e.Action == consent.Confirm, e.Action == consent.Expire:
		return (*consent.Catalogue)(nil).Check(e)
	}
	return nil
}

// optOuts makes the withdrawals that a link with a Global Privacy Control signal
// says besides: of every purpose that is a sale or sharing, by both subjects, from
// now on. Source: semantics.md, section 5, Link; CCPA regulations, § 7025.
func optOuts(c *consent.Catalogue, link *consent.Event) (withdrawals []consent.Event) {
	act := link.InteractionID
	if act.IsZero() {
		act = link.ID
	}
	for _, d := range c.Purposes {
		if !d.SaleOrShare {
			continue
		}
		for _, subject := range []consent.Subject{link.Subject, link.LinkTo} {
			e := consent.Event{
				ID:            consent.DeriveUUID(link.ID, fmt.Appendf(nil, "gpc|%d|%s|%s", link.ReceivedAt, d.ID, string(subject))),
				InteractionID: act, RequestID: link.RequestID, Tenant: link.Tenant, Subject: subject, Purpose: d.ID, Action: consent.Withdraw, Property: link.Property,
				SentAt: link.SentAt, ReceivedAt: link.ReceivedAt, EffectiveAt: link.ReceivedAt,
				Channel: link.Channel, Source: link.Source, Jurisdiction: link.Jurisdiction, Evidence: link.Evidence, Actor: link.Actor, Test: link.Test,
			}
			e.Evidence.GPC = true
			c.Stamp(&e)
			withdrawals = append(withdrawals, e)
		}
	}
	return withdrawals
}

// dropStamps takes away what only we may say.
func dropStamps(e *consent.Event) (problems []jsonform.Problem) {
	drop := func(given bool, field string) {
		if given {
			problems = append(problems, jsonform.Problem{Field: field, Kind: jsonform.StampIgnored, Message: "set by the gateway: what a sender puts here is ignored"})
		}
	}
	drop(e.Policy != nil, "policy")
	drop(e.ReceivedAt != 0, "received_at")
	drop(e.EffectiveAt != 0, "effective_at")
	drop(e.Carried != nil, "carried")
	e.Policy, e.Carried, e.ReceivedAt, e.EffectiveAt = nil, nil, 0, 0
	return problems
}

// formSubject hashes a raw identifier. That of a grant stays for the rule
// pseudonymous to refuse: who asks for consent can use an opaque id, who
// withdraws may know nothing but an address.
func (in *Intake) formSubject(e *consent.Event) (hashed bool) {
	if e.Action == consent.Grant {
		return false
	}
	e.Subject, hashed = in.subjects.Pseudonymise(string(e.Subject))
	return hashed
}

// formLink does the same for the subject that an event names besides, on whatever
// action: it must not carry an address into the log.
func (in *Intake) formLink(e *consent.Event) []jsonform.Problem {
	switch {
	case e.LinkTo == "" || e.LinkTo.Pseudonymous():
		return nil
	case e.Action == consent.Grant:
		return []jsonform.Problem{badValue("link.to", "use an opaque id such as user:42; never an address or a telephone number")}
	case blank(string(e.LinkTo)):
		e.LinkTo = ""
	default:
		e.LinkTo, _ = in.subjects.Pseudonymise(string(e.LinkTo))
	}
	return nil
}

// identify gives an event without an id the one that a repetition would get too:
// from name, or from the claims where they hold a time. Two bare withdrawals are
// two acts, so theirs is drawn.
func (in *Intake) identify(e *consent.Event, name []byte) {
	switch {
	case !e.ID.IsZero():
	case len(name) > 0:
		e.ID = consent.DeriveUUID(consent.NamespaceEvent, name)
	case e.OccurredAt != 0:
		e.ID = consent.DeriveUUID(consent.NamespaceEvent, schemas.EventClaims(e))
	default:
		e.ID = in.randomID()
	}
}

// sortProblems makes faults of a grant's problems of form, and warnings of those
// of other events, and of such as do no harm: a stamp that was ignored, an id
// that became a UUID, a jurisdiction for which the strictest rules hold. A method
// that is not listed has been told by the rule affirmative.
func sortProblems(e *consent.Event, problems []jsonform.Problem, told consent.Faults) (faults consent.Faults, warnings []consent.Warning) {
	for _, p := range problems {
		code := consent.WarnUnknownField
		switch {
		case p.Kind == jsonform.StampIgnored:
			code = consent.WarnStampIgnored
		case p.Kind == jsonform.IDDerived:
			code = consent.WarnEventIDDerived
		case e.Action != consent.Grant || !p.Kind.Malformed():
		case p.Field == "evidence.method" && tells(told, consent.CodeAffirmative):
			continue
		default:
			faults = append(faults, consent.Fault{Code: consent.CodeMalformed, Field: p.Field, Message: p.Message})
			continue
		}
		warnings = append(warnings, consent.Warning{Code: code, Field: p.Field, Message: p.Message})
	}
	return faults, warnings
}

func tells(faults consent.Faults, code consent.Code) bool {
	for _, f := range faults {
		if f.Code == code {
			return true
		}
	}
	return false
}

// heard tells whether a downstream hears of the purpose or of one below it: a
// withdrawal of a branch is told as the changes of its purposes.
func heard(r Registry, e *consent.Event) bool {
	if r.Heard(e.Tenant, e.Purpose) {
		return true
	}
	for _, p := range e.Policy.Covers {
		if r.Heard(e.Tenant, p) {
			return true
		}
	}
	return false
}
