package fanout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/internal/webhook"
	"github.com/assent-dev/assent/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(brokertest.Main(m.Run, os.Getenv)) }

const (
	patience   = 20 * time.Second
	testSecret = "0123456789abcdef0123456789abcdef"
)

// world is a broker with the topics, and a client of the test's own.
type world struct {
	testing.TB
	ctx      context.Context
	cluster  *brokertest.Cluster
	fake     *kfake.Cluster // nil on Apache Kafka
	client   *kafka.Client
	producer *kafka.Producer
	names    topic.Names
	versions map[string]int64
	count    int
}

func newWorld(t testing.TB, partitions int) *world {
	t.Helper()
	var fake *kfake.Cluster
	cluster := brokertest.Start(t, brokertest.Options{InProcess: func() []string {
		fake = startBroker(t)
		return fake.ListenAddrs()
	}})
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	w := &world{TB: t, ctx: ctx, cluster: cluster, fake: fake, names: topic.Names{Prefix: cluster.Prefix()}, versions: map[string]int64{}}
	w.client = w.connect()
	if _, err := w.client.Provision(ctx, w.names.Specs(topic.Layout{Partitions: partitions, Replication: cluster.Replication()}), false); err != nil {
		t.Fatal(err)
	}
	w.producer = w.client.NewProducer(kafka.ProducerOptions{})
	t.Cleanup(func() { _ = w.producer.Close() })
	return w
}

func startBroker(t testing.TB) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// holdCommit lets the nth commit of positions wait at the broker until release; held tells
// when it does.
func (w *world) holdCommit(nth int32) (held <-chan struct{}, release func()) {
	w.Helper()
	return w.meetCommit(nth, nil)
}

// cutCommit lets the nth commit wait like holdCommit; release then cuts its connection, so
// that it stays without an answer.
func (w *world) cutCommit(nth int32) (held <-chan struct{}, release func()) {
	w.Helper()
	return w.meetCommit(nth, errors.New("the connection is cut"))
}

func (w *world) meetCommit(nth int32, end error) (held <-chan struct{}, release func()) {
	w.Helper()
	if w.fake == nil {
		w.Skip("needs a broker that can be told to wait")
	}
	waits, released := make(chan struct{}), make(chan struct{})
	var count atomic.Int32
	w.fake.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.fake.KeepControl()
		if count.Add(1) != nth {
			return nil, nil, false
		}
		close(waits)
		w.fake.SleepControl(func() { <-released })
		return nil, end, end != nil
	})
	release = sync.OnceFunc(func() { close(released) })
	w.Cleanup(release)
	return waits, release
}

// asked gives a channel that is closed when somebody reads on from an offset, or from behind it.
func (w *world) asked(offset int64) <-chan struct{} {
	reached := make(chan struct{})
	once := sync.OnceFunc(func() { close(reached) })
	w.fake.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.fake.KeepControl()
		for _, t := range r.(*kmsg.FetchRequest).Topics { //nolint:forcetypeassert // that is what the key says
			for _, p := range t.Partitions {
				if p.FetchOffset >= offset {
					once()
				}
			}
		}
		return nil, nil, false
	})
	return reached
}

