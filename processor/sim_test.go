package processor

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
)

// simRuns is how many histories are simulated: a minute's worth of two cores, by itself.
// `make sim` says more.
var simRuns = flag.Int("sim.runs", 0, "histories that the simulation goes through; 0 = 1000, with the race detector 60")

// simTrace prints what happened in runs that went well too.
var simTrace = flag.Bool("sim.trace", false, "print the trace of every simulated history")

// How it is done
//
// Time is that of a testing/synctest bubble: hours take milliseconds, and where nothing
// happens time jumps. So nothing here may wait for a mutex whose owner waits for time; what
// does I/O under one lock of several callers uses a semaphore that they can wait at. The network
// (link) carries whole requests, and is where they get lost or late. Everything else is the
// product's own: the processor with pebble on a real file system, internal/kafka, kafka-go;
// and kfake, a broker in this process.
//
// What it cannot show
//
// A seed fixes the plan and the input, and not the order in which goroutines run at one
// instant: a seed that failed usually fails again, and where it does not, the trace
// says what happened. Timers of a suspended process go on, unlike those of one that SIGSTOP
// holds: it knows as soon as it is woken up that its session is over, so that the age
// of its heartbeat is not what keeps it from answering (TestSoak_AZombieIsRefused and
// TestDecisions_AProcessorThatLostItsHeartbeatDoesNotAnswer are about that). No power is
// cut: a local store that lacks the latest is an earlier copy of it. Brokers are not killed: a
// commit that tears is written by the test as the broker would leave it.

// TestSimulation_WhateverHappensTheTopicsHoldWhatAStraightFoldGives runs three
// processors, the real ones with their local stores, against a broker on a virtual network and
// in virtual time, through a history that a seed decides beforehand ([newPlan]): input that
// repeats, comes late or is poison; links, erasures, expiries; processes that are killed,
// suspended, expelled or leave behind any step; disks that are lost or old; requests and answers that
// are lost, late or refused; clocks that are set; commits that tear.
//
// While it goes on, a read_committed reader of consent.changes sees no id twice and versions
// only grow; and no instance answers a decision with less than another has shown before.
// In the end one instance folds what is left, and the topics hold what a straight fold of
// consent.events gives, every answer that was given was that of the fold at its
// offset, nothing that a link carries is missing, and no grant ran out untold.
//
// -seed repeats the run of that number first.
func TestSimulation_WhateverHappensTheTopicsHoldWhatAStraightFoldGives(t *testing.T) {
	first := *seedFlag
	if first == 0 {
		first = rand.Uint64() >> 16
	}
	runs := *simRuns
	switch {
	case runs > 0:
	case raced || testing.Short():
		runs = 60
	default:
		runs = 1000
	}
	t.Logf("seeds from %d on, %d runs", first, runs)
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a fifth faster: runs leave much behind
	var tally tally
	var next atomic.Uint64
	t.Run("runs", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					n := next.Add(1) - 1
					if n >= uint64(runs) {
						return
					}
					synctest.Test(t, func(t *testing.T) { simulate(t, first+n, &tally) })
				}
			})
		}
	})
	t.Log(tally.String())
	if runs >= 500 && !t.Failed() {
		tally.requireAll(t)
	}
}

// simulation is one run.
type simulation struct {
	*world
	seed      uint64
	plan      *plan
	network   kfake.VirtualNetwork
	began     time.Time
	dir       string
	instances []*instance
	refusals  []*kfake.FaultHandle
	tally     *tally
	unwatch   func()
	heard     map[consent.UUID]string // changes, with their positions; of the watcher until unwatch
	carriers  sync.WaitGroup

	mu      sync.Mutex
	trace   []string
	faults  []string
	shown   map[int32]kafka.NextOffset // the furthest that decisions could see anywhere
	answers []answered
}

// simulate is a run from its beginning to its verdict, in a bubble.
func simulate(t *testing.T, seed uint64, tally *tally) {
	time.Sleep(time.Until(base.Time())) // events are not of a future that the broker does not know
	s := newSimulation(t, seed, tally)
	defer s.report()
	defer s.carriers.Wait()
	defer s.fake.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.ctx = ctx
	s.client = s.directClient()
	defer func() { _ = s.client.Close() }()
	if _, err := s.client.Provision(ctx, s.names.Specs(topic.Layout{Partitions: s.partitions, Replication: 1}), false); err != nil {
		t.Fatal(err)
	}
	s.producer = s.client.NewProducer(kafka.ProducerOptions{MaxBatchBytes: maxBatchBytes, DeliveryTimeout: time.Minute})
	defer func() { _ = s.producer.Close() }()
	s.began = time.Now()
	s.watch()
	defer func() { s.unwatch() }()
	defer func() {
		for _, in := range s.instances {
			in.end(false)
		}
	}()
	var doing sync.WaitGroup
	for _, lives := range s.plan.lives {
		doing.Go(func() { s.follow(lives) })
	}
	s.follow(s.plan.world)
	doing.Wait()
	if !s.settle() {
		return
	}
	time.Sleep(time.Second) // for who watches
	s.unwatch()
	s.judge()
}

// watch begins to read changes and to ask for decisions; unwatch ends both.
func (s *simulation) watch() {
	ctx, cancel := context.WithCancel(s.ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() { s.watchChanges(ctx) })
	watchers.Go(func() { s.askOnAndOn(ctx) })
	s.unwatch = func() {
		cancel()
		watchers.Wait()
	}
}

