package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The README's tour is run as it stands: each line that begins with "$ " in a
// console block is given to a shell, and what follows is what it must print.
// What differs from run to run (ids, times, tokens, offsets, ports) is compared
// by its form.
func TestReadme_TheTourPrintsWhatItSays(t *testing.T) {
	root := moduleRoot(t)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, tour, found := strings.Cut(string(readme), "<!-- tour -->")
	tour, _, ended := strings.Cut(tour, "<!-- /tour -->")
	if !found || !ended {
		t.Fatal("README.md has no tour between <!-- tour --> and <!-- /tour -->")
	}
	u := startUp(t, t.TempDir(), nil)
	steps := consoleSteps(tour)
	if len(steps) < 6 {
		t.Fatalf("the tour has %d steps", len(steps))
	}
	bin := t.TempDir()
	writeWrapper(t, filepath.Join(bin, "assent"))
	for _, s := range steps {
		got := runStep(t, s.command, u, bin)
		want := generalise(s.output)
		// A question may come before its answer is written; what is sent is sent once.
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.command, "--json") && generalise(got) != want && time.Now().Before(deadline); {
			time.Sleep(100 * time.Millisecond)
			got = runStep(t, s.command, u, bin)
		}
		if generalise(got) != want {
			t.Errorf("$ %s\nprinted:\n%s\nthe README says:\n%s\n\nby form:\n%s\n%s", s.command, got, s.output, generalise(got), want)
		}
	}
	u.stop()
}

type consoleStep struct{ command, output string }

// open reports whether the command goes on in the next line: a quote is open.
func (s consoleStep) open() bool { return strings.Count(s.command, "'")%2 == 1 }

// consoleSteps takes the ```console blocks apart.
func consoleSteps(text string) []consoleStep {
	var steps []consoleStep
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "```console"):
			inside = true
		case strings.HasPrefix(line, "```"):
			inside = false
		case !inside:
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, consoleStep{command: strings.TrimPrefix(line, "$ ")})
		case len(steps) > 0 && steps[len(steps)-1].open():
			s := &steps[len(steps)-1]
			s.command += "\n" + line
		case len(steps) > 0:
			steps[len(steps)-1].output += line + "\n"
		}
	}
	return steps
}

// writeWrapper makes a bin/assent that is the test binary.
func writeWrapper(t *testing.T, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n" + runAsAssent + "=1 exec " + self + ` "$@"` + "\n"
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func runStep(t *testing.T, command string, u *up, bin string) string {
	t.Helper()
	command = strings.ReplaceAll(command, "http://127.0.0.1:8080", u.HTTP)
	command = strings.ReplaceAll(command, "bin/assent", filepath.Join(bin, "assent"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir = moduleRoot(t)
	cmd.Env = append(os.Environ(), "ASSENT_URL="+u.HTTP, "ASSENT_KAFKA_BROKERS="+u.Kafka)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("$ %s\n%v\n%s", command, err, out)
	}
	return string(out)
}

var forms = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "ID"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`), "TIME"},
	{regexp.MustCompile(`[0-9a-f]{64}`), "HASH"},
	{regexp.MustCompile(`"token":\s*"[A-Za-z0-9_-]+"`), `"token":"TOKEN"`},
	{regexp.MustCompile(`"(offset|partition|n|next)":\s*\d+`), `"$1":N`},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "URL"},
	{regexp.MustCompile(`\s+`), ""}, // the README breaks long lines
}

func generalise(s string) string {
	for _, f := range forms {
		s = f.re.ReplaceAllString(s, f.to)
	}
	return strings.TrimSpace(s)
}
