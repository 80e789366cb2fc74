package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

func TestNew_ReportsEveryFaultOfTheConfiguration(t *testing.T) {
	_, err := New(Config{Brokers: []string{"localhost", "h:0", ":9092"}, RequestTimeout: -1, SASL: &SASL{Mechanism: "GSSAPI"}})
	for _, want := range []string{`"localhost"`, `"h:0"`, `":9092"`, "request timeout", `"GSSAPI"`, "sasl user", "sasl password"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in %v", want, err)
		}
	}
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "brokers") {
		t.Errorf("no brokers: %v", err)
	}
}

func TestPing_TellsAnsweringFromAbsentAndFromTooOldBrokers(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
	cluster.Close()
	if err := c.Ping(ctx); err == nil || errors.Is(err, ErrUnsupported) {
		t.Errorf("closed broker: %v", err)
	}
	old := connect(t, startBroker(t, 1, nil, kfake.MaxVersions(kversion.V2_3_0())))
	if err := old.Ping(ctx); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "version") {
		t.Errorf("old broker: %v", err)
	}
}

func TestClientClose_EndsALongPollAndRefusesWhatComesAfter(t *testing.T) {
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	f := c.NewFetcher(allFromStart("consent.events", 1), FetchOptions{MaxWait: time.Minute})
	polled := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Observe: true, Count: -1})
	done := make(chan error, 1)
	go func() { _, err := f.Fetch(testContext(t)); done <- err }()
	if err := polled.Wait(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	c.connsMu.Lock()
	conns := slices.Collect(maps.Keys(c.conns))
	c.connsMu.Unlock()
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Fatal(err)
	}
	for _, conn := range conns {
		if err := conn.SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a connection is still open: %v", err)
		}
	}
	if err := receive(t, "the end of the fetch", done); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := c.PartitionCount(testContext(t), "consent.events"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := c.Ping(testContext(t)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	_ = f.Close()
}

func TestPartitionCount_TellsAMissingTopicAndOneThatComesLater(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 12, []string{"consent.events"})
	c := connect(t, cluster)
	if n, err := c.PartitionCount(ctx, "consent.events"); err != nil || n != 12 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := c.PartitionCount(ctx, "no.such.topic"); !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
	asked := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		topics := r.(*kmsg.MetadataRequest).Topics
		return len(topics) == 1 && *topics[0].Topic == "late"
	}})
	found := make(chan error, 1)
	go func() { _, err := c.PartitionCount(ctx, "late"); found <- err }()
	if err := asked.Wait(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := cluster.CreateTopic("late", 3, nil); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "the late topic", found); err != nil {
		t.Error(err)
	}
}

func TestOffsets_AsksEachLeader(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 6, []string{"consent.events"}, kfake.NumBrokers(3))
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	want := make(map[Partition]NextOffset)
	for i := range int32(6) {
		want[Partition{"consent.events", i}] = 0
	}
	for i := range 50 {
		positions, err := p.Produce(ctx, record("consent.events", fmt.Sprint(i), i))
		if err != nil {
			t.Fatal(err)
		}
		want[positions[0].Partition] = positions[0].Offset.Next()
	}
	var all []Partition
	for q := range want {
		all = append(all, q)
	}
	for i := range int32(6) { // what the client knows about leaders is wrong now
		if err := cluster.MoveTopicPartition("consent.events", i, (cluster.LeaderFor("consent.events", i)+1)%3); err != nil {
			t.Fatal(err)
		}
	}
	for _, when := range []When{Latest, LatestStable} {
		got, err := c.Offsets(ctx, all, when)
		if err != nil {
			t.Fatal(err)
		}
		for q, end := range want {
			if got[q] != end {
				t.Errorf("%s of %s is %d, want %d", when, q, got[q], end)
			}
		}
	}
	if got, err := c.Offsets(ctx, all, Earliest); err != nil || len(got) != 6 || got[all[0]] != 0 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := c.Offsets(ctx, []Partition{{"consent.events", 6}}, Latest); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("partition 6 of 6: %v", err)
	}
}

