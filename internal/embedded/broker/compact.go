package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/embedded/broker/disk"
	"github.com/assent-dev/assent/internal/embedded/datadir"
	"github.com/twmb/franz-go/pkg/kfake"
)

// The steps of a compaction, in order; a crash after any of them loses nothing.
const (
	stepCopied    = "copied"    // log.work has the compacted topics, as they are
	stepCompacted = "compacted" // log.work has them compacted
	stepVerified  = "verified"
	stepAssembled = "assembled" // log.compacted is whole and synced
	stepMovedAway = "moved_away"
	stepSwapped   = "swapped"
)

// defaultTombstoneAge is Kafka's default of delete.retention.ms.
const defaultTombstoneAge = 24 * time.Hour

// compaction makes the compacted topics of a closed log small, beside it.
type compaction struct {
	layout
	log      *slog.Logger
	minBytes int64
	reserve  int64
	free     func(dir string) (int64, error)
	step     func(name string) // for tests
}

// compactMark is what the last compaction left, in log/assent_compacted.json.
type compactMark struct {
	Bytes int64     `json:"bytes"` // of the compacted topics
	At    time.Time `json:"at"`
}

// run compacts if it is worth it. On error the log is as it was, or settle
// makes it so.
func (c *compaction) run(ctx context.Context) error {
	topics, bytes, err := c.plan()
	if err != nil || len(topics) == 0 {
		return err
	}
	began := time.Now()
	if err := c.copyTopics(ctx, topics); err != nil {
		return err
	}
	c.step(stepCopied)
	if err := c.compactCopy(); err != nil {
		return err
	}
	c.step(stepCompacted)
	if err := c.verify(ctx, topics); err != nil {
		return err
	}
	c.step(stepVerified)
	after, err := c.assemble(topics)
	if err != nil {
		return err
	}
	c.step(stepAssembled)
	if err := c.swap(); err != nil {
		return err
	}
	c.log.Info("compacted the broker's log", "before_bytes", bytes, "after_bytes", after, "took", time.Since(began).Round(time.Millisecond))
	return c.settle()
}

// plan returns the topics to compact, none when it is not worth it: less than
// half of their bytes, or less than minBytes, came since the last compaction.
func (c *compaction) plan() ([]disk.Topic, int64, error) {
	all, err := disk.ReadTopics(c.layout.log())
	if err != nil {
		return nil, 0, err
	}
	var topics []disk.Topic
	var bytes int64
	for _, t := range all {
		if !t.Compacted() {
			continue
		}
		size, err := topicBytes(c.layout.log(), t)
		if err != nil {
			return nil, 0, err
		}
		topics = append(topics, t)
		bytes += size
	}
	dirty := bytes - c.lastBytes()
	if dirty < c.minBytes || dirty < bytes/2 {
		return nil, 0, nil
	}
	// The copy, and what the engine writes beside it.
	if free, err := c.free(c.dir); err == nil && free < 2*bytes+c.reserve {
		c.log.Warn("no room to compact the broker's log", "free_bytes", free, "needed_bytes", 2*bytes+c.reserve)
		return nil, 0, nil
	}
	return topics, bytes, nil
}

// lastBytes is 0 when no compaction is known: then it is worth one.
func (c *compaction) lastBytes() int64 {
	raw, err := os.ReadFile(c.compactMark())
	var mark compactMark
	if err != nil || json.Unmarshal(raw, &mark) != nil {
		return 0
	}
	return mark.Bytes
}

// copyTopics makes a data directory of the compacted topics alone. Their bytes
// are copied and not linked: what the engine does to a file of the copy must
// not reach the log.
func (c *compaction) copyTopics(ctx context.Context, topics []disk.Topic) error {
	if err := os.MkdirAll(disk.PartitionsDir(c.work()), 0o700); err != nil {
		return err
	}
	if err := copyFile(filepath.Join(c.layout.log(), "meta.json"), filepath.Join(c.work(), "meta.json")); err != nil {
		return err
	}
	stripped := make([]disk.Topic, len(topics))
	for i, t := range topics {
		stripped[i] = t
		stripped[i].Configs = maps.Clone(t.Configs)
		// The engine would delete by age and size too, in the same pass.
		delete(stripped[i].Configs, "retention.ms")
		delete(stripped[i].Configs, "retention.bytes")
	}
	if err := disk.WriteTopics(c.work(), stripped); err != nil {
		return err
	}
	return eachPartition(ctx, topics, func(t disk.Topic, n int32) error {
		from := disk.PartitionDir(c.layout.log(), t.Name, n)
		to := disk.PartitionDir(c.work(), t.Name, n)
		entries, err := os.ReadDir(from)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // nothing was ever written to it
		}
		err = errors.Join(err, os.MkdirAll(to, 0o700))
		for _, e := range entries {
			err = errors.Join(err, copyFile(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())))
		}
		return err
	})
}

