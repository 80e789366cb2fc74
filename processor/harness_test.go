package processor

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/processor/owner"
	"github.com/assent-dev/assent/schemas"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random logs; 0 draws one")

func TestMain(m *testing.M) {
	flag.Parse()
	if config := os.Getenv(runAsProcessor); config != "" {
		if err := runChild(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(brokertest.Main(m.Run, os.Getenv))
}

const patience = 20 * time.Second

func seed(t testing.TB) *rand.Rand {
	s := *seedFlag
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d (repeat with -seed %d)", s, s)
	return rand.New(rand.NewPCG(s, 1))
}

// world is a broker with the topics, and a client and producer of the test's own.
type world struct {
	testing.TB
	ctx        context.Context
	cluster    *brokertest.Cluster
	fake       *kfake.Cluster // nil on Apache Kafka
	client     *kafka.Client
	producer   *kafka.Producer
	names      topic.Names
	partitions int
}

func newWorld(t testing.TB, partitions int, options ...kfake.Opt) *world {
	t.Helper()
	return newWorldOn(t, partitions, brokertest.Options{}, options...)
}

// newWorldOn is a world on brokers with what the test needs of them.
func newWorldOn(t testing.TB, partitions int, brokers brokertest.Options, options ...kfake.Opt) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	t.Cleanup(cancel)
	w := &world{TB: t, ctx: ctx, partitions: partitions}
	brokers.InProcess = func() []string {
		var err error
		if w.fake, err = kfake.NewCluster(append(options, kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))...); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.fake.Close() })
		return w.fake.ListenAddrs()
	}
	w.cluster = brokertest.Start(t, brokers)
	w.names.Prefix = w.cluster.Prefix()
	w.client = w.newClient()
	if _, err := w.client.Provision(ctx, w.names.Specs(topic.Layout{Partitions: partitions, Replication: w.cluster.Replication()}), false); err != nil {
		t.Fatal(err)
	}
	w.producer = w.client.NewProducer(kafka.ProducerOptions{MaxBatchBytes: maxBatchBytes, DeliveryTimeout: time.Minute})
	t.Cleanup(func() { _ = w.producer.Close() })
	return w
}

func (w *world) brokers() []string {
	if w.fake != nil {
		return w.fake.ListenAddrs() // it may have been opened again
	}
	return w.cluster.Addrs()
}

