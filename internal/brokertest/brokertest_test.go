package brokertest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(brokertest.Main(m.Run, os.Getenv)) }

const patience = 30 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	return ctx
}

func connect(t testing.TB, c *brokertest.Cluster) *kafka.Client {
	t.Helper()
	client, err := kafka.New(kafka.Config{Brokers: c.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// makeTopic makes a topic with as many copies as the cluster allows.
func makeTopic(t testing.TB, c *brokertest.Cluster, client *kafka.Client, partitions int, config map[string]string) string {
	t.Helper()
	name := c.Prefix() + "topic"
	spec := kafka.TopicSpec{Name: name, Partitions: partitions, Replication: c.Replication(), Config: config}
	if _, err := client.Provision(testContext(t), []kafka.TopicSpec{spec}, false); err != nil {
		t.Fatal(err)
	}
	return name
}

// values reads n records of a topic's partitions and gives their values.
func values(t testing.TB, client *kafka.Client, topic string, partitions, n int) map[string]int {
	t.Helper()
	from := map[kafka.Partition]kafka.NextOffset{}
	for i := range int32(partitions) {
		from[kafka.Partition{Topic: topic, Index: i}] = 0
	}
	f := client.NewFetcher(from, kafka.FetchOptions{MaxWait: 50 * time.Millisecond})
	defer f.Close() //nolint:errcheck // always nil
	ctx := testContext(t)
	got := map[string]int{}
	for read := 0; read < n; {
		batches, err := f.Fetch(ctx)
		if err != nil {
			t.Fatalf("fetch after %d of %d records: %v", read, n, err)
		}
		for _, b := range batches {
			for _, m := range b.Messages {
				got[string(m.Value)]++
				read++
			}
		}
	}
	return got
}

func TestStart_GivesABrokerThatKeepsWhatItIsGiven(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{})
	client := connect(t, c)
	topic := makeTopic(t, c, client, 3, nil)
	p := client.NewProducer(kafka.ProducerOptions{})
	defer p.Close() //nolint:errcheck // ends with the test
	const n = 30
	for i := range n {
		if _, err := p.Produce(testContext(t), kafka.Record{Topic: topic, Key: fmt.Append(nil, i), Value: fmt.Append(nil, "v", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := values(t, client, topic, 3, n); len(got) != n {
		t.Errorf("read %d values, want %d", len(got), n)
	}
}

func TestStart_TestsOfOneClusterDoNotSeeEachOther(t *testing.T) {
	a, b := brokertest.Start(t, brokertest.Options{}), brokertest.Start(t, brokertest.Options{})
	if a.Prefix() == b.Prefix() {
		t.Fatalf("both have the prefix %q", a.Prefix())
	}
	for _, c := range []*brokertest.Cluster{a, b} {
		client := connect(t, c)
		topic := makeTopic(t, c, client, 1, nil)
		p := client.NewProducer(kafka.ProducerOptions{})
		if _, err := p.Produce(testContext(t), kafka.Record{Topic: topic, Value: []byte(c.Prefix())}); err != nil {
			t.Fatal(err)
		}
		_ = p.Close()
		if got := values(t, client, topic, 1, 1); got[c.Prefix()] != 1 {
			t.Errorf("%s holds %v", topic, got)
		}
	}
}

func TestStart_TakesTheHarnessesOwnBrokerInTheProcessOnly(t *testing.T) {
	asked := false
	c := brokertest.Start(t, brokertest.Options{InProcess: func() []string { asked = true; return []string{"127.0.0.1:1"} }})
	if asked == c.Apache() {
		t.Errorf("its own broker was asked for: %v; Apache Kafka: %v", asked, c.Apache())
	}
	if own := len(c.Addrs()) == 1 && c.Addrs()[0] == "127.0.0.1:1"; own == c.Apache() {
		t.Errorf("the addresses are %v", c.Addrs())
	}
}

func TestStart_PrefixIsFitForTopicsWhateverTheTestIsCalled(t *testing.T) {
	t.Run("grüße an/alle_"+strings.Repeat("x", 300), func(t *testing.T) {
		c := brokertest.Start(t, brokertest.Options{})
		makeTopic(t, c, connect(t, c), 1, nil)
	})
}

func TestParseKind_RefusesWhatItDoesNotKnow(t *testing.T) {
	for text, want := range map[string]brokertest.Kind{"": brokertest.InProcess, "apache": brokertest.Apache, "apache3": brokertest.Apache3} {
		if got, err := brokertest.ParseKind(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"1", "Apache", "apache2", "true"} {
		if _, err := brokertest.ParseKind(text); err == nil || !strings.Contains(err.Error(), brokertest.Variable) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestMain_RunsNoTestUnderAWrongSetting(t *testing.T) {
	ran := false
	code := brokertest.Main(func() int { ran = true; return 0 }, func(string) string { return "kafka" }).Run()
	if ran || code != 2 {
		t.Errorf("ran: %v, exit code %d, want 2", ran, code)
	}
}
