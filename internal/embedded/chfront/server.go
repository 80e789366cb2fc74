package chfront

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/chfront/sqltext"
)

// Options of a Server. Library, DataDir and Password are required.
type Options struct {
	Library *chdb.Library
	// DataDir is the folder of the engine's tables and configuration, one per process. It is made where missing.
	DataDir  string
	Password string // of the user "default", the only one
	// MaxConnections bounds the sessions: each holds threads and memory of the engine. Default: 64.
	MaxConnections int
	Logger         *slog.Logger // Default: none
}

// ErrServerClosed is what Serve returns after Close.
var ErrServerClosed = errors.New("chfront: server is closed")

const (
	handshakeTimeout = 10 * time.Second
	// writeTimeout is how long a client may refuse to read before it is dropped.
	writeTimeout = 5 * time.Minute
	// killInterval is the pause between two attempts to stop a query: one that comes before the query is
	// registered does nothing.
	killInterval = 20 * time.Millisecond
	// acceptPause lets file descriptors come free.
	acceptPause = 50 * time.Millisecond
)

// Server answers ClickHouse's native protocol with one engine session per connection.
type Server struct {
	opts        Options
	connectArgs []string
	baseline    map[string]string
	password    [sha256.Size]byte
	version     [3]int
	timezone    string

	adminMu sync.Mutex // one statement at a time
	admin   *chdb.Conn // keeps the engine running, and kills queries

	stop    context.CancelFunc // kills running statements
	stopped context.Context
	wg      sync.WaitGroup // connections

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	sessions  map[*session]struct{}
	count     int // accepted connections
	nextTag   uint64
}

// Open starts the engine, which loads the data directory, and returns a server that is ready to Serve.
func Open(opts Options) (*Server, error) {
	if opts.MaxConnections == 0 {
		opts.MaxConnections = 64
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	connectArgs, err := writeConfig(opts.DataDir)
	if err != nil {
		return nil, err
	}
	admin, err := opts.Library.Connect(connectArgs...)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: opts, connectArgs: connectArgs, password: sha256.Sum256([]byte(opts.Password)), admin: admin,
		baseline:  make(map[string]string, len(baseline)),
		listeners: map[net.Listener]struct{}{}, sessions: map[*session]struct{}{},
	}
	for _, setting := range baseline {
		s.baseline[setting.Name] = setting.Value
	}
	s.stopped, s.stop = context.WithCancel(context.Background())
	if s.timezone, err = s.adminText("SELECT timezone()"); err != nil {
		s.stop()
		admin.Close()
		return nil, fmt.Errorf("ask the engine for its time zone: %w", err)
	}
	// "26.7.3"; what does not parse stays 0, clients only show it.
	_, _ = fmt.Sscanf(opts.Library.EngineVersion(), "%d.%d.%d", &s.version[0], &s.version[1], &s.version[2])
	return s, nil
}

// Exec runs a statement outside every client's session.
func (s *Server) Exec(sql string) error {
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	return s.admin.Exec(sql)
}

// adminText runs a statement of one row and one column, with param p bound as {p:String}.
func (s *Server) adminText(sql string, params ...chdb.Param) (string, error) {
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	result, err := s.admin.Query(sql, "RawBLOB", params...)
	if err != nil {
		return "", err
	}
	defer result.Release()
	return string(result.Data()), nil
}

// Serve accepts connections until Close, then returns ErrServerClosed.
func (s *Server) Serve(listener net.Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.listeners[listener] = struct{}{}
	s.mu.Unlock()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if s.stoppingNow() {
				return ErrServerClosed
			}
			if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED) {
				s.opts.Logger.Warn("a connection could not be accepted; trying again", "err", err)
				time.Sleep(acceptPause)
				continue
			}
			return fmt.Errorf("accept: %w", err)
		}
		if !s.begin(conn) {
			_ = conn.Close()
			return ErrServerClosed
		}
	}
}

func (s *Server) stoppingNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// begin starts the goroutines of a connection, unless the server is closing.
func (s *Server) begin(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.count++
	s.nextTag++
	c := newSession(s, conn, "assent-"+strconv.FormatUint(s.nextTag, 10), s.count > s.opts.MaxConnections)
	s.sessions[c] = struct{}{}
	s.wg.Go(func() {
		c.serve()
		s.mu.Lock()
		delete(s.sessions, c)
		s.count--
		s.mu.Unlock()
	})
	return true
}

// Close stops accepting, lets running statements end until ctx is done, kills the rest, ends every session and
// stops the engine. Close twice is fine. It returns ctx's error where statements had to be killed.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		s.wg.Wait()
		return nil
	}
	s.closing = true
	for listener := range s.listeners {
		_ = listener.Close()
	}
	for c := range s.sessions {
		c.hangUpWhenIdle()
	}
	s.mu.Unlock()

	ended := make(chan struct{})
	go func() { s.wg.Wait(); close(ended) }()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = ctx.Err()
		s.stop()
		<-ended
	}
	s.stop()
	s.adminMu.Lock()
	defer s.adminMu.Unlock()
	s.admin.Close()
	return err
}

// openSession returns an engine session in the given database, marked with tag so that kill finds its queries.
func (s *Server) openSession(database, tag string) (*chdb.Conn, error) {
	conn, err := s.opts.Library.Connect(s.connectArgs...)
	if err != nil {
		return nil, refuse(codeNoSession, "%v", err)
	}
	for _, sql := range []string{"USE " + sqltext.QuoteName(database), "SET " + tagSetting + " = " + sqltext.QuoteString(tag)} {
		if err := conn.Exec(sql); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// killWhenDone watches over one statement of the session with that tag: once ctx is done it kills the session's
// queries, again and again, until the returned function is called. That function waits for the watcher, so no
// kill hits a later statement.
func (s *Server) killWhenDone(ctx context.Context, tag string) (stop func()) {
	finished := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-finished:
			return
		case <-ctx.Done():
		}
		for {
			err := s.Exec("KILL QUERY WHERE Settings['" + tagSetting + "'] = " + sqltext.QuoteString(tag) + " ASYNC")
			if err != nil {
				s.opts.Logger.Warn("a cancelled query could not be killed; trying again", "err", err)
			}
			select {
			case <-finished:
				return
			case <-time.After(killInterval):
			}
		}
	})
	return func() {
		close(finished)
		watcher.Wait()
	}
}

func (s *Server) authenticates(user, password string) bool {
	given := sha256.Sum256([]byte(password))
	same := subtle.ConstantTimeCompare(given[:], s.password[:]) == 1
	return same && user == "default"
}
