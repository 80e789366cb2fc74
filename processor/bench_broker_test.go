package processor

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
)

// benchEventCount is how many events a benchmark over a broker folds.
var benchEventCount = flag.Int("bench.events", 400_000, "events of the benchmarks over a broker")

const benchStripes = 2

// benchCacheBytes hold the states of all subjects, as the bare program's map does.
const benchCacheBytes = 2 << 30

// BenchmarkFoldBesideABareProgram folds the same log three times, over the same broker in
// the same run: by the processor, and by two programs that do as little as one can that
// keeps the last word of each key in a map and writes states and changes in transactions,
// see [bareStripe]. The bare one writes them with kafka-go's Client as it is; the hand-built one with the
// batches and requests of internal/kafka, as the processor does. Then it restores the
// processor's states from the changelog. Run it with -benchtime 1x, or a few, of which it
// gives the medians (a broker that has just started is still compiling); and with
// ASSENT_TEST_KAFKA=apache for a broker that is not in the process.
func BenchmarkFoldBesideABareProgram(b *testing.B) {
	setBenchMemory()
	seen := make(map[string][]float64)
	for range b.N {
		w := newWorld(b, 6)
		total := w.publishBench(*benchEventCount)
		spent := cpuSeconds(b)
		bare := total / w.runBare("bare.", w.openBare).Seconds()
		figures := map[string]float64{"bare-events/s": bare, "bare-CPU-s/M": (cpuSeconds(b) - spent) / total * 1e6}

		spent = cpuSeconds(b)
		p, took := w.fold()
		fold := total / took.Seconds()
		figures["CPU-s/M"] = (cpuSeconds(b) - spent) / total * 1e6
		p.stop()
		handBuilt := total / w.runBare("handbuilt.", w.openHandBuilt).Seconds()
		figures["events/s"], figures["of-bare"], figures["of-hand-built"] = fold, fold/bare, fold/handBuilt

		began := time.Now()
		p = w.start(func(c *Config) { c.Stripes = benchStripes })
		p.awaitReady()
		records := 0.0
		for _, end := range w.ends(w.names.State()) {
			records += float64(end)
		}
		figures["restored-records/s"] = records / time.Since(began).Seconds()
		p.stop()
		b.Log(figures)
		for unit, figure := range figures {
			seen[unit] = append(seen[unit], figure)
		}
	}
	for unit, figures := range seen {
		slices.Sort(figures)
		b.ReportMetric(figures[len(figures)/2], unit)
	}
}

// cpuSeconds is what this process has used so far: beside a broker of its own, all but
// the broker's.
func cpuSeconds(b *testing.B) float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

// fold runs a processor until the log is folded.
func (w *world) fold() (*running, time.Duration) {
	began := time.Now()
	p := w.start(func(c *Config) { c.Stripes = benchStripes; c.StateDir = w.TempDir(); c.CacheBytes = benchCacheBytes })
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Minute)
	defer cancel()
	for index, end := range w.ends(w.names.Events()) {
		if err := p.waitFolded(ctx, index, int64(end)-1); err != nil {
			w.Fatal(err)
		}
	}
	return p, time.Since(began)
}

func (w *world) publishBench(n int) (total float64) {
	w.Helper()
	for chunk := range slices.Chunk(benchEvents(n), 20_000) {
		records := make([]kafka.Record, len(chunk))
		for i := range chunk {
			records[i] = kafka.Record{Topic: w.names.Events(), Key: chunk[i].key, Value: chunk[i].value}
		}
		w.produce(records...)
	}
	return float64(n)
}

// bareCommit is one transaction of a bare program.
type bareCommit func(ctx context.Context, records []kafka.Record, commits map[kafka.Partition]kafka.Commit) error

// openBare writes by kafka-go's Client.
func (w *world) openBare(ctx context.Context, names topic.Names, claim *kafka.Claim) (bareCommit, error) {
	k, err := openKafkaGo(ctx, w.brokers(), names.TransactionalID(benchStripes, claim.Stripe()), names.ProcessorGroup(), w.partitions)
	if err != nil {
		return nil, err
	}
	w.Cleanup(k.close)
	return func(ctx context.Context, records []kafka.Record, commits map[kafka.Partition]kafka.Commit) error {
		return k.commit(ctx, claim, records, commits)
	}, nil
}

// openHandBuilt writes as the processor does.
func (w *world) openHandBuilt(ctx context.Context, names topic.Names, claim *kafka.Claim) (bareCommit, error) {
	tx, err := w.client.OpenTransactor(ctx, kafka.TransactorOptions{ID: names.TransactionalID(benchStripes, claim.Stripe()), MaxBatchBytes: maxBatchBytes})
	if err != nil {
		return nil, err
	}
	var covered []kafka.Partition
	for _, at := range claim.Partitions() {
		covered = append(covered, kafka.Partition{Topic: names.State(), Index: at.Index}, kafka.Partition{Topic: names.Changes(), Index: at.Index})
	}
	return func(ctx context.Context, records []kafka.Record, commits map[kafka.Partition]kafka.Commit) error {
		if err := tx.Begin(ctx, claim, covered); err != nil {
			return err
		}
		if len(records) > 0 {
			if _, err := tx.Write(ctx, records); err != nil {
				return err
			}
		}
		if err := tx.CommitOffsets(ctx, claim, commits); err != nil {
			return err
		}
		return tx.End(ctx)
	}, nil
}