func (w *world) newClient() *kafka.Client {
	w.Helper()
	c, err := kafka.New(kafka.Config{Brokers: w.brokers(), Logger: testLogger(w.TB)})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

// testLogger prints with -v only.
func testLogger(t testing.TB) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// running is a processor that runs.
type running struct {
	*Processor
	w      *world
	client *kafka.Client
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (w *world) config() Config {
	return Config{
		Names: w.names, SessionTimeout: 3 * time.Second, Logger: testLogger(w.TB),
		now: func() time.Time { return base.Time() }, // nothing runs out while a test counts
	}
}

func (w *world) start(change ...func(*Config)) *running {
	w.Helper()
	config := w.config()
	for _, c := range change {
		c(&config)
	}
	client := w.newClient()
	p, err := New(config, client)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Processor: p, w: w, client: client, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = p.Run(ctx)
	}()
	w.Cleanup(r.stop)
	return r
}

// state is what decisions see.
func (r *running) state(s consent.Subject, test bool) (*consent.State, bool) {
	f, ok := r.State(r.w.ctx, consent.SubjectID{Tenant: consent.DefaultTenant, Subject: s, Test: test})
	return f.State, ok && f.Valid()
}

// stop ends the processor politely and waits for it. Twice is fine.
func (r *running) stop() {
	r.cancel()
	<-r.done
}

// die ends the processor as a kill does: its connections are cut, nothing is said
// to the group.
func (r *running) die() {
	_ = r.client.Close()
	r.stop()
}

// awaitFolded waits until everything in the log is folded by r, what links carried
// meanwhile too: that is in the log before its cause counts as folded.
func (r *running) awaitFolded() {
	r.w.Helper()
	ctx, cancel := context.WithTimeout(r.w.ctx, patience)
	defer cancel()
	for ends := r.w.ends(r.w.names.Events()); ; {
		for index, end := range ends {
			if end == 0 {
				continue
			}
			if err := r.waitFolded(ctx, index, int64(end)-1); err != nil {
				r.w.Fatalf("partition %d is not folded up to %d: %v; %v", index, end, err, r.Ready())
			}
		}
		again := r.w.ends(r.w.names.Events())
		if maps.Equal(again, ends) {
			return
		}
		ends = again
	}
}

// waitFolded is WaitFolded of a partition that may be claimed later.
func (r *running) waitFolded(ctx context.Context, partition int32, offset int64) error {
	for {
		err := r.WaitFolded(ctx, partition, offset)
		if !errors.Is(err, owner.ErrNotOwner) {
			return err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *running) awaitReady() {
	r.w.Helper()
	r.w.eventually("ready", r.Ready)
}

// eventually polls until check has no error.
func (w *world) eventually(what string, check func() error) {
	w.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%s: %v", what, err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (w *world) logs(topic string) []kafka.Partition {
	all := make([]kafka.Partition, w.partitions)
	for i := range all {
		all[i] = kafka.Partition{Topic: topic, Index: int32(i)}
	}
	return all
}

func (w *world) ends(topic string) map[int32]kafka.NextOffset {
	w.Helper()
	found, err := w.client.Offsets(w.ctx, w.logs(topic), kafka.LatestStable)
	if err != nil {
		w.Fatal(err)
	}
	if w.cluster.Apache() { // it answers a commit before readers see it
		w.eventually("what was answered is seen", func() error {
			var all map[kafka.Partition]kafka.NextOffset
			if all, err = w.client.Offsets(w.ctx, w.logs(topic), kafka.Latest); err != nil {
				return err
			}
			if found, err = w.client.Offsets(w.ctx, w.logs(topic), kafka.LatestStable); err == nil && !maps.Equal(all, found) {
				err = errors.New("a transaction is open")
			}
			return err
		})
	}
	ends := make(map[int32]kafka.NextOffset)
	for p, end := range found {
		ends[p.Index] = end
	}
	return ends
}

func (w *world) produce(records ...kafka.Record) []kafka.Position {
	w.Helper()
	positions, err := w.producer.Produce(w.ctx, records...)
	if err != nil {
		w.Fatal(err)
	}
	return positions
}

// publish writes events as the gateway does.
func (w *world) publish(events ...consent.Event) []kafka.Position {
	w.Helper()
	records := make([]kafka.Record, len(events))
	for i := range events {
		records[i] = w.record(&events[i])
	}
	return w.produce(records...)
}

func (w *world) record(e *consent.Event) kafka.Record {
	w.Helper()
	value, err := schemas.EncodeEvent(nil, e)
	if err != nil {
		w.Fatal(err)
	}
	return kafka.Record{Topic: w.names.Events(), Key: e.Key(), Value: value, Headers: topic.EventHeaders(e, "")}
}

// read calls each for every record of a topic, partition by partition.
func (w *world) read(topic string, each func(*kafka.Message)) {
	w.Helper()
	for index, end := range w.ends(topic) {
		if end == 0 {
			continue
		}
		at := kafka.Partition{Topic: topic, Index: index}
		f := w.client.NewFetcher(map[kafka.Partition]kafka.NextOffset{at: 0}, kafka.FetchOptions{})
		for f.Position(at) < end {
			batches, err := f.Fetch(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			for _, b := range batches {
				for i := range b.Messages {
					each(&b.Messages[i])
				}
			}
		}
		_ = f.Close()
	}
}

func (w *world) changes() []consent.Change {
	w.Helper()
	var all []consent.Change
	w.read(w.names.Changes(), func(m *kafka.Message) {
		c, err := schemas.DecodeChange(m.Value)
		if err != nil {
			w.Fatal(err)
		}
		if want := kafka.PartitionFor(c.Key(), w.partitions); string(m.Key) != string(c.Key()) || m.Partition.Index != want {
			w.Fatalf("a change stands at %s, its key belongs to partition %d", m.Position, want)
		}
		all = append(all, c)
	})
	return all
}

func (w *world) letters() []schemas.DeadLetter {
	w.Helper()
	var all []schemas.DeadLetter
	w.read(w.names.DeadLetters(), func(m *kafka.Message) {
		l, err := schemas.DecodeDeadLetter(m.Value)
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, l)
	})
	return all
}

// logged is what the changelog says: the last row of each key that readers see.
func (w *world) logged() map[consent.SubjectID]consent.State {
	w.Helper()
	return w.loggedBelow(math.MaxInt64)
}

// loggedBelow is logged without rows that were written for this input offset and those
// behind it.
func (w *world) loggedBelow(limit kafka.NextOffset) map[consent.SubjectID]consent.State {
	w.Helper()
	rows := make(map[string]schemas.StateRow)
	w.read(w.names.State(), func(m *kafka.Message) {
		if m.Value == nil {
			if input, err := tombstoneInput(m); err != nil || input < limit {
				delete(rows, string(m.Key))
			}
			return
		}
		row, err := schemas.DecodeState(m.Value)
		if err != nil {
			w.Fatal(err)
		}
		if want := kafka.PartitionFor(consent.Key(row.Tenant, row.Subject), w.partitions); m.Partition.Index != want {
			w.Fatalf("a row stands at %s, its subject belongs to partition %d", m.Position, want)
		}
		if kafka.NextOffset(row.InputOffset) < limit {
			rows[string(m.Key)] = row
		}
	})
	states := make(map[consent.SubjectID]consent.State)
	for _, row := range rows {
		id := consent.SubjectID{Tenant: row.Tenant, Subject: row.Subject, Test: row.Test}
		s := states[id]
		s.Tenant, s.Subject, s.Test = id.Tenant, id.Subject, id.Test
		row.AddTo(&s)
		settleClock(&s)
		states[id] = s
	}
	return states
}

// reference folds consent.events straight: no batches, no restore, no table.
func (w *world) reference() (states map[consent.SubjectID]consent.State, changes []consent.Change) {
	w.Helper()
	states = make(map[consent.SubjectID]consent.State)
	w.read(w.names.Events(), func(m *kafka.Message) {
		e, refused := decode(m, w.partitions)
		if refused != nil {
			return
		}
		id := consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject, Test: e.Test}
		next, told, _ := consent.Fold(states[id], &e)
		if !reflect.DeepEqual(next, states[id]) {
			states[id] = next
		}
		changes = append(changes, told...)
	})
	return states, changes
}

// requireReference fails unless what is in the topics is what a straight fold gives:
// equal states, and each change told exactly once, in the order of its versions.
func (w *world) requireReference() {
	w.Helper()
	if w.cluster.Apache() { // readers see the end of a transaction a moment after it was answered
		w.awaitReference(10 * time.Second)
		return
	}
	for _, fault := range w.differences() {
		w.Error(fault)
	}
}

// differences tells how the topics differ from a straight fold. States are compared as
// they are encoded, but for the offset that a row was written for, which the size of
// batches decides.
func (w *world) differences() (faults []string) {
	w.Helper()
	wantStates, wantChanges := w.reference()
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	states := w.logged()
	if len(states) != len(wantStates) {
		fault("%d states, want %d", len(states), len(wantStates))
	}
	for id, want := range wantStates {
		got, there := states[id]
		if !there {
			fault("state of %s is missing", id.Subject)
		} else if !bytes.Equal(w.encoded(&got), w.encoded(&want)) {
			fault("state of %s differs:\n got %s\nwant %s", id.Subject, dump(got), dump(want))
		}
	}
	told := make(map[consent.UUID]consent.Change)
	version := make(map[string]int64)
	for _, c := range w.changes() {
		if first, again := told[c.ID]; again {
			fault("change %s was told twice:\n%+v\n%+v", c.ID, first, c)
			continue
		}
		told[c.ID] = c
		key := fmt.Sprint(string(c.Tenant), string(c.Subject), c.Purpose, c.Test)
		if before := version[key]; c.Version <= before {
			fault("change %s has version %d after %d", c.ID, c.Version, before)
		}
		version[key] = c.Version
	}
	for _, c := range wantChanges {
		got, ok := told[c.ID]
		if !ok {
			fault("change %s (%s %s -> %s) was never told", c.ID, c.Purpose, c.From, c.To)
		} else if got != c {
			fault("change differs:\n got %+v\nwant %+v", got, c)
		}
		delete(told, c.ID)
	}
	for id, c := range told {
		fault("change %s (%s %s -> %s) should not have been told", id, c.Purpose, c.From, c.To)
	}
	return faults
}

// encoded is all rows of a State, as the changelog holds them.
func (w *world) encoded(s *consent.State) (all []byte) {
	w.Helper()
	rows := s.Rows
	if s.Row(consent.Root) == nil {
		rows = append([]consent.Row{{Purpose: consent.Root}}, rows...)
	}
	for _, row := range rows {
		r := schemas.StateRow{Tenant: s.Tenant, Subject: s.Subject, Test: s.Test, Row: row}
		if row.Purpose == consent.Root {
			r.Whole = &s.Whole
		}
		var err error
		if all, err = schemas.EncodeState(all, &r); err != nil {
			w.Fatal(err)
		}
	}
	return all
}

func dump(s consent.State) string {
	text := fmt.Sprintf("whole %+v", s.Whole)
	for _, r := range s.Rows {
		text += fmt.Sprintf("\n  %s v%d %s/%d", r.Purpose, r.Version, r.Announced.Status, r.Announced.Allowed)
		for name, record := range map[string]*consent.Record{"yes": r.Yes, "pending": r.Pending, "no": r.No, "ended": r.Ended} {
			if record != nil {
				text += fmt.Sprintf(" %s=%+v", name, *record)
			}
		}
		if r.NoEvent != nil {
			text += fmt.Sprintf(" event=%+v", *r.NoEvent)
		}
	}
	return text
}

// newUUID is a random id.
func newUUID(r *rand.Rand) (u consent.UUID) {
	for i := range u {
		u[i] = byte(r.Uint32())
	}
	return u
}

// base is when random histories begin: long before the broker's clock.
var base = consent.InstantOf(time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC))

// event is a stamped event, received at base plus some seconds.
func event(r *rand.Rand, subject consent.Subject, action consent.Action, purpose consent.Purpose, seconds int) consent.Event {
	at := base.Add(time.Duration(seconds) * time.Second)
	return consent.Event{
		ID: newUUID(r), Tenant: consent.DefaultTenant, Subject: subject, Action: action, Purpose: purpose,
		OccurredAt: at, ReceivedAt: at, EffectiveAt: at, Channel: consent.Web,
		Policy: &consent.Policy{Version: "v1", Model: consent.OptIn, LegalBasis: consent.BasisConsent},
	}
}

var allPurposes = []consent.Purpose{"*", "a", "m", "m.e", "m.s"}

// randomLog is a log of events over few subjects and purposes: late ones, repeated
// ones, with and without expiry, jurisdictions, double opt-in and its confirmation,
// grants taken back by name, links that carry, erasures, test.
func randomLog(r *rand.Rand, n int) []consent.Event {
	var log, grants []consent.Event
	for clock := 1; len(log) < n; clock += r.IntN(5) {
		if len(log) > 0 && r.IntN(8) == 0 {
			log = append(log, log[r.IntN(len(log))])
			continue
		}
		e := randomEvent(r, clock)
		switch {
		case e.Action == consent.Grant:
			grants = append(grants, e)
		case len(grants) > 0 && (e.Action == consent.Confirm || e.Action == consent.Invalidate && r.IntN(2) == 0):
			g := grants[r.IntN(len(grants))]
			ref := &consent.EventRef{EventID: g.ID, EffectiveAt: g.EffectiveAt}
			e.Subject, e.Purpose, e.Test = g.Subject, g.Purpose, g.Test
			if e.Action == consent.Confirm {
				e.Confirms, e.Policy = ref, g.Policy
			} else {
				e.Invalidates = ref
			}
		case e.Action == consent.Confirm:
			continue // nothing to confirm yet
		}
		log = append(log, e)
	}
	return log
}

func randomEvent(r *rand.Rand, clock int) consent.Event {
	subject := func() consent.Subject {
		return consent.Subject(fmt.Sprintf("%s:%d", [...]string{"user", "user", "device"}[r.IntN(3)], r.IntN(5)))
	}
	actions := [...]consent.Action{
		consent.Grant, consent.Grant, consent.Grant, consent.Grant, consent.Refuse, consent.Withdraw, consent.Withdraw, consent.Invalidate,
		consent.Request, consent.Defer, consent.Confirm, consent.Link, consent.Unlink,
	}
	action, purpose := actions[r.IntN(len(actions))], allPurposes[r.IntN(len(allPurposes))]
	if r.IntN(40) == 0 {
		action = consent.Erase
	}
	switch {
	case action.Whole():
		purpose = consent.Root
	case action == consent.Grant && purpose == consent.Root:
		purpose = "m.e"
	}
	e := event(r, subject(), action, purpose, clock)
	e.EffectiveAt = e.ReceivedAt.Add(-time.Duration(r.IntN(20)) * time.Second)
	if action == consent.Link || action == consent.Unlink {
		for e.LinkTo = subject(); e.LinkTo == e.Subject; {
			e.LinkTo = subject()
		}
	}
	for _, p := range allPurposes {
		if purpose.Covers(p) && p != consent.Root {
			e.Policy.Covers = append(e.Policy.Covers, p)
		}
	}
	if action == consent.Grant {
		if r.IntN(3) == 0 {
			e.Policy.ExpiresAt = e.EffectiveAt.Add(time.Duration(1+r.IntN(30)) * time.Second)
		}
		e.Policy.DoubleOptIn = r.IntN(5) == 0
	}
	e.Jurisdiction = [...]consent.Jurisdiction{"", "DE", "US-CA"}[r.IntN(3)]
	e.Test = r.IntN(10) == 0
	return e
}

var errCrash = errors.New("crash, by the test")

// crash ends a processor behind a step of its nth batch: from then on it takes no step.
func crash(at step, nth int) (func(*Config), <-chan struct{}) {
	crashed := make(chan struct{})
	return func(c *Config) {
		c.Stripes = 1 // one goroutine calls the hook
		seen, over := 0, false
		c.after = func(s step) error {
			if s == at && !over {
				if seen++; seen == nth {
					over = true
					close(crashed)
				}
			}
			if over {
				return errCrash
			}
			return nil
		}
	}, crashed
}
