package fanout

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
)

// session is one lane's work on one claim. Its loop alone touches what is below
// "owned by loop".
type session struct {
	*lane
	claim   *kafka.Claim
	fetched chan fetched
	results chan result
	// attempts runs under a context of its own, so that a stop lets requests in
	// flight finish for a moment.
	attempts     context.Context
	stopAttempts context.CancelFunc
	fetcher      *kafka.Fetcher

	// owned by loop
	windows  map[kafka.Partition]*window
	queues   map[string]*queue
	waiting  queueHeap // queues whose first entry is not in flight
	inFlight int
	share    share // of the lane's backlog
	dirty    map[kafka.Partition]bool
	blocked  time.Time       // the gate said: not before
	opened   <-chan struct{} // closed when the gate opens the next time
}

// fetched is one fetch, filtered, in the order of its partitions.
type fetched struct {
	partition kafka.Partition
	next      kafka.NextOffset
	entries   []*entry
	err       error
}

// queue holds the changes of one subject, in order; the first is tried.
type queue struct {
	key     string
	entries []*entry
	when    time.Time // the first entry is not tried before
	index   int       // in the heap, -1 while its first entry is in flight
}

// maxFetchRecords bounds what is read ahead beyond MaxPending.
const maxFetchRecords = 1000

func (l *lane) newSession(ctx context.Context, claim *kafka.Claim, commits map[kafka.Partition]kafka.Commit) (*session, error) {
	s := &session{
		lane:    l,
		claim:   claim,
		fetched: make(chan fetched, 1),
		results: make(chan result, cap(l.slots)),
		windows: map[kafka.Partition]*window{},
		queues:  map[string]*queue{},
		dirty:   map[kafka.Partition]bool{},
		opened:  l.gate.opening(),
	}
	// What is begun when the work is to stop, requests and a commit, is given time to end.
	s.attempts, s.stopAttempts = kafka.Outlive(ctx, s.config.FinishTimeout)
	next, err := s.resume(ctx, commits)
	if err != nil {
		s.release()
		return nil, err
	}
	s.fetcher = l.kafka.NewFetcher(next, kafka.FetchOptions{MaxRecords: min(l.config.MaxPending, maxFetchRecords)})
	return s, nil
}

// fetch reads ahead of the loop, by one fetch, until ctx ends.
func (s *session) fetch(ctx context.Context) {
	for {
		batches, err := s.fetcher.Fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			select {
			case s.fetched <- fetched{err: err}:
			case <-ctx.Done():
			}
			return
		}
		for _, b := range batches {
			select {
			case s.fetched <- fetched{partition: b.Partition, next: b.Next, entries: s.filter(b.Messages)}:
			case <-ctx.Done():
				return
			}
		}
	}
}

// loop tells changes until ctx ends or the claim is lost.
func (s *session) loop(ctx context.Context) error {
	// Reading ends with the loop, not with the claim: after a commit without an answer
	// the claim ends only once its work has returned, and nobody takes what was read.
	reading, stopReading := context.WithCancel(ctx)
	var fetching sync.WaitGroup
	defer fetching.Wait()
	defer stopReading()
	fetching.Go(func() { s.fetch(reading) })
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	commit := time.NewTicker(s.config.CommitInterval)
	defer commit.Stop()
	overdue := time.NewTicker(s.config.OverdueInterval)
	defer overdue.Stop()
	for {
		now := s.now()
		timer.Reset(s.untilNext(now))
		select {
		case <-ctx.Done():
			return s.finish()
		case f := <-s.room():
			if f.err != nil {
				return fmt.Errorf("fetch %s: %w", s.config.Names.Changes(), f.err)
			}
			s.take(f)
		case s.slot(now) <- struct{}{}:
			s.launch(now)
		case r := <-s.results:
			s.settle(r)
		case <-s.opened:
			s.hurry(now)
		case <-timer.C:
		case <-commit.C:
			if err := s.commit(s.attempts); err != nil {
				return err
			}
			continue
		case <-overdue.C:
			s.countOverdue(s.now())
			continue
		}
		if s.inFlight == 0 && len(s.waiting) == 0 && len(s.fetched) == 0 { // idle: the position moves at once
			if err := s.commit(s.attempts); err != nil {
				return err
			}
		}
	}
}

// room is the channel of fetches while there is room for more.
func (s *session) room() <-chan fetched {
	if s.share.pending >= s.config.MaxPending {
		return nil
	}
	return s.fetched
}

