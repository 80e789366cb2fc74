package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestProduce_RoundTripsEverythingInOrderAndReturnsPositions(t *testing.T) {
	ctx := testContext(t)
	c := connect(t, startBroker(t, 3, []string{"consent.events"}))
	p := newProducer(t, c, ProducerOptions{MaxBatchBytes: 4096}) // so that a call takes many batches

	at := time.UnixMilli(1_760_000_000_123).UTC()
	var records []Record
	for i := range 600 {
		records = append(records, Record{
			Topic: "consent.events", Key: fmt.Appendf(nil, "default|user:%d", i%50), Value: fmt.Appendf(nil, "v%d", i), Time: at,
			Headers: []Header{{Key: "ce_id", Value: []byte{byte(i)}}, {Key: "empty", Value: []byte{}}, {Key: "null"}},
		})
	}
	records[7].Value = nil
	records[8].Key = nil
	positions, err := p.Produce(ctx, records...)
	if err != nil {
		t.Fatal(err)
	}
	byPosition := make(map[Position]int)
	last := make(map[Partition]LastOffset)
	for i, pos := range positions {
		if want := PartitionFor(records[i].Key, 3); pos.Index != want {
			t.Fatalf("record %d is in partition %d, want %d", i, pos.Index, want)
		}
		if before, ok := last[pos.Partition]; ok && pos.Offset <= before {
			t.Fatalf("record %d at %s is not behind the one before it", i, pos)
		}
		last[pos.Partition] = pos.Offset
		byPosition[pos] = i
	}
	f := newFetcher(t, c, allFromStart("consent.events", 3), FetchOptions{})
	seen := 0
	for seen < len(records) {
		batches, err := f.Fetch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			for _, m := range b.Messages {
				i, ok := byPosition[m.Position]
				if !ok {
					t.Fatalf("message at %s, where nothing was written", m.Position)
				}
				w := records[i]
				if !bytes.Equal(m.Key, w.Key) || !bytes.Equal(m.Value, w.Value) || (m.Key == nil) != (w.Key == nil) || (m.Value == nil) != (w.Value == nil) || !m.Time.Equal(at) || len(m.Headers) != 3 {
					t.Fatalf("record %d came as %+v", i, m)
				}
				if m.Headers[0].Key != "ce_id" || m.Headers[0].Value[0] != byte(i) || m.Headers[1].Value == nil || m.Headers[2].Value != nil {
					t.Fatalf("headers of record %d came as %+v", i, m.Headers)
				}
				seen++
			}
			if got := b.Messages[len(b.Messages)-1].Offset.Next(); b.Next != got {
				t.Fatalf("next is %d behind message %d", b.Next, got)
			}
		}
	}
	if seen != len(records) {
		t.Fatalf("%d messages, want %d", seen, len(records))
	}
}

func TestProduce_SharesBatchesAmongConcurrentCallers(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	if _, err := p.Produce(ctx, record("consent.events", "first", 0)); err != nil {
		t.Fatal(err)
	}

	// Hold the first batch at the broker until all other callers wait.
	const callers = 200
	var requests atomic.Int32
	arrived, release := make(chan struct{}), make(chan struct{})
	cluster.ControlKey(kmsg.Produce.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if requests.Add(1) == 1 {
			cluster.SleepControl(func() { close(arrived); <-release })
		}
		return nil, nil, false
	})
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			if _, err := p.Produce(ctx, record("consent.events", fmt.Sprint(i), i)); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			receive(t, "the first batch at the broker", arrived)
		}
	}
	awaitQueue(t, p, callers-1)
	close(release)
	wg.Wait()
	if got := requests.Load(); got != 2 {
		t.Fatalf("%d requests for %d callers, want 2", got, callers)
	}
}

