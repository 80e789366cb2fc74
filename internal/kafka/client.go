package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Config says where the brokers are and how to talk to them.
type Config struct {
	// Brokers are addresses, host:port, to begin with; the others are learned from them.
	Brokers []string
	// ClientID is what brokers log us as. Default: "assent".
	ClientID string
	// TLS, if set, is used for every connection.
	TLS *tls.Config
	// SASL, if set, authenticates every connection.
	SASL *SASL
	// Dial opens a connection, below TLS. Default: over TCP, with keep-alive.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// RequestTimeout bounds one request, without the time that a broker holds it on
	// purpose (a long poll, a join). Default: 10s.
	RequestTimeout time.Duration
	// Logger. Default: none.
	Logger *slog.Logger
}

// Client is a connection pool to one cluster, with what it learned about leaders and
// coordinators. For concurrent use.
type Client struct {
	config      Config
	log         *slog.Logger
	bootstrap   net.Addr
	transport   *kafkago.Transport
	formatter   *kmsg.RequestFormatter
	correlation atomic.Int32

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	connsMu sync.Mutex
	conns   map[*trackedConn]struct{}

	directory directory
}

// New checks the configuration and reports every fault in it. It does no I/O.
func New(config Config) (*Client, error) {
	if config.ClientID == "" {
		config.ClientID = "assent"
	}
	if config.RequestTimeout == 0 {
		config.RequestTimeout = 10 * time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Dial == nil {
		config.Dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("kafka configuration: %w", err)
	}
	c := &Client{
		config:    config,
		log:       config.Logger,
		bootstrap: kafkago.TCP(config.Brokers...),
		formatter: kmsg.NewRequestFormatter(kmsg.FormatterClientID(config.ClientID)),
		conns:     make(map[*trackedConn]struct{}),
		directory: newDirectory(),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.transport = &kafkago.Transport{
		Dial:        c.dial,
		DialTimeout: config.RequestTimeout,
		IdleTimeout: time.Minute,
		// The transport needs brokers only: an empty list of topics asks for none. Leaders
		// are our own directory's business, which can be told to look again at once.
		MetadataTopics: []string{},
		MetadataTTL:    2 * time.Second,
		ClientID:       config.ClientID,
		TLS:            config.TLS,
		Context:        c.ctx,
	}
	if config.SASL != nil {
		c.transport.SASL = config.SASL.mechanism()
	}
	return c, nil
}

func (config *Config) validate() error {
	var faults []error
	if len(config.Brokers) == 0 {
		faults = append(faults, errors.New("brokers: none given, want host:port"))
	}
	for _, b := range config.Brokers {
		host, port, err := net.SplitHostPort(b)
		if err != nil || host == "" {
			faults = append(faults, fmt.Errorf("brokers: %q is not host:port", b))
			continue
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			faults = append(faults, fmt.Errorf("brokers: %q has no port between 1 and 65535", b))
		}
	}
	if config.RequestTimeout < 0 {
		faults = append(faults, fmt.Errorf("request timeout: %s is negative", config.RequestTimeout))
	}
	if config.SASL != nil {
		faults = append(faults, config.SASL.validate())
	}
	return errors.Join(faults...)
}

// Close ends every request and connection at once. Producers are closed before. Twice is fine.
func (c *Client) Close() error {
	c.cancel()
	c.transport.CloseIdleConnections()
	c.connsMu.Lock()
	conns := c.conns
	c.conns = nil
	c.connsMu.Unlock()
	for conn := range conns {
		_ = conn.Conn.Close() // nothing of ours is waiting for it any more
	}
	return nil
}

// trackedConn tells the client when it closes, so that Close can end a long poll.
type trackedConn struct {
	net.Conn
	client *Client
}

func (t *trackedConn) Close() error {
	t.client.connsMu.Lock()
	delete(t.client.conns, t)
	t.client.connsMu.Unlock()
	return t.Conn.Close()
}

// SetDeadline bounds a login too, for which the transport takes the deadline away: a broker
// that falls silent in the middle of it would keep all others from us. Each exchange sets
// a deadline of its own first.
func (t *trackedConn) SetDeadline(at time.Time) error {
	if at.IsZero() {
		at = time.Now().Add(t.client.config.RequestTimeout)
	}
	return t.Conn.SetDeadline(at)
}

// dial opens a connection. The transport tries one address after the other in the time of
// one request: one that swallows everything leaves the others their share of it.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout/time.Duration(len(c.config.Brokers)))
	defer cancel()
	conn, err := c.config.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	t := &trackedConn{Conn: conn, client: c}
	c.connsMu.Lock()
	defer c.connsMu.Unlock()
	if c.conns == nil {
		_ = conn.Close()
		return nil, ErrClosed
	}
	c.conns[t] = struct{}{}
	return t, nil
}

// defaultPatience bounds a call whose context has no deadline of its own.
const defaultPatience = 30 * time.Second

// patient gives a context without a deadline that of defaultPatience.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, defaultPatience)
}

// persist repeats attempt until it succeeds, meets an error that repeating cannot
// change, or ctx ends; without a deadline in ctx it gives up after defaultPatience.
// For requests only whose repetition does no harm.
func (c *Client) persist(ctx context.Context, what string, attempt func(context.Context) error) error {
	ctx, cancel := patient(ctx)
	defer cancel()
	var pause backoff
	var last error // says more than the deadline that cuts the next attempt short
	for {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		if v := classify(err); v == verdictFatal || v == verdictFenced {
			return fmt.Errorf("%s: %w", what, err)
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		if pause.wait(ctx) != nil {
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), last)
		}
		c.log.Log(ctx, pause.level(), "kafka request is repeated", "request", what, "error", err)
	}
}

// backoff waits longer each time: 10 ms, or first, doubling to 1 s, each with a quarter of
// jitter. It begins low since a pooled connection fails once after a broker's restart.
type backoff struct {
	first time.Duration // zero = 10 ms
	last  time.Duration
	long  int // pauses that were the longest
}

// step returns the next pause.
func (b *backoff) step() time.Duration {
	first := b.first
	if first == 0 {
		first = 10 * time.Millisecond
	}
	if b.last = min(max(first, 2*b.last), time.Second); b.last == time.Second {
		b.long++
	}
	return b.last - time.Duration(rand.Int64N(int64(b.last)/4+1))
}

// level is what a repetition is worth in the log. A warning, once, when pauses have become as
// long as they get: after a second or two that is no answer of the "in a moment" kind.
func (b *backoff) level() slog.Level {
	if b.long == 1 {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// wait sleeps for the next pause. The error is that of ctx.
func (b *backoff) wait(ctx context.Context) error { return sleep(ctx, b.step()) }

func (b *backoff) reset() { b.last, b.long = 0, 0 }

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
