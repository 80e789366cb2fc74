package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
)

// letterRig is a broker in this process, and the two roles that write and mend most
// letters, each in a process of its own.
type letterRig struct {
	*testing.T
	env       []string
	purposes  string // the registry file
	cluster   *kfake.Cluster
	client    *kafka.Client
	producer  *kafka.Producer
	names     topic.Names
	gateway   *role
	processor *role
}

func newLetterRig(t *testing.T) *letterRig {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kafka.New(kafka.Config{Brokers: cluster.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	l := &letterRig{T: t, cluster: cluster, client: client, names: topic.Names{Prefix: "dl."}, purposes: filepath.Join(t.TempDir(), "purposes.yaml")}
	l.declare("1")
	l.env = []string{
		"ASSENT_KAFKA_BROKERS=" + strings.Join(cluster.ListenAddrs(), ","), "ASSENT_TOPIC_PREFIX=dl.",
		"ASSENT_PURPOSES=" + l.purposes, "ASSENT_SUBJECT_KEY=" + strings.Repeat("0123456789abcdef", 4),
		"ASSENT_DATA_DIR=" + t.TempDir(),
	}
	l.must("topics", "apply", "--partitions=3", "--replication=1")
	l.producer = client.NewProducer(kafka.ProducerOptions{})
	t.Cleanup(func() { _ = l.producer.Close() })
	return l
}

// declare writes the registry with a version of the notice.
func (l *letterRig) declare(version string) {
	l.Helper()
	text := `tenant: default
controller: {name: Shop, contact: privacy@shop.example}
purposes:
  - id: analytics
    title: Statistics
    description: Counting pages.
    legal_basis: consent
    model: opt_in
    deadline: 2d
    notices:
      - {id: statistics, version: "` + version + `", language: en, text: Yes.}
`
	if err := os.WriteFile(l.purposes, []byte(text), 0o600); err != nil {
		l.Fatal(err)
	}
}

// assent runs a command against the broker.
func (l *letterRig) assent(args ...string) (code int, stdout, stderr string) {
	l.Helper()
	env := l.env
	if args[0] == "deadletter" || args[0] == "topics" { // commands without these settings refuse no variable of another's
		env = l.env[:2]
	}
	return assent(l.T, env, args...)
}

func (l *letterRig) must(args ...string) string {
	l.Helper()
	code, out, stderr := l.assent(args...)
	if code != exitDone {
		l.Fatalf("assent %s: exit code %d\n%s\n%s", strings.Join(args, " "), code, out, stderr)
	}
	return out
}

func (l *letterRig) list(args ...string) []letterLine {
	l.Helper()
	return decodeLines[letterLine](l.T, l.must(append([]string{"deadletter", "list", "--output=json"}, args...)...))
}

func decodeLines[T any](t *testing.T, out string) []T {
	t.Helper()
	var all []T
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var one T
		if err := d.Decode(&one); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		all = append(all, one)
	}
	return all
}

func (l *letterRig) produce(name string, key, value []byte) string {
	l.Helper()
	at, err := l.producer.Produce(l.Context(), kafka.Record{Topic: name, Key: key, Value: value})
	if err != nil {
		l.Fatal(err)
	}
	return at[0].String()
}

// say publishes an event as a channel app or, to consent.events, as one that should not.
func (l *letterRig) say(name string, subject consent.Subject, change func(*consent.Event)) string {
	l.Helper()
	e := consent.Event{
		Tenant: consent.DefaultTenant, Subject: subject, Purpose: "analytics", Action: consent.Grant, Channel: consent.App, Jurisdiction: "DE",
		OccurredAt: consent.InstantOf(time.Now().Add(-time.Minute)), SentAt: consent.InstantOf(time.Now()),
		Notice:   consent.Notice{ID: "statistics", Version: "2"},
		Evidence: consent.Evidence{Method: consent.ClickAccept},
	}
	change(&e)
	value, err := schemas.EncodeIntakeEvent(nil, &e)
	if err != nil {
		l.Fatal(err)
	}
	return l.produce(name, e.Key(), value)
}

// status asks the processor what holds.
func (l *letterRig) status(subject string) string {
	var d struct{ Status string }
	code, err := answer(client.Get(l.processor.url + "/v1/decisions?purpose=analytics&jurisdiction=DE&subject=" + url.QueryEscape(subject)))(&d)
	if err != nil || code != http.StatusOK {
		return "no answer"
	}
	return d.Status
}

// read gives the values of a topic.
func (l *letterRig) read(name string) (values [][]byte) {
	l.Helper()
	for i := range int32(3) {
		p := kafka.Partition{Topic: name, Index: i}
		end, err := l.client.Offsets(l.Context(), []kafka.Partition{p}, kafka.LatestStable)
		if err != nil {
			l.Fatal(err)
		}
		f := l.client.NewFetcher(map[kafka.Partition]kafka.NextOffset{p: 0}, kafka.FetchOptions{})
		for f.Position(p) < end[p] {
			batches, err := f.Fetch(l.Context())
			if err != nil {
				l.Fatal(err)
			}
			for _, b := range batches {
				for _, m := range b.Messages {
					values = append(values, bytes.Clone(m.Value))
				}
			}
		}
		_ = f.Close()
	}
	return values
}

// accepted counts the events that the gateway wrote, by id.
func (l *letterRig) accepted() map[consent.UUID]int {
	l.Helper()
	count := map[consent.UUID]int{}
	for _, v := range l.read(l.names.Events()) {
		if e, err := schemas.DecodeEvent(v); err == nil && e.Policy != nil {
			count[e.ID]++
		}
	}
	return count
}

func (l *letterRig) ends() map[kafka.Partition]kafka.NextOffset {
	l.Helper()
	var all []kafka.Partition
	for _, name := range []string{l.names.Intake(), l.names.Events(), l.names.DeadLetters()} {
		for i := range int32(3) {
			all = append(all, kafka.Partition{Topic: name, Index: i})
		}
	}
	found, err := l.client.Offsets(l.Context(), all, kafka.Latest)
	if err != nil {
		l.Fatal(err)
	}
	return found
}

// Poison of each kind: listed, shown, mended, replayed, folded once.
func TestDeadLetters_AreListedMendedAndReplayedOnce(t *testing.T) {
	l := newLetterRig(t)
	l.gateway = startRole(t, "gateway", l.env)
	l.processor = startRole(t, "processor", l.env)

	granted := l.say(l.names.Intake(), "user:granted", func(*consent.Event) {}) // its notice is not declared yet
	twice := l.say(l.names.Intake(), "user:twice", func(*consent.Event) {})
	held := l.say(l.names.Intake(), "user:twice", func(e *consent.Event) { e.Evidence.Method = consent.MethodUnknown })
	noise := l.produce(l.names.Intake(), []byte("default|user:noise"), []byte("noise"))
	unstamped := l.say(l.names.Events(), "user:unstamped", func(e *consent.Event) { e.ID = consent.UUID{1} })
	misplaced := consent.Event{ID: consent.UUID{2}, Tenant: consent.DefaultTenant, Subject: "user:misplaced", Purpose: "analytics", Action: consent.Withdraw}
	value, err := schemas.EncodeIntakeEvent(nil, &misplaced)
	if err != nil {
		t.Fatal(err)
	}
	wrongKey := l.produce(l.names.Events(), []byte("default|user:other"), value)
	refused, err := schemas.EncodeDeadLetter(nil, &schemas.DeadLetter{Topic: l.names.Changes(), Code: "rejected_400", Reason: "the endpoint refuses this change", Role: "fanout", Downstream: "crm", Key: []byte("default|user:crm"), Value: []byte("?")})
	if err != nil {
		t.Fatal(err)
	}
	l.produce(l.names.DeadLetters(), []byte("default|user:crm"), refused)
	want := map[string]string{granted: "informed", twice: "informed", held: "affirmative,informed", noise: "no_schema", unstamped: "unstamped", wrongKey: "wrong_key", "dl.consent.changes/0@0": "rejected_400"}
	eventually(t, time.Minute, "seven letters", func() bool { return len(l.list()) == len(want) })
	for _, line := range l.list() {
		if line.Code != want[line.Origin] || line.Status != "open" || line.Reason == "" {
			t.Errorf("%+v, want code %s", line, want[line.Origin])
		}
	}
	l.checkListAndShow(granted, noise)

	// A letter behind one that is not chosen stays where it is.
	code, out, stderr := l.assent("deadletter", "replay", "--position="+held)
	if code != exitFailed || !strings.Contains(out, "held") || !strings.Contains(stderr, "stay open") {
		t.Errorf("exit code %d: %s%s", code, out, stderr)
	}
	// The cause is mended: the registry knows the notice now.
	l.declare("2")
	l.gateway.end()
	l.gateway = startRole(t, "gateway", l.env)
	before := l.ends()
	out = l.must("deadletter", "replay", "--dry-run")
	for _, line := range []string{"informed: 2 replay", "rejected_400: 1 impossible", "all: 1 impossible, 6 replay; dry run, nothing was written"} {
		if !strings.Contains(out, line) {
			t.Errorf("the dry run does not say %q:\n%s", line, out)
		}
	}
	for p, end := range l.ends() {
		if end != before[p] {
			t.Errorf("the dry run wrote to %s", p)
		}
	}
	if code, out, _ := l.assent("deadletter", "replay", "--output=json"); code != exitFailed || !strings.Contains(out, `"replayed":6`) {
		t.Errorf("exit code %d, want 1 for the change that stays open: %s", code, out)
	}
	eventually(t, time.Minute, "what was mended is folded", func() bool {
		return l.status("user:granted") == "granted" && l.status("user:twice") == "granted" && l.status("user:unstamped") == "granted" && l.status("user:misplaced") == "withdrawn"
	})
	l.checkWhatStayed(held, noise)
	if out := l.must("deadletter", "replay", "--topic=consent.events"); out != "nothing to replay\n" {
		t.Errorf("a second replay: %s", out)
	}
	for id, n := range l.accepted() {
		if n != 1 {
			t.Errorf("event %s is in consent.events %d times", id, n)
		}
	}
	if n := len(l.accepted()); n != 4 {
		t.Errorf("%d events were accepted, want 4", n)
	}
	if line := l.list("--all", "--topic=dl.consent.events", "--code=wrong_key"); len(line) != 1 || line[0].Status != "replayed" || !strings.HasPrefix(line[0].ReplayedTo, "dl.consent.intake/") {
		t.Errorf("%+v", line)
	}
	l.gateway.end()
	l.processor.end()
	for _, log := range []string{l.gateway.log.String(), l.processor.log.String()} {
		if strings.Contains(log, "user:") {
			t.Errorf("a subject is in a log:\n%s", log)
		}
	}
}

// checkListAndShow: subjects and bytes are shown to who asks for one letter only.
func (l *letterRig) checkListAndShow(granted, noise string) {
	l.Helper()
	for _, out := range []string{l.must("deadletter", "list"), l.must("deadletter", "list", "--output=json"), l.must("deadletter", "replay", "--dry-run")} {
		if strings.Contains(out, "user:") || strings.Contains(out, "noise") {
			l.Errorf("a subject or payload is listed:\n%s", out)
		}
	}
	out := l.must("deadletter", "show", granted)
	for _, word := range []string{"user:granted", "informed", "purposes.yaml", `"action": "grant"`, granted, "open"} {
		if !strings.Contains(out, word) {
			l.Errorf("show does not say %q:\n%s", word, out)
		}
	}
	if out := l.must("deadletter", "show", noise); !strings.Contains(out, "6e 6f 69 73 65") || !strings.Contains(out, "no schema explains") {
		l.Errorf("bytes that no schema explains are not in hex:\n%s", out)
	}
	shown := decodeLines[shownLetter](l.T, l.must("deadletter", "show", noise, "--output=json"))
	if len(shown) != 1 || !bytes.Equal(shown[0].Value, []byte("noise")) || string(shown[0].Key) != "default|user:noise" || shown[0].Content != nil {
		l.Errorf("%+v", shown)
	}
	byLetter := decodeLines[shownLetter](l.T, l.must("deadletter", "show", shown[0].Position, "--output=json"))
	if len(byLetter) != 1 || byLetter[0].Origin != noise {
		l.Errorf("by the letter's own position: %+v", byLetter)
	}
	if code, _, stderr := l.assent("deadletter", "show", "dl.consent.intake/0@999"); code != exitFailed || !strings.Contains(stderr, "no dead letter at") {
		l.Errorf("exit code %d: %s", code, stderr)
	}
}

// checkWhatStayed: a record that fails again is a new letter that names the first.
func (l *letterRig) checkWhatStayed(held, noise string) {
	l.Helper()
	again := map[string]string{}
	eventually(l.T, time.Minute, "the records that failed again are letters", func() bool {
		for _, line := range l.list() {
			if line.ReplayOf != "" {
				again[line.ReplayOf] = line.Code
			}
		}
		return len(again) == 2
	})
	if again[noise] != "no_schema" || again[held] != "affirmative" {
		l.Errorf("open letters of records that failed again: %v", again)
	}
	if open := l.list(); len(open) != 3 {
		l.Errorf("open: %+v, want two that failed again, and the change", open)
	}
	if line := l.list("--all"); len(line) != 9 {
		l.Errorf("%d letters in all, want 9", len(line))
	}
}

// killAtMark runs a replay, and kills it when it has published and is about to mark.
func (l *letterRig) killAtMark() {
	l.Helper()
	replay := assentCommand(l.Context(), l.env[:2], "deadletter", "replay")
	started := make(chan struct{})
	l.cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		if produce, ok := r.(*kmsg.ProduceRequest); !ok || produce.Topics[0].Topic != l.names.DeadLetters() {
			return nil, nil, false
		}
		<-started
		_ = replay.Process.Kill()
		return nil, errors.New("killed"), true // the one request that this control refuses
	})
	if err := replay.Start(); err != nil {
		l.Fatal(err)
	}
	close(started)
	if err := replay.Wait(); err == nil || replay.ProcessState.ExitCode() != -1 {
		l.Fatalf("the replay ended with %v, and was to be killed", err)
	}
}

