package clickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/chfront"
	"github.com/assent-dev/assent/internal/embedded/chfront/sqltext"
)

// Command is the hidden subcommand that runs Child.
const Command = "embedded-clickhouse"

// ChildOptions are the three streams of the process. All are required.
type ChildOptions struct {
	Stdin  *os.File  // a pipe; the first line is the order, its end ends the child
	Stdout io.Writer // "ready <addr>" or "failed <sentence as JSON>"
	Stderr io.Writer // log lines, as JSON
}

// order is what a supervisor tells its child.
type order struct {
	DataDir  string        `json:"data_dir"`
	Library  string        `json:"library"`
	Database string        `json:"database"`
	Password string        `json:"password"`
	LockWait time.Duration `json:"lock_wait"`
}

const (
	// listenerFD is the file number of the listening socket that the supervisor hands over.
	listenerFD = 3
	// drainTimeout is how long running statements may go on after the order to stop.
	drainTimeout = 3 * time.Second
	// engineStopTimeout is how long the engine may take to close; then the process ends all the same, which
	// costs no more than a kill.
	engineStopTimeout = 2 * time.Second
)

// ErrDirectoryInUse says that another process works on the data directory.
var ErrDirectoryInUse = errors.New("the data directory is in use by another process")

// Child serves the embedded ClickHouse until standard input or ctx ends. It is the whole life of a process that
// Start has made; the process exits when it returns. The error is also printed for the supervisor.
func Child(ctx context.Context, opt ChildOptions) error {
	log := slog.New(slog.NewJSONHandler(opt.Stderr, nil))
	err := child(ctx, opt, log)
	if err != nil {
		sentence, _ := json.Marshal(err.Error()) // a string always has a JSON form
		fmt.Fprintf(opt.Stdout, "failed %s\n", sentence)
	}
	return err
}

func child(ctx context.Context, opt ChildOptions, log *slog.Logger) error {
	stdin, err := detachStdin(opt.Stdin)
	if err != nil {
		return err
	}
	input := bufio.NewReader(stdin)
	line, err := input.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("this command is started by others, not by hand: no order on standard input: %w", err)
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		return fmt.Errorf("decode the order on standard input: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process: nothing but the pipe's end wakes it
		_, _ = io.Copy(io.Discard, input)
		cancel()
	}()

	listener, err := inheritedListener()
	if err != nil {
		return err
	}
	defer listener.Close()
	lock, err := lockDirectory(ctx, o)
	if err != nil {
		return err
	}
	defer lock.Close()
	server, err := openFront(o, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(opt.Stdout, "ready %s\n", listener.Addr())
	return serve(ctx, server, listener, log)
}

// serve runs the front until ctx is done, then closes it.
func serve(ctx context.Context, server *chfront.Server, listener net.Listener, log *slog.Logger) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var failure error
	select {
	case <-ctx.Done():
	case failure = <-served:
	}
	closed := make(chan error, 1)
	go func() {
		drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
		defer cancel()
		closed <- server.Close(drain)
	}()
	select {
	case err := <-closed:
		if err != nil {
			log.Warn("statements were still running and have been killed")
		}
	case <-time.After(drainTimeout + engineStopTimeout):
		log.Warn("the engine does not close; leaving it", "after", drainTimeout+engineStopTimeout)
	}
	return failure
}

func openFront(o order, log *slog.Logger) (*chfront.Server, error) {
	library, err := chdb.Load(o.Library)
	if err != nil {
		return nil, err
	}
	server, err := chfront.Open(chfront.Options{Library: library, DataDir: o.DataDir, Password: o.Password, Logger: log})
	if err != nil {
		return nil, err
	}
	if err := server.Exec("CREATE DATABASE IF NOT EXISTS " + sqltext.QuoteName(o.Database)); err != nil {
		return nil, fmt.Errorf("create database %s: %w", o.Database, err)
	}
	return server, nil
}

func inheritedListener() (net.Listener, error) {
	file := os.NewFile(listenerFD, "listener")
	if file == nil {
		return nil, errors.New("no listening socket was handed over")
	}
	defer file.Close() // the listener has its own duplicate
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("take over the listening socket: %w", err)
	}
	return listener, nil
}

// lockDirectory makes the data directory and locks it. A child whose parent was killed may still be on its way
// out, so a lock that is held is waited for.
func lockDirectory(ctx context.Context, o order) (*flock.Flock, error) {
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	lock := flock.New(filepath.Join(o.DataDir, "lock"))
	ctx, cancel := context.WithTimeout(ctx, o.LockWait)
	defer cancel()
	locked, err := lock.TryLockContext(ctx, 50*time.Millisecond)
	switch {
	case locked:
		return lock, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %s; stop that one, or choose another --data-dir", ErrDirectoryInUse, o.DataDir)
	case err != nil:
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return nil, fmt.Errorf("%w: %s", ErrDirectoryInUse, o.DataDir)
}
