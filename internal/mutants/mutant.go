package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// testTimeout bounds one test: a mechanism that is missed may show as a wait for ever.
const testTimeout = 2 * time.Minute

// mutant is one patch.
type mutant struct {
	name      string
	mechanism string
	test      []string // arguments of go test; the last is the pattern of -run
	diff      []byte
}

// parse reads a patch: the two lines of its head, and a diff.
func parse(path string, text []byte) (*mutant, error) {
	m := &mutant{name: strings.TrimSuffix(filepath.Base(path), ".patch")}
	at := bytes.Index(text, []byte("--- a/"))
	if at < 0 {
		return nil, fmt.Errorf("%s: has no diff: a line that begins with \"--- a/\" must follow its head", m.name)
	}
	m.diff = text[at:]
	for s := bufio.NewScanner(bytes.NewReader(text[:at])); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), ": ")
		switch key {
		case "Mechanism":
			m.mechanism = value
		case "Test":
			m.test = strings.Fields(value)
		}
	}
	switch n := len(m.test); {
	case m.mechanism == "":
		return nil, fmt.Errorf("%s: its head has no line \"Mechanism: …\"", m.name)
	case n < 3 || m.test[n-2] != "-run" || !strings.HasPrefix(m.test[0], "./"):
		return nil, fmt.Errorf("%s: its head has no line \"Test: ./package -run ^TestName$\"", m.name)
	case bytes.Contains(m.diff, []byte("_test.go\n")):
		return nil, fmt.Errorf("%s: it changes a test: what is switched off stands in other code", m.name)
	}
	return m, nil
}

// named reports whether the name holds one of the words; any name, without words.
func (m *mutant) named(words []string) bool {
	for _, w := range words {
		if strings.Contains(m.name, w) {
			return true
		}
	}
	return len(words) == 0
}

func (m *mutant) pkg() string { return m.test[0] }

func (m *mutant) testName() string { return strings.Trim(m.test[len(m.test)-1], "^$") }

// try applies the patch, runs the test, and takes the patch back. An error says why
// the mechanism's absence was not seen.
func (m *mutant) try(ctx context.Context, tree string) (err error) {
	if err := m.apply(ctx, tree); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.apply(context.WithoutCancel(ctx), tree, "-R")) }()
	out, failed := goTest(ctx, tree, m.test...)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return verdict(out, failed)
}

// suite is the tests of one package that mutants name.
type suite struct {
	pkg   string
	names []string
}

func suitesOf(all []*mutant) []suite {
	var suites []suite
	for _, m := range all {
		i := slices.IndexFunc(suites, func(s suite) bool { return s.pkg == m.pkg() })
		if i < 0 {
			i = len(suites)
			suites = append(suites, suite{pkg: m.pkg()})
		}
		if !slices.Contains(suites[i].names, m.testName()) {
			suites[i].names = append(suites[i].names, m.testName())
		}
	}
	return suites
}

// unsound runs the tests on the tree as it is, and says which of them fail there: what
// fails by itself shows nothing when it fails with a mutant.
func (s suite) unsound(ctx context.Context, tree string) map[string]error {
	out, failed := goTest(ctx, tree, s.pkg, "-failfast=false", "-timeout", (5 * testTimeout).String(), "-run", "^("+strings.Join(s.names, "|")+")$")
	if failed == nil {
		return nil
	}
	faults := make(map[string]error)
	for _, name := range s.names {
		if bytes.Contains(out, []byte("\n--- FAIL: "+name+" ")) || bytes.HasPrefix(out, []byte("--- FAIL: "+name+" ")) {
			faults[name] = fmt.Errorf("the test fails without it too, or fails at times:\n%s", out)
		}
	}
	if len(faults) == 0 { // the package as a whole, then
		for _, name := range s.names {
			faults[name] = fmt.Errorf("the tests of %s do not run without it: %w\n%s", s.pkg, failed, out)
		}
	}
	return faults
}

// goTest runs tests in a tree: neither with -race nor with vet, what is looked for is
// a wrong result, and time is short.
func goTest(ctx context.Context, tree string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*testTimeout) // it has to be compiled, too
	defer cancel()
	common := []string{"test", "-count=1", "-failfast", "-vet=off", "-trimpath", "-timeout", testTimeout.String()}
	cmd := exec.CommandContext(ctx, "go", append(common, args...)...) //nolint:gosec // our own patches say which test
	cmd.Dir = tree
	return cmd.CombinedOutput()
}

// verdict is nil when go test failed because the test did.
func verdict(out []byte, failed error) error {
	has := func(s string) bool { return bytes.Contains(out, []byte(s)) }
	switch {
	case failed == nil && has("no tests to run"):
		return errors.New("there is no such test")
	case failed == nil:
		return errors.New("the test passes without it")
	case has("[build failed]") || has("[setup failed]"):
		return fmt.Errorf("it does not compile:\n%s", out)
	case !has("--- FAIL") && !has("panic: "):
		return fmt.Errorf("the test did not run:\n%s", out)
	}
	return nil
}

// apply puts the patch on a tree. git looks for the place if lines were added above,
// but never for lines that resemble those of the patch.
func (m *mutant) apply(ctx context.Context, tree string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "git", append([]string{"apply", "--whitespace=nowarn"}, flags...)...) //nolint:gosec // the flags are ours
	cmd.Dir = tree
	cmd.Env = append(cmd.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(tree))
	cmd.Stdin = bytes.NewReader(m.diff)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the code has moved and the patch no longer fits: make its diff anew, it switches off what Mechanism names (%s)",
			strings.Join(strings.Fields(string(out)), " "))
	}
	return nil
}

// copyTree copies what git knows of the working tree, and what is new in it.
func copyTree(ctx context.Context, to string) error {
	out, err := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("list the tree: %w", err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			return err
		}
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		at := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil { //nolint:gosec // a copy of sources
			return err
		}
		if err := os.WriteFile(at, data, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}
