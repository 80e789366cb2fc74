package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/embedded/clickhousetest"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/sink/table"
)

func TestMain(m *testing.M) {
	os.Exit(brokertest.Main(func() int { return clickhousetest.Main(m, os.Getenv) }, os.Getenv).Run())
}

const patience = 60 * time.Second

// world is a broker with the topics, and a history.
type world struct {
	testing.TB
	ctx      context.Context
	cluster  *brokertest.Cluster
	client   *kafka.Client
	producer *kafka.Producer
	names    topic.Names
	dsn      string
	conn     clickhouse.Conn
	produced map[string]int
}

func execute(dsn, statement string) error {
	conn, err := connect(dsn)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Exec(context.Background(), statement)
}

func connect(dsn string) (clickhouse.Conn, error) {
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	return clickhouse.Open(options)
}

func newWorld(t testing.TB, partitions int) *world {
	return newWorldOn(t, partitions, clickhousetest.DSN(t, execute))
}

func newWorldOn(t testing.TB, partitions int, dsn string) *world {
	t.Helper()
	cluster := brokertest.Start(t, brokertest.Options{InProcess: func() []string { return startBroker(t) }})
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	w := &world{TB: t, ctx: ctx, cluster: cluster, names: topic.Names{Prefix: cluster.Prefix()}, dsn: dsn, produced: map[string]int{}}
	w.client = w.kafka()
	if _, err := w.client.Provision(ctx, w.names.Specs(topic.Layout{Partitions: partitions, Replication: cluster.Replication()}), false); err != nil {
		t.Fatal(err)
	}
	w.producer = w.client.NewProducer(kafka.ProducerOptions{})
	t.Cleanup(func() { _ = w.producer.Close() })
	db := w.open()
	if _, err := db.Migrate(ctx, false); err != nil {
		t.Fatal(err)
	}
	conn, err := connect(dsn)
	if err != nil {
		t.Fatal(err)
	}
	w.conn = conn
	t.Cleanup(func() { _ = w.conn.Close() })
	return w
}

func startBroker(t testing.TB) []string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

func (w *world) kafka() *kafka.Client {
	w.Helper()
	c, err := kafka.New(kafka.Config{Brokers: w.cluster.Addrs()})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) open() *table.DB {
	w.Helper()
	db, err := table.Open(w.dsn)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = db.Close() })
	return db
}

// produce writes n records to each of the four topics.
func (w *world) produce(n int) {
	w.Helper()
	var records []kafka.Record
	for i := range n {
		s := consent.Subject(fmt.Sprintf("user:%d", i))
		id := consent.DeriveUUID(consent.NamespaceEvent, fmt.Append(nil, w.produced["events"], i))
		add := func(name, topicName string, value []byte, err error) {
			if err != nil {
				w.Fatal(err)
			}
			records = append(records, kafka.Record{Topic: topicName, Key: consent.Key("default", s), Value: value})
			w.produced[name]++
		}
		value, err := schemas.EncodeEvent(nil, &consent.Event{ID: id, Tenant: "default", Subject: s, Purpose: "a", Action: consent.Withdraw, ReceivedAt: 1, EffectiveAt: 1})
		add("events", w.names.Events(), value, err)
		value, err = schemas.EncodeChange(nil, &consent.Change{ID: id, Tenant: "default", Subject: s, Purpose: "a", From: consent.None, To: consent.Withdrawn, Version: 1})
		add("changes", w.names.Changes(), value, err)
		value, err = schemas.EncodeDelivery(nil, &schemas.Delivery{ID: id, ChangeID: id, Tenant: "default", Subject: s, Purpose: "a", Downstream: "crm", Outcome: schemas.Delivered})
		add("deliveries", w.names.Deliveries(), value, err)
		value, err = schemas.EncodeDeadLetter(nil, &schemas.DeadLetter{Topic: "x", Code: "c", Role: "processor", At: 1})
		add("deadletters", w.names.DeadLetters(), value, err)
	}
	if _, err := w.producer.Produce(w.ctx, records...); err != nil {
		w.Fatal(err)
	}
}

