package chdb

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestLocate_TakesTheExplicitPathThenTheCache(t *testing.T) {
	cache, file := t.TempDir(), filepath.Join(t.TempDir(), "mine.so")
	if _, err := Locate("", cache); !errors.Is(err, ErrNoLibrary) || !strings.Contains(err.Error(), "make build") || !strings.Contains(err.Error(), "ASSENT_LIBCHDB") {
		t.Errorf("an empty cache: %v", err)
	}
	if _, err := Locate("", ""); !errors.Is(err, ErrNoLibrary) {
		t.Errorf("no cache: %v", err)
	}
	if _, err := Locate(file, cache); !errors.Is(err, ErrNoLibrary) || !strings.Contains(err.Error(), file) {
		t.Errorf("a missing explicit path: %v", err)
	}
	cached := filepath.Join(cache, "assent", "libchdb", Version, "libchdb.so")
	if err := os.MkdirAll(filepath.Dir(cached), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, cached} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Locate("", cache); err == nil {
			t.Error("an empty file is taken for a library")
		}
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Locate("", cache); err != nil || got != cached {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := Locate(file, cache); err != nil || got != file {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestCacheDir_IsTheOneOfTheFetchScript(t *testing.T) {
	for _, c := range []struct{ xdg, home, want string }{
		{"/x", "/h", "/x"}, {"", "/h", "/h/.cache"}, {"", "", ""},
	} {
		got := CacheDir(func(name string) string { return map[string]string{"XDG_CACHE_HOME": c.xdg, "HOME": c.home}[name] })
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestParseError_TakesCodeAndMessageApart(t *testing.T) {
	for text, want := range map[string]Error{
		"Code: 60. DB::Exception: Unknown table 'x'. (UNKNOWN_TABLE)":                        {60, "Unknown table 'x'."},
		"Code: 62. DB::Exception: Syntax (near) here. (SYNTAX_ERROR) (version 26.7.3.1 (x))": {62, "Syntax (near) here."},
		"Query was (QUOTED)":  {0, "Query was"},
		"Invalid connection":  {0, "Invalid connection"},
		"Code: 1. two\nlines": {1, "two\nlines"},
	} {
		if got := parseError(text); *got != want {
			t.Errorf("%q: %+v", text, *got)
		}
	}
}

func testLibrary(t *testing.T) *Library {
	t.Helper()
	path, err := Locate(os.Getenv("ASSENT_LIBCHDB"), CacheDir(os.Getenv))
	if err != nil {
		t.Fatal("this test needs the engine: ", err)
	}
	library, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return library
}

func TestLoad_SaysWhatIsWrongWithAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(file, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("got %v", err)
	}
}

func TestConn_QueriesStreamsAndInserts(t *testing.T) {
	library := testLibrary(t)
	if got := library.EngineVersion(); !strings.HasPrefix(Version, got) {
		t.Errorf("the library says it is %s, want %s", got, Version)
	}
	conn, err := library.Connect("--path=" + t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Exec("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s"); err != nil {
		t.Fatal(err)
	}
	insert, err := conn.Insert("INSERT INTO t (s)", "RowBinary")
	if err != nil {
		t.Fatal(err)
	}
	if !insert.Append([]byte("\x03a\x00b")) || !insert.Append([]byte("\x02\n\n")) {
		t.Error("rows were refused")
	}
	stats, err := insert.Done()
	if err != nil || stats.WrittenRows != 2 {
		t.Errorf("%+v, %v", stats, err)
	}
	insert.Close()
	insert.Close()

	result, err := conn.Query("SELECT groupConcat('|')(hex(s)), {p:String} FROM (SELECT s FROM t ORDER BY s)", "TSVRaw", Param{"p", ""})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(result.Data()); got != "0A0A|610062\t\n" {
		t.Errorf("got %q", got)
	}
	result.Release()
	result.Release()

	stream, err := conn.Stream("SELECT number FROM numbers(200000)", "RowBinary")
	if err != nil {
		t.Fatal(err)
	}
	parts, bytes := 0, 0
	for part, err := stream.Next(); part != nil || err != nil; part, err = stream.Next() {
		if err != nil {
			t.Fatal(err)
		}
		parts, bytes = parts+1, bytes+len(part.Data())
		part.Release()
	}
	stream.Close()
	if parts < 2 || bytes != 200_000*8 {
		t.Errorf("%d parts of %d bytes", parts, bytes)
	}

	for sql, want := range map[string]Analysis{
		"SELECT 1": {1, ReadOnly}, "SELECT 1; SELECT 2": {2, ReadOnly}, "DROP TABLE t": {1, Mutating},
		"SET max_threads = 1": {1, Control}, "SELECT 1; )": {0, Unknown}, "": {0, Unknown},
	} {
		if got, err := conn.Classify(sql); err != nil || got != want {
			t.Errorf("%q: %+v, %v", sql, got, err)
		}
	}
	var exception *Error
	stream, err = conn.Stream("SELECT * FROM missing", "Native")
	if err == nil { // it may come with the first part
		_, err = stream.Next()
		stream.Close()
	}
	if !errors.As(err, &exception) || exception.Code != 60 {
		t.Errorf("got %v", err)
	}
	conn.Close()
	if _, err := conn.Query("SELECT 1", "TSV"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// fakeNPM is an npm whose download is a small archive, so that the script is tested without network.
const fakeNPM = `#!/bin/sh
while [ $# -gt 0 ]; do
	if [ "$1" = --pack-destination ]; then cp "$FAKE_ARCHIVE" "$2/chdb.tgz"; fi
	shift
done
exit ${FAKE_EXIT:-0}
`

// fetch runs a copy of deploy/libchdb/fetch.sh whose lock file pins the given integrity.
func fetch(t *testing.T, cache, integrity string, env ...string) (output string, err error) {
	t.Helper()
	const source = "../../../deploy/libchdb/"
	deploy, bin := t.TempDir(), t.TempDir()
	for _, name := range []string{"fetch.sh", "package.json"} {
		text, err := os.ReadFile(source + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(deploy, name), text, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	lock := `{"packages": {"node_modules/@chdb/lib-linux-x64-gnu": {"version": "` + Version + `", "integrity": "` + integrity + `"}}}`
	archive, packed := filepath.Join(bin, "archive.tgz"), filepath.Join(bin, "package")
	for name, text := range map[string]string{
		filepath.Join(deploy, "package-lock.json"): lock, filepath.Join(bin, "npm"): fakeNPM, filepath.Join(packed, "libchdb.so"): "library",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("tar", "-czf", archive, "-C", bin, "package/libchdb.so").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if integrity == "right" {
		hash, err := exec.Command("sh", "-c", `printf 'sha512-%s' "$(node -e 'process.stdout.write(require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64"))' "$0")"`, archive).Output()
		if err != nil {
			t.Fatal(err)
		}
		lock = strings.Replace(lock, `"right"`, `"`+string(hash)+`"`, 1)
		if err := os.WriteFile(filepath.Join(deploy, "package-lock.json"), []byte(lock), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("sh", filepath.Join(deploy, "fetch.sh"))
	command.Env = append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "XDG_CACHE_HOME=" + cache, "FAKE_ARCHIVE=" + archive}, env...)
	out, err := command.CombinedOutput()
	return string(out), err
}

func TestFetchScript_FillsTheCacheOnceAndRepairsIt(t *testing.T) {
	if runtime.GOOS+"/"+runtime.GOARCH != "linux/amd64" {
		t.Skip("no library is pinned for this platform")
	}
	cache := t.TempDir()
	output, err := fetch(t, cache, "right")
	if err != nil || !strings.Contains(output, "178 MB") {
		t.Fatalf("%v: %s", err, output)
	}
	library, err := Locate("", cache)
	if err != nil {
		t.Fatal(err)
	}
	if output, err := fetch(t, cache, "right", "FAKE_EXIT=1"); err != nil || output != "" {
		t.Errorf("a second run: %v: %s", err, output)
	}
	if err := os.WriteFile(library, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := fetch(t, cache, "right"); err != nil || !strings.Contains(output, "does not match") {
		t.Errorf("a damaged copy: %v: %s", err, output)
	}
	if text, _ := os.ReadFile(library); string(text) != "library" {
		t.Errorf("the copy is %q", text)
	}
	left, err := os.ReadDir(filepath.Dir(library))
	if err != nil || len(left) != 2 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
}

func TestFetchScript_SaysWhatIsWrongAndLeavesNothing(t *testing.T) {
	if runtime.GOOS+"/"+runtime.GOARCH != "linux/amd64" {
		t.Skip("no library is pinned for this platform")
	}
	for name, c := range map[string]struct {
		integrity, want string
		env             []string
	}{
		"integrity":  {"sha512-AAAA", "wrong integrity", nil},
		"not pinned": {"", "pins no integrity", nil},
		"network":    {"sha512-AAAA", "could not download", []string{"FAKE_EXIT=1"}},
		"no npm":     {"sha512-AAAA", "npm is missing", []string{"PATH=" + pathWithout(t, "npm")}},
	} {
		t.Run(name, func(t *testing.T) {
			cache := t.TempDir()
			output, err := fetch(t, cache, c.integrity, c.env...)
			if err == nil || !strings.Contains(output, c.want) {
				t.Errorf("%v: %s", err, output)
			}
			if _, err := Locate("", cache); err == nil {
				t.Error("a library was left in the cache")
			}
			if left, _ := filepath.Glob(filepath.Join(cache, "assent", "libchdb", Version, "*")); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// pathWithout returns a folder with links to what the script needs, but for one tool.
func pathWithout(t *testing.T, missing string) string {
	t.Helper()
	dir := t.TempDir()
	for _, tool := range []string{"sh", "uname", "sed", "dirname", "cut", "sha256sum", "node", "npm", "tar", "ls", "mkdir", "df", "awk", "mktemp", "rm"} {
		path, err := exec.LookPath(tool)
		if err != nil || tool == missing {
			continue
		}
		if err := os.Symlink(path, filepath.Join(dir, tool)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
