package kafka

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/logtest"
)

// keepLog makes a client keep its log from warnings on.
func keepLog(log *logtest.Buffer) func(*Config) {
	return func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
}

func TestBackoff_IsWorthAWarningOnceWhenItHasBecomeLong(t *testing.T) {
	for _, first := range []time.Duration{0, time.Millisecond} {
		pause := backoff{first: first}
		for range 2 { // the second time after a reset
			var waited, warned time.Duration
			warnings := 0
			for range 30 {
				waited += pause.step()
				if pause.level() == slog.LevelWarn {
					warned = waited
					warnings++
				}
			}
			if warnings != 1 || warned < time.Second || warned > 3*time.Second {
				t.Errorf("first pause %s: %d warnings, the last after %s", first, warnings, warned)
			}
			pause.reset()
		}
	}
}

// What hangs and succeeds in the end fails nothing: only the log tells.
func TestClient_SaysWhenABrokerDoesNotAnswer(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	var log logtest.Buffer
	c := connect(t, cluster, keepLog(&log), func(c *Config) { c.RequestTimeout = 10 * time.Second })
	p := newProducer(t, c, ProducerOptions{})
	arrived, release := blockProduce(cluster)
	answer := make(chan error, 1)
	go func() { _, err := p.Produce(ctx, record("consent.events", "a", 0)); answer <- err }()
	receive(t, "a batch at the broker", arrived)
	eventually(t, "a line about it", func() bool { return strings.Contains(log.String(), "kafka does not answer") })
	close(release)
	if err := receive(t, "the answer", answer); err != nil {
		t.Error(err)
	}
}

// Of a transaction that nobody ends a reader sees nothing at all.
func TestFetch_SaysWhenAnOpenTransactionHoldsItUp(t *testing.T) {
	s := openSite(t)
	tx := s.transactor(s.client, "a")
	s.must(tx.Begin(s.ctx, nil, s.all(s.states)))
	if _, err := tx.Write(s.ctx, records(s.states, "open", 9)); err != nil {
		t.Fatal(err)
	}
	var log logtest.Buffer
	config := Config{Brokers: s.brokers}
	keepLog(&log)(&config)
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f := newFetcher(t, c, allFromStart(s.states, 3), FetchOptions{MaxWait: 50 * time.Millisecond})
	eventually(t, "a line about it", func() bool {
		if batches, err := f.Fetch(s.ctx); err != nil || len(batches) > 0 {
			t.Fatal(batches, err)
		}
		return strings.Contains(log.String(), "held up by a transaction")
	})
	s.must(tx.End(s.ctx))
	if got := drain(t, s.ctx, f, 9); len(got) != 9 {
		t.Error(got)
	}
}

// bootstrapTwice gives clients a second address to begin with. They draw one of them.
func bootstrapTwice(address string, requestTimeout time.Duration) func(*Config) {
	return func(c *Config) {
		c.Brokers = append(slices.Clone(c.Brokers), address)
		c.RequestTimeout = requestTimeout
	}
}

// The transport has one deadline for all addresses, and tries them one after the other.
func TestClient_AnAddressThatSwallowsEverythingLeavesTheOthersTheirTime(t *testing.T) {
	const requestTimeout = time.Minute
	var left time.Duration
	c := connect(t, startBroker(t, 1, nil), bootstrapTwice("hole.invalid:9092", requestTimeout), func(c *Config) {
		c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			deadline, _ := ctx.Deadline()
			left = time.Until(deadline)
			return nil, context.DeadlineExceeded
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), requestTimeout)
	defer cancel()
	if _, err := c.dial(ctx, "tcp", "hole.invalid:9092"); err == nil || left <= 0 || left > requestTimeout/2 {
		t.Errorf("one of two addresses may take %s of %s (%v)", left, requestTimeout, err)
	}
}

// stuckLogin listens, says which requests it knows, and falls silent in the login.
func stuckLogin(t *testing.T, stuck *atomic.Int32) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	t.Cleanup(open.Wait)
	t.Cleanup(func() { _ = l.Close() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		for {
			var head [12]byte // size, key, version, correlation id
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:]))-8); err != nil {
				return
			}
			if kmsg.Key(binary.BigEndian.Uint16(head[4:])) != kmsg.ApiVersions {
				stuck.Add(1)
				_, _ = conn.Read(head[:]) // until the client hangs up
				return
			}
			answer := binary.BigEndian.AppendUint32(nil, 10)
			answer = append(answer, head[8:]...)
			_, _ = conn.Write(append(answer, 0, 0, 0, 0, 0, 0)) // no error, no keys
		}
	}
	open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { serve(conn) })
		}
	})
	return l.Addr().String()
}

func TestClient_ABrokerThatIsStuckInALoginKeepsNobodyFromTheOthers(t *testing.T) {
	cluster := startBroker(t, 1, []string{"consent.events"}, kfake.EnableSASL(), kfake.Superuser(SASLPlain, "gateway", "secret"))
	var stuck atomic.Int32
	address := stuckLogin(t, &stuck)
	for i := 0; stuck.Load() == 0 && i < 50; i++ {
		c := connect(t, cluster, bootstrapTwice(address, time.Second), func(c *Config) {
			c.SASL = &SASL{Mechanism: SASLPlain, User: "gateway", Password: "secret"}
		})
		if _, err := c.PartitionCount(testContext(t), "consent.events"); err != nil {
			t.Fatalf("with %d logins that are stuck: %v", stuck.Load(), err)
		}
		_ = c.Close()
	}
	if stuck.Load() == 0 {
		t.Fatal("none of 50 clients drew the stuck address")
	}
}
