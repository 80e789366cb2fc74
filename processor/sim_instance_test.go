package processor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
)

// order is what befalls a process behind a step: of all its stripes together, the nth
// time that one of them takes it.
type order struct {
	at   step
	nth  int
	does orderKind
	// lasts is how long a suspension takes, or an expelled one waits before its next step.
	lasts time.Duration
	// survives says bit by bit which parts of a torn commit are there: see tear.
	survives uint64
}

type orderKind uint8

const (
	orderCrash   orderKind = iota // it is gone at once
	orderSuspend                  // it stands still: a zombie, if for longer than the session
	orderExpel                    // the group drops it, and it hears of that only some time later
	orderGiveUp                   // the claim ends there; the process leaves the group and joins anew
	orderTear                     // the broker commits a part of the transaction only
	orderTearAndCrash
	orderKinds
)

func (o order) String() string {
	switch o.does {
	case orderCrash:
		return fmt.Sprintf("crash behind %s no. %d", stepNames[o.at], o.nth)
	case orderSuspend:
		return fmt.Sprintf("suspended for %s behind %s no. %d", o.lasts, stepNames[o.at], o.nth)
	case orderExpel:
		return fmt.Sprintf("expelled behind %s no. %d, and goes on after %s", stepNames[o.at], o.nth, o.lasts)
	case orderGiveUp:
		return fmt.Sprintf("claim given up behind %s no. %d", stepNames[o.at], o.nth)
	default:
		return fmt.Sprintf("transaction no. %d is torn (%#b), crash: %v", o.nth, o.survives, o.does == orderTearAndCrash)
	}
}

// instance is one of the processors, through its lives.
type instance struct {
	sim    *simulation
	number int
	name   string
	dir    string // of its local store
	disks  int    // so far
	lives  int
	// ahead is how far its clock is ahead, in nanoseconds.
	ahead atomic.Int64
	now   atomic.Pointer[life] // nil = it is not running
}

// life is one process.
type life struct {
	*Processor
	in     *instance
	link   *link
	client *kafka.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	orders  []order
	steps   map[step]int
	dead    bool
	resumed chan struct{} // closed when a suspension ends; nil = it runs
	astray  time.Time     // until then it may not know that it is no member any more
}

// start begins a life, once the one before is over.
func (in *instance) start(orders []order) {
	in.end(true)
	in.lives++
	s := in.sim
	l := &life{in: in, orders: orders, steps: make(map[step]int), done: make(chan struct{})}
	l.link = &link{sim: s, name: in.name, fate: l, r: s.rand(100 + 100*in.number + in.lives), met: make(map[kmsg.Key][]mishap), conns: make(map[*carrier]struct{})}
	log := s.logger(in.name)
	var err error
	if l.client, err = kafka.New(kafka.Config{Brokers: s.fake.ListenAddrs(), ClientID: in.name, Dial: l.link.dial, RequestTimeout: 2 * time.Second, Logger: log}); err != nil {
		s.fault("%s has no client: %v", in.name, err)
		return
	}
	config := s.plan.config
	config.Names, config.StateDir, config.Logger, config.after = s.names, in.dir, log, l.behind
	config.now = func() time.Time { return time.Now().Add(time.Duration(in.ahead.Load())) }
	if l.Processor, err = New(config, l.client); err != nil {
		s.fault("%s: %v", in.name, err)
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	l.cancel = cancel
	go func() {
		defer close(l.done)
		defer l.count()
		defer func() { _ = l.client.Close() }()
		run := l.Run
		if l.isTorn() {
			run = l.runTorn
		}
		if err := run(ctx); err != nil && !l.isDead() {
			s.fault("%s ended: %v", in.name, err)
		}
	}()
	in.now.Store(l)
}

// end ends a life, politely or not, and waits until it is over.
func (in *instance) end(polite bool) {
	l := in.now.Swap(nil)
	if l == nil {
		return
	}
	if polite {
		l.cancel()
	} else {
		l.kill()
	}
	<-l.done
}

// loseDisk gives the instance an empty local store.
func (in *instance) loseDisk() {
	in.end(false)
	in.disks++
	in.dir = filepath.Join(in.sim.dir, fmt.Sprintf("%s-%d", in.name, in.disks))
}

// keepCopy copies the local store, and backToCopy puts the copy in its place: what a
// crash leaves of a store that had not written everything, or an operator's backup.
func (in *instance) keepCopy() {
	in.end(false)
	to := in.dir + ".copy"
	if os.RemoveAll(to) != nil || os.MkdirAll(in.dir, 0o700) != nil || os.CopyFS(to, os.DirFS(in.dir)) != nil {
		in.sim.fault("the local store of %s cannot be copied", in.name)
	}
}

func (in *instance) backToCopy() {
	in.end(false)
	if _, err := os.Stat(in.dir + ".copy"); err != nil {
		return
	}
	if os.RemoveAll(in.dir) != nil || os.Rename(in.dir+".copy", in.dir) != nil {
		in.sim.fault("the copy of the local store of %s cannot be used", in.name)
	}
}

// kill ends the process as SIGKILL does: nothing is said to anybody any more.
func (l *life) kill() {
	l.mu.Lock()
	l.dead = true
	if l.resumed != nil {
		close(l.resumed)
		l.resumed = nil
	}
	l.mu.Unlock()
	l.link.cut()
	_ = l.client.Close()
	l.cancel()
}

// suspend stops the process: its requests, its answers, and its stripes behind their
// next step. Its timers go on, as those of a process that is woken up all run out.
func (l *life) suspend(lasts time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead || l.resumed != nil {
		return
	}
	resumed := make(chan struct{})
	l.resumed = resumed
	time.AfterFunc(lasts, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.resumed == resumed {
			close(resumed)
			l.resumed = nil
		}
	})
}

