package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The page is driven by a real browser: tick, decision allowed, untick, signed
// webhook received, decision denied.
func TestDemo_TickingAndUntickingInABrowserReachesDecisionAndReceiver(t *testing.T) {
	u := startUp(t, t.TempDir(), nil)
	script := filepath.Join(moduleRoot(t), "cmd", "assent", "testdata", "browser")
	modules := installBrowserDriver(t, script)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join(modules, "drive.mjs"), u.HTTP, chromium(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, u.log)
	}
	for _, want := range []string{
		"nothing is ticked at first",
		"newsletter ticked: granted, allowed",
		"receiver was told consent.granted, signature valid",
		"newsletter unticked: withdrawn, denied",
		"receiver was told consent.withdrawn, signature valid",
		"accept all: every purpose granted",
		"refuse all: every purpose refused",
		"no message on the console",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the browser did not see: %s\n%s", want, out)
		}
	}
	u.stop()
}

// installBrowserDriver puts playwright-core into the cache, as its lock file pins it.
func installBrowserDriver(t testing.TB, from string) string {
	t.Helper()
	dir := cacheDir(t, "browser")
	var stamp strings.Builder
	for _, name := range []string{"package.json", "package-lock.json", "drive.mjs"} {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		stamp.Write(b)
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	npm := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = dir
	install(t, dir, stamp.String(), npm)
	return dir
}

func chromium(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("no Chromium: make test installs it on Debian as root; elsewhere point CHROMIUM at one")
	}
	return path
}
