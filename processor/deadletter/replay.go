package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
)

const (
	// What is published before it is marked: what a crash in between repeats.
	batchLetters = 200
	batchBytes   = 900_000
	// maxRecordBytes bounds one record; topics take 4 MiB (package topic).
	maxRecordBytes = 4<<20 - 1024
	// recordOverhead is counted for each header.
	recordOverhead = 32
)

// recordLog writes records; Produce returns when all in-sync replicas have them.
type recordLog interface {
	Produce(ctx context.Context, records ...kafka.Record) ([]kafka.Position, error)
}

// replay is one run of a plan. Its loop owns it.
type replay struct {
	client  *kafka.Client
	names   topic.Names
	records recordLog
	now     func() time.Time
	told    func(Step)
	force   bool
	open    map[queue]kafka.Position // keys with a letter that could not be published
	batch   []pending
	bytes   int
	// crashed is for tests: an error after "publish" or "mark" ends the run there.
	crashed func(step string) error
}

// pending is a letter of the batch with the record that is made of it.
type pending struct {
	step   *Step
	letter Letter
	record kafka.Record
}

// Replay carries a plan out, and calls told with each step once its outcome is
// certain: published and marked, or not. An error ends it; what was told is done,
// and a new survey and plan go on behind it.
func Replay(ctx context.Context, client *kafka.Client, names topic.Names, plan Plan, told func(Step)) error {
	producer := client.NewProducer(kafka.ProducerOptions{MaxBatchBytes: 4 << 20})
	defer producer.Close() //nolint:errcheck // what it wrote was acknowledged
	r := &replay{client: client, names: names, records: producer, now: time.Now, told: told}
	return r.run(ctx, plan)
}

func (r *replay) run(ctx context.Context, plan Plan) error {
	r.force, r.open = plan.force, map[queue]kafka.Position{}
	steps := map[kafka.Position]*Step{}
	var load []Entry
	for i := range plan.Steps {
		s := &plan.Steps[i]
		if s.Verdict != Publish {
			r.told(*s)
			continue
		}
		steps[s.Letter] = s
		load = append(load, s.Entry)
	}
	for l, err := range Letters(ctx, r.client, load) { // step 3
		if err != nil {
			return err
		}
		if err := r.take(ctx, steps[l.Position], l); err != nil {
			return err
		}
	}
	return r.flush(ctx)
}