// count adds up what the process has met.
func (l *life) count() {
	l.in.sim.tally.torn.Add(int64(testutil.ToFloat64(l.metrics.torn)))
	l.in.sim.tally.discarded.Add(int64(testutil.ToFloat64(l.metrics.discarded)))
}

// expel has the group drop the process, as an operator can, while its heartbeats take
// long: others own its stripes now, and it goes on with its own step after a while.
func (l *life) expel(wait time.Duration) {
	s := l.in.sim
	l.mu.Lock()
	l.astray = time.Now().Add(2 * s.plan.config.SessionTimeout)
	l.mu.Unlock()
	for range 4 {
		l.link.meets(kmsg.Heartbeat, mishap{requestSlow, s.plan.config.SessionTimeout / 3})
	}
	s.expel(l.in.name)
	time.Sleep(wait)
}

// isAstray reports whether the process may not know that others own its stripes, though
// its last heartbeat is young: what its lease relies on does not hold.
func (l *life) isAstray() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.astray)
}

func (l *life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// wait returns at once while the process runs, or else when it does again; false when
// it is dead.
func (l *life) wait() bool {
	for {
		l.mu.Lock()
		resumed, dead := l.resumed, l.dead
		l.mu.Unlock()
		if dead || resumed == nil {
			return !dead
		}
		<-resumed
	}
}

// behind is the processor's seam behind each step.
func (l *life) behind(at step) error {
	if at == stepPublish {
		l.in.sim.shows(l)
	}
	for _, o := range l.due(at) {
		l.in.sim.note("%s: %s", l.in.name, o)
		l.in.sim.tally.orders[o.does].Add(1)
		switch o.does {
		case orderCrash:
			l.kill()
		case orderSuspend:
			l.suspend(o.lasts)
		case orderExpel:
			l.expel(o.lasts)
		case orderGiveUp:
			return errCrash
		}
	}
	if !l.wait() {
		return errCrash
	}
	return nil
}

// due counts a step, and takes the orders for it.
func (l *life) due(at step) (due []order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.steps[at]++
	left := l.orders[:0]
	for _, o := range l.orders {
		if o.at == at && o.nth == l.steps[at] && o.does < orderTear {
			due = append(due, o)
		} else {
			left = append(left, o)
		}
	}
	l.orders = left
	return due
}

// isTorn reports whether the life has a torn commit before it.
func (l *life) isTorn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, o := range l.orders {
		if o.does >= orderTear {
			return true
		}
	}
	return false
}

