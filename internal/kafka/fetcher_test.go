package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/kafka/recordbatch"
)

var events0 = Partition{"consent.events", 0}

func produceN(t testing.TB, ctx context.Context, c *Client, key string, n int) {
	t.Helper()
	p := newProducer(t, c, ProducerOptions{})
	for i := range n {
		if _, err := p.Produce(ctx, record("consent.events", key, i)); err != nil {
			t.Fatal(err)
		}
	}
}

// transaction writes records in one transaction of another client, and ends it.
func transaction(t testing.TB, ctx context.Context, cluster *kfake.Cluster, id string, end kgo.TransactionEndTry, values ...string) {
	t.Helper()
	begin(t, ctx, cluster, id, values...)(end)
}

// begin writes records in a transaction that stays open until the function it returns is called.
func begin(t testing.TB, ctx context.Context, cluster *kfake.Cluster, id string, values ...string) func(kgo.TransactionEndTry) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID(id), kgo.DefaultProduceTopic("consent.events"))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := client.ProduceSync(ctx, kgo.StringRecord(v)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return func(end kgo.TransactionEndTry) {
		t.Helper()
		defer client.Close()
		if err := client.EndTransaction(ctx, end); err != nil {
			t.Fatal(err)
		}
	}
}

func values(ms []kept) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.value)
	}
	return out
}

func TestFetch_NeverHandsOutAbortedOrControlRecords(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	produceN(t, ctx, c, "plain", 1)
	transaction(t, ctx, cluster, "one", kgo.TryCommit, "c1", "c2")
	transaction(t, ctx, cluster, "one", kgo.TryAbort, "a1", "a2")
	transaction(t, ctx, cluster, "one", kgo.TryCommit, "c3")
	endTwo := begin(t, ctx, cluster, "two", "a3") // interleaved: aborted two around committed three
	transaction(t, ctx, cluster, "three", kgo.TryCommit, "c4")
	endTwo(kgo.TryAbort)
	transaction(t, ctx, cluster, "two", kgo.TryCommit, "c5")

	want := []string{"plain #0", "c1", "c2", "c3", "c4", "c5"}
	f := newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{})
	if got := values(drain(t, ctx, f, len(want))); !slices.Equal(got, want) {
		t.Fatalf("read %q, want %q", got, want)
	}
	ends, err := c.Offsets(ctx, []Partition{events0}, LatestStable)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the position passes the last control record", func() bool {
		batches, err := f.Fetch(ctx)
		for _, b := range batches {
			if len(b.Messages) > 0 {
				t.Fatalf("more messages: %v", b.Messages)
			}
		}
		return err == nil && f.Position(events0) == ends[events0]
	})
	// From every offset, whatever it falls into.
	for from := range ends[events0] {
		f := newFetcher(t, c, map[Partition]NextOffset{events0: from}, FetchOptions{MaxWait: 20 * time.Millisecond})
		var got []string
		for f.Position(events0) < ends[events0] {
			batches, err := f.Fetch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range batches {
				for _, m := range b.Messages {
					if NextOffset(m.Offset) < from {
						t.Fatalf("asked from %d, got %s", from, m.Position)
					}
					got = append(got, string(m.Value))
				}
			}
		}
		if !slices.Equal(got, want[len(want)-len(got):]) {
			t.Fatalf("from %d: %q", from, got)
		}
	}
}

func TestFetch_WaitsBeforeAnOpenTransactionAndHandsItOutOnceCommitted(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	end := begin(t, ctx, cluster, "one", "t1")
	produceN(t, ctx, c, "plain", 1)
	stable, err := c.Offsets(ctx, []Partition{events0}, LatestStable)
	if err != nil || stable[events0] != 0 {
		t.Fatalf("stable end %v, %v", stable, err)
	}
	latest, err := c.Offsets(ctx, []Partition{events0}, Latest)
	if err != nil || latest[events0] != 2 {
		t.Fatalf("end %v, %v", latest, err)
	}
	f := newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{MaxWait: 50 * time.Millisecond})
	if batches, err := f.Fetch(ctx); err != nil || len(batches) != 0 {
		t.Fatalf("an open transaction is handed out: %v, %v", batches, err)
	}
	end(kgo.TryCommit)
	if got := values(drain(t, ctx, f, 2)); !slices.Equal(got, []string{"t1", "plain #0"}) {
		t.Fatal(got)
	}
}

