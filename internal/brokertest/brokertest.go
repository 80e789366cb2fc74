package brokertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/assent-dev/assent/internal/embedded/broker"
)

// Variable is the environment variable that chooses the broker; [ParseKind] reads
// its value.
const Variable = "ASSENT_TEST_KAFKA"

// Kind is which broker tests run against.
type Kind int

// Kinds of brokers.
const (
	InProcess Kind = iota
	Apache         // one broker
	Apache3        // three brokers
)

// ParseKind reads a value of [Variable]: "", "apache" or "apache3".
func ParseKind(text string) (Kind, error) {
	switch text {
	case "":
		return InProcess, nil
	case "apache":
		return Apache, nil
	case "apache3":
		return Apache3, nil
	}
	return InProcess, fmt.Errorf("%s is %q: set it to apache (one broker) or apache3, or leave it out for the broker in the test's process", Variable, text)
}

// brokers is how many a cluster of this kind has.
func (k Kind) brokers() int {
	if k == Apache3 {
		return 3
	}
	return 1
}

// given is what Main was told, and what the package's tests share.
var given struct {
	getenv func(string) string // nil: no Main
	shared sharedCluster
}

// chosen reads the variable anew for each test: go test notes for its cache what a
// test reads, but not what TestMain read before.
func chosen() (Kind, error) {
	if given.getenv == nil {
		return InProcess, nil
	}
	return ParseKind(given.getenv(Variable))
}

// Runner is what a TestMain runs: a *testing.M, or one with something around it.
type Runner interface{ Run() int }

type aroundTests struct {
	run    func() int
	getenv func(string) string
}

// Main is for TestMain. Its Run chooses the broker by [Variable], calls run, ends
// what the tests shared, and gives the exit code:
//
//	os.Exit(brokertest.Main(m.Run, os.Getenv).Run())
func Main(run func() int, getenv func(string) string) Runner { return aroundTests{run, getenv} }

func (a aroundTests) Run() int {
	if _, err := ParseKind(a.getenv(Variable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	given.getenv = a.getenv
	code := a.run()
	if err := given.shared.end(); err != nil {
		fmt.Fprintln(os.Stderr, "the shared cluster did not end:", err)
		return max(code, 1)
	}
	return code
}

// Options say what a test needs of its brokers.
type Options struct {
	// Kind is for a test that chooses for itself. Default: what [Main] chose.
	Kind Kind
	// Brokers is how many the test needs at least; where there are fewer, it is
	// skipped. Default: 1.
	Brokers int
	// OwnCluster asks for a cluster that no other test uses, and whose brokers may
	// be killed. A broker in the process is the test's own anyway.
	OwnCluster bool
	// InProcess starts the broker in this process, ends it at the test's cleanup, and
	// gives its addresses. It is not called where the tests run against Apache Kafka.
	// Default: the embedded broker of the product, on a folder of the test's.
	InProcess func() []string
}

// Cluster is what one test sees of its brokers.
type Cluster struct {
	tb     testing.TB
	addrs  []string
	prefix string
	apache *apacheCluster // nil: in the process
	own    bool
}

// Start gives a test its brokers. Names under its Prefix are not used by any other.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	kind, err := chosen()
	if err != nil {
		t.Fatal(err)
	}
	if o.Kind != InProcess {
		kind = o.Kind
	}
	if have := kind.brokers(); have < o.Brokers {
		t.Skipf("needs %d brokers: run it with %s=apache3", o.Brokers, Variable)
	}
	c := &Cluster{tb: t, prefix: prefix(t.Name())}
	switch {
	case kind == InProcess && o.InProcess != nil:
		c.addrs = o.InProcess()
	case kind == InProcess:
		c.addrs = startEmbedded(t)
	case o.OwnCluster || o.Kind != InProcess:
		c.own = true
		c.apache = startOwn(t, kind)
	default:
		if c.apache, err = given.shared.start(kind); err != nil {
			t.Fatal(err)
		}
	}
	if c.apache != nil {
		c.addrs = c.apache.addrs
	}
	return c
}

func startEmbedded(t testing.TB) []string {
	t.Helper()
	b, err := broker.Open(context.Background(), broker.Options{Dir: filepath.Join(t.TempDir(), "broker"), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("the broker did not close: %v", err)
		}
	})
	return []string{b.Addr()}
}

