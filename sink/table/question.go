package table

import (
	"context"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/assent-dev/assent/consent"
)

// Rows is the answer to a question. Close it.
type Rows struct {
	rows driver.Rows
	hide func(error) error
}

// Select runs a question with named parameters, @name in the text; the client
// quotes them. A parameter that is a [consent.Subject] stands in no error's text,
// though ClickHouse puts the whole question there.
func (d *DB) Select(ctx context.Context, query string, parameters map[string]any) (*Rows, error) {
	var subjects []string
	named := make([]any, 0, len(parameters))
	for name, value := range parameters {
		if s, is := value.(consent.Subject); is {
			subjects = append(subjects, string(s))
			value = string(s) // its String is redacted
		}
		named = append(named, clickhouse.Named(name, value))
	}
	hide := func(err error) error { return hiding(Explain(err), subjects) }
	rows, err := d.conn.Query(ctx, query, named...)
	if err != nil {
		return nil, hide(err)
	}
	return &Rows{rows, hide}, nil
}

// Next goes to the next row; false at the end, or at an error.
func (r *Rows) Next() bool { return r.rows.Next() }

// Scan reads the row's columns.
func (r *Rows) Scan(into ...any) error { return r.hide(r.rows.Scan(into...)) }

// Err is what ended the rows early.
func (r *Rows) Err() error { return r.hide(r.rows.Err()) }

// Close gives the connection back; twice is fine.
func (r *Rows) Close() error { return r.hide(r.rows.Close()) }

// hiddenError has a text without subjects. Only its text: print nothing of what
// it wraps.
type hiddenError struct {
	error
	text string
}

func (e *hiddenError) Error() string { return e.text }
func (e *hiddenError) Unwrap() error { return e.error }

var quoting = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

func hiding(err error, subjects []string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, s := range subjects {
		for _, form := range []string{s, quoting.Replace(s)} {
			if form != "" {
				text = strings.ReplaceAll(text, form, "(subject)")
			}
		}
	}
	return &hiddenError{err, text}
}