func TestFetch_StopsAnOffsetOutOfRangeAndGoesOnWithTheOthers(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 2, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	var keys []string // one key for each partition
	for i := 0; len(keys) < 2; i++ {
		if k := fmt.Sprint(i); int(PartitionFor([]byte(k), 2)) == len(keys) {
			keys = append(keys, k)
		}
	}
	for i := range 10 {
		if _, err := p.Produce(ctx, record("consent.events", keys[0], i), record("consent.events", keys[1], i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cluster.DeleteRecords("consent.events", 0, 4); err != nil {
		t.Fatal(err)
	}
	for _, asked := range []NextOffset{2, 11} {
		f := newFetcher(t, c, map[Partition]NextOffset{events0: asked, {"consent.events", 1}: 0}, FetchOptions{})
		var failed error
		seen := 0
		for failed == nil || seen < 10 {
			batches, err := f.Fetch(ctx)
			if err != nil {
				if failed != nil {
					t.Fatalf("a second error: %v", err)
				}
				failed = err
			}
			for _, b := range batches {
				if b.Partition == events0 {
					t.Fatalf("asked for %d, got %v", asked, b.Messages)
				}
				seen += len(b.Messages)
			}
		}
		var out *OffsetOutOfRangeError
		if !errors.As(failed, &out) || *out != (OffsetOutOfRangeError{events0, asked, 4, 10}) {
			t.Fatalf("asked for %d: %v", asked, failed)
		}
		if got := f.Position(events0); got != asked {
			t.Fatalf("position moved to %d", got)
		}
		f.Seek(events0, 4)
		if got := drain(t, ctx, f, 6); got[0].at.Offset != 4 || got[5].at.Offset != 9 {
			t.Fatalf("after seek: %v", got)
		}
	}
}

func TestFetch_StopsAtABatchWithAWrongChecksumAfterHandingOutWhatCameBefore(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	produceN(t, ctx, c, "a", 3)
	var good []byte
	f := newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{})
	cluster.ControlKey(kmsg.Fetch.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		asked := req.(*kmsg.FetchRequest)
		answer := req.ResponseKind().(*kmsg.FetchResponse)
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic = "consent.events"
		p := kmsg.NewFetchResponseTopicPartition()
		if asked.Topics[0].Partitions[0].FetchOffset == 0 {
			p.RecordBatches = append(p.RecordBatches, good...)
		}
		bad := bytes.Clone(good)
		binary.BigEndian.PutUint64(bad, 1)
		bad[len(bad)-2] ^= 1
		p.RecordBatches = append(p.RecordBatches, bad...)
		topic.Partitions = append(topic.Partitions, p)
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
	var w recordbatch.Writer
	w.Reset(nil)
	w.Add(0, nil, []byte("good"), nil)
	good = w.Finish(recordbatch.Sender{ID: -1})

	if got := drain(t, ctx, f, 1); got[0].value != "good" {
		t.Fatal(got)
	}
	batches, err := f.Fetch(ctx)
	var corrupt *CorruptBatchError
	if !errors.As(err, &corrupt) || corrupt.Position != (Position{events0, 1}) || !errors.Is(err, recordbatch.ErrCorrupt) || len(batches) != 0 {
		t.Fatalf("%v, %v", batches, err)
	}
	if f.Position(events0) != 1 {
		t.Fatalf("position is %d", f.Position(events0))
	}
}

func TestFetch_BeginsAtTheAskedOffsetInTheMiddleOfABatch(t *testing.T) {
	ctx := testContext(t)
	c := connect(t, startBroker(t, 1, []string{"consent.events"}))
	p := newProducer(t, c, ProducerOptions{})
	var records []Record
	for i := range 10 {
		records = append(records, record("consent.events", "a", i))
	}
	if _, err := p.Produce(ctx, records...); err != nil { // one batch
		t.Fatal(err)
	}
	f := newFetcher(t, c, map[Partition]NextOffset{events0: 6}, FetchOptions{})
	if got := drain(t, ctx, f, 4); got[0].at.Offset != 6 || len(got) != 4 {
		t.Fatalf("asked from 6: %v", got)
	}
}

func TestFetch_KeepsToMaxRecordsAndLosesNothing(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 2, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	var records []Record
	for i := range 100 {
		records = append(records, record("consent.events", fmt.Sprint(i), i))
	}
	if _, err := p.Produce(ctx, records...); err != nil {
		t.Fatal(err)
	}
	f := newFetcher(t, c, allFromStart("consent.events", 2), FetchOptions{MaxRecords: 7})
	next := make(map[Partition]LastOffset)
	for seen := 0; seen < 100; {
		batches, err := f.Fetch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, b := range batches {
			for _, m := range b.Messages {
				if m.Offset != next[b.Partition] {
					t.Fatalf("%s, want offset %d", m.Position, next[b.Partition])
				}
				next[b.Partition]++
				n++
			}
			if b.Next != NextOffset(next[b.Partition]) || f.Position(b.Partition) != b.Next {
				t.Fatalf("next %d, position %d, want %d", b.Next, f.Position(b.Partition), next[b.Partition])
			}
		}
		if n > 7 {
			t.Fatalf("%d messages at once", n)
		}
		seen += n
	}
}

func TestFetch_HandsOutNothingOfAPausedPartitionAndAllOfItAfterwards(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	produceN(t, ctx, c, "a", 20)
	f := newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{MaxRecords: 5, MaxWait: 30 * time.Millisecond})
	if got := drain(t, ctx, f, 5); len(got) != 5 {
		t.Fatal(got)
	}
	f.Pause(events0) // with 15 decoded ones ready
	for range 2 {
		if batches, err := f.Fetch(ctx); err != nil || len(batches) != 0 {
			t.Fatalf("%v, %v", batches, err)
		}
	}
	f.Resume(events0)
	got := drain(t, ctx, f, 15)
	if got[0].at.Offset != 5 || got[14].at.Offset != 19 {
		t.Fatalf("after the pause: %v", got)
	}
	f.Seek(events0, 18)
	if got := drain(t, ctx, f, 2); got[0].at.Offset != 18 {
		t.Fatalf("after seek: %v", got)
	}
}

func TestFetch_ReturnsAtOnceWhenItsContextEnds(t *testing.T) {
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	f := newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{MaxWait: time.Minute})
	polled := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1})
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { _, err := f.Fetch(ctx); done <- err }()
	if err := polled.Wait(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cancel()
	if err := receive(t, "the end of the fetch", done); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Fatalf("took %s", took)
	}
	if _, err := f.Fetch(testContext(t)); !errors.Is(err, ErrClosed) {
		t.Fatalf("fetch after close: %v", err)
	}
}