// faultyStore makes every kind of trouble a batch can meet: answers lost after the append,
// refusals, time-outs. Every record is stored once, in order, all the same.
func TestProduce_StoresEachRecordOnceThroughAStormOfFaults(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 2, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})

	var n atomic.Int64
	cluster.ControlKey(kmsg.Produce.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if n.Add(1)%9 == 0 {
			return nil, errors.New("cut before the append"), true
		}
		return nil, nil, false
	})
	var faults []*kfake.FaultHandle
	for i, e := range []*kerr.Error{kerr.RequestTimedOut, kerr.NotLeaderForPartition, kerr.NotEnoughReplicasAfterAppend, kerr.NotEnoughReplicas} {
		var seen atomic.Int64
		faults = append(faults, cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: e, Count: -1, When: func(kmsg.Request) bool {
			return seen.Add(1)%13 == int64(i)
		}}))
	}
	const callers, each = 8, 60
	var wg sync.WaitGroup
	for g := range callers {
		wg.Go(func() {
			for i := range each {
				if _, err := p.Produce(ctx, record("consent.events", fmt.Sprintf("caller-%d", g), i)); err != nil {
					t.Errorf("caller %d record %d: %v", g, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for i, h := range faults {
		if h.Hits() == 0 {
			t.Errorf("fault %d never hit: the test shows nothing", i)
		}
		h.Remove()
	}
	f := newFetcher(t, c, allFromStart("consent.events", 2), FetchOptions{})
	next := make(map[string]int)
	for _, m := range drain(t, ctx, f, callers*each) {
		if want := fmt.Sprintf("%s #%d", m.key, next[m.key]); m.value != want {
			t.Fatalf("at %s: %q, want %q", m.at, m.value, want)
		}
		next[m.key]++
	}
	ends, err := c.Offsets(ctx, []Partition{{"consent.events", 0}, {"consent.events", 1}}, Latest)
	if err != nil {
		t.Fatal(err)
	}
	var stored NextOffset
	for _, end := range ends {
		stored += end
	}
	if stored != callers*each {
		t.Fatalf("%d records stored, want %d", stored, callers*each)
	}
}

func TestProduce_TellsWhichRecordsOfACallAreWritten(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 3, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Partitions: []int32{1}, Err: kerr.InvalidRecord, Count: -1})
	var records []Record
	for i := range 30 {
		records = append(records, record("consent.events", fmt.Sprint(i), i))
	}
	_, err := p.Produce(ctx, records...)
	var failed *ProduceError
	if !errors.As(err, &failed) || len(failed.Results) != len(records) {
		t.Fatalf("error is %v", err)
	}
	for i, r := range failed.Results {
		partition := PartitionFor(records[i].Key, 3)
		if partition == 1 && (r.Outcome != NotWritten || r.Err == nil) {
			t.Errorf("record %d: %+v", i, r)
		}
		if partition != 1 && (r.Outcome != Written || r.Position.Index != partition) {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	var code Code
	if !errors.As(err, &code) || int16(code) != kerr.InvalidRecord.Code {
		t.Errorf("the cause is not in %v", err)
	}
}

func TestProduce_RefusesWhatCannotBeWrittenBeforeSendingAnything(t *testing.T) {
	ctx := testContext(t)
	c := connect(t, startBroker(t, 1, []string{"consent.events"}))
	p := newProducer(t, c, ProducerOptions{MaxBatchBytes: 1000})
	big := Record{Topic: "consent.events", Value: make([]byte, 1000)}
	_, err := p.Produce(ctx, record("consent.events", "a", 0), big)
	var failed *ProduceError
	if !errors.As(err, &failed) || !errors.Is(err, ErrTooLarge) || failed.Results[0].Outcome != NotWritten {
		t.Fatalf("too large: %v", err)
	}
	if _, err := p.Produce(ctx, record("no.such.topic", "a", 0)); !errors.Is(err, ErrUnknownTopic) {
		t.Fatalf("unknown topic: %v", err)
	}
	if ends, err := c.Offsets(ctx, []Partition{{"consent.events", 0}}, Latest); err != nil || ends[Partition{"consent.events", 0}] != 0 {
		t.Fatalf("log ends at %v, %v", ends, err)
	}
}

// awaitQueue waits until n records wait behind the batch of consent.events/0 that is on its way.
func awaitQueue(t testing.TB, p *Producer, n int) {
	t.Helper()
	lane := p.lanes[Partition{"consent.events", 0}]
	eventually(t, fmt.Sprintf("%d records wait in the lane", n), func() bool {
		lane.mu.Lock()
		defer lane.mu.Unlock()
		return len(lane.queue) == n
	})
}

// blockProduce holds every Produce at the broker until release is closed.
func blockProduce(cluster *kfake.Cluster) (arrived, release chan struct{}) {
	arrived, release = make(chan struct{}, 100), make(chan struct{})
	cluster.ControlKey(kmsg.Produce.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cluster.SleepControl(func() { arrived <- struct{}{}; <-release })
		return nil, nil, false
	})
	return arrived, release
}

func TestProduce_GivesARecordTheTimeOfItsBatchSoThatTimesFollowTheLog(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	arrived, release := blockProduce(cluster)

	produced := make(chan error, 2)
	produce := func(r Record) { _, err := p.Produce(ctx, r); produced <- err }
	go produce(record("consent.events", "a", 0))
	receive(t, "a batch at the broker", arrived)
	go produce(record("consent.events", "a", 1))
	awaitQueue(t, p, 1)
	waited := time.Now()
	eventually(t, "a millisecond later", func() bool { return time.Now().UnixMilli() > waited.UnixMilli() })
	close(release)
	for range 2 {
		if err := receive(t, "an answer", produced); err != nil {
			t.Fatal(err)
		}
	}
	got := drain(t, ctx, newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{}), 2)
	if first, second := got[0].msg.Time, got[1].msg.Time; !first.Before(waited) || !second.After(waited) {
		t.Fatalf("written at %v and %v: the second one still waited at %v", first, second, waited)
	}
}

func TestProduce_TakesBackWhatWaitsWhenItsCallerGivesUp(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	arrived, release := blockProduce(cluster)

	inFlight, waiting := make(chan error, 1), make(chan error, 1)
	first, giveUpFirst := context.WithCancel(ctx)
	go func() { _, err := p.Produce(first, record("consent.events", "a", 0)); inFlight <- err }()
	receive(t, "a batch at the broker", arrived)
	second, giveUpSecond := context.WithCancel(ctx)
	go func() { _, err := p.Produce(second, record("consent.events", "a", 1)); waiting <- err }()
	awaitQueue(t, p, 1)
	giveUpSecond()
	giveUpFirst()
	var failed *ProduceError
	if err := receive(t, "the second answer", waiting); !errors.As(err, &failed) || failed.Results[0].Outcome != NotWritten || !errors.Is(err, context.Canceled) {
		t.Fatalf("waiting record: %v", err)
	}
	if err := receive(t, "the first answer", inFlight); !errors.As(err, &failed) || failed.Results[0].Outcome != Unknown || !errors.Is(err, ErrIndefinite) {
		t.Fatalf("record on its way: %v", err)
	}
	close(release)
	if _, err := p.Produce(ctx, record("consent.events", "a", 2)); err != nil {
		t.Fatal(err)
	}
	got := drain(t, ctx, newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{}), 2)
	if len(got) != 2 || got[0].value != "a #0" || got[1].value != "a #2" {
		t.Fatalf("stored: %v", got)
	}
}

func TestProduce_IsBusyWhenTheBufferStaysFull(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{MaxBufferedBytes: 2000})
	arrived, release := blockProduce(cluster)
	full := make(chan error, 1)
	go func() {
		_, err := p.Produce(ctx, Record{Topic: "consent.events", Value: make([]byte, 1900)})
		full <- err
	}()
	receive(t, "a batch at the broker", arrived)
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	_, err := p.Produce(short, Record{Topic: "consent.events", Value: make([]byte, 500)})
	var failed *ProduceError
	if !errors.Is(err, ErrBusy) || !errors.As(err, &failed) || failed.Results[0].Outcome != NotWritten {
		t.Fatalf("error is %v", err)
	}
	close(release)
	if err := receive(t, "the first answer", full); err != nil {
		t.Fatal(err)
	}
}

func TestProducerClose_WaitsForWhatIsOnItsWayAndRefusesTheRest(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := c.NewProducer(ProducerOptions{})
	arrived, release := blockProduce(cluster)
	answer, closed := make(chan error, 1), make(chan error, 1)
	go func() { _, err := p.Produce(ctx, record("consent.events", "a", 0)); answer <- err }()
	receive(t, "a batch at the broker", arrived)
	go func() { closed <- p.Close() }()
	eventually(t, "calls are refused", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.closed
	})
	if _, err := p.Produce(ctx, record("consent.events", "a", 1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("produce after close: %v", err)
	}
	select {
	case err := <-closed:
		t.Fatalf("closed with a batch on its way: %v", err)
	default:
	}
	close(release)
	if err := errors.Join(receive(t, "the answer", answer), receive(t, "the end of close", closed), p.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestProducerClose_GivesUpOnABrokerThatDoesNotAnswer(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := c.NewProducer(ProducerOptions{CloseTimeout: 50 * time.Millisecond})
	arrived, release := blockProduce(cluster)
	defer close(release)
	answer := make(chan error, 1)
	go func() { _, err := p.Produce(ctx, record("consent.events", "a", 0)); answer <- err }()
	receive(t, "a batch at the broker", arrived)
	if err := p.Close(); err == nil {
		t.Fatal("close says that all was written")
	}
	var failed *ProduceError
	if err := receive(t, "the answer", answer); !errors.As(err, &failed) || failed.Results[0].Outcome != Unknown {
		t.Fatalf("error is %v", err)
	}
}

func TestProduceError_NamesEachCauseOnce(t *testing.T) {
	cause := errors.New("cause")
	e := &ProduceError{Results: []RecordResult{{Outcome: NotWritten, Err: cause}, {Outcome: Written}, {Outcome: NotWritten, Err: cause}}}
	if got := e.Unwrap(); !slices.Equal(got, []error{cause}) {
		t.Fatal(got)
	}
	if got := e.Error(); got != "produce: 1 of 3 records written, 2 not, 0 unknown: cause" {
		t.Fatal(got)
	}
}

func BenchmarkProduce(b *testing.B) {
	for _, perCall := range []int{1, 1000} {
		b.Run(fmt.Sprintf("%d-a-call", perCall), func(b *testing.B) {
			ctx := testContext(b)
			c := connect(b, startBroker(b, 1, []string{"consent.events"}))
			p := newProducer(b, c, ProducerOptions{})
			records := make([]Record, perCall)
			for i := range records {
				records[i] = Record{Topic: "consent.events", Key: fmt.Appendf(nil, "default|user:%d", i), Value: make([]byte, 150)}
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.Produce(ctx, records...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*perCall)/b.Elapsed().Seconds(), "records/s")
		})
	}
	b.Run("64-callers", func(b *testing.B) {
		ctx := testContext(b)
		c := connect(b, startBroker(b, 1, []string{"consent.events"}))
		p := newProducer(b, c, ProducerOptions{})
		b.SetParallelism(32) // on 2 cores
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			r := Record{Topic: "consent.events", Key: []byte("default|user:42"), Value: make([]byte, 150)}
			for pb.Next() {
				if _, err := p.Produce(ctx, r); err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}
