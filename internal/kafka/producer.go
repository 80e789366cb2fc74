package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/semaphore"

	"github.com/assent-dev/assent/internal/kafka/recordbatch"
)

// ProducerOptions bound a producer.
type ProducerOptions struct {
	// MaxBatchBytes bounds one batch, and so one record. The topic's max.message.bytes
	// must allow it. Default: 1,000,000.
	MaxBatchBytes int
	// MaxBufferedBytes bounds the records of all callers that are not answered yet.
	// Further callers wait. Default: 64 MiB.
	MaxBufferedBytes int
	// DeliveryTimeout bounds how long a record waits behind others of its partition, and
	// then how long its batch is tried. Default: 30s.
	DeliveryTimeout time.Duration
	// CloseTimeout is how long Close waits for what is on its way. Default: 5s.
	CloseTimeout time.Duration
}

func (o *ProducerOptions) ensureDefaults() {
	if o.MaxBatchBytes <= 0 {
		o.MaxBatchBytes = 1_000_000
	}
	if o.MaxBufferedBytes <= 0 {
		o.MaxBufferedBytes = 64 << 20
	}
	if o.DeliveryTimeout <= 0 {
		o.DeliveryTimeout = 30 * time.Second
	}
	if o.CloseTimeout <= 0 {
		o.CloseTimeout = 5 * time.Second
	}
}

// Outcome says what became of one record.
type Outcome int

const (
	// NotWritten: the record is not in the log and never will be.
	NotWritten Outcome = iota
	// Written: all in-sync replicas have it.
	Written
	// Unknown: it may be in the log, or may still get there.
	Unknown
)

// RecordResult is the outcome of one record of a Produce.
type RecordResult struct {
	Outcome  Outcome
	Position Position // if Written
	Err      error    // if not
}

// ProduceError tells for each record of a Produce, in the call's order, what became of
// it. A record may be Written though an earlier one of its partition was not: repeat
// the call as a whole where the order matters.
type ProduceError struct{ Results []RecordResult }

// Error counts the outcomes and gives the first cause.
func (e *ProduceError) Error() string {
	var counts [3]int
	var first error
	for _, r := range e.Results {
		counts[r.Outcome]++
		if first == nil {
			first = r.Err
		}
	}
	return fmt.Sprintf("produce: %d of %d records written, %d not, %d unknown: %v", counts[Written], len(e.Results), counts[NotWritten], counts[Unknown], first)
}

// Unwrap returns the causes, each once.
func (e *ProduceError) Unwrap() []error {
	var causes []error
	var last error
	for _, r := range e.Results {
		if r.Err != nil && r.Err != last { //nolint:errorlint // the same value, not the same kind
			causes = append(causes, r.Err)
			last = r.Err
		}
	}
	return causes
}

// Producer writes records idempotently, each acknowledged by all in-sync replicas.
// For concurrent use: calls that come while a batch of their partition is on its way
// share the next one.
type Producer struct {
	client  *Client
	options ProducerOptions
	room    *semaphore.Weighted // bytes of MaxBufferedBytes

	ctx    context.Context // ends when Close gives up waiting
	cancel context.CancelFunc

	mu      sync.Mutex
	lanes   map[Partition]*lane
	sender  *senderID // nil = ask for a new one
	closed  bool
	running sync.WaitGroup      // lane goroutines
	asking  *semaphore.Weighted // one InitProducerID at a time; who waits can give up
}

// senderID is one producer id of the broker's. A lane that lost an answer for good
// retires it: the late twin of that batch must not meet its sequence again.
type senderID struct {
	id    int64
	epoch int16
}

// NewProducer returns a producer. It does no I/O; Close it before the client.
func (c *Client) NewProducer(options ProducerOptions) *Producer {
	options.ensureDefaults()
	p := &Producer{
		client:  c,
		options: options,
		room:    semaphore.NewWeighted(int64(options.MaxBufferedBytes)),
		lanes:   make(map[Partition]*lane),
		asking:  semaphore.NewWeighted(1),
	}
	p.ctx, p.cancel = context.WithCancel(c.ctx)
	return p
}

