package kafka

import (
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/kafka/recordbatch"
)

// decode turns one partition's answer into messages: those of committed transactions
// and of none, from the asked offset on. With an error, the batch holds what came before
// the fault.
//
// The answer lists the transactions that were aborted, each with its producer and the
// offset where it began. One that begins further on must not touch what the same
// producer committed before, so each counts from its first offset on, up to its marker.
func (f *Fetcher) decode(r *reader, answer *kmsg.FetchResponseTopicPartition) (Batch, error) {
	b := Batch{
		Partition:     r.partition,
		Next:          r.next,
		HighWatermark: NextOffset(answer.HighWatermark),
		LastStable:    NextOffset(answer.LastStableOffset),
	}
	aborted := answer.AbortedTransactions
	slices.SortFunc(aborted, func(a, b kmsg.FetchResponseTopicPartitionAbortedTransaction) int {
		return int(max(-1, min(1, a.FirstOffset-b.FirstOffset)))
	})
	var aborting map[int64]bool // producers inside an aborted transaction
	start := len(f.messages)
	rest := answer.RecordBatches
	for len(rest) > 0 {
		var batch recordbatch.Batch
		var err error
		batch, rest, err = recordbatch.Next(rest)
		if errors.Is(err, recordbatch.ErrPartial) && b.Next > r.next {
			break // cut off by the size limit; it comes whole when it is the first
		}
		if err == nil && NextOffset(batch.LastOffset) >= r.next {
			for len(aborted) > 0 && aborted[0].FirstOffset <= batch.LastOffset {
				if aborting == nil {
					aborting = make(map[int64]bool)
				}
				aborting[aborted[0].ProducerID] = true
				aborted = aborted[1:]
			}
			err = f.decodeBatch(r, &batch, aborting)
		}
		if err != nil {
			b.Messages = f.messages[start:len(f.messages):len(f.messages)]
			at := Position{Partition: r.partition, Offset: LastOffset(max(batch.BaseOffset, int64(b.Next)))}
			return b, &CorruptBatchError{Position: at, Err: err}
		}
		b.Next = max(b.Next, LastOffset(batch.LastOffset).Next())
	}
	b.Messages = f.messages[start:len(f.messages):len(f.messages)]
	return b, nil
}

// decodeBatch appends the messages of one batch to f.messages: all that count, or none
// and an error.
func (f *Fetcher) decodeBatch(r *reader, batch *recordbatch.Batch, aborting map[int64]bool) error {
	if batch.Control() {
		if aborts, err := f.decoder.Aborts(batch); err != nil {
			return err
		} else if aborts {
			delete(aborting, batch.ProducerID)
		}
		return nil
	}
	if batch.Transactional() && aborting[batch.ProducerID] {
		return nil
	}
	it, err := f.decoder.Records(batch)
	if err != nil {
		return err
	}
	start := len(f.messages)
	var record recordbatch.Record
	for it.Next(&record) {
		if NextOffset(record.Offset) < r.next {
			continue // a batch comes whole, also when reading goes on in its middle
		}
		f.messages = append(f.messages, Message{
			Position: Position{Partition: r.partition, Offset: LastOffset(record.Offset)},
			Key:      record.Key,
			Value:    record.Value,
			Headers:  record.Headers,
			Time:     record.Time,
		})
	}
	if err := it.Err(); err != nil {
		f.messages = f.messages[:start]
		return err
	}
	return nil
}

// takeReady hands out decoded batches, up to MaxRecords messages, and moves the readers.
func (f *Fetcher) takeReady() []Batch {
	var out []Batch
	left := f.options.MaxRecords
	for len(f.ready) > 0 {
		b := &f.ready[0]
		r := f.readers[b.Partition]
		if r.paused || r.next != b.from { // paused or moved since: asked for again later
			f.ready = f.ready[1:]
			continue
		}
		if f.options.MaxRecords > 0 && len(b.Messages) > left {
			if left > 0 {
				head := b.Batch
				head.Messages = b.Messages[:left:left]
				head.Next = head.Messages[left-1].Offset.Next()
				out = append(out, head)
				r.next, b.from = head.Next, head.Next
				b.Messages = b.Messages[left:]
			}
			break
		}
		left -= len(b.Messages)
		r.next = b.Next
		out = append(out, b.Batch)
		f.ready = f.ready[1:]
	}
	return out
}

// recycle gives back the memory of what was handed out. Nothing is ready by then.
func (f *Fetcher) recycle() {
	f.ready = f.ready[:0]
	f.spare = append(f.spare, f.held...)
	f.held = f.held[:0]
	f.messages = f.messages[:0]
	f.decoder.Reset()
}
