package processor

import (
	"fmt"
	"os"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
)

// A former owner that wakes up in the middle of a transaction, behind any of its
// steps: whatever it does then is refused, nothing of it is seen, and nothing is told
// twice.
func TestProcessor_AnOwnerThatWasFencedWritesNothing(t *testing.T) {
	for s := stepFetch; s < stepEnd; s++ {
		t.Run(stepNames[s], func(t *testing.T) {
			r := seed(t)
			w := newWorld(t, 2)
			w.publish(randomLog(r, 60)...)
			hold, letGo := gate()
			reached := make(chan struct{})
			var once atomic.Bool
			zombie := w.start(func(c *Config) {
				c.Stripes, c.BatchRecords = 1, 15
				c.after = func(at step) error {
					if at == s && once.CompareAndSwap(false, true) {
						close(reached)
						<-hold
					}
					return nil
				}
			})
			t.Cleanup(letGo)
			<-reached
			// Another process takes the stripe over, as far as the broker can tell.
			if _, err := w.client.OpenTransactor(w.ctx, kafka.TransactorOptions{ID: w.names.TransactionalID(1, 0)}); err != nil {
				t.Fatal(err)
			}
			if n := len(w.changes()); n != 0 {
				t.Fatalf("%d changes are seen that were never committed", n)
			}
			letGo()
			zombie.awaitFolded() // it has joined anew, and owns the stripe by right
			zombie.stop()
			w.requireReference()
		})
	}
}

func TestProcessor_ARestartReadsOnlyWhatCameSince(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 4)
	dir := t.TempDir()
	start := func() (*running, prometheus.Gatherer) {
		registry := prometheus.NewRegistry()
		return w.start(func(c *Config) { c.StateDir, c.Registerer = dir, registry }), registry
	}
	restored := func(g prometheus.Gatherer) float64 {
		t.Helper()
		families, err := g.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "assent_processor_restored_records_total" {
				return f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		t.Fatal("no such metric")
		return 0
	}
	w.publish(randomLog(r, 500)...)
	p, _ := start()
	p.awaitReady()
	p.awaitFolded()
	p.stop()

	p, metrics := start()
	p.awaitReady()
	if n := restored(metrics); n != 0 {
		t.Errorf("a restart with nothing new read %v records of the changelog", n)
	}
	p.stop()

	// Another process folds on meanwhile, with its own store.
	other := w.start()
	other.awaitReady()
	before := w.ends(w.names.State())
	w.publish(randomLog(r, 50)...)
	other.awaitFolded()
	other.stop()
	added := 0.0
	for index, end := range w.ends(w.names.State()) {
		added += float64(end - before[index])
	}
	p, metrics = start()
	p.awaitReady()
	if n := restored(metrics); n == 0 || n > added {
		t.Errorf("read %v records of the changelog, want those that were added, at most %v", n, added)
	}
	p.requireStates()
	p.stop()

	// A wiped disk gives the same states.
	whole := p.hashes(dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	p, _ = start()
	p.awaitReady()
	p.requireStates()
	p.stop()
	if again := p.hashes(dir); !reflect.DeepEqual(again, whole) {
		t.Error("the states restored after the disk was wiped hash differently")
	}
	w.requireReference()
}

// requireStates compares what decisions see with the straight fold.
func (r *running) requireStates() {
	r.w.Helper()
	want, _ := r.w.reference()
	for id, state := range want {
		if got, ok := r.State(r.w.ctx, id); !ok || got.State == nil || !reflect.DeepEqual(*got.State, state) {
			r.w.Errorf("state of %s differs (known: %v)", id.Subject, ok)
		}
	}
}

func TestProcessor_AStoreOfAnotherHistoryIsDiscarded(t *testing.T) {
	r := seed(t)
	dir := t.TempDir()
	stored := func(c *Config) { c.StateDir = dir }
	old := newWorld(t, 2)
	old.publish(randomLog(r, 300)...)
	p := old.start(stored)
	p.awaitFolded()
	p.stop()

	w := newWorld(t, 2)
	w.publish(randomLog(r, 300)...)
	first := w.start() // with a store of its own
	first.awaitFolded()
	first.stop()
	p = w.start(stored)
	p.awaitReady()
	p.requireStates()
	if n := testutil.ToFloat64(p.metrics.discarded); n == 0 {
		t.Error("the store of another broker was used")
	}
	p.stop()
	w.requireReference()
}

func TestProcessor_AGrantThatRunsOutIsAnnounced(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 2)
	p := w.start(wallClock)
	grant := event(r, anna, consent.Grant, "m.e", 0)
	grant.ReceivedAt = consent.InstantOf(time.Now())
	grant.EffectiveAt, grant.OccurredAt = grant.ReceivedAt, grant.ReceivedAt
	grant.Policy.ExpiresAt = grant.ReceivedAt.Add(200 * time.Millisecond)
	later := grant
	later.ID, later.Subject = newUUID(r), ben
	policy := *grant.Policy
	policy.ExpiresAt = grant.ReceivedAt.Add(time.Hour)
	later.Policy = &policy
	w.publish(grant, later)
	expired := func() (found []consent.Change) {
		for _, c := range w.changes() {
			if c.To == consent.Expired {
				found = append(found, c)
			}
		}
		return found
	}
	w.eventually("the change", func() error {
		if len(expired()) == 0 {
			return fmt.Errorf("not told")
		}
		return nil
	})
	got := expired()
	if len(got) != 1 || got[0].Subject != anna || !got[0].Withdrawal || got[0].EffectiveAt != grant.Policy.ExpiresAt || got[0].Version != 2 {
		t.Errorf("changes %+v, want one withdrawal of anna's as of the expiry", got)
	}
	p.awaitFolded()
	p.stop()
	w.requireReference()
}

