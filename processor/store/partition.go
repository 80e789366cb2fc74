package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Partition is the store of one partition of consent.state. One goroutine at a time
// calls Write, Load, Settle, Discard; everything else is for any goroutine.
type Partition struct {
	store *Store
	index int32
	dir   string

	// life is held shared while the engine is used, alone while it is exchanged.
	life   sync.RWMutex
	closed bool
	db     *pebble.DB
	fault  *fault

	markMu sync.Mutex
	mark   Mark
	marked bool

	gathering gathering
	throttle  throttle
	due       dueFloor
}

func (p *Partition) log() *slog.Logger { return p.store.options.Logger.With("partition", p.index) }

// openOrBeginAnew opens what is there, and where that is not to be used, begins anew.
func (p *Partition) openOrBeginAnew() error {
	_, err := p.store.options.fs.Stat(p.store.options.fs.PathJoin(p.dir, damagedFile))
	switch {
	case err == nil:
		err = errors.New("it was found damaged when it was last used")
	case errors.Is(err, fs.ErrNotExist):
		if err = p.open(); err == nil || ofTheSystem(err) {
			return err
		}
	default:
		return err
	}
	p.log().Warn("a local store is not usable and is removed; the changelog is read from its beginning", "error", err)
	if err := p.store.remove(p.dir); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	return p.open()
}

// open opens the engine and reads the mark. An error leaves nothing open.
func (p *Partition) open() error {
	f := newFault(p.store.options.fs, p.dir, p.log())
	db, err := openEngine(p.dir, p.engineOptions(f))
	if err != nil {
		return err
	}
	mark, marked, err := readMark(db)
	if err == nil {
		err = f.check()
	}
	if err != nil {
		f.closing.Store(true)
		return errors.Join(err, db.Close())
	}
	p.db, p.fault = db, f
	p.setMark(mark, marked)
	p.gathering.reset()
	p.throttle.loading.Store(!marked)
	p.due.reset()
	return nil
}

// readMark also finds fault with rows that no mark stands for.
func readMark(db *pebble.DB) (Mark, bool, error) {
	value, closer, err := db.Get(markKey)
	if err == nil {
		mark, err := decodeMark(value)
		return mark, true, errors.Join(err, closer.Close())
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return Mark{}, false, err
	}
	it, err := db.NewIter(nil)
	if err != nil {
		return Mark{}, false, err
	}
	if it.First() {
		err = errors.New("rows without a mark")
	}
	return Mark{}, false, errors.Join(err, it.Close())
}

// Close flushes and closes. Closing twice is fine. Its error means that the next start
// reads more of the changelog, or all of it.
func (p *Partition) Close() error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	defer p.store.release(p.index)
	if p.db == nil {
		return nil
	}
	p.fault.closing.Store(true)
	err := p.flush()
	return errors.Join(err, p.closeEngine())
}

// closeEngine closes the engine without a flush. Under life.
func (p *Partition) closeEngine() (err error) {
	db := p.db
	p.fault.closing.Store(true)
	p.db = nil
	p.gathering.reset()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("close: panic: %v", r)
		}
	}()
	if err := db.Close(); err != nil {
		return fmt.Errorf("close the store of partition %d: %w", p.index, err)
	}
	return nil
}

// Discard empties the partition at once, and for good: what it held does not come
// back, whatever crashes. It also ends what [ErrDamaged] began.
func (p *Partition) Discard() error {
	p.life.Lock()
	defer p.life.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.setMark(Mark{}, false)
	if p.db != nil {
		if err := p.closeEngine(); err != nil {
			p.log().Warn("a local store that is discarded did not close well", "error", err)
		}
	}
	if err := p.store.remove(p.dir); err != nil {
		return fmt.Errorf("discard the store of partition %d: %w", p.index, err)
	}
	if err := p.open(); err != nil {
		return fmt.Errorf("discard the store of partition %d: %w", p.index, err)
	}
	return nil
}

// use holds the engine open until done is called.
func (p *Partition) use() (db *pebble.DB, done func(), err error) {
	p.life.RLock()
	switch {
	case p.closed:
		err = ErrClosed
	case p.db == nil: // Discard failed
		err = ErrDamaged
	default:
		err = p.fault.check()
	}
	if err != nil {
		p.life.RUnlock()
		return nil, nil, err
	}
	return p.db, p.life.RUnlock, nil
}

// doubt makes an error of the engine a fault: after it, nothing that this store says
// is believed. Under life.
func (p *Partition) doubt(err error) error {
	if err == nil {
		return nil
	}
	p.fault.set(err)
	return p.fault.check()
}

// Mark is what the partition's store covers; false = it is empty, or damaged.
func (p *Partition) Mark() (Mark, bool) {
	p.life.RLock()
	defer p.life.RUnlock()
	if p.db == nil || p.fault.check() != nil {
		return Mark{}, false
	}
	p.markMu.Lock()
	defer p.markMu.Unlock()
	return p.mark, p.marked
}

func (p *Partition) setMark(m Mark, marked bool) {
	p.markMu.Lock()
	defer p.markMu.Unlock()
	p.mark, p.marked = m, marked
}

// Bytes is what the partition takes on disk.
func (p *Partition) Bytes() int64 {
	db, done, err := p.use()
	if err != nil {
		return 0
	}
	defer done()
	return int64(db.Metrics().DiskSpaceUsage())
}
