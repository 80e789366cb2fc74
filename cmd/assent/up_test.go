package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/logtest"
)

// assent runs a command of the binary to its end.
func assent(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := assentCommand(ctx, env, args...)
	var out, errs logtest.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func wantRefusal(t *testing.T, code int, stderr string, words ...string) {
	t.Helper()
	if code != exitUsage {
		t.Errorf("exit code %d, want %d\n%s", code, exitUsage, stderr)
	}
	for _, w := range words {
		if !strings.Contains(stderr, w) {
			t.Errorf("the error does not say %q:\n%s", w, stderr)
		}
	}
}

func TestUp_SaysWhatToDoWhenAPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, flag := range []string{"--http-addr", "--kafka-addr", "--clickhouse-addr"} {
		args := []string{"up", "--data-dir=" + t.TempDir()}
		for _, f := range []string{"--http-addr", "--kafka-addr", "--clickhouse-addr"} {
			addr := "127.0.0.1:0"
			if f == flag {
				addr = taken.Addr().String()
			}
			args = append(args, f+"="+addr)
		}
		code, _, stderr := assent(t, nil, args...)
		wantRefusal(t, code, stderr, taken.Addr().String(), flag)
	}
}

func TestUp_WaitsForALockedDataDirectoryThenSaysWhoHasIt(t *testing.T) {
	dir := t.TempDir()
	u := startUp(t, dir, nil)
	began := time.Now()
	code, _, stderr := assent(t, nil, "up", "--data-dir="+dir, "--http-addr=127.0.0.1:0", "--kafka-addr=127.0.0.1:0", "--clickhouse-addr=127.0.0.1:0")
	wantRefusal(t, code, stderr, "is in use by process", dir)
	if waited := time.Since(began); waited < 14*time.Second {
		t.Errorf("gave up after %s, want 15s", waited)
	}
	u.stop()
	startUp(t, dir, nil).stop() // the directory is free again
}

func TestUp_RefusesADirectoryOfANewerVersionAndLeavesItAlone(t *testing.T) {
	dir := t.TempDir()
	startUp(t, dir, nil).stop()
	version := filepath.Join(dir, "VERSION")
	newer := []byte(`{"format":999,"writer":"assent 9.0"}`)
	if err := os.WriteFile(version, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := assent(t, nil, "up", "--data-dir="+dir, "--http-addr=127.0.0.1:0", "--kafka-addr=127.0.0.1:0", "--clickhouse-addr=127.0.0.1:0")
	wantRefusal(t, code, stderr, "format 999", "9.0")
	if after, err := os.ReadFile(version); err != nil || string(after) != string(newer) {
		t.Errorf("VERSION was changed to %s (%v)", after, err)
	}
}

func TestUp_ReportsEveryFaultOfTheSettingsAtOnce(t *testing.T) {
	code, _, stderr := assent(t, []string{"ASSENT_HTTP_ADRR=x", "ASSENT_PARTITIONS=none", "ASSENT_SUBJECT_KEY=short"},
		"up", "--data-dir="+t.TempDir(), "--http-addr=0.0.0.0:0")
	wantRefusal(t, code, stderr, "ASSENT_HTTP_ADRR", "did you mean ASSENT_HTTP_ADDR?", "ASSENT_PARTITIONS")
	code, _, stderr = assent(t, []string{"ASSENT_SUBJECT_KEY=short"}, "up", "--data-dir="+t.TempDir(), "--http-addr=0.0.0.0:0", "--stripes=99")
	wantRefusal(t, code, stderr, "ASSENT_ALLOW_OPEN", "ASSENT_SUBJECT_KEY", "ASSENT_STRIPES")
}

func TestUp_NamesFileAndLineOfAFaultyRegistry(t *testing.T) {
	file := filepath.Join(t.TempDir(), "purposes.yaml")
	text := "tenant: default\ncontroller: {name: X, contact: x@x.example}\npurposes:\n  - id: Newsletter\n    title: N\n    legal_basis: wishes\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"config", "check"}, {"up", "--data-dir=" + t.TempDir(), "--http-addr=127.0.0.1:0"}} {
		code, _, stderr := assent(t, nil, append(args, "--purposes="+file)...)
		wantRefusal(t, code, stderr, file+":4:", file+":6:")
	}
}

