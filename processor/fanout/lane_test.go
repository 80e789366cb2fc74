package fanout

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/schemas"
)

func TestLane_TellsEachChangeSignedAndRecordsIt(t *testing.T) {
	w := newWorld(t, 4)
	e := newEndpoint(t, nil)
	r := w.start(w.registry(downstream("crm", e.URL, "")))
	w.publish(subjects(20)...)
	w.eventually("all are told", func() bool { return len(e.taken()) == 20 })
	for _, s := range e.all() {
		if !s.valid || !strings.HasSuffix(s.id, "_crm") || strings.Contains(s.id, ".") {
			t.Errorf("webhook %+v", s)
		}
	}
	w.eventually("all are recorded", func() bool { return len(w.deliveries()) >= 20 })
	r.stop()
	if r.err != nil {
		t.Error(r.err)
	}
	told := map[consent.UUID]int{}
	for _, d := range w.deliveries() {
		told[d.ChangeID]++
		if d.Outcome != schemas.Delivered || d.HTTPStatus != http.StatusNoContent || d.Attempt != 1 || d.Downstream != "crm" || !d.Withdrawal || d.ChangeReceivedAt == 0 {
			t.Errorf("delivery %+v", d)
		}
	}
	if len(told) != 20 {
		t.Errorf("%d changes have a delivery, want 20", len(told))
	}
}

func TestLane_ARestartRepeatsNothingWhenAllWasCommitted(t *testing.T) {
	w := newWorld(t, 4)
	e := newEndpoint(t, nil)
	reg := w.registry(downstream("crm", e.URL, ""))
	r := w.start(reg)
	w.publish(subjects(30)...)
	w.eventually("all are told and recorded", func() bool { return len(e.taken()) == 30 && len(w.deliveries()) >= 30 })
	r.stop()
	r = w.start(reg)
	w.publish("user:new")
	w.eventually("the new one is told", func() bool { return len(e.taken()) > 30 })
	r.stop()
	if n := len(e.all()); n != 31 {
		t.Errorf("%d requests, want 31", n)
	}
}

// Random failures: every change is taken, and the first time that each version
// of a subject is taken is in the order of the versions.
func TestLane_KeepsTheOrderOfEachSubjectUnderRandomFailures(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	var fail [100_000]uint8
	for i := range fail {
		fail[i] = uint8(r.IntN(10))
	}
	w := newWorld(t, 4)
	e := newEndpoint(t, func(n int, _ seen) (int, http.Header) {
		switch fail[n%len(fail)] {
		case 0, 1, 2:
			return http.StatusInternalServerError, nil
		case 3:
			return http.StatusServiceUnavailable, nil
		}
		return http.StatusOK, nil
	})
	d := w.start(w.registry(downstream("crm", e.URL, "")), func(c *Config, _ *Deps) { c.BreakAfter = 50 })
	const people, each = 12, 8
	for range each {
		w.publish(subjects(people)...)
	}
	w.eventually("every change is taken", func() bool {
		have := map[string]bool{}
		for _, s := range e.taken() {
			have[s.id] = true
		}
		return len(have) == people*each
	})
	d.stop()
	last := map[string]int64{}
	for _, s := range e.taken() {
		if s.version > last[s.subject]+1 {
			t.Errorf("%s: version %d was taken before %d", s.subject, s.version, last[s.subject]+1)
		}
		last[s.subject] = max(last[s.subject], s.version)
	}
}

func TestLane_ADeadDownstreamDelaysNoOther(t *testing.T) {
	w := newWorld(t, 4)
	dead := newEndpoint(t, always(http.StatusInternalServerError))
	dead.Close()
	declared := []string{downstream("dead", dead.URL, "")}
	var well []*endpoint
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		e := newEndpoint(t, nil)
		well = append(well, e)
		declared = append(declared, downstream(name, e.URL, ""))
	}
	r := w.start(w.registry(declared...))
	w.eventually("every lane has its start", func() bool { return r.Ready() == nil })
	began := time.Now()
	w.publish(subjects(50)...)
	for _, e := range well {
		w.eventually("a healthy downstream hears all", func() bool { return len(e.taken()) == 50 })
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the healthy ones took %s beside a dead one", took)
	}
	if state := r.gate("dead"); state != gateBroken {
		t.Errorf("the dead lane's gate is %s", state)
	}
	r.stop()
}

