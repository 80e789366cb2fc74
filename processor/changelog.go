package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// The limits of a restore's fetches: it reads a whole topic, as fast as it can.
const (
	restoreFetchBytes     = 16 << 20
	restorePartitionBytes = 4 << 20
)

// restored is a partition's table as its changelog gives it, or why it cannot be
// known.
type restored struct {
	table   *Table
	highest kafka.NextOffset // the largest input offset of a subject
	end     kafka.NextOffset // of the changelog, when the restore began
	records int
	// unfinished counts rows whose write was cut short: they do not count.
	unfinished int
	alarm      error // stops the partition
}

// restore reads the changelogs of partitions from their beginning to their high
// watermark. The former owner must be out. Its error is of the broker or of ctx;
// what is wrong with one partition stands in that partition's answer.
func restore(ctx context.Context, client *kafka.Client, topic string, indexes []int32, partitions int) (map[int32]*restored, error) {
	logs := make([]kafka.Partition, len(indexes))
	for i, index := range indexes {
		logs[i] = kafka.Partition{Topic: topic, Index: index}
	}
	ends, err := client.Offsets(ctx, logs, kafka.Latest)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	starts, err := client.Offsets(ctx, logs, kafka.Earliest)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	found := make(map[int32]*restored, len(logs))
	rebuilds := make(map[kafka.Partition]*rebuild, len(logs))
	open := 0
	for _, l := range logs {
		found[l.Index] = &restored{end: ends[l]}
		rebuilds[l] = &rebuild{partition: l, partitions: partitions, subjects: make(map[subjectID]*rebuilt)}
		if starts[l] >= ends[l] {
			delete(starts, l)
			continue
		}
		open++
	}
	fetcher := client.NewFetcher(starts, kafka.FetchOptions{MaxBytes: restoreFetchBytes, PartitionMaxBytes: restorePartitionBytes})
	defer func() { _ = fetcher.Close() }()
	for open > 0 {
		batches, err := fetcher.Fetch(ctx)
		if err != nil {
			at, ok := partitionOf(err)
			if !ok {
				return nil, fmt.Errorf("restore: %w", err)
			}
			found[at.Index].alarm = err
			open--
			continue
		}
		for i := range batches {
			b := &batches[i]
			r := found[b.Partition.Index]
			if r.alarm = rebuilds[b.Partition].take(b.Messages); r.alarm != nil || b.Next >= r.end {
				fetcher.Pause(b.Partition)
				open--
			}
		}
	}
	for l, b := range rebuilds {
		r := found[l.Index]
		r.records = b.records
		b.finish(r)
	}
	return found, nil
}

// partitionOf is the partition that an error of the fetcher is about, if it is
// one that stops a partition and not a matter of the whole broker.
func partitionOf(err error) (kafka.Partition, bool) {
	if e := new(kafka.OffsetOutOfRangeError); errors.As(err, &e) {
		return e.Partition, true
	}
	if e := new(kafka.CorruptBatchError); errors.As(err, &e) {
		return e.Position.Partition, true
	}
	return kafka.Partition{}, false
}

// rebuild turns a changelog into a table.
type rebuild struct {
	partition  kafka.Partition
	partitions int
	subjects   map[subjectID]*rebuilt
	records    int
}

// rebuilt is one subject while its rows are read.
type rebuilt struct {
	whole consent.Whole
	input kafka.NextOffset // of the "*" row; 0 = none yet
	rows  []rebuiltRow
	ahead []rebuiltRow // their "*" row has not come (yet): they do not count
}

type rebuiltRow struct {
	consent.Row
	input kafka.NextOffset
}

// take reads messages in the order of the log. A row that cannot be read is an
// alarm: what it said may have been a withdrawal.
func (r *rebuild) take(messages []kafka.Message) error {
	for i := range messages {
		m := &messages[i]
		r.records++
		if err := r.row(m); err != nil {
			return fmt.Errorf("restore %s: %w", m.Position, err)
		}
	}
	return nil
}