// slot is the lane's channel of slots while an entry is due.
func (s *session) slot(now time.Time) chan<- struct{} {
	if len(s.waiting) == 0 || s.waiting[0].when.After(now) || s.blocked.After(now) {
		return nil
	}
	return s.slots
}

func (s *session) untilNext(now time.Time) time.Duration {
	if len(s.waiting) == 0 {
		return time.Hour // for a fetch or a result
	}
	due := later(s.waiting[0].when, s.blocked)
	if !due.After(now) {
		return time.Hour // it waits for a slot, not for time
	}
	return due.Sub(now)
}

// take puts fetched changes into the queues of their subjects.
func (s *session) take(f fetched) {
	w := s.windows[f.partition]
	for _, e := range f.entries {
		w.add(e.position.Offset)
		q := s.queues[e.key]
		if q == nil {
			q = &queue{key: e.key, when: s.now(), index: -1}
			s.queues[e.key] = q
			heap.Push(&s.waiting, q)
		}
		q.entries = append(q.entries, e)
	}
	w.next = max(w.next, f.next)
	s.dirty[f.partition] = true
	s.countPending(len(f.entries))
}

// launch starts the attempt of the queue that is due first. A slot was taken.
func (s *session) launch(now time.Time) {
	ok, again := s.gate.admit(now)
	if !ok {
		<-s.slots
		s.blocked = again
		return
	}
	s.blocked = time.Time{}
	q := s.waiting[0]
	heap.Pop(&s.waiting)
	s.inFlight++
	e := q.entries[0]
	go func() {
		r := s.attempt(s.attempts, e)
		<-s.slots
		s.results <- r // has room for as many as there are slots
	}()
}

// settle takes what came of an attempt.
func (s *session) settle(r result) {
	s.inFlight--
	q := s.queues[r.entry.key]
	if !r.final {
		q.when = r.again
		heap.Push(&s.waiting, q)
		return
	}
	s.windows[r.entry.position.Partition].done(r.entry.position.Offset)
	s.dirty[r.entry.position.Partition] = true
	s.countPending(-1)
	if q.entries = q.entries[1:]; len(q.entries) == 0 {
		delete(s.queues, q.key)
		return
	}
	q.when = s.now()
	heap.Push(&s.waiting, q)
}

// hurry makes everything due that waits because the endpoint failed: it answers again.
func (s *session) hurry(now time.Time) {
	s.blocked, s.opened = time.Time{}, s.gate.opening()
	for _, q := range s.waiting {
		if q.entries[0].failedWithLane {
			q.when = now
		}
	}
	heap.Init(&s.waiting)
}

// commit moves the position as far as outcomes are recorded.
func (s *session) commit(ctx context.Context) error {
	if len(s.dirty) == 0 {
		return nil
	}
	commits := make(map[kafka.Partition]kafka.Commit, len(s.dirty))
	for p := range s.dirty {
		commits[p] = s.windows[p].commit()
	}
	if err := s.claim.Commit(ctx, commits); err != nil {
		return fmt.Errorf("commit the position: %w", err)
	}
	clear(s.dirty)
	return nil
}

// finish waits for the requests in flight, and commits what they settled. The claim
// may be lost by then: a repeat under the same id is what is promised.
func (s *session) finish() error {
	for s.inFlight > 0 {
		s.settle(<-s.results)
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.config.FinishTimeout)
	defer cancel()
	if err := s.commit(ctx); err != nil && !isStop(err) {
		return err
	}
	return nil
}

// close ends what is still running; the loop has returned.
func (s *session) close() {
	s.stopAttempts()
	for s.inFlight > 0 { // the loop returned early
		<-s.results
		s.inFlight--
	}
	_ = s.fetcher.Close()
	s.release()
}

// release gives up what the session holds beside its loop.
func (s *session) release() {
	s.stopAttempts()
	s.share = s.backlog.replace(s.share, share{})
}

// queueHeap orders queues by when their first entry is due.
type queueHeap []*queue

func (h queueHeap) Len() int           { return len(h) }
func (h queueHeap) Less(i, j int) bool { return h[i].when.Before(h[j].when) }
func (h queueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push adds x; for container/heap.
func (h *queueHeap) Push(x any) {
	q, _ := x.(*queue)
	q.index = len(*h)
	*h = append(*h, q)
}

// Pop takes the last; for container/heap.
func (h *queueHeap) Pop() any {
	old := *h
	q := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	q.index = -1
	return q
}
