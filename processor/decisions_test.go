package processor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/token"
	"github.com/assent-dev/assent/processor/decision"
	"github.com/assent-dev/assent/processor/owner"
)

// serve answers decisions from a processor, over HTTP.
func (r *running) serve() *httptest.Server {
	r.w.Helper()
	purposes := consent.NewCatalogue(consent.DefaultTenant, "v1", []*consent.Declaration{
		{ID: "m.e", LegalBasis: consent.BasisConsent},
		{ID: "m.s", LegalBasis: consent.BasisConsent, Models: consent.ByJurisdiction[consent.Model]{"": consent.OptOut}},
	})
	router, err := owner.NewRouter(owner.Config{
		Local: r.Processor, Directory: owner.NewDirectory(r.w.client, r.w.names, r.config.Stripes, nil), Instance: r.config.Instance,
	})
	if err != nil {
		r.w.Fatal(err)
	}
	r.w.Cleanup(func() { _ = router.Close() })
	h, err := decision.New(decision.Config{
		States:    router,
		Catalogue: func(consent.Tenant) *consent.Catalogue { return purposes },
		Subject:   consent.ParseSubject,
	})
	if err != nil {
		r.w.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Register(mux)
	server := httptest.NewServer(mux)
	r.w.Cleanup(server.Close)
	return server
}

type answer struct {
	Status, Reason string
	Allowed        bool
}

func ask(t testing.TB, server *httptest.Server, query string) answer {
	t.Helper()
	resp, err := server.Client().Get(server.URL + "/v1/decisions?" + query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d %s %v", resp.StatusCode, body, err)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestDecisions_ReadYourOwnWrite(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 4)
	p := w.start()
	server := p.serve()
	p.awaitReady()
	for i := range 30 {
		action, want := consent.Grant, answer{"granted", "explicit", true}
		if i%2 == 1 {
			action, want = consent.Withdraw, answer{"withdrawn", "explicit", false}
		}
		at := w.publish(event(r, anna, action, "m.e", i+1))[0]
		query := "subject=user:anna&purpose=m.e&wait=20s&at_least=" + token.Encode(at.Index, int64(at.Offset))
		if got := ask(t, server, query); got != want {
			t.Fatalf("after event %d: %+v, want %+v", i, got, want)
		}
	}
}

func TestProcessor_EndsWherePartitionsWereAdded(t *testing.T) {
	w := newWorld(t, 2)
	p := w.start(func(c *Config) { c.recount = 50 * time.Millisecond })
	p.awaitReady()
	add := kmsg.NewPtrCreatePartitionsRequest()
	more := kmsg.NewCreatePartitionsRequestTopic()
	more.Topic, more.Count = w.names.Events(), 4
	add.Topics = append(add.Topics, more)
	if code := w.admin(add).(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode; code != 0 {
		t.Fatal(kerr.ErrorForCode(code))
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	if !errors.Is(p.err, errPartitionCount) {
		t.Errorf("ended with %v, want %v", p.err, errPartitionCount)
	}
}

// More processors than stripes: one that has none knows whom to ask.
func TestProcessor_ASpareOneKnowsThePartitionsOfSubjects(t *testing.T) {
	w := newWorld(t, 6)
	first := w.start(oneStripe)
	first.awaitReady()
	spare := w.start(oneStripe)
	spare.awaitReady()
	w.eventually("the partition of a subject", func() error {
		if got, ok := spare.Partition(consent.DefaultTenant, anna); !ok || got != kafka.PartitionFor(consent.Key(consent.DefaultTenant, anna), 6) {
			return fmt.Errorf("%d, %v", got, ok)
		}
		return nil
	})
	if spare.owned.claimed != 0 {
		t.Error("the spare one has a stripe: nothing is shown")
	}
}

func TestDecisions_AProcessorThatLostItsHeartbeatDoesNotAnswer(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 2)
	w.publish(event(r, anna, consent.Grant, "m.e", 1))
	p := w.start(func(c *Config) { c.SessionTimeout = 1200 * time.Millisecond })
	server := p.serve()
	p.awaitReady()
	const query = "subject=user:anna&purpose=m.e"
	if got := ask(t, server, query); !got.Allowed {
		t.Fatalf("before: %+v", got)
	}
	_ = p.client.Close() // the group does not hear of it any more
	w.eventually("unavailable", func() error {
		if got := ask(t, server, query); got != (answer{Reason: "unavailable"}) {
			return errNot(got)
		}
		return nil
	})
	if p.Ready() == nil {
		t.Error("ready without a heartbeat")
	}
}

type notYet answer

func (a notYet) Error() string {
	return "answered " + a.Status + " " + a.Reason + " " + strconv.FormatBool(a.Allowed)
}

func errNot(a answer) error { return notYet(a) }

func TestProcessor_GoesOnAfterTheBrokerWasAway(t *testing.T) {
	r := seed(t)
	dir := t.TempDir()
	w := newWorld(t, 3, kfake.DataDir(dir))
	w.cluster.InProcessOnly("restarts the broker on its port")
	log := randomLog(r, 900)
	w.publish(log[:300]...)
	p := w.start(func(c *Config) { c.BatchRecords = 20 })
	p.awaitFolded()
	for i := 300; i < len(log); i += 300 {
		w.publish(log[i : i+300]...)
		p.awaitAnyFold()
		w.restartBroker(dir)
		p.awaitFolded()
	}
	p.awaitReady()
	p.stop()
	w.requireReference()
}

// restartBroker closes the broker and opens it again on its port.
func (w *world) restartBroker(dir string) {
	w.Helper()
	addr := w.brokers()[0]
	port, err := strconv.Atoi(addr[len("127.0.0.1:"):])
	if err != nil {
		w.Fatal(err)
	}
	w.fake.Close()
	w.eventually("the broker opens again", func() error {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond), kfake.Ports(port), kfake.DataDir(dir))
		if err != nil {
			return err
		}
		w.fake = c
		return nil
	})
}

func TestProcessor_RefusesTopicsOfDifferentPartitionCounts(t *testing.T) {
	w := newWorld(t, 2)
	w.partitions = 3
	w.recreate(w.names.State())
	w.partitions = 2
	p, err := New(w.config(), w.newClient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.countPartitions(w.ctx); err == nil {
		t.Error("3 partitions of states beside 2 of events were accepted")
	}
}

func TestConfig_EveryFaultIsTold(t *testing.T) {
	_, err := New(Config{Stripes: -1, BatchRecords: -1, BatchBytes: 1, SessionTimeout: 1, FinishTimeout: -1, Pace: time.Minute, TransactionTimeout: 1, CacheBytes: 1}, nil)
	if faults, ok := err.(interface{ Unwrap() []error }); !ok || len(faults.Unwrap()) != 8 {
		t.Errorf("faults: %v; want 8", err)
	}
}
