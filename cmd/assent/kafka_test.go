package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/clickhouse"
	"github.com/assent-dev/assent/internal/webhook"
)

const recorderSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// told is one webhook as its receiver saw it.
type told struct {
	Type       string `json:"type"`
	Subject    string `json:"subject"`
	Purpose    string `json:"purpose"`
	Version    int64  `json:"version"`
	Withdrawal bool   `json:"withdrawal"`

	signature error // nil = it is right
}

// verifier is a downstream that checks signatures.
type verifier struct {
	key webhook.Key

	mu   sync.Mutex
	told []told
}

func newVerifier(t *testing.T) *verifier {
	t.Helper()
	key, err := webhook.ParseKey(recorderSecret)
	if err != nil {
		t.Fatal(err)
	}
	return &verifier{key: key}
}

func (v *verifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var one told
	if err != nil || json.Unmarshal(body, &one) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	one.signature = webhook.Verify(r.Header, []webhook.Key{v.key}, body, time.Now())
	v.mu.Lock()
	v.told = append(v.told, one)
	v.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (v *verifier) all() []told {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]told(nil), v.told...)
}

// startClickHouse runs the embedded ClickHouse apart from any broker, and gives its DSN.
func startClickHouse(t *testing.T) string {
	t.Helper()
	library, err := chdb.Locate(os.Getenv("ASSENT_LIBCHDB"), chdb.CacheDir(os.Getenv))
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server, err := clickhouse.Start(t.Context(), clickhouse.Options{
		DataDir: t.TempDir(), Library: library, Database: "assent", Executable: self, Args: []string{clickhouse.Command},
		Env: append(os.Environ(), runAsAssent+"=1"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server.DSN()
}

// send gives an event to the gateway by the command, and returns the token of the answer.
func send(t *testing.T, gateway *role, event map[string]any) string {
	t.Helper()
	text, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	code, out, stderr := assent(t, []string{"ASSENT_URL=" + gateway.url}, "event", "send", string(text))
	var sent struct{ Token string }
	if code != exitDone || json.Unmarshal([]byte(out), &sent) != nil || sent.Token == "" {
		t.Fatalf("event send: exit code %d, printed %q\n%s\n%s", code, out, stderr, gateway.log)
	}
	return sent.Token
}

type decided struct {
	Allowed bool   `json:"allowed"`
	Status  string `json:"status"`
	Version int64  `json:"version"`
}

// decide asks for a decision that counts the event of the token.
func decide(t *testing.T, processor *role, query, token string) decided {
	t.Helper()
	var d decided
	status, err := answer(client.Get(processor.url + "/v1/decisions?" + query + "&wait=10s&at_least=" + token))(&d)
	if err != nil || status != http.StatusOK {
		t.Fatalf("decision: %d %v\n%s", status, err, processor.log)
	}
	return d
}

// The main job of the README on Apache Kafka, each role in a process of its own: a
// grant, the decision, the signed webhook; the withdrawal, the denial, the history.
func TestKafka_MainJobOnApacheKafka(t *testing.T) {
	kind, err := brokertest.ParseKind(os.Getenv(brokertest.Variable))
	if err != nil {
		t.Fatal(err)
	}
	if kind == brokertest.InProcess {
		t.Skipf("starts Apache Kafka: run it with %s=apache or apache3", brokertest.Variable)
	}
	cluster := brokertest.Start(t, brokertest.Options{Kind: kind, OwnCluster: true})
	hook := newVerifier(t)
	purposes := filepath.Join(moduleRoot(t), "internal", "registry", "sample.yaml")
	env := []string{"ASSENT_KAFKA_BROKERS=" + strings.Join(cluster.Addrs(), ","), "ASSENT_CLICKHOUSE_DSN=" + startClickHouse(t),
		"ASSENT_TOPIC_PREFIX=" + cluster.Prefix(), "ASSENT_SUBJECT_KEY=" + strings.Repeat("0123456789abcdef", 4),
		"ASSENT_PURPOSES=" + purposes, "RECORDER_SECRET=" + recorderSecret}
	if code, out, stderr := assent(t, env, "topics", "apply", "--partitions=6", "--replication="+strconv.Itoa(cluster.Replication())); code != exitDone {
		t.Fatalf("topics apply: %s %s", out, stderr)
	}
	if code, out, stderr := assent(t, env, "migrate"); code != exitDone {
		t.Fatalf("migrate: %s %s", out, stderr)
	}
	withDownstreams := slices.Concat(env, []string{"ASSENT_DOWNSTREAMS=" + downstreamsFile(t, newServer(t, hook))})
	gateway := startRole(t, "gateway", withDownstreams)
	processor := startRole(t, "processor", slices.Concat(env, []string{"ASSENT_DATA_DIR=" + t.TempDir()}))
	fanout := startRole(t, "fanout", withDownstreams)
	sink := startRole(t, "sink", env)

	const query = "subject=user:42&purpose=marketing.email&jurisdiction=IE"
	granted := send(t, gateway, map[string]any{
		"subject": "user:42", "purpose": "marketing.email", "action": "grant", "channel": "web", "jurisdiction": "IE",
		"occurred_at": time.Now().UTC().Format(time.RFC3339Nano), "notice": sampleNotice("marketing.email"),
		"evidence": map[string]any{"method": "checkbox", "control_default": "off"},
	})
	if d := decide(t, processor, query, granted); d != (decided{Allowed: true, Status: "granted", Version: 1}) {
		t.Errorf("after the grant: %+v", d)
	}
	eventually(t, 20*time.Second, "the webhook of the grant came", func() bool { return len(hook.all()) == 1 })

	withdrawn := send(t, gateway, map[string]any{"subject": "user:42", "purpose": "marketing", "action": "withdraw"})
	if d := decide(t, processor, query, withdrawn); d != (decided{Status: "withdrawn", Version: 2}) {
		t.Errorf("after the withdrawal: %+v", d)
	}
	want := []told{
		{Type: "consent.granted", Subject: "user:42", Purpose: "marketing.email", Version: 1},
		{Type: "consent.withdrawn", Subject: "user:42", Purpose: "marketing.email", Version: 2, Withdrawal: true},
	}
	of := func(purpose string) (all []told) {
		for _, one := range hook.all() {
			if one.signature != nil {
				t.Errorf("a webhook about %s has a wrong signature: %v", one.Purpose, one.signature)
			}
			if one.Purpose == purpose {
				all = append(all, one)
			}
		}
		return all
	}
	eventually(t, 20*time.Second, "the webhook of the withdrawal came", func() bool { return len(of("marketing.email")) >= 2 })
	if got := of("marketing.email"); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("the downstream was told %+v, want %+v", got, want)
	}

	// Two events; each of their changes, and each webhook.
	deliveries := len(hook.all())
	lines := 0
	eventually(t, 30*time.Second, "events, changes and deliveries are in the history", func() bool {
		code, out, _ := assent(t, []string{"ASSENT_URL=" + sink.url}, "audit", "history", "user:42", "--output=json")
		lines = strings.Count(out, "\n")
		return code == exitDone && strings.Count(out, `"kind":"event"`) == 2 && strings.Count(out, `"kind":"delivery"`) == deliveries
	})
	if want := 2 + 2*deliveries; lines != want {
		t.Errorf("the history has %d lines, want %d", lines, want)
	}
	for _, r := range []*role{gateway, processor, fanout, sink} {
		r.end()
	}
}
