package brokertest_test

import (
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/kafka"
)

// What docs/brokers.md says of both brokers. A difference that is gone, or that is new,
// fails here first.

func produce(t *testing.T, client *kafka.Client, r kafka.Record) (kafka.Position, error) {
	t.Helper()
	p := client.NewProducer(kafka.ProducerOptions{})
	defer p.Close() //nolint:errcheck // ends with the test
	at, err := p.Produce(testContext(t), r)
	if err != nil {
		return kafka.Position{}, err
	}
	return at[0], nil
}

// first reads the first record of partition 0.
func first(t *testing.T, client *kafka.Client, topic string) kafka.Message {
	t.Helper()
	f := client.NewFetcher(map[kafka.Partition]kafka.NextOffset{{Topic: topic}: 0}, kafka.FetchOptions{MaxWait: 50 * time.Millisecond})
	defer f.Close() //nolint:errcheck // always nil
	for {
		batches, err := f.Fetch(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			for _, m := range b.Messages {
				return m
			}
		}
	}
}

func TestDifference_OnlyApacheKafkaStampsItsOwnTime(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{})
	client := connect(t, c)
	topic := makeTopic(t, c, client, 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	claimed := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	if _, err := produce(t, client, kafka.Record{Topic: topic, Value: []byte("v"), Time: claimed}); err != nil {
		t.Fatal(err)
	}
	got := first(t, client, topic).Time
	if stamped := time.Since(got).Abs() < 5*time.Minute; stamped != c.Apache() {
		t.Errorf("claimed %s, read %s; Apache Kafka: %v", claimed, got, c.Apache())
	}
	if !c.Apache() && !got.Equal(claimed) {
		t.Errorf("claimed %s, read %s", claimed, got)
	}
}

func TestDifference_OnlyApacheKafkaWantsKeysInACompactedTopic(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{})
	client := connect(t, c)
	topic := makeTopic(t, c, client, 1, map[string]string{"cleanup.policy": "compact"})
	if _, err := produce(t, client, kafka.Record{Topic: topic, Value: []byte("v")}); (err != nil) != c.Apache() {
		t.Errorf("a record without a key: %v; Apache Kafka: %v", err, c.Apache())
	}
}

// On both, and what "the history has no gap" must know: the end of a transaction takes
// an offset of each partition.
func TestSame_TheEndOfATransactionTakesAnOffset(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{})
	client := connect(t, c)
	topic := makeTopic(t, c, client, 1, nil)
	ctx := testContext(t)
	tx, err := client.OpenTransactor(ctx, kafka.TransactorOptions{ID: c.Prefix() + "tx"})
	if err != nil {
		t.Fatal(err)
	}
	p := kafka.Partition{Topic: topic}
	if err := tx.Begin(ctx, nil, []kafka.Partition{p}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Write(ctx, []kafka.Record{{Topic: topic, Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	if err := tx.End(ctx); err != nil {
		t.Fatal(err)
	}
	first(t, client, topic) // markers are written behind the answer
	at, err := produce(t, client, kafka.Record{Topic: topic, Value: []byte("w")})
	if err != nil {
		t.Fatal(err)
	}
	if at.Offset != 2 {
		t.Errorf("the record behind a transaction of one record is at offset %d, want 2", at.Offset)
	}
}

// On both: who reads waits for a transaction that its owner left, and for no longer than
// its time-out and a moment.
func TestSame_ATransactionThatWasLeftOpenEndsAtItsTimeout(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{})
	client := connect(t, c)
	topic := makeTopic(t, c, client, 1, nil)
	ctx := testContext(t)
	const timeout = time.Second
	tx, err := client.OpenTransactor(ctx, kafka.TransactorOptions{ID: c.Prefix() + "tx", Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	p := kafka.Partition{Topic: topic}
	from := time.Now()
	if err := tx.Begin(ctx, nil, []kafka.Partition{p}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Write(ctx, []kafka.Record{{Topic: topic, Value: []byte("left")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := produce(t, client, kafka.Record{Topic: topic, Value: []byte("behind")}); err != nil {
		t.Fatal(err)
	}
	if got := first(t, client, topic); string(got.Value) != "behind" {
		t.Errorf("read %q, which was never committed", got.Value)
	}
	took := time.Since(from)
	t.Logf("read after %.1f s", took.Seconds())
	if took < timeout {
		t.Errorf("what stands behind an open transaction was read after %s, before its time-out of %s", took, timeout)
	}
	if took > patience {
		t.Errorf("the time-out of %s took %s", timeout, took)
	}
}
