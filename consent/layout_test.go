package consent_test

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// The domain is pure: the standard library only, and of it nothing that reads a
// clock's tick, a file, a network or a random source.
func TestPackage_ImportsThePureStandardLibraryOnly(t *testing.T) {
	pure := map[string]bool{
		"bytes": true, "crypto/sha1": true, "crypto/sha256": true, "encoding/hex": true, "errors": true, "fmt": true, "log/slog": true,
		"maps": true, "slices": true, "sort": true, "strconv": true, "strings": true, "time": true, "unicode/utf8": true,
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), text, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		read++
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil || !pure[path] {
				t.Errorf("%s imports %s: the domain has no I/O, no clock and no dependency", f.Name(), spec.Path.Value)
			}
		}
		for _, call := range []string{"time.Now(", "time.Since(", "time.Until(", "time.Sleep(", "time.After(", "time.NewTimer(", "fmt.Print", "slog.Info(", "slog.Default("} {
			if strings.Contains(string(text), call) {
				t.Errorf("%s calls %s…): time comes in, and nothing goes out", f.Name(), call)
			}
		}
	}
	if read < 10 {
		t.Errorf("only %d files were read", read)
	}
}
