package kafka

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/brokertest"
)

// site is topics, a group and transactional ids that a test has for itself.
type site struct {
	t       testing.TB
	ctx     context.Context
	brokers []string
	client  *Client
	prefix  string
	events  string // three partitions each
	states  string
	changes string
}

// openSite is on the brokers that the tests of any broker run on: brokertest says which.
func openSite(t testing.TB) *site {
	t.Helper()
	return siteOn(t, brokertest.Start(t, brokertest.Options{InProcess: func() []string { return startBroker(t, 1, nil).ListenAddrs() }}).Addrs())
}

// fakeSite is on a broker that takes faults.
func fakeSite(t testing.TB, opts ...kfake.Opt) (*site, *kfake.Cluster) {
	t.Helper()
	cluster := startBroker(t, 1, nil, opts...)
	return siteOn(t, cluster.ListenAddrs()), cluster
}

func siteOn(t testing.TB, brokers []string) *site {
	t.Helper()
	s := &site{t: t, ctx: testContext(t), brokers: brokers, prefix: strings.ToLower("t" + rand.Text()[:8] + ".")}
	s.client, _ = s.connect()
	s.events, s.states, s.changes = s.prefix+"events", s.prefix+"states", s.prefix+"changes"
	var specs []TopicSpec
	for _, topic := range []string{s.events, s.states, s.changes} {
		specs = append(specs, TopicSpec{Name: topic, Partitions: 3})
	}
	if _, err := s.client.Provision(s.ctx, specs, false); err != nil {
		t.Fatal(err)
	}
	return s
}

// in is the same site for a subtest.
func (s *site) in(t testing.TB) *site {
	sub := *s
	sub.t = t
	return &sub
}

// connect returns another client, and its line to the brokers, which can be disturbed.
func (s *site) connect() (*Client, *line) {
	s.t.Helper()
	c, err := New(Config{Brokers: s.brokers, Logger: slog.New(slog.NewTextHandler(testLog{s.t}, nil))})
	if err != nil {
		s.t.Fatal(err)
	}
	l := &line{held: make(chan func(), 100)}
	c.transport.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := c.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &lineConn{Conn: conn, line: l}, nil
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c, l
}

func (s *site) transactor(c *Client, id string) *Transactor {
	s.t.Helper()
	t, err := c.OpenTransactor(s.ctx, TransactorOptions{ID: s.prefix + id})
	if err != nil {
		s.t.Fatal(err)
	}
	return t
}

// claim joins the site's group and returns its only stripe, all of events.
func (s *site) claim(t testing.TB) *Claim {
	t.Helper()
	options := quickGroup(s.events)
	options.Group, options.Stripes = s.prefix+"group", 1
	options.SessionTimeout = 10 * time.Second // a busy machine is not what these tests are about
	return startMember(t, s.client, options, nil).awaitStripes(1)[0]
}

// all is every partition of a topic.
func (s *site) all(topics ...string) []Partition {
	var all []Partition
	for _, topic := range topics {
		for i := range int32(3) {
			all = append(all, Partition{topic, i})
		}
	}
	return all
}

// records are n for a topic, dealt over its partitions, with "<tag> #<i>" as values.
func records(topic, tag string, n int) []Record {
	list := make([]Record, n)
	for i := range list {
		list[i] = record(topic, tag, i)
		list[i].PartitionKey = fmt.Append(nil, i)
	}
	return list
}

// keyOf returns a key of a partition.
func keyOf(index int32, partitions int) []byte {
	for i := 0; ; i++ {
		if key := fmt.Append(nil, i); PartitionFor(key, partitions) == index {
			return key
		}
	}
}

// visible returns the values that a read_committed reader finds in a topic, by partition,
// once no transaction is open: brokers write the markers a moment after they answered.
func (s *site) visible(topic string) map[int32][]string {
	s.t.Helper()
	eventually(s.t, "no transaction is open in "+topic, func() bool {
		stable, err := s.client.Offsets(s.ctx, s.all(topic), LatestStable)
		s.must(err)
		ends, err := s.client.Offsets(s.ctx, s.all(topic), Latest)
		s.must(err)
		return maps.Equal(stable, ends)
	})
	return s.visibleNow(topic)
}

