package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// maxFrameBytes is the longest request that passes, Kafka's own default
	// of socket.request.max.bytes.
	maxFrameBytes = 100 << 20
	// A request begins with its size, which counts what follows: api key,
	// version and correlation id.
	frameHeadBytes = 8
	minFrameBytes  = 8
)

var errFrame = errors.New("not a request that the broker knows")

// checkFrame judges the first 8 bytes of a request:
//
//	| size int32 | api key int16 | version int16 |   big endian
//
// What it refuses would panic in the engine, or make it allocate up to 4 GiB.
func checkFrame(head []byte) error {
	size := int32(binary.BigEndian.Uint32(head))
	if size < minFrameBytes || size > maxFrameBytes {
		return fmt.Errorf("%w: size %d", errFrame, size)
	}
	if len(head) < frameHeadBytes {
		return nil
	}
	key := int16(binary.BigEndian.Uint16(head[4:]))
	version := int16(binary.BigEndian.Uint16(head[6:]))
	if key < 0 || int(key) >= len(newestVersions) || newestVersions[key] < 0 {
		return fmt.Errorf("%w: api key %d", errFrame, key)
	}
	// A client may ask for the versions in a newer form than ours; the
	// answer then is in the oldest (KIP-511).
	newest := newestVersions[key]
	if version < 0 || version > newest && key != int16(kmsg.ApiVersions) {
		return fmt.Errorf("%w: version %d of api key %d", errFrame, version, key)
	}
	return nil
}

// guardListener hands out connections on which only well-formed requests
// arrive. It accepts nothing until it is released, so that no request meets
// a broker without its rules.
type guardListener struct {
	net.Listener
	log     *slog.Logger
	ready   chan struct{} // closed by release, or by Close
	unblock sync.Once

	mu    sync.Mutex
	conns map[*guardConn]struct{}
}

func newGuardListener(ln net.Listener, log *slog.Logger) *guardListener {
	return &guardListener{Listener: ln, log: log, ready: make(chan struct{}), conns: make(map[*guardConn]struct{})}
}

// Guarded are the options of an engine that is run without the rest of the broker, as many
// tests do, so that its connections are guarded as the broker's are.
func Guarded() []kfake.Opt {
	return []kfake.Opt{
		kfake.MaxVersions(servedVersions()),
		kfake.ListenFn(func(_, address string) (net.Listener, error) {
			ln, err := listen(address)
			if err != nil {
				return nil, err
			}
			guard := newGuardListener(ln, slog.New(slog.DiscardHandler))
			guard.release()
			return guard, nil
		}),
	}
}

func (l *guardListener) release() { l.unblock.Do(func() { close(l.ready) }) }

func (l *guardListener) Close() error {
	err := l.Listener.Close()
	l.release() // Accept finds the listener closed
	return err
}

func (l *guardListener) Accept() (net.Conn, error) {
	<-l.ready
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := newGuardConn(conn, l.log)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	c.forget = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
	}
	return c, nil
}

// hangUp ends every connection: what was asked on them is not answered.
func (l *guardListener) hangUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Conn.Close()
	}
}

// guardConn checks the head of each request before its reader sees any of it.
// Bodies go straight into the reader's buffer. One goroutine reads at a time, one writes.
//
// It keeps the end of a client that waits in a join to itself until the join is answered:
// the engine counts a member's session from that answer on, and whom it could not answer
// stays in the group for ever, with what the leader assigns to it.
type guardConn struct {
	net.Conn
	log *slog.Logger

	head     [frameHeadBytes]byte
	headLeft []byte // the part of head that was not read yet
	bodyLeft int    // bytes of the request behind its head

	joining   bool          // the last request was a join
	answered  chan struct{} // has one when something was written since
	closed    chan struct{}
	closeOnce sync.Once
	forget    func() // by the listener; nil = it has none
}

func newGuardConn(conn net.Conn, log *slog.Logger) *guardConn {
	return &guardConn{Conn: conn, log: log, closed: make(chan struct{}), answered: make(chan struct{}, 1)}
}

func (c *guardConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.headLeft) == 0 && c.bodyLeft == 0 {
		if err := c.readHead(); err != nil {
			if c.joining {
				select {
				case <-c.answered:
				case <-c.closed:
				}
			}
			return 0, err
		}
	}
	if len(c.headLeft) > 0 {
		n := copy(p, c.headLeft)
		c.headLeft = c.headLeft[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p[:min(len(p), c.bodyLeft)])
	c.bodyLeft -= n
	return n, err
}

func (c *guardConn) Write(p []byte) (int, error) {
	select {
	case c.answered <- struct{}{}:
	default:
	}
	return c.Conn.Write(p)
}

func (c *guardConn) Close() error {
	c.closeOnce.Do(func() {
		close(c.closed)
		if c.forget != nil {
			c.forget()
		}
	})
	return c.Conn.Close()
}

// readHead reads and judges the size as soon as it is there: a client that
// sends a bad one must not be waited for.
func (c *guardConn) readHead() error {
	n, err := io.ReadAtLeast(c.Conn, c.head[:], 4)
	if err != nil {
		return err
	}
	err = checkFrame(c.head[:4])
	if err == nil {
		if _, err := io.ReadFull(c.Conn, c.head[n:]); err != nil {
			return err
		}
		err = checkFrame(c.head[:])
	}
	if err != nil {
		c.log.Warn("dropped a kafka connection", "remote", c.RemoteAddr().String(), "error", err)
		return errors.Join(err, c.Close())
	}
	if c.joining = binary.BigEndian.Uint16(c.head[4:]) == uint16(kmsg.JoinGroup); c.joining {
		select {
		case <-c.answered: // another request was
		default:
		}
	}
	c.headLeft = c.head[:]
	c.bodyLeft = int(binary.BigEndian.Uint32(c.head[:])) - (frameHeadBytes - 4)
	return nil
}
