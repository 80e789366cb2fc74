package processor

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

// Processor is the fold role. Run folds; the other methods may be called from any
// goroutine, before, during and after.
type Processor struct {
	config     Config
	client     *kafka.Client
	metrics    *metrics
	owned      *owned
	partitions atomic.Int64 // of consent.events; 0 = not known yet
}

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
// finishes the batch in hand, leaves the group and returns nil. An error means that
// going on is of no use: authorization, or a broker that is too old.
func (p *Processor) Run(ctx context.Context) error {
	producer := p.client.NewProducer(kafka.ProducerOptions{
		MaxBatchBytes:   maxBatchBytes,
		DeliveryTimeout: p.config.SessionTimeout, // the claim is lost by then
		CloseTimeout:    p.config.FinishTimeout,
	})
	err := p.client.RunGroup(ctx, kafka.GroupOptions{
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
	if err != nil {
		err = fmt.Errorf("processor: %w", err)
	}
	// Nothing is on its way: the stripes waited for what they wrote.
	if closeErr := producer.Close(); closeErr != nil {
		p.config.Logger.Warn("the processor's producer did not close in time", "error", closeErr)
	}
	return err
}

// Ready tells what is missing until every claimed partition is restored, and folded
// to the end that its log had when the claim began; nil then. It fails too while a
// partition is stopped by an alarm, and while no partition is claimed: a
// processor that stands by can answer for nobody.
func (p *Processor) Ready() error {
	return p.owned.waitFor(p.config.heartbeatLimit())
}

// State gives what is folded of a subject, nil when nothing is on record. ok is
// false when this process cannot know: it does not own the subject's partition, is
// not ready with it, or its last heartbeat is so old that another may own it. The
// State is never changed; ask [Processor.Owns] again once the answer is made of it.
func (p *Processor) State(t consent.Tenant, s consent.Subject, test bool) (state *consent.State, ok bool) {
	table := p.table(t, s)
	if table == nil {
		return nil, false
	}
	return table.State(t, s, test), true
}

// Owns reports whether this process may answer for a subject, now.
func (p *Processor) Owns(t consent.Tenant, s consent.Subject) bool { return p.table(t, s) != nil }

func (p *Processor) table(t consent.Tenant, s consent.Subject) *Table {
	count := int(p.partitions.Load())
	if count == 0 {
		return nil
	}
	part, _ := p.owned.find(kafka.PartitionFor(consent.Key(t, s), count))
	if part == nil {
		return nil
	}
	return part.answers(p.config.heartbeatLimit())
}

// WaitFolded waits until the event at an offset of consent.events is folded, and
// its State is what decisions see. Its error is that of ctx: a partition that this
// process does not own is waited for too, since it may get it.
func (p *Processor) WaitFolded(ctx context.Context, partition int32, offset int64) error {
	return p.owned.waitFolded(ctx, partition, kafka.LastOffset(offset))
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
			return 0, fmt.Errorf("topic %s has %d partitions and %s has %d: they must be equal", names.Events(), count, topic, other)
		}
	}
	if known := p.partitions.Swap(int64(count)); known != 0 && known != int64(count) {
		p.partitions.Store(known)
		return 0, fmt.Errorf("topic %s has %d partitions, and had %d: subjects would begin anew in other partitions", names.Events(), count, known)
	}
	return count, nil
}
