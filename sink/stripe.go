package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/sink/table"
)

// stripe is the work on one claim: fetch, cut, write, for all its partitions.
type stripe struct {
	sink    *Sink
	claim   *kafka.Claim
	buffers map[kafka.Partition]*buffer
	order   []*buffer // for a fair round
	bytes   int
}

// buffer holds rows of one partition until they are written.
type buffer struct {
	writer  *writer
	rows    []table.Row
	bytes   int
	next    kafka.NextOffset // behind the rows
	written time.Time        // when the last block was
	end     kafka.NextOffset // of the log when the claim began
}

// maxFetchWait bounds how long a fetch holds up rows that are due.
const maxFetchWait = 250 * time.Millisecond

// run works on a claim until its generation ends.
func (s *Sink) run(ctx context.Context, claim *kafka.Claim) error {
	w := &stripe{sink: s, claim: claim, buffers: map[kafka.Partition]*buffer{}}
	defer s.progress.release(claim.Partitions())
	starts, err := w.takeover(ctx)
	if err != nil {
		return err
	}
	s.progress.took()
	fetcher := s.kafka.NewFetcher(starts, kafka.FetchOptions{MaxWait: min(maxFetchWait, s.config.FlushInterval)})
	defer fetcher.Close()
	for {
		batches, err := fetcher.Fetch(ctx)
		if ctx.Err() != nil {
			return nil // what is buffered was not announced: it is read again
		}
		if err != nil {
			return w.fetchFailed(err)
		}
		for i := range batches {
			w.take(&batches[i])
		}
		if err := w.flush(ctx); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the generation ended; a pending range is the next owner's
			}
			return err
		}
	}
}

// fetchFailed: an offset that the broker no longer has would be a gap in the
// history. The stripe stops and is tried again; nothing is skipped.
func (w *stripe) fetchFailed(err error) error {
	var gone *kafka.OffsetOutOfRangeError
	if errors.As(err, &gone) {
		w.sink.metrics.alarms.Inc()
		w.sink.log.Error("the history would have a gap: the broker no longer has records that were not written; the sink stops there and skips nothing", "error", err)
	}
	return err
}

// takeover finds where each partition goes on, and settles what is pending.
func (w *stripe) takeover(ctx context.Context) (map[kafka.Partition]kafka.NextOffset, error) {
	partitions := w.claim.Partitions()
	committed, err := w.claim.Committed(ctx)
	if err != nil {
		return nil, err
	}
	first, err := w.sink.kafka.Offsets(ctx, partitions, kafka.Earliest)
	if err != nil {
		return nil, err
	}
	end, err := w.sink.kafka.Offsets(ctx, partitions, kafka.Latest)
	if err != nil {
		return nil, err
	}
	starts := map[kafka.Partition]kafka.NextOffset{}
	for _, p := range partitions {
		b, err := w.takePartition(ctx, p, committed, first[p])
		if err != nil {
			return nil, err
		}
		b.end, b.next = end[p], b.writer.next
		w.buffers[p] = b
		w.order = append(w.order, b)
		starts[p] = b.next
		w.sink.progress.moved(p, b.next, b.end)
	}
	return starts, nil
}

func (w *stripe) takePartition(ctx context.Context, p kafka.Partition, committed map[kafka.Partition]kafka.Commit, first kafka.NextOffset) (*buffer, error) {
	t := w.sink.tableOf[p.Topic]
	wr := &writer{sink: w.sink, claim: w.claim, table: t, part: p}
	c, ok := committed[p]
	if !ok {
		return &buffer{writer: wr}, w.fresh(ctx, wr, first)
	}
	wr.next = c.Next
	pend, ok, err := parsePending(c.Metadata)
	if err != nil {
		return nil, fmt.Errorf("position of %s: %w", p, err)
	}
	if !ok {
		return &buffer{writer: wr}, nil
	}
	rows, err := w.reread(ctx, t, p, c.Next, pend.last)
	if err != nil {
		return nil, err
	}
	if err := wr.settle(ctx, rows, pend); err != nil {
		return nil, err
	}
	return &buffer{writer: wr}, wr.confirm(ctx, pend.last.Next())
}

// fresh is for a partition without a committed offset: it begins at the start,
// unless the table knows better.
func (w *stripe) fresh(ctx context.Context, wr *writer, first kafka.NextOffset) error {
	for {
		holds, err := w.sink.tables.Holds(ctx, wr.table, wr.part)
		switch {
		case err != nil:
			w.sink.waitLog(wr.part, err)
			if err := w.sink.pause(ctx); err != nil {
				return err
			}
			continue
		case holds:
			w.sink.metrics.alarms.Inc()
			return fmt.Errorf("%s has rows in the history and no committed offset: it expired, or the group's name was changed; writing on would double rows, so the sink waits for the offset to be set", wr.part)
		}
		wr.next = first
		return nil
	}
}

// reread fetches a pending range again.
func (w *stripe) reread(ctx context.Context, t *table.Table, p kafka.Partition, from kafka.NextOffset, last kafka.LastOffset) ([]table.Row, error) {
	f := w.sink.kafka.NewFetcher(map[kafka.Partition]kafka.NextOffset{p: from}, kafka.FetchOptions{})
	defer f.Close()
	var rows []table.Row
	for f.Position(p) <= kafka.NextOffset(last) {
		batches, err := f.Fetch(ctx)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, w.fetchFailed(fmt.Errorf("read the pending range of %s: %w", p, err))
		}
		for _, b := range batches {
			for i := range b.Messages {
				if m := &b.Messages[i]; m.Offset <= last {
					rows = append(rows, t.NewRow(m))
				}
			}
		}
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("the pending range of %s from %d to %d holds no record", p, from, last)
	}
	return rows, nil
}

// take copies fetched records into their partition's buffer.
func (w *stripe) take(batch *kafka.Batch) {
	b := w.buffers[batch.Partition]
	for i := range batch.Messages {
		row := b.writer.table.NewRow(&batch.Messages[i])
		b.rows = append(b.rows, row)
		b.bytes += row.Bytes()
		w.bytes += row.Bytes()
	}
	b.next = batch.Next
	if len(b.rows) == 0 { // control records only: nothing to write
		w.sink.progress.moved(batch.Partition, b.next, b.end)
	}
}

// flush writes the buffers that are due.
func (w *stripe) flush(ctx context.Context) error {
	for _, b := range w.order {
		if !w.due(b) {
			continue
		}
		for len(b.rows) > 0 {
			rows, next := b.rows, b.next
			if len(rows) > w.sink.config.MaxRows {
				rows = rows[:w.sink.config.MaxRows]
				next = rows[len(rows)-1].Position.Offset.Next()
			}
			if err := b.writer.write(ctx, rows, next); err != nil {
				return err
			}
			b.written = time.Now()
			b.rows = b.rows[len(rows):]
			w.sink.progress.moved(b.writer.part, next, b.end)
		}
		w.bytes -= b.bytes
		b.rows, b.bytes = nil, 0
	}
	return nil
}

func (w *stripe) due(b *buffer) bool {
	return len(b.rows) > 0 &&
		(len(b.rows) >= w.sink.config.MaxRows || w.bytes >= w.sink.config.MaxBytes ||
			time.Since(b.written) >= w.sink.config.FlushInterval)
}
