package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/logtest"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/producer/intake"
	"github.com/assent-dev/assent/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(brokertest.Main(m.Run, os.Getenv)) }

const (
	patience   = 20 * time.Second
	partitions = 4
	keyHex     = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	// janeID is jane@shop.example under keyHex.
	janeID = "email-hmac:eef7fd4c4c44052479c6b1d9b0077992c09277ed8c1ad9a6cf5b51f7ca32b4a0"
)

// noon is what the clock of a test shows, unless it is set.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// rig is a gateway on a broker.
type rig struct {
	testing.TB
	brokers *brokertest.Cluster
	cluster *kfake.Cluster // the broker in this process; nil on Apache Kafka
	client  *kafka.Client
	gateway *Gateway
	url     string
	topics  topic.Names
	log     *logtest.Buffer
	metrics *prometheus.Registry
	dir     string
	stop    func()
	wrapLog func(eventLog) eventLog // of the next gateway; nil = as it is

	mu  sync.Mutex
	now time.Time
}

type option func(*Config, *Deps)

func newRig(t testing.TB, options ...option) *rig {
	t.Helper()
	r := &rig{TB: t, log: &logtest.Buffer{}, metrics: prometheus.NewRegistry(), dir: t.TempDir(), now: noon}
	r.brokers = brokertest.Start(t, brokertest.Options{InProcess: func() []string {
		r.startBroker(0)
		return r.cluster.ListenAddrs()
	}})
	r.topics = topic.Names{Prefix: r.brokers.Prefix()}
	client, err := kafka.New(kafka.Config{Brokers: r.brokers.Addrs(), RequestTimeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	r.client = client
	if _, err := client.Provision(r.context(), r.topics.Specs(topic.Layout{Partitions: partitions, Replication: r.brokers.Replication()}), false); err != nil {
		t.Fatal(err)
	}
	r.startGateway(options...)
	return r
}

// startBroker starts the broker in this process, on the port that it had before where one is given.
func (r *rig) startBroker(port int) {
	r.Helper()
	options := []kfake.Opt{kfake.NumBrokers(1), kfake.DataDir(r.dir), kfake.GroupMinSessionTimeout(100 * time.Millisecond)}
	if port != 0 {
		options = append(options, kfake.Ports(port))
	}
	var err error
	r.eventually("the broker starts", func() bool {
		r.cluster, err = kfake.NewCluster(options...)
		return err == nil
	})
	cluster := r.cluster
	r.Cleanup(cluster.Close)
}

func (r *rig) brokerPort() int {
	_, p, _ := net.SplitHostPort(r.cluster.ListenAddrs()[0])
	n, err := strconv.Atoi(p)
	if err != nil {
		r.Fatal(err)
	}
	return n
}

func (r *rig) startGateway(options ...option) {
	r.Helper()
	key, err := intake.ParseKey(keyHex)
	if err != nil {
		r.Fatal(err)
	}
	sample := sampleRegistry(r)
	config := Config{Topics: r.topics, ProduceTimeout: 5 * time.Second}
	deps := Deps{
		Kafka:    r.client,
		Registry: func() intake.Registry { return sample },
		Subjects: intake.NewPseudonymiser(key),
		Metrics:  r.metrics,
		Logger:   slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:      r.clock,
	}
	for _, o := range options {
		o(&config, &deps)
	}
	if r.gateway, err = New(config, deps); err != nil {
		r.Fatal(err)
	}
	if r.wrapLog != nil {
		r.gateway.events = r.wrapLog(r.gateway.events)
	}
	mux := http.NewServeMux()
	r.gateway.Register(mux)
	server := httptest.NewServer(mux)
	r.url = server.URL
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	gateway := r.gateway
	go func() { done <- gateway.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			server.Close()
			cancel()
			if err := <-done; err != nil {
				r.Errorf("run: %v", err)
			}
		})
	}
	r.Cleanup(r.stop)
	r.eventually("the gateway is ready", func() bool { return gateway.Ready() == nil })
}