func TestProvision_MakesWhatIsMissingSetsWhatDiffersAndThenNothing(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 3, []string{"other"})
	c := connect(t, cluster)
	specs := []TopicSpec{
		{Name: "consent.events", Partitions: 12, Replication: 1, Config: map[string]string{"retention.ms": "-1"}},
		{Name: "consent.state", Partitions: 12, Config: map[string]string{"cleanup.policy": "compact", "retention.ms": "-1"}},
	}
	dry, err := c.Provision(ctx, specs, true)
	if err != nil || len(dry) != 2 || !dry[0].Created || dry[0].Partitions != 12 || !slices.Equal(dry[1].Config, []ConfigChange{{"cleanup.policy", "", "compact"}, {"retention.ms", "", "-1"}}) {
		t.Fatalf("dry run: %+v, %v", dry, err)
	}
	if topics, err := c.Topics(ctx); err != nil || !slices.Equal(topics, []TopicInfo{{"other", 3}}) {
		t.Fatalf("the dry run left %v, %v", topics, err)
	}
	if done, err := c.Provision(ctx, specs, false); err != nil || len(done) != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	if topics, err := c.Topics(ctx); err != nil || !slices.Equal(topics, []TopicInfo{{"consent.events", 12}, {"consent.state", 12}, {"other", 3}}) {
		t.Fatalf("%v, %v", topics, err)
	}
	if again, err := c.Provision(ctx, specs, false); err != nil || len(again) != 0 {
		t.Fatalf("a second time: %+v, %v", again, err)
	}
	specs[0].Config["retention.ms"] = "1000"
	specs[0].Config["max.message.bytes"] = "2000000"
	changed, err := c.Provision(ctx, specs, false)
	if err != nil || len(changed) != 1 || changed[0].Created || len(changed[0].Config) != 2 || changed[0].Config[1] != (ConfigChange{"retention.ms", "-1", "1000"}) {
		t.Fatalf("%+v, %v", changed, err)
	}
	if again, err := c.Provision(ctx, specs, true); err != nil || len(again) != 0 {
		t.Fatalf("after the change: %+v, %v", again, err)
	}
	specs[1].Partitions = 6
	specs = append(specs, TopicSpec{Name: "new", Partitions: 1})
	_, err = c.Provision(ctx, specs, false)
	if err == nil || !strings.Contains(err.Error(), "consent.state has 12 partitions, want 6") {
		t.Fatalf("another partition count: %v", err)
	}
	if topics, err := c.Topics(ctx); err != nil || len(topics) != 3 {
		t.Fatalf("something was made all the same: %v, %v", topics, err)
	}
}

// restartable is a broker that keeps its port and its data over restarts.
type restartable struct {
	t       *testing.T
	dir     string
	port    int
	cluster *kfake.Cluster
}

func (r *restartable) start() {
	r.t.Helper()
	opts := []kfake.Opt{kfake.NumBrokers(1), kfake.DataDir(r.dir), kfake.GroupMinSessionTimeout(100 * time.Millisecond)}
	if r.port != 0 {
		opts = append(opts, kfake.Ports(r.port))
	}
	if _, err := os.Stat(filepath.Join(r.dir, "meta")); r.port == 0 && errors.Is(err, os.ErrNotExist) {
		opts = append(opts, kfake.SeedTopics(4, "consent.events"))
	}
	eventually(r.t, "the broker's port is free", func() bool {
		cluster, err := kfake.NewCluster(opts...)
		if errors.Is(err, syscall.EADDRINUSE) {
			return false
		}
		if err != nil {
			r.t.Fatal(err)
		}
		r.cluster = cluster
		return true
	})
	r.port = port(r.t, r.cluster)
}

