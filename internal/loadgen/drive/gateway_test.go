package drive

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/loadgen"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/token"
	"github.com/assent-dev/assent/producer/intake"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// target is a gateway and a processor in one: real rules, no broker.
type target struct {
	*httptest.Server
	intake    *intake.Intake
	catalogue *consent.Catalogue

	mu       sync.Mutex
	states   map[consent.SubjectID]*consent.State
	recorded int
	offset   int64
	ids      map[consent.UUID]int
	sentAt   map[consent.UUID][]consent.Instant
	keys     map[string]int // of submissions

	// Faults, each for one test.
	refuse func(*http.Request) (status int) // before anything else; 0 = no
	forget func(*consent.Event) bool        // answered and never folded
}

type fixed struct{ *registry.Registry }

func (fixed) Heard(consent.Tenant, consent.Purpose) bool { return true }

func newTarget(t *testing.T) *target {
	t.Helper()
	key, err := intake.ParseKey("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		t.Fatal(err)
	}
	x := &target{
		intake:    intake.New(func() intake.Registry { return fixed{registry.Sample()} }, intake.NewPseudonymiser(key)),
		catalogue: registry.Sample().Catalogue(consent.DefaultTenant),
		states:    map[consent.SubjectID]*consent.State{}, ids: map[consent.UUID]int{}, sentAt: map[consent.UUID][]consent.Instant{}, keys: map[string]int{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/events", x.events)
	mux.HandleFunc("POST /v1/submissions", x.submissions)
	mux.HandleFunc("POST /v1/decisions", x.decisions)
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.refuse != nil {
			if status := x.refuse(r); status != 0 {
				http.Error(w, "away", status)
				return
			}
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(x.Close)
	return x
}

func (x *target) events(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	if r.Header.Get("Content-Type") == mediaJSON {
		status, answer := x.take(raw)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer)
		return
	}
	results := []any{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		_, answer := x.take(lines.Bytes())
		results = append(results, answer)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"results": results})
}

func (x *target) submissions(w http.ResponseWriter, r *http.Request) {
	var common map[string]json.RawMessage
	var choices map[string]struct {
		Granted bool
		Notice  json.RawMessage
	}
	_ = json.NewDecoder(r.Body).Decode(&common)
	_ = json.Unmarshal(common["choices"], &choices)
	order := json.NewDecoder(bytes.NewReader(common["choices"]))
	delete(common, "choices")
	x.keys[r.Header.Get("Idempotency-Key")]++
	results := []any{}
	for _, _ = order.Token(); order.More(); {
		name, _ := order.Token()
		var skipped json.RawMessage
		_ = order.Decode(&skipped)
		purpose := name.(string)
		id := consent.DeriveUUID(consent.NamespaceEvent, []byte(r.Header.Get("Idempotency-Key")+purpose))
		common["event_id"], common["purpose"] = json.RawMessage(`"`+id.String()+`"`), json.RawMessage(`"`+purpose+`"`)
		common["action"] = json.RawMessage(`"refuse"`)
		delete(common, "notice")
		if choices[purpose].Notice != nil {
			common["notice"] = choices[purpose].Notice
		}
		if choices[purpose].Granted {
			common["action"] = json.RawMessage(`"grant"`)
		}
		event, _ := json.Marshal(common)
		_, answer := x.take(event)
		results = append(results, answer)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"results": results})
}

type problem struct {
	Status int                 `json:"status"`
	Errors []map[string]string `json:"errors,omitempty"`
}

func refusal(status int, codes ...consent.Code) (int, any) {
	p := problem{Status: status}
	for _, c := range codes {
		p.Errors = append(p.Errors, map[string]string{"code": string(c)})
	}
	return status, p
}

// take is what a gateway does to one event, and a processor right after it.
func (x *target) take(raw []byte) (int, any) {
	if len(raw) > 64<<10 {
		return refusal(http.StatusRequestEntityTooLarge)
	}
	event, problems, err := jsonform.ParseEvent(raw)
	if unusable := new(jsonform.Unusable); errors.As(err, &unusable) {
		if unusable.Field == "" {
			return refusal(http.StatusBadRequest)
		}
		return refusal(http.StatusBadRequest, consent.CodeMalformed)
	}
	x.sentAt[event.ID] = append(x.sentAt[event.ID], event.SentAt)
	a, err := x.intake.Accept(intake.Claims{Event: event, Problems: problems, ReceivedAt: consent.InstantOf(time.Now())})
	if faults := (consent.Faults{}); errors.As(err, &faults) {
		var codes []consent.Code
		for _, f := range faults {
			codes = append(codes, f.Code)
		}
		return refusal(http.StatusUnprocessableEntity, codes...)
	} else if err != nil {
		return refusal(http.StatusBadRequest, consent.CodeMalformed)
	}
	e := a.Event
	x.recorded++
	x.offset++
	x.ids[e.ID]++
	if x.forget == nil || !x.forget(&e) {
		x.fold(e)
	}
	warnings := []map[string]string{}
	for _, w := range a.Warnings {
		warnings = append(warnings, map[string]string{"code": string(w.Code)})
	}
	answer := map[string]any{
		"status": "recorded", "event_id": e.ID.String(), "received_at": e.ReceivedAt.String(), "effective_at": e.EffectiveAt.String(),
		"position": map[string]any{"topic": "consent.events", "partition": 0, "offset": x.offset}, "token": token.Encode(0, x.offset), "warnings": warnings,
	}
	if a.Hashed {
		answer["subject"] = string(e.Subject)
	}
	return http.StatusAccepted, answer
}

func (x *target) fold(e consent.Event) {
	e.Digest = schemas.EventDigest(&e)
	id := consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject, Test: e.Test}
	if x.states[id] == nil {
		x.states[id] = &consent.State{Tenant: e.Tenant, Subject: e.Subject, Test: e.Test}
	}
	next, _, carried := consent.Fold(*x.states[id], &e)
	*x.states[id] = next
	for _, c := range carried {
		x.fold(c)
	}
}

func (x *target) decisions(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Queries []wireQuery `json:"queries"`
	}
	_ = json.NewDecoder(r.Body).Decode(&asked)
	answers := []any{}
	for _, q := range asked.Queries {
		at := consent.InstantOf(time.Now())
		s := x.states[consent.SubjectID{Tenant: consent.DefaultTenant, Subject: consent.Subject(q.Subject), Test: q.Test}]
		d := consent.Decide(s, x.catalogue, consent.Query{Purpose: consent.Purpose(q.Purpose), Jurisdiction: consent.Jurisdiction(q.Jurisdiction), At: at})
		y := decisionOf(&d, at)
		answers = append(answers, map[string]any{
			"allowed": y.Allowed, "status": y.Status, "reason": y.Reason, "since": y.Since, "expires_at": y.ExpiresAt, "model": y.Model,
			"policy_version": y.PolicyVersion, "as_of": at.String(),
			"decided_by": map[string]any{"event_id": y.EventID, "purpose": y.Node, "effective_at": y.EffectiveAt},
		})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"decisions": answers})
}

func newGenerator(t *testing.T, o loadgen.Options) *loadgen.Generator {
	t.Helper()
	o.Now = func() consent.Instant { return consent.InstantOf(time.Now()) }
	g, err := loadgen.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", o.Seed)
	return g
}

func newSender(t *testing.T, x *target, log *slog.Logger) *HTTP {
	t.Helper()
	h, err := NewHTTP(x.URL, 8, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}
