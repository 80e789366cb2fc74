package broker

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const fileLimitVariable = "BROKER_TEST_FILE_LIMIT"

func init() {
	children["serve-limited"] = func() error {
		// Past the limit a write fails with EFBIG, and without the signal's
		// default the process lives on: a full disk for anybody.
		signal.Ignore(syscall.SIGXFSZ)
		limit, err := strconv.ParseUint(os.Getenv(fileLimitVariable), 10, 64)
		if err != nil {
			return err
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
		return serve()
	}
}

// filler is an idempotent producer that sends until it is refused, and then
// sends the refused batch again, as clients do.
type filler struct {
	acks     acknowledged
	sequence int32
}

func (f *filler) send(t *testing.T, c *kgo.Client) bool {
	t.Helper()
	value := fmt.Sprintf("%d %s", f.sequence, strings.Repeat("x", 10<<10))
	resp := produceRaw(t, c, "events", rawBatch(value, func(b *kmsg.RecordBatch) {
		b.ProducerID, b.ProducerEpoch, b.FirstSequence = 4711, 0, f.sequence
	}))
	if resp.ErrorCode != 0 {
		return false
	}
	f.acks.add(&kgo.Record{Offset: resp.BaseOffset, Value: []byte(value)})
	f.sequence++
	return true
}

// fill sends until the first refusal. From then on nothing may be acknowledged:
// the engine counts the batch that it could not write as seen.
func (f *filler) fill(t *testing.T, addr string) {
	t.Helper()
	c := client(t, addr)
	for f.send(t, c) {
		if f.sequence > 10_000 {
			t.Fatal("the disk does not fill")
		}
	}
	for range 3 {
		if f.send(t, c) {
			t.Fatalf("record %d was acknowledged after its write had failed", f.sequence-1)
		}
	}
}

// goOn sends the refused batch to a broker with room.
func (f *filler) goOn(t *testing.T, addr string) {
	t.Helper()
	f.acks.check(t, addr)
	if !f.send(t, client(t, addr)) {
		t.Error("there is room, and the record is refused")
	}
	f.acks.check(t, addr)
}

// What is small passes while there is little room. When there is none, nobody is told that
// it is done: a commit, or an epoch, that another one could be given again.
func TestDiskFull_WhatCouldNotBeWrittenIsNotAnswered(t *testing.T) {
	limited := func(t *testing.T) (dir, addr string, kill func()) {
		dir = t.TempDir()
		cmd := child(t, "serve-limited", dirVariable+"="+dir, fileLimitVariable+"=20000")
		return dir, startChild(t, cmd), func() { killServer(cmd) }
	}
	// until asks with 1, 2, … until there is no answer, and gives the last that was answered.
	until := func(t *testing.T, addr string, ask func(c *kgo.Client, n int64) error) int64 {
		c := client(t, addr)
		for n := int64(1); n < 10_000; n++ {
			if ask(c, n) != nil {
				return n - 1
			}
		}
		t.Fatal("the disk does not fill")
		return 0
	}
	t.Run("commit", func(t *testing.T) {
		dir, addr, kill := limited(t)
		createTopic(t, addr, "events", 1)
		last := until(t, addr, func(c *kgo.Client, n int64) error { return commitErr(t, c, "group", "events", 0, n) })
		kill()
		if got, _ := committed(t, openBroker(t, dir).Addr(), "group", "events", 0); got < last {
			t.Errorf("%d was answered, and %d is committed", last, got)
		}
	})
	t.Run("epoch", func(t *testing.T) {
		dir, addr, kill := limited(t)
		var given int16
		until(t, addr, func(c *kgo.Client, _ int64) error {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr("tx"), 60_000
			resp, err := req.RequestWith(t.Context(), c)
			if err == nil {
				err = kerr.ErrorForCode(resp.ErrorCode)
			}
			if err == nil {
				given = resp.ProducerEpoch
			}
			return err
		})
		kill()
		if next := producerEpoch(t, openBroker(t, dir).Addr(), "tx"); next <= given {
			t.Errorf("epoch %d was given, and then %d", given, next)
		}
	})
}

func TestDiskFull_AFailedWriteIsAnErrorAndNothingIsTorn(t *testing.T) {
	t.Run("file size limit", func(t *testing.T) {
		dir := t.TempDir()
		cmd := child(t, "serve-limited", dirVariable+"="+dir, fileLimitVariable+"=1000000")
		addr := startChild(t, cmd)
		createTopic(t, addr, "events", 1)
		var f filler
		f.fill(t, addr)
		killServer(cmd)
		f.goOn(t, openBroker(t, dir).Addr())
	})
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Logf("no second case with a full file system: mount: %v", err)
		return
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	t.Run("full file system", func(t *testing.T) {
		b := openBroker(t, dir)
		createTopic(t, b.Addr(), "events", 1)
		var f filler
		f.fill(t, b.Addr())
		if b.Health() == nil {
			t.Error("the broker says that it is well")
		}
		if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("Close: %v, want the reason", err)
		}
		f.goOn(t, openBroker(t, dir).Addr())
	})
}
