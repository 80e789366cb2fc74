package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/gofrs/flock"
)

// Errors that a caller may ask for.
var (
	// ErrLocked: another Store holds the directory, of this process or of another one.
	ErrLocked = errors.New("the state directory is in use by another process: stop that one, or choose another directory")
	// ErrOpen: the partition is open already; it has one owner at a time.
	ErrOpen = errors.New("the partition is open already")
	// ErrClosed: the Store or the Partition was closed.
	ErrClosed = errors.New("the store is closed")
	// ErrDamaged: what the partition holds cannot be trusted, or cannot be written
	// any more (a full disk). Discard begins it anew.
	ErrDamaged = errors.New("the partition's store is damaged or cannot be written: discard it, and read the changelog again")
)

// Options are the settings of a [Store]. Zero values mean the defaults.
type Options struct {
	// Dir is where the partitions are kept. One Store at a time uses it. Empty = in
	// memory, gone with Close.
	Dir string
	// CacheBytes bounds the blocks and memtables in memory, over all partitions.
	// Default: 128 MiB.
	CacheBytes int64
	// MemtableBytes is about how much of a partition is not on disk yet: as much is
	// read again after a crash. Writers wait at twice that. At least 64 KiB. Default: 16 MiB.
	MemtableBytes int
	// Logger takes what was discarded and why, and what the engine says of errors.
	// Default: none.
	Logger *slog.Logger

	fs vfs.FS // default: the system's, or a new one in memory where Dir is empty
}

func (o *Options) ensureDefaults() {
	if o.CacheBytes == 0 {
		o.CacheBytes = 128 << 20
	}
	if o.MemtableBytes == 0 {
		o.MemtableBytes = 16 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.fs == nil && o.Dir == "" {
		o.fs = vfs.NewMem()
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
}

// validate names each fault with field, value and bound.
func (o *Options) validate() error {
	var faults []error
	if o.CacheBytes < 1<<20 {
		faults = append(faults, fmt.Errorf("CacheBytes is %d: at least 1 MiB", o.CacheBytes))
	}
	if o.MemtableBytes < 64<<10 || o.MemtableBytes > 1<<30 {
		faults = append(faults, fmt.Errorf("MemtableBytes is %d: 64 KiB to 1 GiB", o.MemtableBytes))
	}
	return errors.Join(faults...)
}

// maxOpenTables bounds the files that the engine keeps open, over all partitions.
const maxOpenTables = 1000

// Store is a directory of partitions. Its methods may be called from any goroutine.
type Store struct {
	options     Options
	dir         string
	lock        *flock.Flock // nil in memory
	cache       *pebble.Cache
	tables      *pebble.FileCache
	compactions *compactions

	mu     sync.Mutex
	closed bool
	open   map[int32]*Partition // nil value: about to be opened
}

// Open makes the directory where it is missing (mode 0700: states are personal data) and
// locks it. Errors: [ErrLocked], and those of the file system.
func Open(o Options) (*Store, error) {
	o.ensureDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	s := &Store{options: o, dir: "state", compactions: newCompactions(), open: make(map[int32]*Partition)}
	if o.Dir != "" {
		dir, err := filepath.Abs(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("open state directory: %w", err)
		}
		s.dir = dir
	}
	if err := o.fs.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	if o.Dir != "" {
		s.lock = flock.New(filepath.Join(s.dir, "LOCK"))
		switch got, err := s.lock.TryLock(); {
		case err != nil:
			return nil, fmt.Errorf("lock state directory: %w", err)
		case !got:
			return nil, fmt.Errorf("open %s: %w", s.dir, ErrLocked)
		}
	}
	if err := s.sweep(); err != nil {
		return nil, errors.Join(fmt.Errorf("open state directory: %w", err), s.unlock())
	}
	s.cache = pebble.NewCache(o.CacheBytes)
	s.tables = pebble.NewFileCache(fileCacheShards, maxOpenTables)
	return s, nil
}

// Close closes the partitions that are still open, and releases the directory.
// Closing twice is fine.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var open []*Partition
	for _, p := range s.open {
		if p != nil {
			open = append(open, p)
		}
	}
	s.mu.Unlock()
	var faults []error
	for _, p := range open {
		faults = append(faults, p.Close())
	}
	s.tables.Unref()
	s.cache.Unref()
	return errors.Join(append(faults, s.unlock())...)
}

// Partition opens the store of one partition: as it was left, or empty. One that is
// damaged or not of a known format is removed and begun anew, and logged. Errors:
// [ErrOpen], [ErrClosed], and those of the file system that say nothing of what is in
// the files (no space, no right, too many open files).
func (s *Store) Partition(index int32) (*Partition, error) {
	if err := s.reserve(index); err != nil {
		return nil, err
	}
	p := &Partition{store: s, index: index, dir: s.options.fs.PathJoin(s.dir, partitionPrefix+strconv.Itoa(int(index)))}
	p.throttle.moved = make(chan struct{}, 1)
	err := p.openOrBeginAnew()
	s.mu.Lock()
	if err != nil {
		delete(s.open, index)
		s.mu.Unlock()
		return nil, fmt.Errorf("open the store of partition %d: %w", index, err)
	}
	closed := s.closed
	s.open[index] = p
	s.mu.Unlock()
	if closed { // meanwhile
		return nil, errors.Join(ErrClosed, p.Close())
	}
	return p, nil
}

func (s *Store) reserve(index int32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if _, taken := s.open[index]; taken {
		return fmt.Errorf("partition %d: %w", index, ErrOpen)
	}
	s.open[index] = nil
	return nil
}

func (s *Store) release(index int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, index)
}

func (s *Store) unlock() error {
	if s.lock == nil {
		return nil
	}
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("release state directory: %w", err)
	}
	return nil
}

const (
	partitionPrefix = "partition-"
	goneSuffix      = ".gone"
)

// sweep removes what a crash left of a directory that was being removed.
func (s *Store) sweep() error {
	names, err := s.options.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, partitionPrefix) && strings.HasSuffix(name, goneSuffix) {
			if err := s.options.fs.RemoveAll(s.options.fs.PathJoin(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove takes a partition's directory away for good: once it returns, nothing of it
// comes back, not even after a loss of power.
func (s *Store) remove(dir string) error {
	gone := dir + goneSuffix
	if err := s.options.fs.RemoveAll(gone); err != nil {
		return err
	}
	if err := s.options.fs.Rename(dir, gone); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	parent, err := s.options.fs.OpenDir(s.dir)
	if err != nil {
		return err
	}
	if err := errors.Join(parent.Sync(), parent.Close()); err != nil {
		return err
	}
	return s.options.fs.RemoveAll(gone)
}
