package processor

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/embedded/broker"
	"github.com/assent-dev/assent/internal/kafka"
)

// soakRounds is how often the soak tests kill. `make soak` says 200.
var soakRounds = flag.Int("soak", 20, "kills of a soak test")

// runAsProcessor turns the test binary into a processor: the tests start it as a
// process of its own, so that it can be killed and stopped. Its value is the child's
// configuration.
const runAsProcessor = "TEST_RUNS_PROCESSOR"

// childConfig is what a child process is told.
type childConfig struct {
	Brokers  []string
	Prefix   string
	StateDir string
	Session  time.Duration
	Stripes  int
}

// runChild is a processor until SIGTERM. After SIGUSR1 it suspends itself in the middle of
// the next transaction.
func runChild(text string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	client, err := kafka.New(kafka.Config{Brokers: c.Brokers, Logger: log})
	if err != nil {
		return err
	}
	config := Config{StateDir: c.StateDir, SessionTimeout: c.Session, Stripes: c.Stripes, BatchRecords: 200, Logger: log}
	config.Names.Prefix = c.Prefix
	suspend := make(chan os.Signal, 1)
	signal.Notify(suspend, syscall.SIGUSR1)
	config.after = func(at step) error {
		if at == stepWrite {
			select {
			case <-suspend:
				return syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			default:
			}
		}
		return nil
	}
	p, err := New(config, client)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return p.Run(ctx)
}

// child is a processor in a process of its own.
type child struct {
	w      *world
	config childConfig
	cmd    *exec.Cmd
	log    *tail10
	exited chan struct{}
}

// tail10 keeps the end of a log, for the report of a failure.
type tail10 struct {
	mu   sync.Mutex
	text []byte
	seen map[string]int // how often the log said something that tests wait for
}

// What tests wait for in the logs of children.
const (
	refusedWords  = "refused: the stripe has another owner"
	joinedWords   = "kafka group joined"
	takeoverWords = "states restored"
)

func (t *tail10) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = make(map[string]int)
	}
	for _, words := range []string{refusedWords, joinedWords, takeoverWords} {
		t.seen[words] += strings.Count(string(p), words)
	}
	if t.text = append(t.text, p...); len(t.text) > 10<<10 {
		t.text = append(t.text[:0], t.text[len(t.text)-8<<10:]...)
	}
	return len(p), nil
}

func (t *tail10) count(words string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen[words]
}

func (w *world) spawn(name string, stripes int) *child {
	w.Helper()
	c := &child{w: w, log: &tail10{}, config: childConfig{
		Brokers: w.brokers(), Prefix: w.names.Prefix, StateDir: filepath.Join(w.TempDir(), name), Session: 2 * time.Second, Stripes: stripes,
	}}
	c.start()
	w.Cleanup(c.kill)
	w.Cleanup(func() {
		if w.Failed() {
			w.Logf("the log of %s ends:\n%s", name, c.log.text)
		}
	})
	return c
}

func (c *child) start() {
	c.w.Helper()
	self, err := os.Executable()
	if err != nil {
		c.w.Fatal(err)
	}
	config, err := json.Marshal(c.config)
	if err != nil {
		c.w.Fatal(err)
	}
	c.cmd = exec.Command(self)
	c.cmd.Env = append(os.Environ(), runAsProcessor+"="+string(config))
	c.cmd.Stdout, c.cmd.Stderr = io.Discard, c.log
	if err := c.cmd.Start(); err != nil {
		c.w.Fatal(err)
	}
	c.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait()
	}(c.cmd, c.exited)
}

// kill ends it as a power cut would. Twice is fine.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
}

func (c *child) signal(s os.Signal) {
	c.w.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.w.Fatal(err)
	}
}

// load publishes a random log until stop is closed, about a thousand events a second, and
// goes on for a moment then.
func (w *world) load(r *rand.Rand, stop <-chan struct{}) (published func() int) {
	total := 0
	done := make(chan struct{})
	log := endlessLog{r: r}
	go func() {
		defer close(done)
		for {
			n := 1 + r.IntN(60)
			w.publish(log.next(n)...)
			total += n
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(r.IntN(60)) * time.Millisecond):
			}
		}
	}()
	return func() int {
		<-done
		return total
	}
}

// awaitReference waits until the topics hold what a straight fold gives.
func (w *world) awaitReference(within time.Duration) {
	w.Helper()
	deadline := time.Now().Add(within)
	for {
		faults := w.differences()
		if len(faults) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d differences from the straight fold, the first:\n%s", len(faults), strings.Join(faults[:min(5, len(faults))], "\n"))
		}
		time.Sleep(100 * time.Millisecond) // asks again; nothing signals across processes
	}
}

