package clickhouse

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	chgo "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/assent-dev/assent/internal/logtest"
)

func TestServer_ServesItsDSNAndLeavesNoChild(t *testing.T) {
	server := start(t)
	if err := server.Healthy(); err != nil {
		t.Error(err)
	}
	var database string
	if err := open(t, server).QueryRow(t.Context(), "SELECT currentDatabase()").Scan(&database); err != nil || database != "assent" {
		t.Errorf("database %q, %v", database, err)
	}
	pid := server.PID()
	if !alive(pid) {
		t.Fatal("no child runs")
	}
	started := time.Now()
	for range 2 {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(started); took > stopTimeout/2 {
		t.Errorf("close took %s: the child does not hear the end of its standard input", took)
	}
	if alive(pid) {
		t.Error("the child is still there")
	}
	if err := server.Healthy(); !errors.Is(err, ErrClosed) {
		t.Errorf("healthy after Close: %v", err)
	}
	if _, err := net.DialTimeout("tcp", server.Addr(), time.Second); err == nil {
		t.Error("the port is still open")
	}
}

func TestServer_KeepsRowsOverARestart(t *testing.T) {
	dir := func(o *Options) {
		o.DataDir = filepath.Join(os.TempDir(), "assent-"+strings.ReplaceAll(t.Name(), "/", "_"))
	}
	t.Cleanup(func() {
		var o Options
		dir(&o)
		_ = os.RemoveAll(o.DataDir)
	})
	first := start(t, dir)
	conn := open(t, first)
	for _, sql := range []string{"CREATE TABLE kept (n UInt8) ENGINE = MergeTree ORDER BY n", "INSERT INTO kept VALUES (7)"} {
		if err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.Close()
	_ = first.Close()
	var n uint8
	if err := open(t, start(t, dir)).QueryRow(t.Context(), "SELECT n FROM kept").Scan(&n); err != nil || n != 7 {
		t.Errorf("read %d, %v", n, err)
	}
}

// sendBlock inserts a block of rows until it is answered, always with the same token.
func sendBlock(ctx context.Context, conn driver.Conn, block, rows int) (attempts int, err error) {
	numbers := make([]uint64, rows)
	for i := range numbers {
		numbers[i] = uint64(block*rows + i)
	}
	ctx = chgo.Context(ctx, chgo.WithSettings(chgo.Settings{"insert_deduplication_token": fmt.Sprint("block-", block), "async_insert": 0}))
	send := func() error {
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO killed (n)")
		if err != nil {
			return err
		}
		defer batch.Close()
		if err := batch.Column(0).Append(numbers); err != nil {
			return err
		}
		return batch.Send()
	}
	for {
		attempts++
		if err = send(); err == nil || ctx.Err() != nil {
			return attempts, err
		}
	}
}

// settle counts a block as a sink must: ClickHouse writes a token before it renames the part, so a repeat can be
// answered though the rows are gone. What is missing is sent under another token.
func settle(t *testing.T, conn driver.Conn, block, rows int) (resent bool) {
	t.Helper()
	var have uint64
	for {
		err := conn.QueryRow(t.Context(), "SELECT count() FROM killed WHERE intDiv(n, ?) = ?", rows, block).Scan(&have)
		if err == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	if have == uint64(rows) {
		return false
	}
	if have != 0 {
		t.Fatalf("block %d is torn: %d of %d rows", block, have, rows)
	}
	return true
}

func TestServer_KillNineWhileInsertingLosesAndDuplicatesNothing(t *testing.T) {
	const rows, kills = 5000, 12
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	log := &logtest.Buffer{}
	server := start(t, func(o *Options) {
		o.Logger, o.maxRestartDelay = slog.New(slog.NewTextHandler(log, nil)), firstRestartDelay
	})
	addr := server.Addr()
	conn := open(t, server)
	err := conn.Exec(t.Context(), `CREATE TABLE killed (n UInt64) ENGINE = MergeTree ORDER BY n
		SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000`)
	if err != nil {
		t.Fatal(err)
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		for range kills {
			time.Sleep(time.Duration(50+random.IntN(300)) * time.Millisecond) // a moment of no meaning
			for server.Healthy() != nil {
				time.Sleep(time.Millisecond)
			}
			_ = syscall.Kill(server.PID(), syscall.SIGKILL)
			for server.Healthy() == nil {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	blocks, repeats, resent := 0, 0, 0
	for more := true; more; blocks++ {
		attempts, err := sendBlock(t.Context(), conn, blocks, rows)
		if err != nil {
			t.Fatal(err)
		}
		repeats += attempts - 1
		if attempts > 1 && settle(t, conn, blocks, rows) {
			resent++
			if err := resend(t.Context(), conn, blocks, rows); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-killed:
			more = false
		default:
		}
	}
	poll(t, "healthy again", func() bool { return server.Healthy() == nil })
	var count, unique uint64
	if err := conn.QueryRow(t.Context(), "SELECT count(), uniqExact(n) FROM killed").Scan(&count, &unique); err != nil {
		t.Fatal(err)
	}
	want := uint64(blocks * rows)
	if count != want || unique != want {
		t.Errorf("%d rows, %d unique, want %d", count, unique, want)
	}
	if server.Addr() != addr || server.Restarts() < kills-1 {
		t.Errorf("address %s after %s, %d restarts", server.Addr(), addr, server.Restarts())
	}
	if repeats == 0 {
		t.Error("no insert was ever cut off: the test has shown nothing")
	}
	if !strings.Contains(log.String(), "has died and is started again") {
		t.Error("the death was not logged")
	}
	t.Logf("%d blocks of %d rows, %d inserts repeated, %d blocks whose token came through without rows", blocks, rows, repeats, resent)
}

func resend(ctx context.Context, conn driver.Conn, block, rows int) error {
	for n := 1; ; n++ {
		ctx := chgo.Context(ctx, chgo.WithSettings(chgo.Settings{"insert_deduplication_token": fmt.Sprint("block-", block, "-again")}))
		err := conn.Exec(ctx, fmt.Sprintf("INSERT INTO killed SELECT number + %d FROM numbers(%d)", block*rows, rows))
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

func TestServer_AClientThatConnectsWhileNoChildRunsIsServedByTheNext(t *testing.T) {
	server := start(t)
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	poll(t, "the death is noticed", func() bool { return server.Healthy() != nil })
	if err := open(t, server).Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStart_RefusesADirectoryInUse(t *testing.T) {
	server := start(t)
	opts := testOptions(server.opts.DataDir)
	opts.LockWait = 200 * time.Millisecond
	second, err := Start(t.Context(), opts)
	if err == nil {
		_ = second.Close()
		t.Fatal("two servers work on one directory")
	}
	if !errors.Is(err, ErrDirectoryInUse) || !strings.Contains(err.Error(), server.opts.DataDir) {
		t.Errorf("got %v", err)
	}
	if err := open(t, server).Ping(t.Context()); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

func TestStart_WaitsForADirectoryThatIsBeingLeft(t *testing.T) {
	server := start(t)
	go func() { _ = server.Close() }()
	second, err := Start(t.Context(), testOptions(server.opts.DataDir))
	if err != nil {
		t.Fatal(err)
	}
	_ = second.Close()
}

func TestStart_SaysWhatIsWrong(t *testing.T) {
	noLibrary := filepath.Join(t.TempDir(), "libchdb.so")
	if err := os.WriteFile(noLibrary, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"library":    {func(o *Options) { o.Library = noLibrary }, "load libchdb from"},
		"port":       {func(o *Options) { o.Addr = taken.Addr().String() }, "address already in use"},
		"loopback":   {func(o *Options) { o.Addr = "0.0.0.0:0" }, "not on loopback"},
		"executable": {func(o *Options) { o.Executable = "/no/such/file" }, "no such file"},
		"directory":  {func(o *Options) { o.DataDir = filepath.Join(blocked, "x") }, "make the data directory"},
		"missing":    {func(o *Options) { o.Library = "" }, "no library is given"},
		"command":    {func(o *Options) { o.Args = []string{"-test.run=^$"} }, "exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			opts := testOptions(filepath.Join(t.TempDir(), "data"))
			c.change(&opts)
			server, err := Start(t.Context(), opts)
			if err == nil {
				_ = server.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want %q in it", err, c.want)
			}
		})
	}
}

func TestChild_DiesWithItsParent(t *testing.T) {
	dataDir := filepath.Join(t.TempDir(), "data")
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(executable, parentCommand, dataDir)
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || !alive(pid) {
		t.Fatalf("the parent says %q", line)
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	poll(t, "the child is gone", func() bool { return !alive(pid) })
}

func TestChild_WithoutAnOrderSaysThatItIsNotForHands(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	output, err := exec.Command(executable, Command).CombinedOutput()
	if err == nil || !strings.Contains(string(output), "not by hand") {
		t.Errorf("%v, %s", err, output)
	}
}

func TestServer_CloseIsQuickWhileAQueryRuns(t *testing.T) {
	server := start(t)
	conn := open(t, server)
	failed := make(chan error, 1)
	go func() {
		failed <- conn.Exec(t.Context(), "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))")
	}()
	poll(t, "the query runs", func() bool {
		var running uint64
		err := conn.QueryRow(t.Context(), "SELECT count() FROM system.processes WHERE position(query, 'sipHash64') > 0").Scan(&running)
		return err == nil && running >= 2
	})
	started := time.Now()
	_ = server.Close()
	if took := time.Since(started); took > 7*time.Second {
		t.Errorf("close took %s", took)
	}
	if err := <-failed; err == nil {
		t.Error("the query was answered")
	}
}
