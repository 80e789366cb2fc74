package kafka

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/kafka/recordbatch"
)

// The list of an answer may name a transaction that begins after committed records of the
// same producer in the same answer.
func TestDecode_AppliesAnAbortedTransactionFromItsFirstOffsetOn(t *testing.T) {
	encode := func(base int64, producer int64, transactional bool, values ...string) []byte {
		var w recordbatch.Writer
		w.Reset(nil)
		for _, v := range values {
			w.Add(0, nil, []byte(v), nil)
		}
		b := w.Finish(recordbatch.Sender{ID: producer, Transactional: transactional})
		binary.BigEndian.PutUint64(b, uint64(base))
		return b
	}
	marker := func(base, producer int64, kind byte) []byte {
		var w recordbatch.Writer
		w.Reset(nil)
		w.Add(0, []byte{0, 0, 0, kind}, make([]byte, 6), nil)
		b := w.Finish(recordbatch.Sender{ID: producer, Transactional: true})
		binary.BigEndian.PutUint64(b, uint64(base))
		b[22] |= 0x20
		binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
		return b
	}
	answer := &kmsg.FetchResponseTopicPartition{
		AbortedTransactions: []kmsg.FetchResponseTopicPartitionAbortedTransaction{
			{ProducerID: 7, FirstOffset: 8}, {ProducerID: 7, FirstOffset: 3}, // in no order
		},
		RecordBatches: slices.Concat(
			encode(0, 7, true, "c0", "c1"), marker(2, 7, 1),
			encode(3, 7, true, "a3"), encode(4, 9, true, "c4"), marker(5, 7, 0),
			encode(6, 7, true, "c6"), marker(7, 7, 1),
			encode(8, 7, true, "a8"), encode(9, 7, false, "c9"), marker(10, 7, 0), marker(11, 9, 1),
		),
	}
	f := new(Fetcher)
	b, err := f.decode(&reader{partition: events0}, answer)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range b.Messages {
		got = append(got, string(m.Value))
	}
	if want := []string{"c0", "c1", "c4", "c6", "c9"}; !slices.Equal(got, want) || b.Next != 12 {
		t.Fatalf("%q up to %d, want %q up to 12", got, b.Next, want)
	}
}

// As Apache Kafka stores it: the batch is marked, its largest time is the broker's, and
// the deltas are still what the sender claimed.
func TestDecode_GivesTheBrokersTimeWhereTheTopicIsOnLogAppendTime(t *testing.T) {
	var w recordbatch.Writer
	w.Reset(nil)
	w.Add(1_000_000_000_000, nil, []byte("a"), nil)
	w.Add(1_000_000_000_500, nil, []byte("b"), nil)
	batch := w.Finish(recordbatch.Sender{ID: -1})
	batch[22] |= 0x08
	binary.BigEndian.PutUint64(batch[35:], 1_800_000_000_000)
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
	b, err := new(Fetcher).decode(&reader{partition: events0}, &kmsg.FetchResponseTopicPartition{RecordBatches: batch})
	if err != nil || len(b.Messages) != 2 {
		t.Fatalf("%v, %v", b, err)
	}
	for _, m := range b.Messages {
		if m.Time.UnixMilli() != 1_800_000_000_000 {
			t.Errorf("%s is from %s", m.Position, m.Time)
		}
	}
}