func newSimulation(t *testing.T, seed uint64, tally *tally) *simulation {
	s := &simulation{seed: seed, plan: newPlan(seed), tally: tally, shown: make(map[int32]kafka.NextOffset), began: time.Now()}
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(s.network.Listen), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	s.world = &world{TB: t, fake: fake, names: s.plan.names, partitions: s.plan.partitions}
	// The local stores are on a disk, so that they outlive a process; in memory where that goes, since nothing here cuts the power.
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	if s.dir, err = os.MkdirTemp(parent, "assent-sim-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	for i := range instances {
		in := &instance{sim: s, number: i, name: fmt.Sprint("instance ", i)}
		in.loseDisk()
		s.instances = append(s.instances, in)
	}
	return s
}

// follow does one deed after another, each at its time.
func (s *simulation) follow(deeds []deed) {
	for _, d := range deeds {
		time.Sleep(time.Until(s.began.Add(d.at)))
		s.note("-- %s", d.what)
		d.do(s)
	}
}

// directClient is one that nothing befalls.
func (s *simulation) directClient() *kafka.Client {
	c, err := kafka.New(kafka.Config{Brokers: s.fake.ListenAddrs(), Dial: s.network.DialContext})
	if err != nil {
		s.Fatal(err)
	}
	return c
}

// rand gives the generator of one stream of what is decided on the way.
func (s *simulation) rand(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(s.seed, uint64(stream)))
}

func (s *simulation) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3fs ", time.Since(s.began).Seconds()) + fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace = append(s.trace, line)
}

// fault notes what must not be.
func (s *simulation) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.note("FAULT: %s", text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, text)
}

// report fails the test if there is a fault, with all that happened.
func (s *simulation) report() {
	s.tally.runs.Add(1)
	s.tally.answers.Add(int64(len(s.answers)))
	if len(s.faults) > 0 {
		s.Errorf("seed %d (repeat with -seed %d -sim.runs 1): %d faults, the first:\n%s", s.seed, s.seed, len(s.faults), strings.Join(s.faults[:min(5, len(s.faults))], "\n"))
	}
	if len(s.faults) > 0 || *simTrace {
		c := &s.plan.config
		s.Logf("%d partitions, %d stripes, %d records a batch, session %s, finish %s, pace %s, transactions %s\n%s",
			s.partitions, c.Stripes, c.BatchRecords, c.SessionTimeout, c.FinishTimeout, c.Pace, c.TransactionTimeout, strings.Join(s.trace, "\n"))
	}
}

// settle lets what is late arrive, and has one instance fold what is left.
func (s *simulation) settle() bool {
	for _, h := range s.refusals {
		h.Remove()
	}
	for _, in := range s.instances {
		in.end(s.plan.r.IntN(2) == 0)
		in.ahead.Store(0)
	}
	time.Sleep(30 * time.Second) // longer than any request is late, or a dead member holds the group up
	if s.plan.startOver {
		s.startOver()
	}
	last := s.instances[s.plan.r.IntN(instances)]
	s.note("-- the last one, %s, folds what is left", last.name)
	last.start(nil)
	for _, then := range []time.Duration{maxTTL + 2*tendEvery, 0} { // what runs out is announced once the rest is folded
		if err := s.awaitAllFolded(last.now.Load()); err != nil {
			s.fault("the last instance has not folded everything: %v", err)
			return false
		}
		time.Sleep(then)
	}
	last.end(true)
	return true
}

// awaitAllFolded waits until one instance has folded all there is. It takes only moments:
// a transaction that a dead process left open is ended by the takeover, not by its time-out.
func (s *simulation) awaitAllFolded(l *life) error {
	deadline := time.Now().Add(20 * time.Second)
	for ; ; time.Sleep(100 * time.Millisecond) {
		var behind error
		for index, end := range s.ends(s.names.Events()) {
			part, _ := l.owned.find(index)
			if part == nil {
				behind = fmt.Errorf("partition %d is not claimed", index)
			} else if !part.isLive() || part.position() < end {
				behind = fmt.Errorf("partition %d: %d of %d; %w", index, part.position(), end, l.Ready())
			}
		}
		if behind == nil || time.Now().After(deadline) {
			return behind
		}
	}
}

// tally counts over all runs, so that a simulation in which nothing goes wrong is noticed.
type tally struct {
	runs, answers, mishaps, torn, fenced, discarded, changes, carried, expired, again atomic.Int64
	orders                                                                            [orderKinds]atomic.Int64
}

func (t *tally) String() string {
	return fmt.Sprintf("%d runs: %d crashes, %d suspensions, %d expulsions, %d claims given up, %d torn commits and %d with a crash, of which %d had to be mended; %d mishaps of requests, "+
		"%d times an owner was fenced, %d local stores discarded; %d changes, %d carried events, %d expiries, %d decisions; %d times everything was folded again",
		t.runs.Load(), t.orders[orderCrash].Load(), t.orders[orderSuspend].Load(), t.orders[orderExpel].Load(), t.orders[orderGiveUp].Load(), t.orders[orderTear].Load(), t.orders[orderTearAndCrash].Load(), t.torn.Load(),
		t.mishaps.Load(), t.fenced.Load(), t.discarded.Load(), t.changes.Load(), t.carried.Load(), t.expired.Load(), t.answers.Load(), t.again.Load())
}

func (t *tally) requireAll(tb testing.TB) {
	for _, n := range []*atomic.Int64{&t.answers, &t.mishaps, &t.torn, &t.fenced, &t.discarded, &t.changes, &t.carried, &t.expired, &t.again,
		&t.orders[orderCrash], &t.orders[orderSuspend], &t.orders[orderExpel], &t.orders[orderGiveUp], &t.orders[orderTear], &t.orders[orderTearAndCrash]} {
		if n.Load() == 0 {
			tb.Error("something that the simulation is about never happened")
		}
	}
}