// compactCopy runs the engine on the copy, with no client.
func (c *compaction) compactCopy() error {
	var mu sync.Mutex
	var failed error
	engine, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.DataDir(c.work()),
		kfake.BrokerConfigs(keepEverything),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return newDeafListener(), nil }),
		kfake.WithLogger(&engineLog{log: c.log, onWriteError: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		}}),
	)
	if err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	engine.Compact()
	engine.Close()
	mu.Lock()
	defer mu.Unlock()
	return failed
}

// verify compares each partition of the copy with the log's.
func (c *compaction) verify(ctx context.Context, topics []disk.Topic) error {
	seed := maphash.MakeSeed()
	return eachPartition(ctx, topics, func(t disk.Topic, n int32) error {
		before, err := surveyPartition(c.layout.log(), t.Name, n, seed)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		after, err := surveyPartition(c.work(), t.Name, n, seed)
		if err == nil {
			err = before.keptIn(after, tombstoneAge(t))
		}
		if err != nil {
			return fmt.Errorf("verify %s/%d: %w", t.Name, n, err)
		}
		return nil
	})
}

// assemble makes log.compacted: the log's files linked, the compacted topics'
// partitions moved from the copy. It returns the size of those.
func (c *compaction) assemble(topics []disk.Topic) (bytes int64, err error) {
	fresh := make(map[string]bool) // names of partitions' folders
	for _, t := range topics {
		for n := range t.Partitions {
			fresh[filepath.Base(disk.PartitionDir("", t.Name, n))] = true
		}
		size, err := topicBytes(c.work(), t)
		if err != nil {
			return 0, err
		}
		bytes += size
	}
	if err := os.MkdirAll(disk.PartitionsDir(c.compacted()), 0o700); err != nil {
		return 0, err
	}
	if err := c.linkLog(fresh); err != nil {
		return 0, err
	}
	for name := range fresh {
		err := os.Rename(filepath.Join(disk.PartitionsDir(c.work()), name), filepath.Join(disk.PartitionsDir(c.compacted()), name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	mark, err := json.Marshal(compactMark{Bytes: bytes, At: time.Now().UTC()})
	if err != nil {
		return 0, fmt.Errorf("encode the mark of a compaction: %w", err)
	}
	if err := datadir.WriteFile(filepath.Join(c.compacted(), filepath.Base(c.compactMark())), mark); err != nil {
		return 0, err
	}
	return bytes, syncTree(c.compacted(), func(path string) bool { return fresh[filepath.Base(filepath.Dir(path))] })
}

// linkLog links every file of the log except the folders in without. The engine
// replaces the files that it does not append to, and appends to no two links.
func (c *compaction) linkLog(without map[string]bool) error {
	from := c.layout.log()
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		to := filepath.Join(c.compacted(), rel)
		switch {
		case d.IsDir() && without[d.Name()]:
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		case path == c.compactMark():
			return nil
		default:
			return os.Link(path, to)
		}
	})
}

// swap puts log.compacted in the place of log. settle knows both halves.
func (c *compaction) swap() error {
	if err := os.Rename(c.layout.log(), c.replaced()); err != nil {
		return err
	}
	c.step(stepMovedAway)
	if err := os.Rename(c.compacted(), c.layout.log()); err != nil {
		return err
	}
	c.step(stepSwapped)
	return datadir.SyncDir(c.dir)
}

func eachPartition(ctx context.Context, topics []disk.Topic, fn func(disk.Topic, int32) error) error {
	for _, t := range topics {
		for n := range t.Partitions {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := fn(t, n); err != nil {
				return err
			}
		}
	}
	return nil
}

// topicBytes is the size of a topic's segments.
func topicBytes(dir string, t disk.Topic) (total int64, err error) {
	for n := range t.Partitions {
		entries, err := os.ReadDir(disk.PartitionDir(dir, t.Name, n))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".dat") {
				continue
			}
			info, err := e.Info()
			if err != nil {
				return 0, err
			}
			total += info.Size()
		}
	}
	return total, nil
}

func tombstoneAge(t disk.Topic) time.Duration {
	millis, err := strconv.ParseInt(t.Configs["delete.retention.ms"], 10, 64)
	if err != nil {
		return defaultTombstoneAge
	}
	return time.Duration(millis) * time.Millisecond
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close() // it was only read
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// deafListener is a listener that nobody can reach.
type deafListener struct {
	closed chan struct{}
	once   sync.Once
}

func newDeafListener() *deafListener { return &deafListener{closed: make(chan struct{})} }

func (l *deafListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

func (l *deafListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *deafListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
