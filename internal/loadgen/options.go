package loadgen

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry"
)

// Options say what traffic to make. The zero value is usable.
type Options struct {
	// Seed decides everything that is drawn.
	Seed uint64
	// Subjects is the size of the population. Default: 10,000.
	Subjects int
	// Tenant of all events. Default: absent, which counts as "default".
	Tenant consent.Tenant
	// Catalogue is what can be consented to. Default: the built-in sample registry's.
	Catalogue *consent.Catalogue
	// Mix is how often each kind of act comes. Default: [DefaultMix].
	Mix Mix
	// InvalidShare is the part of all events, 0 to 1, that must be refused;
	// 0.999 and more is all of them.
	InvalidShare float64
	// Jurisdictions is where subjects are. Default: the markets of a European shop.
	Jurisdictions []Market

	// Start is where the virtual clock begins. Default: 2026-01-05T00:00:00Z.
	Start consent.Instant
	// EventsPerSecond is how fast the virtual clock is filled. Default: 1000.
	EventsPerSecond int
	// Day is the length of a day over which traffic rises and falls; 0 = it is even.
	Day time.Duration
	// Now replaces the virtual clock, for traffic that is sent as it is made.
	Now func() consent.Instant
}

// Market is a jurisdiction and its weight among the others. The empty
// jurisdiction is a subject of whom nobody knows where it is.
type Market struct {
	Jurisdiction consent.Jurisdiction
	Weight       int
}

var defaultMarkets = []Market{
	{"DE", 22}, {"FR", 14}, {"GB", 11}, {"US-CA", 10}, {"ES", 7}, {"US-NY", 6}, {"IT", 6}, {"NL", 5},
	{"US", 5}, {"BR", 4}, {"AT", 3}, {"CH", 3}, {"", 4},
}

// defaultStart is a Monday, long enough ago that what comes of it is history.
const defaultStart consent.Instant = 1_767_571_200_000 // 2026-01-05T00:00:00Z

// Kind is what an act is.
type Kind uint8

// The kinds of acts.
const (
	Banner      Kind = iota // a notice is shown; accept all, reject all, save a choice, or close it
	Preferences             // toggles on a preference page
	Unsubscribe             // the link in a mail
	Signup                  // a newsletter, confirmed by mail where the law asks for it
	Phone                   // an app that was offline sends its queue, late and out of order
	CallCenter              // an agent acts for the subject
	Linking                 // a device or a mail box is known to be somebody's; seldom: no longer
	ImportRows              // rows of another system, months old
	GPC                     // a browser's Global Privacy Control signal
	Correction              // an invalidate, most of them naming the grant that they take back
	Odd                     // protective, not as it should be, and accepted all the same
	Erasure                 // the subject asks to be forgotten

	kinds

	Invalid = kinds // refused by rule; not in the mix: it has a share of its own
)

var kindNames = [kinds]string{"banner", "preferences", "unsubscribe", "signup", "phone", "call_center", "link", "import", "gpc", "invalidate", "odd", "erase"}

// String gives the name that a mix uses.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return "invalid"
}

// Mix holds the weight of each kind of act.
type Mix [kinds]int

// DefaultMix is a shop's: banners first, erasures last. Weights are per
// thousand acts; an act of many events (a banner, a phone, an import) weighs
// more in events.
func DefaultMix() Mix {
	return Mix{Banner: 380, Preferences: 200, Unsubscribe: 125, Signup: 105, Phone: 50, CallCenter: 50,
		Linking: 30, ImportRows: 8, GPC: 20, Correction: 15, Odd: 15, Erasure: 2}
}

// ParseMix reads kind=weight pairs. Kinds that are not named have no weight; no
// pair at all is [DefaultMix].
func ParseMix(pairs []string) (Mix, error) {
	if len(pairs) == 0 {
		return DefaultMix(), nil
	}
	var m Mix
	total := 0
	for _, pair := range pairs {
		name, text, _ := strings.Cut(strings.TrimSpace(pair), "=")
		weight, err := strconv.Atoi(text)
		if err != nil || weight < 0 || weight > maxWeight {
			return Mix{}, fmt.Errorf("%q is not kind=weight, such as banner=380, with a weight from 0 to %d", pair, maxWeight)
		}
		k, ok := parseKind(name)
		if !ok {
			return Mix{}, fmt.Errorf("%q is no kind of act: there are %s", name, strings.Join(kindNames[:], ", "))
		}
		m[k] = weight
		total += weight
	}
	if total == 0 {
		return Mix{}, fmt.Errorf("no kind of act has a weight")
	}
	return m, nil
}

const maxWeight = 1_000_000

func parseKind(name string) (Kind, bool) {
	for k, n := range kindNames {
		if n == name {
			return Kind(k), true
		}
	}
	return 0, false
}

// String is what ParseMix reads.
func (m Mix) String() string {
	parts := make([]string, len(m))
	for k, weight := range m {
		parts[k] = fmt.Sprintf("%s=%d", Kind(k), weight)
	}
	return strings.Join(parts, ",")
}

// ensureDefaults fills what was left out.
func (o *Options) ensureDefaults() {
	if o.Subjects == 0 {
		o.Subjects = 10_000
	}
	if o.Catalogue == nil {
		o.Catalogue = registry.Sample().Catalogue(consent.DefaultTenant)
	}
	if o.Mix == (Mix{}) {
		o.Mix = DefaultMix()
	}
	if len(o.Jurisdictions) == 0 {
		o.Jurisdictions = defaultMarkets
	}
	if o.Start == 0 {
		o.Start = defaultStart
	}
	if o.EventsPerSecond == 0 {
		o.EventsPerSecond = 1000
	}
}

// maxSubjects and maxEventsPerSecond keep the arithmetic of the clock and of the
// ranks far from its ends.
const (
	maxSubjects        = 1 << 40
	maxEventsPerSecond = 10_000_000
)

func (o *Options) validate() error {
	switch {
	case o.Subjects < 1 || o.Subjects > maxSubjects:
		return fmt.Errorf("subjects: %d is not between 1 and %d", o.Subjects, maxSubjects)
	case !(o.InvalidShare >= 0 && o.InvalidShare <= 1): // not a number, too
		return fmt.Errorf("invalid share: %v is not between 0 and 1", o.InvalidShare)
	case o.EventsPerSecond < 1 || o.EventsPerSecond > maxEventsPerSecond:
		return fmt.Errorf("events per second: %d is not between 1 and %d", o.EventsPerSecond, maxEventsPerSecond)
	case o.Day < 0 || (o.Day > 0 && o.Day < time.Second):
		return fmt.Errorf("day: %s is not 0, or at least 1s", o.Day)
	}
	total := 0
	for k, weight := range o.Mix {
		if weight < 0 || weight > maxWeight {
			return fmt.Errorf("mix: the weight of %s, %d, is not between 0 and %d", Kind(k), weight, maxWeight)
		}
	}
	for _, m := range o.Jurisdictions {
		if m.Weight < 0 || m.Weight > maxWeight {
			return fmt.Errorf("jurisdictions: a weight of %d is not between 0 and %d", m.Weight, maxWeight)
		}
		total += m.Weight
	}
	if total == 0 {
		return fmt.Errorf("jurisdictions: none has a weight")
	}
	return nil
}
