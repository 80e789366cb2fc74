package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/colblk"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// fileCacheShards: a lookup of an open table takes one shard's lock for a moment.
	fileCacheShards = 4
	// filterBits per subject make a filter say "maybe" of 1 % of the subjects that a
	// table does not have.
	filterBits = 10
	// prefixBundle: keys in a block share the beginnings of bundles of that many.
	prefixBundle = 16
	// compactAtSublevels: filters make a sorted run more of little cost to a read.
	compactAtSublevels = 64

	blockBytes = 16 << 10
	baseBytes  = 64 << 20
)

var keySchema = colblk.DefaultKeySchema(order, prefixBundle)

// engineOptions are those of one partition.
func (p *Partition) engineOptions(f *fault) *pebble.Options {
	o := &pebble.Options{
		FS:                 hastyFS{FS: p.store.options.fs, closing: &f.closing},
		Cache:              p.store.cache,
		FileCache:          p.store.tables,
		MaxOpenFiles:       maxOpenTables,
		Comparer:           order,
		KeySchema:          keySchema.Name,
		KeySchemas:         sstable.MakeKeySchemas(&keySchema),
		FormatMajorVersion: pebble.FormatTableFormatV6,
		// What a crash loses is read from the changelog again; see doc.go.
		DisableWAL:   true,
		MemTableSize: uint64(p.bulkBytes()),
		// This package waits for flushes and compactions itself (throttle), since
		// the engine would wait for ever where the disk is full.
		MemTableStopWritesThreshold: 1 << 10,
		L0StopWritesThreshold:       math.MaxInt32,
		L0CompactionThreshold:       compactAtSublevels,
		LBaseMaxBytes:               baseBytes,
		MaxManifestFileSize:         1 << 20,
		Logger:                      &engineLog{log: p.log(), fault: f},
		EventListener: &pebble.EventListener{
			BackgroundError: f.set,
			DataCorruption:  func(i pebble.DataCorruptionInfo) { f.set(i.Details) },
			CompactionEnd:   func(pebble.CompactionInfo) { p.throttle.told() },
			FlushEnd:        func(pebble.FlushInfo) { p.throttle.told() },
		},
	}
	// The engine takes keys with one beginning for versions of one thing, and puts the
	// values of all but the first aside. Here they are a subject's rows, read together.
	inPlace := pebble.SpanPolicy{DisableValueSeparationBySuffix: true}
	o.Experimental.SpanPolicyFunc = func([]byte) (pebble.SpanPolicy, []byte, error) { return inPlace, nil, nil }
	o.Experimental.CompactionScheduler = p.store.compactions.newMember(func() bool {
		return !p.throttle.loading.Load() && !f.closing.Load() && f.check() == nil
	})
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = 2 * int64(p.store.options.MemtableBytes)
	}
	for i := range o.Levels {
		o.Levels[i] = pebble.LevelOptions{
			BlockSize:      blockBytes,
			IndexBlockSize: 4 * blockBytes,
			FilterPolicy:   bloom.FilterPolicy(filterBits),
			Compression:    func() *sstable.CompressionProfile { return compression },
		}
	}
	return o
}

// compression needs no C library, so that a program built with cgo reads what one
// without wrote.
var compression = sstable.FastestCompression

// openEngine opens the files in dir. An engine may panic on bytes that it did not
// write; to us that is one more way of not opening.
func openEngine(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("panic: %v", r)
		}
	}()
	return pebble.Open(dir, o)
}

// hastyFS lets no compaction hold up a Close: once closing, there is no new table, and the
// compaction gives up. What it has written is removed when the store opens next.
type hastyFS struct {
	vfs.FS
	closing *atomic.Bool
}

// compactionWrites is the engine's word for what a compaction writes.
const compactionWrites = "pebble-compaction"

var errClosing = errors.New("the store is being closed")

// Create is how tables, manifests and the engine's notes begin.
func (h hastyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if h.closing.Load() && c == compactionWrites {
		return nil, errClosing
	}
	return h.FS.Create(name, c)
}

// ofTheSystem tells errors that say nothing of what is in the files: to remove them
// would not help.
func ofTheSystem(err error) bool {
	for _, e := range []error{fs.ErrPermission, syscall.ENOSPC, syscall.EMFILE, syscall.ENFILE, syscall.EROFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// engineLog is what the engine writes to. Its everyday words are left out.
type engineLog struct {
	log   *slog.Logger
	fault *fault
}

func (l *engineLog) Infof(string, ...any) {}

func (l *engineLog) Errorf(format string, args ...any) {
	l.log.Warn("the engine of a local store reports an error", "error", fmt.Sprintf(format, args...))
}

// Fatalf is where the engine expects the process to end. A manifest that cannot be
// written (a full disk) is no reason: the engine then returns the error, and the fault
// sees to it that nothing more is asked of it. Anything else is a broken invariant,
// and what was in memory is not to be served.
func (l *engineLog) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.fault.set(errors.New(text))
	if !strings.HasPrefix(text, "MANIFEST ") {
		panic("local store: " + text)
	}
}

// fault remembers the first thing that went wrong with an engine.
type fault struct {
	once     sync.Once
	first    func(error)
	happened chan struct{} // closed by first
	err      error         // read after happened
	// closing: compactions give up.
	closing atomic.Bool
}

func newFault(fs vfs.FS, dir string, log *slog.Logger) *fault {
	f := &fault{happened: make(chan struct{})}
	f.first = func(err error) {
		f.err = err
		close(f.happened)
		log.Error("a local store is damaged or cannot be written; it will be made anew from the changelog", "error", err)
		if marker, e := fs.Create(fs.PathJoin(dir, damagedFile), vfs.WriteCategoryUnspecified); e == nil {
			_ = errors.Join(marker.Sync(), marker.Close()) // best effort: the disk may be full
		}
	}
	return f
}

// damagedFile in a partition's directory: do not use it again.
const damagedFile = "DAMAGED"

func (f *fault) set(err error) {
	if errors.Is(err, errClosing) {
		return
	}
	f.once.Do(func() { f.first(err) })
}

// check gives the fault as an error that is [ErrDamaged].
func (f *fault) check() error {
	select {
	case <-f.happened:
		return fmt.Errorf("%w: %w", ErrDamaged, f.err)
	default:
		return nil
	}
}
