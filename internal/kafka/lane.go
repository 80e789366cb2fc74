package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/kafka/recordbatch"
)

// call is one Produce on its way.
type call struct {
	records []Record
	entries []entry
	touched []*lane
	bytes   int64
	done    chan struct{} // closed when every record has its result

	mu       sync.Mutex
	results  []RecordResult
	open     int  // results that are missing
	gone     bool // the caller took the results as they were
	failures int
}

// entry is one record of a call, waiting in a lane.
type entry struct {
	call      *call
	index     int
	partition Partition
	lane      *lane
	size      int // upper bound of its encoded bytes
	deadline  time.Time
	settled   bool // guarded by call.mu
}

func newCall(records []Record) *call {
	return &call{
		records: records,
		entries: make([]entry, len(records)),
		done:    make(chan struct{}),
		results: make([]RecordResult, len(records)),
		open:    len(records),
	}
}

// settle gives a record its result. The first one counts.
func (c *call) settle(e *entry, r RecordResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.settled || c.gone {
		return
	}
	e.settled = true
	c.results[e.index] = r
	if r.Outcome != Written {
		c.failures++
	}
	if c.open--; c.open == 0 {
		close(c.done)
	}
}

// refuse is the error of a call none of whose records was handed to a lane.
func (c *call) refuse(err error) error {
	for i := range c.results {
		c.results[i] = RecordResult{Outcome: NotWritten, Err: err}
	}
	return &ProduceError{Results: c.results}
}

// finish takes the results as they are. What has none is unknown.
func (c *call) finish(ctx context.Context) ([]Position, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	if c.open > 0 {
		err := fmt.Errorf("%w: %w", ErrIndefinite, context.Cause(ctx))
		for i := range c.entries {
			if !c.entries[i].settled {
				c.results[c.entries[i].index] = RecordResult{Outcome: Unknown, Err: err}
				c.failures++
			}
		}
	}
	if c.failures > 0 {
		return nil, &ProduceError{Results: c.results}
	}
	positions := make([]Position, len(c.results))
	for i := range c.results {
		positions[i] = c.results[i].Position
	}
	return positions, nil
}

// lane writes the batches of one partition, one at a time, in a goroutine that lives
// as long as there is something to write. Everything that waits while a batch is on its
// way goes into the next: nobody waits for a clock.
type lane struct {
	producer  *Producer
	partition Partition

	mu      sync.Mutex
	queue   []*entry
	running bool

	// Of the goroutine alone.
	sender   *senderID
	sequence int32 // of the next batch under sender
	writer   recordbatch.Writer
	buf      []byte
}

func (l *lane) withdraw(call *call, cause error) {
	l.mu.Lock()
	kept := l.queue[:0]
	var taken []*entry
	for _, e := range l.queue {
		if e.call == call {
			taken = append(taken, e)
		} else {
			kept = append(kept, e)
		}
	}
	clear(l.queue[len(kept):])
	l.queue = kept
	l.mu.Unlock()
	for _, e := range taken {
		call.settle(e, RecordResult{Outcome: NotWritten, Err: cause})
	}
}

func (l *lane) run() {
	for {
		batch, ok := l.next()
		if !ok {
			return
		}
		if len(batch) > 0 {
			l.write(batch)
		}
	}
}

