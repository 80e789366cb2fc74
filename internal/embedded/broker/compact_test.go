package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/assent-dev/assent/internal/embedded/broker/disk"
	"github.com/assent-dev/assent/internal/logtest"
	"github.com/twmb/franz-go/pkg/kgo"
)

const stepVariable = "BROKER_TEST_STEP"

func init() {
	// compact opens a broker and kills itself behind a step of the compaction.
	children["compact"] = func() error {
		opts := options(os.Getenv(dirVariable), compactAlways)
		_, err := open(context.Background(), opts, seams{free: freeBytes, step: func(name string) {
			if name == os.Getenv(stepVariable) {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}})
		return errors.Join(err, errors.New("the step did not come"))
	}
}

func compactAlways(o *Options) { o.CompactOnStart, o.CompactDirtyBytes = true, 1 }

// content is what a client can know of a broker.
type content struct {
	state  map[string]string // last value of each key, without deleted keys
	ends   [2]int64
	events string
	commit int64
}

func read(t *testing.T, addr string) content {
	t.Helper()
	c := content{state: make(map[string]string)}
	for p := range c.ends {
		for _, r := range readAll(t, addr, "state", int32(p)) {
			c.state[string(r.Key)] = string(r.Value)
			if r.Value == nil {
				delete(c.state, string(r.Key))
			}
		}
		end, err := listOffset(t.Context(), addr, "state", int32(p), -1)
		if err != nil {
			t.Fatal(err)
		}
		c.ends[p] = end
	}
	c.events = values(readAll(t, addr, "events", 0))
	c.commit, _ = committed(t, addr, "g", "events", 0)
	return c
}

func (c content) differs(other content) string {
	switch {
	case !maps.Equal(c.state, other.state):
		return fmt.Sprintf("state %v became %v", c.state, other.state)
	case c.ends != other.ends || c.events != other.events || c.commit != other.commit:
		return fmt.Sprintf("ends %v, events %q, commit %d became %v, %q, %d", c.ends, c.events, c.commit, other.ends, other.events, other.commit)
	}
	return ""
}

// writeState overwrites a few keys many times, in transactions and without,
// deletes some, and aborts one transaction.
func writeState(t *testing.T, addr, mark string) {
	t.Helper()
	plain := client(t, addr)
	for p := range int32(2) {
		for n := range 60 {
			produce(t, plain, "state", p, fmt.Sprintf("p%d-%d", p, n%7), fmt.Sprintf("%s%d", mark, n))
		}
		produce(t, plain, "state", p, fmt.Sprintf("p%d-3", p), "") // deleted
	}
	c := client(t, addr, kgo.TransactionalID("tx"))
	for n := range 20 {
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, c, "state", 0, fmt.Sprintf("tx-%d", n%3), fmt.Sprintf("%s%d", mark, n))
		produce(t, c, "state", 1, fmt.Sprintf("tx-%d-", n%3), fmt.Sprintf("%s%d", mark, n))
		if err := c.EndTransaction(t.Context(), kgo.TransactionEndTry(n%4 != 3 && n != 19)); err != nil {
			t.Fatal(err)
		}
	}
}

// closedBroker makes a directory with superseded records, closed in order.
func closedBroker(t *testing.T) (string, content) {
	t.Helper()
	b := openBroker(t, t.TempDir())
	createTopic(t, b.Addr(), "state", 2, "cleanup.policy=compact", "retention.ms=-1", "segment.bytes=2000")
	createTopic(t, b.Addr(), "events", 1)
	produce(t, client(t, b.Addr()), "events", 0, "k", "e1")
	produce(t, client(t, b.Addr()), "events", 0, "k", "e2")
	commit(t, b.Addr(), "g", "events", 0, 1)
	writeState(t, b.Addr(), "v")
	before := read(t, b.Addr())
	mustClose(t, b)
	return b.layout.dir, before
}

