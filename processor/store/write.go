package store

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Row is a record of the changelog.
type Row struct {
	// Key as in the topic; Value too, nil = a tombstone: the row goes.
	Key, Value []byte
	// Expires is when the row is due, unix ms; 0 = never. It is ignored for a tombstone.
	Expires int64
	// WasExpires is what Expires was when the row was last written, 0 = never or not
	// known: what it does not name stays in the index as a stale entry.
	WasExpires int64
}

// Write applies rows in their order, and the mark: all, or nothing. They are seen at once,
// and on disk some time later, never before what was written earlier: calls are gathered
// until they are worth a table of their own, or somebody reads. Errors: [ErrDamaged],
// [ErrClosed].
func (p *Partition) Write(rows []Row, m Mark) error { return p.write(rows, m, false) }

// Load is Write for a restore: as long as nothing else is called, nothing is compacted.
// Rows are in the order of the changelog.
func (p *Partition) Load(rows []Row, m Mark) error { return p.write(rows, m, true) }

func (p *Partition) write(rows []Row, m Mark, loading bool) error {
	db, done, err := p.use()
	if err != nil {
		return err
	}
	defer done()
	if !loading {
		p.loaded()
	}
	if err := p.gather(db, rows, m); err != nil {
		return err
	}
	p.due.lower(rows)
	p.setMark(m, true)
	return p.throttled(db)
}

func (p *Partition) gather(db *pebble.DB, rows []Row, m Mark) error {
	p.gathering.mu.Lock()
	defer p.gathering.mu.Unlock()
	p.gathering.add(rows, m)
	if len(p.gathering.text) < p.bulkBytes() {
		return nil
	}
	return p.applyGathered(db)
}

// bulkBytes is also the size of the engine's memtables: of a batch that is more than half
// of one, it makes a table directly.
func (p *Partition) bulkBytes() int { return p.store.options.MemtableBytes / 2 }

// applyAll applies what was gathered, before something else is written or read.
func (p *Partition) applyAll(db *pebble.DB) error {
	if !p.gathering.holds.Load() {
		return nil
	}
	p.gathering.mu.Lock()
	defer p.gathering.mu.Unlock()
	if !p.gathering.holds.Load() { // another reader did it
		return nil
	}
	return p.applyGathered(db)
}

// applyGathered is for who holds gathering.mu, and sees that there is something.
func (p *Partition) applyGathered(db *pebble.DB) error {
	// Only then dropped: until it is applied, nobody may go ahead of it.
	defer p.gathering.drop()
	b, err := p.gathering.batch(db, p.bulkBytes())
	if err != nil {
		return p.doubt(err)
	}
	return p.apply(db, b)
}

// apply gives a batch to the engine. Who writes calls throttled once no lock is held.
func (p *Partition) apply(db *pebble.DB, b *pebble.Batch) error {
	p.throttle.unlooked.Add(int64(b.Len()))
	if err := db.Apply(b, pebble.NoSync); err != nil {
		return p.doubt(err)
	}
	return p.doubt(b.Close())
}

// throttle keeps what is on its way to disk bounded.
type throttle struct {
	unlooked atomic.Int64  // bytes applied since somebody looked
	moved    chan struct{} // tells of a flush or a compaction that ended
	// loading: an empty store is being filled, and nothing is compacted until all is
	// there, since compactions would write the same rows again and again.
	loading atomic.Bool
}

const (
	// maxSublevels bounds the sorted runs that a read may have to look into, and with it
	// how far compactions may fall behind.
	maxSublevels = 160
	// loadingSublevels end the time without compactions of a large load.
	loadingSublevels = 128
)

// told is called by the engine, with its locks held, when a flush or a compaction ended.
func (t *throttle) told() {
	select {
	case t.moved <- struct{}{}:
	default: // told already
	}
}

// loaded ends the time without compactions.
func (p *Partition) loaded() {
	if p.throttle.loading.Load() && p.throttle.loading.CompareAndSwap(true, false) {
		p.store.compactions.grant()
	}
}

// throttled waits while memtables or sorted runs are too many.
func (p *Partition) throttled(db *pebble.DB) error {
	t := &p.throttle
	if t.unlooked.Load() < int64(p.bulkBytes()/4) {
		return nil
	}
	t.unlooked.Store(0)
	for {
		m := db.Metrics()
		if m.Levels[0].Sublevels > loadingSublevels {
			p.loaded()
		}
		if m.Levels[0].Sublevels <= maxSublevels && m.MemTable.Size <= 2*uint64(p.store.options.MemtableBytes) {
			return nil
		}
		again := time.NewTimer(time.Second)
		select {
		case <-t.moved:
		case <-again.C: // what was told may have been for another one who waits
		case <-p.fault.happened:
		}
		again.Stop()
		if err := p.fault.check(); err != nil {
			return err
		}
	}
}

// flush brings everything to disk. Under life.
func (p *Partition) flush() error {
	if err := p.fault.check(); err != nil {
		return err
	}
	if err := p.applyAll(p.db); err != nil {
		return err
	}
	flushed, err := p.db.AsyncFlush()
	if err != nil {
		return p.doubt(err)
	}
	select {
	case <-flushed:
		return nil
	case <-p.fault.happened:
		return p.fault.check()
	}
}

// never is later than any row is due.
const never = math.MaxInt64
