package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/logtest"
	"github.com/assent-dev/assent/producer/intake"
)

func TestBatch_EachLineIsAnsweredInOrder(t *testing.T) {
	r := newRig(t)
	large := withdrawalJSON("source", `"`+strings.Repeat("x", maxEventBytes)+`"`)
	lines := []struct {
		body   string
		status any
		codes  string
	}{
		{grantJSON(), "recorded", ""},
		{`{"subject":`, 400.0, ""},
		{withdrawalJSON("subject", `"jane@shop.example"`), "recorded", "subject_hashed:subject"},
		{grantJSON("evidence", `{}`), 422.0, "affirmative:evidence.method"},
		{large, 413.0, ""},
		{`[]`, 400.0, ""},
		{withdrawalJSON("action", `"expire"`), 422.0, "malformed:action"},
		{withdrawalJSON("action", `"refuse"`), "recorded", ""},
	}
	var bodies []string
	for _, l := range lines {
		bodies = append(bodies, l.body)
	}
	valid := append(append([]string{}, bodies[:1]...), bodies[2:]...) // an array must parse as a whole
	for form, c := range map[string]struct {
		media, body string
		skip        int
	}{
		"lines":         {"application/x-ndjson", strings.Join(bodies, "\n"), -1},
		"lines of CRLF": {"application/x-ndjson", "\r\n" + strings.Join(bodies, "\r\n\r\n") + "\r\n", -1},
		"array":         {"application/json", " \n[" + strings.Join(valid, " ,\n") + "]\n", 1},
	} {
		a := r.post("/v1/events", c.media, c.body)
		if a.code != 200 || a.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%s: %d: %.300s", form, a.code, a.body)
		}
		got := a.Results
		for i, l := range lines {
			if i == c.skip {
				continue
			}
			if len(got) == 0 {
				t.Fatalf("%s: %d results", form, len(a.Results))
			}
			if got[0].Status != l.status || (l.codes != "" && got[0].codes() != l.codes) {
				t.Errorf("%s: line %d: %v %q, want %v %q", form, i, got[0].Status, got[0].codes(), l.status, l.codes)
			}
			if l.status == "recorded" && (got[0].Token == "" || got[0].EventID == "") {
				t.Errorf("%s: line %d: no token or id", form, i)
			}
			got = got[1:]
		}
		if len(got) != 0 || a.Accepted != 3 || a.Rejected != len(a.Results)-3 {
			t.Errorf("%s: %d results, %d accepted, %d rejected", form, len(a.Results), a.Accepted, a.Rejected)
		}
	}
	if n := len(r.read(r.topics.Events())); n != 9 {
		t.Errorf("%d events in the log, want 3 of each of 3 batches", n)
	}
}

func TestBatch_EmptyIsAnsweredWithNothing(t *testing.T) {
	r := newRig(t)
	for media, body := range map[string]string{"application/json": "[]", "application/x-ndjson": "\n"} {
		if a := r.post("/v1/events", media, body); a.code != 200 || a.Accepted != 0 || a.Rejected != 0 || len(a.Results) != 0 {
			t.Errorf("%s: %d: %s", media, a.code, a.body)
		}
	}
}

func TestBatch_ManyChunksKeepTheirOrder(t *testing.T) {
	r := newRig(t)
	var b strings.Builder
	const n = 2*chunkEvents + 17
	for i := range n {
		b.WriteString(withdrawalJSON("subject", fmt.Sprintf(`"user:%d"`, i), "event_id", fmt.Sprintf(`"%032x"`, i+1)) + "\n")
	}
	a := r.post("/v1/events", "application/x-ndjson", b.String())
	if a.code != 200 || a.Accepted != n {
		t.Fatalf("%d, %d accepted", a.code, a.Accepted)
	}
	for i, x := range a.Results {
		if id := strings.ReplaceAll(x.EventID, "-", ""); id != fmt.Sprintf("%032x", i+1) {
			t.Fatalf("result %d is of event %s", i, id)
		}
	}
	if got := len(r.read(r.topics.Events())); got != n {
		t.Errorf("%d events in the log, want %d", got, n)
	}
}

