package broker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const dirVariable = "BROKER_TEST_DIR"

func init() {
	children["serve"] = serve
}

// serve opens a broker, prints its address, and runs until standard input
// closes: the child dies with its parent.
func serve() error {
	opts := options(os.Getenv(dirVariable))
	opts.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	b, err := Open(context.Background(), opts)
	if err != nil {
		return err
	}
	fmt.Println(b.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return b.Close()
}

// startServer runs serve and returns the broker's address.
func startServer(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := child(t, "serve", dirVariable+"="+dir)
	return cmd, startChild(t, cmd)
}

// startChild starts a child that serves, and returns the broker's address.
func startChild(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killServer(cmd) })
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the server said %q: %v", addr, err)
	}
	return strings.TrimSpace(addr)
}

func killServer(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it says "killed"
}

// acknowledged is what clients were told is stored: offset and value by
// partition.
type acknowledged struct {
	mu    sync.Mutex
	byKey [4]map[int64]string
	count int
}

func (a *acknowledged) add(r *kgo.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byKey[r.Partition] == nil {
		a.byKey[r.Partition] = make(map[int64]string)
	}
	a.byKey[r.Partition][r.Offset] = string(r.Value)
	a.count++
}

func (a *acknowledged) total() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

func (a *acknowledged) check(t *testing.T, addr string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for partition, want := range a.byKey {
		if len(want) == 0 {
			continue
		}
		records := readAll(t, addr, "events", int32(partition))
		for i, r := range records {
			if r.Offset != int64(i) {
				t.Fatalf("events/%d: offset %d stands at place %d: there is a hole", partition, r.Offset, i)
			}
		}
		for offset, value := range want {
			if offset >= int64(len(records)) || string(records[offset].Value) != value {
				t.Fatalf("events/%d@%d was acknowledged and is not there any more; the log ends at %d", partition, offset, len(records))
			}
		}
	}
}

// load writes to every partition until the context ends or the server is gone.
func (a *acknowledged) load(ctx context.Context, addr string, round int) error {
	c, err := newClient(addr, kgo.RecordRetries(2), kgo.ProducerLinger(time.Millisecond))
	if err != nil {
		return err
	}
	defer c.Close()
	for n := 0; ctx.Err() == nil; n++ {
		r := &kgo.Record{Topic: "events", Partition: int32(n % len(a.byKey)), Value: fmt.Appendf(nil, "round %d record %d", round, n)}
		c.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err == nil {
				a.add(r)
			}
		})
		if n%50 == 0 {
			time.Sleep(time.Millisecond) // the pace of the load, nothing is waited for
		}
	}
	return nil
}

func TestKill_EveryAcknowledgedRecordIsThereAndOffsetsHaveNoHoles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	var acks acknowledged
	for round := range 10 {
		server, addr := startServer(t, dir)
		if round == 0 {
			createTopic(t, addr, "events", int32(len(acks.byKey)))
		}
		acks.check(t, addr)
		before := acks.total()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- acks.load(ctx, addr, round) }()
		time.Sleep(time.Duration(20+random.IntN(200)) * time.Millisecond) // a random moment is the point
		killServer(server)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d: %d acknowledged", round, acks.total()-before)
	}
	if total := acks.total(); total < 1000 {
		t.Fatalf("only %d records were acknowledged in all: the load was no load", total)
	}
	b := openBroker(t, dir)
	acks.check(t, b.Addr())
}
