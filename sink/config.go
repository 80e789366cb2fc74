package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/sink/table"
)

// Config is what a [Sink] can be told. Zero values mean the defaults.
type Config struct {
	Names topic.Names
	// Stripes is how many shares the partitions are dealt into; each is written by
	// one goroutine. Every sink must say the same. Default: 4.
	Stripes int
	// FlushInterval is the least time between two blocks of one partition; rows that
	// come after a pause are written at once. Default: 1s.
	FlushInterval time.Duration
	// MaxRows bounds a block. Default: 50,000.
	MaxRows int
	// MaxBytes bounds what a stripe holds in memory. Default: 64 MiB.
	MaxBytes int
	// Deadline is how long ClickHouse may take a block after it was announced.
	// Default: 2m.
	Deadline time.Duration
	// SessionTimeout is after how long without a heartbeat the group gives the
	// stripes of this process away. Default: 6s.
	SessionTimeout time.Duration
	// RetryInterval is the pause before ClickHouse is asked again. Default: 1s.
	RetryInterval time.Duration

	// after, for tests of this package, is called behind each step; its error ends
	// the claim, as a crash would.
	after func(step) error
}

// step is one of the numbered steps of the package's documentation.
type step uint8

const (
	cut step = iota + 1
	announce
	insert
	confirm
)

// Deps is what a Sink works with. Kafka and Tables are needed.
type Deps struct {
	Kafka   *kafka.Client
	Tables  Tables
	Metrics prometheus.Registerer // nil = none are kept
	Logger  *slog.Logger          // nil = none
	Now     func() time.Time      // nil = time.Now
}

// Tables is the history as the sink needs it; *table.DB is one.
type Tables interface {
	// Insert writes rows as one block. After an error the outcome is unknown.
	Insert(ctx context.Context, t *table.Table, rows []table.Row, token string, before time.Time) error
	// Offsets gives what is there of a range, each as often as it is there.
	Offsets(ctx context.Context, t *table.Table, p kafka.Partition, first, last kafka.LastOffset) ([]kafka.LastOffset, error)
	// Holds reports whether there is any row of a partition.
	Holds(ctx context.Context, t *table.Table, p kafka.Partition) (bool, error)
	// Applied gives the version of the tables.
	Applied(ctx context.Context) (int, error)
	// Skew is how far ClickHouse's clock is ahead of ours.
	Skew(ctx context.Context) (time.Duration, error)
}

func (c *Config) ensureDefaults() {
	if c.Stripes == 0 {
		c.Stripes = 4
	}
	if c.FlushInterval == 0 {
		c.FlushInterval = time.Second
	}
	if c.MaxRows == 0 {
		c.MaxRows = 50_000
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 64 << 20
	}
	if c.Deadline == 0 {
		c.Deadline = 2 * time.Minute
	}
	if c.SessionTimeout == 0 {
		c.SessionTimeout = 6 * time.Second
	}
	if c.RetryInterval == 0 {
		c.RetryInterval = time.Second
	}
}

func (c *Config) validate() error {
	var faults []error
	if c.Stripes < 1 {
		faults = append(faults, fmt.Errorf("sink: stripes is %d, want at least 1", c.Stripes))
	}
	if c.FlushInterval < time.Millisecond {
		faults = append(faults, fmt.Errorf("sink: flush interval is %s, want at least 1ms", c.FlushInterval))
	}
	if c.MaxRows < 1 || c.MaxRows > table.MaxRows {
		faults = append(faults, fmt.Errorf("sink: max rows is %d, want 1 to %d", c.MaxRows, table.MaxRows))
	}
	if c.MaxBytes < 1<<20 {
		faults = append(faults, fmt.Errorf("sink: max bytes is %d, want at least 1 MiB", c.MaxBytes))
	}
	if c.Deadline < time.Second || c.RetryInterval <= 0 {
		faults = append(faults, errors.New("sink: deadline must be at least 1s, retry interval more than 0"))
	}
	return errors.Join(faults...)
}
