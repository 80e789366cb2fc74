package chfront

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

func codeOf(err error) int32 {
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		return exception.Code
	}
	return -1
}

func insertNumbers(ctx context.Context, conn driver.Conn, table string, from, count uint64) error {
	batch, err := conn.PrepareBatch(ctx, "INSERT INTO "+table+" (n)")
	if err != nil {
		return err
	}
	defer batch.Close()
	numbers := make([]uint64, count)
	for i := range numbers {
		numbers[i] = from + uint64(i)
	}
	if err := batch.Column(0).Append(numbers); err != nil {
		return err
	}
	return batch.Send()
}

const dedupTable = ` (n UInt64, month UInt8 MATERIALIZED n % 3, CONSTRAINT small CHECK n < 1000000)
	ENGINE = MergeTree PARTITION BY month ORDER BY n
	SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 1000`

func TestInsert_TheSameTokenTwiceIsOnce(t *testing.T) {
	conn := connect(t)
	exec(t, conn, "CREATE TABLE default.tokens"+dedupTable)
	with := func(token string) context.Context {
		return clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{
			"insert_deduplication_token": token, "async_insert": 0,
		}))
	}
	for _, token := range []string{"a", "a", "b", "a"} {
		if err := insertNumbers(with(token), conn, "default.tokens", 0, 100); err != nil {
			t.Fatal(err)
		}
	}
	var count uint64
	scan(t, conn, "SELECT count() FROM default.tokens", &count)
	if count != 200 {
		t.Errorf("%d rows, want 200: two tokens of 100 rows", count)
	}
}

func TestInsert_SettingsOfOneQueryDoNotReachTheNext(t *testing.T) {
	conn := connect(t, func(o *clickhouse.Options) { o.MaxOpenConns = 1 })
	read := func(ctx context.Context) (threads, async, readonly string) {
		err := conn.QueryRow(ctx, `SELECT getSetting('max_threads')::String, getSetting('async_insert')::String,
			getSetting('readonly')::String`).Scan(&threads, &async, &readonly)
		if err != nil {
			t.Fatal(err)
		}
		return threads, async, readonly
	}
	before, asyncBefore, _ := read(t.Context())
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{
		"max_threads": 7, "async_insert": 1, "readonly": 1,
	}))
	if threads, async, readonly := read(ctx); threads != "7" || async != "true" || readonly != "1" {
		t.Errorf("inside the query: %s, %s, %s", threads, async, readonly)
	}
	if threads, async, readonly := read(t.Context()); threads != before || async != asyncBefore || async != "false" || readonly != "0" {
		t.Errorf("after the query: %s, %s, %s", threads, async, readonly)
	}
}

func TestInsert_AFailedOneLeavesTheConnectionInOrder(t *testing.T) {
	conn := connect(t, func(o *clickhouse.Options) { o.MaxOpenConns = 1 })
	exec(t, conn, "CREATE TABLE default.failing"+dedupTable)
	err := insertNumbers(t.Context(), conn, "default.failing", 999_990, 20)
	if codeOf(err) != 469 {
		t.Fatalf("a violated constraint is %v, want code 469", err)
	}
	if err := insertNumbers(t.Context(), conn, "default.failing", 1, 20); err != nil {
		t.Fatal(err)
	}
	var count uint64
	scan(t, conn, "SELECT count() FROM default.failing", &count)
	if count != 20 {
		t.Errorf("%d rows, want 20", count)
	}
}

func TestInsert_FormsThatAreKnown(t *testing.T) {
	conn := connect(t)
	exec(t, conn, "CREATE TABLE default.forms (n UInt64, s String DEFAULT 'd', e String EPHEMERAL, a String ALIAS s) ENGINE = MergeTree ORDER BY n")
	exec(t, conn, "INSERT INTO default.forms VALUES (1, 'a;\n\nb'), (2, 'x')")
	exec(t, conn, "INSERT INTO default.forms (n) SELECT number + 3 FROM numbers(2)")
	exec(t, conn, "INSERT INTO TABLE default.forms (* EXCEPT s) FORMAT Values (5)")
	ctx := clickhouse.Context(t.Context(), clickhouse.WithParameters(clickhouse.Parameters{"n": "6"}))
	if err := conn.Exec(ctx, "INSERT INTO default.forms (n) SELECT {n:UInt64}"); err != nil {
		t.Fatal(err)
	}
	if err := insertNumbers(t.Context(), conn, "default.forms", 7, 2); err != nil {
		t.Fatal(err)
	}
	var count, sum uint64
	scan(t, conn, "SELECT count(), sum(n) FROM default.forms WHERE s IN ('d', 'x', 'a;\n\nb')", &count, &sum)
	if count != 8 || sum != 36 {
		t.Errorf("%d rows with sum %d, want 8 and 36", count, sum)
	}
}