// take puts a letter into the batch, or tells why it is not published.
func (r *replay) take(ctx context.Context, s *Step, l Letter) error {
	if before, held := r.open[s.queue]; held {
		s.Behind = &before
		if !r.force {
			s.Verdict, s.Why = Held, fmt.Sprintf("the letter at %s is of the same key, comes first and could not be published", before)
			r.told(*s)
			return nil
		}
	}
	record, why, err := r.again(ctx, &l)
	if err != nil {
		return err
	}
	if why != "" {
		stays(r.open, &s.Entry)
		r.told(s.impossible(why))
		return nil
	}
	size := len(record.Key) + len(record.Value)
	if len(r.batch) > 0 && (len(r.batch) == batchLetters || r.bytes+size > batchBytes) {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.batch = append(r.batch, pending{s, l, record})
	r.bytes += size
	return nil
}

// flush publishes the batch and marks its letters: steps 4 and 5.
func (r *replay) flush(ctx context.Context) error {
	if len(r.batch) == 0 {
		return nil
	}
	records := make([]kafka.Record, len(r.batch))
	for i := range r.batch {
		records[i] = r.batch[i].record
	}
	// A batch that fails is not repeated here record by record: that would change the
	// order of a key. The next replay repeats it whole.
	positions, err := r.records.Produce(ctx, records...)
	if err != nil {
		return fmt.Errorf("publish %d letters again, the first at %s: %w", len(records), r.batch[0].letter.Position, err)
	}
	if err := r.crash("publish"); err != nil {
		return err
	}
	at := consent.InstantOf(r.now())
	for i := range r.batch {
		if records[i], err = mark(r.names.DeadLetters(), &r.batch[i].letter, positions[i], at); err != nil {
			return err
		}
	}
	if _, err := r.records.Produce(ctx, records...); err != nil {
		return fmt.Errorf("mark %d letters, the first at %s: %w", len(records), r.batch[0].letter.Position, err)
	}
	for i, b := range r.batch {
		b.step.Verdict, b.step.To = Published, positions[i]
		r.told(*b.step)
	}
	r.batch, r.bytes = nil, 0
	return r.crash("mark")
}

func (r *replay) crash(step string) error {
	if r.crashed == nil {
		return nil
	}
	return r.crashed(step)
}

// again makes the record that is published for a letter, or says why there is none.
func (r *replay) again(ctx context.Context, l *Letter) (kafka.Record, string, error) {
	root, isReplay := l.ReplayOf()
	if !isReplay {
		root = l.Origin()
	}
	key, value := l.Key, l.Value
	headers := make([]kafka.Header, 0, len(l.Headers)+1)
	for _, h := range l.Headers {
		headers = append(headers, kafka.Header{Key: h.Key, Value: h.Value})
	}
	if l.Partial {
		whole, found, err := original(ctx, r.client, l.Origin())
		if err != nil {
			return kafka.Record{}, "", err
		}
		if !found {
			return kafka.Record{}, fmt.Sprintf("the letter holds a part of the record, and the whole is no longer at %s: ask its sender for it", l.Origin()), nil
		}
		key, value, headers = whole.Key, whole.Value, whole.Headers
	}
	headers = slices.DeleteFunc(headers, func(h kafka.Header) bool { return h.Key == HeaderReplayOf })
	headers = append(headers, kafka.Header{Key: HeaderReplayOf, Value: []byte(root.String())})
	value = renew(value, root, r.lay(l))
	size := len(key) + len(value)
	for _, h := range headers {
		size += len(h.Key) + len(h.Value) + recordOverhead
	}
	if size > maxRecordBytes {
		return kafka.Record{}, fmt.Sprintf("the record has %d bytes, and consent.intake takes %d", size, maxRecordBytes), nil
	}
	return kafka.Record{Topic: r.names.Intake(), Key: key, Value: value, Headers: headers}, "", nil
}

// lay is how long the letter lay; 0 where it does not say since when.
func (r *replay) lay(l *Letter) time.Duration {
	if l.At == 0 {
		return 0
	}
	return max(0, consent.InstantOf(r.now()).Sub(l.At))
}

// renew sets anew what a sender sets anew that tries again. What is no event, or
// needs nothing, stays byte for byte as it is.
func renew(value []byte, root kafka.Position, lay time.Duration) []byte {
	e, err := schemas.DecodeIntakeEvent(value)
	if err != nil || (!e.ID.IsZero() && e.SentAt == 0) {
		return value
	}
	if e.ID.IsZero() { // as the gateway derives it from the position of an intake record
		e.ID = consent.DeriveUUID(consent.NamespaceEvent, []byte("position\x00"+root.String()))
	}
	if e.SentAt != 0 {
		e.SentAt = e.SentAt.Add(lay)
	}
	again, err := schemas.EncodeIntakeEvent(nil, &e)
	if err != nil { // a time beyond the year 9999
		return value
	}
	return again
}

// original reads the record at a position; false when it is no longer there.
func original(ctx context.Context, client *kafka.Client, at kafka.Position) (kafka.Message, bool, error) {
	p := at.Partition
	log, err := spanOf(ctx, client, p)
	if err != nil || !log.has(at.Offset) {
		return kafka.Message{}, false, err
	}
	var found kafka.Message
	ok := false
	err = scan(ctx, client, p, kafka.NextOffset(at.Offset), at.Offset.Next(), func(m *kafka.Message) (kafka.NextOffset, error) {
		if ok = m.Offset == at.Offset; ok {
			found = kafka.Message{Position: m.Position, Key: bytes.Clone(m.Key), Value: bytes.Clone(m.Value), Time: m.Time}
			for _, h := range m.Headers {
				found.Headers = append(found.Headers, kafka.Header{Key: h.Key, Value: bytes.Clone(h.Value)})
			}
		}
		return m.Offset.Next(), nil
	})
	if gone := new(kafka.OffsetOutOfRangeError); errors.As(err, &gone) {
		return kafka.Message{}, false, nil
	}
	return found, ok, err
}