// rig is a sink that runs.
type rig struct {
	*Sink
	kafka  *kafka.Client
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (w *world) start(change ...func(*Config)) *rig {
	w.Helper()
	config := Config{Names: w.names, Stripes: 2, FlushInterval: 20 * time.Millisecond, RetryInterval: 50 * time.Millisecond, SessionTimeout: time.Second}
	for _, c := range change {
		c(&config)
	}
	client := w.kafka()
	s, err := New(config, Deps{Kafka: client, Tables: w.open()})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{Sink: s, kafka: client, cancel: cancel, done: make(chan struct{})}
	go func() { defer close(r.done); r.err = s.Run(ctx) }()
	w.Cleanup(r.stop)
	return r
}

func (r *rig) stop() { r.cancel(); <-r.done }

// die ends it as a kill does: nothing more reaches the broker.
func (r *rig) die() {
	_ = r.kafka.Close()
	r.stop()
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// counts gives rows and distinct positions of a table.
func (w *world) counts(name string) (rows, positions uint64) {
	if err := w.conn.QueryRow(w.ctx, "SELECT count(), uniqExact(topic, partition, offset) FROM "+name).Scan(&rows, &positions); err != nil {
		return 0, 0
	}
	return rows, positions
}

// requireAll waits until every record is a row, and fails where one is twice.
func (w *world) requireAll() {
	w.Helper()
	for name, n := range w.produced {
		w.eventually(fmt.Sprintf("%d rows in %s", n, name), func() bool { _, positions := w.counts(name); return positions >= uint64(n) })
		if rows, positions := w.counts(name); rows != uint64(n) || positions != uint64(n) {
			w.Errorf("%s: %d rows, %d positions, produced %d", name, rows, positions, n)
		}
	}
}

func TestSink_EachRecordIsARowOnceAndARestartAddsNothing(t *testing.T) {
	w := newWorld(t, 3)
	w.produce(200)
	r := w.start()
	w.requireAll()
	w.eventually("ready", func() bool { return r.Ready() == nil })
	r.stop()
	if r.err != nil {
		t.Error(r.err)
	}
	r = w.start()
	w.eventually("ready again", func() bool { return r.Ready() == nil })
	w.produce(50)
	w.requireAll()
	r.stop()
}

// A crash behind each step, many times over, while records come.
func TestSink_CrashesBehindAnyStepLoseAndDoubleNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, 2)
	crash := errors.New("crash")
	for i := range 24 {
		at, left := step(1+i%4), int64(r.IntN(4))
		var countdown atomic.Int64
		countdown.Store(left)
		crashed := make(chan struct{})
		var once atomic.Bool
		s := w.start(func(c *Config) {
			c.after = func(s step) error {
				if s == at && countdown.Add(-1) < 0 {
					if once.CompareAndSwap(false, true) {
						close(crashed)
					}
					return crash
				}
				return nil
			}
		})
		w.produce(20 + r.IntN(30))
		select {
		case <-crashed:
		case <-time.After(3 * time.Second):
		}
		s.die()
	}
	s := w.start()
	w.requireAll()
	s.stop()
}

func TestSink_AKilledClickHouseLosesAndDoublesNothing(t *testing.T) {
	own := clickhousetest.Own(t, t.TempDir())
	w := newWorldOn(t, 2, own.DSN())
	s := w.start()
	for range 8 {
		w.produce(60)
		if pid := own.PID(); pid > 0 {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Logf("kill: %v", err)
			}
		}
		w.produce(20)
	}
	w.requireAll()
	s.stop()
}

func TestSink_TwoShareTheStripesOneStopsAndASpareOneIsReady(t *testing.T) {
	w := newWorld(t, 4)
	one := func(c *Config) { c.Stripes = 1 }
	a, b := w.start(one), w.start(one)
	w.eventually("both are ready, though one has nothing to do", func() bool { return a.Ready() == nil && b.Ready() == nil })
	w.produce(100)
	w.requireAll()
	a.stop()
	w.produce(100)
	w.requireAll()
	b.stop()
}