func TestLane_ARefusedChangeBecomesADeadLetterAndTheNextOneGoes(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, func(_ int, s seen) (int, http.Header) {
		if s.version == 1 {
			return http.StatusUnprocessableEntity, nil
		}
		return http.StatusOK, nil
	})
	r := w.start(w.registry(downstream("crm", e.URL, ", attempts: 3")))
	w.publish("user:1", "user:1")
	w.eventually("the second version is taken", func() bool { return len(e.taken()) == 1 })
	r.stop()
	if n := len(e.all()); n != 4 {
		t.Errorf("%d requests, want 3 of the first and 1 of the second", n)
	}
	letters := w.letters()
	if len(letters) != 1 || letters[0].Code != "rejected_422" || letters[0].Downstream != "crm" || letters[0].Offset != 0 || letters[0].Topic != w.names.Changes() {
		t.Fatalf("dead letters %+v", letters)
	}
	if c, err := schemas.DecodeChange(letters[0].Value); err != nil || c.Version != 1 {
		t.Errorf("its bytes: %+v, %v", c, err)
	}
	var outcomes []string
	for _, d := range w.deliveries() {
		outcomes = append(outcomes, d.Outcome.String())
	}
	if got := strings.Join(outcomes, " "); got != "retrying retrying dead_lettered delivered" {
		t.Errorf("outcomes %s", got)
	}
}

func TestLane_AWrongEndpointPausesAndResumesByItselfAndNothingIsLost(t *testing.T) {
	w := newWorld(t, 2)
	e := newEndpoint(t, always(http.StatusNotFound))
	r := w.start(w.registry(downstream("crm", e.URL, "")))
	w.publish(subjects(40)...)
	w.eventually("the lane is paused", func() bool {
		return r.gate("crm") == gatePaused
	})
	if n := len(e.all()); n > 20 {
		t.Errorf("%d requests to a wrong endpoint: a storm", n)
	}
	e.set(nil)
	w.eventually("all are told after the repair", func() bool { return len(e.taken()) == 40 })
	r.stop()
	if letters := w.letters(); len(letters) != 0 {
		t.Errorf("%d dead letters", len(letters))
	}
}

func TestLane_WaitsAsLongAsRetryAfterSays(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, func(n int, _ seen) (int, http.Header) {
		if n == 0 {
			return http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}}
		}
		return http.StatusOK, nil
	})
	r := w.start(w.registry(downstream("crm", e.URL, ", concurrency: 1")))
	w.publish("user:1", "user:2", "user:3")
	w.eventually("all are told", func() bool { return len(e.taken()) == 3 })
	all := e.all()
	for _, s := range all {
		if s.status < 300 && s.at.Sub(all[0].at) < time.Second {
			t.Errorf("told %s after it was asked to wait a second", s.at.Sub(all[0].at))
		}
	}
	r.stop()
}

// A crash between the delivery and the commit: told again, under the same id.
func TestLane_ACrashRepeatsUnderTheSameID(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, nil)
	reg := w.registry(downstream("crm", e.URL, ""))
	r := w.start(reg, func(c *Config, _ *Deps) { c.CommitInterval = time.Hour })
	w.eventually("the lane has its start", func() bool { return r.Ready() == nil })
	hold := make(chan struct{})
	e.set(func(_ int, s seen) (int, http.Header) {
		if s.subject == "user:held" {
			<-hold // keeps the claim busy, so that nothing is committed
		}
		return http.StatusOK, nil
	})
	w.publish("user:held", "user:1", "user:2")
	w.eventually("two are told", func() bool { return len(e.taken()) == 2 })
	r.die()
	close(hold)
	first := e.taken()
	e.set(nil)
	r = w.start(reg)
	w.eventually("all are told by the next one", func() bool { return len(e.taken()) >= len(first)+3 })
	r.stop()
	ids := map[string]int{}
	for _, s := range e.taken() {
		ids[s.id]++
	}
	if len(ids) != 3 {
		t.Errorf("%d webhook ids for three changes: %v", len(ids), ids)
	}
}

// One subject's change is refused by the endpoint for ever: the others' position
// moves on, and a restart repeats only that one.
func TestLane_AChangeThatIsTriedForLongHoldsBackNoPosition(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, func(_ int, s seen) (int, http.Header) {
		if s.subject == "user:0" {
			return http.StatusInternalServerError, nil
		}
		return http.StatusOK, nil
	})
	reg := w.registry(downstream("crm", e.URL, ""))
	patient := func(c *Config, _ *Deps) { c.BreakAfter = 1_000_000 }
	r := w.start(reg, patient)
	w.publish(subjects(50)...)
	w.eventually("all others are told", func() bool { return len(e.taken()) == 49 })
	r.stop()
	before := len(e.taken())
	e.set(nil)
	r = w.start(reg, patient)
	w.eventually("the stubborn one is told after the restart", func() bool { return len(e.taken()) > before })
	w.publish("user:last")
	w.eventually("and what comes later", func() bool { return len(e.taken()) > before+1 })
	r.stop()
	if got := len(e.taken()); got != before+2 {
		t.Errorf("%d were told after the restart, want 2", got-before)
	}
}

