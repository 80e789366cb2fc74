package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// Subject calls each for the rows whose key begins with prefix ("tenant|subject|"), in
// the order of their keys, all of one moment. The slices are valid during the call,
// which must not call the Partition. An error of each ends it and is returned.
// Errors: [ErrDamaged], [ErrClosed].
func (p *Partition) Subject(prefix []byte, each func(key, value []byte) error) error {
	db, done, err := p.reading()
	if err != nil {
		return err
	}
	defer done()
	var buf [128]byte
	begin := appendRowKey(buf[:0], prefix)
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: rowsBegin, UpperBound: rowsEnd})
	if err != nil {
		return p.doubt(err)
	}
	var there bool
	if n := subjectLength(begin); n == len(begin) && bytes.Count(begin, []byte{bar}) >= 2 {
		there = it.SeekPrefixGE(begin) // asks the filters
	} else {
		there = it.SeekGE(begin)
	}
	return p.walk(it, there, func(k []byte, it *pebble.Iterator) (bool, error) {
		if !bytes.HasPrefix(k, begin) {
			return false, nil
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return false, p.doubt(err)
		}
		return true, each(k[1:], value)
	})
}

// walk calls each for what it finds from where it is, and closes it. An error of the
// engine is a fault.
func (p *Partition) walk(it *pebble.Iterator, there bool, each func(key []byte, it *pebble.Iterator) (bool, error)) error {
	var stopped error
	for ; there; there = it.Next() {
		more, err := each(it.Key(), it)
		if err != nil || !more {
			stopped = err
			break
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return errors.Join(p.doubt(err), stopped)
	}
	return stopped
}

// reading is use, with all readable.
func (p *Partition) reading() (*pebble.DB, func(), error) {
	db, done, err := p.use()
	if err != nil {
		return nil, nil, err
	}
	if err := p.readable(db); err != nil {
		done()
		return nil, nil, err
	}
	return db, done, nil
}

// readable applies what was gathered.
func (p *Partition) readable(db *pebble.DB) error {
	if err := p.applyAll(db); err != nil {
		return err
	}
	p.loaded()
	return nil
}

// Hash is the SHA-256 over all rows in the order of their keys, and their number: equal
// for equal rows, whatever their history. The expiry index and the mark take no part.
// A row is hashed as the lengths of key and value (uint32, big endian), key, value.
func (p *Partition) Hash() ([32]byte, int64, error) {
	var sum [32]byte
	db, done, err := p.reading()
	if err != nil {
		return sum, 0, err
	}
	defer done()
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: rowsBegin, UpperBound: rowsEnd})
	if err != nil {
		return sum, 0, p.doubt(err)
	}
	h := sha256.New()
	var rows int64
	err = p.walk(it, it.First(), func(k []byte, it *pebble.Iterator) (bool, error) {
		value, err := it.ValueAndErr()
		if err != nil {
			return false, p.doubt(err)
		}
		var lengths [8]byte
		binary.BigEndian.PutUint32(lengths[:], uint32(len(k)-1))
		binary.BigEndian.PutUint32(lengths[4:], uint32(len(value)))
		h.Write(lengths[:])
		h.Write(k[1:])
		h.Write(value)
		rows++
		return true, nil
	})
	if err != nil {
		return sum, 0, err
	}
	h.Sum(sum[:0])
	return sum, rows, nil
}
