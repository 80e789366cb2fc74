package processor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
	"github.com/assent-dev/assent/schemas"
)

// restoreOptions: a restore reads a whole topic, as fast as it can.
var restoreOptions = kafka.FetchOptions{MaxBytes: 16 << 20, PartitionMaxBytes: 4 << 20}

// maxStoreAge bounds how long a local store may have been away. A row that was
// removed meanwhile left a tombstone, and the broker forgets tombstones after
// delete.retention.ms (24 hours): a store that missed one would bring the row back.
const maxStoreAge = 12 * time.Hour

// freshenAfter is how old the mark of a local store may be whose partition this process
// has, and in which nothing happens.
const freshenAfter = time.Hour

// freshen notes in the local stores of partitions where nothing happens that they are as
// the changelog is: who owns a partition would know otherwise.
func (s *stripe) freshen() error {
	if s.claim.HeartbeatAge() > s.p.config.heartbeatLimit() {
		return nil
	}
	now := s.p.config.now()
	for _, part := range s.parts {
		if !part.isLive() {
			continue
		}
		mark, ok := part.table.rows.Mark()
		if !ok || now.Sub(time.UnixMilli(mark.At)) < freshenAfter {
			continue
		}
		mark.At = now.UnixMilli()
		if err := part.table.rows.Write(nil, mark); err != nil {
			return &storeError{err}
		}
	}
	return nil
}

// restore makes the local stores of the stripe's partitions equal to their
// changelogs: what a store covers already is not read again. The former owner must
// be out, and tails verified. Its error is of the broker, of ctx or of the disk;
// what is wrong with one partition stands in that partition's tail.
func (s *stripe) restore(ctx context.Context, tails map[int32]*tail) error {
	began := time.Now()
	topic := s.p.config.Names.State()
	ends, starts, err := s.bounds(ctx, topic)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	id, err := s.p.client.TopicID(ctx, topic)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	from := make(map[kafka.Partition]kafka.NextOffset, len(ends))
	loads := make(map[kafka.Partition]*load, len(ends))
	for at, part := range s.parts {
		log, t := kafka.Partition{Topic: topic, Index: at.Index}, tails[at.Index]
		if t.alarm != nil {
			delete(ends, log)
			continue
		}
		l := &load{partition: log, partitions: s.partitions, table: part.table}
		l.mark = store.Mark{Topic: id, Producer: t.note.by.ID, Epoch: t.note.by.Epoch}
		l.limited, l.limit = t.committed, t.next
		if mark, ok := part.table.rows.Mark(); ok && s.usable(mark, l, t, starts[log], ends[log]) {
			l.mark = mark
		} else if ok && mark.Changelog > 0 {
			s.p.metrics.discarded.Inc()
			s.log.Info("local store discarded; the changelog is read from its beginning", "partition", at.Index)
		}
		if l.mark.Changelog == 0 {
			if err := part.table.rows.Discard(); err != nil {
				return &storeError{fmt.Errorf("discard: %w", err)}
			}
			l.empty = true
		}
		l.mark.At = s.p.config.now().UnixMilli()
		part.table.forget()
		from[log] = max(kafka.NextOffset(l.mark.Changelog), starts[log])
		loads[log] = l
	}
	faults, err := scan(ctx, s.p.client, from, ends, restoreOptions, func(b *kafka.Batch) error {
		l := loads[b.Partition]
		if err := l.take(b); err != nil {
			return err
		}
		s.progress(l, from[b.Partition], ends[b.Partition])
		return nil
	})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for at, fault := range faults {
		if broken := new(storeError); errors.As(fault, &broken) {
			return fault
		}
		tails[at.Index].alarm = fault
	}
	s.report(loads, time.Since(began))
	return s.settle(loads, tails)
}

// usable tells whether a local store is a prefix of the changelog as it is now.
func (s *stripe) usable(mark store.Mark, l *load, t *tail, start, end kafka.NextOffset) bool {
	covered, input := kafka.NextOffset(mark.Changelog), kafka.NextOffset(mark.Input)
	switch {
	case mark.Topic != l.mark.Topic: // made anew
	case covered > end || covered < start:
	case !t.committed || input > t.next: // it knows what the log does not
	case t.torn && covered > t.note.states.first: // it may hold what was torn
	case input == t.next && markSender(mark) != t.note.by: // it was written by another history
	case s.p.config.now().Sub(time.UnixMilli(mark.At)) > maxStoreAge:
	default:
		return true
	}
	return false
}

func markSender(m store.Mark) kafka.Sender { return kafka.Sender{ID: m.Producer, Epoch: m.Epoch} }

