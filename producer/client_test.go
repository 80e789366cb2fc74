package producer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/producer"
	"github.com/assent-dev/assent/producer/gateway"
	"github.com/assent-dev/assent/producer/intake"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(brokertest.Main(m.Run, os.Getenv)) }

const patience = 20 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	return ctx
}

// pipeline is a gateway in this process, on a broker.
type pipeline struct {
	url     string
	brokers []string
	topics  topic.Names
	kafka   *kafka.Client
}

func startPipeline(t testing.TB) *pipeline {
	t.Helper()
	cluster := brokertest.Start(t, brokertest.Options{InProcess: func() []string {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cluster.Close)
		return cluster.ListenAddrs()
	}})
	topics := topic.Names{Prefix: cluster.Prefix()}
	client, err := kafka.New(kafka.Config{Brokers: cluster.Addrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if _, err := client.Provision(testContext(t), topics.Specs(topic.Layout{Partitions: 3, Replication: cluster.Replication()}), false); err != nil {
		t.Fatal(err)
	}
	key, err := intake.ParseKey(strings.Repeat("5a", 32))
	if err != nil {
		t.Fatal(err)
	}
	sample := registry.Sample()
	g, err := gateway.New(gateway.Config{Topics: topics}, gateway.Deps{
		Kafka: client, Registry: func() intake.Registry { return sample }, Subjects: intake.NewPseudonymiser(key),
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	g.Register(mux)
	server := httptest.NewServer(mux)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		server.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &pipeline{server.URL, cluster.Addrs(), topics, client}
}

// events waits until the log has n events, and gives them.
func (p *pipeline) events(t *testing.T, n int) []consent.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(testContext(t), patience)
	defer cancel()
	from := map[kafka.Partition]kafka.NextOffset{}
	for i := range int32(3) {
		from[kafka.Partition{Topic: p.topics.Events(), Index: i}] = 0
	}
	f := p.kafka.NewFetcher(from, kafka.FetchOptions{})
	defer f.Close() //nolint:errcheck // always nil
	var all []consent.Event
	for len(all) < n {
		batches, err := f.Fetch(ctx)
		if err != nil {
			t.Fatalf("after %d of %d events: %v", len(all), n, err)
		}
		for _, b := range batches {
			for _, m := range b.Messages {
				e, err := schemas.DecodeEvent(m.Value)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, e)
			}
		}
	}
	return all
}

func newClient(t testing.TB, url string) *producer.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := producer.NewClient(producer.ClientConfig{URL: url, HTTP: &http.Client{Transport: transport}, RetryFor: patience})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func grant() consent.Event {
	return consent.Event{
		Subject: "user:77", Purpose: "marketing.email", Action: consent.Grant, Channel: consent.Web,
		OccurredAt: consent.InstantOf(time.Now()), Jurisdiction: "US-CA", Source: "shop/1", Property: "shop.example",
		Notice:   consent.Notice{ID: "newsletter", Version: "1", Language: "en"},
		Evidence: consent.Evidence{Method: consent.Checkbox, ControlDefault: consent.DefaultOff, PageURL: "https://shop.example/prefs"},
		Actor:    consent.Actor{Type: consent.ActorAgent, ID: "agent:5"},
	}
}

func TestClient_SendIsRecordedAsClaimed(t *testing.T) {
	p := startPipeline(t)
	c := newClient(t, p.url)
	e := grant()
	e.Policy, e.EffectiveAt = &consent.Policy{Version: "mine"}, 1
	receipt, err := c.Send(testContext(t), e)
	if err != nil {
		t.Fatal(err)
	}
	if receipt.EventID.IsZero() || receipt.Token == "" || receipt.Topic != p.topics.Events() || len(receipt.Warnings) != 0 {
		t.Errorf("%+v", receipt)
	}
	got := p.events(t, 1)[0]
	if got.ID != receipt.EventID || got.EffectiveAt != receipt.EffectiveAt || got.ReceivedAt != receipt.ReceivedAt || got.SentAt == 0 {
		t.Errorf("%+v", got)
	}
	want := grant()
	if got.Subject != want.Subject || got.Evidence != want.Evidence || got.Actor != want.Actor || got.Source != want.Source || got.Jurisdiction != "US-CA" || got.Policy.Version == "mine" {
		t.Errorf("%+v", got)
	}
}

func TestClient_SendTellsWarningsAndTheHashedSubject(t *testing.T) {
	p := startPipeline(t)
	receipt, err := newClient(t, p.url).Send(testContext(t), consent.Event{Subject: "jane@shop.example", Purpose: "nowhere", Action: consent.Withdraw})
	if err != nil {
		t.Fatal(err)
	}
	if receipt.Subject.Namespace() != consent.NamespaceEmailHMAC || !slices.ContainsFunc(receipt.Warnings, func(w consent.Warning) bool { return w.Code == consent.WarnUnknownPurpose && w.Message != "" }) {
		t.Errorf("%+v", receipt)
	}
}

func TestClient_ARefusalIsItsFaultsAndIsNotTriedAgain(t *testing.T) {
	p := startPipeline(t)
	e := grant()
	e.Notice, e.Evidence.Method = consent.Notice{}, consent.Scroll
	start := time.Now()
	_, err := newClient(t, p.url).Send(testContext(t), e)
	var faults consent.Faults
	var answer *producer.ResponseError
	if !errors.As(err, &faults) || len(faults) != 2 || !errors.As(err, &answer) || answer.Status != 422 || answer.Type == "" {
		t.Errorf("%v", err)
	}
	if strings.Contains(err.Error(), "user:77") || time.Since(start) > patience/2 {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
}

// flaky answers as a gateway does that is sometimes away.
type flaky struct {
	mu     sync.Mutex
	bodies []string
	keys   []string
	answer func(n int, w http.ResponseWriter, body string)
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	f.bodies, f.keys = append(f.bodies, string(body)), append(f.keys, r.Header.Get("Idempotency-Key"))
	n := len(f.bodies)
	f.mu.Unlock()
	f.answer(n, w, string(body))
}

func away(w http.ResponseWriter, status int) {
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"status":%d,"detail":"away"}`, status)
}

func recorded(body string) string {
	e, _, _ := jsonform.ParseEvent([]byte(body))
	return fmt.Sprintf(`{"status":"recorded","event_id":%q,"received_at":"2026-03-01T12:00:00.000Z","effective_at":"2026-03-01T12:00:00.000Z","position":{"topic":"t","partition":1,"offset":2},"token":"x","warnings":[]}`, e.ID)
}

func TestClient_TriesAgainWithTheSameEventAndHonoursRetryAfter(t *testing.T) {
	f := &flaky{answer: func(n int, w http.ResponseWriter, body string) {
		switch n {
		case 1:
			away(w, 503)
		case 2:
			away(w, 429)
		case 3: // the connection is cut
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, recorded(body))
		}
	}}
	server := httptest.NewServer(f)
	defer server.Close()
	start := time.Now()
	receipt, err := newClient(t, server.URL).Send(testContext(t), consent.Event{Subject: "user:77", Purpose: "a", Action: consent.Withdraw, Channel: consent.Web})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("two Retry-After of 1 s were passed in %s", took)
	}
	sent := map[consent.Instant]bool{}
	for i, body := range f.bodies {
		e, problems, err := jsonform.ParseEvent([]byte(body))
		if err != nil || len(problems) > 0 {
			t.Fatalf("attempt %d: %v %v", i, problems, err)
		}
		first, _, _ := jsonform.ParseEvent([]byte(f.bodies[0]))
		sent[e.SentAt] = true
		e.SentAt, first.SentAt = 0, 0
		if e.ID != receipt.EventID || e.OccurredAt == 0 || !bytes.Equal(schemas.EventClaims(&e), schemas.EventClaims(&first)) {
			t.Errorf("attempt %d says something else: %s", i, body)
		}
	}
	if len(f.bodies) != 4 || len(sent) < 3 {
		t.Errorf("%d attempts, %d values of sent_at", len(f.bodies), len(sent))
	}
}

func TestClient_StopsTryingWithItsContext(t *testing.T) {
	f := &flaky{answer: func(_ int, w http.ResponseWriter, _ string) { away(w, 503) }}
	server := httptest.NewServer(f)
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := newClient(t, server.URL).Send(ctx, grant())
	var answer *producer.ResponseError
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &answer) || answer.Status != 503 {
		t.Errorf("%v", err)
	}
}

func TestClient_SendManyTriesAgainOnlyWhatWasNotConfirmed(t *testing.T) {
	f := &flaky{answer: func(n int, w http.ResponseWriter, body string) {
		var results []string
		for i, line := range strings.Split(strings.TrimSpace(body), "\n") {
			switch {
			case n == 1 && i == 1:
				results = append(results, `{"status":503,"detail":"away"}`)
			case n == 1 && i == 2:
				results = append(results, `{"status":422,"errors":[{"code":"fresh","field":"occurred_at","message":"m"}]}`)
			default:
				results = append(results, recorded(line))
			}
		}
		_, _ = fmt.Fprintf(w, `{"results":[%s]}`, strings.Join(results, ","))
	}}
	server := httptest.NewServer(f)
	defer server.Close()
	events := []consent.Event{grant(), grant(), grant(), {Subject: "user:77", Purpose: "a", Action: consent.Withdraw}}
	results, err := newClient(t, server.URL).SendMany(testContext(t), events)
	if err != nil || len(results) != 4 {
		t.Fatalf("%v, %v", results, err)
	}
	for i, r := range results {
		if (r.Err != nil) != (i == 2) || (r.Err == nil && r.Receipt.EventID.IsZero()) {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if len(f.bodies) != 2 || strings.Count(f.bodies[1], "\n") != 1 {
		t.Errorf("%d requests, the second: %s", len(f.bodies), f.bodies[len(f.bodies)-1])
	}
	if events[0].ID != (consent.UUID{}) {
		t.Error("the caller's events were changed")
	}
}

func TestClient_SendManyOverTheWire(t *testing.T) {
	p := startPipeline(t)
	const n = 4500 // more than one request
	events := make([]consent.Event, n)
	for i := range events {
		events[i] = consent.Event{Subject: consent.Subject(fmt.Sprintf("user:%d", i)), Purpose: "analytics", Action: consent.Refuse}
	}
	events[n/2].Action, events[n/2].Purpose = consent.Grant, "nowhere"
	results, err := newClient(t, p.url).SendMany(testContext(t), events)
	if err != nil || len(results) != n {
		t.Fatalf("%d results, %v", len(results), err)
	}
	for i, r := range results {
		if (r.Err != nil) != (i == n/2) {
			t.Errorf("result %d: %v", i, r.Err)
		}
	}
	p.events(t, n-1)
}

func TestClient_SubmitIsOneAct(t *testing.T) {
	p := startPipeline(t)
	act := grant()
	act.Evidence = consent.Evidence{Method: consent.Toggle, ControlDefault: consent.DefaultOff, Control: consent.Save}
	result, err := newClient(t, p.url).Submit(testContext(t), producer.Submission{Act: act, Choices: []producer.Choice{
		{Purpose: "marketing.email", Granted: true},
		{Purpose: "analytics", Granted: true, Notice: &consent.Notice{ID: "statistics", Version: "1"}, Evidence: &consent.Evidence{Method: consent.ClickAccept}},
		{Purpose: "ads.personalisation", Granted: false},
		{Purpose: "data-sharing.partners", Granted: true}, // the act's notice is not its own
	}})
	if err != nil || len(result.Results) != 4 {
		t.Fatalf("%+v, %v", result, err)
	}
	var faults consent.Faults
	for i, r := range result.Results {
		if (r.Err != nil) != (i == 3) || r.Purpose == "" {
			t.Errorf("choice %d: %+v", i, r)
		}
	}
	if !errors.As(result.Results[3].Err, &faults) || faults[0].Code != consent.CodeInformed {
		t.Errorf("%v", result.Results[3].Err)
	}
	for _, e := range p.events(t, 3) {
		if e.InteractionID != result.InteractionID || (e.Purpose == "analytics") != (e.Notice.ID == "statistics") || (e.Purpose == "analytics") != (e.Evidence.Method == consent.ClickAccept) {
			t.Errorf("%+v", e)
		}
	}
}

func TestClient_SubmitTriesAgainWithTheSameKey(t *testing.T) {
	f := &flaky{answer: func(n int, w http.ResponseWriter, body string) {
		if n == 1 {
			away(w, 503)
			return
		}
		var s struct{ Choices map[string]json.RawMessage }
		_ = json.Unmarshal([]byte(body), &s)
		_, _ = fmt.Fprintf(w, `{"interaction_id":"0195f7a0-0000-7000-8000-000000000001","results":[{"purpose":"a","status":400,"detail":"d"}]}`)
	}}
	server := httptest.NewServer(f)
	defer server.Close()
	result, err := newClient(t, server.URL).Submit(testContext(t), producer.Submission{Act: consent.Event{Subject: "user:77"}, Choices: []producer.Choice{{Purpose: "a"}}})
	if err != nil || len(result.Results) != 1 || result.Results[0].Err == nil {
		t.Errorf("%+v, %v", result, err)
	}
	if len(f.keys) != 2 || f.keys[0] == "" || f.keys[0] != f.keys[1] {
		t.Errorf("keys %q", f.keys)
	}
}

func TestNewClient_RefusesWhatIsNoAddress(t *testing.T) {
	for _, u := range []string{"", "127.0.0.1:8080", "ftp://x", "http://"} {
		if _, err := producer.NewClient(producer.ClientConfig{URL: u}); err == nil {
			t.Errorf("%q was accepted", u)
		}
	}
}

func TestPublisher_ReachesTheLogThroughTheGateway(t *testing.T) {
	p := startPipeline(t)
	publisher, err := producer.NewPublisher(producer.PublisherConfig{Brokers: p.brokers, TopicPrefix: p.topics.Prefix})
	if err != nil {
		t.Fatal(err)
	}
	withdrawal := consent.Event{Subject: "jane@shop.example", Purpose: "marketing.email", Action: consent.Withdraw, Channel: consent.CallCenter}
	ids, err := publisher.Publish(testContext(t), grant(), withdrawal)
	if err != nil || len(ids) != 2 || ids[0].IsZero() || ids[0] == ids[1] {
		t.Fatalf("%v, %v", ids, err)
	}
	if err := errors.Join(publisher.Close(), publisher.Close()); err != nil {
		t.Error(err)
	}
	for _, e := range p.events(t, 2) {
		switch e.ID {
		case ids[0]:
			if e.Policy == nil || e.Subject != "user:77" {
				t.Errorf("%+v", e)
			}
		case ids[1]:
			if e.Subject.Namespace() != consent.NamespaceEmailHMAC || e.OccurredAt == 0 {
				t.Errorf("%+v", e)
			}
		default:
			t.Errorf("an event nobody published: %+v", e)
		}
	}
}

func TestPublisher_NamesTheEventThatCannotBePublished(t *testing.T) {
	publisher, err := producer.NewPublisher(producer.PublisherConfig{Brokers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close() //nolint:errcheck // nothing is on its way
	for _, bad := range []consent.Event{{Purpose: "a", Action: consent.Withdraw}, {Subject: "user:77", Action: consent.Withdraw}, {Subject: "user:77", Purpose: "a"}, {Subject: "user:77", Purpose: "a", Action: consent.Withdraw, Source: strings.Repeat("x", 1<<20)}} {
		if _, err := publisher.Publish(testContext(t), grant(), bad); err == nil || !strings.Contains(err.Error(), "event 2 of 2") || strings.Contains(err.Error(), "user:77") {
			t.Errorf("%v", err)
		}
	}
	if _, err := producer.NewPublisher(producer.PublisherConfig{}); err == nil {
		t.Error("no brokers were accepted")
	}
}
