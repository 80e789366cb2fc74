package table

import (
	"bytes"
	"errors"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// Row is one record of a topic on its way into a table.
type Row struct {
	Position   kafka.Position
	RecordedAt time.Time
	Key        []byte
	Record     []byte
	// DecodeError is the code of what is wrong with the record; "" when it decoded.
	DecodeError string

	// One of these, by table; all nil when it did not decode.
	Event    *consent.Event
	Change   *consent.Change
	Delivery *schemas.Delivery
	Letter   *schemas.DeadLetter
}

// Bytes is about what the row takes in memory.
func (r *Row) Bytes() int { return len(r.Key) + 3*len(r.Record) + rowOverhead }

const rowOverhead = 512

// NewRow copies a message and decodes it for the table. It always gives a row:
// a record that does not decode is kept with the code of why.
func (t *Table) NewRow(m *kafka.Message) Row {
	r := Row{Position: m.Position, RecordedAt: m.Time, Key: bytes.Clone(m.Key), Record: bytes.Clone(m.Value)}
	if err := t.decode(&r); err != nil {
		r.Event, r.Change, r.Delivery, r.Letter = nil, nil, nil, nil
		var d *schemas.DecodeError
		r.DecodeError = "undecodable"
		if errors.As(err, &d) {
			r.DecodeError = d.Code
		}
	}
	return r
}

func decodeEvent(r *Row) error {
	e, err := schemas.DecodeEvent(r.Record)
	r.Event = &e
	return err
}

func decodeChange(r *Row) error {
	c, err := schemas.DecodeChange(r.Record)
	r.Change = &c
	return err
}

func decodeDelivery(r *Row) error {
	d, err := schemas.DecodeDelivery(r.Record)
	r.Delivery = &d
	return err
}

func decodeLetter(r *Row) error {
	l, err := schemas.DecodeDeadLetter(r.Record)
	r.Letter = &l
	return err
}
