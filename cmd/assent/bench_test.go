package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// BenchmarkUp_Ready is the time from the start of the process to "ready", on an
// empty data directory.
func BenchmarkUp_Ready(b *testing.B) {
	var total float64
	for b.Loop() {
		u := startUp(b, b.TempDir(), nil)
		total += u.ReadyIn
		b.StopTimer()
		u.kill()
		b.StartTimer()
	}
	b.ReportMetric(total/float64(b.N), "s/ready")
}

// arrivals notes when each subject's webhook came.
type arrivals struct {
	mu sync.Mutex
	at map[string]chan time.Time
}

func (a *arrivals) expect(subject string) <-chan time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := make(chan time.Time, 4)
	a.at[subject] = c
	return c
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	came := time.Now()
	var change struct {
		Subject string `json:"subject"`
	}
	_ = json.NewDecoder(r.Body).Decode(&change)
	a.mu.Lock()
	if c := a.at[change.Subject]; c != nil {
		select {
		case c <- came:
		default:
		}
	}
	a.mu.Unlock()
}

// BenchmarkUp_WithdrawalToWebhook is the time from sending a withdrawal to its
// webhook's arrival, one at a time.
func BenchmarkUp_WithdrawalToWebhook(b *testing.B) {
	hook := &arrivals{at: map[string]chan time.Time{}}
	u := startUp(b, b.TempDir(), []string{"RECORDER_SECRET=0123456789abcdef0123456789abcdef"}, "--downstreams="+downstreamsFile(b, newServer(b, hook)))
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		subject := "user:" + strconv.Itoa(i)
		came := hook.expect(subject)
		sent := time.Now()
		u.mustPost("/v1/events", map[string]any{"subject": subject, "purpose": "analytics", "action": "withdraw"}, nil, http.StatusAccepted)
		select {
		case at := <-came:
			took = append(took, at.Sub(sent))
		case <-time.After(30 * time.Second):
			b.Fatalf("no webhook came for %s\n%s", subject, u.log)
		}
	}
	slices.Sort(took)
	millis := func(part float64) float64 {
		return float64(took[int(part*float64(len(took)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(millis(.5), "p50-ms")
	b.ReportMetric(millis(.99), "p99-ms")
}

const (
	benchEvents = 60_000
	benchBatch  = 500
)

// BenchmarkUp_Throughput sends many events through the gateway over HTTP, and
// waits until the fold and the sink have them all. The peer is the same number of
// ready-made records written to the same broker by the same client, and no more.
func BenchmarkUp_Throughput(b *testing.B) {
	for b.Loop() {
		u := startUp(b, b.TempDir(), nil, "--downstreams="+downstreamsFile(b, newServer(b, &arrivals{})))
		peer := producePeer(b, u)
		began := time.Now()
		sendBatches(b, u)
		gateway := time.Since(began)
		awaitMetric(b, u, "assent_processor_events_folded_total", benchEvents)
		folded := time.Since(began)
		awaitMetric(b, u, `assent_sink_rows_total{table="events"}`, benchEvents)
		written := time.Since(began)
		rate := func(d time.Duration) float64 { return benchEvents / d.Seconds() }
		b.ReportMetric(rate(gateway), "gateway-events/s")
		b.ReportMetric(rate(folded), "folded-events/s")
		b.ReportMetric(rate(written), "history-events/s")
		b.ReportMetric(rate(gateway)/peer, "gateway/bare-produce")
		u.kill()
	}
}

func benchEvent(i int) string {
	return fmt.Sprintf(`{"subject":"user:%d","purpose":"%s","action":"%s","channel":"web","jurisdiction":"IE"}`+"\n",
		i%20_000, []string{"analytics", "marketing.email", "ads.personalisation"}[i%3], []string{"withdraw", "refuse"}[i/3%2])
}

func sendBatches(b *testing.B, u *up) {
	var senders sync.WaitGroup
	next := make(chan int)
	for range 8 {
		senders.Go(func() {
			for from := range next {
				var body bytes.Buffer
				for i := range benchBatch {
					body.WriteString(benchEvent(from + i))
				}
				resp, err := client.Post(u.HTTP+"/v1/events", "application/x-ndjson", &body)
				var said struct{ Accepted int }
				if status, err := answer(resp, err)(&said); err != nil || status != http.StatusOK || said.Accepted != benchBatch {
					b.Errorf("batch: %d %v, %d accepted", status, err, said.Accepted)
				}
			}
		})
	}
	for from := 0; from < benchEvents; from += benchBatch {
		next <- from
	}
	close(next)
	senders.Wait()
}

// producePeer gives the records a second that the broker takes from the bare client.
func producePeer(b *testing.B, u *up) float64 {
	c, err := kafka.New(kafka.Config{Brokers: []string{u.Kafka}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	const name = "bench.peer"
	if _, err := c.Provision(b.Context(), []kafka.TopicSpec{{Name: name, Partitions: 6, Replication: 1}}, false); err != nil {
		b.Fatal(err)
	}
	records := make([]kafka.Record, benchEvents)
	for i := range records {
		e := consent.Event{Tenant: consent.DefaultTenant, Subject: consent.Subject("user:" + strconv.Itoa(i%20_000)), Purpose: "analytics", Action: consent.Withdraw, Channel: consent.Web}
		value, err := schemas.EncodeEvent(nil, &e)
		if err != nil {
			b.Fatal(err)
		}
		records[i] = kafka.Record{Topic: name, Key: e.Key(), Value: value}
	}
	p := c.NewProducer(kafka.ProducerOptions{})
	defer p.Close()
	began := time.Now()
	var senders sync.WaitGroup
	for part := range slices.Chunk(records, benchEvents/8) {
		senders.Go(func() {
			for batch := range slices.Chunk(part, benchBatch) {
				if _, err := p.Produce(b.Context(), batch...); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
	return benchEvents / time.Since(began).Seconds()
}

// awaitMetric waits until the sum of a counter's series has reached a value.
func awaitMetric(b *testing.B, u *up, name string, want float64) {
	eventually(b, 2*time.Minute, name+" reaches "+fmt.Sprint(want), func() bool {
		resp, err := client.Get(u.HTTP + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		var sum float64
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			if line := s.Text(); strings.HasPrefix(line, name) {
				if v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64); err == nil {
					sum += v
				}
			}
		}
		return sum >= want
	})
}
