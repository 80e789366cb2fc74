package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/registry"
)

// lane tells one downstream. What its claims share is here: the endpoint's
// client, its gate, slots and rate.
type lane struct {
	downstream *registry.Downstream
	config     Config
	kafka      *kafka.Client
	registry   *registry.Store
	records    recordLog
	client     *http.Client
	keys       *keyring
	gate       *gate
	slots      chan struct{} // one taken per request in flight
	limit      *rate.Limiter
	schedule   schedule
	log        *slog.Logger
	metrics    *laneMetrics
	backlog    *backlog
	now        func() time.Time

	opening atomic.Int32 // stripes of the generation whose work has not begun
	started atomic.Bool
}

func (d *Dispatcher) newLane(w *registry.Downstream) *lane {
	limit := rate.NewLimiter(rate.Inf, 0)
	if w.Webhook.RateLimit > 0 {
		limit = rate.NewLimiter(rate.Limit(w.Webhook.RateLimit), max(1, int(w.Webhook.RateLimit)))
	}
	log, metrics := d.log.With("tenant", w.Tenant, "downstream", w.Name), d.metrics.lane(w)
	return &lane{
		downstream: w,
		config:     d.config,
		kafka:      d.deps.Kafka,
		registry:   d.deps.Registry,
		records:    d.records,
		client:     newClient(w.Webhook.Concurrency, w.Webhook.Internal),
		keys:       &keyring{refs: w.Webhook.Secrets, resolve: d.deps.Secrets},
		gate:       newGate(d.config.ProbePaused, d.config.ProbeFirst, d.config.ProbeMost, d.config.BreakAfter),
		slots:      make(chan struct{}, w.Webhook.Concurrency),
		limit:      limit,
		schedule:   schedule{backoff: d.config.Backoff, jitter: randomJitter},
		log:        log,
		metrics:    metrics,
		backlog:    &backlog{metrics: metrics, log: log},
		now:        d.deps.Now,
	}
}

// run is a member of the downstream's group until ctx ends.
func (l *lane) run(ctx context.Context) error {
	defer l.client.CloseIdleConnections()
	return l.kafka.RunGroup(ctx, kafka.GroupOptions{
		Group:   l.config.Names.FanoutGroup(l.downstream.Tenant, l.downstream.Name),
		Topics:  []string{l.config.Names.Changes()},
		Stripes: l.config.Stripes,
		Logger:  l.log,
		Assigned: func(stripes []int) {
			l.opening.Store(int32(len(stripes)))
			if len(stripes) == 0 { // others tell this downstream; nothing is missing here
				l.started.Store(true)
			}
		},
	}, l.work)
}

// work tells the changes of one claim until its generation ends.
func (l *lane) work(ctx context.Context, claim *kafka.Claim) error {
	commits, err := l.positions(ctx, claim)
	if err != nil {
		return err
	}
	s, err := l.newSession(ctx, claim, commits)
	if err != nil {
		return err
	}
	defer s.close()
	if l.opening.Add(-1) == 0 {
		l.started.Store(true)
	}
	return s.loop(ctx)
}

// positions gives where each partition goes on. For a new downstream it decides
// the start and commits it at once: what comes later must not be missed,
// whatever happens next.
func (l *lane) positions(ctx context.Context, claim *kafka.Claim) (map[kafka.Partition]kafka.Commit, error) {
	commits, err := claim.Committed(ctx)
	if err != nil {
		return nil, err
	}
	var fresh []kafka.Partition
	for _, p := range claim.Partitions() {
		if _, ok := commits[p]; !ok {
			fresh = append(fresh, p)
		}
	}
	if len(fresh) == 0 {
		return commits, nil
	}
	start := kafka.Earliest
	if l.downstream.Start == registry.StartNow {
		start = kafka.Latest
	}
	offsets, err := l.kafka.Offsets(ctx, fresh, start)
	if err != nil {
		return nil, err
	}
	if start == kafka.Latest { // told before it is done: a crash in between leaves no gap without a word
		if err := l.noteSkipped(ctx, offsets); err != nil {
			return nil, err
		}
	}
	first := map[kafka.Partition]kafka.Commit{}
	for p, next := range offsets {
		first[p] = kafka.Commit{Next: next}
		commits[p] = first[p]
	}
	if err := claim.Commit(ctx, first); err != nil {
		return nil, fmt.Errorf("commit the start: %w", err)
	}
	return commits, nil
}

// noteSkipped tells what a start at now leaves out. A group whose positions brokers have
// forgotten looks like that of a new downstream: only a person can tell which it is.
func (l *lane) noteSkipped(ctx context.Context, starts map[kafka.Partition]kafka.NextOffset) error {
	first, err := l.kafka.Offsets(ctx, slices.Collect(maps.Keys(starts)), kafka.Earliest)
	if err != nil {
		return err
	}
	var skipped []string
	for p, next := range starts {
		if first[p] < next {
			skipped = append(skipped, fmt.Sprintf("%s@%d-%d", p, first[p], next-1))
		}
	}
	if len(skipped) == 0 {
		return nil
	}
	slices.Sort(skipped)
	l.log.Warn("downstream has no position and starts now: it is not told of the changes before. That is right for a new one; one that was told before has lost its positions, and misses what came since: see the runbook", "not_told", skipped)
	return nil
}

// webhookID is stable over retries, and has no dot: one stands in what is signed.
func (l *lane) webhookID(c *consent.Change) string {
	return c.ID.String() + "_" + l.downstream.Name
}

// noteGate tells when the lane pauses, breaks or resumes.
func (l *lane) noteGate() {
	state, reason := l.gate.status()
	l.metrics.state.Set(float64(state))
	switch state {
	case gateOpen:
		l.log.Info("downstream answers again; its lane goes on")
	case gatePaused:
		l.log.Error("downstream's endpoint is wrong; its lane is paused and probed, nothing is lost: mend the endpoint, its credentials or its URL", "reason", reason)
	case gateBroken:
		l.log.Warn("downstream is away; its lane waits and probes, nothing is lost", "reason", reason)
	}
}

// isStop reports whether an error only says that the work was asked to stop.
func isStop(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, kafka.ErrFenced)
}
