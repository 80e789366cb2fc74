package consent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every script says which sentence it shows.
func TestFold_ScriptsNameTheirSentence(t *testing.T) {
	files, _ := filepath.Glob("testdata/fold/*.txt")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, rest, _ := strings.Cut(string(data), "\n")
		if !strings.HasPrefix(first, "# Section ") || !strings.Contains(first, ": ") {
			t.Errorf("%s begins with %q: its first line names the sentence, as # Section 5, The decision: …", file, first)
		}
		if !strings.Contains(rest, "\n  ") {
			t.Errorf("%s shows nothing", file)
		}
	}
}

// SENTENCES names what shows each sentence: all of it is there, and no script
// shows what no sentence says.
func TestFold_EverySentenceIsShown(t *testing.T) {
	index, err := os.ReadFile("testdata/fold/SENTENCES")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	sources, _ := filepath.Glob("*_test.go")
	for _, file := range sources {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(text)
	}
	used, sentences := map[string]bool{}, 0
	for line := range strings.SplitSeq(string(index), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		sentence, shown, ok := strings.Cut(line, " | ")
		if !ok || len(strings.Fields(shown)) == 0 {
			t.Errorf("%q is shown by nothing", sentence)
		}
		sentences++
		for _, name := range strings.Fields(shown) {
			used[name] = true
			if strings.HasPrefix(name, "Test") {
				if !strings.Contains(code.String(), "func "+name+"(") {
					t.Errorf("%q: there is no test %s", sentence, name)
				}
			} else if _, err := os.Stat("testdata/fold/" + name + ".txt"); err != nil {
				t.Errorf("%q: there is no script %s", sentence, name)
			}
		}
	}
	files, _ := filepath.Glob("testdata/fold/*.txt")
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".txt"); !used[name] {
			t.Errorf("script %s shows no sentence", name)
		}
	}
	if sentences < 70 {
		t.Errorf("only %d sentences are listed", sentences)
	}
}
