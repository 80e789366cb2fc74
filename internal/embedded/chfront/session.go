package chfront

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/chfront/native"
)

// session is one client connection. Two goroutines serve it: read decodes packets, serve executes them. The
// channel between them holds nothing, so that read is at most one block ahead.
type session struct {
	server   *Server
	conn     net.Conn
	r        *wireReader
	w        *wireWriter
	tag      string
	overload bool // one connection too many: say so and hang up

	engine   *chdb.Conn
	database string
	blocks   native.Translator // the engine's

	packets chan packet
	readErr error // why packets was closed; read after that

	mu     sync.Mutex
	cancel context.CancelFunc // of the running query, nil when idle
	hangUp bool               // close once idle
}

// packet is what read hands to serve.
type packet struct {
	code  proto.ClientCode
	query *clientQuery
	block native.Block // of a data packet, in the engine's dialect
	table string       // of a data packet: a temporary table's name, or none
}

func newSession(server *Server, conn net.Conn, tag string, overload bool) *session {
	return &session{
		server: server, conn: conn, tag: tag, overload: overload,
		r: newWireReader(conn), w: newWireWriter(patientWriter{conn}),
		packets: make(chan packet),
	}
}

// patientWriter gives every write its own deadline.
type patientWriter struct{ conn net.Conn }

func (w patientWriter) Write(p []byte) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return w.conn.Write(p)
}

// hangUpWhenIdle ends the connection now, or after the query that runs.
func (c *session) hangUpWhenIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hangUp = true
	if c.cancel == nil {
		_ = c.conn.Close()
	}
}

func (c *session) serve() {
	err := c.handshake()
	if err == nil {
		ctx, cancel := context.WithCancel(c.server.stopped)
		var reader sync.WaitGroup
		reader.Go(func() { c.read(ctx) })
		err = c.execute(ctx)
		cancel()
		_ = c.conn.Close() // wakes the reader
		reader.Wait()
	}
	_ = c.conn.Close()
	if c.engine != nil {
		c.engine.Close()
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.server.opts.Logger.Debug("connection ended", "client", c.conn.RemoteAddr().String(), "err", err)
	}
}

// handshake reads the hello and answers it. An exception of its own making ends the connection.
func (c *session) handshake() error {
	if err := c.conn.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	hello, err := c.r.hello()
	if err != nil {
		return err
	}
	if err := c.admit(hello); err != nil {
		return c.sendError(err, true)
	}
	answer := proto.ServerHello{
		Name: "ClickHouse", DisplayName: "Assent's embedded ClickHouse", Revision: revision, Timezone: c.server.timezone,
		Major: c.server.version[0], Minor: c.server.version[1], Patch: c.server.version[2],
	}
	if err := c.w.packet(func(b *proto.Buffer) { answer.EncodeAware(b, revision) }); err != nil {
		return err
	}
	if err := c.w.flush(); err != nil {
		return err
	}
	if err := c.r.skipFields("t"); err != nil { // the addendum: a quota key
		return err
	}
	return c.conn.SetReadDeadline(time.Time{})
}

// admit checks a hello and opens the engine session.
func (c *session) admit(hello clientHello) (err error) {
	if c.overload {
		return refuse(codeTooMany, "the embedded ClickHouse serves %d connections and all are taken", c.server.opts.MaxConnections)
	}
	if hello.revision < revision {
		return refuse(codeUnexpectedPacket, "the client speaks revision %d of the native protocol, %d is needed", hello.revision, revision)
	}
	if !c.server.authenticates(hello.user, hello.password) {
		return refuse(codeAuthentication, "wrong password, or no user of that name")
	}
	c.database = hello.database
	if c.database == "" {
		c.database = "default"
	}
	c.engine, err = c.server.openSession(c.database, c.tag)
	return err
}