func (w *world) connect() *kafka.Client {
	w.Helper()
	c, err := kafka.New(kafka.Config{Brokers: w.cluster.Addrs()})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

// change makes the next change of a subject.
func (w *world) change(subject string) consent.Change {
	w.count++
	w.versions[subject]++
	now := consent.InstantOf(time.Now())
	return consent.Change{
		ID: consent.DeriveUUID(consent.NamespaceChange, fmt.Appendf(nil, "%s %d", subject, w.versions[subject])), Tenant: "default",
		Subject: consent.Subject(subject), Purpose: "analytics", From: consent.Granted, To: consent.Withdrawn, AllowedBefore: consent.Allowed,
		AllowedAfter: consent.Denied, Withdrawal: true, EffectiveAt: now, EventID: consent.UUID{1}, Version: w.versions[subject], Timestamp: now, ReceivedAt: now,
	}
}

// publish writes changes of subjects to consent.changes.
func (w *world) publish(subjects ...string) {
	w.Helper()
	for _, s := range subjects {
		w.put(w.change(s))
	}
}

func (w *world) put(c consent.Change) {
	w.Helper()
	value, err := schemas.EncodeChange(nil, &c)
	if err != nil {
		w.Fatal(err)
	}
	w.write(c.Key(), value)
}

// forgetGroup deletes a downstream's group, as brokers do with one that is empty for long.
func (w *world) forgetGroup(name string) {
	w.Helper()
	admin, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.Addrs()...))
	if err != nil {
		w.Fatal(err)
	}
	defer admin.Close()
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{w.names.FanoutGroup("default", name)}
	w.eventually("the group is forgotten", func() bool { // once its last member has left
		resp, err := req.RequestWith(w.ctx, admin)
		return err == nil && len(resp.Groups) == 1 && resp.Groups[0].ErrorCode == 0
	})
}

// expire removes the changes below an offset from a partition, as retention does.
func (w *world) expire(partition int32, below int64) {
	w.Helper()
	if w.fake == nil {
		w.Skip("needs a broker whose retention can be told to work at once")
	}
	if err := w.fake.DeleteRecords(w.names.Changes(), partition, below); err != nil {
		w.Fatal(err)
	}
}

func (w *world) write(key, value []byte) {
	w.Helper()
	if _, err := w.producer.Produce(w.ctx, kafka.Record{Topic: w.names.Changes(), Key: key, Value: value}); err != nil {
		w.Fatal(err)
	}
}

// endpoint is a downstream: it notes what it takes, and answers as told.
type endpoint struct {
	*httptest.Server
	mu     sync.Mutex
	seen   []seen
	answer func(n int, s seen) (status int, header http.Header) // nil = 204
	says   string                                               // the body of its answers
}

type seen struct {
	id      string // webhook-id
	subject string
	version int64
	status  int
	at      time.Time
	valid   bool
}

func newEndpoint(t testing.TB, answer func(n int, s seen) (int, http.Header)) *endpoint {
	e := &endpoint{answer: answer}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var change struct {
		Subject string `json:"subject"`
		Version int64  `json:"version"`
	}
	_ = json.Unmarshal(body, &change)
	key, _ := webhook.ParseKey(testSecret)
	s := seen{id: r.Header.Get(webhook.HeaderID), subject: change.Subject, version: change.Version, at: time.Now(), status: http.StatusNoContent,
		valid: webhook.Verify(r.Header, []webhook.Key{key}, body, time.Now()) == nil}
	e.mu.Lock()
	n, answer, says := len(e.seen), e.answer, e.says
	e.mu.Unlock()
	var header http.Header
	if answer != nil {
		s.status, header = answer(n, s)
	}
	e.mu.Lock()
	e.seen = append(e.seen, s)
	e.mu.Unlock()
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(s.status)
	_, _ = io.WriteString(w, says)
}

// all gives every request; taken only those that were answered 2xx.
func (e *endpoint) all() []seen {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]seen(nil), e.seen...)
}

func (e *endpoint) taken() []seen {
	var taken []seen
	for _, s := range e.all() {
		if s.status < 300 {
			taken = append(taken, s)
		}
	}
	return taken
}

// heard gives how often each change was answered 2xx, by its webhook-id.
func (e *endpoint) heard() map[string]int {
	times := map[string]int{}
	for _, s := range e.taken() {
		times[s.id]++
	}
	return times
}