// next takes as many entries as fit into one batch and encodes them. Under the lock,
// so that a caller who gives up knows which of its records are still its own. A record
// without a time gets that of its batch, so that times do not run against the log. False
// when nothing waits: the goroutine ends.
func (l *lane) next() (batch []*entry, ok bool) {
	var late []*entry
	defer func() {
		for _, e := range late {
			e.call.settle(e, RecordResult{Outcome: NotWritten, Err: fmt.Errorf("partition %s: not sent within the delivery time-out: %w", l.partition, context.DeadlineExceeded)})
		}
	}()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		l.running = false
		return nil, false
	}
	now := time.Now()
	l.writer.Reset(l.buf)
	size, taken := recordbatch.HeaderBytes, 0
	for _, e := range l.queue {
		if e.deadline.Before(now) {
			late = append(late, e)
			taken++
			continue
		}
		if size += e.size; size > l.producer.options.MaxBatchBytes {
			break
		}
		r := &e.call.records[e.index]
		l.writer.Add(r.millis(now), r.Key, r.Value, r.Headers)
		batch = append(batch, e)
		taken++
	}
	rest := copy(l.queue, l.queue[taken:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	return batch, true
}

// write sends a batch until its outcome is known or its time is up, and settles it.
func (l *lane) write(batch []*entry) {
	ctx, cancel := context.WithTimeout(l.producer.ctx, l.producer.options.DeliveryTimeout)
	defer cancel()
	err := ctx.Err() // closed
	if err == nil {
		err = l.adoptSender(ctx)
	}
	if err != nil {
		l.fail(batch, err, false)
		return
	}
	var pause backoff
	indefinite := false // an attempt of this batch may have been stored
	for attempt := 1; ; attempt++ {
		base, err := l.attempt(ctx)
		if err == nil {
			l.sequence = recordbatch.AdvanceSequence(l.sequence, len(batch))
			for i, e := range batch {
				e.call.settle(e, RecordResult{Outcome: Written, Position: Position{Partition: l.partition, Offset: base + LastOffset(i)}})
			}
			return
		}
		if !l.again(ctx, err, &indefinite) || pause.wait(ctx) != nil {
			l.fail(batch, err, indefinite)
			return
		}
		if attempt == 3 {
			l.producer.client.log.Warn("kafka write is repeated", "partition", l.partition.String(), "error", err)
		}
	}
}

// again decides whether the same batch is sent once more, and remembers whether the
// attempt left its outcome open.
func (l *lane) again(ctx context.Context, err error, indefinite *bool) bool {
	if sequenceLost(err) {
		l.producer.retire(l.sender)
		// Nobody can tell any more whether an earlier attempt was stored: a repeat under a new
		// id might be a second copy. Without an earlier one the new id is safe.
		return !*indefinite && l.adoptSender(ctx) == nil
	}
	switch classify(err) {
	case verdictRetry, verdictReroute:
		return ctx.Err() == nil
	case verdictIndefinite:
		*indefinite = true
		return ctx.Err() == nil
	default:
		return false
	}
}

func (l *lane) fail(batch []*entry, err error, indefinite bool) {
	result := RecordResult{Outcome: NotWritten, Err: fmt.Errorf("write to %s: %w", l.partition, err)}
	if indefinite {
		result = RecordResult{Outcome: Unknown, Err: fmt.Errorf("write to %s: %w: %w", l.partition, ErrIndefinite, err)}
		// Its sequence may be used up or not: no batch can follow under this id.
		l.producer.retire(l.sender)
	}
	for _, e := range batch {
		e.call.settle(e, result)
	}
}

// attempt sends the encoded batch once and returns the offset of its first record.
func (l *lane) attempt(ctx context.Context) (LastOffset, error) {
	c := l.producer.client
	leader, err := c.leader(ctx, l.partition)
	if err != nil {
		return 0, err
	}
	l.buf = l.writer.Finish(recordbatch.Sender{ID: l.sender.id, Epoch: l.sender.epoch, Sequence: l.sequence})
	one := parcel{partition: l.partition, batch: l.buf}
	c.produce(ctx, leader, nil, []*parcel{&one})
	return one.base, one.err
}

// adoptSender takes over the producer's current id, with sequences from 0 if it is a new
// one. Never in the middle of a batch that may have been stored under the old.
func (l *lane) adoptSender(ctx context.Context) error {
	sender, err := l.producer.acquireSender(ctx)
	if err != nil {
		return err
	}
	if l.sender != sender {
		l.sender, l.sequence = sender, 0
	}
	return nil
}
