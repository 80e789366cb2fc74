package processor

import (
	"context"
	"fmt"
	"testing"

	"github.com/assent-dev/assent/internal/kafka"
)

var stepNames = map[step]string{
	stepInit: "init", stepOffsets: "offsets", stepVerify: "verify", stepRestore: "restore", stepAnnounce: "announce",
	stepFetch: "fetch", stepDecode: "decode", stepFold: "fold", stepCarry: "carry", stepBegin: "begin", stepWrite: "write",
	stepCommitOffsets: "commit offsets", stepEnd: "end", stepPublish: "publish", stepStore: "store",
}

func TestProcessor_ACrashBehindAnyStepLosesNothing(t *testing.T) {
	for s := stepInit; s <= stepStore; s++ {
		t.Run(stepNames[s], func(t *testing.T) {
			r := seed(t)
			w := newWorld(t, 2)
			w.publish(randomLog(r, 300)...)
			// Crash after crash: each processor gets a little further.
			for i := range 6 {
				nth := 1 + i%3
				if s <= stepAnnounce {
					nth = 1 // one takeover a processor
				}
				hook, crashed := crash(s, nth)
				p := w.start(hook, func(c *Config) { c.BatchRecords = 10 + r.IntN(20) })
				<-crashed
				p.stop()
			}
			p := w.start(oneStripe) // with another count, it would wait for the open transaction's time-out
			p.awaitReady()
			p.awaitFolded()
			p.stop()
			w.requireReference()
		})
	}
}

func oneStripe(c *Config) { c.Stripes = 1 }

// committed gives the group's offset in partition 0.
func (w *world) committed() kafka.NextOffset { return w.commit().Next }

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
		hook, crashed := crash(stepFetch+step(r.IntN(int(stepStore-stepFetch)+1)), 1+r.IntN(4))
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
	p := w.start(oneStripe)
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
		if end > 0 && r.waitFolded(ctx, index, int64(end)-1) != nil {
			return
		}
	}
}
