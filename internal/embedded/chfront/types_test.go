package chfront

import (
	"errors"
	"fmt"
	"math/big"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

// conformance lists a type, and values that must come back as they went in.
var conformance = []struct {
	typeName string
	values   []any
}{
	{"Int8", []any{int8(-128), int8(0), int8(127)}},
	{"Int16", []any{int16(-32768), int16(32767)}},
	{"Int32", []any{int32(-1 << 31), int32(1<<31 - 1)}},
	{"Int64", []any{int64(-1 << 63), int64(1<<63 - 1)}},
	{"UInt8", []any{uint8(0), uint8(255)}},
	{"UInt16", []any{uint16(0), uint16(65535)}},
	{"UInt32", []any{uint32(0), uint32(1<<32 - 1)}},
	{"UInt64", []any{uint64(0), uint64(1<<64 - 1)}},
	{"Int128", []any{*new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 100))}},
	{"UInt256", []any{*new(big.Int).Lsh(big.NewInt(1), 200)}},
	{"Float32", []any{float32(1.5), float32(-0.25)}},
	{"Float64", []any{1e300, -1e-300}},
	{"Bool", []any{true, false}},
	{"String", []any{"", "plain", "nul\x00byte", "blank\n\nline; DROP TABLE x", "ü€😀", strings.Repeat("x", 70_000)}},
	{"FixedString(4)", []any{"abcd", "a\x00\n\n"}},
	{"UUID", []any{uuid.MustParse("01234567-89ab-cdef-0123-456789abcdef"), uuid.Nil}},
	{"Date", []any{day(2026, 2, 28), day(1970, 1, 1)}},
	{"Date32", []any{day(1925, 1, 1), day(2200, 1, 1)}},
	{"DateTime", []any{time.Unix(1_700_000_000, 0).UTC()}},
	{"DateTime('Europe/Berlin')", []any{time.Unix(1_700_000_000, 0).UTC()}},
	{"DateTime64(3, 'UTC')", []any{time.UnixMilli(1_700_000_000_123).UTC(), time.UnixMilli(-1).UTC()}},
	{"DateTime64(6)", []any{time.UnixMicro(1_700_000_000_123_456).UTC()}},
	{"Enum8('with(draw' = -2, 'grant' = 1)", []any{"grant", "with(draw"}},
	{"Enum16('b' = -1000, 'a' = 1000)", []any{"a", "b"}},
	{"Decimal(9, 2)", []any{decimal.RequireFromString("-1234567.89")}},
	{"Decimal(18, 4)", []any{decimal.RequireFromString("12345678901234.5678")}},
	{"Decimal(38, 10)", []any{decimal.RequireFromString("1234567890123456789012345678.0123456789")}},
	{"IPv4", []any{net.IPv4(192, 0, 2, 1).To4()}},
	{"IPv6", []any{net.ParseIP("2001:db8::1")}},
	{"Array(String)", []any{[]string{}, []string{"a", "", "c"}}},
	{"Array(Array(UInt32))", []any{[][]uint32{}, [][]uint32{{1, 2}, {}, {3}}}},
	{"Array(Nullable(Int64))", []any{[]*int64{}, []*int64{nil, ptr(int64(7))}}},
	{"Array(LowCardinality(String))", []any{[]string{}, []string{"x", "y", "x"}}},
	{"Nullable(String)", []any{(*string)(nil), ptr(""), ptr("set")}},
	{"Nullable(UUID)", []any{(*uuid.UUID)(nil), ptr(uuid.MustParse("01234567-89ab-cdef-0123-456789abcdef"))}},
	{"Nullable(DateTime64(3, 'UTC'))", []any{(*time.Time)(nil), ptr(time.UnixMilli(5).UTC())}},
	{"Nullable(Enum8('a' = 1))", []any{(*string)(nil), ptr("a")}},
	{"Nullable(Decimal(9, 2))", []any{(*decimal.Decimal)(nil), ptr(decimal.RequireFromString("1.25"))}},
	{"LowCardinality(String)", []any{"a", "b", "a", ""}},
	{"LowCardinality(FixedString(2))", []any{"aa", "bb"}},
	{"LowCardinality(Nullable(String))", []any{(*string)(nil), ptr("v"), ptr("v")}},
	{"Map(String, UInt64)", []any{map[string]uint64{}, map[string]uint64{"a": 1, "b": 2}}},
	{"Map(LowCardinality(String), Array(String))", []any{map[string][]string{}, map[string][]string{"k": {"v", "w"}}}},
	{"Tuple(UInt8, String)", []any{[]any{uint8(1), "x"}}},
	{"Tuple(a UInt8, b Nullable(String))", []any{map[string]any{"a": uint8(3), "b": ptr("y")}}},
	{"SimpleAggregateFunction(max, UInt64)", []any{uint64(9)}},
}

func ptr[T any](v T) *T { return &v }

func day(year, month, date int) time.Time {
	return time.Date(year, time.Month(month), date, 0, 0, 0, 0, time.UTC)
}

var compressions = map[string]clickhouse.CompressionMethod{
	"none": clickhouse.CompressionNone, "lz4": clickhouse.CompressionLZ4, "zstd": clickhouse.CompressionZSTD,
}