func TestLane_StartNowHearsOnlyWhatComesLater(t *testing.T) {
	w := newWorld(t, 2)
	e := newEndpoint(t, nil)
	w.publish(subjects(10)...)
	r := w.start(w.registry(downstream("crm", e.URL, "") + "    start: now\n"))
	w.eventually("the lane has its start", func() bool { return r.Ready() == nil })
	w.publish("user:later")
	w.eventually("the later one is told", func() bool { return len(e.taken()) > 0 })
	r.stop()
	if all := e.all(); len(all) != 1 || all[0].subject != "user:later" {
		t.Errorf("told %+v", all)
	}
}

// One of two stripes has its start: what comes to the other one now would be missed.
func TestLane_IsNotReadyBeforeEachStripeHasItsStart(t *testing.T) {
	w := newWorld(t, 2)
	e := newEndpoint(t, nil)
	held, release := w.holdCommit(2)
	fetching := make(chan struct{})
	once := sync.OnceFunc(func() { close(fetching) })
	w.fake.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.fake.KeepControl()
		once()
		return nil, nil, false
	})
	r := w.start(w.registry(downstream("crm", e.URL, "") + "    start: now\n"))
	<-held
	<-fetching // the first stripe is at work
	if r.Ready() == nil {
		t.Fatal("ready with one of two starts")
	}
	release()
	w.eventually("the other stripe has its start", func() bool { return r.Ready() == nil })
}

// What was answered before the stop is not told again, though the stop comes while the
// position of something else is being committed.
func TestLane_AStopDuringACommitLosesNoOutcome(t *testing.T) {
	w := newWorld(t, 1)
	slow := make(chan struct{})
	e := newEndpoint(t, func(_ int, s seen) (int, http.Header) {
		if s.subject == "user:slow" {
			<-slow
		}
		return http.StatusOK, nil
	})
	reg := w.registry(downstream("crm", e.URL, ""))
	held, release := w.holdCommit(2) // behind that of the start
	r := w.start(reg)
	w.eventually("the lane has its start", func() bool { return r.Ready() == nil })
	w.publish("user:slow", "user:quick")
	<-held
	r.cancel()
	time.Sleep(50 * time.Millisecond) // it hears of it
	close(slow)
	release()
	r.stop()
	w.start(reg)
	w.publish("user:last")
	w.eventually("what comes later is told", func() bool { return len(e.taken()) >= 3 })
	if got := len(e.taken()); got != 3 {
		t.Errorf("%d were told, want 3", got)
	}
}

func TestDispatcher_AReloadAddsAndRemovesLanes(t *testing.T) {
	w := newWorld(t, 2)
	a, b := newEndpoint(t, nil), newEndpoint(t, nil)
	r := w.start(w.registry(downstream("a", a.URL, "")))
	w.publish("user:1")
	w.eventually("a hears", func() bool { return len(a.taken()) == 1 })
	r.store.Replace(w.registry(downstream("b", b.URL, "")))
	r.Reload()
	w.eventually("b hears from the beginning", func() bool { return len(b.taken()) == 1 })
	w.publish("user:2")
	w.eventually("b hears on", func() bool { return len(b.taken()) == 2 })
	if n := len(a.all()); n != 1 {
		t.Errorf("a was removed and heard %d changes", n)
	}
	r.stop()
}

func TestDispatcher_TwoProcessesShareTheStripesAndASpareOneIsReady(t *testing.T) {
	w := newWorld(t, 4)
	e := newEndpoint(t, nil)
	reg := w.registry(downstream("crm", e.URL, ""))
	one := func(c *Config, _ *Deps) { c.Stripes = 1 }
	a, b := w.start(reg, one), w.start(reg, one)
	w.eventually("both are ready, though one has nothing to do", func() bool { return a.Ready() == nil && b.Ready() == nil })
	w.publish(subjects(30)...)
	w.eventually("all are told", func() bool { return len(e.taken()) >= 30 })
	a.stop()
	w.publish(subjects(30)...)
	w.eventually("the other goes on", func() bool {
		ids := map[string]bool{}
		for _, s := range e.taken() {
			ids[s.id] = true
		}
		return len(ids) == 60
	})
	b.stop()
}

