package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/assent-dev/assent/internal/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(brokertest.Main(m.Run, os.Getenv)) }

// patience is how long a test waits for something that must come.
const patience = 20 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	return ctx
}

// startBroker runs brokers in this process, with topics of the given partition count.
func startBroker(t testing.TB, partitions int32, topics []string, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	all := append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics...), kfake.GroupMinSessionTimeout(100 * time.Millisecond)}, opts...)
	cluster, err := kfake.NewCluster(all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

func connect(t testing.TB, cluster *kfake.Cluster, mutate ...func(*Config)) *Client {
	t.Helper()
	config := Config{Brokers: cluster.ListenAddrs(), RequestTimeout: 3 * time.Second, Logger: slog.New(slog.NewTextHandler(testLog{t}, nil))}
	for _, f := range mutate {
		f(&config)
	}
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newProducer(t testing.TB, c *Client, options ProducerOptions) *Producer {
	t.Helper()
	p := c.NewProducer(options)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func newFetcher(t testing.TB, c *Client, from map[Partition]NextOffset, options FetchOptions) *Fetcher {
	t.Helper()
	f := c.NewFetcher(from, options)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// allFromStart is every partition of a topic from offset 0.
func allFromStart(topic string, partitions int) map[Partition]NextOffset {
	from := make(map[Partition]NextOffset)
	for i := range int32(partitions) {
		from[Partition{topic, i}] = 0
	}
	return from
}

// kept is a message whose slices were copied.
type kept struct {
	at    Position
	key   string
	value string
	msg   Message // slices invalid; times and lengths are not
}

// drain fetches until n messages came.
func drain(t testing.TB, ctx context.Context, f *Fetcher, n int) []kept {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out []kept
	for len(out) < n {
		batches, err := f.Fetch(ctx)
		if err != nil {
			t.Fatalf("fetch after %d of %d messages: %v", len(out), n, err)
		}
		for _, b := range batches {
			for _, m := range b.Messages {
				out = append(out, kept{m.Position, string(m.Key), string(m.Value), m})
			}
		}
	}
	return out
}

// eventually polls a condition until it holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %s: %s", patience, what)
		panic("unreachable")
	}
}

func record(topic, key string, n int) Record {
	return Record{Topic: topic, Key: []byte(key), Value: fmt.Appendf(nil, "%s #%d", key, n)}
}

// port returns the port of the cluster's only broker.
func port(t testing.TB, cluster *kfake.Cluster) int {
	t.Helper()
	_, p, err := net.SplitHostPort(cluster.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// testLog writes log lines to the test, until it has ended.
type testLog struct{ t testing.TB }

var testLogMu sync.Mutex

func (l testLog) Write(p []byte) (int, error) {
	testLogMu.Lock()
	defer testLogMu.Unlock()
	defer func() { _ = recover() }() // a line after the end of its test
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
