package chfront

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/assent-dev/assent/internal/embedded/chdb"
)

// The engine has one data directory per process, so all tests of the package share one server.
var (
	testServer *Server
	testAddr   string
)

const testPassword = "correct horse"

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	path, err := chdb.Locate(os.Getenv("ASSENT_LIBCHDB"), chdb.CacheDir(os.Getenv))
	if err != nil {
		fmt.Fprintln(os.Stderr, "the tests of chfront need the engine:", err)
		return 1
	}
	library, err := chdb.Load(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "chfront")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	testServer, err = Open(Options{
		Library: library, DataDir: dir, Password: testPassword,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	testAddr = listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- testServer.Serve(listener) }()

	code := m.Run()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := testServer.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "close:", err)
		code = 1
	}
	<-served
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

func options(change ...func(*clickhouse.Options)) *clickhouse.Options {
	o := &clickhouse.Options{
		Addr: []string{testAddr}, Auth: clickhouse.Auth{Username: "default", Password: testPassword},
		DialTimeout: 20 * time.Second, MaxOpenConns: 8,
	}
	for _, c := range change {
		c(o)
	}
	return o
}

// connect opens a client that the test's end closes.
func connect(t testing.TB, change ...func(*clickhouse.Options)) driver.Conn {
	t.Helper()
	conn, err := clickhouse.Open(options(change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func exec(t testing.TB, conn driver.Conn, sql string, args ...any) {
	t.Helper()
	if err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// scan reads one row.
func scan(t testing.TB, conn driver.Conn, sql string, into ...any) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(into...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func fileExists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