func TestQuery_BindsParametersOnBothSides(t *testing.T) {
	conn := connect(t)
	value := "it's a \\ tab\t, line\n, nul\x00 and ü"
	var got string
	row := conn.QueryRow(t.Context(), "SELECT {v:String}", clickhouse.Named("v", value))
	if err := row.Scan(&got); err != nil || got != value {
		t.Errorf("server side: %q, %v", got, err)
	}
	row = conn.QueryRow(t.Context(), "SELECT ?", "it's a \\ tab")
	if err := row.Scan(&got); err != nil || got != "it's a \\ tab" {
		t.Errorf("client side: %q, %v", got, err)
	}
	var sum uint64
	row = conn.QueryRow(t.Context(), "SELECT arraySum({a:Array(UInt64)}) + {b:UInt8}",
		clickhouse.Named("a", []uint64{1, 2}), clickhouse.Named("b", 3))
	if err := row.Scan(&sum); err != nil || sum != 6 {
		t.Errorf("array: %d, %v", sum, err)
	}
	row = conn.QueryRow(t.Context(), "SELECT count() FROM numbers(3) WHERE {empty:String} = ''", clickhouse.Named("empty", ""))
	if err := row.Scan(&sum); err != nil || sum != 3 {
		t.Errorf("empty value: %d, %v", sum, err)
	}
}

func TestQuery_ExceptionsKeepCodeAndMessage(t *testing.T) {
	conn := connect(t)
	for sql, want := range map[string]struct {
		code int32
		text string
	}{
		"SELEC 1":            {62, "Syntax error"},
		"":                   {62, "empty"},
		"SELECT 1; SELECT 2": {62, "2 statements"},
		"CREATE TABLE default.z (a Int8) ENGINE=Memory; garbage here": {62, ""},
		"SELECT * FROM default.missing":                               {60, "missing"},
		"SELECT * FROM missing.t":                                     {81, "missing"},
		"SELECT nope FROM system.one":                                 {47, "nope"},
		"SELECT throwIf(1, 'said by a test')":                         {395, "said by a test"},
		"SELECT 1 SETTINGS no_such_setting = 1":                       {115, "no_such_setting"},
		"INSERT INTO default.missing VALUES (1)":                      {60, "missing"},
		"SELECT toUInt8('x')":                                         {6, "Cannot parse"},
	} {
		err := conn.Exec(t.Context(), sql)
		var exception *clickhouse.Exception
		if !errors.As(err, &exception) {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		if exception.Code != want.code || !strings.Contains(exception.Message, want.text) ||
			exception.Name != "DB::Exception" || strings.Contains(exception.Message, "DB::Exception") {
			t.Errorf("%s: %+v, want code %d with %q", sql, exception, want.code, want.text)
		}
	}
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"no_such_setting": 1}))
	if err := conn.Exec(ctx, "SELECT 1"); codeOf(err) != 115 {
		t.Errorf("an unknown setting is %v", err)
	}
	var tables uint64
	scan(t, conn, "SELECT count() FROM system.tables WHERE name = 'z'", &tables)
	if tables != 0 {
		t.Error("a statement ran although the text as a whole does not parse")
	}
	if _, err := conn.PrepareBatch(t.Context(), "INSERT INTO default.missing (n)"); codeOf(err) != 60 {
		t.Errorf("a batch into a missing table is %v", err)
	}
}

// waitForNoQuery waits until no statement whose text holds mark is running.
func waitForNoQuery(t *testing.T, conn driver.Conn, mark string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		var running uint64
		scan(t, conn, "SELECT count() FROM system.processes WHERE position(query, '"+mark+"') > 0 AND position(query, 'processes') = 0", &running)
		if running == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the query still runs 10 s after its client left")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestQuery_CancelStopsTheEngine(t *testing.T) {
	conn := connect(t)
	for _, sql := range []string{
		"SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number), 'cancelled_a')", // one long fetch
		"SELECT number, 'cancelled_b' FROM numbers(1000000000000)",                                      // endless blocks
		"INSERT INTO FUNCTION null('n UInt64') SELECT 1",                                                // refused at once
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		started := time.Now()
		rows, err := conn.Query(ctx, sql)
		if err == nil {
			for rows.Next() {
			}
			err = rows.Err()
			_ = rows.Close()
		}
		cancel()
		if err == nil || time.Since(started) > 10*time.Second {
			t.Errorf("%s: %v after %s", sql, err, time.Since(started))
		}
	}
	waitForNoQuery(t, conn, "cancelled_a")
	waitForNoQuery(t, conn, "cancelled_b")
}

