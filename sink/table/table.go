package table

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/assent-dev/assent/internal/kafka"
)

// Table is one table of the history and how records fill it.
type Table struct {
	Name    string
	columns []column
	decode  func(*Row) error
}

// The tables.
var (
	Events      = &Table{Name: "events", columns: withPosition(eventColumns), decode: decodeEvent}
	Changes     = &Table{Name: "changes", columns: withPosition(changeColumns), decode: decodeChange}
	Deliveries  = &Table{Name: "deliveries", columns: withPosition(deliveryColumns), decode: decodeDelivery}
	DeadLetters = &Table{Name: "deadletters", columns: withPosition(letterColumns), decode: decodeLetter}
)

// All lists the tables.
func All() []*Table { return []*Table{Events, Changes, Deliveries, DeadLetters} }

// MaxRows bounds an INSERT: above 1,048,449 rows it would be more than one block.
const MaxRows = 1_000_000

const insertTimeout = 30 * time.Second

// Insert writes rows as one block. Whatever the error, the outcome is unknown: insert the
// same rows under the same token again, or count. ErrTooLate says that this one is not
// there; of an earlier one it says nothing.
// before has whole seconds.
func (d *DB) Insert(ctx context.Context, t *Table, rows []Row, token string, before time.Time) error {
	if len(rows) > MaxRows {
		return fmt.Errorf("insert of %d rows, want at most %d: it must be one block", len(rows), MaxRows)
	}
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"async_insert":               0, // 1 by default: would answer before the rows are there
		"insert_deduplicate":         1,
		"insert_deduplication_token": token,
		"max_insert_block_size":      2 * MaxRows,
	}))
	names := make([]string, 0, len(t.columns)+1)
	for _, c := range t.columns {
		names = append(names, c.name)
	}
	names = append(names, "insert_before")
	batch, err := d.conn.PrepareBatch(ctx, "INSERT INTO "+t.Name+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return Explain(err)
	}
	defer batch.Close()
	for i, c := range t.columns {
		if err := c.fill(batch.Column(i), rows); err != nil {
			return fmt.Errorf("fill column %s.%s: %w", t.Name, c.name, err)
		}
	}
	deadline := make([]time.Time, len(rows))
	for i := range deadline {
		deadline[i] = before
	}
	if err := batch.Column(len(t.columns)).Append(deadline); err != nil {
		return fmt.Errorf("fill column %s.insert_before: %w", t.Name, err)
	}
	return insertError(batch.Send())
}

const selectTimeout = 30 * time.Second

// Offsets gives the offsets that the table holds of a partition, from first to
// last. Rows that are there twice are given twice.
func (d *DB) Offsets(ctx context.Context, t *Table, p kafka.Partition, first, last kafka.LastOffset) ([]kafka.LastOffset, error) {
	ctx, cancel := context.WithTimeout(ctx, selectTimeout)
	defer cancel()
	rows, err := d.conn.Query(ctx, "SELECT offset FROM "+t.Name+" WHERE topic = ? AND partition = ? AND offset BETWEEN ? AND ?",
		p.Topic, p.Index, int64(first), int64(last))
	if err != nil {
		return nil, Explain(err)
	}
	defer rows.Close()
	var offsets []kafka.LastOffset
	for rows.Next() {
		var o int64
		if err := rows.Scan(&o); err != nil {
			return nil, Explain(err)
		}
		offsets = append(offsets, kafka.LastOffset(o))
	}
	return offsets, Explain(rows.Err())
}

// Holds reports whether the table has any row of a partition.
func (d *DB) Holds(ctx context.Context, t *Table, p kafka.Partition) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, selectTimeout)
	defer cancel()
	var n uint64
	err := d.conn.QueryRow(ctx, "SELECT count() FROM (SELECT 1 FROM "+t.Name+" WHERE topic = ? AND partition = ? LIMIT 1)", p.Topic, p.Index).Scan(&n)
	return n > 0, Explain(err)
}