func TestTypes_ComeBackAsTheyWentInUnderEveryCompression(t *testing.T) {
	for name, method := range compressions {
		conn := connect(t, func(o *clickhouse.Options) { o.Compression = &clickhouse.Compression{Method: method} })
		for i, c := range conformance {
			t.Run(name+"/"+c.typeName, func(t *testing.T) {
				table := fmt.Sprintf("default.types_%s_%d", name, i)
				exec(t, conn, "CREATE TABLE "+table+" (n UInt32, v "+c.typeName+") ENGINE = MergeTree ORDER BY n")
				batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO "+table+" (n, v)")
				if err != nil {
					t.Fatal(err)
				}
				// Twice, so that indexes and offsets are of some length.
				want := append(append([]any{}, c.values...), c.values...)
				for n, v := range want {
					if err := batch.Append(uint32(n), v); err != nil {
						t.Fatal(err)
					}
				}
				if err := batch.Send(); err != nil {
					t.Fatal(err)
				}
				compareColumn(t, conn, "SELECT v FROM "+table+" ORDER BY n", c.typeName, want)
			})
		}
	}
}

func compareColumn(t *testing.T, conn clickhouse.Conn, sql, typeName string, want []any) {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if got := rows.ColumnTypes()[0].DatabaseTypeName(); got != typeName {
		t.Errorf("the column's type is %q, want %q", got, typeName)
	}
	n := 0
	for ; rows.Next(); n++ {
		got := reflect.New(reflect.TypeOf(want[n]))
		if err := rows.Scan(got.Interface()); err != nil {
			t.Fatal(err)
		}
		if !same(got.Elem().Interface(), want[n]) {
			t.Errorf("row %d is %v, want %v", n, got.Elem().Interface(), want[n])
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if n != len(want) {
		t.Errorf("%d rows, want %d", n, len(want))
	}
}

// same compares values whose equal forms differ in memory, such as times in two zones.
func same(a, b any) bool {
	switch a := a.(type) {
	case time.Time:
		return a.Equal(b.(time.Time))
	case *time.Time:
		b := b.(*time.Time)
		return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
	case decimal.Decimal:
		return a.Equal(b.(decimal.Decimal))
	case *decimal.Decimal:
		b := b.(*decimal.Decimal)
		return a == nil && b == nil || a != nil && b != nil && a.Equal(*b)
	case big.Int:
		b := b.(big.Int)
		return a.Cmp(&b) == 0
	case net.IP:
		return a.Equal(b.(net.IP))
	}
	return reflect.DeepEqual(a, b)
}

func TestTypes_AnswersWithoutRowsHaveTheirColumns(t *testing.T) {
	conn := connect(t)
	for _, sql := range []string{
		"SELECT toDateTime('2020-01-01 00:00:00', 'Europe/Berlin') AS v WHERE 0",
		"SHOW TABLES FROM default LIKE 'no such table'",
		"SELECT {x:UInt8} AS v WHERE 0 FORMAT JSON",
	} {
		ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{"x": "1"}))
		rows, err := conn.Query(ctx, sql)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		if columns := rows.Columns(); len(columns) != 1 || rows.Next() {
			t.Errorf("%s: columns %v", sql, columns)
		}
		if err := rows.Close(); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

func TestTypes_DateTimeKeepsItsZone(t *testing.T) {
	conn := connect(t)
	var got time.Time
	scan(t, conn, "SELECT toDateTime('2020-01-01 00:00:00', 'Asia/Tokyo')", &got)
	if got.Location().String() != "Asia/Tokyo" || got.Hour() != 0 {
		t.Errorf("got %v", got)
	}
}

func TestTypes_JSONTravelsAsText(t *testing.T) {
	conn := connect(t)
	var got string
	scan(t, conn, `SELECT '{"a":{"b":1},"c":"x"}'::JSON`, &got)
	if got != `{"a":{"b":1},"c":"x"}` && got != `{"a":{"b":"1"},"c":"x"}` {
		t.Errorf("got %s", got)
	}
}

func TestTypes_AnUnsupportedTypeIsANamedErrorAndTheConnectionGoesOn(t *testing.T) {
	conn := connect(t, func(o *clickhouse.Options) { o.MaxOpenConns = 1 })
	err := conn.Exec(t.Context(), "SELECT sumState(number) FROM numbers(3)")
	var exception *clickhouse.Exception
	if !errors.As(err, &exception) || exception.Code != codeNotImplemented || !strings.Contains(exception.Message, "AggregateFunction") {
		t.Fatalf("got %v", err)
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTypes_MillionsOfRowsStreamThrough(t *testing.T) {
	conn := connect(t)
	rows, err := conn.Query(t.Context(), "SELECT number, toString(number) FROM numbers(3000000)")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var n, sum uint64
	for rows.Next() {
		var v uint64
		var s string
		if err := rows.Scan(&v, &s); err != nil {
			t.Fatal(err)
		}
		n, sum = n+1, sum+v
	}
	if rows.Err() != nil || n != 3_000_000 || sum != 3_000_000*2_999_999/2 {
		t.Errorf("%d rows, sum %d, %v", n, sum, rows.Err())
	}
}
