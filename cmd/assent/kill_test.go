package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// upKills is how often the kill test kills. `make soak` says 200.
var upKills = flag.Int("kills", 20, "kills of the test that kills assent up")

// recorder is a downstream in the test's own process: it outlives every kill.
type recorder struct {
	mu   sync.Mutex
	told map[string]int // change id → how often
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var change struct {
		ID string `json:"change_id"`
	}
	if err := json.NewDecoder(req.Body).Decode(&change); err != nil || change.ID == "" {
		http.Error(w, "no change", http.StatusBadRequest)
		return
	}
	_, _ = io.Copy(io.Discard, req.Body)
	r.mu.Lock()
	r.told[change.ID]++
	r.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (r *recorder) heard(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told[id] > 0
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.told)
}

// newServer serves h until the test ends, and gives its address.
func newServer(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// downstreamsFile declares one downstream that hears everything at url.
func downstreamsFile(t testing.TB, url string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "downstreams.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, killDownstreams, url), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const killDownstreams = `
tenant: default
downstreams:
  - name: recorder
    purposes: ["*"]
    changes: all
    delivery:
      webhook: {url: %s, internal: true, secrets: [env:RECORDER_SECRET], concurrency: 16}
`

// killRun is one data directory that is killed and started again and again.
type killRun struct {
	t        *testing.T
	data     string
	env      []string
	args     []string
	recorder *recorder
	seed     uint64

	mu       sync.Mutex
	accepted map[string]string // event id → subject
}

func newKillRun(t *testing.T, env ...string) *killRun {
	k := &killRun{t: t, data: t.TempDir(), recorder: &recorder{told: map[string]int{}}, accepted: map[string]string{}, seed: uint64(time.Now().UnixNano())}
	t.Logf("seed %d", k.seed)
	receiver := newServer(t, k.recorder)
	downstreams := downstreamsFile(t, receiver)
	k.env = append([]string{"RECORDER_SECRET=whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}, env...)
	k.args = []string{"--downstreams=" + downstreams}
	return k
}

// rounds kills `assent up` n times at random moments under load, then starts it
// once more.
func (k *killRun) rounds(n int) *up {
	r := rand.New(rand.NewPCG(k.seed, 1))
	for i := range n {
		u := startUp(k.t, k.data, k.env, k.args...)
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for c := range 8 {
			clients.Add(1)
			go func() {
				defer clients.Done()
				k.load(u, rand.New(rand.NewPCG(k.seed, uint64(100+i*8+c))), stop)
			}()
		}
		time.Sleep(time.Duration(300+r.IntN(900)) * time.Millisecond) // the random moment
		u.kill()
		close(stop)
		clients.Wait()
	}
	return startUp(k.t, k.data, k.env, k.args...)
}

var killPurposes = []string{"marketing.email", "analytics", "ads.personalisation", "data-sharing.partners", "ads", "*"}

// load posts events until the server is gone; what was answered 202 is noted.
func (k *killRun) load(u *up, r *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		subject := "user:" + strconv.Itoa(r.IntN(40))
		now := time.Now().UTC().Format(time.RFC3339Nano)
		event := map[string]any{"subject": subject, "purpose": killPurposes[r.IntN(len(killPurposes))], "action": "withdraw",
			"channel": "web", "jurisdiction": "IE", "occurred_at": now, "sent_at": now}
		if p := r.IntN(4); r.IntN(3) > 0 {
			event["purpose"], event["action"] = killPurposes[p], "grant"
			event["evidence"] = map[string]any{"method": "toggle", "control_default": "off"}
			event["notice"] = sampleNotice(killPurposes[p])
		}
		var accepted struct {
			EventID string `json:"event_id"`
			Status  string `json:"status"`
		}
		status, err := u.post("/v1/events", event, &accepted)
		switch {
		case status == http.StatusAccepted && err == nil:
			k.mu.Lock()
			k.accepted[accepted.EventID] = subject
			k.mu.Unlock()
		case status == 0:
			return
		case status != http.StatusServiceUnavailable && status != http.StatusInternalServerError && err == nil:
			k.t.Errorf("an event of the load was answered %d", status)
			return
		}
	}
}

func sampleNotice(purpose string) map[string]any {
	for _, d := range registry.Sample().Catalogue(consent.DefaultTenant).Purposes {
		if string(d.ID) == purpose && len(d.Notices) > 0 {
			return map[string]any{"id": d.Notices[0].ID, "version": d.Notices[0].Version, "language": d.Notices[0].Language}
		}
	}
	panic("the sample registry has no notice for " + purpose)
}

type historyItem struct {
	Kind     string `json:"kind"`
	Position struct {
		Offset int64 `json:"offset"`
	} `json:"position"`
	Event json.RawMessage `json:"event"`
}

// history reads all of a subject's events, in the order of the log. The history's own is
// that of recorded_at: on the embedded broker the clock of the gateway, which may be set back.
func (k *killRun) history(u *up, subject string) []consent.Event {
	var items []historyItem
	cursor := ""
	for {
		var page struct {
			Items []historyItem `json:"items"`
			Next  *string       `json:"next_cursor"`
		}
		u.mustGet("/v1/subjects/"+subject+"/history?limit=1000&cursor="+url.QueryEscape(cursor), &page)
		for _, item := range page.Items {
			if item.Kind == "event" {
				items = append(items, item)
			}
		}
		if page.Next == nil {
			break
		}
		cursor = *page.Next
	}
	offset := func(a, b historyItem) int { return cmp.Compare(a.Position.Offset, b.Position.Offset) }
	slices.SortFunc(items, offset) // a subject's events share a partition
	events := make([]consent.Event, len(items))
	for i := range items {
		events[i] = stamped(k.t, items[i].Event)
	}
	return events
}

// stamped reads an event of the history back, with the stamps that a sender may not set.
func stamped(t *testing.T, raw json.RawMessage) consent.Event {
	t.Helper()
	e, _, err := jsonform.ParseEvent(raw)
	if err != nil {
		t.Fatal(err)
	}
	var stamps struct {
		ReceivedAt  string `json:"received_at"`
		EffectiveAt string `json:"effective_at"`
		Policy      struct {
			ExpiresAt   string   `json:"expires_at"`
			DoubleOptIn bool     `json:"double_opt_in"`
			Covers      []string `json:"covers"`
		} `json:"policy"`
	}
	if err := json.Unmarshal(raw, &stamps); err != nil {
		t.Fatal(err)
	}
	e.Policy = &consent.Policy{DoubleOptIn: stamps.Policy.DoubleOptIn}
	for text, into := range map[string]*consent.Instant{stamps.ReceivedAt: &e.ReceivedAt, stamps.EffectiveAt: &e.EffectiveAt, stamps.Policy.ExpiresAt: &e.Policy.ExpiresAt} {
		if text == "" {
			continue
		}
		if *into, err = consent.ParseInstant(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range stamps.Policy.Covers {
		e.Policy.Covers = append(e.Policy.Covers, consent.Purpose(p))
	}
	return e
}

// lost is what a run lacks, by kind.
type lost struct{ fromHistory, twiceInHistory, decisions, untold, inTopic, accepted, changes int }

// inspect compares history, decisions and the receiver with what was answered 202.
func (k *killRun) inspect(u *up) lost {
	t := k.t
	t.Helper()
	bySubject := map[string][]string{}
	for id, subject := range k.accepted {
		bySubject[subject] = append(bySubject[subject], id)
	}
	result := lost{accepted: len(k.accepted)}
	written := k.readChanges(u)
	for subject, ids := range bySubject {
		var events []consent.Event
		seen := map[string]int{}
		missing := func() (n int) {
			for _, id := range ids {
				if seen[id] == 0 {
					n++
				}
			}
			return n
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) { // the sink catches up
			events, seen = k.history(u, subject), map[string]int{}
			for i := range events {
				seen[events[i].ID.String()]++
			}
			if missing() == 0 || time.Now().After(deadline) {
				break
			}
		}
		result.fromHistory += missing()
		for _, n := range seen {
			if n > 1 {
				result.twiceInHistory++
			}
		}
		changes, wrong := k.replay(u, subject, events)
		result.decisions += wrong
		result.changes += len(changes)
		result.untold += k.untold(changes)
		for i := range changes { // each once, for a read_committed reader
			if n := written[changes[i].ID].times; n != 1 {
				result.inTopic++
				t.Logf("%d times in consent.changes: %+v", n, changes[i])
				for at := range events {
					t.Logf("history %d: %s %s %s received %s", at, events[at].ID, events[at].Action, events[at].Purpose, events[at].ReceivedAt)
				}
			}
			delete(written, changes[i].ID)
		}
	}
	for _, extra := range written {
		result.inTopic++
		t.Logf("%d times in consent.changes, and no event explains it: %+v", extra.times, extra.Change)
	}
	return result
}

// inTopic is a change in consent.changes, and how often it stands there.
type inTopic struct {
	consent.Change
	times int
}

// readChanges reads consent.changes, as a read_committed reader sees it.
func (k *killRun) readChanges(u *up) map[consent.UUID]inTopic {
	k.t.Helper()
	client, err := kafka.New(kafka.Config{Brokers: []string{u.Kafka}})
	if err != nil {
		k.t.Fatal(err)
	}
	defer client.Close()
	topic := topic.Names{}.Changes()
	count, err := client.PartitionCount(k.t.Context(), topic)
	if err != nil {
		k.t.Fatal(err)
	}
	from := make(map[kafka.Partition]kafka.NextOffset, count)
	var all []kafka.Partition
	for i := range int32(count) {
		p := kafka.Partition{Topic: topic, Index: i}
		from[p], all = 0, append(all, p)
	}
	ends, err := client.Offsets(k.t.Context(), all, kafka.LatestStable)
	if err != nil {
		k.t.Fatal(err)
	}
	f := client.NewFetcher(from, kafka.FetchOptions{})
	defer f.Close()
	changes := make(map[consent.UUID]inTopic)
	for open := func() bool {
		return slices.ContainsFunc(all, func(p kafka.Partition) bool { return f.Position(p) < ends[p] })
	}; open(); {
		batches, err := f.Fetch(k.t.Context())
		if err != nil {
			k.t.Fatal(err)
		}
		for _, b := range batches {
			for i := range b.Messages {
				c, err := schemas.DecodeChange(b.Messages[i].Value)
				if err != nil {
					k.t.Fatal(err)
				}
				changes[c.ID] = inTopic{c, changes[c.ID].times + 1}
			}
		}
	}
	return changes
}

// replay folds a subject's history, and compares what holds with the decisions.
func (k *killRun) replay(u *up, subject string, events []consent.Event) (changes []consent.Change, wrong int) {
	var state consent.State
	for i := range events {
		var emitted []consent.Change
		state, emitted, _ = consent.Fold(state, &events[i])
		changes = append(changes, emitted...)
	}
	var answer struct {
		Decisions []struct {
			Purpose string `json:"purpose"`
			Allowed bool   `json:"allowed"`
			Status  string `json:"status"`
			Version int64  `json:"version"`
		} `json:"decisions"`
	}
	u.mustGet("/v1/subjects/"+subject+"/consents", &answer)
	catalogue := registry.Sample().Catalogue(consent.DefaultTenant)
	for _, d := range answer.Decisions {
		want := consent.Decide(&state, catalogue, consent.Query{Purpose: consent.Purpose(d.Purpose), At: consent.InstantOf(time.Now())})
		if d.Allowed != want.Allowed || d.Status != want.Status.String() || d.Version != want.Version {
			k.t.Logf("%s %s: answered %s allowed=%v version %d, want %s allowed=%v version %d", subject, d.Purpose,
				d.Status, d.Allowed, d.Version, want.Status, want.Allowed, want.Version)
			wrong++
		}
	}
	return changes, wrong
}

func (k *killRun) untold(changes []consent.Change) (n int) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) { // retries of the fan-out
		n = 0
		for i := range changes {
			if !k.recorder.heard(changes[i].ID.String()) {
				n++
			}
		}
		if n == 0 || time.Now().After(deadline) {
			return n
		}
	}
}

func TestUp_KillsLoseNothingThatWasAnswered202(t *testing.T) {
	k := newKillRun(t)
	u := k.rounds(*upKills)
	got := k.inspect(u)
	t.Logf("%d kills: %d events answered 202, %d changes, %d webhooks heard", *upKills, got.accepted, got.changes, len(k.recorder.told))
	if got.accepted < 25**upKills {
		t.Errorf("only %d events were accepted: the load was too small to show anything", got.accepted)
	}
	want := lost{accepted: got.accepted, changes: got.changes}
	if got != want {
		t.Errorf("lost from history %d, twice in history %d, wrong decisions %d, changes that reached nobody %d",
			got.fromHistory, got.twiceInHistory, got.decisions, got.untold)
		t.Errorf("changes that are not in consent.changes exactly once: %d", got.inTopic)
	}
	u.stop()
}