func TestUp_WithoutItsLibrarySaysHowToGetIt(t *testing.T) {
	code, _, stderr := assent(t, []string{"ASSENT_LIBCHDB=" + filepath.Join(t.TempDir(), "none.so")},
		"up", "--data-dir="+t.TempDir(), "--http-addr=127.0.0.1:0", "--kafka-addr=127.0.0.1:0", "--clickhouse-addr=127.0.0.1:0")
	wantRefusal(t, code, stderr, "libchdb", "ASSENT_LIBCHDB")
}

func TestUp_AKilledClickHouseComesBackAndTheHistoryIsWhole(t *testing.T) {
	u := startUp(t, t.TempDir(), nil)
	send := func(n int) {
		for range n {
			u.mustPost("/v1/events", map[string]any{"subject": "user:1", "purpose": "analytics", "action": "withdraw"}, nil, http.StatusAccepted)
		}
	}
	events := func() int {
		var page struct {
			Items []json.RawMessage `json:"items"`
		}
		if status, err := u.get("/v1/subjects/user:1/history?limit=1000&kind=event", &page); err != nil || status != http.StatusOK {
			return -1
		}
		return len(page.Items)
	}
	send(10)
	eventually(t, 20*time.Second, "ten events are in the history", func() bool { return events() == 10 })
	killChild(t, u.cmd.Process.Pid)
	send(10) // the gateway does not need the history
	eventually(t, 40*time.Second, "all twenty events are in the history, each once", func() bool { return events() == 20 })
	if strings.Count(u.log.String(), "the embedded ClickHouse is ready") < 2 {
		t.Errorf("the log does not tell that ClickHouse was started again:\n%s", u.log)
	}
	u.stop()
}

// childOf is the process that runs the embedded ClickHouse.
func childOf(t *testing.T, parent int) int {
	t.Helper()
	out, err := exec.Command("pgrep", "-P", itoa(parent), "-f", "embedded-clickhouse").Output()
	if err != nil {
		t.Fatalf("find the ClickHouse process: %v", err)
	}
	return atoi(t, strings.TrimSpace(string(out)))
}

func killChild(t *testing.T, parent int) {
	t.Helper()
	if err := syscall.Kill(childOf(t, parent), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	state, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(state), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z")
}

func TestUp_SignalsEndItsClickHouseOnlyThroughIt(t *testing.T) {
	dir := t.TempDir()
	u := startUp(t, dir, nil)
	child := childOf(t, u.cmd.Process.Pid)
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT} { // as a terminal sends them
		if err := syscall.Kill(child, s); err != nil {
			t.Fatal(err)
		}
	}
	u.mustPost("/v1/events", map[string]any{"subject": "user:1", "purpose": "analytics", "action": "withdraw"}, nil, http.StatusAccepted)
	eventually(t, 20*time.Second, "the event is in the history", func() bool {
		var page struct{ Items []json.RawMessage }
		status, err := u.get("/v1/subjects/user:1/history?kind=event", &page)
		return err == nil && status == http.StatusOK && len(page.Items) == 1
	})
	u.stop()
	if strings.Contains(u.log.String(), "has died") || alive(child) {
		t.Errorf("ClickHouse ended before its parent stopped it, or is still there:\n%s", u.log)
	}
	u = startUp(t, dir, nil)
	child = childOf(t, u.cmd.Process.Pid)
	u.kill()
	eventually(t, 10*time.Second, "ClickHouse has ended with its parent", func() bool { return !alive(child) })
}

func TestUp_IsUnreadyWhileItsBrokerTakesNothing(t *testing.T) {
	dir := t.TempDir()
	startUp(t, dir, nil).stop() // makes the topics
	u := startUnready(t, dir, nil, "--disk-reserve-mib=1000000000")
	eventually(t, 60*time.Second, "the broker alone is waited for", func() bool {
		waiting := u.waiting()
		return len(waiting) == 1 && strings.Contains(waiting["broker"], "make room")
	})
	u.stop()
}