// Produce writes records, each to the partition of its key, and returns their positions
// in the order given once all in-sync replicas have all of them. Records of one call
// for one partition keep their order. Keys, values and headers must not change
// until it returns. When anything failed the error is a *ProduceError.
func (p *Producer) Produce(ctx context.Context, records ...Record) ([]Position, error) {
	if len(records) == 0 {
		return nil, nil
	}
	call := newCall(records)
	if err := p.prepare(ctx, call); err != nil {
		return nil, call.refuse(err)
	}
	bytes := min(call.bytes, int64(p.options.MaxBufferedBytes))
	if err := p.room.Acquire(ctx, bytes); err != nil {
		return nil, call.refuse(fmt.Errorf("%w: %w", ErrBusy, err))
	}
	defer p.room.Release(bytes)
	if err := p.enqueue(call); err != nil {
		return nil, call.refuse(err)
	}
	select {
	case <-call.done:
	case <-ctx.Done():
		// What waits is taken back. What is in a batch already stays, its outcome unknown.
		for _, l := range call.touched {
			l.withdraw(call, ctx.Err())
		}
	}
	return call.finish(ctx)
}

// prepare finds the partition of each record.
func (p *Producer) prepare(ctx context.Context, call *call) error {
	now := time.Now()
	var topic string
	var count int
	for i := range call.records {
		r := &call.records[i]
		size := recordbatch.MaxRecordBytes(r.Key, r.Value, r.Headers)
		if size+recordbatch.HeaderBytes > p.options.MaxBatchBytes {
			return fmt.Errorf("record %d for %s: %w: %d bytes, batches take %d", i, r.Topic, ErrTooLarge, size, p.options.MaxBatchBytes)
		}
		if i == 0 || r.Topic != topic {
			var err error
			if count, err = p.client.PartitionCount(ctx, r.Topic); err != nil {
				return err
			}
			if count == 0 {
				return fmt.Errorf("topic %s: %w", r.Topic, ErrUnknownTopic)
			}
			topic = r.Topic
		}
		call.entries[i] = entry{
			call:      call,
			index:     i,
			partition: Partition{Topic: r.Topic, Index: PartitionFor(r.partitioned(), count)},
			size:      size,
			deadline:  now.Add(p.options.DeliveryTimeout),
		}
		call.bytes += int64(size)
	}
	return nil
}

// enqueue hands a call's records to their lanes, and starts those that sleep.
func (p *Producer) enqueue(call *call) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return fmt.Errorf("producer: %w", ErrClosed)
	}
	p.running.Add(1) // Close waits for the lanes that are started below
	defer p.running.Done()
	for i := range call.entries {
		e := &call.entries[i]
		if e.lane = p.lanes[e.partition]; e.lane == nil {
			e.lane = &lane{producer: p, partition: e.partition}
			p.lanes[e.partition] = e.lane
		}
	}
	p.mu.Unlock()

	var touched []*lane
	for i := range call.entries {
		e := &call.entries[i]
		e.lane.mu.Lock()
		e.lane.queue = append(e.lane.queue, e)
		e.lane.mu.Unlock()
		if !slices.Contains(touched, e.lane) {
			touched = append(touched, e.lane)
		}
	}
	for _, l := range touched { // only now: the call's records share a batch
		l.mu.Lock()
		if !l.running && len(l.queue) > 0 {
			l.running = true
			p.running.Go(l.run)
		}
		l.mu.Unlock()
	}
	call.touched = touched
	return nil
}

// acquireSender returns the current producer id, asking the broker for one if need be.
func (p *Producer) acquireSender(ctx context.Context) (*senderID, error) {
	if err := p.asking.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("get a producer id: %w", err)
	}
	defer p.asking.Release(1)
	p.mu.Lock()
	sender := p.sender
	p.mu.Unlock()
	if sender != nil {
		return sender, nil
	}
	err := p.client.persist(ctx, "get a producer id", func(ctx context.Context) error {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.ProducerID, req.ProducerEpoch = -1, -1 // a fresh one: nothing of the old is to be continued
		resp := kmsg.NewPtrInitProducerIDResponse()
		if err := p.client.send(ctx, anyBroker, 0, req, resp); err != nil {
			return err
		}
		sender = &senderID{id: resp.ProducerID, epoch: resp.ProducerEpoch}
		return codeError(resp.ErrorCode)
	})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.sender = sender
	p.mu.Unlock()
	return sender, nil
}

// retire makes the next batches use a new producer id.
func (p *Producer) retire(sender *senderID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sender == sender {
		p.sender = nil
	}
}

// Close refuses further calls, waits up to CloseTimeout for those on their way, and then
// ends the rest with outcome Unknown. Twice is fine.
func (p *Producer) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	flushed := make(chan struct{})
	go func() {
		p.running.Wait()
		close(flushed)
	}()
	timer := time.NewTimer(p.options.CloseTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-flushed:
	case <-timer.C:
		err = errors.New("close producer: records were still on their way")
	}
	p.cancel()
	<-flushed
	return err
}