// memoryLog stands for the broker where a test is about what is around it.
type memoryLog struct {
	mu      sync.Mutex
	written int
	produce func(ctx context.Context, n int) error // nil = accept
}

func (l *memoryLog) Produce(ctx context.Context, records ...kafka.Record) ([]kafka.Position, error) {
	if l.produce != nil {
		if err := l.produce(ctx, len(records)); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	positions := make([]kafka.Position, len(records))
	for i, r := range records {
		positions[i] = kafka.Position{Partition: kafka.Partition{Topic: r.Topic}, Offset: kafka.LastOffset(l.written)}
		l.written++
	}
	return positions, nil
}

func (l *memoryLog) Close() error { return nil }

// newOffline is a gateway over a memoryLog, without Run.
func newOffline(t testing.TB, log *memoryLog, options ...option) *rig {
	t.Helper()
	key, err := intake.ParseKey(keyHex)
	if err != nil {
		t.Fatal(err)
	}
	sample := sampleRegistry(t)
	client, err := kafka.New(kafka.Config{Brokers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	r := &rig{TB: t, log: &logtest.Buffer{}, now: noon}
	config := Config{}
	deps := Deps{Kafka: client, Registry: func() intake.Registry { return sample }, Subjects: intake.NewPseudonymiser(key), Logger: textLogger(r.log), Now: r.clock}
	for _, o := range options {
		o(&config, &deps)
	}
	if r.gateway, err = New(config, deps); err != nil {
		t.Fatal(err)
	}
	if err := r.gateway.events.Close(); err != nil { // the one that New made
		t.Fatal(err)
	}
	r.gateway.events = log
	mux := http.NewServeMux()
	r.gateway.Register(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func TestBatch_BrokerLostInTheMiddleIsToldForEachEvent(t *testing.T) {
	log := &memoryLog{}
	calls := 0
	log.produce = func(_ context.Context, n int) error {
		if calls++; calls == 1 {
			return nil
		}
		results := make([]kafka.RecordResult, n)
		for i := range results {
			results[i] = kafka.RecordResult{Outcome: kafka.Unknown, Err: errors.New("cut")}
		}
		return &kafka.ProduceError{Results: results}
	}
	r := newOffline(t, log)
	n := 3*chunkEvents + 5
	a := r.post("/v1/events", "application/x-ndjson", strings.Repeat(withdrawalJSON()+"\n", n))
	if a.code != 200 || a.Accepted != chunkEvents || a.Rejected != n-chunkEvents || len(a.Results) != n {
		t.Fatalf("%d, %d accepted, %d rejected, %d results", a.code, a.Accepted, a.Rejected, len(a.Results))
	}
	if calls != 2 {
		t.Errorf("the broker was asked %d times, want 2: the rest of the batch need not wait for it", calls)
	}
	second, third := a.Results[chunkEvents], a.Results[2*chunkEvents]
	if second.Status != 503.0 || !strings.Contains(second.Detail, "not known") || !strings.Contains(second.Detail, "event_id") {
		t.Errorf("an event of unknown outcome: %+v", second)
	}
	if third.Status != 503.0 || !strings.Contains(third.Detail, "nothing was recorded") {
		t.Errorf("an event that was not tried: %+v", third)
	}
}

func TestEvents_UnknownOutcomeNamesTheIDToRepeat(t *testing.T) {
	r := newOffline(t, &memoryLog{produce: func(_ context.Context, n int) error {
		return &kafka.ProduceError{Results: []kafka.RecordResult{{Outcome: kafka.Unknown, Err: context.DeadlineExceeded}}}
	}})
	a := r.postEvent(withdrawalJSON("event_id", `"0195f7a0-0000-7000-8000-000000000003"`))
	if a.code != 503 || !strings.Contains(a.Detail, "0195f7a0-0000-7000-8000-000000000003") || a.header.Get("Retry-After") != "2" {
		t.Errorf("%d %v: %s", a.code, a.header, a.body)
	}
}

func TestLimits_AFloodOfGrantsStopsNoWithdrawal(t *testing.T) {
	entered, release := make(chan struct{}, 8), make(chan struct{})
	log := &memoryLog{produce: func(ctx context.Context, _ int) error {
		entered <- struct{}{}
		<-release
		return nil
	}}
	r := newOffline(t, log, func(c *Config, _ *Deps) { c.MaxInFlight = 1; c.ProduceTimeout = patience })
	var all sync.WaitGroup
	all.Go(func() {
		if a := r.postEvent(grantJSON()); a.code != 202 {
			t.Errorf("the grant that was first: %d", a.code)
		}
	})
	<-entered
	if a := r.postEvent(grantJSON()); a.code != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("the next grant: %d %v: %s", a.code, a.header, a.body)
	}
	s := r.post("/v1/submissions", "application/json", `{"subject":"user:77","choices":{"marketing.email":true}}`)
	if s.code != 200 || s.Results[0].Status != 422.0 {
		t.Errorf("a grant that breaks a rule needs no room: %d: %s", s.code, s.body)
	}
	// Two withdrawals: one has room, the other waits for it, and none is refused.
	for range 2 {
		all.Go(func() {
			if a := r.postEvent(withdrawalJSON()); a.code != 202 {
				t.Errorf("a withdrawal: %d: %s", a.code, a.body)
			}
		})
	}
	<-entered
	close(release)
	all.Wait()
	if log.written != 3 {
		t.Errorf("%d events were written, want 3", log.written)
	}
	if len(r.gateway.limits.others)+len(r.gateway.limits.protective) != 0 {
		t.Error("a place was not given back")
	}
}

func TestLimits_AWithdrawalThatFindsNoRoomInTimeIs503(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, 1)
	log := &memoryLog{produce: func(context.Context, int) error { entered <- struct{}{}; <-release; return nil }}
	r := newOffline(t, log, func(c *Config, _ *Deps) { c.MaxInFlight = 1; c.ProduceTimeout = 50 * time.Millisecond })
	var first sync.WaitGroup
	first.Go(func() { r.postEvent(withdrawalJSON()) })
	<-entered
	if a := r.postEvent(withdrawalJSON()); a.code != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("%d: %s", a.code, a.body)
	}
	close(release)
	first.Wait()
}

func TestLimits_ABatchBeyondTheBudgetIsReadForItsProtectiveEvents(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, 8)
	log := &memoryLog{produce: func(context.Context, int) error { entered <- struct{}{}; <-release; return nil }}
	r := newOffline(t, log, func(c *Config, _ *Deps) { c.MaxBatches = 1; c.ProduceTimeout = patience })
	r.gateway.limits.batchWait = 10 * time.Millisecond
	batch := grantJSON() + "\n" + withdrawalJSON() + "\n" + grantJSON("evidence", "{}")
	var all sync.WaitGroup
	all.Go(func() {
		if a := r.post("/v1/events", "application/x-ndjson", batch); a.Accepted != 2 {
			t.Errorf("the first batch: %s", a.body)
		}
	})
	<-entered
	all.Go(func() {
		a := r.post("/v1/events", "application/x-ndjson", batch)
		if a.Accepted != 1 || a.Results[0].Status != 429.0 || a.Results[1].Status != "recorded" || a.Results[2].Status != 422.0 {
			t.Errorf("the batch beyond: %s", a.body)
		}
	})
	<-entered
	close(release)
	all.Wait()
	if len(r.gateway.limits.batches)+len(r.gateway.limits.overflow) != 0 {
		t.Error("a place was not given back")
	}
}

func TestGuard_APanicIs500AndALineWithoutPayload(t *testing.T) {
	r := newOffline(t, &memoryLog{}, func(_ *Config, d *Deps) {
		d.Registry = func() intake.Registry { panic("user:77 made it") }
	})
	a := r.postEvent(withdrawalJSON())
	if a.code != 500 || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d: %s", a.code, a.body)
	}
	if log := r.log.String(); !strings.Contains(log, "panicked") || !strings.Contains(log, "intake.go") || strings.Contains(log, "user:77") {
		t.Errorf("log: %s", log)
	}
}

