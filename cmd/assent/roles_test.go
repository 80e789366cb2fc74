package main

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/logtest"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// clickhouseDSN is how another process of the same user reaches the embedded
// ClickHouse of u.
func clickhouseDSN(t *testing.T, u *up) string {
	t.Helper()
	dsn, err := os.ReadFile(filepath.Join(u.data, "clickhouse.dsn"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(dsn))
}

// role is one role in a process of its own.
type role struct {
	t   *testing.T
	url string
	log *logtest.Buffer
	end func()
}

func startRole(t *testing.T, name string, env []string, args ...string) *role {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	if name == "processor" {
		args = append(args, "--state-dir="+t.TempDir())
	}
	cmd := assentCommand(t.Context(), env, append([]string{name, "--http-addr=" + addr}, args...)...)
	r := &role{t: t, url: "http://" + addr, log: &logtest.Buffer{}}
	cmd.Stdout, cmd.Stderr = r.log, r.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	r.end = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
			if code := cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("%s: exit code %d\n%s", name, code, r.log)
			}
		case <-time.After(12 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("%s did not stop", name)
		}
	}
	eventually(t, 30*time.Second, name+" is ready", func() bool {
		resp, err := client.Get(r.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return r
}

// The roles apart, each in a process of its own, on engines that are others':
// the shape of a real installation.
func TestRoles_ApartOnOthersEnginesDoTheMainJob(t *testing.T) {
	engines := startUp(t, t.TempDir(), nil)
	hook := &recorder{told: map[string]int{}}
	receiver := newServer(t, hook)
	downstreams := downstreamsFile(t, receiver)
	purposes := filepath.Join(moduleRoot(t), "internal", "registry", "sample.yaml")
	env := []string{"ASSENT_KAFKA_BROKERS=" + engines.Kafka, "ASSENT_CLICKHOUSE_DSN=" + clickhouseDSN(t, engines), "ASSENT_TOPIC_PREFIX=apart.",
		"ASSENT_SUBJECT_KEY=" + strings.Repeat("0123456789abcdef", 4), "RECORDER_SECRET=whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
	if code, out, stderr := assent(t, env, "topics", "apply", "--partitions=6", "--replication=1"); code != exitDone {
		t.Fatalf("topics apply: %s %s", out, stderr)
	}
	gateway := startRole(t, "gateway", append(env, "ASSENT_PURPOSES="+purposes, "ASSENT_DOWNSTREAMS="+downstreams))
	processor := startRole(t, "processor", append(env, "ASSENT_PURPOSES="+purposes))
	fanout := startRole(t, "fanout", append(env, "ASSENT_PURPOSES="+purposes, "ASSENT_DOWNSTREAMS="+downstreams))
	sink := startRole(t, "sink", env)

	code, out, stderr := assent(t, []string{"ASSENT_URL=" + gateway.url}, "event", "send", `{"subject":"jane@shop.example","purpose":"analytics","action":"withdraw"}`)
	if code != exitDone {
		t.Fatalf("event send: %s", stderr)
	}
	var sent struct{ Token, Subject string }
	if err := json.Unmarshal([]byte(out), &sent); err != nil || sent.Token == "" {
		t.Fatalf("event send printed %q", out)
	}
	var decision struct{ Status, Subject string }
	if status, err := answer(client.Get(processor.url + "/v1/decisions?subject=jane@shop.example&purpose=analytics&at_least=" + sent.Token))(&decision); err != nil || status != http.StatusOK {
		t.Fatalf("decision: %d %v\n%s", status, err, processor.log)
	}
	if decision.Status != "withdrawn" || decision.Subject != sent.Subject {
		t.Errorf("the processor says %+v, the gateway sent %+v", decision, sent)
	}
	eventually(t, 10*time.Second, "the webhook came", func() bool { return hook.count() == 1 })
	eventually(t, 20*time.Second, "event, change and delivery are in the history", func() bool {
		code, out, _ := assent(t, []string{"ASSENT_URL=" + sink.url}, "audit", "history", "jane@shop.example", "--output=json")
		return code == exitDone && bytes.Count([]byte(out), []byte("\n")) == 3
	})
	for _, r := range []*role{gateway, processor, fanout, sink} {
		if regexp.MustCompile(`jane|shop\.example`).MatchString(r.log.String()) {
			t.Errorf("an address is in a log:\n%s", r.log)
		}
		r.end()
	}
	engines.stop()
}

// Neither engine is there: each role waits for them, and is not to end for a hangup
// meanwhile, nor when it stops.
func TestRoles_AHangupEndsNone(t *testing.T) {
	purposes := filepath.Join(moduleRoot(t), "internal", "registry", "sample.yaml")
	env := []string{"ASSENT_KAFKA_BROKERS=127.0.0.1:1", "ASSENT_SUBJECT_KEY=" + strings.Repeat("0123456789abcdef", 4)}
	reloads := slices.Concat(env, []string{"ASSENT_PURPOSES=" + purposes})
	for name, env := range map[string][]string{
		"sink": append(env, "ASSENT_CLICKHOUSE_DSN=clickhouse://default@127.0.0.1:1/assent"), "gateway": reloads, "processor": reloads,
		"fanout": append(reloads, "ASSENT_DOWNSTREAMS="+downstreamsFile(t, newServer(t, &recorder{told: map[string]int{}}))),
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{name, "--http-addr=127.0.0.1:0"}
			if name == "processor" {
				args = append(args, "--state-dir="+t.TempDir())
			}
			cmd, log := assentCommand(t.Context(), env, args...), &logtest.Buffer{}
			cmd.Stderr = log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			says := func(what string) {
				t.Helper()
				eventually(t, 20*time.Second, "the log says "+what, func() bool { return strings.Contains(log.String(), what) })
			}
			says(`"msg":"serving"`)
			_ = cmd.Process.Signal(syscall.SIGHUP)
			if name != "sink" {
				says("the registry files have not changed")
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			says(`"msg":"stopping"`)
			_ = cmd.Process.Signal(syscall.SIGHUP)
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != exitDone {
				t.Errorf("%s\n%s", cmd.ProcessState, log)
			}
		})
	}
}

func TestRoles_ApartAskForWhatOnlyUpCanDoWithout(t *testing.T) {
	code, _, stderr := assent(t, nil, "gateway")
	wantRefusal(t, code, stderr, "ASSENT_SUBJECT_KEY", "ASSENT_PURPOSES")
	code, _, stderr = assent(t, nil, "fanout")
	wantRefusal(t, code, stderr, "ASSENT_PURPOSES", "ASSENT_DOWNSTREAMS")
}
