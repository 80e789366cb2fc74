package processor

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
)

// stripe is one claimed stripe, from its restore to the end of its claim. All of it
// runs in one goroutine.
type stripe struct {
	p          *Processor
	claim      *kafka.Claim
	log        *slog.Logger
	partitions int // of consent.events
	parts      map[kafka.Partition]*partition
	saved      map[int32]kafka.NextOffset // end of what is written to the changelog
	fetcher    *kafka.Fetcher
	outbox     outbox
	steps      []batchStep
}

func (p *Processor) newStripe(claim *kafka.Claim, producer *kafka.Producer) *stripe {
	s := &stripe{
		p:     p,
		claim: claim,
		log:   p.config.Logger.With("stripe", claim.Stripe()),
		parts: make(map[kafka.Partition]*partition),
		saved: make(map[int32]kafka.NextOffset),
	}
	s.outbox = outbox{
		producer:     producer,
		log:          s.log,
		heartbeatAge: claim.HeartbeatAge,
		limit:        p.config.heartbeatLimit(),
		finish:       p.config.FinishTimeout,
	}
	s.steps = s.batchSteps(p.config.Order)
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
	defer func() {
		release()
		for at := range s.parts {
			s.p.metrics.forget(at.Index)
		}
	}()
	err := s.work(ctx)
	if ctx.Err() != nil {
		return nil // what was left undone, the next owner does again
	}
	return err
}

func (s *stripe) work(ctx context.Context) error {
	from, err := s.open(ctx)
	if err != nil {
		return err
	}
	s.fetcher = s.p.client.NewFetcher(from, kafka.FetchOptions{MaxBytes: s.p.config.BatchBytes, MaxRecords: s.p.config.BatchRecords})
	defer func() { _ = s.fetcher.Close() }()
	for ctx.Err() == nil {
		if err := s.turn(ctx); err != nil {
			return err
		}
	}
	return nil
}

// open restores the stripe's partitions, and gives where to fold on. The former owner
// is out: the claim says so, and only within it are offsets asked for.
func (s *stripe) open(ctx context.Context) (map[kafka.Partition]kafka.NextOffset, error) {
	var err error
	if s.partitions, err = s.p.countPartitions(ctx); err != nil {
		return nil, err
	}
	commits, err := s.claim.Committed(ctx)
	if err != nil {
		return nil, err
	}
	events := s.claim.Partitions()
	starts, err := s.p.client.Offsets(ctx, events, kafka.Earliest)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	indexes := make([]int32, len(events))
	for i, at := range events {
		indexes[i] = at.Index
	}
	tables, err := restore(ctx, s.p.client, s.p.config.Names.State(), indexes, s.partitions)
	if err != nil {
		return nil, err
	}
	s.report(tables, time.Since(began))
	// After the restore: what a partition has to fold before it answers.
	ends, err := s.p.client.Offsets(ctx, events, kafka.Latest)
	if err != nil {
		return nil, err
	}
	from := make(map[kafka.Partition]kafka.NextOffset, len(events))
	for _, at := range events {
		part, r := s.parts[at], tables[at.Index]
		commit, committed := commits[at]
		if err := r.check(at, changelogEnd(commit.Metadata), ends[at]); err != nil {
			s.stop(part, err)
			continue
		}
		from[at] = starts[at]
		if committed {
			from[at] = commit.Next
		}
		s.saved[at.Index] = r.end
		part.starts(r.table, from[at], ends[at])
		s.p.metrics.subjects.WithLabelValues(label(at.Index)).Set(float64(r.table.Len()))
		s.p.metrics.lag.WithLabelValues(label(at.Index)).Set(float64(max(0, ends[at]-from[at])))
		s.p.metrics.stopped.WithLabelValues(label(at.Index)).Set(0)
	}
	return from, nil
}

// check holds what was restored against what else is known of it.
func (r *restored) check(events kafka.Partition, committed, end kafka.NextOffset) error {
	switch {
	case r.alarm != nil:
		return r.alarm
	case r.end < committed:
		return fmt.Errorf("the changelog of %s ends at %d, but %d were written when the offset was committed: it was cut or made anew; bring it back, or delete the group's offset to fold everything again", events, r.end, committed)
	case r.highest > end:
		return fmt.Errorf("the changelog of %s knows events up to %d, but the log ends at %d: the events were cut or made anew; bring them back, or delete the topics of states and changes with them", events, r.highest, end)
	}
	return nil
}

// report logs and measures a restore.
func (s *stripe) report(tables map[int32]*restored, took time.Duration) {
	records, subjects, unfinished := 0, 0, 0
	for _, r := range tables {
		records += r.records
		subjects += r.table.Len()
		unfinished += r.unfinished
	}
	rate := float64(records) / max(took.Seconds(), 1e-6)
	s.p.metrics.restored.Add(float64(records))
	s.p.metrics.restoreTime.Observe(took.Seconds())
	s.p.metrics.restoreRate.Set(rate)
	s.log.Info("states restored", "partitions", len(tables), "records", records, "subjects", subjects,
		"unfinished_rows", unfinished, "took", took.Round(time.Millisecond), "records_per_second", int(rate))
}

// turn is one batch, through all its steps.
func (s *stripe) turn(ctx context.Context) error {
	fetched, err := s.fetcher.Fetch(ctx)
	if err != nil {
		at, ok := partitionOf(err)
		if !ok {
			return err
		}
		s.stop(s.parts[at], err)
		return nil
	}
	if len(fetched) == 0 {
		return nil
	}
	b := &batch{fetched: time.Now(), letters: make(map[string]int)}
	for _, f := range fetched {
		b.parts = append(b.parts, &partBatch{Batch: f, part: s.parts[f.Partition], next: f.Next})
		b.records += len(f.Messages)
	}
	if err := s.p.config.after(stepFetch); err != nil {
		return err
	}
	for _, step := range s.steps {
		if err := step.do(ctx, b); err != nil {
			return err
		}
		if err := s.p.config.after(step.step); err != nil {
			return err
		}
	}
	s.measure(b)
	return nil
}

// stop raises the alarm for one partition; the others of the stripe go on.
func (s *stripe) stop(part *partition, alarm error) {
	at := kafka.Partition{Topic: s.p.config.Names.Events(), Index: part.index}
	s.log.Error("partition stopped; nothing is skipped, and its decisions are unavailable until this is mended and the processor restarted", "partition", at.String(), "error", alarm)
	s.p.metrics.stopped.WithLabelValues(label(part.index)).Set(1)
	part.stop(alarm)
	if s.fetcher != nil {
		s.fetcher.Pause(at)
	}
}
