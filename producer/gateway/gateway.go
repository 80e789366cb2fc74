package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/problem"
	"github.com/assent-dev/assent/internal/reach"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/producer/intake"
)

// Config bounds a gateway. Zero values are the defaults.
type Config struct {
	// Topics names what is read and written.
	Topics topic.Names
	// MaxInFlight bounds the requests that wait for the broker, once for those
	// that restrict and once for all others. Default: 1024 each.
	MaxInFlight int
	// MaxBatches bounds the batches (up to 16 MiB each) in memory. When they stay
	// used up, as many more are read for the protective events in them. Default: 8.
	MaxBatches int
	// ProduceTimeout is how long an event waits for the broker. Default: 10s.
	ProduceTimeout time.Duration
	// IntakeStripes is into how many shares the partitions of consent.intake are
	// split among gateways. Default: 4.
	IntakeStripes int
}

// validate fills in defaults and reports every fault.
func (c *Config) validate() error {
	var faults []error
	setting := func(name string, value *int, otherwise, most int) {
		if *value == 0 {
			*value = otherwise
		}
		if *value < 1 || *value > most {
			faults = append(faults, fmt.Errorf("%s is %d: want 1 to %d", name, *value, most))
		}
	}
	setting("max in flight", &c.MaxInFlight, 1024, 1<<20)
	setting("max batches", &c.MaxBatches, 8, 1024)
	setting("intake stripes", &c.IntakeStripes, 4, 1024)
	if c.ProduceTimeout == 0 {
		c.ProduceTimeout = 10 * time.Second
	}
	if c.ProduceTimeout < 0 {
		faults = append(faults, fmt.Errorf("produce timeout is %s: want more than 0", c.ProduceTimeout))
	}
	return errors.Join(faults...)
}

// Deps is what a gateway works with. All but Metrics, Logger and Now are
// needed.
type Deps struct {
	Kafka *kafka.Client
	// Registry gives the version in force; it is asked once per event.
	Registry func() intake.Registry
	Subjects *intake.Pseudonymiser
	Metrics  prometheus.Registerer // nil = none are kept
	Logger   *slog.Logger          // nil = none
	Now      func() time.Time      // nil = time.Now
}

// Gateway is the intake role: it takes consent events over HTTP and from
// consent.intake, and is the only writer of what subjects said to consent.events.
type Gateway struct {
	config   Config
	kafka    *kafka.Client
	registry func() intake.Registry
	intake   *intake.Intake
	log      *slog.Logger
	now      func() time.Time
	metrics  *metrics
	limits   limits
	events   eventLog
	reach    *reach.Watch // whether the broker answers
	warned   atomic.Int64 // when the log last told of an unconfirmed write, Unix seconds
}

// eventLog writes records. Produce returns when all in-sync replicas have every
// record; else a *kafka.ProduceError tells what became of each.
type eventLog interface {
	Produce(ctx context.Context, records ...kafka.Record) ([]kafka.Position, error)
	Close() error
}

const (
	// maxBatchBytes bounds what goes to the broker at once; the topics allow it.
	maxBatchBytes = 3 << 20
	// closeTimeout is how long a stop waits for a broker that is away.
	closeTimeout = 2 * time.Second
)

// New makes a gateway. It does no I/O; Run works.
func New(config Config, deps Deps) (*Gateway, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if deps.Kafka == nil || deps.Registry == nil || deps.Subjects == nil {
		return nil, errors.New("gateway: needs a Kafka client, a registry and a subject key")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	counted, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g := &Gateway{
		config:   config,
		kafka:    deps.Kafka,
		registry: deps.Registry,
		intake:   intake.New(deps.Registry, deps.Subjects),
		log:      deps.Logger,
		now:      deps.Now,
		metrics:  counted,
		limits:   newLimits(config.MaxInFlight, config.MaxBatches),
		events:   deps.Kafka.NewProducer(kafka.ProducerOptions{MaxBatchBytes: maxBatchBytes, CloseTimeout: closeTimeout}),
	}
	g.reach = g.newWatch()
	return g, nil
}

// Run reads consent.intake and watches the broker until ctx ends; then it
// flushes what is on its way and returns. Call it once, for HTTP too.
func (g *Gateway) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return g.consume(ctx) })
	work.Go(func() error { g.reach.Run(ctx); return nil })
	err := work.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if closed := g.events.Close(); closed != nil { // nobody was answered for them
		g.log.Warn("stopped while the broker was away: some events that were not answered may be missing", "error", closed)
	}
	return err
}

