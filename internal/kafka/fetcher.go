package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/kafka/recordbatch"
)

// FetchOptions say how much a [Fetcher] takes at once, and how long it waits.
type FetchOptions struct {
	// MinBytes is what a broker waits for. Default: 1, so that a lone record comes at once.
	MinBytes int
	// MaxBytes bounds one broker's answer; a larger first batch comes whole. Default: 8 MiB.
	MaxBytes int
	// PartitionMaxBytes bounds one partition's share of it. Default: 1 MiB.
	PartitionMaxBytes int
	// MaxWait is how long Fetch waits for something to come. Default: 500ms.
	MaxWait time.Duration
	// MaxRecords bounds the messages of one Fetch. 0 = no bound.
	MaxRecords int
}

func (o *FetchOptions) ensureDefaults() {
	if o.MinBytes <= 0 {
		o.MinBytes = 1
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 8 << 20
	}
	if o.PartitionMaxBytes <= 0 {
		o.PartitionMaxBytes = 1 << 20
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 500 * time.Millisecond
	}
}

// Batch is what came of one partition: committed records in the order of their offsets.
type Batch struct {
	Partition Partition
	// Messages may be empty where only control or aborted records were passed.
	Messages []Message
	// Next is where reading goes on, behind the control and aborted records that were
	// dropped too: what to commit once the messages are done with.
	Next NextOffset
	// HighWatermark and LastStable are the ends of the log when the broker answered.
	HighWatermark NextOffset
	LastStable    NextOffset
}

// OffsetOutOfRangeError means that the log no longer has, or does not have yet, the record
// to read next. Nothing was skipped: the partition is paused until Seek.
type OffsetOutOfRangeError struct {
	Partition Partition
	Asked     NextOffset
	LogStart  NextOffset // -1 when it could not be learned
	LogEnd    NextOffset // -1 when it could not be learned
}

// Error names the partition and all three offsets.
func (e *OffsetOutOfRangeError) Error() string {
	return fmt.Sprintf("fetch %s: offset %d is out of range, the log has %d to %d: records were removed before they were read, or the log was cut", e.Partition, e.Asked, e.LogStart, e.LogEnd)
}

// CorruptBatchError means that stored bytes are not what was written. Stop and raise an
// alarm; it is no matter for a dead letter, since nobody can tell which records are
// in it. The partition is paused until Seek.
type CorruptBatchError struct {
	Position Position // of the batch's first record
	Err      error
}

// Error names the position.
func (e *CorruptBatchError) Error() string {
	return fmt.Sprintf("fetch: batch at %s: %v", e.Position, e.Err)
}

// Unwrap returns what is wrong with the batch.
func (e *CorruptBatchError) Unwrap() error { return e.Err }

// Fetcher reads partitions from given offsets on, with isolation read_committed. One
// long poll per broker is on its way for all its partitions. Not for concurrent use.
type Fetcher struct {
	client  *Client
	options FetchOptions
	readers map[Partition]*reader
	order   []*reader // asked in turn, so that none starves behind MaxBytes

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	polls  sync.WaitGroup
	done   chan *poll
	busy   map[int32]bool // leaders with a poll on its way

	ready    []readyBatch // decoded, not handed out yet
	failures []error      // met, not handed out yet
	held     [][]byte     // answers that ready and what was handed out point into
	spare    [][]byte
	messages []Message
	decoder  recordbatch.Decoder
}

// reader is one partition of a fetcher.
type reader struct {
	partition    Partition
	next         NextOffset // behind what was handed out
	paused       bool
	poll         *poll     // that asks for it now
	pause        backoff   // after failures
	notBefore    time.Time // no poll until then
	missingSince time.Time // the topic is unknown since
	failed       int       // polls in a row
	heldSince    time.Time // an open transaction holds up what lies behind next, since; zero = none
	heldTold     bool
}

// poll is one Fetch request to one broker.
type poll struct {
	leader  int32
	readers []*reader
	asked   map[Partition]NextOffset
	resp    *kmsg.FetchResponse
	buf     []byte
	err     error
}

type readyBatch struct {
	Batch
	from NextOffset
}

// NewFetcher returns a fetcher that begins at the given offsets. It does no I/O.
func (c *Client) NewFetcher(from map[Partition]NextOffset, options FetchOptions) *Fetcher {
	options.ensureDefaults()
	f := &Fetcher{
		client:  c,
		options: options,
		readers: make(map[Partition]*reader, len(from)),
		done:    make(chan *poll, len(from)+1), // never blocks: a poll has a partition of its own
		busy:    make(map[int32]bool),
	}
	f.ctx, f.cancel = context.WithCancel(c.ctx)
	byName := func(a, b Partition) int {
		if a.Topic != b.Topic {
			return strings.Compare(a.Topic, b.Topic)
		}
		return int(a.Index - b.Index)
	}
	for _, p := range slices.SortedFunc(maps.Keys(from), byName) {
		r := &reader{partition: p, next: from[p]}
		f.readers[p] = r
		f.order = append(f.order, r)
	}
	return f
}