func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func stateBytes(t *testing.T, dir string) int64 {
	t.Helper()
	bytes, err := topicBytes(layout{dir}.log(), disk.Topic{Name: "state", Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func TestCompaction_KeepsTheLastRecordOfEachKeyAndItsOffset(t *testing.T) {
	dir, before := closedBroker(t)
	offsets := make(map[string]int64)
	uncompacted := openBroker(t, copyDir(t, dir))
	for p := range int32(2) {
		for _, r := range readAll(t, uncompacted.Addr(), "state", p) {
			offsets[string(r.Key)] = r.Offset
		}
	}
	size := stateBytes(t, dir)

	b := openBroker(t, dir, compactAlways)
	if after := stateBytes(t, dir); after > size/2 {
		t.Errorf("%d bytes became %d: nothing was compacted", size, after)
	}
	check := func(name, addr string) {
		t.Helper()
		if diff := before.differs(read(t, addr)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		for p := range int32(2) {
			last := make(map[string]int64)
			for _, r := range readAll(t, addr, "state", p) {
				last[string(r.Key)] = r.Offset
			}
			for key, offset := range last {
				if offsets[key] != offset {
					t.Errorf("%s: the last record of %s was at %d, is at %d", name, key, offsets[key], offset)
				}
			}
		}
	}
	check("compacted", b.Addr())
	check("and killed", openBroker(t, crashed(t, b)).Addr())
	mustClose(t, b)
	check("and closed", openBroker(t, dir).Addr())
}

func TestCompaction_AKillBehindAnyStepLosesNothing(t *testing.T) {
	dir, before := closedBroker(t)
	for _, step := range []string{stepCopied, stepCompacted, stepVerified, stepAssembled, stepMovedAway, stepSwapped} {
		t.Run(step, func(t *testing.T) {
			killed := copyDir(t, dir)
			cmd := child(t, "compact", dirVariable+"="+killed, stepVariable+"="+step)
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the child ended with %v, and not by its own signal", err)
			}
			var log logtest.Buffer
			b := openBroker(t, killed, func(o *Options) { o.Logger = log.Logger() })
			if diff := before.differs(read(t, b.Addr())); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(log.String(), "not closed in order") {
				t.Error("the directory does not count as closed any more")
			}
			for _, leftover := range []string{b.layout.work(), b.layout.compacted(), b.layout.replaced()} {
				if there, err := isThere(leftover); there || err != nil {
					t.Errorf("%s is still there (%v)", leftover, err)
				}
			}
			writeState(t, b.Addr(), "later")
			mustClose(t, b)
			now := read(t, openBroker(t, copyDir(t, killed)).Addr())
			again := openBroker(t, killed, compactAlways)
			if diff := now.differs(read(t, again.Addr())); diff != "" {
				t.Errorf("compacted again: %s", diff)
			}
		})
	}
}

func TestCompaction_ACopyThatLostSomethingIsNotTaken(t *testing.T) {
	dir, before := closedBroker(t)
	damage := map[string]func(t *testing.T, partition string){
		"a batch": func(t *testing.T, partition string) {
			// The first segment's first batch is one of the older keys' last.
			path := segments(t, partition)[0]
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			first, err := disk.DecodeBatch(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, raw[len(first.Raw):], 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a segment": func(t *testing.T, partition string) {
			if err := os.Remove(segments(t, partition)[0]); err != nil {
				t.Fatal(err)
			}
		},
		"its end": func(t *testing.T, partition string) {
			all := segments(t, partition)
			if err := os.Remove(all[len(all)-1]); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, fn := range damage {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, dir)
			var log logtest.Buffer
			b, err := open(t.Context(), options(dir, compactAlways, func(o *Options) { o.Logger = log.Logger() }), seams{
				free: freeBytes,
				step: func(step string) {
					if step == stepCompacted {
						fn(t, disk.PartitionDir(layout{dir}.work(), "state", 0))
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = b.Close() })
			if !strings.Contains(log.String(), "was not compacted") {
				t.Error("the damaged copy was taken")
			}
			if diff := before.differs(read(t, b.Addr())); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func segments(t *testing.T, partition string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(partition, "*.dat"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no segments in %s (%v)", partition, err)
	}
	return all
}

func TestCompaction_WaitsUntilItIsWorthIt(t *testing.T) {
	dir, _ := closedBroker(t)
	reopen := func(change ...func(*Options)) string {
		var log logtest.Buffer
		b := openBroker(t, dir, append(change, func(o *Options) { o.Logger = log.Logger() })...)
		defer mustClose(t, b)
		return log.String()
	}
	const line = "compacted the broker's log"
	if log := reopen(func(o *Options) { o.CompactOnStart = true }); strings.Contains(log, line) {
		t.Error("a few kilobytes were compacted at the default of 16 MiB")
	}
	if log := reopen(compactAlways, func(o *Options) { o.CompactOnStart = false }); strings.Contains(log, line) {
		t.Error("compacted though it is switched off")
	}
	if log := reopen(compactAlways); !strings.Contains(log, line) {
		t.Errorf("not compacted: %s", log)
	}
	if log := reopen(compactAlways); strings.Contains(log, line) {
		t.Error("compacted again with nothing new")
	}
	b := openBroker(t, dir)
	writeState(t, b.Addr(), "later")
	mustClose(t, b)
	if log := reopen(compactAlways); !strings.Contains(log, line) {
		t.Errorf("not compacted though most is new: %s", log)
	}
}

func TestCompaction_NeedsACleanCloseAndNoOpenTransactionAndRoom(t *testing.T) {
	dir, _ := closedBroker(t)
	const line = "compacted the broker's log"
	t.Run("clean close", func(t *testing.T) {
		var log logtest.Buffer
		openBroker(t, crashed(t, openBroker(t, copyDir(t, dir))), compactAlways, func(o *Options) { o.Logger = log.Logger() })
		if strings.Contains(log.String(), line) || !strings.Contains(log.String(), "not closed in order") {
			t.Errorf("log: %s", log.String())
		}
	})
	t.Run("open transaction", func(t *testing.T) {
		b := openBroker(t, copyDir(t, dir))
		begin(t, b.Addr(), "open", "state", "p0-1")
		mustClose(t, b)
		var log logtest.Buffer
		b = openBroker(t, b.layout.dir, compactAlways, func(o *Options) { o.Logger = log.Logger() })
		if strings.Contains(log.String(), line) || !strings.Contains(log.String(), errOpenTransaction.Error()) {
			t.Errorf("log: %s", log.String())
		}
		transact(t, b.Addr(), "open", true, "state", "after")
	})
	t.Run("room", func(t *testing.T) {
		var log logtest.Buffer
		b, err := open(t.Context(), options(copyDir(t, dir), compactAlways, func(o *Options) { o.Logger = log.Logger() }),
			seams{free: func(string) (int64, error) { return 1000, nil }, step: func(string) {}})
		if err != nil {
			t.Fatal(err)
		}
		defer mustClose(t, b)
		if strings.Contains(log.String(), line) || !strings.Contains(log.String(), "no room") {
			t.Errorf("log: %s", log.String())
		}
	})
	t.Run("its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Open(ctx, options(copyDir(t, dir), compactAlways)); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
	})
}
