package recordbatch

import (
	"encoding/binary"
	"hash/crc32"
)

// Positions of header fields in a batch.
const (
	atLength      = 8
	atLeaderEpoch = 12
	atMagic       = 16
	atCRC         = 17
	atAttributes  = 21
	atLastDelta   = 23
	atFirstTime   = 27
	atMaxTime     = 35
	atProducerID  = 43
	atEpoch       = 51
	atSequence    = 53
	atCount       = 57

	// HeaderBytes is the size of a batch without records.
	HeaderBytes = 61

	magic = 2
)

// Attribute bits of a batch.
const (
	compressionMask   = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is one record header.
type Header struct {
	Key   string
	Value []byte
}

// Sender says who writes a batch. The broker stores each (ID, Epoch, Sequence) once
// per partition, so that a repeated batch is answered and not stored again.
type Sender struct {
	ID            int64 // from InitProducerID; -1 = not idempotent
	Epoch         int16
	Sequence      int32 // of the batch's first record in its partition
	Transactional bool  // part of the sender's open transaction
}

// AdvanceSequence returns the sequence that follows after count records. Sequences
// wrap from the largest int32 to 0.
func AdvanceSequence(sequence int32, count int) int32 {
	return int32((int64(sequence) + int64(count)) & 0x7fffffff)
}

// Writer builds one uncompressed batch: Reset, Add each record, Finish. The zero
// value needs a Reset. Not for concurrent use.
type Writer struct {
	buf       []byte
	firstTime int64
	maxTime   int64
	count     int32
}

// Reset starts a new batch that takes over buf's memory.
func (w *Writer) Reset(buf []byte) {
	*w = Writer{buf: append(buf[:0], make([]byte, HeaderBytes)...)}
}

// Count returns the number of records added since Reset.
func (w *Writer) Count() int { return int(w.count) }

// Add appends a record. timeMillis is Unix time; a nil key or value is null.
func (w *Writer) Add(timeMillis int64, key, value []byte, headers []Header) {
	if w.count == 0 {
		w.firstTime, w.maxTime = timeMillis, timeMillis
	}
	w.maxTime = max(w.maxTime, timeMillis)
	timeDelta := timeMillis - w.firstTime

	body := 1 + varintBytes(timeDelta) + varintBytes(int64(w.count)) +
		blobBytes(key) + blobBytes(value) + varintBytes(int64(len(headers)))
	for i := range headers {
		body += varintBytes(int64(len(headers[i].Key))) + len(headers[i].Key) + blobBytes(headers[i].Value)
	}

	w.buf = binary.AppendVarint(w.buf, int64(body))
	w.buf = append(w.buf, 0) // record attributes: none are defined
	w.buf = binary.AppendVarint(w.buf, timeDelta)
	w.buf = binary.AppendVarint(w.buf, int64(w.count))
	w.buf = appendBlob(w.buf, key)
	w.buf = appendBlob(w.buf, value)
	w.buf = binary.AppendVarint(w.buf, int64(len(headers)))
	for i := range headers {
		w.buf = binary.AppendVarint(w.buf, int64(len(headers[i].Key)))
		w.buf = append(w.buf, headers[i].Key...)
		w.buf = appendBlob(w.buf, headers[i].Value)
	}
	w.count++
}

// Finish fills in the batch header and returns the batch. The slice is the Writer's:
// valid until the next Reset of the same memory.
func (w *Writer) Finish(s Sender) []byte {
	b := w.buf
	var attributes uint16
	if s.Transactional {
		attributes |= attrTransactional
	}
	be := binary.BigEndian
	be.PutUint64(b, 0)
	be.PutUint32(b[atLength:], uint32(len(b)-atLeaderEpoch))
	be.PutUint32(b[atLeaderEpoch:], ^uint32(0)) // -1: the leader knows it
	b[atMagic] = magic
	be.PutUint16(b[atAttributes:], attributes)
	be.PutUint32(b[atLastDelta:], uint32(w.count-1))
	be.PutUint64(b[atFirstTime:], uint64(w.firstTime))
	be.PutUint64(b[atMaxTime:], uint64(w.maxTime))
	be.PutUint64(b[atProducerID:], uint64(s.ID))
	be.PutUint16(b[atEpoch:], uint16(s.Epoch))
	be.PutUint32(b[atSequence:], uint32(s.Sequence))
	be.PutUint32(b[atCount:], uint32(w.count))
	be.PutUint32(b[atCRC:], crc32.Checksum(b[atAttributes:], castagnoli))
	return b
}

// MaxRecordBytes returns an upper bound of what Add appends for such a record,
// whatever its time and place in the batch.
func MaxRecordBytes(key, value []byte, headers []Header) int {
	const fixed = 5 + 1 + 10 + 5 + 5 + 5 + 5 // length, attributes, time, offset, key, value, header count
	n := fixed + len(key) + len(value)
	for i := range headers {
		n += 10 + len(headers[i].Key) + len(headers[i].Value)
	}
	return n
}

func appendBlob(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

func blobBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return varintBytes(int64(len(b))) + len(b)
}

func varintBytes(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}
