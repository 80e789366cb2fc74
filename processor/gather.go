package processor

import (
	"context"
	"slices"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
)

// ahead is a batch that is gathered while the one before it is folded and written.
type ahead struct {
	cancel context.CancelFunc
	done   chan struct{}
	batch  *batch // after done, as is err
	err    error
}

// gatherAhead begins the next batch. It is read and decoded, nothing more: until the one
// before it is published, nobody knows what it is folded over.
func (s *stripe) gatherAhead(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{cancel: cancel, done: make(chan struct{})}
	s.ahead = a
	go func() {
		defer close(a.done)
		a.batch, a.err = s.gather(ctx)
	}()
}

// next gives the batch that was gathered ahead, or gathers one, without partitions that
// are stopped.
func (s *stripe) next(ctx context.Context) (b *batch, err error) {
	if a := s.ahead; a != nil {
		<-a.done
		a.cancel()
		s.ahead, b, err = nil, a.batch, a.err
	} else {
		b, err = s.gather(ctx)
	}
	for _, u := range b.unreadable {
		s.stop(u.part, u.alarm)
	}
	b.parts = slices.DeleteFunc(b.parts, func(pb *partBatch) bool {
		if !pb.part.isStopped() {
			return false
		}
		s.fetcher.Pause(pb.at)
		return true
	})
	return b, err
}

// dropAhead ends what gatherAhead began: after a fault, events are read anew from where the
// committed offsets are.
func (s *stripe) dropAhead() {
	if a := s.ahead; a != nil {
		a.cancel()
		<-a.done
		s.ahead = nil
	}
}

// gather fetches and decodes a batch: at once what is there, when the last
// transaction is longer ago than the pace; else what comes until then, or until the
// batch is full. So a lone withdrawal never waits, and a busy broker is not drowned
// in commits.
func (s *stripe) gather(ctx context.Context) (*batch, error) {
	b := &batch{began: time.Now(), events: &s.events[s.gathered%len(s.events)]}
	s.gathered++
	b.events.reset()
	until := s.committed.Add(s.p.config.Pace)
	for ctx.Err() == nil {
		fetched, err := s.fetch(ctx, b, until)
		if err != nil {
			return b, err
		}
		for i := range fetched {
			if err := s.decode(b, &fetched[i]); err != nil {
				return b, err
			}
		}
		if err := s.p.config.behind(stepDecode); err != nil {
			return b, err
		}
		if len(b.parts) == 0 || b.records >= s.p.config.BatchRecords || !time.Now().Before(until) {
			return b, nil
		}
	}
	return b, ctx.Err()
}

// fetch gives what came. While nothing has, it waits for as long as the fetcher
// does; then only until the batch is due. A partition that cannot be read is noted.
func (s *stripe) fetch(ctx context.Context, b *batch, until time.Time) ([]kafka.Batch, error) {
	bounded := ctx
	if len(b.parts) > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	fetched, err := s.fetcher.Fetch(bounded)
	if at, ok := partitionOf(err); ok {
		b.unreadable = append(b.unreadable, unreadable{s.parts[at], err})
		return nil, nil
	}
	if err != nil {
		if ctx.Err() == nil && err == bounded.Err() { //nolint:errorlint // bare: the end of the wait. A fault that wraps one is a fault
			return nil, nil // due
		}
		return nil, err
	}
	if len(fetched) > 0 {
		if b.records == 0 {
			b.began = time.Now()
		}
		return fetched, s.p.config.behind(stepFetch)
	}
	return nil, nil
}
