package processor

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
)

// encoding makes the records of a batch. It uses its memory again: what it gave is
// valid until the next reset.
type encoding struct {
	topics  struct{ events, states, changes string }
	text    []byte // keys, values and headers, one after the other
	headers []kafka.Header
	records []kafka.Record
	rows    []rowWrite
}

func newEncoding(names topic.Names) encoding {
	var x encoding
	x.topics.events, x.topics.states, x.topics.changes = names.Events(), names.State(), names.Changes()
	return x
}

// keptTextBytes bounds what is kept from a batch to the next.
const keptTextBytes = 8 << 20

func (x *encoding) reset() {
	if cap(x.text) > keptTextBytes {
		*x = encoding{topics: x.topics}
	}
	clear(x.headers)
	clear(x.records)
	clear(x.rows)
	x.text, x.headers, x.records, x.rows = x.text[:0], x.headers[:0], x.records[:0], x.rows[:0]
}

// since gives what was appended to the text since from. Where the text was moved to a
// larger place, what was given before stays in the old one.
func (x *encoding) since(from int) []byte { return x.text[from:len(x.text):len(x.text)] }

// value keeps what a codec appended to the text.
func (x *encoding) value(text []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	from := len(x.text)
	x.text = text
	return x.since(from), nil
}

func (x *encoding) key(t consent.Tenant, s consent.Subject) []byte {
	from := len(x.text)
	x.text = consent.AppendKey(x.text, t, s)
	return x.since(from)
}

// events encodes events that the processor derives. They are written as the gateway
// writes its own, under their subjects' keys.
func (x *encoding) events(events []consent.Event) ([]kafka.Record, error) {
	first := len(x.records)
	for i := range events {
		e := &events[i]
		value, err := x.value(schemas.EncodeEvent(x.text, e))
		if err != nil {
			return nil, fmt.Errorf("encode a derived event: %w", err)
		}
		x.records = append(x.records, kafka.Record{Topic: x.topics.events, Key: x.key(e.Tenant, e.Subject), Value: value, Headers: topic.EventHeaders(e, "")})
	}
	return slices.Clip(x.records[first:]), nil
}

// changes encodes the changes of a partition in the order of the fold, without those
// whose id told says are there already.
func (x *encoding) changes(changes []consent.Change, told func(consent.UUID) bool) ([]kafka.Record, error) {
	first := len(x.records)
	for i := range changes {
		c := &changes[i]
		if told(c.ID) {
			continue
		}
		value, err := x.value(schemas.EncodeChange(x.text, c))
		if err != nil {
			return nil, fmt.Errorf("encode a change: %w", err)
		}
		key := x.key(c.Tenant, c.Subject)
		header := len(x.headers)
		x.headers, x.text = topic.AppendChangeHeaders(x.headers, x.text, c)
		x.records = append(x.records, kafka.Record{Topic: x.topics.changes, Key: key, Value: value, Headers: slices.Clip(x.headers[header:])})
	}
	return slices.Clip(x.records[first:]), nil
}

// rowWrite is a row on its way to the changelog and to the local store.
type rowWrite struct {
	record              kafka.Record
	expires, wasExpires int64 // the store's expiry index: what the row says now, and said before
}

// inputHeader is on a tombstone what [schemas.StateRow.InputOffset] is in a row.
const inputHeader = "input_offset"

// states encodes the rows that were written to, tombstones for those that are gone, and
// last of each subject's, where something of it moved, the "*" row.
func (x *encoding) states(moved []*subjectFold) ([]rowWrite, error) {
	first := len(x.rows)
	for _, s := range moved {
		key := x.key(s.id.Tenant, s.id.Subject)
		for i := range s.written {
			w := &s.written[i]
			switch {
			case w.purpose == consent.Root:
			case w.is == nil:
				x.row(s, key, w, nil, kafka.Header{Key: inputHeader, Value: strconv.AppendInt(nil, s.lastInput(), 10)})
			default:
				if err := x.stateRow(s, key, w, nil); err != nil {
					return nil, err
				}
			}
		}
		if s.rootMoved() {
			root := s.root()
			if err := x.stateRow(s, key, &root, &s.state.Whole); err != nil {
				return nil, err
			}
		}
	}
	return slices.Clip(x.rows[first:]), nil
}

// stateRow encodes a row with its value.
func (x *encoding) stateRow(s *subjectFold, key []byte, w *writtenRow, whole *consent.Whole) error {
	value, err := x.value(schemas.EncodeState(x.text, &schemas.StateRow{
		Tenant: s.id.Tenant, Subject: s.id.Subject, Test: s.id.Test, Row: *w.is, Whole: whole, InputOffset: s.lastInput(),
	}))
	if err != nil {
		return fmt.Errorf("encode a state: %w", err)
	}
	x.row(s, key, w, value)
	return nil
}

func (x *encoding) row(s *subjectFold, subject []byte, w *writtenRow, value []byte, headers ...kafka.Header) {
	from := len(x.text)
	x.text = schemas.AppendStateKey(x.text, s.id.Tenant, s.id.Subject, w.purpose, s.id.Test)
	x.rows = append(x.rows, rowWrite{
		record:  kafka.Record{Topic: x.topics.states, Key: x.since(from), PartitionKey: subject, Value: value, Headers: headers},
		expires: expiryMillis(w.is), wasExpires: w.wasExpires,
	})
}

// expiryMillis is when the grant that a row announces runs out; 0 = never.
func expiryMillis(row *consent.Row) int64 {
	if row == nil {
		return 0
	}
	at, ok := consent.Expiry(row)
	if !ok {
		return 0
	}
	return int64(at)
}
