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

func timeOf(i consent.Instant) *time.Time {
	if i == 0 {
		return nil
	}
	t := i.Time()
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