func wallClock(c *Config) { c.now = time.Now }

func TestProcessor_AnExpiryIsAnnouncedOnceThroughRestarts(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	grant := event(r, anna, consent.Grant, "m.e", 0)
	grant.Policy.ExpiresAt = grant.ReceivedAt.Add(time.Hour) // long ago
	w.publish(grant)
	// The event is written, and the process dies before it is folded.
	for i := range 3 {
		hook, crashed := crash(stepFold, max(1, 2-i)) // the first one folds the grant
		p := w.start(hook, wallClock)
		<-crashed
		p.stop()
	}
	p := w.start(wallClock, oneStripe)
	w.eventually("the change", func() error {
		if len(w.changes()) < 2 {
			return fmt.Errorf("not told")
		}
		return nil
	})
	p.awaitFolded()
	p.stop()
	if n := len(w.changes()); n != 2 {
		t.Errorf("%d changes, want granted and expired", n)
	}
	w.requireReference()
}

// Restrictions carry to another partition, through crashes behind every step.
func TestProcessor_ALinkCarriesARefusalToAnotherPartition(t *testing.T) {
	for s := stepFetch; s <= stepStore; s++ {
		t.Run(stepNames[s], func(t *testing.T) {
			r := seed(t)
			w := newWorld(t, 4)
			device := consent.Subject("device:9f")
			user := otherSubject(w, device)
			refusal := event(r, device, consent.Refuse, "m.e", 1)
			link := event(r, device, consent.Link, "*", 2)
			link.LinkTo = user
			w.publish(event(r, user, consent.Grant, "m.e", 0), refusal, link, event(r, device, consent.Withdraw, "m.s", 3))
			for nth := 1; nth <= 2; nth++ {
				hook, crashed := crash(s, nth)
				p := w.start(hook, func(c *Config) { c.BatchRecords = 1 })
				<-crashed
				p.stop()
			}
			p := w.start(oneStripe)
			p.awaitReady()
			w.eventually("the refusals arrive", func() error {
				state, ok := p.state(user, false)
				if !ok || state.Row("m.e") == nil || state.Row("m.s") == nil || state.Row("m.e").Announced.Status != consent.Refused || state.Row("m.s").Announced.Status != consent.Withdrawn {
					return fmt.Errorf("not yet: %v", ok)
				}
				return nil
			})
			p.awaitFolded()
			p.stop()
			w.requireReference()
		})
	}
}

// hashes gives the hash of each partition's rows in the directory of a processor that
// has stopped.
func (r *running) hashes(dir string) map[int32][32]byte {
	r.w.Helper()
	s, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		r.w.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	hashes, total := make(map[int32][32]byte), int64(0)
	for i := range int32(r.w.partitions) {
		rows, err := s.Partition(i)
		if err != nil {
			r.w.Fatal(err)
		}
		hash, n, err := rows.Hash()
		if err != nil {
			r.w.Fatalf("partition %d: %v", i, err)
		}
		hashes[i], total = hash, total+n
		if err := rows.Close(); err != nil {
			r.w.Fatal(err)
		}
	}
	if total == 0 {
		r.w.Error("there are no rows to hash")
	}
	return hashes
}

// A withdrawal that came without stamps counts at the broker's time; its copy, which
// a link carries, keeps that time.
func TestStampedBy_ACopyOfAnUnstampedWithdrawalKeepsItsTimes(t *testing.T) {
	r := seed(t)
	e := event(r, anna, consent.Withdraw, "m", 1)
	e.Policy, e.Carried = nil, &consent.Carried{Subject: ben, EventID: newUUID(r), EffectiveAt: e.EffectiveAt}
	got := e
	if refused := stampedBy(&got, e.ReceivedAt.Add(time.Hour)); refused != nil || got.EffectiveAt != e.EffectiveAt || got.ReceivedAt != e.ReceivedAt {
		t.Errorf("refused %v, effective %s, received %s; want the times of the original", refused, got.EffectiveAt, got.ReceivedAt)
	}
}

func TestProcessor_ALinkThatFallsOutOfAFullListIsTold(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	for i := range 258 {
		link := event(r, anna, consent.Link, "*", i)
		link.LinkTo = consent.Subject(fmt.Sprintf("user:l%d", i))
		w.publish(link)
	}
	p := w.start()
	p.awaitFolded()
	w.eventually("two links that were told to be dropped", func() error { // counted when a batch is done, after it was published
		if n := testutil.ToFloat64(p.metrics.dropped); n != 2 {
			return fmt.Errorf("%v were", n)
		}
		return nil
	})
}
