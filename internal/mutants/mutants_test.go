package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

const head = "Mechanism: nothing is lost\nTest: ./store -run ^TestStore_Keeps$\n\n"

const diff = `--- a/store/store.go
+++ b/store/store.go
@@ -2,3 +2,3 @@
 
 // What is true.
-const kept = true
+const kept = false
`

func TestParse_TakesHeadAndDiffApart(t *testing.T) {
	m, err := parse("patches/keep.patch", []byte(head+diff))
	if err != nil {
		t.Fatal(err)
	}
	if m.name != "keep" || m.mechanism != "nothing is lost" || strings.Join(m.test, " ") != "./store -run ^TestStore_Keeps$" || m.testName() != "TestStore_Keeps" || string(m.diff) != diff {
		t.Errorf("got %+v", m)
	}
}

func TestParse_SaysWhatIsMissing(t *testing.T) {
	mechanism, test, _ := strings.Cut(head, "\n")
	for text, want := range map[string]string{
		head:                                   "has no diff",
		test + diff:                            `no line "Mechanism: …"`,
		mechanism + "\n" + diff:                `no line "Test: `,
		mechanism + "\nTest: ./store\n" + diff: `no line "Test: `,
		mechanism + "\nTest: -run ^TestX$ ./store\n" + diff:          `no line "Test: `,
		head + strings.ReplaceAll(diff, "store.go", "store_test.go"): "changes a test",
	} {
		if _, err := parse("patches/keep.patch", []byte(text)); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "keep: ") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestRead_NamesEveryPatchWithAFault(t *testing.T) {
	_, err := read(fstest.MapFS{
		"patches/a.patch": {Data: []byte(head)}, "patches/b.patch": {Data: []byte(head + diff)}, "patches/c.patch": {Data: []byte(diff)},
	})
	if err == nil || !strings.Contains(err.Error(), "a: ") || !strings.Contains(err.Error(), "c: ") || strings.Contains(err.Error(), "b: ") {
		t.Errorf("got %v", err)
	}
}

func TestVerdict_IsThatOfTheTestAndOfNothingElse(t *testing.T) {
	failed := errors.New("exit status 1")
	for out, c := range map[string]struct {
		err  error
		want string
	}{
		"--- FAIL: TestX (0.00s)\nFAIL":       {failed, ""},
		"panic: test timed out after 2m0s":    {failed, ""},
		"ok  \tstore\t0.1s":                   {nil, "passes without it"},
		"ok  \tstore\t0.1s [no tests to run]": {nil, "no such test"},
		"FAIL\tstore [build failed]":          {failed, "does not compile"},
		"FAIL\tstore [setup failed]":          {failed, "does not compile"},
		"go: cannot find the main module":     {failed, "did not run"},
	} {
		err := verdict([]byte(out), c.err)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", out, err, c.want)
		}
	}
}

// A patch is put where its lines stand now, taken back without a trace, and refused
// where they are others.
func TestApply_FollowsLinesThatMovedAndGuessesNothing(t *testing.T) {
	m, err := parse("patches/keep.patch", []byte(head+diff))
	if err != nil {
		t.Fatal(err)
	}
	for text, fits := range map[string]bool{
		"package store\n\n// What is true.\nconst kept = true\n":                          true,
		"// Package store keeps.\npackage store\n\n// What is true.\nconst kept = true\n": true,
		"package store\n\n// What is true.\nconst kept = !false\n":                        false,
		"package store\n\n// What is so.\nconst kept = true\n":                            false,
	} {
		tree := t.TempDir()
		file := filepath.Join(tree, "store", "store.go")
		if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		err := m.apply(t.Context(), tree)
		if !fits {
			if err == nil || !strings.Contains(err.Error(), "no longer fits: make its diff anew") {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if now, _ := os.ReadFile(file); !bytes.Contains(now, []byte("kept = false")) {
			t.Errorf("%q became %q", text, now)
		}
		if err := m.apply(t.Context(), tree, "-R"); err != nil {
			t.Error(err)
		}
		if now, _ := os.ReadFile(file); string(now) != text {
			t.Errorf("%q came back as %q", text, now)
		}
	}
}

func TestNamed_TakesAnyOfTheWords(t *testing.T) {
	m := &mutant{name: "store-torn"}
	for words, want := range map[string]bool{"": true, "torn": true, "fold torn": true, "fold": false} {
		if m.named(strings.Fields(words)) != want {
			t.Errorf("%q: %v", words, !want)
		}
	}
}

func TestSuites_NameEachTestOnceByItsPackage(t *testing.T) {
	var all []*mutant
	for _, test := range []string{"./a TestX", "./b TestX", "./a TestY", "./a TestX"} {
		pkg, name, _ := strings.Cut(test, " ")
		all = append(all, &mutant{test: []string{pkg, "-run", "^" + name + "$"}})
	}
	got := suitesOf(all)
	if want := []suite{{"./a", []string{"TestX", "TestY"}}, {"./b", []string{"TestX"}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

// Every patch fits, and its test is there. It runs none of them.
func TestPatches_FitTheCodeAndNameTestsThatExist(t *testing.T) {
	all, err := read(patches)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		cmd := exec.CommandContext(t.Context(), "git", "apply", "--check", "-")
		cmd.Dir, cmd.Stdin = "../..", bytes.NewReader(m.diff)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: make its diff anew, the code has moved: %s", m.name, out)
		}
		files, err := filepath.Glob(filepath.Join("../..", m.test[0], "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: %s has no tests: %v", m.name, m.test[0], err)
		}
		found := false
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.Contains(text, []byte("\nfunc "+m.testName()+"("))
		}
		if !found {
			t.Errorf("%s: there is no test %s in %s", m.name, m.testName(), m.test[0])
		}
	}
}

// A row of the guarantees is a claim that a test fails without its mechanism: so at
// least one of the row's tests has a patch which shows that.
func TestPatches_CoverEveryRowOfTheGuarantees(t *testing.T) {
	text, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(patches)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	for _, m := range all {
		shown[m.testName()] = true
	}
	name := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		tests := name.FindAllStringSubmatch(line, -1)
		if !strings.HasPrefix(line, "| ") || len(tests) == 0 {
			continue
		}
		rows++
		covered := false
		for _, test := range tests {
			covered = covered || shown[test[1]]
		}
		if !covered {
			t.Errorf("no patch shows what would be without the mechanism of this row: %s", line)
		}
	}
	if rows < 20 {
		t.Errorf("only %d rows were found", rows)
	}
}
