package processor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
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

// foldAll runs a processor until everything in the log is folded, and ends it politely.
func (w *world) foldAll(change ...func(*Config)) {
	w.Helper()
	p := w.start(change...)
	p.awaitFolded()
	p.stop()
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

var errCrash = errors.New("crash, by the test")

// crash ends a processor behind a step of its nth batch: from then on it takes no step.
func crash(at step, nth int) (func(*Config), <-chan struct{}) {
	crashed := make(chan struct{})
	return func(c *Config) {
		c.Stripes = 1
		var mu sync.Mutex // of the batch in hand, and of the one that is gathered meanwhile
		seen, over := 0, false
		c.after = func(s step) error {
			mu.Lock()
			defer mu.Unlock()
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
