package processor

import (
	"context"
	"fmt"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

var stepNames = map[step]string{
	stepFetch: "fetch", stepDecode: "decode", stepFold: "fold", stepTell: "tell",
	stepSave: "save", stepPublish: "publish", stepCommit: "commit",
}

func TestProcessor_ACrashBehindAnyStepLosesNothing(t *testing.T) {
	for s := stepFetch; s <= stepCommit; s++ {
		t.Run(stepNames[s], func(t *testing.T) {
			r := seed(t)
			w := newWorld(t, 2)
			w.publish(randomLog(r, 300)...)
			// Crash after crash: each processor gets a little further.
			for i := range 6 {
				hook, crashed := crash(s, 1+i%3)
				p := w.start(hook, func(c *Config) { c.BatchRecords = 10 + r.IntN(20) })
				<-crashed
				p.stop()
			}
			p := w.start()
			p.awaitReady()
			p.awaitFolded()
			p.stop()
			w.requireReference()
		})
	}
}

// Proves that steps 4 and 5 stand in the order in which they must.
func TestProcessor_StatesBeforeChangesWouldLoseAChange(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m", 1))
	hook, crashed := crash(stepSave, 1)
	p := w.start(hook, func(c *Config) { c.Order = StatesThenChanges })
	<-crashed
	p.stop()

	p = w.start(func(c *Config) { c.Order = StatesThenChanges })
	p.awaitFolded()
	p.stop()
	if states := w.restored(); len(states) != 1 {
		t.Fatalf("%d states, want the withdrawal's", len(states))
	}
	if changes := w.changes(); len(changes) != 0 {
		t.Errorf("%d changes: the swapped order told the withdrawal after all, so this test no longer shows why the order matters", len(changes))
	}
}

func TestProcessor_ACrashBetweenChangesAndStatesTellsTheSameAgain(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Grant, "m.e", 1), event(r, anna, consent.Withdraw, "m", 2))
	hook, crashed := crash(stepTell, 1)
	p := w.start(hook)
	<-crashed
	p.stop()
	first := w.changes()
	if len(first) == 0 {
		t.Fatal("nothing was told before the crash")
	}
	p = w.start()
	p.awaitFolded()
	p.stop()
	again := w.changes()
	if len(again) != 2*len(first) {
		t.Fatalf("%d changes after the restart, want each of %d twice", len(again), len(first))
	}
	for i := range first {
		if again[len(first)+i] != first[i] {
			t.Errorf("told again with another content:\n%+v\n%+v", first[i], again[len(first)+i])
		}
	}
	w.requireReference()
}

// A crash within step 5 leaves a prefix of the rows, at any place.
func TestProcessor_ACrashWithinTheStatesLosesNothing(t *testing.T) {
	r := seed(t)
	log := randomLog(r, 120)
	for cut := 0; ; cut += 1 + r.IntN(6) {
		w := newWorld(t, 1)
		w.publish(log...)
		hook, crashed := crash(stepTell, 3)
		p := w.start(hook, func(c *Config) { c.BatchRecords = 20 })
		<-crashed
		p.stop()
		rows := w.rowsOfNextBatch(20)
		if cut > len(rows) {
			return
		}
		w.produce(rows[:cut]...)
		p = w.start(func(c *Config) { c.BatchRecords = 1 + r.IntN(30) })
		p.awaitFolded()
		p.stop()
		if w.requireReference(); t.Failed() {
			t.Fatalf("cut after %d of %d rows", cut, len(rows))
		}
	}
}

// rowsOfNextBatch gives the state rows of the batch behind the committed offset of
// partition 0, as step 5 would write them.
func (w *world) rowsOfNextBatch(records int) []kafka.Record {
	w.Helper()
	from := w.committed()
	tables, err := restore(w.ctx, w.client, w.names.State(), []int32{0}, w.partitions)
	if err != nil {
		w.Fatal(err)
	}
	f := newFolding(tables[0].table, consent.Fold)
	w.read(w.names.Events(), func(m *kafka.Message) {
		if next := kafka.NextOffset(m.Offset); next < from || next >= from+kafka.NextOffset(records) {
			return
		}
		e, refused := decode(m, w.partitions)
		if refused != nil {
			w.Fatal(refused.reason)
		}
		if _, err := f.add(&e, m.Offset); err != nil {
			w.Fatal(err)
		}
	})
	rows, err := stateRecords(w.names, f.moved())
	if err != nil {
		w.Fatal(err)
	}
	return rows
}