func TestUp_ADiskThatIsNearlyFullIs503AndNothingIsTorn(t *testing.T) {
	dir := t.TempDir()
	startUp(t, dir, nil).stop() // makes the topics
	u := startUnready(t, dir, nil, "--disk-reserve-mib=1000000000")
	eventually(t, 60*time.Second, "all but the broker is ready", func() bool { return len(u.waiting()) == 1 })
	withdrawal := map[string]any{"event_id": "6f1c3a52-7a39-4d0e-9a53-0f4a6f0f6a01", "subject": "user:3", "purpose": "analytics", "action": "withdraw"}
	var problem struct{ Detail string }
	if status, err := u.post("/v1/events", withdrawal, &problem); err != nil || status != http.StatusServiceUnavailable || !strings.Contains(problem.Detail, "send it again") {
		t.Errorf("with a full disk: %d %v %+v", status, err, problem)
	}
	if !strings.Contains(u.log.String(), "disk is nearly full") {
		t.Errorf("the log does not say why:\n%s", u.log)
	}
	u.stop()
	u = startUp(t, dir, nil)
	u.mustPost("/v1/events", withdrawal, nil, http.StatusAccepted)
	eventually(t, 20*time.Second, "the event is in the history once", func() bool {
		var page struct {
			Items []json.RawMessage `json:"items"`
		}
		u.mustGet("/v1/subjects/user:3/history?kind=event", &page)
		return len(page.Items) == 1
	})
	u.stop()
}

func TestUp_AHangupReloadsTheRegistryAndAFaultyFileChangesNothing(t *testing.T) {
	first, second := &recorder{told: map[string]int{}}, &recorder{told: map[string]int{}}
	file := downstreamsFile(t, newServer(t, first))
	u := startUp(t, t.TempDir(), []string{"RECORDER_SECRET=0123456789abcdef0123456789abcdef"}, "--downstreams="+file)
	withdraw := func(subject string) {
		u.mustPost("/v1/events", map[string]any{"subject": subject, "purpose": "analytics", "action": "withdraw"}, nil, http.StatusAccepted)
	}
	reload := func(content []byte, says string) {
		t.Helper()
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		seen := strings.Count(u.log.String(), says)
		if err := u.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "the log says "+says, func() bool { return strings.Count(u.log.String(), says) > seen })
	}
	withdraw("user:1")
	eventually(t, 10*time.Second, "the first downstream hears", func() bool { return first.count() == 1 })
	reload([]byte("downstreams: [{name: Recorder}]\n"), "the registry was not reloaded")
	withdraw("user:2")
	eventually(t, 10*time.Second, "the first downstream still hears", func() bool { return first.count() == 2 })
	reload([]byte(strings.ReplaceAll(fmt.Sprintf(killDownstreams, newServer(t, second)), "name: recorder", "name: another")), "registry in force")
	withdraw("user:3")
	eventually(t, 20*time.Second, "the new downstream hears everything from the beginning", func() bool { return second.count() == 3 })
	if first.count() != 2 {
		t.Errorf("the removed downstream was told %d changes, want 2", first.count())
	}
	u.stop()
}

