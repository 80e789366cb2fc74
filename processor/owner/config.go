package owner

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is what a [Router] works with. Local, Directory and Instance are required; zero
// values of the others mean the defaults.
type Config struct {
	// Local is what this process owns.
	Local Local
	// Directory says who owns the rest.
	Directory *Directory
	// Instance is this process, as in the records that it writes: unique to its start.
	Instance string
	// SessionTimeout is the group's, and HeartbeatLimit the age of the last heartbeat from
	// which on Local no longer answers. What lies between them is the time that an answer
	// may take on its way: see [Config.lease]. Defaults: 6s, and two thirds of the session.
	SessionTimeout time.Duration
	HeartbeatLimit time.Duration
	// Secret is what peers show each other, the same for all of an installation: at least
	// 16 bytes. Empty = only peers on this machine are served.
	Secret string
	// MaxForwarded bounds the requests that are on their way to one peer; others wait for
	// their turn. Default: 64.
	MaxForwarded int
	// MaxServed bounds the peers' requests for States that are answered at once; others
	// wait as long as their asker does. Default: 64.
	MaxServed int
	// MaxWaiting bounds the peers' requests that wait for an event to be folded; more are
	// refused, and come again. Default: 1,024.
	MaxWaiting int
	// TLS is used for peers whose address is https. Default: the system's roots.
	TLS *tls.Config
	// Registerer takes the metrics. Default: none.
	Registerer prometheus.Registerer
	// Logger takes what operators can mend: a secret that differs, a peer that cannot be
	// read. Default: none.
	Logger *slog.Logger
}

// MinSecretBytes is the least that peers may share as a secret.
const MinSecretBytes = 16

func (c *Config) ensureDefaults() {
	if c.SessionTimeout == 0 {
		c.SessionTimeout = 6 * time.Second
	}
	if c.HeartbeatLimit == 0 {
		c.HeartbeatLimit = c.SessionTimeout * 2 / 3
	}
	for _, bound := range []struct {
		at    *int
		value int
	}{{&c.MaxForwarded, 64}, {&c.MaxServed, 64}, {&c.MaxWaiting, 1024}} {
		if *bound.at == 0 {
			*bound.at = bound.value
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Validate reports every fault.
func (c *Config) Validate() error {
	var faults []error
	if c.Local == nil || c.Directory == nil {
		faults = append(faults, errors.New("owner: local and directory are required"))
	}
	if n := len(c.Instance); n < 1 || n > maxInstanceBytes {
		faults = append(faults, fmt.Errorf("owner: instance has %d bytes, want 1 to %d", n, maxInstanceBytes))
	}
	if c.HeartbeatLimit <= 0 || c.SessionTimeout-c.HeartbeatLimit < minSlack {
		faults = append(faults, fmt.Errorf("owner: heartbeat limit %s leaves less than %s of the session %s", c.HeartbeatLimit, minSlack, c.SessionTimeout))
	}
	if n := len(c.Secret); n > 0 && n < MinSecretBytes {
		faults = append(faults, fmt.Errorf("owner: the peers' secret has %d bytes, want at least %d", n, MinSecretBytes))
	}
	for name, n := range map[string]int{"max forwarded": c.MaxForwarded, "max served": c.MaxServed, "max waiting": c.MaxWaiting} {
		if n < 1 {
			faults = append(faults, fmt.Errorf("owner: %s is %d, want at least 1", name, n))
		}
	}
	return errors.Join(faults...)
}

// minSlack is the least that an answer can be given to travel in.
const minSlack = 10 * time.Millisecond

// lease is how long a State of another process may be on its way and in use. The owner
// looks at its last heartbeat after it has read the State:
//
//	heartbeat    it is answered: the group keeps the stripe for a session from here on
//	check        at most HeartbeatLimit later
//	use          must be before the session's end, so within slack of the check
//
// The asker does not know when the check was, but it was after it sent the request. So it
// counts from there: a State is usable for three quarters of slack, of which half of slack
// at most is spent on getting it. The rest is for clocks that do not run at the same
// speed, and for writing the answer. With a session of 6 s: 2 s of slack, 1 s to get all
// States of an answer, and at most 1.5 s until the last decision is made of them.
type lease struct{ slack time.Duration }

func (c *Config) lease() lease { return lease{c.SessionTimeout - c.HeartbeatLimit} }

// toGet bounds the time that States are waited for, all attempts together.
func (l lease) toGet() time.Duration { return l.slack / 2 }

// toUse bounds the time from sending the request to the end of its use.
func (l lease) toUse() time.Duration { return l.slack / 4 * 3 }