// A replay that is killed between publishing and marking: the next one publishes
// again, under the same event ids, and the fold moves once.
func TestDeadLetters_AReplayThatIsKilledInTheMiddleFoldsOnce(t *testing.T) {
	l := newLetterRig(t)
	l.gateway = startRole(t, "gateway", l.env)
	l.processor = startRole(t, "processor", l.env)
	l.say(l.names.Intake(), "user:granted", func(*consent.Event) {})
	eventually(t, time.Minute, "the letter", func() bool { return len(l.list()) == 1 })
	l.declare("2")
	l.gateway.end()
	l.gateway = startRole(t, "gateway", l.env)

	l.killAtMark()
	eventually(t, time.Minute, "the grant is folded", func() bool { return l.status("user:granted") == "granted" })
	if open := l.list(); len(open) != 1 {
		t.Fatalf("open: %+v; what is not marked stays open", open)
	}
	if out := l.must("deadletter", "replay"); !strings.Contains(out, "informed: 1 replayed") {
		t.Errorf("the next replay: %s", out)
	}
	eventually(t, time.Minute, "the repeat is accepted", func() bool {
		for _, n := range l.accepted() {
			if n == 2 {
				return true
			}
		}
		return false
	})
	l.say(l.names.Intake(), "user:granted", func(e *consent.Event) { e.Action = consent.Withdraw }) // behind the repeat
	eventually(t, time.Minute, "what is behind the repeat is folded", func() bool { return l.status("user:granted") == "withdrawn" })
	if ids := l.accepted(); len(ids) != 2 {
		t.Errorf("%d event ids, want that of the grant, twice, and that of the withdrawal: %v", len(ids), ids)
	}
	if n := len(l.read(l.names.Changes())); n != 2 {
		t.Errorf("%d changes, want granted and withdrawn", n)
	}
	l.gateway.end()
	l.processor.end()
}

