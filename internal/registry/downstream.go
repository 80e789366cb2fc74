package registry

import (
	"time"

	"github.com/assent-dev/assent/consent"
)

// Downstream is a system that must obey. Exactly one of Webhook, Topic and Poll
// is set.
type Downstream struct {
	Tenant          consent.Tenant
	Name            string // unique per tenant, 1 to 64 of a-z, 0-9 and -
	Purposes        []consent.Pattern
	Changes         ChangeFilter
	Webhook         *Webhook
	Topic           *TopicDelivery
	Poll            *PollDelivery
	Start           Start
	Deadline        Deadline // zero = only the purpose's holds
	Acknowledgement Acknowledgement
	Batch           Batch
	// Test: it hears test changes too. Without it, none.
	Test bool
}

// ChangeFilter is which changes a downstream hears.
type ChangeFilter uint8

// The filters. All is what holds where nothing is said.
const (
	All ChangeFilter = iota + 1
	Withdrawals
)

func (f ChangeFilter) String() string {
	if f == Withdrawals {
		return "withdrawals"
	}
	return "all"
}

func parseChangeFilter(s string) (ChangeFilter, bool) {
	switch s {
	case "all":
		return All, true
	case "withdrawals":
		return Withdrawals, true
	}
	return 0, false
}

// Start is what a new downstream hears first.
type Start uint8

// The starts. Snapshot is what holds where nothing is said.
const (
	StartSnapshot  Start = iota + 1 // everything on record that it may see, then changes
	StartNow                        // changes from now on
	StartBeginning                  // changes from the oldest that is kept
)

var starts = map[string]Start{"snapshot": StartSnapshot, "now": StartNow, "beginning": StartBeginning}

func parseStart(s string) (Start, bool) { x, ok := starts[s]; return x, ok }

func (s Start) String() string {
	for word, x := range starts {
		if x == s {
			return word
		}
	}
	return "unknown"
}

// Webhook is delivery by signed HTTP POST.
type Webhook struct {
	URL      string // http only where Internal
	Internal bool   // private addresses are allowed
	Secrets  []SecretRef
	// Timeout bounds one attempt. Default: 15s.
	Timeout time.Duration
	// Concurrency is how many attempts may be open at once. Default: 16.
	Concurrency int
	// RateLimit is attempts per second; 0 = no limit.
	RateLimit float64
	// Attempts is how often a change that the endpoint answers with 400, 413 or
	// 422 is tried before it is a dead letter. Default: 3.
	Attempts int
}

// What holds where a webhook does not say.
const (
	DefaultTimeout     = 15 * time.Second
	DefaultConcurrency = 16
	DefaultAttempts    = 3
	DefaultRetain      = 30 * day
)

// TopicDelivery is delivery by a Kafka topic of the downstream's own.
type TopicDelivery struct{ Name string }

// PollDelivery is delivery by the downstream asking. Retain is how long changes
// wait for it. Default: 30 days.
type PollDelivery struct{ Retain time.Duration }

// Acknowledgement says that a change is not done until the downstream says
// "applied", and by when after delivery. Within 0 = only the deadline holds.
type Acknowledgement struct {
	Required bool
	Within   time.Duration
}

// Batch lets one delivery carry several changes. Zero = one change each.
type Batch struct {
	MaxChanges int
	MaxWait    time.Duration
}

// Hears reports whether the downstream is to be told of the change: the tenant
// is its own, a pattern matches the change's own purpose, the filter lets it
// pass, and a test change only where the downstream takes those.
func (d *Downstream) Hears(c *consent.Change) bool {
	return c.Tenant == d.Tenant &&
		(d.Test || !c.Test) &&
		(c.Withdrawal || d.Changes != Withdrawals) &&
		d.matches(c.Purpose)
}

func (d *Downstream) matches(p consent.Purpose) bool {
	for _, pattern := range d.Purposes {
		if pattern.Matches(p) {
			return true
		}
	}
	return false
}

// Heard reports whether a withdrawal of p reaches anybody: some downstream with
// a webhook listens to p itself, or to a declared purpose below it, since a
// withdrawal is told for each of those too. A downstream that is declared with
// another delivery is not told anything yet, and does not count.
func (r *Registry) Heard(t consent.Tenant, p consent.Purpose) bool {
	below := r.Catalogue(t).Covers(p)
	for _, d := range r.downstreams {
		if d.Tenant != t || d.Webhook == nil {
			continue
		}
		if d.matches(p) {
			return true
		}
		for _, q := range below {
			if d.matches(q) {
				return true
			}
		}
	}
	return false
}