// sampleRegistry is the built-in one with a downstream that hears of marketing.
func sampleRegistry(t testing.TB) *registry.Registry { return loadRegistry(t, purposesYAML) }

func loadRegistry(t testing.TB, purposes string) *registry.Registry {
	t.Helper()
	r, err := registry.LoadBytes(
		[]registry.Source{{Name: "purposes.yaml", Data: []byte(purposes)}},
		[]registry.Source{{Name: "downstreams.yaml", Data: []byte(downstreamsYAML)}}, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const purposesYAML = `
tenant: default
controller: {name: Shop, contact: privacy@shop.example}
defaults:
  replay_window: {default: 30d, import: unlimited}
purposes:
  - {id: marketing, title: Marketing, group: true}
  - id: marketing.email
    title: Newsletter
    description: Weekly.
    legal_basis: consent
    model: {default: opt_in, US: opt_out}
    ttl: 730d
    double_opt_in: {required_in: [DE], window: 7d}
    notices:
      - {id: newsletter, version: "1", language: en, text: Old text., valid_until: 2026-01-31T23:59:59Z}
      - {id: newsletter, version: "2", language: en, text: Send me the newsletter.}
      - {id: newsletter, version: "2", language: de, text: Schickt mir den Newsletter.}
  - id: ads.personalisation
    title: Ads
    legal_basis: consent
    model: opt_in
    freely_given: {refuse_conditional: true}
    notices: [{id: ads, version: "1", language: en, text: Choose ads for me.}]
  - {id: billing, title: Invoices, legal_basis: contract}
`

const downstreamsYAML = `
tenant: default
downstreams:
  - name: mailer
    purposes: ["marketing.*"]
    changes: all
    delivery: {webhook: {url: "https://mailer.example/hooks", secrets: ["env:MAILER"]}}
`

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	r.Cleanup(cancel)
	return ctx
}

func (r *rig) eventually(what string, condition func() bool) {
	r.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			r.Fatalf("not within %s: %s\nlog:\n%s", patience, what, r.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// item is a fault or a warning in an answer.
type item struct{ Code, Field, Message string }

// result is the answer about one event, a receipt or a problem.
type result struct {
	Status      any
	Purpose     string
	EventID     string `json:"event_id"`
	ReceivedAt  string `json:"received_at"`
	EffectiveAt string `json:"effective_at"`
	Position    struct {
		Topic     string
		Partition int32
		Offset    int64
	}
	Token, Subject, Type, Title, Detail string
	Warnings, Errors                    []item

	InteractionID      string `json:"interaction_id"`
	Accepted, Rejected int
	Results            []result
}

func (x result) codes() string {
	var all []string
	for _, e := range append(x.Errors, x.Warnings...) {
		all = append(all, e.Code+":"+e.Field)
	}
	return strings.Join(all, " ")
}

type answer struct {
	result
	code   int
	header http.Header
	body   string
}

// post sends a body; headers are name, value, name, value.
func (r *rig) post(path, contentType, body string, headers ...string) answer {
	r.Helper()
	return r.do(http.MethodPost, path, contentType, strings.NewReader(body), headers...)
}

func (r *rig) do(method, path, contentType string, body io.Reader, headers ...string) answer {
	r.Helper()
	request, err := http.NewRequestWithContext(r.context(), method, r.url+path, body)
	if err != nil {
		r.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		r.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	text, err := io.ReadAll(response.Body)
	if err != nil {
		r.Fatal(err)
	}
	a := answer{code: response.StatusCode, header: response.Header, body: string(text)}
	if err := json.Unmarshal(text, &a.result); err != nil {
		r.Fatalf("%s %s answers %d with what is no JSON: %v: %.300s", method, path, a.code, err, text)
	}
	return a
}

func (r *rig) postEvent(body string, headers ...string) answer {
	r.Helper()
	return r.post("/v1/events", "application/json", body, headers...)
}

// message is a record of a topic, with slices of its own.
type message struct {
	kafka.Position
	key, value []byte
	headers    []kafka.Header
	time       time.Time
}

// read gives every record of a topic, by partition and offset.
func (r *rig) read(name string) []message {
	r.Helper()
	ctx := r.context()
	var all []kafka.Partition
	for i := range int32(partitions) {
		all = append(all, kafka.Partition{Topic: name, Index: i})
	}
	from, err := r.client.Offsets(ctx, all, kafka.Earliest)
	if err != nil {
		r.Fatal(err)
	}
	to, err := r.client.Offsets(ctx, all, kafka.Latest)
	if err != nil {
		r.Fatal(err)
	}
	f := r.client.NewFetcher(from, kafka.FetchOptions{MaxWait: 50 * time.Millisecond})
	defer f.Close() //nolint:errcheck // always nil
	var read []message
	behind := func() bool {
		return slices.ContainsFunc(all, func(p kafka.Partition) bool { return f.Position(p) < to[p] })
	}
	for behind() {
		batches, err := f.Fetch(ctx)
		if err != nil {
			r.Fatal(err)
		}
		for _, b := range batches {
			for _, m := range b.Messages {
				read = append(read, message{m.Position, bytes.Clone(m.Key), bytes.Clone(m.Value), cloneHeaders(m.Headers), m.Time})
			}
		}
	}
	slices.SortFunc(read, func(a, b message) int {
		if a.Index != b.Index {
			return int(a.Index - b.Index)
		}
		return int(a.Offset - b.Offset)
	})
	return read
}

func cloneHeaders(headers []kafka.Header) []kafka.Header {
	out := slices.Clone(headers)
	for i := range out {
		out[i].Value = bytes.Clone(out[i].Value)
	}
	return out
}

// events gives the decoded log of events.
func (r *rig) events() []consent.Event {
	r.Helper()
	var all []consent.Event
	for _, m := range r.read(r.topics.Events()) {
		e, err := schemas.DecodeEvent(m.value)
		if err != nil {
			r.Fatalf("decode %s: %v", m.Position, err)
		}
		if string(m.key) != string(e.Key()) {
			r.Errorf("%s: key %q, want %q", m.Position, m.key, e.Key())
		}
		if want := kafka.PartitionFor(m.key, partitions); m.Index != want {
			r.Errorf("%s: want partition %d", m.Position, want)
		}
		all = append(all, e)
	}
	return all
}

func (r *rig) eventWithID(id string) consent.Event {
	r.Helper()
	for _, e := range r.events() {
		if e.ID.String() == id {
			return e
		}
	}
	r.Fatalf("event %s is not in the log", id)
	panic("unreachable")
}

// grantJSON is a valid grant; changes replace members, "" removes one.
func grantJSON(changes ...string) string {
	return object(map[string]string{
		"subject":     `"user:77"`,
		"purpose":     `"marketing.email"`,
		"action":      `"grant"`,
		"channel":     `"web"`,
		"occurred_at": `"2026-03-01T11:59:59.000Z"`,
		"notice":      `{"id":"newsletter","version":"2","language":"en"}`,
		"evidence":    `{"method":"checkbox","control_default":"off"}`,
	}, changes...)
}

func withdrawalJSON(changes ...string) string {
	return object(map[string]string{"subject": `"user:77"`, "purpose": `"marketing.email"`, "action": `"withdraw"`}, changes...)
}

func object(members map[string]string, changes ...string) string {
	for i := 0; i < len(changes); i += 2 {
		members[changes[i]] = changes[i+1]
	}
	var parts []string
	for name, value := range members {
		if value != "" {
			parts = append(parts, fmt.Sprintf("%q:%s", name, value))
		}
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, ",") + "}"
}

func textLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func decode(t testing.TB, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
}