func TestQuery_ATimeLimitIsTheEnginesException(t *testing.T) {
	conn := connect(t)
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"max_execution_time": 1}))
	err := conn.Exec(ctx, "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))")
	if codeOf(err) != 159 {
		t.Errorf("got %v, want code 159", err)
	}
}

func TestQuery_ReportsProgressAndProfile(t *testing.T) {
	conn := connect(t)
	var rows, profiled uint64
	ctx := clickhouse.Context(t.Context(),
		clickhouse.WithProgress(func(p *clickhouse.Progress) { rows += p.Rows }),
		clickhouse.WithProfileInfo(func(p *clickhouse.ProfileInfo) { profiled += p.Rows }))
	var sum uint64
	if err := conn.QueryRow(ctx, "SELECT sum(number) FROM numbers(100000)").Scan(&sum); err != nil {
		t.Fatal(err)
	}
	if rows != 100_000 || profiled != 1 {
		t.Errorf("progress %d rows, profile %d", rows, profiled)
	}
}

func TestServer_ServesManyConnectionsAtOnce(t *testing.T) {
	const clients = 40
	conn := connect(t, func(o *clickhouse.Options) { o.MaxOpenConns, o.MaxIdleConns = clients, clients })
	exec(t, conn, "CREATE TABLE default.crowd (n UInt64) ENGINE = MergeTree ORDER BY n")
	var wg sync.WaitGroup
	var atOnce sync.WaitGroup
	atOnce.Add(clients)
	for i := range clients {
		wg.Go(func() {
			batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO default.crowd")
			atOnce.Done()
			if err != nil {
				t.Error(err)
				return
			}
			atOnce.Wait() // all forty hold a connection now
			for j := range 50 {
				if err := batch.Append(uint64(i*50 + j)); err != nil {
					t.Error(err)
				}
			}
			if err := batch.Send(); err != nil {
				t.Error(err)
			}
			var n uint64
			if err := conn.QueryRow(t.Context(), "SELECT count() FROM default.crowd WHERE intDiv(n, 50) = ?", i).Scan(&n); err != nil || n != 50 {
				t.Errorf("client %d reads %d of its rows, %v", i, n, err)
			}
		})
	}
	wg.Wait()
}

func TestServer_TellsTheConnectionTooMany(t *testing.T) {
	waitForConnections(t, 0)
	var open []net.Conn
	// Connections count from their accept on, before any hello.
	for range 64 {
		c, err := net.Dial("tcp", testAddr)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	err := connect(t).Ping(t.Context())
	if codeOf(err) != codeTooMany {
		t.Errorf("got %v, want code %d", err, codeTooMany)
	}
	for _, c := range open {
		_ = c.Close()
	}
	waitForConnections(t, 0)
}

// waitForConnections waits until the server has at most that many connections.
func waitForConnections(t *testing.T, most int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		testServer.mu.Lock()
		count := testServer.count
		testServer.mu.Unlock()
		if count <= most {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections after 10 s, want %d", count, most)
		}
	}
}

func TestServer_LetsNobodyInWithoutThePassword(t *testing.T) {
	for _, auth := range []clickhouse.Auth{
		{Username: "default"}, {Username: "default", Password: "wrong"}, {Username: "other", Password: testPassword},
	} {
		err := connect(t, func(o *clickhouse.Options) { o.Auth = auth }).Ping(t.Context())
		if codeOf(err) != codeAuthentication {
			t.Errorf("%+v: %v", auth, err)
		}
	}
	err := connect(t, func(o *clickhouse.Options) { o.Auth.Database = "missing" }).Ping(t.Context())
	if codeOf(err) != 81 {
		t.Errorf("a missing database: %v", err)
	}
}

