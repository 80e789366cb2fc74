package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/logtest"
)

// runAsAssent turns the test binary into assent: the tests start it as a
// process of its own, so that it can be killed.
const runAsAssent = "TEST_RUNS_ASSENT"

func TestMain(m *testing.M) {
	if os.Getenv(runAsAssent) != "" {
		p := newProgram(os.Environ())
		p.selfEnv = []string{runAsAssent + "=1"}
		os.Exit(p.live(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// up is one running `assent up`.
type up struct {
	t          testing.TB
	cmd        *exec.Cmd
	log        *logtest.Buffer
	exited     chan struct{}
	data       string
	HTTP       string  `json:"http"`
	Kafka      string  `json:"kafka"`
	ClickHouse string  `json:"clickhouse"`
	Ready      bool    `json:"ready"`
	ReadyIn    float64 `json:"ready_in_seconds"`
}

// assentCommand is the binary under test with a clean environment.
func assentCommand(ctx context.Context, env []string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append([]string{runAsAssent + "=1", "HOME=" + os.Getenv("HOME"), "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, env...)
	if cache := os.Getenv("XDG_CACHE_HOME"); cache != "" {
		cmd.Env = append(cmd.Env, "XDG_CACHE_HOME="+cache)
	}
	if cover := os.Getenv("GOCOVERDIR"); cover != "" {
		cmd.Env = append(cmd.Env, "GOCOVERDIR="+cover)
	}
	return cmd
}

// startUp starts `assent up` on free ports and waits until it says that it is ready.
func startUp(t testing.TB, dataDir string, env []string, args ...string) *up {
	t.Helper()
	u, err := tryUp(t, dataDir, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func tryUp(t testing.TB, dataDir string, env []string, args ...string) (*up, error) {
	u, first, err := launchUp(t, dataDir, env, args...)
	if err != nil {
		return nil, err
	}
	select {
	case line := <-first:
		if err := json.Unmarshal(line, u); err != nil || !u.Ready {
			<-u.exited
			return nil, fmt.Errorf("assent up ended before it was ready: %q\n%s", line, u.log)
		}
	case <-time.After(60 * time.Second):
		u.kill()
		return nil, fmt.Errorf("assent up was not ready within a minute:\n%s", u.log)
	}
	return u, nil
}

var servingLine = regexp.MustCompile(`"msg":"serving","url":"([^"]+)"`)

// startUnready starts `assent up` and waits until it serves, ready or not.
func startUnready(t testing.TB, dataDir string, env []string, args ...string) *up {
	t.Helper()
	u, _, err := launchUp(t, dataDir, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, "it serves", func() bool {
		found := servingLine.FindStringSubmatch(u.log.String())
		if found == nil {
			return false
		}
		u.HTTP = found[1]
		_, err := u.get("/healthz", nil)
		return err == nil
	})
	return u
}

// launchUp starts the process; first gives the line that says that it is ready.
func launchUp(t testing.TB, dataDir string, env []string, args ...string) (u *up, first <-chan []byte, err error) {
	args = append([]string{"up", "--output=json", "--data-dir=" + dataDir, "--partitions=6",
		"--http-addr=127.0.0.1:0", "--kafka-addr=127.0.0.1:0", "--clickhouse-addr=127.0.0.1:0"}, args...)
	u = &up{t: t, data: dataDir, log: &logtest.Buffer{}, exited: make(chan struct{})}
	u.cmd = assentCommand(context.Background(), env, args...)
	u.cmd.Stderr = u.log
	out, err := u.cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := u.cmd.Start(); err != nil {
		return nil, nil, err
	}
	t.Cleanup(u.kill)
	lines := make(chan []byte, 1)
	go func() {
		defer close(u.exited)
		r := bufio.NewReader(out)
		line, _ := r.ReadBytes('\n')
		lines <- line
		_, _ = io.Copy(io.Discard, r)
		_ = u.cmd.Wait()
	}()
	return u, lines, nil
}

// kill ends it as a power cut would.
func (u *up) kill() {
	_ = u.cmd.Process.Kill()
	<-u.exited
}

// stop ends it as an operator would, and reports whether it took under ten seconds.
func (u *up) stop() {
	u.t.Helper()
	from := time.Now()
	_ = u.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-u.exited:
	case <-time.After(20 * time.Second):
		u.t.Errorf("still running 20 s after SIGTERM:\n%s", u.log)
		u.kill()
	}
	if took := time.Since(from); took > 10*time.Second {
		u.t.Errorf("SIGTERM to exit took %s, want under 10 s", took)
	}
	if code := u.cmd.ProcessState.ExitCode(); code != 0 {
		u.t.Errorf("exit code %d after SIGTERM:\n%s", code, u.log)
	}
}

var client = &http.Client{Timeout: 35 * time.Second}

// post sends a JSON body and decodes the answer; it returns the status, 0 when
// there was no answer.
func (u *up) post(path string, body, into any) (int, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	return answer(client.Post(u.HTTP+path, "application/json", bytes.NewReader(b)))(into)
}

// waiting is what /readyz says is not ready, by part.
func (u *up) waiting() map[string]string {
	u.t.Helper()
	var body struct{ Waiting map[string]string }
	status, err := u.get("/readyz", &body)
	if err != nil || (status == http.StatusOK) != (len(body.Waiting) == 0) {
		u.t.Fatalf("readyz: %d %v %v", status, err, body.Waiting)
	}
	return body.Waiting
}

func (u *up) get(path string, into any) (int, error) { return answer(client.Get(u.HTTP + path))(into) }

func answer(r *http.Response, err error) func(into any) (int, error) {
	return func(into any) (int, error) {
		if err != nil {
			return 0, err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return 0, err
		}
		if into != nil {
			if err := json.Unmarshal(b, into); err != nil {
				return r.StatusCode, fmt.Errorf("answer %d is no JSON: %q", r.StatusCode, b)
			}
		}
		return r.StatusCode, nil
	}
}

// mustPost fails the test unless the status is as wanted.
func (u *up) mustPost(path string, body, into any, status int) {
	u.t.Helper()
	var raw json.RawMessage
	got, err := u.post(path, body, &raw)
	if err != nil || got != status {
		u.t.Fatalf("POST %s: %d %v %s\n%s", path, got, err, raw, u.log)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			u.t.Fatal(err)
		}
	}
}

func (u *up) mustGet(path string, into any) {
	u.t.Helper()
	var raw json.RawMessage
	if got, err := u.get(path, &raw); err != nil || got != http.StatusOK {
		u.t.Fatalf("GET %s: %d %v %s\n%s", path, got, err, raw, u.log)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			u.t.Fatal(err)
		}
	}
}

// eventually asks until ok says yes.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond) // asks again; nothing signals across processes
	}
}

// moduleRoot is the folder of go.mod.
func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
	}
}

// cacheDir is where tests keep what they install, across runs.
func cacheDir(t testing.TB, name string) string {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "assent", "test", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// install runs a set-up command once per content of its inputs, however many
// test processes ask at the same time.
func install(t testing.TB, dir, stamp string, steps ...*exec.Cmd) {
	t.Helper()
	done := filepath.Join(dir, ".installed")
	if b, err := os.ReadFile(done); err == nil && string(b) == stamp {
		return
	}
	for _, c := range steps {
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(c.Args, " "), err, out)
		}
	}
	if err := os.WriteFile(done, []byte(stamp), 0o644); err != nil {
		t.Fatal(err)
	}
}