func TestGuard_APanicInTheMiddleCutsTheAnswerOff(t *testing.T) {
	calls := 0
	r := newOffline(t, &memoryLog{produce: func(context.Context, int) error {
		if calls++; calls == 2 {
			panic("in the second chunk")
		}
		return nil
	}})
	response, err := http.Post(r.url+"/v1/events", "application/x-ndjson", strings.NewReader(strings.Repeat(withdrawalJSON()+"\n", chunkEvents+1)))
	if err == nil {
		_, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
	}
	if err == nil {
		t.Error("the answer seems whole")
	}
	if len(r.gateway.limits.batches) != 0 {
		t.Error("the place of the batch was not given back")
	}
}

func TestNew_RefusesSettingsThatCannotWork(t *testing.T) {
	for _, c := range []Config{{MaxInFlight: -1}, {MaxBatches: -1}, {ProduceTimeout: -1}, {IntakeStripes: 2000}} {
		if _, err := New(c, Deps{}); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("a gateway without parts was made")
	}
}

func TestEvents_AWriteThatHasBegunOutlivesItsSender(t *testing.T) {
	noticed, done := make(chan struct{}), make(chan error, 1)
	entered := make(chan struct{})
	log := &memoryLog{produce: func(ctx context.Context, _ int) error {
		close(entered)
		<-noticed
		done <- ctx.Err()
		return nil
	}}
	r := newOffline(t, log)
	mux := http.NewServeMux()
	r.gateway.Register(mux)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		context.AfterFunc(request.Context(), func() { close(noticed) }) // the server has seen it
		mux.ServeHTTP(w, request)
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(context.Background())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/v1/events", strings.NewReader(withdrawalJSON()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
		}
	}()
	<-entered
	cancel()
	<-gone
	if err := <-done; err != nil {
		t.Errorf("the write ended with its sender: %v", err)
	}
}

