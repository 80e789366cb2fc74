package processor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
	"github.com/assent-dev/assent/schemas"
)

// stripe is one claimed stripe, from its first takeover to the end of its claim. All
// of it runs in one goroutine.
type stripe struct {
	p          *Processor
	claim      *kafka.Claim
	log        *slog.Logger
	partitions int // of consent.events; 0 = not known yet
	parts      map[kafka.Partition]*partition
	tx         *kafka.Transactor
	fetcher    *kafka.Fetcher
	ahead      *ahead // the next batch, nil = not begun
	outbox     outbox
	steps      []batchStep
	committed  time.Time // when the last transaction began
	tended     time.Time // when it was last looked for what is to be done although nothing came
	// events are those of two batches in turn: one is folded and written while the next is
	// gathered. They end with their batch, as do room and encoding: a State keeps Originals.
	events   [2]slab[schemas.Folding]
	gathered int // batches
	room     slab[subjectFold]
	encoding encoding
	records  []kafka.Record // reused from batch to batch, as are the rows
	rows     []store.Row
}

func (p *Processor) newStripe(claim *kafka.Claim, producer *kafka.Producer) *stripe {
	s := &stripe{
		p:     p,
		claim: claim,
		log:   p.config.Logger.With("stripe", claim.Stripe()),
		parts: make(map[kafka.Partition]*partition),
	}
	s.outbox = outbox{producer: producer, log: s.log, heartbeatAge: claim.HeartbeatAge, limit: p.config.heartbeatLimit(), stuck: s.stick}
	s.encoding = newEncoding(p.config.Names)
	s.steps = s.batchSteps()
	for _, at := range claim.Partitions() {
		s.parts[at] = &partition{index: at.Index, heartbeatAge: claim.HeartbeatAge}
	}
	return s
}

// run works until ctx ends, which is when the claim does. Its error makes the group
// leave and join again.
func (s *stripe) run(ctx context.Context) error {
	s.p.owned.claim(s.parts)
	release := func() { s.p.owned.release(s.parts) }
	// At once when the claim ends, and not after a write that outlives it.
	defer context.AfterFunc(ctx, release)()
	defer s.close(release)
	if err := s.open(ctx); err != nil {
		return err
	}
	faults := 0 // of the local stores, one takeover after another
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		live := time.Now()
		err := s.work(ctx)
		if errors.Is(err, kafka.ErrFenced) {
			s.log.Info("refused: the stripe has another owner, who goes on with it", "error", err)
		}
		if ctx.Err() != nil {
			return nil // what was left undone, the next owner does again
		}
		if damaged := new(storeError); !errors.As(err, &damaged) {
			faults = 0
		} else if faults++; faults == maxStoreFaults {
			s.p.fail(err) // a full disk: others have room for the stripe
			return err
		}
		if over(err) {
			if hopeless(err) {
				s.p.fail(err)
			}
			return err
		}
		if time.Since(live) > 10*pause {
			pause = 50 * time.Millisecond // it went well for long
		}
		s.p.metrics.retaken.Inc()
		s.stick(err)
		s.log.Warn("the stripe is taken over anew", "error", err, "in", pause)
		if !wait(ctx, pause) {
			return nil
		}
	}
}

// maxStoreFaults is how often in a row a stripe is taken over anew for want of a local
// store.
const maxStoreFaults = 8

// over tells whether an error ends the claim. After the others, an unknown outcome
// or a broker that is away, the same claim is taken over anew: its transactional id
// settles what was left open.
func over(err error) bool {
	return err == nil || hopeless(err) || errors.As(err, new(crashError)) || errors.Is(err, kafka.ErrFenced) || errors.Is(err, errOldHeartbeat) ||
		errors.Is(err, kafka.ErrClosed) || errors.Is(err, errPartitionCount)
}

// hopeless tells whether with the next claim it would be the same.
func hopeless(err error) bool {
	return errors.Is(err, kafka.ErrUnauthorized) || errors.Is(err, kafka.ErrUnsupported)
}

