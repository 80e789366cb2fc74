package loadgen

import (
	"errors"
	"strings"
	"time"

	"github.com/assent-dev/assent/consent"
)

// offer is a purpose that a subject can say yes to, and what it is shown with.
type offer struct {
	purpose     consent.Purpose
	notices     []consent.Notice // valid ones, a language each; at least one
	conditional bool             // service may not depend on it
}

// offers is the catalogue as a channel sees it.
type offers struct {
	all         []offer
	mail        []offer // what a newsletter is sent for
	conditional []offer
	groups      []consent.Purpose
	shared      []consent.Purpose // sale or share: GPC withdraws them
	windows     map[consent.Channel]time.Duration
	stranger    consent.Purpose // declared by nobody
}

func newOffers(c *consent.Catalogue) (offers, error) {
	o := offers{windows: map[consent.Channel]time.Duration{}, stranger: "loyalty.points-exchange"}
	for c.Find(o.stranger) != nil {
		o.stranger += "-2"
	}
	for _, d := range c.Purposes {
		if d.Group {
			o.groups = append(o.groups, d.ID)
		}
		if d.SaleOrShare {
			o.shared = append(o.shared, d.ID)
		}
		x := offer{purpose: d.ID, conditional: d.RefuseConditional}
		for _, n := range d.Notices {
			if n.ValidUntil == 0 {
				x.notices = append(x.notices, n.Notice)
			}
		}
		if d.Group || !d.LegalBasis.DecidedByFold() || len(x.notices) == 0 {
			continue
		}
		o.all = append(o.all, x)
		if strings.Contains(string(d.ID), "mail") {
			o.mail = append(o.mail, x)
		}
		if x.conditional {
			o.conditional = append(o.conditional, x)
		}
	}
	if len(o.all) == 0 {
		return offers{}, errors.New("the purpose registry declares nothing that can be granted: it needs a purpose with a notice")
	}
	if len(o.mail) == 0 {
		o.mail = o.all[:1]
	}
	for channel := consent.ChannelUnknown; channel <= consent.API; channel++ {
		o.windows[channel] = c.ReplayWindow(channel)
	}
	return o, nil
}

// oldest is how long ago a grant of a channel may be said to be given, with
// room for a wrong clock and for the way to the gateway.
func (o *offers) oldest(channel consent.Channel) consent.Instant {
	window := o.windows[channel]
	if window == consent.Unlimited {
		return 1 << 60
	}
	return max(0, consent.Instant(window.Milliseconds())-2*hour)
}