func TestEvents_ARestrictionGoesOnWithoutTextsThatFitNoRecord(t *testing.T) {
	r := newOffline(t, &memoryLog{})
	e := consent.Event{ID: consent.UUID{1}, Tenant: "default", Subject: "user:77", Purpose: "marketing.email", Action: consent.Withdraw, Source: strings.Repeat("x", 100_000)}
	a := intake.Accepted{Event: e}
	if _, err := r.gateway.record(&a, ""); err != nil || a.Event.Source != "" || len(a.Warnings) != 1 {
		t.Errorf("%v, warnings %v", err, a.Warnings)
	}
	e.Action = consent.Grant
	a = intake.Accepted{Event: e}
	var faults consent.Faults
	if _, err := r.gateway.record(&a, ""); !errors.As(err, &faults) || faults[0].Code != consent.CodeMalformed || faults[0].Field != "source" {
		t.Errorf("a grant: %v", err)
	}
}

func FuzzHandler_NeverAnswers500(f *testing.F) {
	r := newOffline(f, &memoryLog{})
	mux := http.NewServeMux()
	r.gateway.Register(mux)
	for _, body := range []string{grantJSON(), withdrawalJSON(), "[" + grantJSON() + ",17]", grantJSON() + "\n{", `{"subject":"user:77","choices":{"a":true,"b":{"granted":false,"evidence":{}}}}`, `[[`, "\x00"} {
		for media := range 3 {
			f.Add([]byte(body), uint8(media), "key")
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, form uint8, key string) {
		path, media := "/v1/events", "application/json"
		switch form % 3 {
		case 1:
			media = "application/x-ndjson"
		case 2:
			path = "/v1/submissions"
		}
		request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(body)))
		request.Header.Set("Content-Type", media)
		request.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, request)
		if w.Code >= 500 {
			t.Fatalf("%d: %s\n%s", w.Code, w.Body, r.log)
		}
		if text, _ := io.ReadAll(w.Body); !json.Valid(text) {
			t.Fatalf("%d, and no JSON: %q", w.Code, text)
		}
	})
}
