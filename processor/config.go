package processor

import (
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
	// BatchRecords bounds the records of one batch. An idle stripe handles at once
	// what it has. Default: 2,000.
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
	// Registerer takes the metrics. Default: none.
	Registerer prometheus.Registerer
	// Logger takes alarms, dead letters (positions and codes only) and restores.
	// Default: none.
	Logger *slog.Logger
	// Order is for tests only, which show that the other order loses changes.
	Order Order

	// Seams for tests of this package. after is called behind each step of a batch;
	// its error ends the claim as a crash would: no further step is taken.
	after func(step) error
	fold  foldFunc // default: consent.Fold
}

// Order is the order of what a batch writes.
type Order uint8

const (
	// ChangesThenStates is the promise: see the package's documentation.
	ChangesThenStates Order = iota
	// StatesThenChanges loses changes in a crash. For tests only.
	StatesThenChanges
)

func (c *Config) ensureDefaults() {
	if c.Stripes == 0 {
		c.Stripes = 4
	}
	if c.BatchRecords == 0 {
		c.BatchRecords = 2000
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
	if c.after == nil {
		c.after = func(step) error { return nil }
	}
	if c.fold == nil {
		c.fold = consent.Fold
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
	if c.Order > StatesThenChanges {
		faults = append(faults, errors.New("processor: unknown order"))
	}
	return errors.Join(faults...)
}

// heartbeatLimit is the age of the last heartbeat from which on this process no
// longer answers or writes: the group may have given its partitions away.
func (c *Config) heartbeatLimit() time.Duration { return c.SessionTimeout * 2 / 3 }
