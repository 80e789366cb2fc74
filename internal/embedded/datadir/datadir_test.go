package datadir

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// holdVariable makes the test binary a process that holds the directory it
// names until its standard input closes.
const holdVariable = "DATADIR_TEST_HOLD"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdVariable); path != "" {
		hold(path)
		return
	}
	os.Exit(m.Run())
}

func hold(path string) {
	if _, err := Open(context.Background(), path, 0); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// startHolder returns the holder's process, and a function that ends it.
func startHolder(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdVariable+"="+path)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("holder said %q", line)
	}
	return cmd
}

func open(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := Open(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestOpen_MakesAPrivateDirectoryWithAVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "data")
	d := open(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("mode %o, want 700", got)
	}
	raw, err := os.ReadFile(d.Path("VERSION"))
	if err != nil || !strings.Contains(string(raw), `"format":1`) {
		t.Errorf("VERSION = %q, %v", raw, err)
	}
	if got, want := d.Path("kafka", "log"), filepath.Join(path, "kafka", "log"); got != want {
		t.Errorf("Path = %s, want %s", got, want)
	}
}

func TestOpen_RefusesADirectoryThatAnotherProcessHoldsAndNamesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	holder := startHolder(t, path)
	_, err := Open(t.Context(), path, 120*time.Millisecond)
	var locked *LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("err = %v, want a LockedError", err)
	}
	if locked.PID != holder.Process.Pid || locked.Path != path || locked.Waited < 120*time.Millisecond {
		t.Errorf("LockedError = %+v, holder is %d", locked, holder.Process.Pid)
	}
	for _, part := range []string{path, fmt.Sprint(holder.Process.Pid), "--data-dir"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
}

func TestOpen_TakesOverFromAProcessThatWasKilledWhileItWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	holder := startHolder(t, path)
	opened := make(chan error, 1)
	go func() {
		d, err := Open(context.Background(), path, 30*time.Second)
		if err == nil {
			err = d.Close()
		}
		opened <- err
	}()
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
}

func TestOpen_StopsWaitingWhenItsContextEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	open(t, path)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the user stopped it")
	cancel(cause)
	if _, err := Open(ctx, path, time.Minute); !errors.Is(err, cause) {
		t.Fatalf("err = %v, want %v", err, cause)
	}
}

func TestOpen_RefusesANewerFormatAndLeavesItAlone(t *testing.T) {
	path := t.TempDir()
	content := []byte(`{"format":99,"writer":"v9.9.9"}`)
	if err := os.WriteFile(filepath.Join(path, "VERSION"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path, 0)
	var newer *NewerVersionError
	if !errors.As(err, &newer) || newer.Found != 99 || newer.Known != Format || newer.Writer != "v9.9.9" {
		t.Fatalf("err = %v", err)
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "v9.9.9") {
		t.Errorf("%q names neither the directory nor the writer", err)
	}
	if raw, _ := os.ReadFile(filepath.Join(path, "VERSION")); string(raw) != string(content) {
		t.Errorf("VERSION became %q", raw)
	}
	// The lock was released: the right program can open it.
	if err := os.Remove(filepath.Join(path, "VERSION")); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestOpen_RefusesADirectoryThatHoldsSomethingElse(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path, 0)
	var foreign *ForeignError
	if !errors.As(err, &foreign) || foreign.Entry != "thesis.tex" {
		t.Fatalf("err = %v, want a ForeignError", err)
	}
}

func TestOpen_RefusesAVersionFileThatIsNone(t *testing.T) {
	for _, content := range []string{"", "1", "{}", `{"format":0}`, "\x00\x00"} {
		path := t.TempDir()
		if err := os.WriteFile(filepath.Join(path, "VERSION"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, 0); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("VERSION %q: err = %v", content, err)
		}
	}
}

func TestOpen_GoesOnAfterACrashBeforeTheFirstVersion(t *testing.T) {
	path := t.TempDir()
	for _, name := range []string{"LOCK", "LOCK.pid", "VERSION.tmp"} {
		if err := os.WriteFile(filepath.Join(path, name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, path)
}

func TestOpen_RecordsAnotherWriterOfTheSameFormat(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "VERSION"), []byte(`{"format":1,"writer":"v0.0.1-old"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := open(t, path)
	if raw, _ := os.ReadFile(d.Path("VERSION")); strings.Contains(string(raw), "v0.0.1-old") {
		t.Errorf("VERSION = %q", raw)
	}
}

func TestOpen_SaysWhatIsWrongWithThePath(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), "", 0); err == nil {
		t.Error("an empty path was opened")
	}
	if _, err := Open(t.Context(), file, 0); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file: err = %v", err)
	}
}

func TestClose_ReleasesAndMayBeCalledTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := open(t, path)
	for range 2 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	second := open(t, path)
	// A late second Close of the first owner must not take the new owner's hint.
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := second.holder(); got != os.Getpid() {
		t.Errorf("holder = %d, want %d", got, os.Getpid())
	}
}
