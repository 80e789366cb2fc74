package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
	"github.com/assent-dev/assent/sink/table"
)

// record is one row of a random history, and what makes it a repeat.
type record struct {
	kind  Kind
	at    int64
	pos   kafka.Position
	same  string // rows that are the same thing
	id    string // rows that claim to be the same thing
	value []byte
}

func (r *record) before(o *record) int {
	return cmp.Or(cmp.Compare(r.at, o.at), cmp.Compare(r.kind, o.kind), cmp.Compare(r.pos.Topic, o.pos.Topic), cmp.Compare(r.pos.Index, o.pos.Index), cmp.Compare(r.pos.Offset, o.pos.Offset))
}

// randomHistory makes rows of one subject with many ties, repeats and conflicts.
func randomHistory(a *archive, r *rand.Rand, n int) []record {
	next := map[kafka.Partition]kafka.LastOffset{}
	var all []record
	for range n {
		x := record{kind: Kind(r.IntN(3)), at: int64(r.IntN(6))}
		topic := [...]string{"consent.events", "consent.changes", "consent.deliveries"}[x.kind]
		if r.IntN(4) == 0 {
			topic = "b." + topic // an earlier installation's prefix
		}
		x.pos.Partition = kafka.Partition{Topic: topic, Index: int32(r.IntN(3))}
		x.pos.Offset = next[x.pos.Partition]
		next[x.pos.Partition]++
		id, content := byte(1+r.IntN(n/2)), byte(r.IntN(2))
		x.id, x.same = fmt.Sprint(x.kind, id), fmt.Sprint(x.kind, id)
		switch x.kind {
		case KindEvent:
			x.value, x.same = a.event("default", "user:1", id, fmt.Sprint("source", content)), fmt.Sprint(x.kind, id, content)
		case KindChange:
			x.value = a.change("user:1", id)
		case KindDelivery:
			x.value = a.delivery("user:1", id)
		}
		all = append(all, x)
	}
	return all
}

func (a *archive) insert(records []record) {
	a.Helper()
	for kind, t := range []*table.Table{table.Events, table.Changes, table.Deliveries} {
		var rows []table.Row
		for _, x := range records {
			if int(x.kind) == kind {
				rows = append(rows, t.NewRow(&kafka.Message{Position: x.pos, Value: x.value, Time: at(x.at)}))
			}
		}
		if err := a.db.Insert(a.Context(), t, rows, "random", time.Now().Add(time.Minute).Truncate(time.Second)); err != nil {
			a.Fatal(err)
		}
	}
}

// expected is the history by its definition: in order, the first of each thing.
func expected(records []record, kinds ...Kind) []record {
	sorted := slices.Clone(records)
	slices.SortFunc(sorted, func(x, y record) int { return x.before(&y) })
	seen := map[string]bool{}
	return slices.DeleteFunc(sorted, func(x record) bool {
		repeat := seen[x.same] || len(kinds) > 0 && !slices.Contains(kinds, x.kind)
		seen[x.same] = true
		return repeat
	})
}

func (a *archive) all(q Query) (items []Item) {
	a.Helper()
	for {
		page, next, more, err := NewHistory(a.db).Page(a.Context(), q)
		if err != nil {
			a.Fatal(err)
		}
		if items = append(items, page...); !more {
			return items
		}
		if len(page) != q.Limit {
			a.Fatalf("%d items of %d, and more to come", len(page), q.Limit)
		}
		if q.After, err = ParseCursor(next.String()); err != nil {
			a.Fatal(err)
		}
	}
}

func TestPage_RandomHistoriesComeOnceInOrderWhateverThePages(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 4 {
		a := newArchive(t)
		records := randomHistory(a, r, 40+r.IntN(80))
		a.insert(records)
		contents := map[string]map[string]bool{}
		for _, x := range records {
			if contents[x.id] == nil {
				contents[x.id] = map[string]bool{}
			}
			contents[x.id][x.same] = true
		}
		for _, kinds := range [][]Kind{nil, {KindEvent}, {KindDelivery, KindChange}, {KindChange, KindChange}} {
			want := expected(records, kinds...)
			got := a.all(Query{Tenant: "default", Subject: "user:1", Kinds: kinds, Limit: 1 + r.IntN(12)})
			if len(got) != len(want) {
				t.Fatalf("kinds %v: %d items, want %d", kinds, len(got), len(want))
			}
			for i := range got {
				if got[i].Kind != want[i].kind || got[i].Position != want[i].pos || got[i].RecordedAt != consent.InstantOf(at(want[i].at)) {
					t.Fatalf("kinds %v: item %d is %s at %s, want %s at %s", kinds, i, got[i].Kind, got[i].Position, want[i].kind, want[i].pos)
				}
				if conflicting := want[i].kind == KindEvent && len(contents[want[i].id]) > 1; got[i].Conflicting != conflicting {
					t.Errorf("kinds %v: item %d conflicting: %t", kinds, i, got[i].Conflicting)
				}
			}
		}
	}
}

