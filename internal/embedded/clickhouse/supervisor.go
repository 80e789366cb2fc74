package clickhouse

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"runtime"
	"sync"
	"time"
)

// Options of a Server. DataDir, Library and Executable are required.
type Options struct {
	DataDir string // made where missing; one process at a time
	Addr    string // on loopback, port 0 = any free one. Default: 127.0.0.1:0
	Library string // path of libchdb, see chdb.Locate
	// Executable and Args start a process that calls Child, such as the binary itself with Command.
	Executable string
	Args       []string
	// Env is the child's whole environment, besides TZ=UTC: the parent's is not passed on.
	Env      []string
	Database string // made at start, part of the DSN. Default: assent
	// StartTimeout bounds the time to the first "ready". Default: 60s, of which up to LockWait are for a
	// directory that is locked. LockWait default: 15s.
	StartTimeout, LockWait time.Duration
	Logger                 *slog.Logger // Default: slog.Default()

	maxRestartDelay time.Duration
}

func (o *Options) ensureDefaults() {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Database == "" {
		o.Database = "assent"
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = 60 * time.Second
	}
	if o.LockWait == 0 {
		o.LockWait = 15 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.maxRestartDelay == 0 {
		o.maxRestartDelay = 5 * time.Second
	}
}

func (o *Options) validate() error {
	var faults []error
	for name, value := range map[string]string{"data directory": o.DataDir, "library": o.Library, "executable": o.Executable} {
		if value == "" {
			faults = append(faults, fmt.Errorf("embedded ClickHouse: no %s is given", name))
		}
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		faults = append(faults, fmt.Errorf("embedded ClickHouse: address %q: %w", o.Addr, err))
	} else if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		faults = append(faults, fmt.Errorf("embedded ClickHouse: address %q is not on loopback; write 127.0.0.1:port", o.Addr))
	}
	return errors.Join(faults...)
}

const (
	firstRestartDelay = 100 * time.Millisecond
	// steadyAfter is how long a child must run for the next restart to be quick again.
	steadyAfter = 10 * time.Second
	// stopTimeout is how long a child may take to end after its standard input was closed; then it is killed.
	stopTimeout = drainTimeout + engineStopTimeout + time.Second
)

// ErrListen says that the address cannot be listened on.
var ErrListen = errors.New("cannot listen")

// ErrClosed is what Healthy returns after Close.
var ErrClosed = errors.New("embedded ClickHouse is closed")

// Server is a running embedded ClickHouse.
type Server struct {
	opts     Options
	password string
	listener net.Listener
	socket   *os.File // the listener's duplicate that children inherit

	stop    context.CancelFunc
	stopped context.Context
	done    chan struct{} // supervise has ended, no child is left
	first   chan error    // outcome of the first start

	mu       sync.Mutex
	health   error
	restarts int
	pid      int // of the running child, 0 without
}

// Start runs the embedded ClickHouse and returns when it answers. It fails at once where the data directory is
// in use for longer than LockWait, the library does not load or the engine does not start; the error says which.
// ctx bounds the start only.
func Start(ctx context.Context, opts Options) (*Server, error) {
	opts.ensureDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	secret := make([]byte, 16)
	_, _ = rand.Read(secret) // never fails, see crypto/rand
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("embedded ClickHouse: %w: %w; choose another port (0 = any free one), or stop what listens there", ErrListen, err)
	}
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("embedded ClickHouse: duplicate the listening socket: %w", err)
	}
	s := &Server{
		opts: opts, password: hex.EncodeToString(secret), listener: listener, socket: socket,
		done: make(chan struct{}), first: make(chan error, 1), health: errors.New("embedded ClickHouse is starting"),
	}
	s.stopped, s.stop = context.WithCancel(context.Background())
	go s.supervise()

	ctx, cancel := context.WithTimeout(ctx, opts.StartTimeout)
	defer cancel()
	select {
	case err = <-s.first:
	case <-ctx.Done():
		err = fmt.Errorf("embedded ClickHouse did not get ready: %w", ctx.Err())
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// Addr returns the address that clients connect to, the same over restarts.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// DSN returns what clickhouse-go's ParseDSN takes. It holds the password, which is made anew by every Start.
func (s *Server) DSN() string {
	dsn := url.URL{Scheme: "clickhouse", User: url.UserPassword("default", s.password), Host: s.Addr(), Path: "/" + s.opts.Database}
	return dsn.String()
}

// Healthy returns nil while a child serves, and why not otherwise.
func (s *Server) Healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health
}

// Restarts returns how often a child was started again.
func (s *Server) Restarts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.restarts
}

// PID returns the child's process id, 0 while none runs.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// Close ends the child and waits until it is gone, 6 s at most. Close twice is fine.
func (s *Server) Close() error {
	s.stop()
	<-s.done
	return nil
}

func (s *Server) set(health error, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health, s.pid = health, pid
}

// supervise runs one child after the other until Close, or until the first one fails to start.
func (s *Server) supervise() {
	// The death signal of Linux is sent when this thread ends, so it must be this goroutine's alone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	defer s.socket.Close()
	defer s.listener.Close()
	defer s.set(ErrClosed, 0)

	delay := firstRestartDelay
	for attempt := 0; ; attempt++ {
		started := time.Now()
		served, err := s.runChild()
		if s.stopped.Err() != nil {
			return
		}
		if attempt == 0 && !served {
			s.first <- err
			<-s.stopped.Done()
			return
		}
		if served && time.Since(started) > steadyAfter {
			delay = firstRestartDelay
		}
		s.set(fmt.Errorf("embedded ClickHouse is down: %w", err), 0)
		s.opts.Logger.Error("the embedded ClickHouse has died and is started again; clients reconnect by themselves",
			"err", err, "in", delay.String(), "restarts", s.Restarts()+1)
		select {
		case <-s.stopped.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, s.opts.maxRestartDelay)
		s.mu.Lock()
		s.restarts++
		s.mu.Unlock()
	}
}
