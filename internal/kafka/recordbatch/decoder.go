package recordbatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

var (
	// ErrPartial means that the bytes end inside the batch. At the end of a Fetch
	// answer that is normal: a broker may cut the last batch off.
	ErrPartial = errors.New("record batch is cut off")
	// ErrCorrupt means that a batch is not what a broker would have stored.
	ErrCorrupt = errors.New("record batch is corrupt")
)

// A record takes at least this many bytes: length, attributes, two deltas, null key,
// null value and an empty list of headers, one byte each.
const minRecordBytes = 7

// Batch is one batch whose checksum was right. Its records are not decoded yet.
type Batch struct {
	BaseOffset    int64
	LastOffset    int64 // also of a compacted batch whose last records are gone
	ProducerID    int64 // -1 = not idempotent
	ProducerEpoch int16
	FirstSequence int32
	Count         int32 // records in the batch; fewer than its offsets after compaction
	attributes    uint16
	firstTime     int64
	maxTime       int64
	records       []byte
}

// Transactional says that the batch counts only if its transaction committed.
func (b *Batch) Transactional() bool { return b.attributes&attrTransactional != 0 }

// Control says that the batch is the end marker of a transaction, never a user's data.
func (b *Batch) Control() bool { return b.attributes&attrControl != 0 }

// Next cuts the first batch off p and checks its CRC. ErrPartial when p ends inside
// it, ErrCorrupt when it cannot be believed; BaseOffset is set in either case where
// there were bytes enough to read it.
func Next(p []byte) (b Batch, rest []byte, err error) {
	if len(p) < atLeaderEpoch {
		return b, p, ErrPartial
	}
	be := binary.BigEndian
	b.BaseOffset = int64(be.Uint64(p))
	size := int64(int32(be.Uint32(p[atLength:])))
	if size < HeaderBytes-atLeaderEpoch {
		return b, p, fmt.Errorf("%w: %d bytes long", ErrCorrupt, size)
	}
	if len(p) > atMagic && p[atMagic] != magic {
		return b, p, fmt.Errorf("%w: format %d, want 2", ErrCorrupt, p[atMagic])
	}
	if int64(len(p)-atLeaderEpoch) < size {
		return b, p, ErrPartial
	}
	raw := p[:atLeaderEpoch+int(size)]
	rest = p[len(raw):]
	if crc32.Checksum(raw[atAttributes:], castagnoli) != be.Uint32(raw[atCRC:]) {
		return b, p, fmt.Errorf("%w: checksum differs", ErrCorrupt)
	}
	b.attributes = be.Uint16(raw[atAttributes:])
	lastDelta := int32(be.Uint32(raw[atLastDelta:]))
	b.LastOffset = b.BaseOffset + int64(lastDelta)
	b.firstTime = int64(be.Uint64(raw[atFirstTime:]))
	b.maxTime = int64(be.Uint64(raw[atMaxTime:]))
	b.ProducerID = int64(be.Uint64(raw[atProducerID:]))
	b.ProducerEpoch = int16(be.Uint16(raw[atEpoch:]))
	b.FirstSequence = int32(be.Uint32(raw[atSequence:]))
	b.Count = int32(be.Uint32(raw[atCount:]))
	b.records = raw[HeaderBytes:]
	if lastDelta < 0 || b.Count < 0 || int64(b.Count) > int64(lastDelta)+1 {
		return b, p, fmt.Errorf("%w: %d records in %d offsets", ErrCorrupt, b.Count, int64(lastDelta)+1)
	}
	return b, rest, nil
}

// Record is one decoded record. Its slices alias the batch or the decoder's arena.
type Record struct {
	Offset  int64
	Time    time.Time // UTC; the broker's where the topic is on LogAppendTime, else the sender's
	Key     []byte    // nil = null
	Value   []byte    // nil = null
	Headers []Header
}

// Decoder walks over the records of batches. Its arena grows until Reset. Not for
// concurrent use.
type Decoder struct {
	inflater inflater
	headers  []Header
	names    map[string]string
}

// Reset gives the arena back: every Record decoded before is invalid from here on.
func (d *Decoder) Reset() {
	d.inflater.reset()
	clear(d.headers)
	d.headers = d.headers[:0]
}

