package chfront

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
)

// BenchmarkInsert sends blocks of 50,000 rows of about 200 bytes, column by column, without compression.
func BenchmarkInsert(b *testing.B) {
	const rows = 50_000
	conn := connect(b)
	exec(b, conn, `CREATE TABLE default.bench_insert (id UUID, subject String, purpose LowCardinality(String), at DateTime64(3, 'UTC'),
		body String) ENGINE = MergeTree ORDER BY (subject, at) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`)
	defer exec(b, conn, "DROP TABLE default.bench_insert SYNC")
	ids, subjects, purposes := make([]uuid.UUID, rows), make([]string, rows), make([]string, rows)
	times, bodies := make([]time.Time, rows), make([]string, rows)
	for i := range rows {
		ids[i], subjects[i], purposes[i] = uuid.New(), fmt.Sprintf("user:%020d", i), fmt.Sprint("purpose.", i%7)
		times[i], bodies[i] = time.UnixMilli(int64(i)), fmt.Sprintf("%0120d", i)
	}
	b.ResetTimer()
	for range b.N {
		batch, err := conn.PrepareBatch(b.Context(), "INSERT INTO default.bench_insert")
		if err != nil {
			b.Fatal(err)
		}
		for i, column := range []any{ids, subjects, purposes, times, bodies} {
			if err := batch.Column(i).Append(column); err != nil {
				b.Fatal(err)
			}
		}
		if err := batch.Send(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkPointQuery reads one row by its key, one query at a time.
func BenchmarkPointQuery(b *testing.B) {
	conn := connect(b)
	exec(b, conn, "CREATE TABLE default.bench_point (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
	defer exec(b, conn, "DROP TABLE default.bench_point SYNC")
	exec(b, conn, "INSERT INTO default.bench_point SELECT number, toString(number) FROM numbers(1000000)")
	b.ResetTimer()
	for i := range b.N {
		var s string
		scan(b, conn, fmt.Sprintf("SELECT s FROM default.bench_point WHERE n = %d", i%1_000_000), &s)
	}
}