func startOwn(t testing.TB, kind Kind) *apacheCluster {
	t.Helper()
	a, err := startApache(filepath.Join(t.TempDir(), "kafka"), kind.brokers())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the brokers said:\n%s", a.said())
		}
		if err := a.destroy(); err != nil {
			t.Errorf("the cluster did not end: %v", err)
		}
	})
	return a
}

// sharedCluster starts with the first test that needs it.
type sharedCluster struct {
	mu      sync.Mutex
	cluster *apacheCluster
	err     error
}

func (s *sharedCluster) start(kind Kind) (*apacheCluster, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil { // a cluster that could not start is not tried again
		var dir string
		if dir, s.err = os.MkdirTemp("", "brokertest"); s.err == nil {
			s.cluster, s.err = startApache(dir, kind.brokers())
		}
	}
	return s.cluster, s.err
}

func (s *sharedCluster) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil {
		return nil
	}
	return s.cluster.destroy()
}

var notForTopics = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// prefix makes names of topics and groups unique, in a form that both allow. It has
// no underscore: Kafka refuses a topic that differs from another only by . and _.
func prefix(test string) string {
	const most = 80 // of a topic's 249
	name := notForTopics.ReplaceAllString(test, "-")
	return name[:min(len(name), most)] + "-" + strings.ToLower(rand.Text()[:8]) + "."
}

// Addrs gives the brokers' host:port; that of broker n is the one at n-1.
func (c *Cluster) Addrs() []string { return c.addrs }

// Prefix begins the names of this test's topics, groups and transactional ids; it
// ends in a dot.
func (c *Cluster) Prefix() string { return c.prefix }

// Apache tells whether this is Apache Kafka. A nil Cluster is not.
func (c *Cluster) Apache() bool { return c != nil && c.apache != nil }

// Replication is how many copies a topic of this cluster should have.
func (c *Cluster) Replication() int { return len(c.addrs) }

// InProcessOnly skips the test on Apache Kafka. The reason goes on from "in the
// process only: ".
func (c *Cluster) InProcessOnly(reason string) {
	c.tb.Helper()
	if c.Apache() {
		c.tb.Skip("in the process only: " + reason)
	}
}

// ApacheOnly skips the test where the broker is in the process. The reason goes on
// from "on Apache Kafka only: ".
func (c *Cluster) ApacheOnly(reason string) {
	c.tb.Helper()
	if !c.Apache() {
		c.tb.Skipf("on Apache Kafka only: %s; run it with %s=apache or apache3", reason, Variable)
	}
}

// Kill ends broker n, counted from 1, by kill -9. It needs a cluster of the test's
// own, and skips the test where the broker is in the process.
func (c *Cluster) Kill(n int) { c.tb.Helper(); c.command(n, "kill") }

// Restart starts broker n again and waits until it is ready: let in by the
// controller, but not in sync with the others ([Cluster.AwaitInSync]).
func (c *Cluster) Restart(n int) { c.tb.Helper(); c.command(n, "start") }

func (c *Cluster) command(n int, command string) {
	c.tb.Helper()
	c.ApacheOnly("kills a broker")
	switch {
	case !c.own:
		c.tb.Fatal("other tests use this cluster: ask for OwnCluster")
	case n < 1 || n > len(c.addrs):
		c.tb.Fatalf("there is no broker %d of %d", n, len(c.addrs))
	}
	if err := c.apache.command(command, n); err != nil {
		c.tb.Fatal(err)
	}
}
