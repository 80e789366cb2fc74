package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/kafka/recordbatch"
)

// maxProduceBytes bounds the batches of one Produce request, well under what brokers
// take (socket.request.max.bytes, 100 MiB by default).
const maxProduceBytes = 32 << 20

// stream is what a transactor writes to one partition. Its sequence goes on from one
// transaction to the next, aborted or not: the epoch is the same.
type stream struct {
	covered  bool  // by Begin of the open transaction
	sequence int32 // of the next batch

	// Of the running Write: its records for this partition, of which those before stored
	// are in the log, and those before taken are there or in parcel.
	records []int
	stored  int
	taken   int
	writing *writing

	writer recordbatch.Writer
	buf    []byte
	parcel parcel // the batch on its way, nil when there is none
}

// stream returns the stream of a partition.
func (t *Transactor) stream(p Partition) *stream {
	streams := t.streams[p.Topic]
	for int(p.Index) >= len(streams) {
		streams = append(streams, nil)
	}
	t.streams[p.Topic] = streams
	if streams[p.Index] == nil {
		streams[p.Index] = &stream{parcel: parcel{partition: p}}
	}
	return streams[p.Index]
}

// Write adds records to the transaction, each to the partition of its key, which Begin
// must have covered, and returns their positions in the order given once all in-sync replicas
// have them. Records of a partition keep their order. Keys, values and headers must
// not change until it returns. With an error, some may be in the log, in a transaction
// that will never be committed.
//
// One request is on its way to each broker at a time: with two for one transactional id,
// brokers refuse one.
func (t *Transactor) Write(ctx context.Context, records []Record) ([]Position, error) {
	positions := make([]Position, len(records))
	err := t.step(ctx, "write", func(ctx context.Context) error {
		if !t.open {
			return errors.New("no transaction is open")
		}
		w := &writing{t: t, records: records, positions: positions, now: time.Now()}
		if err := w.deal(ctx); err != nil {
			return err
		}
		for w.encode() {
			// Repeated with the same sequences: what was stored already is not stored again.
			if _, err := t.repeat(ctx, w.round); err != nil {
				return t.blame(ctx, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return positions, nil
}

// writing is one Write on its way.
type writing struct {
	t         *Transactor
	records   []Record
	positions []Position
	now       time.Time
	streams   []*stream // that have something to write still
}

// deal gives each record to the stream of its partition, after looking at all of them.
func (w *writing) deal(ctx context.Context) error {
	var topic string
	var count int
	var streams []*stream
	for i := range w.records {
		r := &w.records[i]
		if i == 0 || r.Topic != topic {
			var err error
			if count, err = w.t.client.PartitionCount(ctx, r.Topic); err != nil {
				return err
			}
			if count == 0 {
				return fmt.Errorf("topic %s: %w", r.Topic, ErrUnknownTopic)
			}
			topic, streams = r.Topic, w.t.streams[r.Topic]
		}
		p := Partition{Topic: r.Topic, Index: PartitionFor(r.partitioned(), count)}
		var s *stream
		if int(p.Index) < len(streams) {
			s = streams[p.Index]
		}
		if s == nil || !s.covered {
			return fmt.Errorf("record %d: partition %s is not part of the transaction", i, p)
		}
		if size := recordbatch.MaxRecordBytes(r.Key, r.Value, r.Headers) + recordbatch.HeaderBytes; size > w.t.options.MaxBatchBytes {
			return fmt.Errorf("record %d for %s: %w: %d bytes, batches take %d", i, p, ErrTooLarge, size, w.t.options.MaxBatchBytes)
		}
		if s.writing != w {
			s.writing, s.records, s.stored, s.taken = w, s.records[:0], 0, 0
			w.streams = append(w.streams, s)
		}
		s.records = append(s.records, i)
		w.positions[i].Partition = p
	}
	return nil
}

// encode gives each stream whose last batch is stored its next one, and forgets those
// that have no more. False when all is stored.
func (w *writing) encode() bool {
	left := w.streams[:0]
	for _, s := range w.streams {
		if s.parcel.batch == nil && s.taken < len(s.records) {
			w.encodeBatch(s)
		}
		if s.parcel.batch != nil {
			left = append(left, s)
		}
	}
	w.streams = left
	return len(left) > 0
}

func (w *writing) encodeBatch(s *stream) {
	s.writer.Reset(s.buf)
	size := recordbatch.HeaderBytes
	for ; s.taken < len(s.records); s.taken++ {
		r := &w.records[s.records[s.taken]]
		if size += recordbatch.MaxRecordBytes(r.Key, r.Value, r.Headers); size > w.t.options.MaxBatchBytes {
			break
		}
		s.writer.Add(r.millis(w.now), r.Key, r.Value, r.Headers)
	}
	s.buf = s.writer.Finish(recordbatch.Sender{ID: w.t.sender.ID, Epoch: w.t.sender.Epoch, Sequence: s.sequence, Transactional: true})
	s.parcel.batch = s.buf
}

// round sends every leader one request with what is encoded for it, and takes in the
// answers. The error is the gravest of them; the batches that met one are kept.
func (w *writing) round(ctx context.Context) error {
	byLeader := w.address(ctx)
	var answers sync.WaitGroup
	for leader, parcels := range byLeader {
		if len(byLeader) == 1 {
			w.t.client.produce(ctx, leader, &w.t.options.ID, parcels)
			break
		}
		answers.Go(func() { w.t.client.produce(ctx, leader, &w.t.options.ID, parcels) })
	}
	answers.Wait()
	var gravest error
	for _, s := range w.streams {
		switch err := s.parcel.err; {
		case s.parcel.batch == nil || errors.Is(err, errHeldBack):
		case err != nil:
			gravest = graver(gravest, fmt.Errorf("partition %s: %w", s.parcel.partition, err))
		default:
			w.settle(s)
		}
	}
	return gravest
}

// errHeldBack marks what had no room in a round's request.
var errHeldBack = errors.New("not sent yet")

// address sorts what is to be sent by leader. A stream without a leader keeps that error.
func (w *writing) address(ctx context.Context) map[int32][]*parcel {
	byLeader := make(map[int32][]*parcel)
	bytes := make(map[int32]int)
	for _, s := range w.streams {
		if s.parcel.batch == nil {
			continue
		}
		var leader int32
		if leader, s.parcel.err = w.t.client.leader(ctx, s.parcel.partition); s.parcel.err != nil {
			continue
		}
		if n := len(s.parcel.batch); bytes[leader] == 0 || bytes[leader]+n <= maxProduceBytes {
			bytes[leader] += n
			byLeader[leader] = append(byLeader[leader], &s.parcel)
		} else {
			s.parcel.err = errHeldBack
		}
	}
	return byLeader
}

// settle takes a stored batch off its stream.
func (w *writing) settle(s *stream) {
	sent := s.records[s.stored:s.taken]
	for k, i := range sent {
		w.positions[i].Offset = s.parcel.base + LastOffset(k)
	}
	s.sequence = recordbatch.AdvanceSequence(s.sequence, len(sent))
	s.stored, s.parcel.batch = s.taken, nil
}
