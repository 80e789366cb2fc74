package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/sink/table"
)

// writer takes rows of one partition through the steps. Its stripe's goroutine
// alone uses it.
type writer struct {
	sink  *Sink
	claim commits
	table *table.Table
	part  kafka.Partition
	next  kafka.NextOffset // everything below is in the table
}

// commits is what a claim does for a writer.
type commits interface {
	Commit(ctx context.Context, positions map[kafka.Partition]kafka.Commit) error
}

func (w *writer) commit(ctx context.Context, next kafka.NextOffset, metadata string) error {
	return w.claim.Commit(ctx, map[kafka.Partition]kafka.Commit{w.part: {Next: next, Metadata: metadata}})
}

// done calls the tests' hook.
func (w *writer) done(s step) error {
	if w.sink.config.after == nil {
		return nil
	}
	return w.sink.config.after(s)
}

// write takes rows through all steps. next is where the partition goes on
// behind them.
func (w *writer) write(ctx context.Context, rows []table.Row, next kafka.NextOffset) error {
	if err := w.done(cut); err != nil {
		return err
	}
	p := w.pend(rows, 0)
	if err := w.commit(ctx, w.next, p.String()); err != nil {
		return fmt.Errorf("announce %s: %w", w.part, err)
	}
	if err := w.done(announce); err != nil {
		return err
	}
	err := w.insert(ctx, rows, p)
	if hook := w.done(insert); hook != nil {
		return hook
	}
	if err != nil { // whatever it was, the outcome is unknown
		w.sink.metrics.retries.Inc()
		w.sink.waitLog(w.part, err)
		if err := w.sink.pause(ctx); err != nil {
			return err
		}
		if err := w.settle(ctx, rows, p); err != nil {
			return err
		}
	}
	return w.confirm(ctx, next)
}

func (w *writer) pend(rows []table.Row, n int) pending {
	before := w.sink.now().Add(w.sink.config.Deadline).Truncate(time.Second)
	return pending{last: rows[len(rows)-1].Position.Offset, n: n, before: before}
}

func (w *writer) insert(ctx context.Context, rows []table.Row, p pending) error {
	began := time.Now()
	err := w.sink.tables.Insert(ctx, w.table, rows, p.token(w.part, kafka.LastOffset(w.next)), p.before)
	w.sink.metrics.inserted(w.table, len(rows), time.Since(began), err)
	return err
}

func (w *writer) confirm(ctx context.Context, next kafka.NextOffset) error {
	if err := w.commit(ctx, next, ""); err != nil {
		return fmt.Errorf("confirm %s: %w", w.part, err)
	}
	w.next = next
	return w.done(confirm)
}

// settle brings a pending range to its end: all of its rows are in the table
// when it returns nil.
func (w *writer) settle(ctx context.Context, rows []table.Row, p pending) error {
	for ctx.Err() == nil {
		w.sink.metrics.recounts.Inc()
		complete, err := w.repeat(ctx, rows, &p)
		switch {
		case errors.Is(err, errCommit):
			return err
		case err != nil:
			w.sink.waitLog(w.part, err)
			if err := w.sink.pause(ctx); err != nil {
				return err
			}
		case complete:
			return nil
		}
	}
	return ctx.Err()
}

// errNotYetLate: by our clock the deadline has passed, by ClickHouse's it may
// not have; a count would not be final.
var errNotYetLate = errors.New("waiting until the deadline of the announced block has passed by every clock")

// errCommit marks the errors that end the claim.
var errCommit = errors.New("commit")

// repeat is one try at a pending range. An insert that is refused as too late while it is
// not by our clock ends nothing: an earlier one may have passed that check, and its part
// be on its way to the disk. Like one without an answer it is counted when T has passed by every clock.
func (w *writer) repeat(ctx context.Context, rows []table.Row, p *pending) (complete bool, err error) {
	now := w.sink.now()
	inTime := now.Before(p.before)
	if !inTime && now.Before(p.before.Add(maxSkew)) {
		return false, errNotYetLate
	}
	if inTime && p.n == 0 {
		if err := w.insert(ctx, rows, *p); err != nil {
			return false, err
		}
	}
	missing, err := w.missing(ctx, rows)
	if err != nil || len(missing) == 0 {
		return err == nil, err
	}
	if inTime && p.n > 0 {
		if err := w.insert(ctx, missing, *p); err != nil {
			return false, err
		}
		if missing, err = w.missing(ctx, missing); err != nil || len(missing) == 0 {
			return err == nil, err
		}
	}
	// The token is used up and rows are missing, or T has passed: what is missing
	// goes under a new one. Its end stays that of the range.
	next := w.pend(rows, p.n+1)
	if err := w.commit(ctx, w.next, next.String()); err != nil {
		return false, fmt.Errorf("%w: announce %s again: %w", errCommit, w.part, err)
	}
	w.sink.log.Warn("rows were missing after an insert was answered or ran out of time; inserted again under a new token",
		"partition", w.part.String(), "missing", len(missing), "n", next.n)
	*p = next
	return false, nil
}

// missing gives those of rows that the table lacks. A row that is there twice
// is an alarm: nothing here takes it away.
func (w *writer) missing(ctx context.Context, rows []table.Row) ([]table.Row, error) {
	first, last := rows[0].Position.Offset, rows[len(rows)-1].Position.Offset
	offsets, err := w.sink.tables.Offsets(ctx, w.table, w.part, first, last)
	if err != nil {
		return nil, err
	}
	there := make(map[kafka.LastOffset]int, len(offsets))
	for _, o := range offsets {
		if there[o]++; there[o] == 2 {
			w.sink.metrics.doubles.Inc()
			w.sink.log.Error("a position is in the history twice", "position", kafka.Position{Partition: w.part, Offset: o}.String())
		}
	}
	var missing []table.Row
	for i := range rows {
		if there[rows[i].Position.Offset] == 0 {
			missing = append(missing, rows[i])
		}
	}
	return missing, nil
}