func TestServer_SurvivesGarbageBeforeAndAfterTheHello(t *testing.T) {
	for _, garbage := range []string{
		"GET / HTTP/1.1\r\n\r\n",
		"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f", // a name of 2^62 bytes
		strings.Repeat("\xff", 100),
	} {
		c, err := net.Dial("tcp", testAddr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(garbage))
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%q was answered", garbage)
		}
		_ = c.Close()
	}
	if err := connect(t).Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestServer_SessionKeepsItsDatabase(t *testing.T) {
	conn := connect(t, func(o *clickhouse.Options) { o.MaxOpenConns = 1 })
	exec(t, conn, "CREATE DATABASE IF NOT EXISTS elsewhere")
	exec(t, conn, "USE elsewhere")
	exec(t, conn, "CREATE TABLE here (n UInt64, at DateTime('Asia/Tokyo')) ENGINE = MergeTree ORDER BY n")
	exec(t, conn, "INSERT INTO here VALUES (1, '2020-01-01 00:00:00')")
	// readonly costs the engine session; the new one must be in the same database.
	ctx := clickhouse.Context(t.Context(), clickhouse.WithSettings(clickhouse.Settings{"readonly": 1}))
	if err := conn.Exec(ctx, "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	var at time.Time
	scan(t, conn, "SELECT at FROM here", &at)
	if at.Location().String() != "Asia/Tokyo" {
		t.Errorf("zone %s", at.Location())
	}
}

func TestSecurity_NothingOutsideTheDatabasesIsReachable(t *testing.T) {
	conn := connect(t, func(o *clickhouse.Options) { o.DialTimeout = 5 * time.Second })
	exec(t, conn, "CREATE TABLE default.safe (a String) ENGINE = MergeTree ORDER BY a")
	for _, sql := range []string{
		"SELECT * FROM file('/etc/passwd', 'LineAsString')",
		"SELECT file('/etc/passwd')",
		"SELECT `file`('/etc/passwd')",
		`SELECT "\x66ile"('/etc/passwd')`,
		"SELECT\u00a0file('/etc/passwd')",
		"SELECT arrayMap(file, ['/etc/passwd'])",
		"SELECT * APPLY file FROM (SELECT '/etc/passwd')",
		"SELECT arrayMap({f:Identifier}, ['/etc/passwd'])",
		"SELECT /* FROM */ * FROM eval('SELECT file(''/etc/passwd'')') SETTINGS allow_experimental_eval_table_function = 1",
		"SET allow_experimental_eval_table_function = 1",
		"SELECT * FROM `/etc/passwd`",
		"SELECT * FROM default.`/etc/passwd`",
		"DESCRIBE file('/etc/passwd', 'LineAsString')",
		"CREATE DATABASE fs ENGINE = Filesystem('/etc')",
		"CREATE DATABASE sq ENGINE = SQLite('/tmp/assent-must-not-exist')",
		"CREATE TABLE f (a String) ENGINE = File(TSV, '/etc/passwd')",
		"CREATE TABLE f (a String) ENGINE = URL('http://127.0.0.1:1', 'TSV')",
		"CREATE TABLE f (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://127.0.0.1:1/')",
		"CREATE DICTIONARY d (a String) PRIMARY KEY a SOURCE(FILE(path '/etc/passwd' format 'LineAsString')) LAYOUT(FLAT()) LIFETIME(1)",
		"INSERT INTO FUNCTION file('/tmp/x', 'TSV', 'a String') VALUES ('x')",
		"INSERT INTO FUNCTION url('http://127.0.0.1:1', 'TSV', 'a String') SELECT 'x'",
		"INSERT INTO default.safe FROM INFILE '/etc/passwd' FORMAT LineAsString",
		"INSERT INTO default.safe SELECT file('/etc/passwd')",
		"INSERT INTO default.safe VALUES (file('/etc/passwd'))",
		"INSERT INTO default.safe FORMAT LineAsString x",
		"SELECT 1 INTO OUTFILE '/tmp/assent-must-not-exist'",
		"SELECT 1 INTO -- comment\nOUTFILE '/tmp/assent-must-not-exist'",
		"EXPLAIN SELECT 1 INTO OUTFILE '/tmp/assent-must-not-exist'",
		"SELECT formatRow('Template', 1) SETTINGS format_template_row = '/etc/passwd'",
		"SELECT formatRow('Template', 1) SETTINGS format_template_resultset = '/etc/passwd'",
		"SELECT * FROM format(Protobuf, 'x') SETTINGS format_schema = '/etc/passwd:M'",
		"SET format_template_row = 'x'", "SET format_template_resultset = 'x'", "SET format_schema = 'x'",
		"SET format_schema_source = 'string'", "SET format_avro_schema_registry_url = 'http://127.0.0.1:1'",
		"SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
		"SELECT * FROM s3('http://127.0.0.1:1/bucket/a.csv')",
		"SELECT * FROM remote('127.0.0.1:1', 'system.one')",
		"SELECT * FROM sqlite('/tmp/assent-must-not-exist', 't')",
		"SELECT * FROM executable('cat', 'TSV', 'a String')",
		"BACKUP TABLE default.safe TO File('/tmp/assent-must-not-exist.zip')",
		"CREATE FUNCTION f AS (x) -> x", "CREATE USER u", "GRANT ALL ON *.* TO default", "SYSTEM SHUTDOWN",
		"SET implicit_select = 1", "SET allow_introspection_functions = 1", "SET query_cache_tag = 'x'",
	} {
		err := conn.Exec(t.Context(), sql)
		if codeOf(err) <= 0 {
			t.Errorf("%s: %v", sql, err)
		} else if strings.Contains(err.Error(), "root:") {
			t.Errorf("%s: the message tells what stands in the file", sql)
		}
	}
	for _, name := range []string{"/tmp/assent-must-not-exist", "/tmp/assent-must-not-exist.zip"} {
		if fileExists(name) {
			t.Errorf("%s was written", name)
		}
	}
	var rows uint64
	scan(t, conn, "SELECT count() FROM default.safe", &rows)
	if rows != 0 {
		t.Errorf("%d rows came from somewhere", rows)
	}
}

func TestSQL_WhatASinkNeedsWorks(t *testing.T) {
	conn := connect(t)
	for _, sql := range []string{
		"CREATE DATABASE assent_sql",
		"CREATE TABLE assent_sql.events (id UUID, at DateTime64(3, 'UTC'), insert_before DateTime64(3, 'UTC'), p LowCardinality(String)," +
			" CONSTRAINT in_time CHECK nowInBlock() < insert_before) ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY (p, at)" +
			" TTL toDateTime(at) + INTERVAL 10 YEAR SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000",
		"CREATE TABLE assent_sql.latest (p String, at SimpleAggregateFunction(max, DateTime64(3, 'UTC'))) ENGINE = AggregatingMergeTree ORDER BY p",
		"CREATE MATERIALIZED VIEW assent_sql.mv TO assent_sql.latest AS SELECT p, max(at) AS at FROM assent_sql.events GROUP BY p",
		"CREATE VIEW assent_sql.v AS SELECT p, argMax(id, at) AS id FROM assent_sql.events WHERE at <= {t:DateTime64(3, 'UTC')} GROUP BY p",
		"INSERT INTO assent_sql.events SELECT generateUUIDv4(), now64(3), now64(3) + INTERVAL 2 MINUTE, 'x'",
		"ALTER TABLE assent_sql.events ADD COLUMN IF NOT EXISTS note String",
		"ALTER TABLE assent_sql.events UPDATE note = 'n' WHERE 1 SETTINGS mutations_sync = 1",
		"OPTIMIZE TABLE assent_sql.events FINAL",
		"SELECT * FROM assent_sql.latest FINAL",
		"SELECT * FROM assent_sql.v(t = now64(3))",
		"SHOW CREATE TABLE assent_sql.events", "EXPLAIN indexes = 1 SELECT * FROM assent_sql.events WHERE p = 'x'",
		"SELECT row_number() OVER (PARTITION BY p ORDER BY at) FROM assent_sql.events",
		"TRUNCATE TABLE assent_sql.latest", "RENAME TABLE assent_sql.latest TO assent_sql.older",
		"DROP TABLE assent_sql.mv SYNC", "DROP DATABASE assent_sql SYNC",
	} {
		exec(t, conn, sql)
	}
	err := conn.Exec(t.Context(), "SELECT 1 FORMAT JSON SETTINGS max_threads = 1;")
	if err != nil {
		t.Error(err)
	}
}

func TestServer_CloseOfTheClientInTheMiddleOfAnInsertWritesNothing(t *testing.T) {
	conn := connect(t)
	exec(t, conn, "CREATE TABLE default.halfway (n UInt64) ENGINE = MergeTree ORDER BY n")
	var stopped atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO default.halfway")
			if err != nil {
				t.Error(err)
				return
			}
			_ = batch.Append(uint64(1))
			if err := batch.Abort(); err == nil {
				stopped.Add(1)
			}
		})
	}
	wg.Wait()
	var rows uint64
	scan(t, conn, "SELECT count() FROM default.halfway", &rows)
	if rows != 0 || stopped.Load() != 8 {
		t.Error(fmt.Sprint(rows, " rows, ", stopped.Load(), " aborted"))
	}
}