// visibleNow is visible up to transactions that are open.
func (s *site) visibleNow(topic string) map[int32][]string {
	s.t.Helper()
	ends, err := s.client.Offsets(s.ctx, s.all(topic), LatestStable)
	s.must(err)
	f := s.client.NewFetcher(allFromStart(topic, 3), FetchOptions{})
	defer f.Close()
	out := make(map[int32][]string)
	for {
		behind := slices.ContainsFunc(s.all(topic), func(p Partition) bool { return f.Position(p) < ends[p] })
		if !behind {
			return out
		}
		batches, err := f.Fetch(s.ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, b := range batches {
			for _, m := range b.Messages {
				out[m.Index] = append(out[m.Index], string(m.Value))
			}
		}
	}
}

// visibleSet is visible without partitions and order.
func (s *site) visibleSet(topic string) []string {
	s.t.Helper()
	return slices.Sorted(func(yield func(string) bool) {
		for vs := range maps.Values(s.visible(topic)) {
			for _, v := range vs {
				if !yield(v) {
					return
				}
			}
		}
	})
}

// fate is what becomes of one request.
type fate int

const (
	delivered  fate = iota
	cut             // the connection breaks before the request is sent
	unanswered      // the broker carries it out, and the answer is lost
	late            // the connection breaks, and the request arrives when the test lets it
	deposed         // a Produce is carried out, by a leader that loses its office before it answers
)

var errLine = errors.New("the line is disturbed")

// line decides the fate of the requests of one client.
type line struct {
	mu     sync.Mutex
	decide func(key int16) fate
	held   chan func() // each delivers one late request, and waits for its answer
}

// disturb sets who decides. nil = all are delivered.
func (l *line) disturb(decide func(key kmsg.Key) fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decide = nil
	if decide != nil {
		l.decide = func(key int16) fate { return decide(kmsg.Key(key)) }
	}
}

// next disturbs the next request of a kind, once.
func (l *line) next(key kmsg.Key, f fate) {
	done := false
	l.disturb(func(k kmsg.Key) fate {
		if k != key || done {
			return delivered
		}
		done = true
		return f
	})
}

func (l *line) fateOf(key int16) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.decide == nil {
		return delivered
	}
	return l.decide(key)
}

// lineConn carries one request at a time, as the transport does it.
type lineConn struct {
	net.Conn
	line     *line
	lose     bool // the next answer
	depose   bool
	rest     []byte // of an answer that was altered
	detached bool   // kept for a late request
}

func (c *lineConn) Write(b []byte) (int, error) {
	if len(b) < 8 {
		return c.Conn.Write(b)
	}
	switch c.line.fateOf(int16(binary.BigEndian.Uint16(b[4:]))) {
	case cut:
		_ = c.Conn.Close()
		return 0, errLine
	case unanswered:
		c.lose = true
	case deposed:
		c.depose = true
	case late:
		c.detached = true
		frame := slices.Clone(b)
		c.line.held <- func() {
			defer c.Conn.Close()
			_ = c.Conn.SetDeadline(time.Now().Add(patience))
			if _, err := c.Conn.Write(frame); err != nil {
				return
			}
			_, _ = c.Conn.Read(make([]byte, 1))
		}
		return 0, errLine
	}
	return c.Conn.Write(b)
}

func (c *lineConn) Read(b []byte) (int, error) {
	if c.depose {
		c.depose = false
		if err := c.alter(); err != nil {
			return 0, err
		}
	}
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	if c.lose && n > 0 { // it is answered: the broker has carried it out
		_ = c.Conn.Close()
		return 0, errLine
	}
	return n, err
}

// alter reads the answer to a Produce, and puts the code of a leader that is none any more
// in place of its first.
func (c *lineConn) alter() error {
	c.rest = make([]byte, 4)
	if _, err := io.ReadFull(c.Conn, c.rest); err != nil {
		return err
	}
	c.rest = append(c.rest, make([]byte, binary.BigEndian.Uint32(c.rest))...)
	if _, err := io.ReadFull(c.Conn, c.rest[4:]); err != nil {
		return err
	}
	const name = 4 + 4 + 4 // behind size, correlation id and number of topics
	code := name + 2 + int(binary.BigEndian.Uint16(c.rest[name:])) + 4 + 4
	binary.BigEndian.PutUint16(c.rest[code:], uint16(kafkago.NotLeaderForPartition))
	return nil
}

// Close leaves the connection of a late request open for it.
func (c *lineConn) Close() error {
	if c.detached {
		return nil
	}
	return c.Conn.Close()
}