func (e *endpoint) set(answer func(n int, s seen) (int, http.Header)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func always(status int) func(int, seen) (int, http.Header) {
	return func(int, seen) (int, http.Header) { return status, nil }
}

// downstream declares one webhook; more is appended to its webhook's settings.
func downstream(name, url, more string) string {
	return fmt.Sprintf("  - name: %s\n    purposes: [\"*\"]\n    changes: all\n    delivery:\n      webhook: {url: %q, internal: true, secrets: [\"env:SECRET\"]%s}\n", name, url, more)
}

func (w *world) registry(downstreams ...string) *registry.Registry {
	w.Helper()
	text := "tenant: default\ndownstreams:\n" + strings.Join(downstreams, "")
	reg, err := registry.LoadBytes(nil, []registry.Source{{Name: "d.yaml", Data: []byte(text)}}, registry.Options{SamplePurposes: true})
	if err != nil {
		w.Fatal(registry.Explain(err))
	}
	return reg
}

// rig is a dispatcher that runs.
type rig struct {
	*Dispatcher
	store  *registry.Store
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (w *world) quick() Config {
	return Config{
		Names: w.names, Stripes: 2, Backoff: []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond},
		ProbeFirst: 20 * time.Millisecond, ProbeMost: 50 * time.Millisecond, ProbePaused: 50 * time.Millisecond, FinishTimeout: 500 * time.Millisecond, CommitInterval: 20 * time.Millisecond,
		OverdueInterval: 20 * time.Millisecond,
	}
}

func (w *world) start(reg *registry.Registry, change ...func(*Config, *Deps)) *rig {
	w.Helper()
	config := w.quick()
	deps := Deps{Kafka: w.connect(), Registry: registry.NewStore(reg), Secrets: func(registry.SecretRef) (string, error) { return testSecret, nil }}
	if testing.Verbose() {
		deps.Logger = slog.New(slog.NewTextHandler(w.Output(), nil))
	}
	for _, c := range change {
		c(&config, &deps)
	}
	d, err := New(config, deps)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{Dispatcher: d, store: deps.Registry, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = d.Run(ctx)
	}()
	w.Cleanup(r.stop)
	return r
}

// gate is the state of a lane's gate; open while there is no lane yet.
func (r *rig) gate(name string) gateState {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lanes[laneID{"default", name}]
	if l == nil {
		return gateOpen
	}
	state, _ := l.lane.gate.status()
	return state
}

func (r *rig) stop() { r.cancel(); <-r.done }

// die ends it as a kill does: nothing more reaches the broker.
func (r *rig) die() {
	_ = r.deps.Kafka.Close()
	r.stop()
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// read gives everything that a topic holds.
func (w *world) read(topicName string) []kafka.Message {
	w.Helper()
	count, err := w.client.PartitionCount(w.ctx, topicName)
	if err != nil {
		w.Fatal(err)
	}
	var all []kafka.Partition
	for i := range count {
		all = append(all, kafka.Partition{Topic: topicName, Index: int32(i)})
	}
	ends, err := w.client.Offsets(w.ctx, all, kafka.Latest)
	if err != nil {
		w.Fatal(err)
	}
	var messages []kafka.Message
	for p, end := range ends {
		f := w.client.NewFetcher(map[kafka.Partition]kafka.NextOffset{p: 0}, kafka.FetchOptions{MaxWait: 50 * time.Millisecond})
		for f.Position(p) < end {
			batches, err := f.Fetch(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			for _, b := range batches {
				for _, m := range b.Messages {
					m.Key, m.Value = append([]byte(nil), m.Key...), append([]byte(nil), m.Value...)
					messages = append(messages, m)
				}
			}
		}
		_ = f.Close()
	}
	return messages
}

func (w *world) deliveries() []schemas.Delivery {
	w.Helper()
	var all []schemas.Delivery
	for _, m := range w.read(w.names.Deliveries()) {
		d, err := schemas.DecodeDelivery(m.Value)
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func (w *world) letters() []schemas.DeadLetter {
	w.Helper()
	var all []schemas.DeadLetter
	for _, m := range w.read(w.names.DeadLetters()) {
		d, err := schemas.DecodeDeadLetter(m.Value)
		if err != nil {
			w.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func subjects(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = "user:" + strconv.Itoa(i)
	}
	return all
}
