package brokertest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/brokertest"
	"github.com/assent-dev/assent/internal/kafka"
)

// load produces one record after the other, and notes those that were acknowledged.
type load struct {
	testing.TB
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu    sync.Mutex
	acked []string
}

func startLoad(t testing.TB, client *kafka.Client, topic string) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{TB: t, cancel: cancel}
	l.done.Go(func() {
		p := client.NewProducer(kafka.ProducerOptions{})
		defer p.Close() //nolint:errcheck // ends with the test
		for i := 0; ctx.Err() == nil; i++ {
			v := fmt.Sprint("v", i)
			if _, err := p.Produce(ctx, kafka.Record{Topic: topic, Key: []byte(v), Value: []byte(v)}); err == nil {
				l.mu.Lock()
				l.acked = append(l.acked, v)
				l.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) stop() []string {
	l.cancel()
	l.done.Wait()
	return l.acked
}

// goesOn waits until more records are acknowledged than now.
func (l *load) goesOn() {
	l.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.acked)
	}
	before, deadline := count(), time.Now().Add(2*patience)
	for count() < before+20 {
		if time.Now().After(deadline) {
			l.Fatalf("%d records were acknowledged, and within %s no 20 more", before, 2*patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func requireAll(t *testing.T, client *kafka.Client, topic string, partitions int, want []string) {
	t.Helper()
	got, lost := values(t, client, topic, partitions, len(want)), 0
	for _, v := range want {
		if got[v] == 0 {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged records are gone", lost, len(want))
	}
}

func TestThreeBrokers_GoOnWithoutOneAndLoseNothingAcknowledged(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{Brokers: 3, OwnCluster: true})
	client := connect(t, c)
	topic := makeTopic(t, c, client, 6, map[string]string{"min.insync.replicas": "2"})
	l := startLoad(t, client, topic)
	for n := range c.Addrs() {
		l.goesOn()
		from := time.Now()
		c.Kill(n + 1)
		l.goesOn()
		stalled := time.Since(from)
		c.Restart(n + 1)
		t.Logf("broker %d: 20 more acknowledged %.1f s after its kill", n+1, stalled.Seconds())
		c.AwaitInSync() // or the next kill takes the second copy of three
	}
	requireAll(t, client, topic, 6, l.stop())
}

func TestOneBroker_KilledComesBackWithWhatItHad(t *testing.T) {
	c := brokertest.Start(t, brokertest.Options{OwnCluster: true})
	c.ApacheOnly("kills a broker")
	client := connect(t, c)
	topic := makeTopic(t, c, client, 2, nil)
	l := startLoad(t, client, topic)
	l.goesOn()
	c.Kill(1)
	c.Restart(1)
	l.goesOn()
	requireAll(t, client, topic, 2, l.stop())
}