// Fetch returns what came, at most one batch a partition and MaxRecords messages, or
// nothing once MaxWait has passed. It returns at once when ctx ends. What it returned
// before is invalid from here on.
//
// Brokers that are away, and leaders that moved, are waited for inside: Fetch then
// returns nothing. Errors are an *OffsetOutOfRangeError, a *CorruptBatchError (the
// partition is paused and the others go on with the next Fetch), ErrUnauthorized,
// ErrUnknownTopic, ErrClosed, or that of ctx.
func (f *Fetcher) Fetch(ctx context.Context) ([]Batch, error) {
	if batches := f.takeReady(); len(batches) > 0 {
		return batches, nil
	}
	f.recycle()
	timer := time.NewTimer(f.options.MaxWait)
	defer timer.Stop()
	for {
		if len(f.failures) > 0 {
			err := f.failures[0]
			f.failures = f.failures[1:]
			return nil, err
		}
		wake := f.startPolls(ctx)
		if len(f.failures) > 0 {
			continue
		}
		select {
		case p := <-f.done:
			f.receive(ctx, p)
			for len(f.done) > 0 {
				f.receive(ctx, <-f.done)
			}
			if batches := f.takeReady(); len(batches) > 0 {
				return batches, nil
			}
		case <-wake:
		case <-timer.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.ctx.Done():
			return nil, fmt.Errorf("fetch: %w", ErrClosed)
		}
	}
}

// Position returns where reading of a partition goes on, behind what was handed out.
func (f *Fetcher) Position(p Partition) NextOffset {
	if r := f.readers[p]; r != nil {
		return r.next
	}
	return -1
}

// Seek makes reading of a partition go on at an offset, and ends its pause.
func (f *Fetcher) Seek(p Partition, to NextOffset) {
	if r := f.readers[p]; r != nil {
		r.next, r.paused, r.notBefore = to, false, time.Time{}
	}
}

// Pause stops handing out a partition. Nothing is lost.
func (f *Fetcher) Pause(p Partition) {
	if r := f.readers[p]; r != nil {
		r.paused = true
	}
}

// Resume ends a pause. Records may take up to MaxWait to come again.
func (f *Fetcher) Resume(p Partition) {
	if r := f.readers[p]; r != nil {
		r.paused = false
	}
}

// Close ends the polls that are on their way, and waits for them. Twice is fine.
func (f *Fetcher) Close() error {
	f.cancel()
	f.polls.Wait()
	return nil
}

// startPolls sends a poll to each leader that has none on its way and something to be asked
// for. The channel it returns fires when a reader that failed may be asked for again.
func (f *Fetcher) startPolls(ctx context.Context) <-chan time.Time {
	// Looking up leaders must not outlast MaxWait when all brokers are away.
	lookup, cancel := context.WithTimeout(ctx, f.options.MaxWait)
	defer cancel()
	now := time.Now()
	var soonest time.Time
	byLeader := make(map[int32][]*reader)
	for _, r := range f.order {
		if r.paused || r.poll != nil {
			continue
		}
		if r.notBefore.After(now) {
			if soonest.IsZero() || r.notBefore.Before(soonest) {
				soonest = r.notBefore
			}
			continue
		}
		leader, err := f.client.leader(lookup, r.partition)
		if err != nil {
			if ctx.Err() != nil {
				return nil // the caller gives up; the brokers are not to blame
			}
			f.retryLater(r, err)
			soonest = now.Add(10 * time.Millisecond)
			continue
		}
		if !f.busy[leader] {
			byLeader[leader] = append(byLeader[leader], r)
		}
	}
	for leader, readers := range byLeader {
		f.start(leader, readers)
	}
	if len(f.order) > 1 {
		f.order = append(f.order[1:], f.order[0])
	}
	if soonest.IsZero() {
		return nil
	}
	return time.After(time.Until(soonest))
}

