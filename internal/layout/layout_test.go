package layout

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/assent-dev/assent/"

type listed struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// floor gives the floor of the house that a package is on: it may import from
// its own floor and from those below.
func floor(path string) (name string, level int) {
	rel := strings.TrimPrefix(path, module)
	top, _, _ := strings.Cut(rel, "/")
	switch top {
	case "consent":
		return top, 0
	case "schemas":
		return top, 1
	case "internal":
		return top, 2
	case "producer", "processor", "sink":
		return top, 3
	case "cmd":
		return top, 4
	}
	return top, -1
}

func TestImports_PointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		from, level := floor(p.ImportPath)
		if level < 0 {
			t.Errorf("%s is on no floor: consent, schemas, internal, the roles or cmd", p.ImportPath)
		}
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module) {
				continue
			}
			to, below := floor(imported)
			switch {
			case below > level:
				t.Errorf("%s imports %s, which is above it", p.ImportPath, imported)
			case below == level && level == 3 && from != to:
				t.Errorf("%s imports %s: a role never imports another role", p.ImportPath, imported)
			}
		}
	}
}

func TestImports_TheDomainStandsOnTheStandardLibraryAlone(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath != module+"consent" {
			continue
		}
		for _, imported := range p.Imports {
			if strings.Contains(imported, ".") {
				t.Errorf("consent imports %s", imported)
			}
			for _, effect := range []string{"os", "net", "net/http", "io", "context", "sync", "math/rand", "math/rand/v2", "crypto/rand"} {
				if imported == effect {
					t.Errorf("consent imports %s: the domain is pure", imported)
				}
			}
		}
	}
}

func TestImports_EachLibraryLivesInOneRoom(t *testing.T) {
	rooms := map[string]string{
		"github.com/hamba/avro":              module + "schemas",
		"github.com/segmentio/kafka-go":      module + "internal/kafka",
		"github.com/ClickHouse/clickhouse":   module + "sink",
		"github.com/twmb/franz-go/pkg/kfake": module + "internal/embedded/broker",
		"github.com/spf13/cobra":             module + "cmd/assent",
	}
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			for library, room := range rooms {
				if strings.HasPrefix(imported, library) && p.ImportPath != room && !strings.HasPrefix(p.ImportPath, room+"/") {
					t.Errorf("%s imports %s: only %s may", p.ImportPath, imported, room)
				}
			}
		}
	}
}

// sources walks the Go files of the module, tests left out.
func sources(t *testing.T, visit func(path string, body []byte)) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2:
			return filepath.SkipDir
		case d.IsDir() && (d.Name() == "bin" || d.Name() == "data" || d.Name() == "node_modules"):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		body, err := os.ReadFile(path)
		if err == nil {
			visit(path, body)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles_StayShort(t *testing.T) {
	const limit = 500
	sources(t, func(path string, body []byte) {
		lines := 0
		for s := bufio.NewScanner(bytes.NewReader(body)); s.Scan(); {
			lines++
		}
		if lines > limit {
			t.Errorf("%s has %d lines: look for the second noun (limit %d)", path, lines, limit)
		}
	})
}

func TestFiles_OnlyTheCommandReadsTheEnvironment(t *testing.T) {
	sources(t, func(path string, body []byte) {
		if strings.HasPrefix(filepath.ToSlash(path), "../../cmd/") {
			return
		}
		for _, call := range []string{"os.Getenv(", "os.LookupEnv(", "os.Environ(", "signal.Notify"} {
			if bytes.Contains(body, []byte(call)) {
				t.Errorf("%s calls %s): settings and signals are read in cmd and passed in", path, call)
			}
		}
	})
}

func TestPackages_OpenWithWhatTheyAreFor(t *testing.T) {
	documented := map[string]bool{}
	seen := map[string]bool{}
	sources(t, func(path string, body []byte) {
		dir := filepath.Dir(path)
		seen[dir] = true
		if bytes.Contains(body, []byte("\n// Package ")) || bytes.HasPrefix(body, []byte("// Package ")) ||
			bytes.Contains(body, []byte("// Command ")) {
			documented[dir] = true
		}
	})
	for dir := range seen {
		if !documented[dir] {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

// A guarantee without a test is not one: each test that the document names exists.
func TestDocs_GuaranteesNameTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]bool{}
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		body, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(body, -1) {
			defined[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 20 {
		t.Errorf("the document names %d tests", len(named))
	}
	for _, m := range named {
		if !defined[m[1]] {
			t.Errorf("docs/guarantees.md names %s, which does not exist", m[1])
		}
	}
}
