package store

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// idle is an engine with a number of compactions to run, each of which ends when it is told.
type idle struct {
	mu      sync.Mutex
	left    int
	order   float64
	running *atomic.Int64
	most    *atomic.Int64
	ran     *sync.WaitGroup
	gone    atomic.Bool
	t       *testing.T
}

func (e *idle) GetAllowedWithoutPermission() int { return 1 }

func (e *idle) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	e.check()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.left > 0, pebble.WaitingCompaction{Score: e.order}
}

func (e *idle) Schedule(h pebble.CompactionGrantHandle) bool {
	e.check()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left == 0 {
		return false
	}
	e.left--
	e.run(h)
	return true
}

func (e *idle) run(h pebble.CompactionGrantHandle) {
	n := e.running.Add(1)
	for m := e.most.Load(); n > m && !e.most.CompareAndSwap(m, n); m = e.most.Load() {
	}
	go func() {
		e.running.Add(-1)
		h.Done()
		e.ran.Done()
	}()
}

func (e *idle) check() {
	if e.gone.Load() {
		e.t.Error("an engine was asked after Unregister")
	}
}

func TestCompactions_AllRunAndNoMoreAtOnceThanAllowed(t *testing.T) {
	c := newCompactions()
	c.atOnce = 2
	var running, most atomic.Int64
	var ran sync.WaitGroup
	var held atomic.Bool
	held.Store(true)
	members := make([]*member, 5)
	engines := make([]*idle, len(members))
	for i := range members {
		engines[i] = &idle{left: 200, order: float64(i), running: &running, most: &most, ran: &ran, t: t}
		members[i] = c.newMember(func() bool { return !held.Load() })
		members[i].Register(2, engines[i])
		ran.Add(200)
	}
	for i, m := range members { // as engines do
		if ok, _ := m.TrySchedule(); ok {
			t.Fatalf("engine %d may compact while it is held", i)
		}
	}
	held.Store(false)
	c.grant()
	ran.Wait()
	if most.Load() > 2 {
		t.Fatalf("%d at once", most.Load())
	}
	ok, h := members[0].TrySchedule()
	if !ok {
		t.Fatal("refused while nothing runs")
	}
	other, g := members[1].TrySchedule()
	if !other {
		t.Fatal("refused while one of two runs")
	}
	if ok, _ := members[2].TrySchedule(); ok {
		t.Fatal("three at once")
	}
	members[0].Unregister()
	engines[0].gone.Store(true)
	ran.Add(1)
	engines[2].mu.Lock()
	engines[2].left = 1
	engines[2].mu.Unlock()
	h.Done() // gives its place to who was refused
	g.Done()
	ran.Wait()
}

// asked blocks while it is asked.
type asked struct {
	idle
	began, end chan struct{}
}

func (a *asked) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	close(a.began)
	<-a.end
	return false, pebble.WaitingCompaction{}
}

func TestCompactions_AnEngineIsNotAskedOnceItIsClosed(t *testing.T) {
	c := newCompactions()
	m := c.newMember(func() bool { return true })
	e := &asked{began: make(chan struct{}), end: make(chan struct{})}
	m.Register(2, e)
	var all sync.WaitGroup
	all.Go(c.grant)
	<-e.began
	gone := make(chan struct{})
	all.Go(func() {
		m.Unregister()
		close(gone)
	})
	select {
	case <-gone:
		t.Error("unregistered while the engine is being asked")
	case <-time.After(50 * time.Millisecond):
	}
	close(e.end)
	all.Wait()
	<-gone
}