// One of three processors is killed, again and again, at random moments under load.
func TestSoak_KillsOfOneOfThreeProcessorsLoseAndDoubleNothing(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 6, broker.Guarded()...) // some are killed while they join
	children := make([]*child, 3)
	for i := range children {
		children[i] = w.spawn("processor-"+strconv.Itoa(i), 3)
	}
	stop := make(chan struct{})
	published := w.load(rand.New(rand.NewPCG(r.Uint64(), 2)), stop)
	for range *soakRounds {
		time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond) // the random moment
		c := children[r.IntN(len(children))]
		c.kill()
		if r.IntN(4) == 0 { // its disk is lost too
			_ = os.RemoveAll(c.config.StateDir)
		}
		if r.IntN(2) == 0 {
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond) // long enough for a takeover, or not
		}
		c.start()
	}
	close(stop)
	n := published()
	w.awaitReference(2 * time.Minute)
	t.Logf("%d kills, %d events, %d changes: as the straight fold, each once", *soakRounds, n, len(w.changes()))
}

// A processor that is suspended past its session in the middle of a transaction, and
// wakes up when another one owns its stripes, is refused. Or it gives up by itself, and
// such a round does not count: its other stripe finds the heartbeat too old first, or it
// was about to hand over, and the time to finish in is up when it wakes.
func TestSoak_AZombieIsRefused(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 4)
	zombie := w.spawn("zombie", 2)
	stop := make(chan struct{})
	published := w.load(rand.New(rand.NewPCG(r.Uint64(), 2)), stop)
	time.Sleep(time.Second)
	other := w.spawn("other", 2)
	rounds, gaveUp := max(2, *soakRounds/10), 0
	for refusals := 0; refusals < rounds; {
		time.Sleep(time.Duration(500+r.IntN(1500)) * time.Millisecond)
		refused := zombie.log.count(refusedWords)
		zombie.signal(syscall.SIGUSR1)
		w.eventually("it is suspended", func() error { return zombie.suspended() })
		takeovers, joined := other.log.count(takeoverWords), zombie.log.count(joinedWords)
		w.eventually("the other one takes both stripes over", func() error {
			if other.log.count(takeoverWords) < takeovers+2 {
				return errors.New("not yet")
			}
			return nil
		})
		zombie.signal(syscall.SIGCONT)
		w.eventually("it has joined anew", func() error {
			if zombie.log.count(joinedWords) == joined {
				return errors.New("not yet")
			}
			return nil
		})
		if zombie.log.count(refusedWords) > refused { // which it says before it joins
			refusals++
		} else if gaveUp++; gaveUp > 10+rounds {
			t.Fatalf("%d of %d zombies gave up by themselves: the broker is hardly asked", gaveUp, gaveUp+refusals)
		}
		zombie, other = other, zombie
	}
	close(stop)
	n := published()
	w.awaitReference(2 * time.Minute)
	t.Logf("%d zombies refused, %d gave up; %d events, %d changes: as the straight fold, each once", rounds, gaveUp, n, len(w.changes()))
}

// suspended reads what the kernel says of the process.
func (c *child) suspended() error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return err
	}
	if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
		return fmt.Errorf("its state is %.1s", state)
	}
	return nil
}

// One of three brokers is killed, again and again, under load.
func TestSoak_KillsOfOneOfThreeBrokersLoseAndDoubleNothing(t *testing.T) {
	r := seed(t)
	w := newWorldOn(t, 6, brokertest.Options{Brokers: 3, OwnCluster: true})
	for i := range 2 {
		w.spawn("processor-"+strconv.Itoa(i), 3)
	}
	stop := make(chan struct{})
	published := w.load(rand.New(rand.NewPCG(r.Uint64(), 2)), stop)
	for range *soakRounds {
		time.Sleep(time.Duration(500+r.IntN(3000)) * time.Millisecond) // the random moment
		n := 1 + r.IntN(3)
		w.cluster.Kill(n)
		time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		w.cluster.Restart(n)
		w.awaitInSync()
	}
	close(stop)
	n := published()
	w.awaitReference(3 * time.Minute)
	t.Logf("%d kills of a broker, %d events, %d changes: as the straight fold, each once", *soakRounds, n, len(w.changes()))
}

// awaitInSync waits until writes reach two brokers again everywhere: the next kill
// would else take the only copy away, and with it the quorum.
func (w *world) awaitInSync() {
	w.Helper()
	w.eventually("every partition is in sync", func() error {
		req := kmsg.NewPtrMetadataRequest()
		for _, p := range w.admin(req).(*kmsg.MetadataResponse).Topics {
			for _, at := range p.Partitions {
				if len(at.ISR) < 3 {
					return fmt.Errorf("partition %d has %d copies in sync", at.Partition, len(at.ISR))
				}
			}
		}
		return nil
	})
}
