package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/assent-dev/assent/internal/embedded/broker/disk"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var errOpenTransaction = errors.New("a transaction is open")

// record is what a survey keeps of a record: where it stands, and enough to
// tell it from any other.
type record struct {
	offset    int64
	at        time.Time
	digest    uint64 // of time, value and headers
	tombstone bool
}

type keyedRecord struct {
	key string // "" with keyless set, when there is none
	record
	keyless bool
}

// survey is what compaction must leave as it is in one partition. It tells
// committed records by the markers in the log, where the engine's compaction
// goes by its own list, so that the two do not share a mistake.
type survey struct {
	end     int64                   // the next offset
	last    map[string]record       // the newest committed record of each key
	keyless int                     // committed records without a key
	open    map[int64][]keyedRecord // by producer
	seed    maphash.Seed
}

// surveyPartition reads a partition of the data directory dir. Only surveys of
// one seed can be compared.
func surveyPartition(dir, topic string, partition int32, seed maphash.Seed) (*survey, error) {
	s := &survey{last: make(map[string]record), open: make(map[int64][]keyedRecord), seed: seed}
	if err := disk.ScanPartition(dir, topic, partition, s.add); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *survey) add(b *disk.Batch) error {
	s.end = b.LastOffset() + 1
	if b.Control() {
		if b.Commits() {
			for _, rec := range s.open[b.ProducerID] {
				s.commit(rec)
			}
		}
		delete(s.open, b.ProducerID)
		return nil
	}
	records, err := kfake.BatchRecords(b.RecordBatch)
	if err != nil {
		return fmt.Errorf("read the batch at offset %d: %w", b.FirstOffset, err)
	}
	for i := range records {
		rec := s.keep(b, &records[i])
		if b.Transactional() {
			s.open[b.ProducerID] = append(s.open[b.ProducerID], rec)
		} else {
			s.commit(rec)
		}
	}
	return nil
}

func (s *survey) keep(b *disk.Batch, rec *kmsg.Record) keyedRecord {
	at := b.FirstTimestamp + rec.TimestampDelta64
	var h maphash.Hash
	h.SetSeed(s.seed)
	write := func(data []byte) { // with its length, so that fields do not run together
		var size [8]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(data)))
		h.Write(size[:])
		h.Write(data)
	}
	write(binary.LittleEndian.AppendUint64(nil, uint64(at)))
	write(rec.Value)
	for _, header := range rec.Headers {
		write([]byte(header.Key))
		write(header.Value)
	}
	return keyedRecord{
		key:     string(rec.Key),
		keyless: rec.Key == nil,
		record: record{
			offset:    b.FirstOffset + int64(rec.OffsetDelta),
			at:        time.UnixMilli(at),
			digest:    h.Sum64(),
			tombstone: rec.Value == nil,
		},
	}
}

// commit counts a record. The records of a transaction are counted at its end
// and may be older than what stands for their key.
func (s *survey) commit(rec keyedRecord) {
	if rec.keyless {
		s.keyless++
		return
	}
	if known, ok := s.last[rec.key]; !ok || rec.offset > known.offset {
		s.last[rec.key] = rec.record
	}
}

// keptIn says what after, the same partition compacted, does not keep of s.
// A tombstone may be gone when it is older than tombstoneAge.
func (s *survey) keptIn(after *survey, tombstoneAge time.Duration) error {
	switch {
	case len(s.open) > 0:
		return errOpenTransaction
	case s.end != after.end:
		return fmt.Errorf("the log ended at offset %d and now ends at %d", s.end, after.end)
	case s.keyless != after.keyless:
		return fmt.Errorf("%d records without a key became %d", s.keyless, after.keyless)
	}
	for key, was := range s.last {
		is, ok := after.last[key]
		if !ok && was.tombstone && time.Since(was.at) >= tombstoneAge {
			continue
		}
		if !ok || is != was {
			return fmt.Errorf("the last record of a key, at offset %d, is not there any more", was.offset)
		}
	}
	for key, is := range after.last {
		if _, ok := s.last[key]; !ok {
			return fmt.Errorf("the record at offset %d is new", is.offset)
		}
	}
	return nil
}