func TestHistory_ItemsAreTheJSONFormsWithTheirPosition(t *testing.T) {
	a := newArchive(t)
	values := [][]byte{a.event("default", "user:1", 1, "s"), a.change("user:1", 2), a.delivery("user:1", 3)}
	a.put(table.Events, "consent.events", at(1), values[0])
	a.put(table.Changes, "consent.changes", at(2), values[1])
	a.put(table.Deliveries, "consent.deliveries", at(3), values[2])
	e, err1 := schemas.DecodeEvent(values[0])
	c, err2 := schemas.DecodeChange(values[1])
	d, err3 := schemas.DecodeDelivery(values[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"items":[`+
		`{"kind":"event","recorded_at":"2026-01-01T00:00:00.001Z","position":{"topic":"consent.events","partition":0,"offset":0},"event":%s},`+
		`{"kind":"change","recorded_at":"2026-01-01T00:00:00.002Z","position":{"topic":"consent.changes","partition":0,"offset":1},"change":%s},`+
		`{"kind":"delivery","recorded_at":"2026-01-01T00:00:00.003Z","position":{"topic":"consent.deliveries","partition":0,"offset":2},"delivery":%s}],"next_cursor":null}`,
		jsonform.AppendEvent(nil, &e), jsonform.AppendChange(nil, &c), jsonform.AppendDelivery(nil, &d))
	w := a.serve(a.db, "/v1/subjects/user:1/history")
	if got := strings.TrimSpace(w.Body.String()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v", w.Header())
	}
}

func TestHistory_EventsWithoutAnIDAreNoConflict(t *testing.T) {
	a := newArchive(t)
	one, other := a.event("default", "user:1", 0, "one"), a.event("default", "user:1", 0, "other")
	a.put(table.Events, "consent.events", at(1), one, other)
	for _, i := range a.page("/v1/subjects/user:1/history").Items {
		if i.Conflicting {
			t.Errorf("%s is said to conflict", i.Event.Source)
		}
	}
}

func TestHistory_TheSameIDOfAnotherSubjectOrTenantIsNoConflict(t *testing.T) {
	a := newArchive(t)
	a.put(table.Events, "consent.events", at(1), a.event("default", "user:1", 1, "one"), a.event("default", "user:2", 1, "two"), a.event("shop", "user:1", 1, "three"))
	if p := a.page("/v1/subjects/user:1/history"); len(p.Items) != 1 || p.Items[0].Conflicting {
		t.Errorf("%+v", p.Items)
	}
}

func TestHistory_LeavesOutWhatDidNotDecode(t *testing.T) {
	a := newArchive(t)
	row := table.Events.NewRow(&kafka.Message{Value: a.event("default", "user:1", 1, "s"), Time: at(1)})
	row.DecodeError = "truncated" // with its subject: as a later version may keep it
	if err := a.db.Insert(t.Context(), table.Events, []table.Row{row}, "t", time.Now().Add(time.Minute).Truncate(time.Second)); err != nil {
		t.Fatal(err)
	}
	if p := a.page("/v1/subjects/user:1/history"); len(p.Items) != 0 {
		t.Errorf("%+v", p.Items)
	}
}

func TestHistory_WhatComesLaterIsBehindTheCursor(t *testing.T) {
	a := newArchive(t)
	a.put(table.Events, "consent.events", at(1), a.event("default", "user:1", 1, "a"), a.event("default", "user:1", 2, "b"))
	first := a.page("/v1/subjects/user:1/history?limit=1")
	a.put(table.Events, "consent.events", at(1), a.event("default", "user:1", 3, "c"), a.event("default", "user:1", 1, "a"))
	var got []string
	for _, i := range a.page("/v1/subjects/user:1/history?cursor=" + *first.Next).Items {
		got = append(got, i.Event.Source)
	}
	if s := strings.Join(got, ""); s != "bc" {
		t.Errorf("got %q, want bc", s)
	}
}

// TestHistory_NamesNoSubjectWhateverGoesWrong makes the engine complain, which
// shows the whole query in its text, with the subject in it.
func TestHistory_NamesNoSubjectWhateverGoesWrong(t *testing.T) {
	const secret = "user:secret-person"
	ended, end := context.WithCancel(t.Context())
	end()
	for name, fail := range map[string]func(a *archive) (*table.DB, context.Context){
		"no tables": func(a *archive) (*table.DB, context.Context) { return a.bare(), t.Context() },
		"a column is gone": func(a *archive) (*table.DB, context.Context) {
			return a.bare("CREATE TABLE events (tenant String, subject String) ENGINE = MergeTree ORDER BY tenant"), t.Context()
		},
		"the caller left":   func(a *archive) (*table.DB, context.Context) { return a.db, ended },
		"nobody is there":   func(a *archive) (*table.DB, context.Context) { return a.away(), t.Context() },
		"a row is no event": func(a *archive) (*table.DB, context.Context) { return a.torn(secret), t.Context() },
	} {
		t.Run(name, func(t *testing.T) {
			a := newArchive(t)
			db, ctx := fail(a)
			_, _, _, err := NewHistory(db).Page(ctx, Query{Tenant: "default", Subject: secret, Limit: 1})
			if err == nil || strings.Contains(err.Error(), "secret-person") {
				t.Errorf("got %v", err)
			}
			w := a.serve(db, "/v1/subjects/"+secret+"/history")
			if strings.Contains(a.log.String()+w.Body.String(), "secret-person") {
				t.Errorf("log %s, answer %s", a.log.String(), w.Body)
			}
			for _, bad := range []string{"?limit=x", "?cursor=x", "?kind=x", "?tenant=X"} {
				w := a.serve(db, "/v1/subjects/"+secret+"/history"+bad)
				if w.Code != http.StatusBadRequest || strings.Contains(a.log.String()+w.Body.String(), "secret-person") {
					t.Errorf("%s: %d %s", bad, w.Code, w.Body)
				}
			}
		})
	}
}

func TestHistory_SaysWhatMayBeMissingWithoutWhoWasAskedFor(t *testing.T) {
	a := newArchive(t)
	if w := a.serve(a.bare(), "/v1/subjects/user:1/history"); w.Code != http.StatusServiceUnavailable || !strings.Contains(a.log.String(), "assent migrate") {
		t.Errorf("%d, log %s", w.Code, a.log.String())
	}
}

func TestHistory_ASubjectThatIntakeRefusesIsABadRequest(t *testing.T) {
	a := newArchive(t)
	mux := http.NewServeMux()
	refuse := func(string) (consent.Subject, error) { return "", errors.New("a subject is namespace:value") }
	NewHandler(NewHistory(a.db), refuse, slog.New(slog.NewTextHandler(&a.log, nil))).Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/subjects/x/history", nil))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "namespace:value") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestHistory_AsksForTheSubjectAsIntakeKeepsIt: a raw address is hashed first.
func TestHistory_AsksForTheSubjectAsIntakeKeepsIt(t *testing.T) {
	a := newArchive(t)
	a.put(table.Events, "consent.events", at(1), a.event("default", "email-hmac:ab", 1, "s"))
	mux := http.NewServeMux()
	asked := ""
	hash := func(raw string) (consent.Subject, error) { asked = raw; return "email-hmac:ab", nil }
	NewHandler(NewHistory(a.db), hash, slog.New(slog.NewTextHandler(&a.log, nil))).Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/subjects/"+url.PathEscape("Ann+x/y@example.org")+"/history", nil))
	var p pageJSON
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || len(p.Items) != 1 || asked != "Ann+x/y@example.org" {
		t.Errorf("asked for %q: %d %s", asked, w.Code, w.Body)
	}
	if strings.Contains(w.Body.String(), "example.org") {
		t.Errorf("%s", w.Body)
	}
}

func TestCursor_IsURLSafeAndComesBackAsItWas(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		c := Cursor{RecordedAt: consent.Instant(r.Int64N(1 << 42)), Kind: Kind(r.IntN(3)), Position: kafka.Position{Partition: kafka.Partition{Topic: []string{"consent.events", "ä|b.consent.changes", "", "???>>>~~~"}[r.IntN(4)], Index: r.Int32N(1 << 30)}, Offset: kafka.LastOffset(r.Int64())}}
		text := c.String()
		if url.QueryEscape(text) != text {
			t.Fatalf("%q is not URL-safe", text)
		}
		if back, err := ParseCursor(text); err != nil || back != c {
			t.Fatalf("%+v came back as %+v, %v", c, back, err)
		}
	}
	if c, err := ParseCursor(""); err != nil || c != (Cursor{}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestPage_LeavesNoGoroutineBehindWhenThereIsMore(t *testing.T) {
	a := newArchive(t)
	a.put(table.Events, "consent.events", at(1), a.event("default", "user:1", 1, "a"), a.event("default", "user:1", 2, "b"), a.event("default", "user:1", 3, "c"))
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for range 40 { // more than the pool has connections: one that is not given back would block
		if p := a.page("/v1/subjects/user:1/history?limit=1"); p.Next == nil {
			t.Fatal("there is no more")
		}
	}
}

// TestHistory_TenThousandEventsOfOneSubjectPageFast logs the times; its bounds
// are wide enough for a busy machine.
func TestHistory_TenThousandEventsOfOneSubjectPageFast(t *testing.T) {
	const events = 10_000
	a := newArchive(t)
	var values [][]byte
	for i := range events {
		e := consent.Event{
			ID: consent.UUID{1, byte(i >> 8), byte(i)}, Tenant: "default", Subject: "user:1", Purpose: "marketing.email", Action: consent.Withdraw, Channel: consent.Web, Source: "shop-web/3.2",
			OccurredAt: 1_767_225_600_000, ReceivedAt: 1_767_225_600_000, EffectiveAt: 1_767_225_600_000, Evidence: consent.Evidence{Method: consent.Checkbox, PageURL: "https://shop.example/preferences", UserAgent: strings.Repeat("agent ", 20)},
		}
		values = append(values, must(t)(schemas.EncodeEvent(nil, &e)))
	}
	a.put(table.Events, "consent.events", at(1), values...)
	begin := time.Now()
	cursor, n, pages, slowest := "", 0, 0, time.Duration(0)
	for more := true; more; pages++ {
		start := time.Now()
		p := a.page("/v1/subjects/user:1/history?cursor=" + cursor)
		slowest = max(slowest, time.Since(start))
		n += len(p.Items)
		if more = p.Next != nil; more {
			cursor = *p.Next
		}
	}
	t.Logf("%d events in %d pages: %s, the slowest %s", n, pages, time.Since(begin).Round(time.Millisecond), slowest.Round(time.Millisecond))
	if n != events || pages != events/defaultLimit {
		t.Errorf("%d events in %d pages", n, pages)
	}
	if slowest > 5*time.Second {
		t.Errorf("a page took %s", slowest)
	}
}

// bare is a database that has run no migration, only these statements.
func (a *archive) bare(statements ...string) *table.DB {
	a.Helper()
	dsn := database(a)
	for _, s := range statements {
		if err := execute(dsn, s); err != nil {
			a.Fatal(err)
		}
	}
	db, err := table.Open(dsn)
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { _ = db.Close() })
	return db
}

// away is a server that is not there.
func (a *archive) away() *table.DB {
	a.Helper()
	db, err := table.Open("clickhouse://default:x@127.0.0.1:1/none")
	if err != nil {
		a.Fatal(err)
	}
	a.Cleanup(func() { _ = db.Close() })
	return db
}

// torn is a history whose bytes were damaged behind our back.
func (a *archive) torn(subject consent.Subject) *table.DB {
	a.Helper()
	value := a.event("default", subject, 1, "s")
	row := table.Events.NewRow(&kafka.Message{Value: value, Time: at(1)})
	row.Record = bytes.Repeat([]byte{0xc3}, 9)
	if err := a.db.Insert(a.Context(), table.Events, []table.Row{row}, "torn", time.Now().Add(time.Minute).Truncate(time.Second)); err != nil {
		a.Fatal(err)
	}
	return a.db
}