// open opens the local stores of the stripe's partitions.
func (s *stripe) open(ctx context.Context) error {
	var err error
	if s.partitions, err = s.p.countPartitions(ctx); err != nil {
		return err
	}
	for at, part := range s.parts {
		rows, err := s.p.store.Partition(at.Index)
		if err != nil {
			err = fmt.Errorf("open the local store of %s: %w", at, err)
			s.p.fail(err) // with the next claim it would be the same
			return err
		}
		part.open(newTable(rows, s.p.config.CacheBytes/int64(s.partitions)))
	}
	return nil
}

// close gives the partitions up, and closes what was open.
func (s *stripe) close(release func()) {
	release()
	for at, part := range s.parts {
		s.p.metrics.forget(at.Index)
		if part.table == nil {
			continue
		}
		if err := part.table.close(); err != nil {
			s.log.Warn("a local store did not close", "partition", at.Index, "error", err)
		}
	}
}

// stick tells that the stripe cannot write something, again and again.
func (s *stripe) stick(err error) {
	for _, part := range s.parts {
		part.stick(err)
	}
}

// work takes the stripe over and folds, until something goes wrong or ctx ends.
func (s *stripe) work(ctx context.Context) error {
	from, err := s.takeover(ctx)
	if err != nil {
		return s.discardDamaged(err)
	}
	s.fetcher = s.p.client.NewFetcher(from, kafka.FetchOptions{MaxBytes: s.p.config.BatchBytes, MaxRecords: s.p.config.BatchRecords})
	defer func() {
		s.dropAhead()
		_ = s.fetcher.Close()
		s.fetcher = nil
	}()
	for ctx.Err() == nil {
		if err := s.turn(ctx); err != nil {
			return s.discardDamaged(err)
		}
	}
	return nil
}

// discardDamaged empties the local stores after a fault of one of them: the
// changelog has it all.
func (s *stripe) discardDamaged(err error) error {
	damaged := new(storeError)
	if !errors.As(err, &damaged) || errors.Is(err, errTableClosed) {
		return err
	}
	for _, part := range s.parts {
		if fault := part.table.rows.Discard(); fault != nil {
			return fmt.Errorf("%w; and it cannot be emptied: %w", err, fault)
		}
	}
	return err
}

// turn is one batch, through all its steps.
func (s *stripe) turn(ctx context.Context) error {
	if err := s.tend(ctx); err != nil {
		return err
	}
	b, err := s.next(ctx)
	if err != nil || len(b.parts) == 0 {
		return err
	}
	s.committed = time.Now()
	if b.leavesMore() {
		s.gatherAhead(ctx)
	}
	ctx, cancel := kafka.Outlive(ctx, s.p.config.FinishTimeout) // what is begun is finished
	defer cancel()
	for _, step := range s.steps {
		if err := s.then(step.step, step.do(ctx, b)); err != nil {
			return err
		}
	}
	s.stick(nil)
	s.measure(b)
	return nil
}

// tendEvery is how often a stripe looks for what is to be done although nothing came.
const tendEvery = 500 * time.Millisecond

func (s *stripe) tend(ctx context.Context) error {
	if time.Since(s.tended) < tendEvery {
		return nil
	}
	s.tended = time.Now()
	if err := s.freshen(); err != nil {
		return err
	}
	return s.expire(ctx)
}

// stop raises the alarm for one partition; the others of the stripe go on. What was
// gathered of it already is left out, see [stripe.next].
func (s *stripe) stop(part *partition, alarm error) {
	at := kafka.Partition{Topic: s.p.config.Names.Events(), Index: part.index}
	s.log.Error("partition stopped; nothing is skipped, and its decisions are unavailable until this is mended and the processor restarted", "partition", at.String(), "error", alarm)
	s.p.metrics.stopped.WithLabelValues(label(part.index)).Set(1)
	part.stop(alarm)
}
