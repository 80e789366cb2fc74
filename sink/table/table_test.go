package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/embedded/clickhousetest"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Main(m, os.Getenv)) }

// execute runs one statement at an address; for tests.
func execute(dsn, statement string) error {
	db, err := Open(dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.conn.Exec(context.Background(), statement)
}

func open(t testing.TB) *DB {
	t.Helper()
	db, err := Open(clickhousetest.DSN(t, execute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func migrated(t testing.TB) *DB {
	t.Helper()
	db := open(t)
	if _, err := db.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return db
}

var part = kafka.Partition{Topic: "consent.events", Index: 4}

var later = func() time.Time { return time.Now().Add(time.Minute).Truncate(time.Second) }

func TestColumns_AreThoseOfTheTables(t *testing.T) {
	db := migrated(t)
	for _, table := range All() {
		rows, err := db.conn.Query(t.Context(), "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = ?", table.Name)
		if err != nil {
			t.Fatal(err)
		}
		types := map[string]string{}
		for rows.Next() {
			var name, kind string
			if err := rows.Scan(&name, &kind); err != nil {
				t.Fatal(err)
			}
			types[name] = kind
		}
		_ = rows.Close()
		delete(types, "insert_before")
		for _, c := range table.columns {
			kind, there := types[c.name]
			if !there {
				t.Errorf("%s.%s is filled, and not in the table", table.Name, c.name)
			}
			if wanted := takes[reflect.TypeOf(c.empty).Elem()]; !slices.Contains(wanted, kind) {
				t.Errorf("%s.%s is %s in the table, and filled with %T", table.Name, c.name, kind, c.empty)
			}
			delete(types, c.name)
		}
		for name := range types {
			t.Errorf("%s.%s is in the table, and never filled", table.Name, name)
		}
	}
}

// takes lists which column types a Go type fills.
var takes = map[reflect.Type][]string{
	reflect.TypeFor[string]():     {"String", "LowCardinality(String)"},
	reflect.TypeFor[[]string]():   {"Array(String)", "Array(LowCardinality(String))"},
	reflect.TypeFor[int32]():      {"Int32"},
	reflect.TypeFor[int64]():      {"Int64"},
	reflect.TypeFor[bool]():       {"Bool"},
	reflect.TypeFor[*bool]():      {"Nullable(Bool)"},
	reflect.TypeFor[time.Time]():  {"DateTime64(3, 'UTC')"},
	reflect.TypeFor[*time.Time](): {"Nullable(DateTime64(3, 'UTC'))"},
	reflect.TypeFor[*uuid.UUID](): {"Nullable(UUID)"},
}

// fullEvent has every field set, each to another value.
func fullEvent() consent.Event {
	id := func(n byte) consent.UUID { return consent.UUID{0: 0xaa, 15: n} }
	at := func(n int64) consent.Instant { return consent.Instant(1_767_225_600_000 + n) }
	e := consent.Event{
		ID: id(1), InteractionID: id(2), RequestID: id(3), Tenant: "shop", Subject: "user:1", Purpose: "marketing.email", Action: consent.Invalidate,
		Property: "site", OccurredAt: at(1), SentAt: at(2), ReceivedAt: at(3), EffectiveAt: at(4), Channel: consent.CallCenter, Source: "crm/3", Jurisdiction: "US-CA",
		Notice:   consent.Notice{ID: "n", Version: "7", Language: "en", SHA256: [32]byte{9}},
		Evidence: consent.Evidence{Method: consent.Verbal, Control: consent.Save, ControlDefault: consent.DefaultOff, Bundled: true, Conditional: true, GPC: true, Reference: "call-1", PageURL: "https://x.example/p", UserAgent: "agent", IP: "192.0.2.1", TCString: "tc", GPPString: "gpp", Token: "t"},
		Actor:    consent.Actor{Type: consent.ActorAgent, ID: "a1"},
		Policy: &consent.Policy{Version: "v1", Model: consent.OptOut, LegalBasis: consent.BasisLegitimateInterests, Scope: consent.ScopeDevice, SaleOrShare: true, ExpiresAt: at(5),
			DoubleOptIn: true, ConfirmBy: at(6), HistoryImport: true, Covers: []consent.Purpose{"a", "a.b"}},
		Invalidates: &consent.EventRef{EventID: id(4), EffectiveAt: at(7)}, LinkTo: "user:2", Carried: &consent.Carried{Subject: "user:3", EventID: id(5), EffectiveAt: at(8)}, Test: true,
	}
	e.Digest = schemas.EventDigest(&e)
	return e
}

func message(t testing.TB, offset kafka.LastOffset, value []byte) *kafka.Message {
	return &kafka.Message{Position: kafka.Position{Partition: part, Offset: offset}, Key: []byte("shop|user:1"), Value: value, Time: time.UnixMilli(1_767_225_611_123).UTC()}
}

// readBack gives a row as column name → text.
func readBack(t testing.TB, db *DB, table *Table) map[string]string {
	t.Helper()
	names := make([]string, len(table.columns))
	for i, c := range table.columns {
		names[i] = "ifNull(toString(" + c.name + "), 'NULL')"
	}
	rows, err := db.conn.Query(t.Context(), "SELECT "+strings.Join(names, ", ")+" FROM "+table.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if !rows.Next() {
		t.Fatal("no row", rows.Err())
	}
	values := make([]string, len(names))
	into := make([]any, len(names))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for i, c := range table.columns {
		got[c.name] = values[i]
	}
	return got
}

func insertOne(t testing.TB, db *DB, table *Table, value []byte) map[string]string {
	t.Helper()
	r := table.NewRow(message(t, 42, value))
	if err := db.Insert(t.Context(), table, []Row{r}, "t/"+table.Name, later()); err != nil {
		t.Fatal(err)
	}
	return readBack(t, db, table)
}

func TestEvents_EveryFieldArrivesInItsColumn(t *testing.T) {
	e := fullEvent()
	value, err := schemas.EncodeEvent(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	got := insertOne(t, migrated(t), Events, value)
	want := map[string]string{
		"topic": "consent.events", "partition": "4", "offset": "42", "recorded_at": "2026-01-01 00:00:11.123", "key": "shop|user:1", "record": string(value), "decode_error": "",
		"tenant": "shop", "subject": "user:1", "purpose": "marketing.email", "action": "invalidate", "event_id": e.ID.String(), "interaction_id": e.InteractionID.String(),
		"request_id": e.RequestID.String(), "property": "site", "occurred_at": "2026-01-01 00:00:00.001", "sent_at": "2026-01-01 00:00:00.002", "received_at": "2026-01-01 00:00:00.003",
		"effective_at": "2026-01-01 00:00:00.004", "channel": "call_center", "source": "crm/3", "jurisdiction": "US-CA", "notice_id": "n", "notice_version": "7", "notice_language": "en",
		"notice_sha256": "09" + strings.Repeat("00", 31), "evidence_method": "verbal", "evidence_control": "save", "evidence_control_default": "off", "evidence_bundled": "true",
		"evidence_conditional": "true", "evidence_gpc": "true", "evidence_reference": "call-1", "evidence_page_url": "https://x.example/p", "evidence_user_agent": "agent", "evidence_ip": "192.0.2.1",
		"evidence_tc_string": "tc", "evidence_gpp_string": "gpp", "actor_type": "agent", "actor_id": "a1", "policy_version": "v1", "policy_model": "opt_out",
		"policy_legal_basis": "legitimate_interests", "policy_scope": "device", "policy_sale_or_share": "true", "policy_expires_at": "2026-01-01 00:00:00.005", "policy_double_opt_in": "true",
		"policy_confirm_by": "2026-01-01 00:00:00.006", "policy_covers": "['a','a.b']", "invalidates_event_id": e.Invalidates.EventID.String(), "invalidates_effective_at": "2026-01-01 00:00:00.007",
		"confirms_event_id": "NULL", "confirms_effective_at": "NULL", "evidence_token": "t", "policy_history_import": "true", "carried_effective_at": "2026-01-01 00:00:00.008", "carried_via": "[]", "link_to": "user:2", "carried_subject": "user:3",
		"carried_event_id": e.Carried.EventID.String(), "test": "true", "digest": fmt.Sprintf("%x", e.Digest),
	}
	compare(t, got, want)
	// Words in SQL are those of the JSON form.
	var form map[string]any
	if err := json.Unmarshal(jsonform.AppendEvent(nil, &e), &form); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tenant", "subject", "purpose", "action", "channel", "source", "jurisdiction", "property", "event_id"} {
		if form[name] != got[name] {
			t.Errorf("%s is %q in SQL and %v in JSON", name, got[name], form[name])
		}
	}
}

func compare(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s = %q, want %q", name, got[name], w)
		}
	}
	for name := range got {
		if _, known := want[name]; !known {
			t.Errorf("column %s is not checked", name)
		}
	}
}

func TestEvents_WhatIsAbsentIsNullOrEmpty(t *testing.T) {
	e := consent.Event{Tenant: "default", Subject: "user:1", Purpose: "a", Action: consent.Withdraw}
	value, err := schemas.EncodeEvent(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	got := insertOne(t, migrated(t), Events, value)
	for _, name := range []string{"event_id", "occurred_at", "effective_at", "policy_expires_at", "confirms_event_id", "invalidates_event_id", "carried_effective_at"} {
		if got[name] != "NULL" {
			t.Errorf("%s = %q, want NULL", name, got[name])
		}
	}
	for _, name := range []string{"channel", "notice_id", "evidence_method", "policy_version", "link_to"} {
		if got[name] != "" {
			t.Errorf("%s = %q, want it empty", name, got[name])
		}
	}
}

func TestChangesDeliveriesAndDeadLetters_EveryFieldArrivesInItsColumn(t *testing.T) {
	db := migrated(t)
	at := consent.Instant(1_767_225_600_001)
	c := consent.Change{ID: consent.UUID{1}, Tenant: "shop", Subject: "user:1", Purpose: "a", From: consent.None, To: consent.Withdrawn, AllowedBefore: consent.Undecided, AllowedAfter: consent.Denied,
		Withdrawal: true, EffectiveAt: at, EventID: consent.UUID{2}, Version: 5, Timestamp: at + 1, ReceivedAt: at + 2, Jurisdiction: "FR", Test: true}
	value, err := schemas.EncodeChange(nil, &c)
	if err != nil {
		t.Fatal(err)
	}
	position := map[string]string{"topic": "consent.events", "partition": "4", "offset": "42", "recorded_at": "2026-01-01 00:00:11.123", "key": "shop|user:1", "decode_error": ""}
	with := func(m map[string]string, value []byte) map[string]string {
		for k, v := range position {
			m[k] = v
		}
		m["record"] = string(value)
		return m
	}
	compare(t, insertOne(t, db, Changes, value), with(map[string]string{
		"tenant": "shop", "subject": "user:1", "purpose": "a", "change_id": c.ID.String(), "from_status": "none", "to_status": "withdrawn", "allowed_before": "NULL", "allowed_after": "false",
		"withdrawal": "true", "effective_at": "2026-01-01 00:00:00.001", "event_id": c.EventID.String(), "version": "5", "timestamp": "2026-01-01 00:00:00.002",
		"received_at": "2026-01-01 00:00:00.003", "jurisdiction": "FR", "test": "true",
	}, value))
	d := schemas.Delivery{ID: consent.UUID{3}, ChangeID: consent.UUID{1}, Tenant: "shop", Subject: "user:1", Purpose: "a", Version: 5, Withdrawal: true, Downstream: "crm", WebhookID: "w", Attempt: 2,
		StartedAt: at, DurationMillis: 17, Outcome: schemas.Retrying, HTTPStatus: 500, Reason: "status_500", NextAttemptAt: at + 1, DeadlineAt: at + 2, ChangeReceivedAt: at + 3, Test: true}
	if value, err = schemas.EncodeDelivery(nil, &d); err != nil {
		t.Fatal(err)
	}
	compare(t, insertOne(t, db, Deliveries, value), with(map[string]string{
		"tenant": "shop", "subject": "user:1", "purpose": "a", "delivery_id": d.ID.String(), "change_id": d.ChangeID.String(), "version": "5", "withdrawal": "true", "downstream": "crm", "webhook_id": "w",
		"attempt": "2", "started_at": "2026-01-01 00:00:00.001", "duration_millis": "17", "outcome": "retrying", "http_status": "500", "reason": "status_500",
		"next_attempt_at": "2026-01-01 00:00:00.002", "deadline_at": "2026-01-01 00:00:00.003", "change_received_at": "2026-01-01 00:00:00.004", "test": "true",
	}, value))
	l := schemas.DeadLetter{Topic: "consent.intake", Partition: 7, Offset: 99, Code: "informed", Reason: "no notice", Role: "gateway", Downstream: "crm", At: at, Key: []byte("k"), Value: []byte("v")}
	if value, err = schemas.EncodeDeadLetter(nil, &l); err != nil {
		t.Fatal(err)
	}
	compare(t, insertOne(t, db, DeadLetters, value), with(map[string]string{
		"origin_topic": "consent.intake", "origin_partition": "7", "origin_offset": "99", "code": "informed", "reason": "no notice", "role": "gateway", "downstream": "crm", "at": "2026-01-01 00:00:00.001",
		"origin_key": "k", "origin_value": "v", "origin_header_keys": "[]", "origin_header_values": "[]", "partial": "false",
	}, value))
}

func TestNewRow_KeepsWhatDoesNotDecodeWithTheReason(t *testing.T) {
	for _, table := range All() {
		r := table.NewRow(message(t, 1, []byte("no Avro at all")))
		if r.DecodeError == "" || string(r.Record) != "no Avro at all" || r.Event != nil || r.Change != nil || r.Delivery != nil || r.Letter != nil {
			t.Errorf("%s: %+v", table.Name, r)
		}
	}
	db := migrated(t)
	if got := insertOne(t, db, Events, []byte{0xc3, 1}); got["decode_error"] == "" || got["offset"] != "42" || got["subject"] != "" {
		t.Errorf("%v", got)
	}
	var n uint64
	if err := db.conn.QueryRow(t.Context(), "SELECT count() FROM events_deduplicated").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows in the deduplicated view, %v", n, err)
	}
}

func eventRows(t testing.TB, n int) []Row {
	t.Helper()
	rows := make([]Row, n)
	for i := range rows {
		e := fullEvent()
		value, err := schemas.EncodeEvent(nil, &e)
		if err != nil {
			t.Fatal(err)
		}
		rows[i] = Events.NewRow(message(t, kafka.LastOffset(i), value))
	}
	return rows
}

func TestInsert_TheSameTokenTwiceIsOnceAndAnotherIsNot(t *testing.T) {
	db, rows := migrated(t), eventRows(t, 10)
	for range 3 {
		if err := db.Insert(t.Context(), Events, rows, "a", later()); err != nil {
			t.Fatal(err)
		}
	}
	offsets, err := db.Offsets(t.Context(), Events, part, 0, 100)
	if err != nil || len(offsets) != 10 {
		t.Fatalf("%v %v", offsets, err)
	}
	if err := db.Insert(t.Context(), Events, rows[:4], "b", later()); err != nil {
		t.Fatal(err)
	}
	if offsets, _ = db.Offsets(t.Context(), Events, part, 2, 5); len(offsets) != 6 { // 2 and 3 twice, 4 and 5
		t.Errorf("offsets 2 to 5: %v", offsets)
	}
	if other, err := db.Offsets(t.Context(), Events, kafka.Partition{Topic: part.Topic, Index: 5}, 0, 100); err != nil || len(other) != 0 {
		t.Errorf("another partition: %v %v", other, err)
	}
	if holds, err := db.Holds(t.Context(), Events, part); err != nil || !holds {
		t.Errorf("holds %t, %v", holds, err)
	}
	if holds, err := db.Holds(t.Context(), Changes, part); err != nil || holds {
		t.Errorf("another table holds %t, %v", holds, err)
	}
}

func TestInsert_AfterItsDeadlineIsRefusedWhole(t *testing.T) {
	db := migrated(t)
	err := db.Insert(t.Context(), Events, eventRows(t, 3), "late", time.Now().Add(-time.Second).Truncate(time.Second))
	if !errors.Is(err, ErrTooLate) {
		t.Fatalf("got %v", err)
	}
	if offsets, _ := db.Offsets(t.Context(), Events, part, 0, 10); len(offsets) != 0 {
		t.Errorf("rows are there: %v", offsets)
	}
}

func TestMigrate_IsIdempotentSaysWhatItWouldDoAndRefusesANewerSchema(t *testing.T) {
	db := open(t)
	if names, err := db.Migrate(t.Context(), true); err != nil || len(names) != Version() {
		t.Fatalf("dry run: %v %v", names, err)
	}
	if v, err := db.Applied(t.Context()); err != nil || v != 0 {
		t.Fatalf("a dry run applied version %d, %v", v, err)
	}
	// One that broke off in the middle goes on.
	all, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	if err := db.conn.Exec(t.Context(), all[0].statements[0]); err != nil {
		t.Fatal(err)
	}
	if names, err := db.Migrate(t.Context(), false); err != nil || len(names) != Version() {
		t.Fatalf("%v %v", names, err)
	}
	if names, err := db.Migrate(t.Context(), false); err != nil || len(names) != 0 {
		t.Fatalf("again: %v %v", names, err)
	}
	if err := db.conn.Exec(t.Context(), "INSERT INTO schema_migrations (version, name) VALUES (999, 'x')"); err != nil {
		t.Fatal(err)
	}
	var newer *NewerSchemaError
	if _, err := db.Migrate(t.Context(), false); !errors.As(err, &newer) || newer.Found != 999 {
		t.Errorf("a newer schema: %v", err)
	}
}

func TestOpen_NeverShowsThePasswordAndExplainsWhatToDo(t *testing.T) {
	if _, err := Open("clickhouse://u:geheim@%zz"); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("got %v", err)
	}
	db := open(t)
	err := db.Insert(t.Context(), Events, eventRows(t, 1), "x", later())
	if err == nil || !strings.Contains(err.Error(), "assent migrate") {
		t.Errorf("without tables: %v", err)
	}
	if skew, err := db.Skew(t.Context()); err != nil || skew.Abs() > 2*time.Second {
		t.Errorf("skew %s, %v", skew, err)
	}
	wrong, err := Open("clickhouse://default:wrong@" + addressOf(t, db) + "/d0")
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if err := wrong.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "ASSENT_CLICKHOUSE_DSN") {
		t.Errorf("with a wrong password: %v", err)
	}
}

// addressed is the DSN of a fresh database.
func addressed(t testing.TB) string { t.Helper(); return clickhousetest.DSN(t, execute) }

func addressOf(t testing.TB, db *DB) string {
	t.Helper()
	dsn := clickhousetest.DSN(t, execute)
	_, address, _ := strings.Cut(dsn, "@")
	address, _, _ = strings.Cut(address, "/")
	return address
}

func TestViews_ShowEachContentOnceAndFlagConflicts(t *testing.T) {
	db := migrated(t)
	e, other, third, fourth, fifth := fullEvent(), fullEvent(), fullEvent(), fullEvent(), fullEvent()
	other.Source = "another"
	third.ID = consent.UUID{7}
	fourth.ID, fifth.ID, fifth.Source = consent.UUID{}, consent.UUID{}, "another" // no ids: nothing to conflict
	foreign := fullEvent()
	foreign.Tenant, foreign.Source = "other-shop", "x"
	var events [][]byte
	for _, x := range []consent.Event{e, e, other, third, fourth, fifth, foreign} {
		events = append(events, encoded(t)(schemas.EncodeEvent(nil, &x)))
	}
	c := consent.Change{ID: consent.UUID{1}, Tenant: "shop", Subject: "user:1", Purpose: "a", To: consent.Withdrawn}
	d := schemas.Delivery{ID: consent.UUID{1}, Tenant: "shop", Subject: "user:1", Purpose: "a"}
	change, delivery := encoded(t)(schemas.EncodeChange(nil, &c)), encoded(t)(schemas.EncodeDelivery(nil, &d))
	poison := []byte("poison")
	for table, values := range map[*Table][][]byte{Events: append(events, poison), Changes: {change, change, poison}, Deliveries: {delivery, delivery, delivery, poison}} {
		var rows []Row
		for i, value := range values {
			rows = append(rows, table.NewRow(message(t, kafka.LastOffset(i), value)))
		}
		if err := db.Insert(t.Context(), table, rows, "v", later()); err != nil {
			t.Fatal(err)
		}
	}
	for query, want := range map[string][2]uint64{
		"SELECT count(), countIf(conflicting) FROM events_deduplicated":      {6, 2},
		"SELECT count(), toUInt64(min(offset)) FROM changes_deduplicated":    {1, 0},
		"SELECT count(), toUInt64(min(offset)) FROM deliveries_deduplicated": {1, 0},
	} {
		var got [2]uint64
		if err := db.conn.QueryRow(t.Context(), query).Scan(&got[0], &got[1]); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", query, got, err, want)
		}
	}
}

func encoded(t testing.TB) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}