func TestLane_AMissingSecretPausesItUntilItIsThere(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, nil)
	var there atomic.Bool
	r := w.start(w.registry(downstream("crm", e.URL, "")), func(_ *Config, d *Deps) {
		d.Secrets = func(registry.SecretRef) (string, error) {
			if !there.Load() {
				return "", errors.New("secret env:SECRET is not set")
			}
			return testSecret, nil
		}
	})
	w.publish("user:1")
	w.eventually("the lane is paused", func() bool {
		return r.gate("crm") == gatePaused
	})
	if len(e.all()) != 0 {
		t.Error("something was sent unsigned")
	}
	there.Store(true)
	w.eventually("it is told once the secret is there", func() bool { return len(e.taken()) == 1 })
	r.stop()
}

func TestLane_APoisonedRecordIsADeadLetterAndTheRestGoesOn(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, nil)
	w.write([]byte("default|user:1"), []byte("no Avro"))
	w.publish("user:1")
	r := w.start(w.registry(downstream("crm", e.URL, "")))
	w.eventually("the good one is told", func() bool { return len(e.taken()) == 1 })
	r.stop()
	letters := w.letters()
	if len(letters) != 1 || letters[0].Code != "undecodable" || string(letters[0].Value) != "no Avro" {
		t.Errorf("dead letters %+v", letters)
	}
}

func TestLane_StopsSoonThoughTheEndpointHangs(t *testing.T) {
	w := newWorld(t, 1)
	hang := make(chan struct{})
	e := newEndpoint(t, func(int, seen) (int, http.Header) { <-hang; return http.StatusOK, nil })
	r := w.start(w.registry(downstream("crm", e.URL, "")))
	arrived := make(chan struct{}, 100)
	e.set(func(int, seen) (int, http.Header) { arrived <- struct{}{}; <-hang; return http.StatusOK, nil })
	w.publish(subjects(10)...)
	<-arrived
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the stop took %s", took)
	}
	close(hang)
	e.set(nil)
	r = w.start(w.registry(downstream("crm", e.URL, "")))
	w.eventually("all are told by the next one", func() bool {
		ids := map[string]bool{}
		for _, s := range e.taken() {
			ids[s.id] = true
		}
		return len(ids) == 10
	})
	r.stop()
}

func TestLane_AFullWindowStopsReadingAndGoesOnWhenThereIsRoom(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, always(http.StatusInternalServerError))
	r := w.start(w.registry(downstream("crm", e.URL, "")), func(c *Config, _ *Deps) { c.MaxPending = 5 })
	w.publish(subjects(60)...)
	// Each change that was read gets its turn as a probe: after many of them, what
	// was never seen was not read.
	w.eventually("many probes have failed", func() bool { return len(e.all()) >= 60 })
	tried := map[string]bool{}
	for _, s := range e.all() {
		tried[s.subject] = true
	}
	if len(tried) > 15 {
		t.Errorf("%d changes were read ahead, want at most 5 and two fetches of 5", len(tried))
	}
	e.set(nil)
	w.eventually("all are told", func() bool { return len(e.taken()) == 60 })
	r.stop()
}

func TestDispatcher_HasNoLaneForOtherDeliveries(t *testing.T) {
	w := newWorld(t, 1)
	r := w.start(w.registry("  - {name: ads, purposes: [\"*\"], delivery: {topic: {name: ads.suppressions}}}\n"))
	w.eventually("ready without a lane", func() bool { return r.Ready() == nil })
	r.mu.Lock()
	lanes := len(r.lanes)
	r.mu.Unlock()
	if lanes != 0 {
		t.Errorf("%d lanes", lanes)
	}
	r.stop()
}

// When an endpoint answers again everything that it made wait goes at once,
// however far its next attempt was away.
func TestLane_EverythingGoesWhenTheEndpointAnswersAgain(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, always(http.StatusInternalServerError))
	r := w.start(w.registry(downstream("crm", e.URL, "")), func(c *Config, _ *Deps) {
		c.Backoff = []time.Duration{10 * time.Millisecond, time.Hour}
		c.BreakAfter = 5
	})
	w.publish(subjects(10)...)
	w.eventually("ten have failed twice or wait for the gate", func() bool { return len(e.all()) >= 12 })
	e.set(nil)
	w.publish("user:probe") // is due at once, and finds out
	w.eventually("all are told", func() bool { return len(e.taken()) == 11 })
	r.stop()
}