// runBare folds the log by a bare program, and gives how long it took.
func (w *world) runBare(prefix string, open func(context.Context, topic.Names, *kafka.Claim) (bareCommit, error)) time.Duration {
	w.Helper()
	names := topic.Names{Prefix: w.names.Prefix + prefix}
	var specs []kafka.TopicSpec
	for _, s := range names.Specs(topic.Layout{Partitions: w.partitions, Replication: w.cluster.Replication()}) {
		if s.Name == names.State() || s.Name == names.Changes() {
			specs = append(specs, s)
		}
	}
	if _, err := w.client.Provision(w.ctx, specs, false); err != nil {
		w.Fatal(err)
	}
	ends := w.ends(w.names.Events())
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var left atomic.Int64
	left.Store(int64(len(ends)))
	began := time.Now()
	err := w.client.RunGroup(ctx, kafka.GroupOptions{Group: names.ProcessorGroup(), Topics: []string{w.names.Events()}, Stripes: benchStripes},
		func(ctx context.Context, claim *kafka.Claim) error {
			bare := newBareStripe(names)
			bare.done = func() {
				if left.Add(-1) == 0 {
					cancel()
				}
			}
			var err error
			if bare.commit, err = open(ctx, names, claim); err == nil {
				err = bare.run(ctx, w.client, claim, ends)
			}
			if err != nil && ctx.Err() == nil {
				w.Error(err)
				cancel()
			}
			return err
		})
	if err != nil {
		w.Fatal(err)
	}
	return time.Since(began)
}

// BenchmarkChangeVisible measures, at 1,000 events a second over six partitions, the time
// from an event's acknowledgement to its change at a read_committed reader. What comes in
// the first seconds does not count: a broker that has just started is still compiling.
func BenchmarkChangeVisible(b *testing.B) {
	const perSecond, warm, seconds = 1000, 12, 10
	w := newWorld(b, 6)
	p := w.start(func(c *Config) { c.Stripes = benchStripes; c.StateDir = w.TempDir() })
	p.awaitReady()
	r := seed(b)
	for range b.N {
		w.visible(r, perSecond, warm*perSecond)
		took := w.visible(r, perSecond, seconds*perSecond)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	}
}

// visible publishes events of as many subjects, and gives how long each change took to be
// seen, sorted.
func (w *world) visible(r *rand.Rand, perSecond, count int) []time.Duration {
	w.Helper()
	var mu sync.Mutex
	acked, seen := make(map[consent.UUID]time.Time, count), make(map[consent.UUID]time.Time, count)
	reading, stop := context.WithCancel(w.ctx)
	defer stop()
	var reader, writers sync.WaitGroup
	w.readChanges(reading, &reader, func(id consent.UUID, now time.Time) {
		mu.Lock()
		defer mu.Unlock()
		seen[id] = now
	})
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	for i := range count {
		<-tick.C
		id := newUUID(r)
		e := event(r, consent.Subject("user:"+id.String()), consent.Withdraw, "m.e", i)
		record := w.record(&e)
		writers.Go(func() {
			w.produce(record)
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			acked[e.ID] = now
		})
	}
	tick.Stop()
	writers.Wait()
	w.eventually("every change is seen", func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) < count {
			return errors.New("not all")
		}
		return nil
	})
	stop()
	reader.Wait()
	took := make([]time.Duration, 0, count)
	for id, at := range acked {
		took = append(took, seen[id].Sub(at))
	}
	slices.Sort(took)
	return took
}

// readChanges tells each change from now on, until ctx ends.
func (w *world) readChanges(ctx context.Context, done *sync.WaitGroup, tell func(event consent.UUID, now time.Time)) {
	from := make(map[kafka.Partition]kafka.NextOffset)
	for index, end := range w.ends(w.names.Changes()) {
		from[kafka.Partition{Topic: w.names.Changes(), Index: index}] = end
	}
	fetcher := w.newClient().NewFetcher(from, kafka.FetchOptions{})
	done.Go(func() {
		defer func() { _ = fetcher.Close() }()
		for {
			batches, err := fetcher.Fetch(ctx)
			if err != nil {
				return
			}
			now := time.Now()
			for _, batch := range batches {
				for i := range batch.Messages {
					c, err := schemas.DecodeChange(batch.Messages[i].Value)
					if err != nil {
						w.Error(err)
					}
					tell(c.EventID, now)
				}
			}
		}
	})
}
