package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/registry"
)

// Dispatcher runs one lane for each downstream that is told by webhook.
type Dispatcher struct {
	config  Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	records recordLog
	reload  chan struct{}

	mu    sync.Mutex
	lanes map[laneID]*running
}

// recordLog writes outcomes and dead letters; Produce returns when they are
// acknowledged by all in-sync replicas.
type recordLog interface {
	Produce(ctx context.Context, records ...kafka.Record) ([]kafka.Position, error)
	Close() error
}

type laneID struct {
	tenant consent.Tenant
	name   string
}

// running is a lane that was started.
type running struct {
	lane *lane
	stop context.CancelFunc
	done chan struct{}
}

// New makes a Dispatcher. It does no I/O.
func New(config Config, deps Deps) (*Dispatcher, error) {
	config.ensureDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	if deps.Kafka == nil || deps.Registry == nil || deps.Secrets == nil {
		return nil, errors.New("fanout: needs a Kafka client, a registry and a way to resolve secrets")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("fanout: %w", err)
	}
	return &Dispatcher{
		config:  config,
		deps:    deps,
		log:     deps.Logger,
		metrics: m,
		records: deps.Kafka.NewProducer(kafka.ProducerOptions{}),
		reload:  make(chan struct{}, 1),
		lanes:   map[laneID]*running{},
	}, nil
}

// Reload makes Run compare its lanes with the registry in force: lanes of new
// downstreams start, those of removed ones stop, changed ones start anew.
func (d *Dispatcher) Reload() {
	select {
	case d.reload <- struct{}{}:
	default:
	}
}

// Run runs the lanes until ctx ends; then it lets requests in flight finish for
// a moment, commits, and returns. Call it once.
func (d *Dispatcher) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	d.align(ctx, failed)
	var err error
	for stopping := false; !stopping; {
		select {
		case <-ctx.Done():
			stopping = true
		case <-d.reload:
			d.align(ctx, failed)
		case err = <-failed:
			stopping = true
		}
	}
	d.stopAll()
	return errors.Join(err, d.records.Close())
}

// align starts and stops lanes so that they are those of the registry.
func (d *Dispatcher) align(ctx context.Context, failed chan<- error) {
	reg := d.deps.Registry.Current()
	wanted := map[laneID]*registry.Downstream{}
	for _, w := range reg.Downstreams() {
		if w.Webhook == nil {
			d.log.Warn("downstream is declared, but this version tells by webhook only: it hears nothing", "tenant", w.Tenant, "downstream", w.Name)
			continue
		}
		wanted[laneID{w.Tenant, w.Name}] = w
	}
	d.mu.Lock()
	var stopped []*running
	for id, r := range d.lanes {
		if w := wanted[id]; w == nil || !reflect.DeepEqual(w, r.lane.downstream) {
			r.stop()
			stopped = append(stopped, r)
			delete(d.lanes, id)
		}
	}
	d.mu.Unlock()
	for _, r := range stopped { // a lane's group has one member per process
		<-r.done
		d.metrics.forget(r.lane.downstream)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, w := range wanted {
		if d.lanes[id] == nil {
			d.lanes[id] = d.start(ctx, w, failed)
		}
	}
}

func (d *Dispatcher) start(ctx context.Context, w *registry.Downstream, failed chan<- error) *running {
	ctx, stop := context.WithCancel(ctx)
	r := &running{lane: d.newLane(w), stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		defer stop()
		if err := r.lane.run(ctx); err != nil {
			select {
			case failed <- fmt.Errorf("downstream %s: %w", w.Name, err):
			default:
			}
		}
	}()
	return r
}

func (d *Dispatcher) stopAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.lanes {
		r.stop()
	}
	for id, r := range d.lanes {
		<-r.done
		delete(d.lanes, id)
	}
}

// Ready is nil when each lane has joined its group and committed where it
// starts, so that no change is missed. It never depends on a downstream.
func (d *Dispatcher) Ready() error {
	reg := d.deps.Registry.Current()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range reg.Downstreams() {
		if w.Webhook == nil {
			continue
		}
		r := d.lanes[laneID{w.Tenant, w.Name}]
		if r == nil || !r.lane.started.Load() {
			return fmt.Errorf("downstream %s has not committed its start", w.Name)
		}
	}
	return nil
}
