package kafka

import (
	"strconv"
	"time"

	"github.com/assent-dev/assent/internal/kafka/recordbatch"
)

// NextOffset is the offset of the next record to read: what a group commits.
type NextOffset int64

// LastOffset is the offset of a record that exists.
type LastOffset int64

// Next returns where reading goes on after the record.
func (o LastOffset) Next() NextOffset { return NextOffset(o + 1) }

// Partition names one partition of a topic.
type Partition struct {
	Topic string
	Index int32
}

// String returns topic and index: "consent.events/3".
func (p Partition) String() string { return p.Topic + "/" + strconv.Itoa(int(p.Index)) }

// Position is where one record stands.
type Position struct {
	Partition
	Offset LastOffset
}

// String returns topic, index and offset: "consent.events/3@1042".
func (p Position) String() string {
	return p.Partition.String() + "@" + strconv.FormatInt(int64(p.Offset), 10)
}

// Header is a record header. Keys need not be unique.
type Header = recordbatch.Header

// Record is what a producer writes. Its partition is always [PartitionFor] its key.
type Record struct {
	Topic   string
	Key     []byte // nil = null
	Value   []byte // nil = null: a tombstone on a compacted topic
	Headers []Header
	Time    time.Time // zero = when its batch is made; kept in milliseconds
	// PartitionKey decides the partition in Key's place, where it is not nil: rows of one
	// subject have keys of their own, and must be in one partition.
	PartitionKey []byte
}

// millis is the record's time, or that at which its batch is made.
func (r *Record) millis(made time.Time) int64 {
	if r.Time.IsZero() {
		return made.UnixMilli()
	}
	return r.Time.UnixMilli()
}

// partitioned is the key that decides the partition.
func (r *Record) partitioned() []byte {
	if r.PartitionKey != nil {
		return r.PartitionKey
	}
	return r.Key
}

// Message is what a [Fetcher] reads. Its slices are valid until the next Fetch of the
// same fetcher: copy what is kept.
type Message struct {
	Position
	Key     []byte // nil = null
	Value   []byte // nil = null
	Headers []Header
	Time    time.Time // UTC; the broker's where the topic is on LogAppendTime, else the sender's
}

// PartitionFor returns the partition of a key as the Java client chooses it, so that
// producers in every language agree: murmur2, sign bit cleared, modulo partitions. A
// null key counts as an empty one. partitions must be positive.
func PartitionFor(key []byte, partitions int) int32 {
	return int32(int(murmur2(key)&0x7fffffff) % partitions)
}

// murmur2 is Austin Appleby's 32-bit MurmurHash2 with the seed that Kafka chose.
func murmur2(data []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := uint32(seed) ^ uint32(len(data))
	for len(data) >= 4 {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}
