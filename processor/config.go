package processor

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/topic"
)

// Config is what a [Processor] can be told. Zero values mean the defaults.
type Config struct {
	// Names are the topics and the group, under their prefix.
	Names topic.Names
	// Stripes is the number of fixed sets that the partitions are divided into:
	// partition p belongs to stripe p mod Stripes. A stripe has one goroutine, and
	// is claimed as a whole. Every processor of a group needs the same. Default: 4.
	Stripes int
	// BatchRecords is how many records make a transaction full. With fewer the commits
	// weigh more, with more what is touched on the way leaves the processor's caches.
	// Default: 5,000.
	BatchRecords int
	// BatchBytes bounds the bytes that one fetch asks for. Default: 4 MiB.
	BatchBytes int
	// SessionTimeout is after how long without a heartbeat the group gives the
	// stripes of this process away. Decisions stop a third earlier. Default: 6s.
	SessionTimeout time.Duration
	// FinishTimeout is how long a batch that is being written may go on after its
	// claim has ended, so that nothing is on its way when the next owner restores.
	// Default: 2s.
	FinishTimeout time.Duration
	// Pace is how far apart the transactions of a busy stripe begin, at least. One
	// that was idle commits at once. Default: 20ms; below 0 = no pause at all.
	Pace time.Duration
	// TransactionTimeout is after how long the broker ends a transaction that a dead
	// process left open, where nobody takes its stripe over. Default: 30s.
	TransactionTimeout time.Duration
	// StateDir holds the local copies of states, so that a restart reads only what
	// came since. Empty = in memory: every start reads the whole changelog.
	StateDir string
	// CacheBytes bounds the states kept in memory, roughly, over all partitions of
	// the topic. The others are read from StateDir. Default: 512 MiB.
	CacheBytes int64
	// StoreCacheBytes bounds the cache of the local store. Default: 128 MiB.
	StoreCacheBytes int64
	// Address is where this process answers its peers, as http://host:port. Empty =
	// it answers none: what it owns is unavailable elsewhere.
	Address string
	// Instance tells one start of a process from every other. Default: a random id.
	Instance string
	// Registerer takes the metrics. Default: none.
	Registerer prometheus.Registerer
	// Logger takes alarms, dead letters (positions and codes only) and restores.
	// Default: none.
	Logger *slog.Logger

	// Seams for tests of this package. after is called behind each step; its error
	// ends the claim as a crash would: no further step is taken.
	after   func(step) error
	fold    foldFunc         // default: consent.Folder.Fold
	now     func() time.Time // default: time.Now
	recount time.Duration    // how often partitions are counted. Default: 10s
}

func (c *Config) ensureDefaults() {
	if c.Stripes == 0 {
		c.Stripes = 4
	}
	if c.BatchRecords == 0 {
		c.BatchRecords = 5_000
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = 4 << 20
	}
	if c.SessionTimeout == 0 {
		c.SessionTimeout = 6 * time.Second
	}
	if c.FinishTimeout == 0 {
		c.FinishTimeout = 2 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Pace == 0 {
		c.Pace = 20 * time.Millisecond
	}
	if c.TransactionTimeout == 0 {
		c.TransactionTimeout = 30 * time.Second
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 512 << 20
	}
	if c.Instance == "" {
		c.Instance = rand.Text()
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.after == nil {
		c.after = func(step) error { return nil }
	}
	if c.recount == 0 {
		c.recount = 10 * time.Second
	}
	if c.fold == nil {
		c.fold = (*consent.Folder).Fold
	}
}

// Validate reports every fault.
func (c *Config) Validate() error {
	var faults []error
	atLeast := func(what string, got, least int64) {
		if got < least {
			faults = append(faults, fmt.Errorf("processor: %s is %d, want at least %d", what, got, least))
		}
	}
	atLeast("stripes", int64(c.Stripes), 1)
	atLeast("batch records", int64(c.BatchRecords), 1)
	atLeast("batch bytes", int64(c.BatchBytes), 1024)
	if c.SessionTimeout < time.Second {
		faults = append(faults, fmt.Errorf("processor: session timeout is %s, want at least 1s", c.SessionTimeout))
	}
	if c.FinishTimeout < 0 {
		faults = append(faults, fmt.Errorf("processor: finish timeout is %s, want 0 or more", c.FinishTimeout))
	}
	if c.TransactionTimeout < time.Second {
		faults = append(faults, fmt.Errorf("processor: transaction timeout is %s, want at least 1s", c.TransactionTimeout))
	}
	if c.Pace > time.Second {
		faults = append(faults, fmt.Errorf("processor: pace is %s, want at most 1s", c.Pace))
	}
	atLeast("cache bytes", c.CacheBytes, 1<<20)
	return errors.Join(faults...)
}

// heartbeatLimit is the age of the last heartbeat from which on this process no
// longer answers or writes: the group may have given its partitions away.
func (c *Config) heartbeatLimit() time.Duration { return c.SessionTimeout * 2 / 3 }

// crashError is the seam's: nothing of the claim goes on behind it.
type crashError struct{ error }

func (e crashError) Unwrap() error { return e.error }

// behind is called behind each step.
func (c *Config) behind(at step) error {
	if err := c.after(at); err != nil {
		return crashError{err}
	}
	return nil
}
