package processor

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
)

// byHand is the stripe of a claim before its takeover.
func (w *world) byHand(claim *kafka.Claim, change func(*Config)) *stripe {
	w.Helper()
	config := w.config()
	config.Stripes = 1
	change(&config)
	p, err := New(config, w.newClient())
	if err != nil {
		w.Fatal(err)
	}
	if p.store, err = store.Open(store.Options{}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = p.store.Close() })
	s := p.newStripe(claim, w.producer)
	if err := s.open(w.ctx); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { s.close(func() {}) })
	return s
}

// A former owner, an attempt of the same process before, commits while its stripe is
// taken over, as soon as the first step of that is done. Either it is refused, or
// what it committed is where folding goes on: else its events would be folded twice.
func TestTakeover_ReadsTheOffsetsOnceNobodyElseCanMoveThem(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m", 1), event(r, anna, consent.Withdraw, "a", 2))
	at := kafka.Partition{Topic: w.names.Events()}
	w.inGroup(func(ctx context.Context, claim *kafka.Claim) error {
		former, err := w.client.OpenTransactor(ctx, kafka.TransactorOptions{ID: w.names.TransactionalID(1, 0)})
		if err != nil {
			return err
		}
		commit := func() error {
			if err := former.Begin(ctx, claim, nil); err != nil {
				return err
			}
			if err := former.CommitOffsets(ctx, claim, map[kafka.Partition]kafka.Commit{at: {Next: 2}}); err != nil {
				return err
			}
			return former.End(ctx)
		}
		var first sync.Once
		var refused error
		s := w.byHand(claim, func(c *Config) {
			c.after = func(step) error {
				first.Do(func() { refused = commit() })
				return nil
			}
		})
		from, err := s.takeover(ctx)
		if err != nil {
			return err
		}
		want := kafka.NextOffset(0)
		if refused == nil {
			want = 2
		} else if !errors.Is(refused, kafka.ErrFenced) {
			return refused
		}
		if from[at] != want {
			t.Errorf("folds from %d, but the former owner committed %d", from[at], want)
		}
		return nil
	})
}

// A process whose stripe was given to another sleeps on before its first step, and
// takes the transactional id when it wakes up. The group's coordinator, which its
// announcement has to ask, refuses it.
func TestTakeover_AProcessThatLostTheStripeAnnouncesNothing(t *testing.T) {
	w := newWorld(t, 1)
	member := func(client *kafka.Client, work func(*kafka.Claim)) (leave func()) {
		ctx, cancel := context.WithCancel(w.ctx)
		done := make(chan error)
		go func() {
			done <- client.RunGroup(ctx, kafka.GroupOptions{
				Group: w.names.ProcessorGroup(), Topics: []string{w.names.Events()}, Stripes: 1, RebalanceTimeout: 500 * time.Millisecond,
			}, func(ctx context.Context, claim *kafka.Claim) error {
				work(claim)
				<-ctx.Done()
				return nil
			})
		}()
		return sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	asleep, woken := make(chan struct{}), make(chan struct{})
	answered := make(chan error, 1)
	var once sync.Once
	leave := member(w.client, func(claim *kafka.Claim) {
		once.Do(func() {
			close(asleep)
			<-woken
			s := w.byHand(claim, func(c *Config) { c.SessionTimeout = time.Minute }) // so that its heartbeat looks young
			_, err := s.takeover(w.ctx)
			answered <- err
		})
	})
	defer leave()
	<-asleep
	given := make(chan struct{}, 10)
	defer member(w.newClient(), func(*kafka.Claim) { given <- struct{}{} })()
	<-given
	close(woken)
	if err := <-answered; !errors.Is(err, kafka.ErrFenced) {
		t.Errorf("the takeover answered %v, want that it is fenced", err)
	}
	w.read(w.names.Owners(), func(m *kafka.Message) { t.Errorf("%s names an owner", m.Position) })
	leave()
}

// Another process takes the transactional id of a stripe while its owner is suspended
// in the middle of a batch, behind any step. When the owner wakes up it commits nothing
// before it has taken the stripe over anew: its transaction, offsets included, is gone.
func TestProcessor_AnOwnerThatWasFencedTakesOverBeforeItCommits(t *testing.T) {
	for s := stepFetch; s < stepEnd; s++ {
		t.Run(stepNames[s], func(t *testing.T) {
			r := seed(t)
			w := newWorld(t, 1)
			w.publish(randomLog(r, 30)...)
			hold, letGo := gate()
			reached := make(chan struct{})
			woken := false // of the stripe's goroutine, as is next
			next := make(chan step, 1)
			p := w.start(oneStripe, func(c *Config) {
				c.after = func(at step) error {
					switch {
					case at == s && !woken:
						woken = true
						close(reached)
						<-hold
					case woken && (at == stepInit || at == stepEnd):
						select {
						case next <- at:
						default:
						}
					}
					return nil
				}
			})
			t.Cleanup(letGo)
			<-reached
			if _, err := w.client.OpenTransactor(w.ctx, kafka.TransactorOptions{ID: w.names.TransactionalID(1, 0)}); err != nil {
				t.Fatal(err)
			}
			letGo()
			if at := <-next; at != stepInit {
				t.Errorf("the next of its steps that a broker answered is %s, want %s", stepNames[at], stepNames[stepInit])
			}
			p.awaitFolded()
			p.stop()
			w.requireReference()
		})
	}
}
