package store

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// dueFloor is a time below which the expiry index has nothing: what was settled leaves
// tombstones in the engine, and every look would walk over them again.
type dueFloor struct {
	mu     sync.Mutex
	at     int64 // unix ms
	writes uint64
}

func (d *dueFloor) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = -never - 1
	d.writes++
}

// lower is for rows that were just written. It comes behind the write: a look that began
// before it saw no more than what was there, and must not raise the floor above them.
func (d *dueFloor) lower(rows []Row) {
	lowest := int64(never)
	for i := range rows {
		if e := rows[i].Expires; e != 0 && rows[i].Value != nil {
			lowest = min(lowest, e)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at = min(d.at, lowest)
	d.writes++
}

func (d *dueFloor) get() (at int64, writes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at, d.writes
}

// raise says that nothing was found below at, by a look that began at writes.
func (d *dueFloor) raise(at int64, writes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.writes == writes {
		d.at = max(d.at, at)
	}
}

var errIndexKey = errors.New("a key of the expiry index is too short")

// Due calls each for the entries of the expiry index that are due at or before a time
// (unix ms), earliest first, at most limit of them. An entry may be stale: its row may
// be gone, or due at another time. The key is valid during the call, which must not call
// the Partition. Errors: [ErrDamaged], [ErrClosed].
func (p *Partition) Due(before int64, limit int, each func(expires int64, key []byte)) error {
	db, done, err := p.use()
	if err != nil {
		return err
	}
	defer done()
	floor, writes := p.due.get()
	if floor > before || limit <= 0 {
		return nil // and what was gathered is left to grow
	}
	if err := p.readable(db); err != nil {
		return err
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: appendIndexKey(nil, floor, nil), UpperBound: indexEnd})
	if err != nil {
		return p.doubt(err)
	}
	first := true
	there := it.First()
	if !there && it.Error() == nil {
		p.due.raise(never, writes)
	}
	return p.walk(it, there, func(k []byte, _ *pebble.Iterator) (bool, error) {
		expires, key, ok := splitIndexKey(k)
		if !ok {
			return false, p.doubt(errIndexKey)
		}
		if first {
			first = false
			p.due.raise(expires, writes)
		}
		if expires > before || limit == 0 {
			return false, nil
		}
		limit--
		each(expires, key)
		return true, nil
	})
}

// NextDue is when the earliest entry of the expiry index is due, unix ms; false = there is
// none, or it cannot be read.
func (p *Partition) NextDue() (int64, bool) {
	var at int64
	found := false
	err := p.Due(never, 1, func(expires int64, _ []byte) { at, found = expires, true })
	return at, found && err == nil
}

// Settle removes an entry of the expiry index, as Due gave it. The mark stays.
func (p *Partition) Settle(key []byte, expires int64) error {
	db, done, err := p.reading()
	if err != nil {
		return err
	}
	defer done()
	b := db.NewBatch()
	if err := b.Delete(appendIndexKey(nil, expires, key), nil); err != nil {
		return p.doubt(err)
	}
	if err := p.apply(db, b); err != nil {
		return err
	}
	return p.throttled(db)
}