func TestFetch_FollowsPartitionsToTheirNewLeaders(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 4, []string{"consent.events"}, kfake.NumBrokers(3))
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	f := newFetcher(t, c, allFromStart("consent.events", 4), FetchOptions{})
	for round := range 5 {
		for i := range int32(4) {
			if err := cluster.MoveTopicPartition("consent.events", i, int32(round+int(i))%3); err != nil {
				t.Fatal(err)
			}
		}
		var records []Record
		for i := range 40 {
			records = append(records, record("consent.events", fmt.Sprint(i), round))
		}
		if _, err := p.Produce(ctx, records...); err != nil {
			t.Fatal(err)
		}
		for _, m := range drain(t, ctx, f, 40) {
			if want := fmt.Sprintf("%s #%d", m.key, round); m.value != want {
				t.Fatalf("round %d: %q", round, m.value)
			}
		}
	}
}

func TestFetch_SaysThatATopicDoesNotExist(t *testing.T) {
	c := connect(t, startBroker(t, 1, []string{"consent.events"}))
	f := newFetcher(t, c, map[Partition]NextOffset{{"no.such.topic", 0}: 0}, FetchOptions{MaxWait: 200 * time.Millisecond})
	deadline := time.Now().Add(patience)
	for {
		_, err := f.Fetch(testContext(t))
		if errors.Is(err, ErrUnknownTopic) {
			return
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestFetch_SurvivesLostAnswersAndRefusals(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	produceN(t, ctx, c, "a", 50)
	n := 0
	cluster.ControlKey(kmsg.Fetch.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if n++; n%2 == 1 {
			return nil, errors.New("cut"), true
		}
		return nil, nil, false
	})
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Count: 3})
	f := newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{MaxRecords: 10})
	for i, m := range drain(t, ctx, f, 50) {
		if m.at.Offset != LastOffset(i) {
			t.Fatalf("message %d at %s", i, m.at)
		}
	}
}

// Reading three partitions to their ends, with a caller that looks at every byte.
func BenchmarkFetch(b *testing.B) {
	s := openSite(b)
	p := newProducer(b, s.client, ProducerOptions{})
	const stored = 200_000
	records := make([]Record, 5000)
	for i := range records {
		records[i] = Record{Topic: s.events, Key: fmt.Appendf(nil, "default|user:%d", i), Value: make([]byte, 150)}
	}
	for range stored / len(records) {
		if _, err := p.Produce(s.ctx, records...); err != nil {
			b.Fatal(err)
		}
	}
	f := newFetcher(b, s.client, allFromStart(s.events, 3), FetchOptions{PartitionMaxBytes: 4 << 20})
	b.ReportAllocs()
	var sum uint32
	for b.Loop() {
		for _, p := range s.all(s.events) {
			f.Seek(p, 0)
		}
		for n := 0; n < stored; {
			batches, err := f.Fetch(s.ctx)
			s.must(err)
			for i := range batches {
				for _, m := range batches[i].Messages {
					sum = crc32.Update(crc32.Update(sum, crc32.IEEETable, m.Key), crc32.IEEETable, m.Value)
				}
				n += len(batches[i].Messages)
			}
		}
	}
	b.ReportMetric(float64(b.N)*stored/b.Elapsed().Seconds(), "records/s")
}
