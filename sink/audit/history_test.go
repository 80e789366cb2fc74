package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/embedded/clickhousetest"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/sink/table"
)

func TestMain(m *testing.M) { os.Exit(clickhousetest.Main(m, os.Getenv)) }

// archive is a history with what a test puts there.
type archive struct {
	testing.TB
	db     *table.DB
	offset kafka.LastOffset
	log    strings.Builder
}

// database makes an empty one, and gives its DSN.
func database(t testing.TB) string {
	t.Helper()
	return clickhousetest.DSN(t, execute)
}

// execute runs one statement at an address.
func execute(dsn, statement string) error {
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Exec(context.Background(), statement)
}

func newArchive(t testing.TB) *archive {
	t.Helper()
	db, err := table.Open(database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return &archive{TB: t, db: db}
}

func at(millis int64) time.Time { return time.UnixMilli(1_767_225_600_000 + millis).UTC() }

func (a *archive) put(kind *table.Table, topic string, recorded time.Time, encoded ...[]byte) {
	a.Helper()
	var rows []table.Row
	for _, value := range encoded {
		rows = append(rows, kind.NewRow(&kafka.Message{Position: kafka.Position{Partition: kafka.Partition{Topic: topic}, Offset: a.offset}, Key: []byte("k"), Value: value, Time: recorded}))
		a.offset++
	}
	if err := a.db.Insert(a.Context(), kind, rows, fmt.Sprint(topic, a.offset), time.Now().Add(time.Minute)); err != nil {
		a.Fatal(err)
	}
}

func must(t testing.TB) func(b []byte, err error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func (a *archive) event(tenant consent.Tenant, subject consent.Subject, id byte, source string) []byte {
	return must(a)(schemas.EncodeEvent(nil, &consent.Event{ID: consent.UUID{id}, Tenant: tenant, Subject: subject, Purpose: "a", Action: consent.Withdraw, Source: source, EffectiveAt: 1, ReceivedAt: 1}))
}

func (a *archive) change(subject consent.Subject, id byte) []byte {
	return must(a)(schemas.EncodeChange(nil, &consent.Change{ID: consent.UUID{id}, Tenant: "default", Subject: subject, Purpose: "a", From: consent.None, To: consent.Withdrawn, Version: 1}))
}

func (a *archive) delivery(subject consent.Subject, id byte) []byte {
	return must(a)(schemas.EncodeDelivery(nil, &schemas.Delivery{ID: consent.UUID{id}, ChangeID: consent.UUID{1}, Tenant: "default", Subject: subject, Purpose: "a", Downstream: "crm", Outcome: schemas.Delivered}))
}

type pageJSON struct {
	Items []struct {
		Kind        string `json:"kind"`
		RecordedAt  string `json:"recorded_at"`
		Conflicting bool   `json:"conflicting"`
		Position    struct {
			Topic  string `json:"topic"`
			Offset int64  `json:"offset"`
		} `json:"position"`
		Event struct {
			ID     string `json:"event_id"`
			Source string `json:"source"`
		} `json:"event"`
	} `json:"items"`
	Next *string `json:"next_cursor"`
}

func (a *archive) serve(db *table.DB, path string) *httptest.ResponseRecorder {
	a.Helper()
	mux := http.NewServeMux()
	subject := func(raw string) (consent.Subject, error) { return consent.Subject(raw), nil }
	NewHandler(NewHistory(db), subject, slog.New(slog.NewTextHandler(&a.log, nil))).Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func (a *archive) page(query string) pageJSON {
	a.Helper()
	w := a.serve(a.db, query)
	var p pageJSON
	if w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), &p) != nil {
		a.Fatalf("GET %s: %d %s", query, w.Code, w.Body)
	}
	return p
}

func TestHistory_PagesGiveEachItemOnceInOrderThroughTies(t *testing.T) {
	a := newArchive(t)
	const people = "user:1"
	for i := range byte(25) { // five of each kind and more at the same millisecond
		a.put(table.Events, "consent.events", at(int64(i/7)), a.event("default", people, i+1, "s"))
		a.put(table.Changes, "consent.changes", at(int64(i/7)), a.change(people, i+1))
		a.put(table.Deliveries, "consent.deliveries", at(int64(i/7)), a.delivery(people, i+1))
	}
	whole := a.page("/v1/subjects/user:1/history?limit=1000")
	if len(whole.Items) != 75 || whole.Next != nil {
		t.Fatalf("%d items, cursor %v", len(whole.Items), whole.Next)
	}
	rank := map[string]int{"event": 0, "change": 1, "delivery": 2}
	for i := 1; i < len(whole.Items); i++ {
		x, y := whole.Items[i-1], whole.Items[i]
		if x.RecordedAt > y.RecordedAt || x.RecordedAt == y.RecordedAt && rank[x.Kind] > rank[y.Kind] {
			t.Errorf("item %d (%s %s) stands before %s %s", i, x.RecordedAt, x.Kind, y.RecordedAt, y.Kind)
		}
	}
	for _, size := range []int{1, 4, 7, 74, 75} {
		cursor, n := "", 0
		for {
			p := a.page(fmt.Sprintf("/v1/subjects/user:1/history?limit=%d&cursor=%s", size, url.QueryEscape(cursor)))
			for _, item := range p.Items {
				if n >= len(whole.Items) || item != whole.Items[n] {
					t.Fatalf("page size %d: item %d is %+v", size, n, item)
				}
				n++
			}
			if p.Next == nil {
				break
			}
			cursor = *p.Next
		}
		if n != len(whole.Items) {
			t.Errorf("page size %d: %d items", size, n)
		}
	}
}

func TestHistory_ShowsEachContentOnceAndFlagsConflicts(t *testing.T) {
	a := newArchive(t)
	same, other := a.event("default", "user:1", 1, "s"), a.event("default", "user:1", 1, "another")
	a.put(table.Events, "consent.events", at(1), same, same, other, a.event("default", "user:1", 2, "s"))
	a.put(table.Events, "consent.events", at(9), same) // a replay, much later
	a.put(table.Changes, "consent.changes", at(2), a.change("user:1", 1), a.change("user:1", 1))
	a.put(table.Deliveries, "consent.deliveries", at(3), a.delivery("user:1", 1), a.delivery("user:1", 1))
	a.put(table.Events, "consent.events", at(4), []byte("poison"))
	var got []string
	for _, i := range a.page("/v1/subjects/user:1/history").Items {
		got = append(got, fmt.Sprint(i.Kind, " ", i.Event.Source, " ", i.Conflicting))
	}
	if s := strings.Join(got, ", "); s != "event s true, event another true, event s false, change  false, delivery  false" {
		t.Errorf("got %s", s)
	}
	if only := a.page("/v1/subjects/user:1/history?kind=change&kind=delivery"); len(only.Items) != 2 || only.Items[0].Kind != "change" {
		t.Errorf("by kind: %+v", only.Items)
	}
	// The first of the repeats stands for all, so a cursor behind it never meets another one.
	first := a.page("/v1/subjects/user:1/history?limit=1")
	rest := a.page("/v1/subjects/user:1/history?cursor=" + url.QueryEscape(*first.Next))
	if len(rest.Items) != 4 {
		t.Errorf("%d items behind the first, want 4", len(rest.Items))
	}
}

func TestHistory_IsOfOneTenantAndOneSubjectWhateverItsCharacters(t *testing.T) {
	a := newArchive(t)
	odd := consent.Subject("x:a.b_c~d:e@f=g-H")
	a.put(table.Events, "consent.events", at(1), a.event("default", odd, 1, "mine"), a.event("shop-b", odd, 2, "theirs"), a.event("default", "x:other", 3, "other"))
	if p := a.page("/v1/subjects/" + url.PathEscape(string(odd)) + "/history"); len(p.Items) != 1 || p.Items[0].Event.Source != "mine" {
		t.Errorf("%+v", p.Items)
	}
	if p := a.page("/v1/subjects/" + url.PathEscape(string(odd)) + "/history?tenant=shop-b"); len(p.Items) != 1 || p.Items[0].Event.Source != "theirs" {
		t.Errorf("%+v", p.Items)
	}
	for _, subject := range []string{"nobody:1", "x'; DROP TABLE events; --", `x\`, "x{a:String}"} {
		w := a.serve(a.db, "/v1/subjects/"+url.PathEscape(subject)+"/history")
		if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != `{"items":[],"next_cursor":null}` {
			t.Errorf("%q: %d %s", subject, w.Code, w.Body)
		}
	}
}

func TestHistory_LimitsAndFaultsAreTold(t *testing.T) {
	a := newArchive(t)
	var many [][]byte
	for i := range 1200 {
		e := consent.Event{ID: consent.UUID{1, byte(i >> 8), byte(i)}, Tenant: "default", Subject: "user:1", Purpose: "a", Action: consent.Withdraw}
		many = append(many, must(t)(schemas.EncodeEvent(nil, &e)))
	}
	a.put(table.Events, "consent.events", at(1), many...)
	for query, want := range map[string]int{"": 100, "?limit=5": 5, "?limit=1000": 1000, "?limit=100000": 1000} {
		if p := a.page("/v1/subjects/user:1/history" + query); len(p.Items) != want || p.Next == nil {
			t.Errorf("%s: %d items, want %d", query, len(p.Items), want)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=-1", "?limit=x", "?kind=row", "?cursor=!!", "?cursor=MQ", "?tenant=No+Tenant"} {
		w := a.serve(a.db, "/v1/subjects/user:1/history"+query)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "urn:assent:problem:bad-request") {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

// Without its cursor the history would begin again, and without its tenant be another's.
func TestHistory_AQueryThatCannotBeReadWholeIsNotAnsweredInPart(t *testing.T) {
	a := newArchive(t)
	a.put(table.Events, "consent.events", at(1), a.event("default", "user:1", 1, "s"), a.event("default", "user:1", 2, "s"))
	first := a.page("/v1/subjects/user:1/history?limit=1")
	if first.Next == nil {
		t.Fatal("there is no second page")
	}
	for _, query := range []string{"?limit=1&cursor=" + *first.Next + "%", "?limit=1;cursor=" + *first.Next, "?limit=1&tenant=other%", "?limit=1&%=2"} {
		w := a.serve(a.db, "/v1/subjects/user:1/history"+query)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "cannot be read") {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

func TestHistory_IsUnavailableWhileClickHouseIsAwayAndLogsNoSubject(t *testing.T) {
	a := newArchive(t)
	away, err := table.Open("clickhouse://default:x@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	w := a.serve(away, "/v1/subjects/user:secret-person/history")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.Contains(a.log.String()+w.Body.String(), "secret-person") || a.log.Len() == 0 {
		t.Errorf("log %q, body %s", a.log.String(), w.Body)
	}
}

func FuzzParseCursor_NeverPanicsAndRoundTrips(f *testing.F) {
	f.Add(Cursor{RecordedAt: 5, Kind: KindDelivery, Position: kafka.Position{Partition: kafka.Partition{Topic: "a|b", Index: 3}, Offset: 9}}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCursor(text)
		if err != nil {
			return
		}
		if again, err := ParseCursor(c.String()); err != nil || text != "" && again != c {
			t.Fatalf("%+v became %+v, %v", c, again, err)
		}
	})
}
