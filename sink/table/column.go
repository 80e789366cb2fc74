package table

import (
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/assent-dev/assent/consent"
)

// column fills one column of a table from rows.
type column struct {
	name  string
	empty any // a slice of the column's kind; tells tests what it takes
	fill  func(into driver.BatchColumn, rows []Row) error
}

// of makes a column of T's. get is asked for each row.
func of[T any](name string, get func(*Row) T) column {
	return column{name: name, empty: []T(nil), fill: func(into driver.BatchColumn, rows []Row) error {
		values := make([]T, len(rows))
		for i := range rows {
			values[i] = get(&rows[i])
		}
		return into.Append(values)
	}}
}

// from is of for columns that come from the decoded record: a row that did not
// decode has their zero value.
func from[T, R any](record func(*Row) *R, name string, get func(*R) T) column {
	return of(name, func(r *Row) (v T) {
		if x := record(r); x != nil {
			v = get(x)
		}
		return v
	})
}

// The times that columns hold. A record can have one up to the year 9999; the
// driver counts nanoseconds, and would make another century of it without a word.
// What is outside becomes the bound, and record has it as it was.
var (
	earliest = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(2262, 4, 11, 23, 47, 16, 0, time.UTC)
)

func held(t time.Time) time.Time {
	switch {
	case t.Before(earliest):
		return earliest
	case t.After(latest):
		return latest
	}
	return t
}

func timeOf(i consent.Instant) *time.Time {
	if i == 0 {
		return nil
	}
	t := held(i.Time())
	return &t
}

func uuidOf(u consent.UUID) *uuid.UUID {
	if u.IsZero() {
		return nil
	}
	v := uuid.UUID(u)
	return &v
}

func boolOf(t consent.Tri) *bool {
	if t == consent.Undecided {
		return nil
	}
	v := t == consent.Allowed
	return &v
}

// word is an enum's name, and "" for unknown: absent.
func word[E interface {
	comparable
	String() string
}](e E) string {
	var zero E
	if e == zero {
		return ""
	}
	return e.String()
}