func TestDeadLetters_WrongUseIsToldBeforeAnythingIsAsked(t *testing.T) {
	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"topic/partition@offset"}, []string{"show", "consent.intake-3-1042"}},
		{[]string{"show"}, []string{"show"}},
		{[]string{"--position", "topic/partition@offset"}, []string{"replay", "--position=x"}},
		{[]string{"--since", "2026-03-01T12:00:00Z", "24h"}, []string{"replay", "--since=yesterday"}},
		{[]string{"--limit"}, []string{"list", "--limit=0"}},
	} {
		code, _, stderr := assent(t, []string{"ASSENT_KAFKA_BROKERS=127.0.0.1:1"}, append([]string{"deadletter"}, c.args...)...)
		wantRefusal(t, code, stderr, c.words...)
	}
}

func TestParseSince_TakesATimeOrADuration(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]consent.Instant{
		"":                          0,
		"24h":                       consent.InstantOf(now.Add(-24 * time.Hour)),
		"2026-02-01T00:00:00+01:00": consent.InstantOf(time.Date(2026, 1, 31, 23, 0, 0, 0, time.UTC)),
	} {
		if got, err := parseSince(text, now); err != nil || got != want {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"-1h", "today", "2026-02-01"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}

// What came from outside must not be obeyed by the terminal that shows it.
func TestShow_SendsNothingToTheTerminalThatItWouldObey(t *testing.T) {
	evil := "a\x1b[2J\u009b1mb\u202ec\n"
	if got := printable(evil); strings.ContainsAny(got, "\x1b\u009b\u202e\n") || !strings.HasPrefix(got, "a") {
		t.Errorf("%q", got)
	}
	quoted, err := json.Marshal(map[string]string{"x": evil + "𝛼ü"})
	if err != nil {
		t.Fatal(err)
	}
	safe := printableJSON(string(quoted))
	var back map[string]string
	if err := json.Unmarshal([]byte(safe), &back); err != nil || back["x"] != evil+"𝛼ü" {
		t.Errorf("%q became %q, %v", evil, back["x"], err)
	}
	if strings.ContainsAny(safe, "\x1b\u009b\u202e") {
		t.Errorf("%q", safe)
	}
}