func TestEverything_SurvivesBrokerRestarts(t *testing.T) {
	ctx := testContext(t)
	broker := &restartable{t: t, dir: t.TempDir()}
	broker.start()
	t.Cleanup(func() { broker.cluster.Close() })
	c := connect(t, broker.cluster)

	p := newProducer(t, c, ProducerOptions{})
	f := newFetcher(t, c, allFromStart("consent.events", 4), FetchOptions{MaxWait: 100 * time.Millisecond})
	member := startMember(t, c, quickGroup("consent.events"), func(ctx context.Context, claim *Claim) error {
		<-ctx.Done()
		return nil
	})
	member.awaitStripes(4)

	stop := make(chan struct{})
	var writers sync.WaitGroup
	written := make([]int, 4)
	for g := range written {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := p.Produce(ctx, record("consent.events", fmt.Sprintf("writer-%d", g), written[g])); err != nil {
					t.Errorf("writer %d record %d: %v", g, written[g], err)
					return
				}
				written[g]++
			}
		})
	}
	next := make(map[string]int)
	read := func(until int) {
		deadline := time.Now().Add(patience)
		for total := 0; total < until; {
			batches, err := f.Fetch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range batches {
				for _, m := range b.Messages {
					if want := fmt.Sprintf("%s #%d", m.Key, next[string(m.Key)]); string(m.Value) != want {
						t.Fatalf("at %s: %q, want %q", m.Position, m.Value, want)
					}
					next[string(m.Key)]++
					total++
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d records", total, until)
			}
		}
	}
	for range 3 {
		read(200)
		broker.cluster.Close()
		if batches, err := f.Fetch(ctx); err != nil {
			t.Fatalf("without a broker: %v, %v", batches, err)
		} else {
			for _, b := range batches { // what was on its way
				for _, m := range b.Messages {
					next[string(m.Key)]++
				}
			}
		}
		broker.start()
		if _, err := c.Offsets(ctx, []Partition{events0}, Latest); err != nil {
			t.Fatal(err)
		}
	}
	read(200)
	close(stop)
	writers.Wait()
	left := 0
	for g, n := range written {
		left += n - next[fmt.Sprintf("writer-%d", g)]
	}
	read(left)
	// The member is there still, or again: it can commit in the generation that another one makes.
	startMember(t, c, quickGroup("consent.events"), nil)
	eventually(t, "a claim that can commit", func() bool {
		select {
		case claim := <-member.claims:
			return claim.Commit(ctx, map[Partition]Commit{claim.Partitions()[0]: {Next: 1}}) == nil
		default:
			return false
		}
	})
}

func TestClient_LogsInWithEachMechanismAndSaysWhenItMayNot(t *testing.T) {
	ctx := testContext(t)
	for _, mechanism := range []string{SASLPlain, SASLScramSHA256, SASLScramSHA512} {
		cluster := startBroker(t, 1, []string{"consent.events"}, kfake.EnableSASL(), kfake.Superuser(mechanism, "gateway", "secret"))
		login := func(password string) *Client {
			return connect(t, cluster, func(c *Config) {
				c.SASL = &SASL{Mechanism: mechanism, User: "gateway", Password: password}
			})
		}
		if n, err := login("secret").PartitionCount(ctx, "consent.events"); err != nil || n != 1 {
			t.Errorf("%s: %d, %v", mechanism, n, err)
		}
		cluster.ControlKey(kmsg.SASLAuthenticate.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl() // as Apache Kafka says no; this broker just hangs up
			answer := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
			answer.ErrorCode = kerr.SaslAuthenticationFailed.Code
			return answer, nil, true
		})
		if _, err := login("wrong").PartitionCount(ctx, "consent.events"); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("%s with a wrong password: %v", mechanism, err)
		}
	}
}

