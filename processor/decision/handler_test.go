package decision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/assent-dev/assent/consent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is States over a map.
type memory struct {
	mu      sync.Mutex
	states  map[consent.Subject]*consent.State
	away    map[consent.Subject]bool // owned by another process
	loses   map[consent.Subject]bool // lost between the look-up and the answer
	folded  map[int32]int64          // largest offset
	changed chan struct{}
	panics  bool
	now     time.Time                     // when states are read,
	read    map[consent.Subject]time.Time // but for these
	asked   []int                         // the sizes of the look-ups
}

func (m *memory) States(_ context.Context, ids []consent.SubjectID) []Known {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, len(ids))
	known := make([]Known, len(ids))
	for i, id := range ids {
		if m.panics {
			panic("about " + string(id.Subject))
		}
		if m.away[id.Subject] {
			continue
		}
		known[i].OK = true
		known[i].AsOf = m.read[id.Subject]
		known[i].Valid = func() bool { return !m.loses[id.Subject] }
		if state := m.states[id.Subject]; state != nil && state.Test == id.Test {
			known[i].State = state
		}
		if known[i].AsOf.IsZero() {
			known[i].AsOf = m.now
		}
	}
	return known
}

func (m *memory) fold(partition int32, offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.folded[partition] = offset
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) WaitFolded(ctx context.Context, after []Position) error {
	for _, p := range after {
		for {
			m.mu.Lock()
			last, ok := m.folded[p.Partition]
			changed := m.changed
			m.mu.Unlock()
			if ok && last >= p.Offset {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

var (
	begin = consent.InstantOf(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))
	id1   = consent.UUID{1, 2, 3}
	id2   = consent.UUID{4, 5, 6}
)

func catalogue() *consent.Catalogue {
	models := consent.ByJurisdiction[consent.Model]{"": consent.OptIn, "US": consent.OptOut}
	return consent.NewCatalogue("default", "r1", []*consent.Declaration{
		{ID: "news", LegalBasis: consent.BasisConsent},
		{ID: "news.email", LegalBasis: consent.BasisConsent},
		{ID: "ads", LegalBasis: consent.BasisConsent, Models: models, SaleOrShare: true},
		{ID: "billing", LegalBasis: consent.BasisContract},
		{ID: "tracking", LegalBasis: consent.BasisConsent, Scope: consent.ScopeDevice},
	})
}

func say(id consent.UUID, subject consent.Subject, action consent.Action, purpose consent.Purpose, at consent.Instant) *consent.Event {
	return &consent.Event{
		ID: id, Tenant: "default", Subject: subject, Action: action, Purpose: purpose, OccurredAt: at, ReceivedAt: at, EffectiveAt: at,
		Notice: consent.Notice{ID: "n \"1\"", Version: "é3"}, Policy: &consent.Policy{Version: "r0", Model: consent.OptIn},
	}
}

func stateOf(events ...*consent.Event) *consent.State {
	var s consent.State
	for _, e := range events {
		s, _, _ = consent.Fold(s, e)
	}
	return &s
}

// service is a handler over memory.
type service struct {
	*memory
	http.Handler
	log      bytes.Buffer
	registry *prometheus.Registry
}

func newService(t testing.TB, states ...*consent.State) *service {
	t.Helper()
	m := &memory{
		states: map[consent.Subject]*consent.State{}, away: map[consent.Subject]bool{}, loses: map[consent.Subject]bool{},
		folded: map[int32]int64{}, changed: make(chan struct{}), now: begin.Time().Add(time.Hour), read: map[consent.Subject]time.Time{},
	}
	for _, s := range states {
		m.states[s.Subject] = s
	}
	s := &service{memory: m, registry: prometheus.NewRegistry()}
	c := catalogue()
	h, err := New(Config{
		States: m,
		Catalogue: func(tenant consent.Tenant) *consent.Catalogue {
			if tenant != c.Tenant {
				return consent.NewCatalogue(tenant, "", nil)
			}
			return c
		},
		Subject: func(raw string) (consent.Subject, error) {
			if strings.Contains(raw, "@") {
				return "email-hmac:ab12", nil
			}
			return consent.ParseSubject(raw)
		},
		Now:        func() time.Time { return s.now },
		Registerer: s.registry,
		Logger:     slog.New(slog.NewTextHandler(&s.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Register(mux)
	s.Handler = mux
	return s
}

// ask sends a request and gives status and body.
func (s *service) ask(t testing.TB, method, target, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

// expect fails unless a 200 has exactly this JSON.
func (s *service) expect(t *testing.T, method, target, body, want string, headers ...string) {
	t.Helper()
	code, got, h := s.ask(t, method, target, body, headers...)
	var a, b any
	if err := json.Unmarshal([]byte(got), &a); err != nil {
		t.Fatalf("%s: %v in %s", target, err, got)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatalf("the test's own JSON: %v", err)
	}
	if code != 200 || !reflect.DeepEqual(a, b) {
		t.Errorf("%s:\n got %d %s\nwant %s", target, code, got, want)
	}
	if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", h)
	}
}

func TestDecisions_AGrantIsAnsweredWithAllThatDecidedIt(t *testing.T) {
	grant := say(id1, "user:1", consent.Grant, "news.email", begin)
	grant.Policy.ExpiresAt = begin.Add(48 * time.Hour)
	s := newService(t, stateOf(grant))
	s.expect(t, "GET", "/v1/decisions?subject=user:1&purpose=news.email&jurisdiction=de", "", `{
		"subject":"user:1","purpose":"news.email","allowed":true,"status":"granted","reason":"explicit","legal_basis":"consent",
		"since":"2026-03-01T09:00:00.000Z","expires_at":"2026-03-03T09:00:00.000Z",
		"decided_by":{"event_id":"01020300-0000-0000-0000-000000000000","purpose":"news.email","effective_at":"2026-03-01T09:00:00.000Z"},
		"model":"opt_in","jurisdiction":"DE","notice":{"id":"n \"1\"","version":"é3"},"policy_version":"r0","version":1,
		"as_of":"2026-03-01T10:00:00.000Z"}`)
}

func TestDecisions_AnUnknownSubjectGetsTheDefault(t *testing.T) {
	s := newService(t)
	s.expect(t, "GET", "/v1/decisions?subject=user:9&purpose=ads&jurisdiction=US-CA", "",
		`{"subject":"user:9","purpose":"ads","allowed":true,"status":"none","reason":"default","legal_basis":"consent","model":"opt_out","jurisdiction":"US-CA","policy_version":"r1","as_of":"2026-03-01T10:00:00.000Z"}`)
	// An unknown code counts as empty: the strictest that could apply.
	s.expect(t, "GET", "/v1/decisions?subject=user:9&purpose=ads&jurisdiction=atlantis", "",
		`{"subject":"user:9","purpose":"ads","allowed":false,"status":"none","reason":"default","legal_basis":"consent","model":"opt_in","policy_version":"r1","as_of":"2026-03-01T10:00:00.000Z"}`)
	s.expect(t, "GET", "/v1/decisions?subject=user:9&purpose=billing", "",
		`{"subject":"user:9","purpose":"billing","allowed":true,"status":"none","reason":"basis","legal_basis":"contract","as_of":"2026-03-01T10:00:00.000Z"}`)
	s.expect(t, "GET", "/v1/decisions?subject=user:9&purpose=ads&jurisdiction=US&tenant=other", "",
		`{"subject":"user:9","purpose":"ads","allowed":false,"status":"none","reason":"default","model":"opt_in","jurisdiction":"US","as_of":"2026-03-01T10:00:00.000Z"}`)
}

// fields picks fields of a decision as text.
func fields(t *testing.T, text string, names ...string) string {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, d[n])
	}
	return b.String()
}

func TestDecisions_TheGPCHeaderDeniesSaleOrShare(t *testing.T) {
	s := newService(t)
	_, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:9&purpose=ads&jurisdiction=US", "", "Sec-GPC", "1")
	if got := fields(t, body, "allowed", "reason"); got != "false gpc" {
		t.Errorf("got %s", got)
	}
	for _, value := range []string{"0", "true", ""} {
		if _, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:9&purpose=ads&jurisdiction=US", "", "Sec-GPC", value); fields(t, body, "allowed") != "true" {
			t.Errorf("Sec-GPC: %q denied", value)
		}
	}
}

func TestDecisions_SeveralSubjectsAreOnePerson(t *testing.T) {
	person := stateOf(say(id1, "user:1", consent.Grant, "news.email", begin), say(id1, "user:1", consent.Grant, "tracking", begin))
	device := stateOf(say(id2, "device:1", consent.Withdraw, "news", begin.Add(time.Second)))
	s := newService(t, person, device)
	_, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:1&subject=device:1&purpose=news.email", "")
	if got := fields(t, body, "subject", "subjects", "allowed", "status", "reason"); got != "user:1 [user:1 device:1] false withdrawn ancestor" {
		t.Errorf("the device's withdrawal: %s", got)
	}
	// A device that has nothing on record silences the account for a device's purpose.
	_, body, _ = s.ask(t, "GET", "/v1/decisions?subject=user:1&subject=device:2&purpose=tracking", "")
	if got := fields(t, body, "allowed", "status"); got != "false none" {
		t.Errorf("a purpose of scope device, with a device named: %s", got)
	}
	_, body, _ = s.ask(t, "POST", "/v1/decisions", `{"queries":[{"subjects":["user:1","device:1"],"purpose":"news.email"}]}`)
	if !strings.Contains(body, `"subjects":["user:1","device:1"]`) || !strings.Contains(body, `"allowed":false`) {
		t.Errorf("the same in a POST: %s", body)
	}
}

func TestDecisions_ARawSubjectIsAnsweredUnderItsPseudonym(t *testing.T) {
	s := newService(t, stateOf(say(id1, "email-hmac:ab12", consent.Withdraw, "news", begin)))
	_, body, _ := s.ask(t, "GET", "/v1/decisions?subject=a%40b.c&purpose=news", "")
	if got := fields(t, body, "subject", "status"); got != "email-hmac:ab12 withdrawn" || strings.Contains(body, "@") {
		t.Errorf("got %s", body)
	}
}

func TestDecisions_ExpiryIsEvaluatedAndNeverUndone(t *testing.T) {
	grant := say(id1, "user:1", consent.Grant, "news.email", begin)
	grant.Policy.ExpiresAt = begin.Add(time.Minute)
	later := say(id2, "user:1", consent.Grant, "ads", begin.Add(2*time.Minute))
	s := newService(t, stateOf(grant, later))
	for name, now := range map[string]time.Time{"in time": begin.Time().Add(time.Hour), "set back": begin.Time().Add(-time.Hour)} {
		s.now = now
		_, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:1&purpose=news.email", "")
		if got := fields(t, body, "allowed", "status", "reason", "since"); got != "false expired expiry 2026-03-01T09:01:00.000Z" {
			t.Errorf("clock %s: %s", name, got)
		}
	}
	s = newService(t, stateOf(grant))
	s.now = begin.Time().Add(59 * time.Second)
	if _, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:1&purpose=news.email", ""); fields(t, body, "allowed") != "true" {
		t.Errorf("before it expires: %s", body)
	}
}

func TestDecisions_WhatCannotBeKnownIsDenied(t *testing.T) {
	s := newService(t, stateOf(say(id1, "user:1", consent.Grant, "news.email", begin)))
	want := `{"subject":"user:1","purpose":"news.email","allowed":false,"reason":"unavailable","as_of":"2026-03-01T10:00:00.000Z"}`
	s.loses["user:1"] = true
	s.expect(t, "GET", "/v1/decisions?subject=user:1&purpose=news.email", "", want)
	s.loses, s.away["user:1"] = nil, true
	s.expect(t, "GET", "/v1/decisions?subject=user:1&purpose=news.email", "", want)
	// One of several is enough.
	_, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:2&subject=user:1&purpose=billing", "")
	if got := fields(t, body, "allowed", "reason"); got != "false unavailable" {
		t.Errorf("got %s", got)
	}
	_, body, _ = s.ask(t, "GET", "/v1/subjects/user:1/consents", "")
	if strings.Count(body, `"reason":"unavailable"`) != 5 || strings.Contains(body, `"allowed":true`) {
		t.Errorf("consents: %s", body)
	}
}

func TestDecisions_AsOfIsWhenTheOldestStateWasRead(t *testing.T) {
	s := newService(t, stateOf(say(id1, "user:1", consent.Grant, "news.email", begin)))
	s.read["user:1"] = s.now.Add(-300 * time.Millisecond)
	s.read["user:2"] = s.now.Add(-700 * time.Millisecond)
	s.read["user:3"] = s.now.Add(time.Hour) // its owner's clock is ahead of ours
	for subjects, want := range map[string]string{
		"subject=user:1":                "2026-03-01T09:59:59.700Z",
		"subject=user:1&subject=user:2": "2026-03-01T09:59:59.300Z",
		"subject=user:3":                "2026-03-01T10:00:00.000Z",
		"subject=user:4":                "2026-03-01T10:00:00.000Z",
	} {
		if _, body, _ := s.ask(t, "GET", "/v1/decisions?purpose=news.email&"+subjects, ""); fields(t, body, "as_of") != want {
			t.Errorf("%s: %s, want as_of %s", subjects, body, want)
		}
	}
	// A State that knows an event is at least as new as that event.
	s.now = begin.Time().Add(-time.Hour)
	s.read["user:1"] = s.now
	if _, body, _ := s.ask(t, "GET", "/v1/decisions?purpose=news.email&subject=user:1", ""); fields(t, body, "as_of") != "2026-03-01T09:00:00.000Z" {
		t.Errorf("clock set back: %s", body)
	}
}

func TestDecisions_ARequestLooksUpEachSubjectOnce(t *testing.T) {
	s := newService(t)
	s.ask(t, "POST", "/v1/decisions", `{"queries":[{"subject":"user:1","purpose":"news"},{"subjects":["user:2","user:1"],"purpose":"news"},{"subject":"user:1","purpose":"ads"},{"subject":"user:1","purpose":"ads","test":true}]}`)
	s.ask(t, "GET", "/v1/subjects/user:1/consents", "")
	s.ask(t, "GET", "/v1/decisions?subject=user:1&subject=user:2&purpose=ads", "")
	s.ask(t, "POST", "/v1/decisions", `{"queries":[]}`)
	if want := []int{3, 1, 2}; !reflect.DeepEqual(s.asked, want) {
		t.Errorf("looked up %v, want %v", s.asked, want)
	}
}

func TestDecisions_TestQueriesSeeTestStates(t *testing.T) {
	e := say(id1, "user:1", consent.Grant, "news.email", begin)
	e.Test = true
	s := newService(t, stateOf(e))
	for target, want := range map[string]string{"&test=true": "granted", "&test=false": "none", "": "none"} {
		if _, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:1&purpose=news.email"+target, ""); fields(t, body, "status") != want {
			t.Errorf("%q: %s", target, body)
		}
	}
	_, body, _ := s.ask(t, "POST", "/v1/decisions?test=true", `{"queries":[{"subject":"user:1","purpose":"news.email"}]}`)
	if !strings.Contains(body, `"status":"granted"`) {
		t.Errorf("test=true on a POST: %s", body)
	}
}

func TestDecisions_ABatchIsAnsweredInOrder(t *testing.T) {
	s := newService(t, stateOf(say(id1, "user:1", consent.Grant, "news.email", begin)))
	var queries, want []string
	for i := range maxQueries {
		subject := fmt.Sprintf("user:%d", i%3)
		queries = append(queries, fmt.Sprintf(`{"subject":%q,"purpose":"news.email","jurisdiction":null}`, subject))
		want = append(want, fmt.Sprintf("%s %v", subject, i%3 == 1))
	}
	code, body, _ := s.ask(t, "POST", "/v1/decisions", `{"queries":[`+strings.Join(queries, ",")+`]}`, "Content-Type", "application/json; charset=utf-8")
	var answer struct {
		Decisions []struct {
			Subject string
			Allowed bool
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != 200 {
		t.Fatal(code, err)
	}
	var got []string
	for _, d := range answer.Decisions {
		got = append(got, fmt.Sprintf("%s %v", d.Subject, d.Allowed))
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("answers are not those of the queries, in order")
	}
	s.expect(t, "POST", "/v1/decisions", `{"queries":[]}`, `{"decisions":[]}`)
	code, body, _ = s.ask(t, "POST", "/v1/decisions", `{"queries":[`+strings.Join(append(queries, queries[0]), ",")+`]}`)
	if code != 400 || !strings.Contains(body, "at most 1000") {
		t.Errorf("one more: %d %s", code, body)
	}
}

func TestConsents_EveryDeclaredPurposeAndAllOnRecord(t *testing.T) {
	s := newService(t, stateOf(say(id1, "user:1", consent.Withdraw, "partners.acme", begin), say(id2, "user:1", consent.Grant, "news.email", begin)))
	code, body, _ := s.ask(t, "GET", "/v1/subjects/user:1/consents?jurisdiction=US", "")
	var answer struct{ Decisions []map[string]any }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != 200 {
		t.Fatal(code, err)
	}
	var got []string
	for _, d := range answer.Decisions {
		got = append(got, fmt.Sprint(d["purpose"], "=", d["status"]))
	}
	want := []string{"ads=none", "billing=none", "news=none", "news.email=granted", "partners.acme=withdrawn", "tracking=none"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// counters gives the counters of a name that are not 0, by their labels.
func (s *service) counters(t *testing.T, name string) map[string]float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if v := m.GetCounter().GetValue(); v > 0 {
				got[strings.Join(labels, " ")] = v
			}
		}
	}
	return got
}

func TestDecisions_APanicIsA500WithoutPayload(t *testing.T) {
	s := newService(t)
	s.panics = true
	code, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:s3cret&purpose=news", "")
	if text := s.log.String(); code != 500 || strings.Contains(body+text, "s3cret") || !strings.Contains(text, "a decision failed") {
		t.Errorf("%d %s, log %s", code, body, text)
	}
}

func TestDecisions_AreCountedByReason(t *testing.T) {
	s := newService(t)
	s.ask(t, "POST", "/v1/decisions", `{"queries":[{"subject":"user:1","purpose":"news"},{"subject":"user:1","purpose":"billing"},{"subject":"user:1","purpose":"news"}]}`)
	got := s.counters(t, "assent_decisions_total")
	if want := map[string]float64{"allowed=false reason=default": 2, "allowed=true reason=basis": 1}; !reflect.DeepEqual(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

func TestNew_SaysWhatIsMissing(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("nothing is required")
	}
	s := newService(t)
	if _, err := New(Config{States: s.memory, Catalogue: func(consent.Tenant) *consent.Catalogue { return nil }, Subject: func(string) (consent.Subject, error) { return "", errors.New("no") }, Registerer: s.registry}); err == nil {
		t.Error("metrics registered twice without an error")
	}
}