// A process that hangs accepts connections and answers nothing.
func TestSink_IsUnreadyWhileClickHouseIsAway(t *testing.T) {
	own := clickhousetest.Own(t, t.TempDir())
	w := newWorldOn(t, 1, own.DSN())
	s := w.start()
	w.eventually("ready", func() bool { return s.Ready() == nil })
	pid := own.PID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	w.eventually("unready while it hangs", func() bool { return s.Ready() != nil })
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.eventually("ready when it answers again", func() bool { return s.Ready() == nil })
	_ = own.Close()
	w.eventually("unready when it is gone", func() bool { return s.Ready() != nil })
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "ClickHouse is away") {
		t.Errorf("it says %v", err)
	}
	s.stop()
}

// The group's offset is gone, and the table has rows: writing on from the start
// would double them.
func TestSink_WithoutAnOffsetButWithRowsItWaitsForAPerson(t *testing.T) {
	w := newWorld(t, 1)
	w.produce(30)
	s := w.start()
	w.requireAll()
	s.stop()
	admin, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.Addrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	deleteGroup(t, w, admin)
	s = w.start()
	w.produce(10)
	w.eventually("an alarm", func() bool { return s.alarms() > 0 })
	if s.Ready() == nil {
		t.Error("it is ready")
	}
	if rows, positions := w.counts("events"); rows != 30 || positions != 30 {
		t.Errorf("%d rows, %d positions, want 30 as before", rows, positions)
	}
	s.stop()
}

func TestSink_WaitsForClickHouseAndStopsQuicklyMeanwhile(t *testing.T) {
	w := newWorld(t, 1)
	w.produce(10)
	client := w.kafka()
	db, err := table.Open("clickhouse://default:x@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := New(Config{Names: w.names, RetryInterval: 10 * time.Millisecond}, Deps{Kafka: client, Tables: db})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.eventually("it has asked", func() bool { return s.lastWait.Load() > 0 })
	if s.Ready() == nil {
		t.Error("ready without ClickHouse")
	}
	began := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the stop took %s", took)
	}
	r := w.start() // nothing was skipped
	w.requireAll()
	r.stop()
}

func TestSink_PoisonedRecordsAreRowsToo(t *testing.T) {
	w := newWorld(t, 1)
	for _, value := range [][]byte{[]byte("poison"), nil, {0xc3, 0x01}} {
		if _, err := w.producer.Produce(w.ctx, kafka.Record{Topic: w.names.Events(), Key: []byte("k"), Value: value}); err != nil {
			t.Fatal(err)
		}
		w.produced["events"]++
	}
	w.produce(5)
	s := w.start()
	w.requireAll()
	s.stop()
	var poisoned uint64
	if err := w.conn.QueryRow(w.ctx, "SELECT count() FROM events WHERE decode_error != ''").Scan(&poisoned); err != nil || poisoned != 3 {
		t.Errorf("%d poisoned rows, %v", poisoned, err)
	}
}

// Transactions leave control records: offsets with holes, which are no gaps.
func TestSink_ControlRecordsAndAbortedOnesAreNoRows(t *testing.T) {
	w := newWorld(t, 1)
	tx, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.Addrs()...), kgo.TransactionalID(w.names.Prefix+"t"), kgo.DefaultProduceTopic(w.names.Changes()))
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	value, err := schemas.EncodeChange(nil, &consent.Change{ID: consent.UUID{1}, Tenant: "default", Subject: "user:1", Purpose: "a", From: consent.None, To: consent.Withdrawn, Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(w.ctx, &kgo.Record{Key: []byte("default|user:1"), Value: value}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		verdict := kgo.TransactionEndTry(i%2 == 0)
		if err := tx.EndTransaction(w.ctx, verdict); err != nil {
			t.Fatal(err)
		}
	}
	w.produced["changes"] = 3
	s := w.start()
	w.requireAll()
	w.eventually("ready behind the control records", func() bool { return s.Ready() == nil })
	s.stop()
}

func TestNew_ReportsEveryFault(t *testing.T) {
	_, err := New(Config{Stripes: -1, FlushInterval: -1, MaxRows: 2_000_000, MaxBytes: 1}, Deps{})
	for _, want := range []string{"stripes", "flush interval", "max rows", "max bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}
