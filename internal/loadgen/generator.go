package loadgen

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/assent-dev/assent/consent"
)

// Generator makes traffic. It is made by [New].
type Generator struct {
	options Options
	people  population
	offers  offers
	rand    *rand.Rand
	mix     [kinds]uint64 // summed up
	share   int           // of invalid events, per million of valid ones; −1 = all

	nanos  int64 // of the virtual clock since Start
	acts   int64
	owed   int              // refused events that are due
	follow *Act             // what comes right after the last act
	again  queue[Act]       // sent before, and due once more
	given  ring[given]      // grants, to take back
	queue  []Claim          // of the last act, what Next has not given yet
	count  [kinds + 1]int64 // acts of each kind

	stamped int64         // events that Stamped gave
	mails   queue[mailed] // confirmations under way
	later   *rand.Rand    // draws of Stamped, so that it does not move the acts
}

// given is a grant that an invalidate may name.
type given struct {
	subject      consent.Subject
	household    int
	purpose      consent.Purpose
	jurisdiction consent.Jurisdiction
	test         bool
	reference    consent.EventRef
}

const (
	givenKept   = 1024
	againKept   = 8192
	againWithin = 4000 // acts until something is sent again
	perMillion  = 1_000_000
)

// New makes a generator. The error names an option that is out of its bounds, or
// says that the catalogue holds nothing to grant.
func New(o Options) (*Generator, error) {
	o.ensureDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	offers, err := newOffers(o.Catalogue)
	if err != nil {
		return nil, err
	}
	g := &Generator{
		options: o, people: newPopulation(&o), offers: offers,
		rand:  rand.New(rand.NewPCG(o.Seed, 1)),
		later: rand.New(rand.NewPCG(o.Seed, 2)),
		given: newRing[given](givenKept),
	}
	total := uint64(0)
	for k, weight := range o.Mix {
		total += uint64(weight)
		g.mix[k] = total
	}
	g.share = -1
	if valid := 1 - o.InvalidShare; valid > 0.001 {
		g.share = int(o.InvalidShare / valid * perMillion)
	}
	return g, nil
}

// Next gives the next event as its channel sends it. The events of one act come
// one after another.
func (g *Generator) Next() Claim {
	for len(g.queue) == 0 {
		g.queue = g.NextAct().Claims
	}
	c := g.queue[0]
	g.queue = g.queue[1:]
	return c
}

// NextAct gives what a channel sends next.
func (g *Generator) NextAct() Act {
	g.acts++
	a := g.next()
	g.count[a.Kind]++
	g.pass(len(a.Claims))
	return a
}

func (g *Generator) next() Act {
	if a := g.follow; a != nil {
		g.follow = nil
		return g.sent(*a)
	}
	if a, due := g.again.pop(g.acts); due {
		return g.resent(a)
	}
	if g.share < 0 || g.owed > 0 {
		g.owed--
		return g.invalidAct()
	}
	return g.sent(g.act(g.kind()))
}

// Count tells how many acts of a kind were made so far, those that were sent
// again among them.
func (g *Generator) Count(k Kind) int64 { return g.count[k] }

// Household lists the subjects of a claim's household, by their pseudonymous ids.
func (g *Generator) Household(h int) []consent.Subject { return g.people.household(h) }

// Households tells how many there are: claims name them from 0 up.
func (g *Generator) Households() int { return g.people.households() }

// owe adds refused events so that they keep their share of all events.
func (g *Generator) owe() {
	for share := g.share; share > 0; share -= perMillion {
		if g.rand.IntN(perMillion) < share {
			g.owed++
		}
	}
}

// sent notes what later acts come back to: grants that may be taken back, and
// acts whose answer gets lost, so that they are sent again.
func (g *Generator) sent(a Act) Act {
	a.made = g.now()
	for i := range a.Claims {
		g.owe()
		e := &a.Claims[i].Event
		if e.Action == consent.Grant && a.Form != AsSubmission { // of a submission only the gateway knows the ids
			g.given.put(given{
				e.Subject, a.Claims[i].Household, e.Purpose, e.Jurisdiction, e.Test,
				consent.EventRef{EventID: e.ID, EffectiveAt: consent.EffectiveAt(e, a.made)},
			})
		}
	}
	if g.chance(2, 100) && g.again.len() < againKept {
		g.again.push(a, g.acts+1+int64(g.rand.IntN(againWithin)))
	}
	return a
}

// resent makes another attempt of an act: sent_at is stamped anew, by the
// same clock as before.
func (g *Generator) resent(a Act) Act {
	claims := make([]Claim, len(a.Claims))
	copy(claims, a.Claims)
	for i := range claims {
		claims[i].Again = true
		if e := &claims[i].Event; e.SentAt != 0 && claims[i].Raw == nil {
			e.SentAt += g.now() - a.made
		}
	}
	a.Claims = claims
	return a
}

func (g *Generator) kind() Kind {
	at := g.rand.Uint64N(g.mix[kinds-1])
	for k := range g.mix {
		if at < g.mix[k] {
			return Kind(k)
		}
	}
	return Banner // the last sum is above at
}

// now is the time at the gateway.
func (g *Generator) now() consent.Instant {
	if g.options.Now != nil {
		return g.options.Now()
	}
	return g.options.Start + consent.Instant(g.nanos/int64(time.Millisecond))
}

// pass moves the virtual clock on by so many events.
func (g *Generator) pass(events int) {
	rate := int64(g.options.EventsPerSecond)
	percent := int64(DayCurve(time.Duration(g.nanos), g.options.Day))
	g.nanos += int64(events) * int64(time.Second) * 100 / (rate * percent)
}

// hours is how busy each hour of a day is, in percent of the day's average.
var hours = [24]int{18, 12, 10, 10, 14, 28, 60, 100, 130, 140, 140, 135, 140, 138, 130, 128, 130, 140, 158, 176, 180, 150, 92, 41}

// DayCurve tells how busy it is, in percent of the average, at a time since the
// start of a day that is so long; 100 where day is 0.
func DayCurve(sinceStart, day time.Duration) int {
	if day <= 0 {
		return 100
	}
	return hours[sinceStart%day/(day/24+1)]
}

func (g *Generator) chance(of, in int) bool { return g.rand.IntN(in) < of }

// between draws from low to high, both included.
func (g *Generator) between(low, high int) int { return low + g.rand.IntN(high-low+1) }

// instant is between for times.
func (g *Generator) instant(low, high consent.Instant) consent.Instant {
	if high <= low {
		return low
	}
	return low + consent.Instant(g.rand.Int64N(int64(high-low)))
}

func pick[T any](g *Generator, from []T) T { return from[g.rand.IntN(len(from))] }

// uuid draws one of version 4.
func uuid(r *rand.Rand) (u consent.UUID) {
	binary.BigEndian.PutUint64(u[:8], r.Uint64())
	binary.BigEndian.PutUint64(u[8:], r.Uint64())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

func (g *Generator) uuid() consent.UUID { return uuid(g.rand) }
