package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inProcess runs a command in this process.
func inProcess(ctx context.Context, args ...string) (code int, out, log string) {
	var stdout, stderr bytes.Buffer
	p := &program{env: map[string]string{}, stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	code = p.run(ctx, args)
	return code, stdout.String(), stderr.String()
}

func TestLoadgen_ADryRunPrintsTheSameForTheSameSeed(t *testing.T) {
	print := func(args ...string) string {
		code, out, log := inProcess(t.Context(), append([]string{"loadgen", "--dry-run", "--events=500"}, args...)...)
		if code != exitDone {
			t.Fatalf("exit %d: %s", code, log)
		}
		return out
	}
	once := print("--seed=7")
	if once != print("--seed=7") || once == print("--seed=8") || once == print("--seed=7", "--start=2026-02-01T00:00:00Z") {
		t.Error("what is printed does not depend on seed and start alone")
	}
	if n := strings.Count(once, "\n"); n != 500 {
		t.Errorf("%d lines for 500 events", n)
	}
}

func TestLoadgen_TellsEveryFaultOfItsSettings(t *testing.T) {
	code, _, log := inProcess(t.Context(), "loadgen", "--verify", "--dry-run", "--invalid=2", "--rate=-1", "--mix=cookies=1", "--start=now", "--day=5ms", "--subjects=0", "--batch=-1")
	if code != exitUsage {
		t.Errorf("exit %d", code)
	}
	for _, setting := range []string{"VERIFY", "INVALID", "RATE", "MIX", "START", "DAY", "SUBJECTS", "BATCH"} {
		if !strings.Contains(log, "ASSENT_"+setting+" (") {
			t.Errorf("nothing is said of %s:\n%s", setting, log)
		}
	}
	for _, args := range [][]string{{"--verify", "--kafka-brokers=127.0.0.1:1"}, {"--target=nowhere"}, {"--kafka-brokers=nowhere"}, {"--purposes=/does/not/exist.yaml"}} {
		if code, _, log := inProcess(t.Context(), append([]string{"loadgen"}, args...)...); code != exitUsage {
			t.Errorf("%v: exit %d: %s", args, code, log)
		}
	}
}

func loadgenReport(t *testing.T, out string) (r loadReport) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("no report: %v\n%s", err, out)
	}
	return r
}

func TestLoadgen_EverythingIsAnsweredAndDecidedAsItMustBe(t *testing.T) {
	u := startUp(t, t.TempDir(), nil)
	code, out, log := inProcess(t.Context(), "loadgen", "--target="+u.HTTP, "--events=6000", "--subjects=300", "--invalid=0.05", "--verify", "--output=json")
	r := loadgenReport(t, out)
	if code != exitDone || r.Comparison == nil || r.Comparison.Differences != 0 || r.Comparison.Events < 500 || r.Accepted+r.Refused != 6000 || r.Refused < 200 {
		t.Errorf("exit %d:\n%s\n%s", code, out, log)
	}

	t.Run("again it must be another population", func(t *testing.T) {
		code, _, log := inProcess(t.Context(), "loadgen", "--target="+u.HTTP, "--events=100", "--seed="+jsonNumber(r.Seed), "--subjects=300", "--verify")
		if code != exitUsage || !strings.Contains(log, "--seed") {
			t.Errorf("exit %d: %s", code, log)
		}
	})
	t.Run("a gateway that refuses is told", func(t *testing.T) {
		target, err := url.Parse(u.HTTP)
		if err != nil {
			t.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(target)
		liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/v1/events" {
				http.Error(w, `{"status":422,"errors":[{"code":"malformed"}]}`, http.StatusUnprocessableEntity)
				return
			}
			proxy.ServeHTTP(w, q)
		}))
		defer liar.Close()
		code, out, log := inProcess(t.Context(), "loadgen", "--target="+liar.URL, "--events=300", "--mix=call_center=1", "--verify")
		if code != exitDifferent || !strings.Contains(out, "UNEXPECTED") {
			t.Errorf("exit %d:\n%s\n%s", code, out, log)
		}
	})
	t.Run("over Kafka what must be refused becomes a dead letter", func(t *testing.T) {
		code, out, log := inProcess(t.Context(), "loadgen", "--kafka-brokers="+u.Kafka, "--events=1000", "--subjects=100", "--invalid=0.1", "--output=json")
		r := loadgenReport(t, out)
		expected := 0
		for _, n := range r.DeadLetters {
			expected += int(n)
		}
		if code != exitDone || r.Accepted+r.Skipped != 1000 || expected < 30 {
			t.Fatalf("exit %d:\n%s\n%s", code, out, log)
		}
		lines := 0
		for deadline := time.Now().Add(30 * time.Second); lines != expected && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			_, list, _ := inProcess(t.Context(), "deadletter", "list", "--kafka-brokers="+u.Kafka, "--output=json")
			lines = strings.Count(list, "\n")
		}
		if lines != expected {
			t.Errorf("%d dead letters, want %d: %v", lines, expected, r.DeadLetters)
		}
	})
	u.stop()
}

func jsonNumber(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

func TestLoadgen_ASignalEndsItWithItsSummary(t *testing.T) {
	requests := make(chan struct{}, 1)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case requests <- struct{}{}:
		default:
		}
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte(`{"status":"recorded"}`))
	}))
	defer target.Close()
	cmd := assentCommand(context.Background(), nil, "loadgen", "--target="+target.URL, "--duration=5m", "--rate=200", "--invalid=0", "--mix=call_center=1")
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-requests:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "accepted") || !strings.Contains(out.String(), "seed ") {
		t.Errorf("%v\n%s\n%s", err, out.String(), log.String())
	}
}