// Ready reports why the gateway cannot take events; nil = it can. It asks nobody.
func (g *Gateway) Ready() error {
	known, err := g.reach.Found()
	if !known {
		return errors.New("the broker has not answered yet")
	}
	return err
}

const (
	probeEvery   = 2 * time.Second
	probeAgain   = 100 * time.Millisecond // while it has not answered
	probeTimeout = 5 * time.Second
)

// newWatch asks for the broker and for the topics that the gateway works with.
func (g *Gateway) newWatch() *reach.Watch {
	return &reach.Watch{
		Probe: func(ctx context.Context) error {
			if err := g.kafka.Ping(ctx); err != nil {
				return err
			}
			for _, name := range []string{g.config.Topics.Events(), g.config.Topics.Intake(), g.config.Topics.DeadLetters()} {
				if _, err := g.kafka.PartitionCount(ctx, name); err != nil {
					return fmt.Errorf("topic %s: %w", name, err)
				}
			}
			return nil
		},
		Timeout: probeTimeout, Every: probeEvery, Again: probeAgain,
		Changed: func(err error) {
			if err != nil {
				g.log.Warn("broker is away: events are answered 503 until it is back", "error", err)
			} else {
				g.log.Info("broker is back")
			}
		},
	}
}

// Register adds the gateway's paths to mux.
func (g *Gateway) Register(mux *http.ServeMux) {
	for _, r := range []struct {
		method, path string
		handle       http.HandlerFunc
	}{
		{http.MethodPost, "/v1/events", g.postEvents},
		{http.MethodPost, "/v1/submissions", g.postSubmission},
		{http.MethodGet, "/v1/purposes", g.getPurposes},
	} {
		mux.Handle(r.method+" "+r.path, g.guard(r.path, r.handle))
		mux.HandleFunc(r.path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", r.method)
			problem.Problem{Type: "method", Status: http.StatusMethodNotAllowed, Detail: "use " + r.method}.Write(w)
		})
	}
}

// guard is around every handler: it counts, forbids caches to keep an answer,
// and turns a panic into an answer and a log line that shows where it happened,
// and nothing of what was sent.
func (g *Gateway) guard(path string, handle http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(plain http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w := &answering{ResponseWriter: plain}
		g.metrics.inFlight.Inc()
		defer func() {
			g.metrics.inFlight.Dec()
			g.metrics.latency.WithLabelValues(path).Observe(time.Since(start).Seconds())
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // the value that net/http compares
				panic(p)
			}
			g.log.Error("a handler panicked: please report it", "path", path, "kind", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			if w.begun { // cut it off, so that nobody takes it for whole
				panic(http.ErrAbortHandler)
			}
			problem.Problem{Type: "internal", Status: http.StatusInternalServerError, Detail: "a fault of ours; whether the event was recorded is not known: repeat it with the same event_id or Idempotency-Key"}.Write(w)
		}()
		w.Header().Set("Cache-Control", "no-store")
		handle(w, r)
	})
}

// answering notes that an answer has begun.
type answering struct {
	http.ResponseWriter
	begun bool
}

func (a *answering) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController through.
func (a *answering) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// received is the clock of both doors in the form of an event.
func (g *Gateway) received() consent.Instant { return consent.InstantOf(g.now()) }
