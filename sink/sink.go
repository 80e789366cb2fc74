package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/reach"
	"github.com/assent-dev/assent/sink/table"
)

// Sink is the history role.
type Sink struct {
	config  Config
	kafka   *kafka.Client
	tables  Tables
	log     *slog.Logger
	metrics *metrics
	now     func() time.Time

	tableOf  map[string]*table.Table // by topic
	progress progress
	reach    *reach.Watch // what ClickHouse was last found to be; known once it is good for work
	lastWait atomic.Int64 // when waitLog last said something
}

// New makes a Sink. It does no I/O.
func New(config Config, deps Deps) (*Sink, error) {
	config.ensureDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	if deps.Kafka == nil || deps.Tables == nil {
		return nil, errors.New("sink: needs a Kafka client and the history's tables")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	n := config.Names
	s := &Sink{
		config: config, kafka: deps.Kafka, tables: deps.Tables, log: deps.Logger, metrics: m, now: deps.Now,
		tableOf: map[string]*table.Table{
			n.Events(): table.Events, n.Changes(): table.Changes, n.Deliveries(): table.Deliveries, n.DeadLetters(): table.DeadLetters,
		},
		progress: progress{parts: map[kafka.Partition]bool{}, lag: m.lag},
	}
	s.reach = s.newWatch()
	return s, nil
}

// Run writes the history until ctx ends. An error means that going on is of no
// use: tables of a newer version, or no authorization.
func (s *Sink) Run(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to stop before ClickHouse answered
		}
		return fmt.Errorf("sink: %w", err)
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { s.reach.Run(watching) })
	defer watch.Wait()
	defer stop()
	var topics []string
	for name := range s.tableOf {
		topics = append(topics, name)
	}
	err := s.kafka.RunGroup(ctx, kafka.GroupOptions{
		Group: s.config.Names.SinkGroup(), Topics: topics, Stripes: s.config.Stripes, Logger: s.log,
		SessionTimeout: s.config.SessionTimeout, HeartbeatInterval: s.config.SessionTimeout / 12,
		Assigned: s.progress.assigned,
	}, s.run)
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

// maxSkew is how far the clocks may differ: deadlines are set by ours, and kept
// by ClickHouse's.
const maxSkew = 30 * time.Second

// check waits for ClickHouse, and looks at what the protocol rests on.
func (s *Sink) check(ctx context.Context) error {
	for {
		version, err := s.applied(ctx)
		switch {
		case err == nil && version > table.Version():
			return &table.NewerSchemaError{Found: version, Known: table.Version()}
		case err == nil:
			var skew time.Duration
			if skew, err = s.tables.Skew(ctx); err == nil && skew.Abs() > maxSkew {
				err = fmt.Errorf("ClickHouse's clock differs from ours by %s, at most %s are safe: set the clocks", skew.Round(time.Second), maxSkew)
			}
			if err == nil {
				s.reach.Note(nil)
				return nil
			}
		}
		s.waitLog(kafka.Partition{}, err)
		if err := s.pause(ctx); err != nil {
			return err
		}
	}
}

const (
	probeEvery   = 2 * time.Second
	probeTimeout = 5 * time.Second // a ClickHouse that hangs is away, too
)

// newWatch asks for the tables and not only for an answer: they may be gone.
func (s *Sink) newWatch() *reach.Watch {
	return &reach.Watch{
		Probe: func(ctx context.Context) error {
			_, err := s.applied(ctx)
			return err
		},
		Timeout: probeTimeout, Every: probeEvery, Again: min(probeEvery, s.config.RetryInterval),
		Changed: func(err error) {
			if err != nil {
				s.log.Warn("ClickHouse is away: rows wait in the log until it is back", "error", err)
			} else {
				s.log.Info("ClickHouse is back")
			}
		},
	}
}

// applied gives the version of the tables; one that is too old is an error, and
// tables that are gone have version 0.
func (s *Sink) applied(ctx context.Context) (int, error) {
	version, err := s.tables.Applied(ctx)
	if err == nil && version < table.Version() {
		err = fmt.Errorf("the tables have version %d, this program needs %d: run `assent migrate`", version, table.Version())
	}
	return version, err
}

// pause waits before ClickHouse is asked again.
func (s *Sink) pause(ctx context.Context) error {
	timer := time.NewTimer(s.config.RetryInterval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// waitLogEvery bounds how often a ClickHouse that is away is logged.
const waitLogEvery = 10 * time.Second

// waitLog says that ClickHouse is waited for; not more often than is of use.
func (s *Sink) waitLog(p kafka.Partition, err error) {
	last, now := s.lastWait.Load(), time.Now().UnixNano()
	if now-last < int64(waitLogEvery) || !s.lastWait.CompareAndSwap(last, now) {
		return
	}
	s.log.Warn("the history waits for ClickHouse and tries again; nothing is skipped", "partition", p.String(), "error", err)
}

// Ready is nil when ClickHouse answers, its tables were of this version at the
// start, and each claimed partition is written up to the end that its log had
// when it was claimed. It asks nobody.
func (s *Sink) Ready() error {
	switch known, err := s.reach.Found(); {
	case !known:
		return errors.New("ClickHouse has not answered, or its tables are not of this version")
	case err != nil:
		return fmt.Errorf("ClickHouse is away: %w", err)
	}
	return s.progress.waitFor()
}

// progress tracks which claimed partitions are caught up.
type progress struct {
	lag lagGauge

	mu       sync.Mutex
	joined   bool                     // the group gave us an assignment
	expected int                      // stripes of it
	claimed  int                      // of them, those whose takeover is done
	parts    map[kafka.Partition]bool // caught up
}

// assigned notes what a generation gave this process; none is fine: others
// write those partitions.
func (p *progress) assigned(stripes []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.joined, p.expected, p.claimed = true, len(stripes), 0
}

// took notes that a stripe's takeover is done.
func (p *progress) took() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claimed++
}

type lagGauge interface {
	set(p kafka.Partition, records int64)
}

func (p *progress) moved(part kafka.Partition, next, end kafka.NextOffset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parts[part] = p.parts[part] || next >= end
	p.lag.set(part, max(0, int64(end-next)))
}

func (p *progress) release(parts []kafka.Partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range parts {
		delete(p.parts, part)
	}
}

func (p *progress) waitFor() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.joined || p.claimed < p.expected {
		return errors.New("the group is not joined, or a claimed stripe is not taken over yet")
	}
	for part, caughtUp := range p.parts {
		if !caughtUp {
			return fmt.Errorf("%s is not written up to the end seen at start", part)
		}
	}
	return nil
}
