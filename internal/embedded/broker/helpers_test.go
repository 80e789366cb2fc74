package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
)

// childVariable makes the test binary run one of children in place of the
// tests: a process that can be killed.
const childVariable = "BROKER_TEST_CHILD"

var children = map[string]func() error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		if err := children[name](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child prepares the test binary to run children[name] with the variables.
func child(t *testing.T, name string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childVariable+"="+name), env...)
	cmd.Stderr = testWriter{t}
	return cmd
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log("child: " + strings.TrimSpace(string(p)))
	return len(p), nil
}

func openBroker(t testing.TB, dir string, change ...func(*Options)) *Broker {
	t.Helper()
	b, err := Open(t.Context(), options(dir, change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func options(dir string, change ...func(*Options)) Options {
	opts := Options{Dir: dir, Addr: "127.0.0.1:0", ReserveBytes: -1}
	for _, fn := range change {
		fn(&opts)
	}
	return opts
}

func mustClose(t testing.TB, b *Broker) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func client(t testing.TB, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := newClient(addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newClient(addr string, opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MetadataMinAge(10 * time.Millisecond),
		kgo.DisableClientMetrics(),
	}, opts...)...)
}

func createTopic(t testing.TB, addr, topic string, partitions int32, configs ...string) {
	t.Helper()
	if err := createTopicErr(t.Context(), addr, topic, partitions, configs...); err != nil {
		t.Fatal(err)
	}
}

func createTopicErr(ctx context.Context, addr, topic string, partitions int32, configs ...string) error {
	c, err := newClient(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	req := kmsg.NewPtrCreateTopicsRequest()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, 1
	for _, config := range configs {
		name, value, _ := strings.Cut(config, "=")
		rc := kmsg.NewCreateTopicsRequestTopicConfig()
		rc.Name, rc.Value = name, &value
		rt.Configs = append(rt.Configs, rc)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

// produce writes one record and returns its offset.
func produce(t testing.TB, c *kgo.Client, topic string, partition int32, key, value string) int64 {
	t.Helper()
	rec := &kgo.Record{Topic: topic, Partition: partition, Key: []byte(key), Value: []byte(value)}
	if value == "" {
		rec.Value = nil
	}
	if err := c.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return rec.Offset
}

// readAll reads a partition from its begin to its end, committed records only.
func readAll(t testing.TB, addr, topic string, partition int32) []*kgo.Record {
	t.Helper()
	records, err := readAllErr(t.Context(), addr, topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

func readAllErr(ctx context.Context, addr, topic string, partition int32) ([]*kgo.Record, error) {
	end, err := listOffset(ctx, addr, topic, partition, -1)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := newClient(addr,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var records []*kgo.Record
	for next := int64(0); next < end; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("read %s/%d from %d to %d: %w", topic, partition, next, end, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		})
	}
	return records, nil
}

// listOffset asks for a partition's end (-1) or begin (-2).
func listOffset(ctx context.Context, addr, topic string, partition int32, at int64) (int64, error) {
	c, err := newClient(addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	req := kmsg.NewPtrListOffsetsRequest()
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Partition, rp.Timestamp = partition, at
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return 0, err
	}
	p := resp.Topics[0].Partitions[0]
	return p.Offset, kerr.ErrorForCode(p.ErrorCode)
}

// values are the records' values, in order.
func values(records []*kgo.Record) string {
	var out []string
	for _, r := range records {
		out = append(out, string(r.Value))
	}
	return strings.Join(out, " ")
}

// crashed returns a copy of a running broker's directory: what kill -9 would
// leave. Nothing may be written to the broker meanwhile.
func crashed(t testing.TB, b *Broker) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "crashed")
	if err := os.CopyFS(to, os.DirFS(b.layout.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return to
}

func commit(t testing.TB, addr, group, topic string, partition int32, offset int64) {
	t.Helper()
	if err := commitErr(t, client(t, addr), group, topic, partition, offset); err != nil {
		t.Fatal(err)
	}
}

func commitErr(t testing.TB, c *kgo.Client, group, topic string, partition int32, offset int64) error {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = topic, topicID(t, c, topic)
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Partition, rp.Offset = partition, offset
	rp.Metadata = kmsg.StringPtr("covers")
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// committed returns a group's offset and metadata, -1 when there is none.
func committed(t testing.TB, addr, group, topic string, partition int32) (int64, string) {
	t.Helper()
	c := client(t, addr)
	req := kmsg.NewPtrOffsetFetchRequest()
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.TopicID, gt.Partitions = topic, topicID(t, c, topic), []int32{partition}
	rg.Topics = append(rg.Topics, gt)
	req.Groups = append(req.Groups, rg)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p := resp.Groups[0].Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		t.Fatal(err)
	}
	if p.Metadata == nil {
		return p.Offset, ""
	}
	return p.Offset, *p.Metadata
}