// read decodes packets until the connection ends. It alone sees a Cancel, or the client's going, while a query runs.
func (c *session) read(ctx context.Context) {
	defer close(c.packets)
	var blocks native.Translator
	compressed := false
	for {
		p, err := c.readPacket(&blocks, &compressed)
		if err != nil {
			c.readErr = err
			c.cancelQuery()
			return
		}
		if p.code == proto.ClientCodeCancel {
			c.cancelQuery()
			continue
		}
		select {
		case c.packets <- p:
		case <-ctx.Done():
			c.readErr = ctx.Err()
			return
		}
	}
}

func (c *session) readPacket(blocks *native.Translator, compressed *bool) (packet, error) {
	code, err := c.r.uvarint()
	if err != nil {
		return packet{}, err
	}
	p := packet{code: proto.ClientCode(code)}
	switch p.code {
	case proto.ClientCodeQuery:
		if p.query, err = c.r.query(); err != nil {
			return packet{}, fmt.Errorf("read query: %w", err)
		}
		*compressed = p.query.compressed
	case proto.ClientCodeData:
		if p.table, err = c.r.text(maxNameBytes); err != nil {
			return packet{}, err
		}
		if p.block, err = blocks.FromClient(c.r.data(*compressed)); err != nil {
			return packet{}, fmt.Errorf("read block: %w", err)
		}
	case proto.ClientCodePing, proto.ClientCodeCancel:
	default:
		return packet{}, fmt.Errorf("%w: packet %d", errProtocol, code)
	}
	return p, nil
}

func (c *session) cancelQuery() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
}

// execute answers packets until the client goes, the server closes or the protocol is broken.
func (c *session) execute(ctx context.Context) error {
	for p := range c.packets {
		var err error
		switch p.code {
		case proto.ClientCodePing:
			err = c.w.code(proto.ServerCodePong)
		case proto.ClientCodeQuery:
			err = c.query(ctx, p.query)
		case proto.ClientCodeData: // what was under way when an insert failed
			continue
		}
		if err == nil {
			err = c.w.flush()
		}
		if err != nil {
			return err
		}
	}
	if c.readErr != nil && !errors.Is(c.readErr, io.EOF) {
		_ = c.sendError(refuse(codeUnexpectedPacket, "%v", c.readErr), true) // the client may be gone already
	}
	return c.readErr
}

// query runs one query and ends its answer: with the end of the stream or with an exception.
func (c *session) query(ctx context.Context, q *clientQuery) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.cancel = cancel
	c.mu.Unlock()

	err := c.takeExternalTables()
	if err == nil {
		err = c.runWithSettings(ctx, q)
	}

	c.mu.Lock()
	c.cancel = nil
	hangUp := c.hangUp
	c.mu.Unlock()
	if err != nil {
		err = c.sendError(err, false)
	} else {
		err = c.w.code(proto.ServerCodeEndOfStream)
	}
	if err == nil && hangUp {
		if err = c.w.flush(); err == nil {
			err = net.ErrClosed
		}
	}
	return err
}

// sendError tells the client an exception of the engine or of this server. Any other error is the connection's
// own, and ends it; so does every error where final is set.
func (c *session) sendError(err error, final bool) error {
	var exception *chdb.Error
	if !errors.As(err, &exception) {
		return err
	}
	if err := c.w.exception(exception.Code, exception.Message); err != nil || !final {
		return err
	}
	if err := c.w.flush(); err != nil {
		return err
	}
	return fmt.Errorf("refused: %w", exception)
}

// takeExternalTables reads the blocks after a query up to the empty one.
func (c *session) takeExternalTables() error {
	named := false
	for p := range c.packets {
		if p.code != proto.ClientCodeData {
			return fmt.Errorf("%w: packet %d after a query", errProtocol, p.code)
		}
		if len(p.block.Header) == 0 && p.table == "" {
			if named {
				return refuse(codeNotImplemented, "external tables are not supported by the embedded ClickHouse")
			}
			return nil
		}
		named = true
	}
	return c.readErr
}
