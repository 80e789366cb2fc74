package owner

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/processor/decision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0 draws one")

func seed(t testing.TB) *rand.Rand {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d (repeat with -seed %d)", s, s)
	return rand.New(rand.NewPCG(s, 1))
}

const (
	patience   = 20 * time.Second
	partitions = 12
	stripes    = 4
	secret     = "a secret of the installation"
)

// world is what all processes of an installation have in common.
type world struct {
	testing.TB
	states map[consent.SubjectID]*consent.State
}

func newWorld(t testing.TB) *world {
	return &world{TB: t, states: make(map[consent.SubjectID]*consent.State)}
}

func subject(n int) consent.SubjectID {
	return consent.SubjectID{Tenant: consent.DefaultTenant, Subject: consent.Subject(fmt.Sprintf("user:%d", n))}
}

func partitionOf(id consent.SubjectID) int32 { return kafka.PartitionFor(id.Key(), partitions) }

// grant puts a subject on record, told apart by its clock.
func (w *world) grant(id consent.SubjectID, clock consent.Instant) {
	e := &consent.Event{
		ID: consent.UUID{byte(clock)}, Tenant: id.Tenant, Subject: id.Subject, Test: id.Test, Action: consent.Grant, Purpose: "m.e",
		OccurredAt: clock, ReceivedAt: clock, EffectiveAt: clock, Policy: &consent.Policy{Version: "v1", Model: consent.OptIn},
	}
	s, _, _ := consent.Fold(consent.State{}, e)
	w.states[id] = &s
}

// process is one processor, its fold faked: what it owns, it knows all about.
type process struct {
	w *world
	*Router
	local    *fakeLocal
	server   *httptest.Server
	requests *counter // of peers
	conns    *counter // that are open
	metrics  *prometheus.Registry
	hold     func() // if set, each answer is complete before it is called, and sent after
}

func (w *world) start(name string, change ...func(*Config)) *process {
	w.Helper()
	p := &process{w: w, local: newFakeLocal(w), requests: new(counter), conns: new(counter), metrics: prometheus.NewRegistry()}
	config := Config{
		Local: p.local, Directory: NewDirectory(nil, topic.Names{}, stripes, nil), Instance: name, Secret: secret,
		Registerer: p.metrics, Logger: testLogger(w.TB),
	}
	for _, f := range change {
		f(&config)
	}
	var err error
	if p.Router, err = NewRouter(config); err != nil {
		w.Fatal(err)
	}
	mux := http.NewServeMux()
	p.Register(mux)
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		p.requests.add(1)
		if p.hold == nil {
			mux.ServeHTTP(rw, r)
			return
		}
		held := httptest.NewRecorder()
		mux.ServeHTTP(held, r)
		p.hold()
		rw.WriteHeader(held.Code)
		_, _ = rw.Write(held.Body.Bytes())
	}))
	p.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			p.conns.add(1)
		case http.StateClosed:
			p.conns.add(-1)
		}
	}
	p.server.Start()
	w.Cleanup(func() {
		_ = p.Close()
		_ = p.Close() // twice is fine
		p.server.Close()
	})
	return p
}

// record is what p says of a stripe.
func (p *process) record(stripe int, epoch int16) Record {
	return Record{Stripes: stripes, Stripe: stripe, Address: p.server.URL, Instance: p.config.Instance, Producer: int64(stripe), Epoch: epoch}
}

// takes makes p the owner of stripes, and tells the others' directories.
func (p *process) takes(all []*process, epoch int16, taken ...int) {
	for _, stripe := range taken {
		for _, other := range all {
			other.local.own(stripe, other == p)
			other.tell(p.record(stripe, epoch))
		}
	}
}

// tell gives p's directory a record, as its topic would.
func (p *process) tell(records ...Record) {
	d := p.config.Directory
	d.mu.Lock()
	found := make(owners)
	for stripe, r := range d.owners {
		found[stripe] = r
	}
	d.mu.Unlock()
	for _, r := range records {
		found[r.Stripe] = r
	}
	d.publish(found)
}

// three starts three processes; the stripes are a's, b's, c's and a's again.
func three(w *world, change ...func(*Config)) []*process {
	all := []*process{w.start("a", change...), w.start("b", change...), w.start("c", change...)}
	for stripe := range stripes {
		all[stripe%3].takes(all, 1, stripe)
	}
	return all
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
}

func (c *counter) get() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// fakeLocal is a Local that owns what it is told to.
type fakeLocal struct {
	w       *world
	mu      sync.Mutex
	owns    map[int]bool // stripes
	stale   bool         // the heartbeat is too old
	unsafe  bool         // it gets too old between the State and its check
	unknown bool         // the number of partitions is not known
	folded  map[int32]int64
	changed chan struct{}
	before  func(consent.SubjectID) // is called before a State is given
}

func newFakeLocal(w *world) *fakeLocal {
	return &fakeLocal{w: w, owns: make(map[int]bool), folded: make(map[int32]int64), changed: make(chan struct{})}
}

func (l *fakeLocal) own(stripe int, owns bool) {
	l.set(func() { l.owns[stripe] = owns })
}

// set changes what f changes, and wakes who waits.
func (l *fakeLocal) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *fakeLocal) fold(partition int32, offset int64) {
	l.set(func() { l.folded[partition] = offset })
}

func (l *fakeLocal) State(_ context.Context, id consent.SubjectID) (Folded, bool) {
	if l.before != nil {
		l.before(id)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.owns[int(partitionOf(id))%stripes] || l.stale {
		return Folded{}, false
	}
	return Folded{State: l.w.states[id], AsOf: time.Now(), Valid: func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.owns[int(partitionOf(id))%stripes] && !l.stale && !l.unsafe
	}}, true
}

func (l *fakeLocal) WaitFolded(ctx context.Context, partition int32, offset int64) error {
	for {
		l.mu.Lock()
		owns, changed := l.owns[int(partition)%stripes], l.changed
		last, ok := l.folded[partition]
		l.mu.Unlock()
		switch {
		case !owns:
			return ErrNotOwner
		case ok && last >= offset:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *fakeLocal) Partition(t consent.Tenant, s consent.Subject) (int32, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return partitionOf(consent.SubjectID{Tenant: t, Subject: s}), !l.unknown
}

// testLogger prints with -v only.
func testLogger(t testing.TB) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// counts gives a process's counters that are not 0, by name and cause.
func (p *process) counts() map[string]float64 {
	p.w.Helper()
	families, err := p.metrics.Gather()
	if err != nil {
		p.w.Fatal(err)
	}
	got := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()[len("assent_owner_"):]
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			if v := m.GetCounter().GetValue(); v > 0 {
				got[name] = v
			}
			if h := m.GetHistogram(); h.GetSampleCount() > 0 {
				got[name] = float64(h.GetSampleCount())
			}
		}
	}
	return got
}

// clocks gives what is known of each subject: its clock, 0 = nothing on record, -1 = not
// known, -2 = known but not to be told any more.
func clocks(known []decision.Known) []consent.Instant {
	got := make([]consent.Instant, len(known))
	for i, k := range known {
		switch {
		case !k.OK:
			got[i] = -1
		case !k.Valid():
			got[i] = -2
		case k.State != nil:
			got[i] = k.State.Whole.Clock
		}
	}
	return got
}