func TestClient_SpeaksTLSAndRefusesACertificateThatItDoesNotTrust(t *testing.T) {
	ctx := testContext(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	cluster := startBroker(t, 1, []string{"consent.events"}, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))
	pool := x509.NewCertPool()
	pool.AddCert(certificate)
	if err := connect(t, cluster, func(c *Config) { c.TLS = &tls.Config{RootCAs: pool} }).Ping(ctx); err != nil {
		t.Error(err)
	}
	began := time.Now()
	_, err = connect(t, cluster, func(c *Config) { c.TLS = &tls.Config{RootCAs: x509.NewCertPool()} }).PartitionCount(ctx, "consent.events")
	unknown := new(tls.CertificateVerificationError)
	if !errors.As(err, &unknown) || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

func TestClassify_JudgesCodesByWhatTheyMeanForAWriter(t *testing.T) {
	for _, c := range []struct {
		err  error
		want verdict
	}{
		{Code(kafkago.NotLeaderForPartition), verdictReroute},
		{Code(kafkago.GroupLoadInProgress), verdictRetry},
		{Code(kafkago.RequestTimedOut), verdictIndefinite},
		{Code(kafkago.GroupCoordinatorNotAvailable), verdictIndefinite},
		{Code(kafkago.NotEnoughReplicasAfterAppend), verdictIndefinite},
		{Code(kafkago.NotEnoughReplicas), verdictRetry},
		{Code(kafkago.IllegalGeneration), verdictFenced},
		{Code(kafkago.UnknownMemberId), verdictFenced},
		{Code(kafkago.ProducerFenced), verdictFenced},
		{Code(kafkago.InvalidProducerEpoch), verdictFenced},
		{ErrFenced, verdictFenced},
		{Code(kafkago.ConcurrentTransactions), verdictRetry},
		{Code(operationNotAttempted), verdictRetry},
		{Code(kafkago.InvalidTransactionState), verdictFatal},
		{Code(kafkago.InvalidProducerIDMapping), verdictFatal},
		{Code(kafkago.InvalidTransactionTimeout), verdictFatal},
		{Code(kafkago.TransactionCoordinatorFenced), verdictFatal},
		{Code(kafkago.TransactionalIDAuthorizationFailed), verdictFatal},
		{Code(kafkago.TransactionalIDNotFound), verdictFatal},
		{Code(kafkago.TopicAuthorizationFailed), verdictFatal},
		{Code(kafkago.UnsupportedVersion), verdictFatal},
		{fmt.Errorf("wrapped: %w", Code(kafkago.IllegalGeneration)), verdictFenced},
		{context.DeadlineExceeded, verdictIndefinite},
		{syscall.ECONNRESET, verdictIndefinite},
		{&unsentError{context.DeadlineExceeded}, verdictRetry},
		{&unsentError{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}, verdictRetry},
		{&unsentError{&tls.CertificateVerificationError{}}, verdictFatal},
		{&unsentError{Code(kafkago.SASLAuthenticationFailed)}, verdictFatal},
		{&unsentError{errNoSuchBroker}, verdictReroute},
		{ErrClosed, verdictFatal},
		{&unsentError{ErrClosed}, verdictFatal},
		{fmt.Errorf("%w: %w", ErrIndefinite, ErrClosed), verdictIndefinite},
		{fmt.Errorf("%w: %w", ErrIndefinite, Code(kafkago.NotLeaderForPartition)), verdictIndefinite},
		{&unsentError{Code(kafkago.GroupCoordinatorNotAvailable)}, verdictRetry},
	} {
		if got := classify(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
	for code, want := range map[kafkago.Error]error{
		kafkago.UnknownTopicOrPartition: ErrUnknownTopic, kafkago.GroupAuthorizationFailed: ErrUnauthorized,
		kafkago.UnsupportedVersion: ErrUnsupported, kafkago.UnknownMemberId: ErrFenced, kafkago.RequestTimedOut: ErrIndefinite,
	} {
		if !errors.Is(Code(code), want) {
			t.Errorf("%v is not %v", Code(code), want)
		}
	}
	if text := Code(operationNotAttempted).Error(); text != "broker answers 55 (operation not attempted)" {
		t.Error(text)
	}
}

// An open outcome must reach who asks; a code that only points at others must not hide them.
func TestGraver_PicksTheErrorThatDecides(t *testing.T) {
	order := []error{
		nil, Code(operationNotAttempted), Code(kafkago.ConcurrentTransactions), Code(kafkago.UnknownTopicOrPartition),
		Code(kafkago.TopicAuthorizationFailed), Code(kafkago.ProducerFenced), Code(kafkago.RequestTimedOut),
	}
	for i, a := range order {
		for j, b := range order {
			if got := graver(a, b); got != order[max(i, j)] { //nolint:errorlint // the same one
				t.Errorf("of %v and %v: %v", a, b, got)
			}
		}
	}
}
