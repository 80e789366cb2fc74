package clickhouse

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/assent-dev/assent/internal/embedded/chdb"
)

// parentCommand makes the test binary a parent that starts a Server in the directory of its next argument.
const parentCommand = "parent-of-embedded-clickhouse"

var libraryPath string

// TestMain makes the test binary its own child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Command {
		if Child(context.Background(), ChildOptions{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	path, err := chdb.Locate(os.Getenv("ASSENT_LIBCHDB"), chdb.CacheDir(os.Getenv))
	if err != nil {
		fmt.Fprintln(os.Stderr, "the tests of the embedded ClickHouse need the engine:", err)
		os.Exit(1)
	}
	libraryPath = path
	if len(os.Args) > 1 && os.Args[1] == parentCommand {
		runParent(os.Args[2])
	}
	goleak.VerifyTestMain(m)
}

func runParent(dataDir string) {
	server, err := Start(context.Background(), testOptions(dataDir))
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	fmt.Println(server.PID())
	select {} // until killed
}

func testOptions(dataDir string) Options {
	executable, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Options{
		DataDir: dataDir, Library: libraryPath, Executable: executable, Args: []string{Command},
		Logger: slog.New(slog.DiscardHandler),
	}
}

// start runs a Server that the test's end closes.
func start(t *testing.T, change ...func(*Options)) *Server {
	t.Helper()
	opts := testOptions(filepath.Join(t.TempDir(), "clickhouse"))
	for _, c := range change {
		c(&opts)
	}
	server, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

func open(t *testing.T, server *Server) driver.Conn {
	t.Helper()
	options, err := chgo.ParseDSN(server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	options.DialTimeout = 20 * time.Second
	conn, err := chgo.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// poll waits until done says so.
func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// alive reports whether a process exists and is no zombie.
func alive(pid int) bool {
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(state), ") ")
	return !strings.HasPrefix(rest, "Z")
}