// runTorn is [Processor.Run] with another step in place of begin: the real one, or a
// commit that tears.
func (l *life) runTorn(ctx context.Context) (err error) {
	c := &l.config
	if l.store, err = store.Open(store.Options{Dir: c.StateDir, CacheBytes: c.StoreCacheBytes, Logger: c.Logger}); err != nil {
		return err
	}
	defer func() { _ = l.store.Close() }()
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	l.fail = fail
	producer := l.client.NewProducer(kafka.ProducerOptions{MaxBatchBytes: maxBatchBytes, DeliveryTimeout: c.SessionTimeout, CloseTimeout: c.FinishTimeout})
	defer func() { _ = producer.Close() }()
	err = l.client.RunGroup(running, kafka.GroupOptions{
		Group: c.Names.ProcessorGroup(), Topics: []string{c.Names.Events()}, Stripes: c.Stripes,
		SessionTimeout: c.SessionTimeout, HeartbeatInterval: c.SessionTimeout / 12, Assigned: l.owned.assigned,
	}, func(ctx context.Context, claim *kafka.Claim) error {
		s := l.newStripe(claim, producer)
		for i := range s.steps {
			if s.steps[i].step == stepBegin {
				s.steps[i].do = func(ctx context.Context, b *batch) error { return l.beginOrTear(ctx, s, b) }
			}
		}
		return s.run(ctx)
	})
	if ctx.Err() == nil && running.Err() != nil {
		err = errors.Join(err, context.Cause(running))
	}
	return err
}

func (l *life) beginOrTear(ctx context.Context, s *stripe, b *batch) error {
	if due := l.torn(); len(due) > 0 {
		o := due[0] // one at most
		l.in.sim.note("%s: %s", l.in.name, o)
		if err := tear(ctx, s, b, o.survives); err != nil {
			return err
		}
		l.in.sim.tally.orders[o.does].Add(1)
		if o.does == orderTearAndCrash {
			l.kill()
			return crashError{errCrash}
		}
		return kafka.ErrIndefinite // the connection to the broker broke
	}
	return s.beginTransaction(ctx, b)
}

// torn counts a transaction, and takes the order to tear it.
func (l *life) torn() (due []order) {
	l.mu.Lock()
	defer l.mu.Unlock()
	const begun = step(0) // no step: beginnings of transactions
	l.steps[begun]++
	left := l.orders[:0]
	for _, o := range l.orders {
		if o.does >= orderTear && o.nth == l.steps[begun] {
			due = append(due, o)
		} else {
			left = append(left, o)
		}
	}
	l.orders = left
	return due
}

// tear commits a batch as a broker does that is killed in the middle of it: of the
// offsets, and of the states and changes of each partition, each is there or not. What is not
// is written in a transaction that aborts, so that it takes offsets all the same.
func tear(ctx context.Context, s *stripe, b *batch, survives uint64) error {
	if s.claim.HeartbeatAge() > s.p.config.heartbeatLimit() {
		return errOldHeartbeat
	}
	commits := make(map[kafka.Partition]kafka.Commit)
	offsets := survives&1 > 0
	survives >>= 1
	for _, pb := range b.parts {
		states := make([]kafka.Record, len(pb.rows))
		for i := range pb.rows {
			states[i] = pb.rows[i].record
		}
		changed, err := writePart(ctx, s, s.p.config.Names.Changes(), pb, pb.changes, survives&1 > 0)
		if err != nil {
			return err
		}
		stated, err := writePart(ctx, s, s.p.config.Names.State(), pb, states, survives&2 > 0)
		if err != nil {
			return err
		}
		pb.takeNote(changed, stated)
		pb.note.by = s.tx.Sender()
		commits[pb.at] = kafka.Commit{Next: pb.next, Metadata: pb.note.String()}
		survives >>= 2
	}
	if !offsets {
		return nil
	}
	if err := s.tx.Begin(ctx, s.claim, nil); err != nil {
		return err
	}
	if err := s.tx.CommitOffsets(ctx, s.claim, commits); err != nil {
		return err
	}
	return s.tx.End(ctx)
}

func writePart(ctx context.Context, s *stripe, topic string, pb *partBatch, records []kafka.Record, commit bool) ([]kafka.Position, error) {
	if len(records) == 0 {
		return nil, nil
	}
	if err := s.tx.Begin(ctx, nil, []kafka.Partition{{Topic: topic, Index: pb.at.Index}}); err != nil {
		return nil, err
	}
	positions, err := s.tx.Write(ctx, records)
	if err != nil {
		return nil, err
	}
	if commit {
		return positions, s.tx.End(ctx)
	}
	return positions, s.tx.Abort(ctx)
}

// logger writes what a process logs into the trace.
func (s *simulation) logger(name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(noteWriter{s, name}, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{} // the trace has its own
		}
		return a
	}}))
}

type noteWriter struct {
	sim  *simulation
	name string
}

var _ io.Writer = noteWriter{}

func (w noteWriter) Write(line []byte) (int, error) {
	w.sim.note("%s: %s", w.name, strings.TrimSpace(string(line)))
	return len(line), nil
}