// start sends one poll in a goroutine of its own.
func (f *Fetcher) start(leader int32, readers []*reader) {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxWaitMillis = int32(f.options.MaxWait.Milliseconds())
	req.MinBytes = int32(f.options.MinBytes)
	req.MaxBytes = int32(f.options.MaxBytes)
	req.IsolationLevel = isolationCommitted
	req.SessionEpoch = -1 // no fetch session: each request says everything
	p := &poll{leader: leader, readers: readers, asked: make(map[Partition]NextOffset, len(readers)), resp: kmsg.NewPtrFetchResponse()}
	for _, r := range readers {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition = r.partition.Index
		rp.FetchOffset = int64(r.next)
		rp.PartitionMaxBytes = int32(f.options.PartitionMaxBytes)
		i := slices.IndexFunc(req.Topics, func(t kmsg.FetchRequestTopic) bool { return t.Topic == r.partition.Topic })
		if i < 0 {
			i = len(req.Topics)
			t := kmsg.NewFetchRequestTopic()
			t.Topic = r.partition.Topic
			req.Topics = append(req.Topics, t)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
		p.asked[r.partition] = r.next
		r.poll = p
	}
	if n := len(f.spare); n > 0 {
		p.buf, f.spare = f.spare[n-1], f.spare[:n-1]
	}
	f.busy[leader] = true
	f.polls.Go(func() {
		p.buf, p.err = f.client.sendInto(f.ctx, leader, f.options.MaxWait, req, p.resp, p.buf)
		f.done <- p
	})
}

// receive takes in a poll that ended.
func (f *Fetcher) receive(ctx context.Context, p *poll) {
	f.busy[p.leader] = false
	for _, r := range p.readers {
		r.poll = nil
	}
	if p.err == nil {
		p.err = codeError(p.resp.ErrorCode)
	}
	if p.err != nil {
		for _, r := range p.readers {
			f.retryLater(r, p.err)
		}
		return
	}
	f.held = append(f.held, p.buf)
	for i := range p.resp.Topics {
		t := &p.resp.Topics[i]
		for j := range t.Partitions {
			answer := &t.Partitions[j]
			r := f.readers[Partition{Topic: t.Topic, Index: answer.Partition}]
			// What was paused or moved meanwhile is asked for again later.
			if r == nil || r.paused || r.next != p.asked[r.partition] {
				continue
			}
			f.take(ctx, r, answer)
		}
	}
}

// take takes in one partition's answer.
func (f *Fetcher) take(ctx context.Context, r *reader, answer *kmsg.FetchResponseTopicPartition) {
	switch code := kafkago.Error(answer.ErrorCode); code {
	case 0:
		if r.failed >= warnAfterFailures {
			f.client.log.Info("kafka partition is read again", "partition", r.partition.String())
		}
		r.failed, r.missingSince = 0, time.Time{}
		r.pause.reset()
		b, err := f.decode(r, answer)
		if b.Next > r.next {
			f.ready = append(f.ready, readyBatch{Batch: b, from: r.next})
		}
		f.noteHeld(r, &b)
		// What was good before the fault is handed out first: the broker gives the fault again.
		if err != nil && b.Next == r.next {
			f.stop(r, err)
		}
	case kafkago.OffsetOutOfRange:
		f.stop(r, f.outOfRange(ctx, r))
	case kafkago.InvalidMessage:
		f.stop(r, &CorruptBatchError{Position: Position{r.partition, LastOffset(r.next)}, Err: Code(code)})
	default:
		f.retryLater(r, Code(code))
	}
}

// heldPatience is how long an open transaction may hold a reader up before that is told: many
// times as long as one that somebody is working on.
const heldPatience = 3 * time.Second

// noteHeld says when a transaction that its owner left open holds a reader up: the broker
// ends it at its time-out, or when somebody takes the owner's id over.
func (f *Fetcher) noteHeld(r *reader, b *Batch) {
	switch {
	case b.Next > r.next || b.LastStable != r.next || b.LastStable >= b.HighWatermark:
		r.heldSince, r.heldTold = time.Time{}, false
	case r.heldSince.IsZero():
		r.heldSince = time.Now()
	case !r.heldTold && time.Since(r.heldSince) > heldPatience:
		r.heldTold = true
		f.client.log.Warn("kafka partition is held up by a transaction that stays open", "partition", r.partition.String(), "next", r.next, "last_stable", b.LastStable, "end", b.HighWatermark)
	}
}

// stop pauses a partition and keeps its error for the next Fetch.
func (f *Fetcher) stop(r *reader, err error) {
	r.paused = true
	f.failures = append(f.failures, err)
}

// outOfRange says how far off the reader is.
func (f *Fetcher) outOfRange(ctx context.Context, r *reader) error {
	ctx, cancel := context.WithTimeout(ctx, f.options.MaxWait)
	defer cancel()
	e := &OffsetOutOfRangeError{Partition: r.partition, Asked: r.next, LogStart: -1, LogEnd: -1}
	if found, err := f.client.Offsets(ctx, []Partition{r.partition}, Earliest); err == nil {
		e.LogStart = found[r.partition]
	}
	if found, err := f.client.Offsets(ctx, []Partition{r.partition}, Latest); err == nil {
		e.LogEnd = found[r.partition]
	}
	return e
}

const warnAfterFailures = 3

// retryLater makes a reader wait before it is asked for again, or stops it where waiting
// is of no use.
func (f *Fetcher) retryLater(r *reader, err error) {
	if f.ctx.Err() != nil {
		return
	}
	f.client.directory.learn(r.partition.Topic, err)
	unknown := errors.Is(err, ErrUnknownTopic)
	switch {
	case !unknown:
		r.missingSince = time.Time{}
	case r.missingSince.IsZero():
		r.missingSince = time.Now()
	}
	giveUp := classify(err) == verdictFatal
	if unknown {
		giveUp = time.Since(r.missingSince) > unknownTopicPatience
	}
	if giveUp {
		f.stop(r, fmt.Errorf("fetch %s: %w", r.partition, err))
		return
	}
	if r.failed++; r.failed == warnAfterFailures {
		f.client.log.Warn("kafka partition cannot be read, trying on", "partition", r.partition.String(), "error", err)
	}
	r.notBefore = time.Now().Add(r.pause.step())
}