func TestUp_AHangupWhileItStartsIsServedWhenItRuns(t *testing.T) {
	u, ready, err := launchUp(t, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the registry was read", func() bool { return strings.Contains(u.log.String(), "registry in force") })
	if err := u.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-ready:
		if len(line) == 0 {
			t.Fatalf("it ended:\n%s", u.log)
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("not ready within a minute:\n%s", u.log)
	}
	eventually(t, 10*time.Second, "the registry was read again", func() bool { return strings.Contains(u.log.String(), "the registry files have not changed") })
	u.stop()
}

func TestUp_OnOthersEnginesStartsNoneOfItsOwn(t *testing.T) {
	first := startUp(t, t.TempDir(), nil)
	dsn := clickhouseDSN(t, first)
	dir := t.TempDir()
	second := startUp(t, dir, []string{"ASSENT_KAFKA_BROKERS=" + first.Kafka, "ASSENT_CLICKHOUSE_DSN=" + dsn, "ASSENT_TOPIC_PREFIX=second."})
	if second.Kafka != first.Kafka || second.ClickHouse != "" {
		t.Errorf("the second one runs on kafka %s and clickhouse %q", second.Kafka, second.ClickHouse)
	}
	second.mustPost("/v1/events", map[string]any{"subject": "user:2", "purpose": "analytics", "action": "withdraw"}, nil, http.StatusAccepted)
	var d struct {
		Status string `json:"status"`
	}
	eventually(t, 5*time.Second, "the second one decides", func() bool {
		second.mustGet("/v1/decisions?subject=user:2&purpose=analytics", &d)
		return d.Status == "withdrawn"
	})
	first.mustGet("/v1/decisions?subject=user:2&purpose=analytics", &d)
	if d.Status != "none" {
		t.Errorf("the first one, under another prefix, says %s", d.Status)
	}
	for _, engine := range []string{"kafka", "clickhouse"} {
		if _, err := os.Stat(filepath.Join(dir, engine)); err == nil {
			t.Errorf("the second one made a folder for %s", engine)
		}
	}
	second.stop()
	first.stop()
}

func TestUp_ARestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	u := startUp(t, dir, nil)
	var sent struct {
		Subject string `json:"subject"`
	}
	u.mustPost("/v1/events", map[string]any{"subject": "jane@shop.example", "purpose": "marketing", "action": "withdraw"}, &sent, http.StatusAccepted)
	u.stop()
	u = startUp(t, dir, nil)
	var d struct {
		Subject, Status, Reason string
	}
	u.mustGet("/v1/decisions?subject=jane@shop.example&purpose=marketing.email", &d)
	if d.Status != "withdrawn" || d.Reason != "ancestor" || d.Subject != sent.Subject {
		t.Errorf("after a restart: %+v", d)
	}
	code, out, stderr := assent(t, nil, "subject", "id", "Jane@Shop.example", "--data-dir="+dir)
	if code != exitDone || strings.TrimSpace(out) != sent.Subject {
		t.Errorf("subject id printed %q (%s), the answer said %q", out, stderr, sent.Subject)
	}
	u.stop()
}

func TestCommands_HelpNamesSettingsWithDefaultsAndVariables(t *testing.T) {
	code, out, _ := assent(t, nil, "up", "--help")
	for _, want := range []string{"--data-dir", "ASSENT_DATA_DIR", "./data", "--partitions", "(default 12)"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("up --help does not say %q:\n%s", want, out)
		}
	}
	code, _, stderr := assent(t, nil, "upp")
	wantRefusal(t, code, stderr, "upp")
	code, _, stderr = assent(t, nil, "up", "--no-such-flag")
	wantRefusal(t, code, stderr, "no-such-flag")
}

func TestTopicsAndMigrate_DoingItAgainChangesNothing(t *testing.T) {
	u := startUp(t, t.TempDir(), nil)
	env := []string{"ASSENT_KAFKA_BROKERS=" + u.Kafka, "ASSENT_CLICKHOUSE_DSN=" + clickhouseDSN(t, u)}
	code, out, stderr := assent(t, env, "topics", "apply", "--partitions=6", "--replication=1")
	if code != exitDone || !strings.Contains(out, "nothing to do") {
		t.Errorf("topics apply: %d %s %s", code, out, stderr)
	}
	if code, out, _ = assent(t, env, "topics", "apply", "--partitions=6", "--replication=1", "--topic-prefix=x.", "--dry-run"); code != exitDone || !strings.Contains(out, "would do: make x.consent.events with 6 partitions") {
		t.Errorf("topics apply --dry-run: %d %s", code, out)
	}
	if code, _, stderr = assent(t, env, "topics", "apply", "--partitions=7", "--replication=1"); code != exitFailed || !strings.Contains(stderr, "partitions") {
		t.Errorf("another number of partitions: %d %s", code, stderr)
	}
	if code, out, stderr = assent(t, env, "migrate"); code != exitDone || !strings.Contains(out, "nothing to do") {
		t.Errorf("migrate: %d %s %s", code, out, stderr)
	}
	u.stop()
}
