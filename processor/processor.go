package processor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/decision"
	"github.com/assent-dev/assent/processor/owner"
	"github.com/assent-dev/assent/processor/store"
)

// Processor is the fold role. Run folds; the other methods may be called from any
// goroutine, before, during and after.
type Processor struct {
	config     Config
	client     *kafka.Client
	metrics    *metrics
	owned      *owned
	store      *store.Store            // open while Run runs
	fail       context.CancelCauseFunc // ends Run with an error
	partitions atomic.Int64            // of consent.events; 0 = not known yet
}

var _ owner.Local = (*Processor)(nil)

// New checks the configuration and reports every fault in it. It does no I/O.
func New(config Config, client *kafka.Client) (*Processor, error) {
	config.ensureDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, err
	}
	return &Processor{config: config, client: client, metrics: m, owned: newOwned()}, nil
}

// Run is a member of the group, and folds what it claims, until ctx ends; then it
// finishes the transaction in hand, leaves the group and returns nil. An error means
// that going on is of no use: authorization, a broker that is too old, a local store that
// cannot be opened, or partitions that were added.
func (p *Processor) Run(ctx context.Context) (err error) {
	if p.store, err = store.Open(store.Options{Dir: p.config.StateDir, CacheBytes: p.config.StoreCacheBytes, Logger: p.config.Logger}); err != nil {
		return fmt.Errorf("processor: %w", err)
	}
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p.fail = fail
	var learning sync.WaitGroup
	learning.Go(func() { p.watchPartitions(running) })
	producer := p.client.NewProducer(kafka.ProducerOptions{
		MaxBatchBytes:   maxBatchBytes,
		DeliveryTimeout: p.config.SessionTimeout, // the claim is lost by then
		CloseTimeout:    p.config.FinishTimeout,
	})
	err = p.client.RunGroup(running, kafka.GroupOptions{
		Group:             p.config.Names.ProcessorGroup(),
		Topics:            []string{p.config.Names.Events()},
		Stripes:           p.config.Stripes,
		SessionTimeout:    p.config.SessionTimeout,
		HeartbeatInterval: p.config.SessionTimeout / 12,
		Logger:            p.config.Logger,
		Assigned:          p.owned.assigned,
	}, func(ctx context.Context, claim *kafka.Claim) error {
		return p.newStripe(claim, producer).run(ctx)
	})
	if ctx.Err() == nil && running.Err() != nil {
		err = errors.Join(err, context.Cause(running))
	}
	fail(nil)
	learning.Wait()
	if err != nil {
		err = fmt.Errorf("processor: %w", err)
	}
	// Nothing is on its way: the stripes waited for what they wrote.
	if closeErr := producer.Close(); closeErr != nil {
		p.config.Logger.Warn("the processor's producer did not close in time", "error", closeErr)
	}
	if closeErr := p.store.Close(); closeErr != nil {
		p.config.Logger.Warn("the local store did not close well; the next start may read more of the changelog", "error", closeErr)
	}
	return err
}

// Ready tells what is missing until every claimed partition is restored, and folded
// to the end that its log had at the takeover; nil then, and for a processor that is
// in the group and was given nothing. It fails too while a partition is stopped by an
// alarm.
func (p *Processor) Ready() error {
	return p.owned.waitFor(p.config.heartbeatLimit())
}

// State gives what is folded of a subject. ok is false when this process cannot
// know: it does not own the subject's partition, is not ready with it, or its last
// heartbeat is so old that another may own it. Ask Valid once the answer is made.
func (p *Processor) State(_ context.Context, id consent.SubjectID) (known decision.Folded, ok bool) {
	part := p.partition(id)
	if part == nil {
		return known, false
	}
	limit := p.config.heartbeatLimit()
	tenure := part.takeovers()
	table := part.answers(limit)
	if table == nil {
		return known, false
	}
	asOf := p.config.now()
	state, err := table.State(id)
	if err != nil {
		if !errors.Is(err, errTableClosed) {
			p.config.Logger.Error("a state cannot be read; the decision is unavailable", "partition", part.index, "error", err)
		}
		return known, false
	}
	valid := func() bool {
		return part.answers(limit) == table && part.takeovers() == tenure && p.owned.has(part)
	}
	return decision.Folded{State: state, AsOf: asOf, Valid: valid}, true
}

// Partition gives the partition of a subject's records; ok is false until the number
// of partitions is known.
func (p *Processor) Partition(t consent.Tenant, s consent.Subject) (index int32, ok bool) {
	count := int(p.partitions.Load())
	if count == 0 {
		return 0, false
	}
	return kafka.PartitionFor(consent.Key(t, s), count), true
}

func (p *Processor) partition(id consent.SubjectID) *partition {
	index, ok := p.Partition(id.Tenant, id.Subject)
	if !ok {
		return nil
	}
	part, _ := p.owned.find(index)
	return part
}

// WaitFolded waits until the event at an offset of consent.events is folded, and
// its State is what decisions see. Its error is that of ctx, or owner.ErrNotOwner
// where this process does not own the partition (any more).
func (p *Processor) WaitFolded(ctx context.Context, partition int32, offset int64) error {
	return p.owned.waitFolded(ctx, partition, kafka.LastOffset(offset))
}

var errPartitionCount = errors.New("the numbers of partitions do not fit")

// watchPartitions counts the partitions as soon as the broker can be asked: a processor
// that is given no stripe sends questions on all the same, by the partitions of their
// subjects. From then on it looks whether partitions were added: nobody reads those, and
// where writers know of them, what is said of a subject no longer comes where its State
// is. That ends the processor.
func (p *Processor) watchPartitions(ctx context.Context) {
	for pause := 50 * time.Millisecond; p.partitions.Load() == 0; pause = min(2*pause, 5*time.Second) {
		if _, err := p.countPartitions(ctx); err != nil && !wait(ctx, pause) { // the stripes tell what is wrong
			return
		}
	}
	known, topic := int(p.partitions.Load()), p.config.Names.Events()
	for wait(ctx, p.config.recount) {
		if count, err := p.client.CountPartitions(ctx, topic); err == nil && count != known {
			p.fail(fmt.Errorf("%w: topic %s has %d partitions, and had %d: what is written to the others is not read, and subjects would begin anew there; write it all to a topic of the old number", errPartitionCount, topic, count, known))
			return
		}
	}
}

// countPartitions gives the number of partitions of consent.events. Those of states
// and changes are the same, since one key's partition is one everywhere; and they stay
// the same, since the fold of a key would begin anew in another partition.
func (p *Processor) countPartitions(ctx context.Context) (int, error) {
	names := p.config.Names
	count, err := p.client.PartitionCount(ctx, names.Events())
	if err != nil {
		return 0, err
	}
	for _, topic := range []string{names.State(), names.Changes()} {
		other, err := p.client.PartitionCount(ctx, topic)
		if err != nil {
			return 0, err
		}
		if other != count {
			return 0, fmt.Errorf("%w: topic %s has %d partitions and %s has %d: they must be equal", errPartitionCount, names.Events(), count, topic, other)
		}
	}
	if known := p.partitions.Swap(int64(count)); known != 0 && known != int64(count) {
		p.partitions.Store(known)
		return 0, fmt.Errorf("%w: topic %s has %d partitions, and had %d: subjects would begin anew in other partitions", errPartitionCount, names.Events(), count, known)
	}
	return count, nil
}
