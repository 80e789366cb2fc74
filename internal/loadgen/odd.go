package loadgen

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// odd is a protective event that is not as it should be, and that must be
// accepted all the same.
func (g *Generator) odd() Act {
	n := g.people.user(g.people.draw(g.rand))
	e := g.event(n, consent.Web, "shop-web/3.2")
	c := g.say(n, e, consent.Withdraw, g.some(1)[0].purpose)
	switch g.rand.IntN(6) {
	case 0: // the sender's catalogue is ahead of ours
		c.Event.Purpose, c.Expect.Warning = g.offers.stranger, consent.WarnUnknownPurpose
	case 1: // who withdraws may know nothing but an address
		c.Event.Subject, c.Event.Channel, c.Expect.Warning = g.people.address(n), consent.Email, consent.WarnSubjectHashed
	case 2: // a letter that lay about
		c.Event.OccurredAt, c.Event.SentAt = g.now()-g.instant(25*hour, 20*day), 0
		c.Event.Channel, c.Expect.Warning = consent.Post, consent.WarnBackdated
	case 3: // a field that nobody knows
		c.Raw, c.Expect.Warning = with(&c.Event, `"colour":"blue"`), consent.WarnUnknownField
	case 4: // an id that is no UUID
		name := "withdrawal-" + strconv.Itoa(g.between(1, 1<<30))
		c.Event.ID = consent.UUID{}
		c.Raw, c.Expect.Warning = with(&c.Event, `"event_id":"`+name+`"`), consent.WarnEventIDDerived
		c.Event.ID = consent.DeriveUUID(consent.NamespaceEvent, []byte(name))
	default: // in capitals
		loud := c.Event
		loud.Purpose = consent.Purpose(strings.ToUpper(string(loud.Purpose)))
		c.Raw = jsonform.AppendEvent(nil, &loud)
	}
	return Act{Kind: Odd, Claims: []Claim{c}}
}

// with gives an event's JSON and one member more.
func with(e *consent.Event, member string) []byte {
	b := jsonform.AppendEvent(nil, e)
	b = append(b[:len(b)-1], ',')
	return append(append(b, member...), '}')
}

// flaw makes a good grant one that must be refused, and says by which rule.
type flaw func(g *Generator, c *Claim) Expect

// flaws are drawn with equal weight. Source: semantics.md, section 4;
// interfaces.md, HTTP, Forms.
var flaws = []flaw{
	func(_ *Generator, c *Claim) Expect { // a box that was ticked from the start
		c.Event.Evidence.Method, c.Event.Evidence.ControlDefault = consent.Checkbox, consent.DefaultOn
		return refusedBy(consent.CodeAffirmative)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.Evidence.Method, c.Event.Evidence.ControlDefault = consent.Toggle, consent.DefaultUnknown
		return refusedBy(consent.CodeAffirmative)
	},
	func(g *Generator, c *Claim) Expect {
		c.Event.Evidence.Method = pick(g, []consent.Method{consent.Scroll, consent.Inactivity, consent.ContinuedUse, consent.MethodUnknown})
		return refusedBy(consent.CodeAffirmative)
	},
	func(g *Generator, c *Claim) Expect {
		c.Event.Purpose = g.offers.stranger
		return refusedBy(consent.CodeSpecific)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.Purpose = consent.Root
		return refusedBy(consent.CodeSpecific)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.Evidence.Bundled = true
		return refusedBy(consent.CodeSpecific)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.Notice = consent.Notice{}
		return refusedBy(consent.CodeInformed)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.Notice.Version = "withdrawn-draft"
		return refusedBy(consent.CodeInformed)
	},
	func(_ *Generator, c *Claim) Expect { // another text than the registered one
		c.Event.Notice.SHA256 = [32]byte{0xde, 0xad}
		return refusedBy(consent.CodeInformed)
	},
	func(g *Generator, c *Claim) Expect {
		if len(g.offers.conditional) == 0 {
			c.Event.Evidence.Bundled = true
			return refusedBy(consent.CodeSpecific)
		}
		o := pick(g, g.offers.conditional)
		c.Event.Purpose, c.Event.Notice, c.Event.Evidence.Conditional = o.purpose, g.notice(&o), true
		return refusedBy(consent.CodeFreelyGiven)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.OccurredAt = 0
		return refusedBy(consent.CodeFresh)
	},
	func(g *Generator, c *Claim) Expect { // proof from a time that nobody can check any more
		window := g.offers.windows[consent.Web]
		if window == consent.Unlimited {
			c.Event.OccurredAt = 0
		} else {
			c.Event.OccurredAt -= consent.Instant(window.Milliseconds()) + g.instant(2*day, 90*day)
		}
		return refusedBy(consent.CodeFresh)
	},
	func(g *Generator, c *Claim) Expect {
		c.Event.Subject = g.people.address(c.Household)
		return refusedBy(consent.CodePseudonymous)
	},
	func(_ *Generator, c *Claim) Expect { // only a click in a mail confirms
		c.Event.Action, c.Event.Confirms = consent.Confirm, &consent.EventRef{EventID: c.Event.ID, EffectiveAt: c.Event.OccurredAt}
		return refusedBy(consent.CodeConfirm)
	},
	func(_ *Generator, c *Claim) Expect { // a link that says nothing
		c.Event.Action, c.Event.Purpose, c.Event.LinkTo = consent.Link, consent.Root, c.Event.Subject
		return refusedBy(consent.CodeMalformed)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Raw = with(&c.Event, `"colour":"blue"`)
		return refusedBy(consent.CodeMalformed)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.OccurredAt = 0
		c.Raw = with(&c.Event, `"occurred_at":"yesterday"`)
		return refusedBy(consent.CodeMalformed)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.Action = consent.ActionUnknown
		c.Raw = with(&c.Event, `"action":"consent"`)
		return refusedBy(consent.CodeMalformed)
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.Subject = ""
		return Expect{Status: http.StatusBadRequest, Code: consent.CodeMalformed}
	},
	func(_ *Generator, c *Claim) Expect {
		c.Event.Purpose = ""
		return Expect{Status: http.StatusBadRequest, Code: consent.CodeMalformed}
	},
	func(_ *Generator, c *Claim) Expect { // the connection to the app's backend broke
		b := jsonform.AppendEvent(nil, &c.Event)
		c.Raw = b[:len(b)/2]
		return Expect{Status: http.StatusBadRequest}
	},
	func(_ *Generator, c *Claim) Expect { // a whole page as evidence
		c.Event.Evidence.Reference = strings.Repeat("<p>", 22_000)
		return Expect{Status: http.StatusRequestEntityTooLarge}
	},
}

// invalidAct is one event that must be refused.
func (g *Generator) invalidAct() Act {
	n := g.people.user(g.people.draw(g.rand))
	e := g.event(n, consent.Web, "shop-web/3.2")
	e.Test = false
	e.Evidence.Method, e.Evidence.ControlDefault = consent.Checkbox, consent.DefaultOff
	o := g.some(1)[0]
	c := g.choose(n, e, o, true, consent.Refuse)
	c.Expect = pick(g, flaws)(g, &c)
	return Act{Kind: Invalid, Claims: []Claim{c}}
}
