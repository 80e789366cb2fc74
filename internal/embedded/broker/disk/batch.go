package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Where the fields of a record batch stand, in bytes from its begin.
const (
	lengthAt  = 8  // int32, counts what is behind itself
	crcAt     = 17 // uint32 over everything behind it
	attrsAt   = 21 // int16
	headBytes = 61 // up to the first record

	attrTransactional = 0x10
	attrControl       = 0x20
)

var (
	errShort   = errors.New("the batch is cut short")
	errDamaged = errors.New("the batch does not match its checksum")
)

// Batch is one record batch as it lies in a segment file.
type Batch struct {
	kmsg.RecordBatch
	// Raw is the whole batch, a part of the segment's bytes.
	Raw []byte
}

// Transactional says that the batch belongs to a transaction, or ends one.
func (b *Batch) Transactional() bool { return b.Attributes&attrTransactional != 0 }

// Control says that the batch holds a transaction marker and no records.
func (b *Batch) Control() bool { return b.Attributes&attrControl != 0 }

// LastOffset is the offset of the batch's last record.
func (b *Batch) LastOffset() int64 { return b.FirstOffset + int64(b.LastOffsetDelta) }

// Commits says whether a control batch is a COMMIT marker. What cannot be read
// counts as ABORT, as it does for the engine.
func (b *Batch) Commits() bool {
	var rec kmsg.Record
	if err := rec.ReadFrom(b.Records); err != nil || len(rec.Key) < 4 {
		return false
	}
	return binary.BigEndian.Uint16(rec.Key[2:4]) == 1
}

// DecodeBatch reads the batch at the begin of raw, which may go on behind it.
// The batch shares raw's memory.
func DecodeBatch(raw []byte) (Batch, error) {
	if len(raw) < headBytes {
		return Batch{}, errShort
	}
	size := int64(binary.BigEndian.Uint32(raw[lengthAt:])) + lengthAt + 4
	if size < headBytes || size > math.MaxInt32 {
		return Batch{}, errDamaged
	}
	if size > int64(len(raw)) {
		return Batch{}, errShort
	}
	raw = raw[:size:size]
	if binary.BigEndian.Uint32(raw[crcAt:]) != crc32.Checksum(raw[attrsAt:], castagnoli) {
		return Batch{}, errDamaged
	}
	b := Batch{Raw: raw}
	if err := b.ReadFrom(raw); err != nil {
		return Batch{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if b.Magic != 2 || b.NumRecords < 1 || b.LastOffsetDelta < 0 {
		return Batch{}, errDamaged
	}
	return b, nil
}

// followedByBatch says whether a readable batch of a higher offset starts
// anywhere behind the first byte of raw. If one does, the bytes before it are
// not what an interrupted write leaves.
func followedByBatch(raw []byte, offset int64) bool {
	for at := 1; at+headBytes <= len(raw); at++ {
		tail := raw[at:]
		if tail[16] != 2 || int64(binary.BigEndian.Uint64(tail)) <= offset {
			continue
		}
		if _, err := DecodeBatch(tail); err == nil {
			return true
		}
	}
	return false
}

// abortMarker is the control batch that ends a producer's transaction at offset
// without its records. Source: Kafka's EndTransactionMarker: key = version 0,
// type 0; value = version 0, coordinator epoch 0.
func abortMarker(offset int64, leaderEpoch int32, producerID int64, producerEpoch int16, nowMillis int64) []byte {
	rec := kmsg.NewRecord()
	rec.Key = []byte{0, 0, 0, 0}
	rec.Value = []byte{0, 0, 0, 0, 0, 0}
	// The length is a varint of one byte in front of the record.
	rec.Length = int32(len(rec.AppendTo(nil)) - 1)
	b := kmsg.RecordBatch{
		FirstOffset:          offset,
		PartitionLeaderEpoch: leaderEpoch,
		Magic:                2,
		Attributes:           attrControl | attrTransactional,
		FirstTimestamp:       nowMillis,
		MaxTimestamp:         nowMillis,
		ProducerID:           producerID,
		ProducerEpoch:        producerEpoch,
		FirstSequence:        -1,
		NumRecords:           1,
		Records:              rec.AppendTo(nil),
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[lengthAt:], uint32(len(raw)-lengthAt-4))
	binary.BigEndian.PutUint32(raw[crcAt:], crc32.Checksum(raw[attrsAt:], castagnoli))
	return raw
}
