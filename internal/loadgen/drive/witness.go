package drive

import (
	"cmp"
	"net/http"
	"slices"
	"sync"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/loadgen"
	"github.com/assent-dev/assent/internal/token"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// Witness keeps what was recorded of some households, and can tell whether a
// target decides as it should. Whole households, because links stay inside one.
type Witness struct {
	generator *loadgen.Generator
	catalogue *consent.Catalogue
	watched   map[int]bool

	mu       sync.Mutex
	doubtful map[int]bool // somebody's event was not answered
	events   []witnessed
	last     map[int32]int64 // offset of the newest event of each partition
}

// witnessed is an event as the gateway recorded it.
type witnessed struct {
	event     consent.Event
	household int
	partition int32
	offset    int64
}

// NewWitness watches households with about so many subjects in all, spread over
// the population: the busiest one, and quiet ones. The catalogue must be the
// one that the target runs with.
func NewWitness(g *loadgen.Generator, c *consent.Catalogue, subjects int) *Witness {
	w := &Witness{generator: g, catalogue: c, watched: map[int]bool{}, doubtful: map[int]bool{}, last: map[int32]int64{}}
	all := g.Households()
	count := min(all, max(1, subjects/max(1, len(g.Household(0)))))
	for i := range count {
		w.watched[i*all/count] = true
	}
	return w
}

// record takes in the answers to a parcel.
func (w *Witness) record(p *Parcel, answers []Answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range p.Act.Claims {
		c, a := &p.Act.Claims[i], &answers[i]
		if a.Done && a.Status == http.StatusAccepted {
			w.last[a.Partition] = max(w.last[a.Partition], a.Offset)
		}
		switch {
		case !w.watched[c.Household] || a.Skipped:
		case !a.Done:
			w.doubtful[c.Household] = true
		case a.Status == http.StatusAccepted:
			w.events = append(w.events, witnessed{w.asRecorded(c, a), c.Household, a.Partition, a.Offset})
		}
	}
}

// asRecorded puts together what must stand in consent.events: the claims, and
// the stamps by the answer and the catalogue.
func (w *Witness) asRecorded(c *loadgen.Claim, a *Answer) consent.Event {
	e := c.Event
	if c.Raw != nil {
		if parsed, _, err := jsonform.ParseEvent(c.Raw); err == nil {
			e = parsed
		}
	}
	if e.Tenant == "" {
		e.Tenant = consent.DefaultTenant
	}
	if a.Subject != "" {
		e.Subject = a.Subject
	}
	e.ID, e.ReceivedAt, e.EffectiveAt = a.EventID, a.ReceivedAt, a.EffectiveAt
	w.catalogue.Stamp(&e)
	e.Digest = schemas.EventDigest(&e)
	return e
}

// tokens make a query wait until everything that was recorded is folded.
func (w *Witness) tokens() []string {
	all := make([]string, 0, len(w.last))
	for partition, offset := range w.last {
		all = append(all, token.Encode(partition, offset))
	}
	return all
}

// fold gives the State of every subject of the watched households that said
// something or to whom something was carried.
func (w *Witness) fold() map[consent.SubjectID]*consent.State {
	slices.SortStableFunc(w.events, func(a, b witnessed) int {
		return cmp.Or(cmp.Compare(a.partition, b.partition), cmp.Compare(a.offset, b.offset))
	})
	states := map[consent.SubjectID]*consent.State{}
	var carried []consent.Event
	take := func(e *consent.Event) {
		id := consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject, Test: e.Test}
		s := states[id]
		if s == nil {
			s = &consent.State{Tenant: id.Tenant, Subject: id.Subject, Test: id.Test}
			states[id] = s
		}
		next, _, more := consent.Fold(*s, e)
		*s, carried = next, append(carried, more...)
	}
	for i := range w.events {
		if !w.doubtful[w.events[i].household] {
			take(&w.events[i].event)
		}
	}
	for len(carried) > 0 {
		e := carried[0]
		carried = carried[1:]
		e.Digest = schemas.EventDigest(&e)
		take(&e)
	}
	return states
}
