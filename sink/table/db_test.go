package table

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/goleak"

	"github.com/assent-dev/assent/internal/kafka"
)

func TestOpen_RefusesWhatIsNoDSNAndNeverShowsThePassword(t *testing.T) {
	for _, dsn := range []string{
		"", "geheim", "clickhouse://", "clickhouse://u:geheim@127.0.0.1:9000", "clickhouse://u:geheim@127.0.0.1:9000/", "clickhouse://u:geheim@%zz/d",
		"clickhouse://u:geheim@127.0.0.1:port/d", "clickhouse://u:geheim@[::1/d", "clickhouse://u:geheim@127.0.0.1:9000/d?dial_timeout=geheim",
		"http://u:geheim@127.0.0.1:8123/d", "clickhouse://u:geh\x7feim@127.0.0.1:9000/d", "postgres://u:geheim@127.0.0.1:9000/d",
	} {
		db, err := Open(dsn)
		if err == nil {
			_ = db.Close()
			t.Errorf("%q is taken", strings.ReplaceAll(dsn, "geheim", "…"))
			continue
		}
		if strings.Contains(err.Error(), "geheim") || strings.Contains(err.Error(), "eim@") || !strings.Contains(err.Error(), "clickhouse://user:password@host:9000/database") {
			t.Errorf("%v", err)
		}
	}
}

func TestPing_NamesNoPasswordWhereNobodyAnswers(t *testing.T) {
	db, err := Open("clickhouse://u:geheim@127.0.0.1:1/d")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "geheim") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}

func TestDB_LeavesNoGoroutineBehindClose(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	db, err := Open(addressed(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := db.Insert(t.Context(), Events, eventRows(t, 5), "t", later()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_ = db.Close() // twice is fine
}

func TestOnLoopback_IsTrueWhenEveryAddressIs(t *testing.T) {
	for list, want := range map[string]bool{
		"127.0.0.1:9000": true, "localhost:9000": true, "[::1]:9000": true, "127.0.0.1:1 127.9.9.9:2": true,
		"10.0.0.1:9000": false, "clickhouse:9000": false, "127.0.0.1:1 db:2": false, "127.0.0.1": false, "localhost.example:9000": false,
	} {
		if got := onLoopback(strings.Fields(list)); got != want {
			t.Errorf("%s: %t", list, got)
		}
	}
}

func TestExplain_SaysWhatToDo(t *testing.T) {
	for code, hint := range map[int32]string{
		codeUnknownTable: "run `assent migrate`", codeNoSuchColumn: "run `assent migrate`", codeUnknownIdentifier: "run `assent migrate`",
		codeUnknownDatabase: "create the database", codeAuthentication: "ASSENT_CLICKHOUSE_DSN", codeUnknownUser: "ASSENT_CLICKHOUSE_DSN",
		codeNotEnoughPrivilege: "needs INSERT and SELECT", 241: "",
	} {
		from := &clickhouse.Exception{Code: code, Message: "m"}
		err := Explain(fmt.Errorf("wrapped: %w", from))
		var e *clickhouse.Exception
		if !errors.As(err, &e) || e.Code != code || !strings.Contains(err.Error(), hint) || hint == "" && strings.Contains(err.Error(), ";") {
			t.Errorf("%d: %v", code, err)
		}
	}
	if err := Explain(nil); err != nil {
		t.Errorf("nothing becomes %v", err)
	}
	if err := Explain(io.ErrUnexpectedEOF); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "ClickHouse: ") {
		t.Errorf("got %v", err)
	}
}

// The engine's own codes lead to the hints.
func TestExplain_KnowsTheEnginesCodes(t *testing.T) {
	db := open(t)
	for query, hint := range map[string]string{
		"SELECT 1 FROM nothing":        "run `assent migrate`",
		"SELECT nothing":               "run `assent migrate`",
		"SELECT 1 FROM nothing.events": "create the database",
	} {
		if err := Explain(db.conn.Exec(t.Context(), query)); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v", query, err)
		}
	}
	if err := db.conn.Exec(t.Context(), "CREATE TABLE events (x Int8) ENGINE = MergeTree ORDER BY x"); err != nil {
		t.Fatal(err)
	}
	if err := db.Insert(t.Context(), Events, eventRows(t, 1), "t", later()); err == nil || !strings.Contains(err.Error(), "run `assent migrate`") {
		t.Errorf("a table without our columns: %v", err)
	}
}

func TestInsert_RefusesMoreThanOneBlock(t *testing.T) {
	db := open(t)
	if err := db.Insert(t.Context(), Events, make([]Row, MaxRows+1), "t", later()); err == nil || !strings.Contains(err.Error(), "one block") {
		t.Errorf("got %v", err)
	}
}

func TestInsert_OfTwoMonthsIsOnceUnderItsToken(t *testing.T) {
	db, rows := migrated(t), eventRows(t, 20)
	for i := range rows {
		rows[i].RecordedAt = time.Date(2026, time.Month(1+i%2), 1, 0, 0, 0, 0, time.UTC)
	}
	for range 3 {
		if err := db.Insert(t.Context(), Events, rows, "months", later()); err != nil {
			t.Fatal(err)
		}
	}
	if offsets, err := db.Offsets(t.Context(), Events, part, 0, 100); err != nil || len(offsets) != len(rows) {
		t.Errorf("%d offsets, %v", len(offsets), err)
	}
}

func TestInsert_OneAfterItsDeadlineLeavesTheOthersAlone(t *testing.T) {
	db, rows := migrated(t), eventRows(t, 6)
	if err := db.Insert(t.Context(), Events, rows[:3], "in-time", later()); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Second).Truncate(time.Second)
	if err := db.Insert(t.Context(), Events, rows[3:], "late", past); !errors.Is(err, ErrTooLate) {
		t.Fatalf("got %v", err)
	}
	// A token that was refused is not used up.
	if err := db.Insert(t.Context(), Events, rows[3:], "late", later()); err != nil {
		t.Fatal(err)
	}
	// A token that was taken answers for its block for ever, whatever the deadline says.
	if err := db.Insert(t.Context(), Events, rows[:3], "in-time", later()); err != nil {
		t.Fatal(err)
	}
	offsets, err := db.Offsets(t.Context(), Events, part, 0, 100)
	if err != nil || len(offsets) != 6 {
		t.Errorf("%v, %v", offsets, err)
	}
}

