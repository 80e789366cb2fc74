package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong in a file, or, as a warning, looks
// wrong. Sentence says what, and what to do; it never holds a secret.
type Fault struct {
	File     string
	Line     int // from 1; 0 = the file as a whole
	Column   int // from 1, in characters
	Sentence string
}

// String gives "file:line:column: sentence", the form that editors jump to.
func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Sentence
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Sentence)
}

// Faults is every fault of every file, as one error.
type Faults []Fault

// Error gives the first fault and how many more there are; [Explain] gives all.
func (f Faults) Error() string {
	switch len(f) {
	case 0:
		return "no fault"
	case 1:
		return f[0].String()
	}
	return fmt.Sprintf("%s (and %d more)", f[0], len(f)-1)
}

// Explain gives every fault in err on a line of its own, sorted by file and
// line; an error of another kind as its own text; "" for nil.
func Explain(err error) string {
	var faults Faults
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &faults):
		return err.Error()
	}
	sorted := slices.Clone(faults)
	sorted.Sort()
	lines := make([]string, len(sorted))
	for i, f := range sorted {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Sort orders by place. Faults of one place keep the order of their finding.
func (f Faults) Sort() {
	slices.SortStableFunc(f, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// Quote shows a word of the file in a sentence, cut where it is long.
func Quote(s string) string {
	const most = 60
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// DidYouMean gives `, did you mean "x"?` for the known word closest to got, and
// "" when none is close enough to be a slip of the finger.
func DidYouMean(got string, known []string) string {
	if best := closest(got, known); best != "" {
		return fmt.Sprintf(": did you mean %q?", best)
	}
	return ""
}

// closest gives "" where no word is close.
func closest(got string, known []string) string {
	const longest = 64 // longer words are no slip of one
	if got == "" || len(got) > longest {
		return ""
	}
	best, least := "", 3
	for _, k := range known {
		// A third of the letters may differ, and at most two.
		most := min(2, max(1, len(k)/3))
		if d := distance(strings.ToLower(got), strings.ToLower(k)); d <= most && d < least {
			best, least = k, d
		}
	}
	return best
}

// distance counts the letters to insert, drop, replace or swap with a
// neighbour until a is b (optimal string alignment).
func distance(a, b string) int {
	if d := len(a) - len(b); d > 2 || d < -2 {
		return 3 // further than anybody asks
	}
	before, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			substitute := row[j-1]
			if a[i-1] != b[j-1] {
				substitute++
			}
			next[j] = min(substitute, row[j]+1, next[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}

// Listed joins words as a sentence does: "a", "a or b", "a, b or c".
func Listed(words []string, conjunction string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " " + conjunction + " " + words[last]
}
