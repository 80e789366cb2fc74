package store

import (
	"math"
	"sync"
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
// and on disk some time later, never before what was written earlier. Errors:
// [ErrDamaged], [ErrClosed].
func (p *Partition) Write(rows []Row, m Mark) error {
	db, done, err := p.use()
	if err != nil {
		return err
	}
	defer done()
	if err := p.applyBulk(db); err != nil {
		return err
	}
	p.loaded()
	size := batchHead + markBytes
	for i := range rows {
		size += rowHead + len(rows[i].Key) + len(rows[i].Value)
	}
	// Else it grows by doubling; and memory that is new each time costs more than the copying.
	b := db.NewBatchWithSize(size, pebble.WithMaxRetainedSizeBytes(p.bulkBytes()))
	if err := fill(b, rows); err != nil {
		return p.doubt(err)
	}
	if err := p.apply(db, b, m); err != nil {
		return err
	}
	p.due.lower(rows)
	p.setMark(m, true)
	return nil
}

// What a batch takes beside keys and values: about, for rows that are in no index.
const (
	batchHead = 64
	rowHead   = 12
)

// bulk is the batch that Load gathers.
type bulk struct {
	mu    sync.Mutex
	batch *pebble.Batch // nil = nothing gathered
	mark  Mark
	holds atomic.Bool // whether batch is not nil, without mu
}

func (b *bulk) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop()
}

func (b *bulk) drop() {
	b.batch = nil
	b.holds.Store(false)
}

// Load is Write for a restore: calls are gathered until they are worth a table of their
// own, which is then sorted and flushed without going through a memtable. What one call
// brings stays together: after a crash all of it is there, or none. Rows are in the
// order of the changelog. Whoever reads sees them, as after Write.
func (p *Partition) Load(rows []Row, m Mark) error {
	db, done, err := p.use()
	if err != nil {
		return err
	}
	defer done()
	if err := p.gather(db, rows, m); err != nil {
		return err
	}
	p.due.lower(rows)
	p.setMark(m, true)
	return nil
}

func (p *Partition) gather(db *pebble.DB, rows []Row, m Mark) error {
	p.bulk.mu.Lock()
	defer p.bulk.mu.Unlock()
	enough := p.bulkBytes()
	if p.bulk.batch == nil {
		p.bulk.batch = db.NewBatchWithSize(enough + enough/8)
		p.bulk.holds.Store(true)
	}
	if err := fill(p.bulk.batch, rows); err != nil {
		return p.doubt(err)
	}
	p.bulk.mark = m
	if p.bulk.batch.Len() < enough {
		return nil
	}
	return p.applyGathered(db)
}

// bulkBytes is also the size of the engine's memtables: of a batch that is more than half
// of one, it makes a table directly.
func (p *Partition) bulkBytes() int { return p.store.options.MemtableBytes / 2 }

// applyBulk applies what Load has gathered, before something else is written or read.
func (p *Partition) applyBulk(db *pebble.DB) error {
	if !p.bulk.holds.Load() {
		return nil
	}
	p.bulk.mu.Lock()
	defer p.bulk.mu.Unlock()
	return p.applyGathered(db)
}

func (p *Partition) applyGathered(db *pebble.DB) error {
	b := p.bulk.batch
	if b == nil {
		return nil
	}
	// Only then dropped: until it is applied, nobody may go ahead of it.
	defer p.bulk.drop()
	return p.apply(db, b, p.bulk.mark)
}

// fill puts rows into a batch.
func fill(b *pebble.Batch, rows []Row) error {
	for i := range rows {
		r := &rows[i]
		expires := r.Expires
		if r.Value == nil {
			expires = 0
		}
		if r.WasExpires != 0 && r.WasExpires != expires {
			if err := putIndex(b.DeleteDeferred(indexHead+len(r.Key)), r.WasExpires, r.Key); err != nil {
				return err
			}
		}
		if expires != 0 {
			if err := putIndex(b.SetDeferred(indexHead+len(r.Key), 0), expires, r.Key); err != nil {
				return err
			}
		}
		var op *pebble.DeferredBatchOp
		if r.Value == nil {
			op = b.DeleteDeferred(1 + len(r.Key))
		} else {
			op = b.SetDeferred(1+len(r.Key), len(r.Value))
			copy(op.Value, r.Value)
		}
		appendRowKey(op.Key[:0], r.Key)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

func putIndex(op *pebble.DeferredBatchOp, expires int64, key []byte) error {
	appendIndexKey(op.Key[:0], expires, key)
	return op.Finish()
}

// apply closes a batch with its mark and gives it to the engine.
func (p *Partition) apply(db *pebble.DB, b *pebble.Batch, m Mark) error {
	op := b.SetDeferred(len(markKey), markBytes)
	copy(op.Key, markKey)
	m.appendTo(op.Value[:0])
	if err := op.Finish(); err != nil {
		return p.doubt(err)
	}
	return p.commit(db, b)
}

// commit gives a batch to the engine, and waits where the disk does not keep up.
func (p *Partition) commit(db *pebble.DB, b *pebble.Batch) error {
	size := b.Len()
	if err := db.Apply(b, pebble.NoSync); err != nil {
		return p.doubt(err)
	}
	if err := b.Close(); err != nil {
		return p.doubt(err)
	}
	return p.throttled(db, size)
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
func (p *Partition) throttled(db *pebble.DB, bytes int) error {
	t := &p.throttle
	if t.unlooked.Add(int64(bytes)) < int64(p.bulkBytes()/4) {
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
	if err := p.applyBulk(p.db); err != nil {
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