// committed gives the group's offset in partition 0, by joining it for a moment.
func (w *world) committed() kafka.NextOffset {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var next kafka.NextOffset
	var fault error
	err := w.client.RunGroup(ctx, kafka.GroupOptions{Group: w.names.ProcessorGroup(), Topics: []string{w.names.Events()}, Stripes: 1},
		func(ctx context.Context, claim *kafka.Claim) error {
			defer cancel()
			commits, err := claim.Committed(ctx)
			next, fault = commits[kafka.Partition{Topic: w.names.Events()}].Next, err
			return nil
		})
	if err != nil || fault != nil {
		w.Fatal(err, fault)
	}
	return next
}

func TestProcessor_TwoShareTheStripesAndOneLeaves(t *testing.T) {
	for _, polite := range []bool{true, false} {
		t.Run(fmt.Sprintf("polite=%v", polite), func(t *testing.T) {
			r := seed(t)
			w := newWorld(t, 8)
			small := func(c *Config) { c.BatchRecords, c.SessionTimeout = 25, 1200e6 }
			one, two := w.start(small), w.start(small)
			owned := func(p *running) int {
				p.owned.mu.RLock()
				defer p.owned.mu.RUnlock()
				return len(p.owned.partitions)
			}
			w.eventually("both have half", func() error {
				if a, b := owned(one), owned(two); a != 4 || b != 4 {
					return fmt.Errorf("one owns %d, two owns %d", a, b)
				}
				return nil
			})
			log := randomLog(r, 1200)
			w.publish(log[:400]...)
			one.awaitAnyFold()
			published := make(chan struct{})
			go func() {
				defer close(published)
				for i := 400; i < len(log); i += 50 {
					w.publish(log[i:min(i+50, len(log))]...)
				}
			}()
			if polite {
				one.stop()
			} else {
				one.die()
			}
			<-published
			w.eventually("two has all", func() error {
				if n := owned(two); n != 8 {
					return fmt.Errorf("two owns %d", n)
				}
				return nil
			})
			two.awaitFolded()
			two.stop()
			w.requireReference()
		})
	}
}

// awaitAnyFold waits until the processor has folded something.
func (r *running) awaitAnyFold() {
	r.w.Helper()
	r.w.eventually("a first fold", func() error {
		r.owned.mu.RLock()
		defer r.owned.mu.RUnlock()
		for _, p := range r.owned.partitions {
			if next, _ := p.progress(); next > 0 {
				return nil
			}
		}
		return fmt.Errorf("nothing folded")
	})
}

func TestProcessor_RandomCrashesUnderLoadLoseNothing(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 3)
	log := randomLog(r, 2000)
	published := make(chan struct{})
	go func() {
		defer close(published)
		for i := 0; i < len(log); i += 40 {
			w.publish(log[i:min(i+40, len(log))]...)
		}
	}()
	for range 8 {
		hook, crashed := crash(step(1+r.IntN(int(stepCommit))), 1+r.IntN(4))
		p := w.start(hook, func(c *Config) { c.BatchRecords = 1 + r.IntN(60) })
		select {
		case <-crashed:
		case <-func() chan struct{} { // there may be nothing left to crash at
			idle := make(chan struct{})
			go func() {
				defer close(idle)
				<-published
				p.awaitFoldedOr(crashed)
			}()
			return idle
		}():
		}
		p.stop()
	}
	<-published
	p := w.start()
	p.awaitReady()
	p.awaitFolded()
	p.stop()
	w.requireReference()
}

// awaitFoldedOr is awaitFolded that a crash may end.
func (r *running) awaitFoldedOr(crashed <-chan struct{}) {
	ctx, cancel := context.WithTimeout(r.w.ctx, patience)
	defer cancel()
	go func() {
		select {
		case <-crashed:
			cancel()
		case <-ctx.Done():
		}
	}()
	for index, end := range r.w.ends(r.w.names.Events()) {
		if end > 0 && r.WaitFolded(ctx, index, int64(end)-1) != nil {
			return
		}
	}
}