// settle decides where partitions without a commit go on, and holds what was
// restored against what else is known.
func (s *stripe) settle(loads map[kafka.Partition]*load, tails map[int32]*tail) error {
	for log, l := range loads {
		t := tails[log.Index]
		if t.alarm != nil {
			continue
		}
		highest := kafka.NextOffset(l.mark.Input)
		if !t.committed && highest > 0 {
			s.log.Warn("the group has no committed offset, but the changelog has states: folding goes on behind the newest of them",
				"partition", log.Index, "from", int64(highest))
			t.next = highest
		}
		l.mark.Input = max(l.mark.Input, int64(t.next))
		l.mark.Producer, l.mark.Epoch = t.note.by.ID, t.note.by.Epoch
		if err := l.table.rows.Write(nil, l.mark); err != nil {
			return &storeError{err}
		}
		l.table.forget() // whoever read meanwhile keeps nothing of it
		if l.empty {
			l.table.begin()
		}
	}
	return nil
}

// load takes a changelog into a local store.
type load struct {
	partition  kafka.Partition
	partitions int // of consent.state
	table      *Table
	limited    bool // rows at or above limit, an input offset, do not count
	limit      kafka.NextOffset
	mark       store.Mark
	// covered is what the mark may say: never past a row that was ignored. It may
	// have been ignored in error, by a process that read the offset and then slept.
	covered kafka.NextOffset
	empty   bool // nothing is in the store
	batch   []store.Row
	records int
	ignored int
	told    time.Time // when progress was last logged
}

// take loads a batch. A row that cannot be read is an alarm: what it said may have
// been a withdrawal.
func (l *load) take(b *kafka.Batch) error {
	l.batch = l.batch[:0]
	for i := range b.Messages {
		m := &b.Messages[i]
		l.records++
		row, input, err := l.row(m)
		if err != nil {
			return fmt.Errorf("restore %s: %w", m.Position, err)
		}
		if l.limited && input >= l.limit {
			if l.ignored++; l.ignored == 1 {
				l.covered = kafka.NextOffset(m.Offset)
			}
			continue
		}
		l.mark.Input = max(l.mark.Input, int64(input)+1)
		l.batch, l.empty = append(l.batch, row), false
	}
	if l.ignored == 0 {
		l.covered = b.Next
	}
	l.mark.Changelog = int64(l.covered)
	if err := l.table.rows.Load(l.batch, l.mark); err != nil {
		return &storeError{err}
	}
	return nil
}

// row checks a record of the changelog, and gives it as the store holds it, with
// the input offset that it was written for.
func (l *load) row(m *kafka.Message) (store.Row, kafka.NextOffset, error) {
	row := store.Row{Key: m.Key, Value: m.Value}
	if kafka.PartitionFor(subjectKey(m.Key), l.partitions) != l.partition.Index {
		return row, 0, errors.New("the row belongs to another partition: did the number of partitions change?")
	}
	if m.Value == nil {
		input, err := tombstoneInput(m)
		return row, input, err
	}
	glance, err := schemas.GlanceState(m.Value)
	if err != nil {
		return row, 0, err
	}
	if glance.Granted {
		full, err := schemas.DecodeState(m.Value)
		if err != nil {
			return row, 0, err
		}
		row.Expires = expiryMillis(&full.Row)
	}
	return row, kafka.NextOffset(glance.InputOffset), nil
}

// subjectKey is tenant|subject of a state's key; of nonsense, nonsense.
func subjectKey(key []byte) []byte {
	tenant := bytes.IndexByte(key, '|')
	if tenant < 0 {
		return key
	}
	subject := bytes.IndexByte(key[tenant+1:], '|')
	if subject < 0 {
		return key
	}
	return key[:tenant+1+subject]
}

// tombstoneInput reads the header of a tombstone. Without one (whoever wrote it) it
// counts as old.
func tombstoneInput(m *kafka.Message) (kafka.NextOffset, error) {
	if _, _, _, _, err := schemas.ParseStateKey(m.Key); err != nil {
		return 0, err
	}
	for _, h := range m.Headers {
		if h.Key == inputHeader {
			n, err := strconv.ParseInt(string(h.Value), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("header %s is no number", inputHeader)
			}
			return kafka.NextOffset(n), nil
		}
	}
	return 0, nil
}

// progress logs a long restore, every few seconds.
func (s *stripe) progress(l *load, from, end kafka.NextOffset) {
	now := time.Now()
	if l.told.IsZero() {
		l.told = now
	}
	if now.Sub(l.told) < 5*time.Second {
		return
	}
	l.told = now
	next := kafka.NextOffset(l.mark.Changelog)
	s.log.Info("restoring states", "partition", l.partition.Index, "records", l.records,
		"percent", int(100*(next-from)/max(1, end-from)))
}

// report logs and measures a restore.
func (s *stripe) report(loads map[kafka.Partition]*load, took time.Duration) {
	records, ignored := 0, 0
	for _, l := range loads {
		records += l.records
		ignored += l.ignored
	}
	rate := float64(records) / max(took.Seconds(), 1e-6)
	s.p.metrics.restored.Add(float64(records))
	s.p.metrics.restoreTime.Observe(took.Seconds())
	s.p.metrics.restoreRate.Set(rate)
	s.log.Info("states restored", "partitions", len(loads), "records", records,
		"ignored", ignored, "took", took.Round(time.Millisecond), "records_per_second", int(rate))
}
