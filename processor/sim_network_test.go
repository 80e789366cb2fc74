package processor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/kafka"
)

// mishap is what befalls one request on its way.
type mishap struct {
	kind  mishapKind
	delay time.Duration
}

type mishapKind uint8

const (
	noMishap    mishapKind = iota
	requestLost            // the connection is cut before the broker saw the request
	answerLost             // the broker acts, and the connection is cut before the answer
	requestLate            // the connection is cut, and the request arrives later all the same
	requestSlow            // the request takes long
	answerSlow             // the answer takes long
	mishapKinds
)

func (m mishap) String() string {
	name := [...]string{"none", "lost", "answer lost", "arrives late", "slow", "answered slowly"}[m.kind]
	if m.delay > 0 {
		name += fmt.Sprintf(" by %s", m.delay)
	}
	return name
}

// link is the network of one life of an instance. It carries whole requests and answers
// between the instance and the broker, each of which takes a little while.
type link struct {
	sim  *simulation
	name string
	fate interface { // of the process at this end
		wait() bool // while it is suspended; false = it is dead
	}

	mu    sync.Mutex
	r     *rand.Rand
	down  bool
	met   map[kmsg.Key][]mishap // what the next requests of a key meet
	conns map[*carrier]struct{}
}

// carrier is one connection.
type carrier struct {
	link         *link
	near, broker net.Conn
}

var errLinkDown = errors.New("the network is down")

func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !l.fate.wait() {
		return nil, errLinkDown
	}
	broker, err := l.sim.network.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	client, near := net.Pipe()
	c := &carrier{link: l, near: near, broker: broker}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		_, _ = near.Close(), broker.Close()
		return nil, errLinkDown
	}
	l.conns[c] = struct{}{}
	l.sim.carriers.Go(c.run)
	return client, nil
}

// meets arranges that the next request of a key meets a mishap.
func (l *link) meets(key kmsg.Key, m mishap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.met[key] = append(l.met[key], m)
}

// next gives the mishap of a request, and how long it takes anyway.
func (l *link) next(key kmsg.Key) (m mishap, takes time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if waiting := l.met[key]; len(waiting) > 0 {
		m, l.met[key] = waiting[0], waiting[1:]
		l.sim.note("%s: %s %s", l.name, key.Name(), m)
		l.sim.tally.mishaps.Add(1)
	}
	return m, time.Duration(l.r.IntN(2000)) * time.Microsecond
}

// cut ends every connection, for good. What is on its way late still arrives.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = true
	for c := range l.conns {
		_ = c.near.Close()
	}
}

// run carries requests and their answers, one at a time, as the client sends them.
func (c *carrier) run() {
	defer func() {
		_, _ = c.near.Close(), c.broker.Close()
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		delete(c.link.conns, c)
	}()
	for c.exchange() == nil {
	}
}

func (c *carrier) exchange() error {
	request, err := readFrame(c.near)
	if err != nil {
		return err
	}
	m, takes := c.link.next(kmsg.Key(binary.BigEndian.Uint16(request[4:])))
	time.Sleep(takes)
	switch m.kind {
	case requestLost:
		return errLinkDown
	case requestLate:
		_ = c.near.Close()
		time.Sleep(m.delay) // whatever has become of the sender
	case requestSlow:
		time.Sleep(m.delay)
		fallthrough
	default:
		if !c.link.fate.wait() {
			return errLinkDown
		}
	}
	if _, err := c.broker.Write(request); err != nil {
		return err
	}
	answer, err := readFrame(c.broker)
	if err != nil {
		return err
	}
	c.link.sim.countRefused(request, answer)
	switch m.kind {
	case answerLost:
		return errLinkDown
	case answerSlow:
		time.Sleep(m.delay)
	}
	if !c.link.fate.wait() {
		return errLinkDown
	}
	_, err = c.near.Write(answer)
	return err
}

// readFrame reads a request or an answer: its size, and as many bytes.
func readFrame(from io.Reader) ([]byte, error) {
	frame := make([]byte, 4, 256)
	if _, err := io.ReadFull(from, frame); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(frame))
	frame = append(frame, make([]byte, size)...)
	_, err := io.ReadFull(from, frame[4:])
	return frame, err
}

// countRefused counts answers of the end of a transaction that refuse a process since
// there is a newer owner, in runs where the broker refuses nothing by itself.
func (s *simulation) countRefused(request, answer []byte) {
	key, version := kmsg.Key(binary.BigEndian.Uint16(request[4:])), int16(binary.BigEndian.Uint16(request[6:]))
	if key != kmsg.EndTxn && key != kmsg.TxnOffsetCommit || s.plan.refuses {
		return
	}
	var codes []int16
	switch key {
	case kmsg.EndTxn:
		r := kmsg.NewPtrEndTxnResponse()
		r.SetVersion(version)
		if r.ReadFrom(body(r, answer)) == nil {
			codes = append(codes, r.ErrorCode)
		}
	case kmsg.TxnOffsetCommit:
		r := kmsg.NewPtrTxnOffsetCommitResponse()
		r.SetVersion(version)
		if r.ReadFrom(body(r, answer)) == nil {
			for _, t := range r.Topics {
				for _, p := range t.Partitions {
					codes = append(codes, p.ErrorCode)
				}
			}
		}
	}
	if slices.ContainsFunc(codes, func(code int16) bool { return errors.Is(kafka.Code(code), kafka.ErrFenced) }) {
		s.tally.fenced.Add(1)
		s.note("a former owner's %s is refused", key.Name())
	}
}

// body is an answer behind its size and header.
func body(r kmsg.Response, answer []byte) []byte {
	if r.IsFlexible() {
		return answer[9:]
	}
	return answer[8:]
}