func (r *rebuild) row(m *kafka.Message) error {
	tenant, subject, purpose, test, err := schemas.ParseStateKey(m.Key)
	if err != nil {
		return err
	}
	if kafka.PartitionFor(consent.Key(tenant, subject), r.partitions) != r.partition.Index {
		return errors.New("the row belongs to another partition: did the number of partitions change?")
	}
	id := subjectID{tenant, subject, test}
	if m.Value == nil {
		r.remove(id, purpose)
		return nil
	}
	row, err := schemas.DecodeState(m.Value)
	if err != nil {
		return err
	}
	if row.Tenant != tenant || row.Subject != subject || row.Row.Purpose != purpose || row.Test != test {
		return errors.New("key and value name different rows")
	}
	s := r.subjects[id]
	if s == nil {
		s = &rebuilt{}
		r.subjects[id] = s
	}
	placed := rebuiltRow{row.Row, kafka.LastOffset(row.InputOffset).Next()}
	switch {
	case purpose != consent.Root && placed.input > s.input:
		s.ahead = place(s.ahead, placed)
	case purpose != consent.Root:
		s.rows = place(s.rows, placed)
	case row.Whole == nil:
		return errors.New("the row of * lacks what belongs to the whole subject")
	case placed.input >= s.input: // else a former owner was late: what we have is newer
		s.complete(placed, row.Whole)
	}
	return nil
}

// complete takes in a "*" row: rows up to its input offset count now.
func (s *rebuilt) complete(root rebuiltRow, whole *consent.Whole) {
	s.whole, s.input = *whole, root.input
	if root.Row != (consent.Row{Purpose: consent.Root}) {
		s.rows = place(s.rows, root)
	}
	s.ahead = slices.DeleteFunc(s.ahead, func(row rebuiltRow) bool {
		if row.input > s.input {
			return false
		}
		s.rows = place(s.rows, row)
		return true
	})
}

// place puts a row where its purpose stands, unless a newer one is there.
func place(rows []rebuiltRow, row rebuiltRow) []rebuiltRow {
	for i := range rows {
		if rows[i].Purpose == row.Purpose {
			if row.input >= rows[i].input {
				rows[i] = row
			}
			return rows
		}
	}
	return append(rows, row)
}

// remove takes in a tombstone. That of "*" forgets the subject.
func (r *rebuild) remove(id subjectID, p consent.Purpose) {
	s := r.subjects[id]
	if s == nil {
		return
	}
	if p == consent.Root {
		delete(r.subjects, id)
		return
	}
	same := func(row rebuiltRow) bool { return row.Purpose == p }
	s.rows = slices.DeleteFunc(s.rows, same)
	s.ahead = slices.DeleteFunc(s.ahead, same)
}

// finish makes a table of what counts. Rows that are ahead of their "*" row are left
// out: their write was cut short, and their events are read again.
func (r *rebuild) finish(to *restored) {
	t := &Table{subjects: make(map[subjectID]folded, len(r.subjects))}
	to.table = t
	for id, s := range r.subjects {
		to.unfinished += len(s.ahead)
		if s.input == 0 {
			continue
		}
		to.highest = max(to.highest, s.input)
		state := &consent.State{Tenant: id.tenant, Subject: id.subject, Test: id.test, Whole: s.whole}
		slices.SortFunc(s.rows, func(a, b rebuiltRow) int { return strings.Compare(string(a.Purpose), string(b.Purpose)) })
		state.Rows = make([]consent.Row, len(s.rows))
		for i := range s.rows {
			state.Rows[i] = s.rows[i].Row
		}
		t.subjects[id] = folded{state: state, input: s.input}
	}
}

// Commit metadata tells how far the changelog was written when the offset was
// committed, so that a changelog that was cut or made anew is noticed: without
// it, what was folded before would be gone without a sound.

const metadataPrefix = "state="

func commitMetadata(changelog kafka.NextOffset) string {
	return metadataPrefix + strconv.FormatInt(int64(changelog), 10)
}

// changelogEnd reads the metadata; 0 when there is none to be read.
func changelogEnd(metadata string) kafka.NextOffset {
	text, ok := strings.CutPrefix(metadata, metadataPrefix)
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return kafka.NextOffset(n)
}