func TestOffsets_AreOfOnePartitionAndTheRangeWithItsEnds(t *testing.T) {
	db := migrated(t)
	var rows []Row
	for _, topic := range []string{"consent.events", "other'topic"} {
		for index := range int32(2) {
			for offset := range kafka.LastOffset(10) {
				r := eventRows(t, 1)[0]
				r.Position = kafka.Position{Partition: kafka.Partition{Topic: topic, Index: index}, Offset: offset}
				rows = append(rows, r)
			}
		}
	}
	if err := db.Insert(t.Context(), Events, rows, "t", later()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []kafka.Partition{{Topic: "consent.events", Index: 1}, {Topic: "other'topic", Index: 0}} {
		got, err := db.Offsets(t.Context(), Events, p, 3, 5)
		if err != nil || len(got) != 3 {
			t.Errorf("%s: %v, %v", p, got, err)
		}
		for _, o := range got {
			if o < 3 || o > 5 {
				t.Errorf("%s: offset %d", p, o)
			}
		}
		if holds, err := db.Holds(t.Context(), Events, p); err != nil || !holds {
			t.Errorf("%s: holds %t, %v", p, holds, err)
		}
	}
	for _, p := range []kafka.Partition{{Topic: "consent.events", Index: 2}, {Topic: "consent.event", Index: 0}} {
		if holds, err := db.Holds(t.Context(), Events, p); err != nil || holds {
			t.Errorf("%s: holds %t, %v", p, holds, err)
		}
	}
}

func TestRecordedAt_OutsideWhatAColumnHoldsIsItsBound(t *testing.T) {
	for at, want := range map[time.Time]time.Time{
		{}: earliest, time.UnixMilli(-1): time.UnixMilli(-1),
		time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC): latest, latest.Add(time.Millisecond): latest, latest: latest,
	} {
		if got := held(at); !got.Equal(want) {
			t.Errorf("%s becomes %s", at, got)
		}
	}
}
