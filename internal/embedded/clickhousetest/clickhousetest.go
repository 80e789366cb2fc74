// Package clickhousetest gives tests an embedded ClickHouse: one for each test
// binary, a database for each test.
package clickhousetest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/clickhouse"
)

var (
	library string
	server  *clickhouse.Server
	count   atomic.Int64
)

// Main is for TestMain: it makes the test binary the engine's process where it
// was started as that, else starts an engine, runs the tests and stops it. The
// result is the exit code.
func Main(m *testing.M, getenv func(string) string) int {
	if len(os.Args) > 1 && os.Args[1] == clickhouse.Command {
		if clickhouse.Child(context.Background(), clickhouse.ChildOptions{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}) != nil {
			return 1
		}
		return 0
	}
	code, err := run(m, getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "these tests need the embedded ClickHouse:", err)
		return 1
	}
	return code
}

func run(m *testing.M, getenv func(string) string) (code int, err error) {
	if library, err = chdb.Locate(getenv("ASSENT_LIBCHDB"), chdb.CacheDir(getenv)); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "clickhousetest")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if server, err = start(dir); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, server.Close()
}

func start(dir string) (*clickhouse.Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return clickhouse.Start(context.Background(), clickhouse.Options{DataDir: dir, Library: library, Executable: self, Args: []string{clickhouse.Command}, Database: "d0"})
}

// Own starts an engine for one test, which may kill it; pid is its process.
func Own(t testing.TB, dir string) *clickhouse.Server {
	t.Helper()
	s, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// DSN gives the address of a fresh database; create makes it, given a statement.
func DSN(t testing.TB, create func(dsn, statement string) error) string {
	t.Helper()
	name := fmt.Sprintf("d%d", count.Add(1))
	if err := create(server.DSN(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(server.DSN(), "/d0", "/"+name, 1)
}