// Records starts the walk over a batch, inflating it first where it is compressed.
func (d *Decoder) Records(b *Batch) (Iterator, error) {
	p, err := d.inflater.inflate(int(b.attributes&compressionMask), b.records)
	if err != nil {
		return Iterator{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if int64(b.Count)*minRecordBytes > int64(len(p)) {
		return Iterator{}, fmt.Errorf("%w: %d records in %d bytes", ErrCorrupt, b.Count, len(p))
	}
	return Iterator{decoder: d, batch: b, rest: p, left: b.Count, lastOffset: b.BaseOffset - 1}, nil
}

// Aborts says whether a control batch ends its transaction by an abort. A control
// record of another type (a leader change of the broker's own) is neither.
func (d *Decoder) Aborts(b *Batch) (bool, error) {
	it, err := d.Records(b)
	if err != nil {
		return false, err
	}
	var r Record
	if !it.Next(&r) {
		return false, it.Err() // compacted away: what it ended is gone as well
	}
	if len(r.Key) < 4 {
		return false, fmt.Errorf("%w: control record with a key of %d bytes", ErrCorrupt, len(r.Key))
	}
	return binary.BigEndian.Uint16(r.Key[2:]) == 0, nil // 0 abort, 1 commit
}

// Iterator hands out the records of one batch in the order of their offsets.
type Iterator struct {
	decoder    *Decoder
	batch      *Batch
	rest       []byte
	left       int32
	lastOffset int64
	err        error
}

// Err returns what ended the walk before its last record, nil if nothing did.
func (it *Iterator) Err() error { return it.err }

// Next decodes the next record into r. False at the end, or at a fault: see Err.
func (it *Iterator) Next(r *Record) bool {
	if it.left == 0 || it.err != nil {
		if it.left == 0 && it.err == nil && len(it.rest) != 0 {
			it.err = fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(it.rest))
		}
		return false
	}
	c := cursor{p: it.rest}
	size := c.varint()
	if c.bad || size < 0 || size > int64(len(c.p)) {
		it.err = fmt.Errorf("%w: record longer than its batch", ErrCorrupt)
		return false
	}
	it.rest = c.p[size:]
	c.p = c.p[:size]
	it.left--

	c.skip(1) // record attributes
	timeDelta := c.varint()
	r.Offset = it.batch.BaseOffset + c.varint()
	r.Key = c.blob()
	r.Value = c.blob()
	r.Headers = it.decoder.readHeaders(&c)
	if c.bad || len(c.p) != 0 {
		it.err = fmt.Errorf("%w: record with wrong lengths", ErrCorrupt)
		return false
	}
	if r.Offset <= it.lastOffset || r.Offset > it.batch.LastOffset {
		it.err = fmt.Errorf("%w: record offsets out of order", ErrCorrupt)
		return false
	}
	it.lastOffset = r.Offset
	millis := it.batch.firstTime + timeDelta
	if it.batch.attributes&attrLogAppendTime != 0 {
		millis = it.batch.maxTime // the deltas are what the sender claimed
	}
	r.Time = time.UnixMilli(millis).UTC()
	return true
}

func (d *Decoder) readHeaders(c *cursor) []Header {
	n := c.varint()
	if n == 0 || c.bad {
		return nil
	}
	if n < 0 || n > int64(len(c.p))/2 { // a header takes two bytes at least
		c.bad = true
		return nil
	}
	start := len(d.headers)
	for range n {
		name := c.blob()
		value := c.blob()
		if c.bad {
			return nil
		}
		d.headers = append(d.headers, Header{Key: d.name(name), Value: value})
	}
	return d.headers[start:len(d.headers):len(d.headers)]
}

// name returns a header's name as a string. The few names that a system uses are
// kept, so that they cost no allocation a record; the bound is there for strangers.
func (d *Decoder) name(b []byte) string {
	const maxKept, maxKeptBytes = 256, 128
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(d.names) < maxKept && len(s) <= maxKeptBytes {
		if d.names == nil {
			d.names = make(map[string]string)
		}
		d.names[s] = s
	}
	return s
}

// cursor reads from the front of p; bad once something did not fit.
type cursor struct {
	p   []byte
	bad bool
}

func (c *cursor) varint() int64 {
	if len(c.p) > 0 && c.p[0] < 0x80 { // most are one byte
		u := c.p[0]
		c.p = c.p[1:]
		return int64(u>>1) ^ -int64(u&1)
	}
	v, n := binary.Varint(c.p)
	if n <= 0 {
		c.bad, c.p = true, nil
		return 0
	}
	c.p = c.p[n:]
	return v
}

func (c *cursor) skip(n int) {
	if len(c.p) < n {
		c.bad, c.p = true, nil
		return
	}
	c.p = c.p[n:]
}

func (c *cursor) blob() []byte {
	n := c.varint()
	if n == -1 || c.bad {
		return nil
	}
	if n < 0 || n > int64(len(c.p)) {
		c.bad, c.p = true, nil
		return nil
	}
	b := c.p[:n:n]
	c.p = c.p[n:]
	return b
}
