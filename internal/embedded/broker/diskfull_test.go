package broker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/assent-dev/assent/internal/logtest"
)

func TestDiskFull_BelowTheReserveRecordsAreRefusedUntilThereIsRoom(t *testing.T) {
	var free atomic.Int64
	free.Store(DefaultReserveBytes)
	var log logtest.Buffer
	opts := options(t.TempDir(), func(o *Options) { o.ReserveBytes, o.Logger = 0, log.Logger() })
	b, err := open(t.Context(), opts, seams{free: func(string) (int64, error) { return free.Load(), nil }, step: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	createTopic(t, b.Addr(), "events", 1)
	c := client(t, b.Addr())
	id := topicID(t, c, "events")
	if got := produceRaw(t, c, "events", rawBatch("a", nil)).ErrorCode; got != 0 || b.Health() != nil {
		t.Fatalf("with room: error %d, health %v", got, b.Health())
	}

	free.Store(DefaultReserveBytes - 1)
	eventually(t, func() bool { return b.Health() != nil }) // though nobody writes
	eventually(t, func() bool {
		return produceRaw(t, c, "events", rawBatch("b", nil)).ErrorCode == kerr.KafkaStorageError.Code
	})
	if err := b.Health(); err == nil || !strings.Contains(err.Error(), "256 MiB") {
		t.Errorf("health = %v", err)
	}
	if err := createTopicErr(t.Context(), b.Addr(), "more", 1); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("create a topic: %v", err)
	}
	commit(t, b.Addr(), "g", "events", 0, 1) // what was read can still be committed
	if got := topicID(t, c, "events"); got != id {
		t.Error("the topic changed")
	}

	free.Store(DefaultReserveBytes * 2)
	eventually(t, func() bool { return b.Health() == nil })
	eventually(t, func() bool { return produceRaw(t, c, "events", rawBatch("c", nil)).ErrorCode == 0 })
	if b.Health() != nil {
		t.Errorf("health = %v", b.Health())
	}
	if got := values(readAll(t, b.Addr(), "events", 0)); !strings.HasPrefix(got, "a ") || !strings.HasSuffix(got, " c") {
		t.Errorf("events = %q", got)
	}
	for _, line := range []string{"nearly full", "has room again"} {
		if got := strings.Count(log.String(), line); got != 1 {
			t.Errorf("%q was logged %d times, want once", line, got)
		}
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not come true")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestFreeBytes_IsWhatTheFileSystemSays(t *testing.T) {
	free, err := freeBytes(t.TempDir())
	if err != nil || free <= 0 {
		t.Fatalf("free = %d, %v", free, err)
	}
	if _, err := freeBytes(t.TempDir() + "/none"); err == nil {
		t.Error("a directory that is not there has free space")
	}
}
