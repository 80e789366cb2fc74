package broker

import (
	"errors"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestOpen_TellsClientsTheAddressThatItListensOn(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "localhost:0", "127.0.0.2:0", "[::1]:0"} {
		b, err := Open(t.Context(), options(t.TempDir(), func(o *Options) { o.Addr = addr }))
		if err != nil && strings.HasPrefix(addr, "[::1]") {
			t.Logf("%s: %v (no IPv6 on this machine)", addr, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		resp, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), client(t, b.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Brokers) != 1 {
			t.Fatalf("%d brokers, want 1", len(resp.Brokers))
		}
		told := (&net.TCPAddr{IP: net.ParseIP(resp.Brokers[0].Host), Port: int(resp.Brokers[0].Port)}).String()
		if told != b.Addr() || strings.HasSuffix(told, ":0") {
			t.Errorf("%s: clients are told %s, the broker is on %s", addr, told, b.Addr())
		}
		mustClose(t, b)
	}
}

func TestOpen_RefusesAnAddressThatOthersReach(t *testing.T) {
	for _, addr := range []string{":9092", "0.0.0.0:9092", "[::]:0", "192.0.2.7:9092", "example.com:9092", "127.0.0.1", "", "127.0.0.1.example.com:1"} {
		_, err := Open(t.Context(), options(t.TempDir(), func(o *Options) { o.Addr = addr }))
		var wrong *AddrError
		if !errors.As(err, &wrong) || wrong.Addr != addr || !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%q: err = %v, want an AddrError that says what to use", addr, err)
		}
	}
}

func TestOpen_SaysWhatToDoWhenThePortIsTaken(t *testing.T) {
	first := openBroker(t, t.TempDir())
	_, err := Open(t.Context(), options(t.TempDir(), func(o *Options) { o.Addr = first.Addr() }))
	var wrong *AddrError
	if !errors.As(err, &wrong) || !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("err = %v, want an AddrError", err)
	}
	for _, part := range []string{first.Addr(), "--kafka-addr", "port 0"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	// The first goes on.
	createTopic(t, first.Addr(), "t", 1)
}

func TestOpen_AnsweredRecordsCommitsConfigsAndTransactionsOutliveARestart(t *testing.T) {
	restarts := map[string]func(t *testing.T, b *Broker) string{
		"clean":  func(t *testing.T, b *Broker) string { mustClose(t, b); return b.layout.dir },
		"killed": func(t *testing.T, b *Broker) string { return crashed(t, b) },
	}
	for name, restart := range restarts {
		t.Run(name, func(t *testing.T) {
			b := openBroker(t, t.TempDir())
			createTopic(t, b.Addr(), "events", 3, "retention.ms=-1")
			createTopic(t, b.Addr(), "state", 1, "cleanup.policy=compact", "retention.ms=-1")
			c := client(t, b.Addr())
			produce(t, c, "events", 0, "k", "a")
			produce(t, c, "events", 2, "k", "b")
			commit(t, b.Addr(), "group", "events", 0, 1)
			transact(t, b.Addr(), "tx", true, "state", "yes")
			transact(t, b.Addr(), "tx", false, "state", "no")
			oldEpoch := producerEpoch(t, b.Addr(), "tx")

			again := openBroker(t, restart(t, b))
			if got := values(readAll(t, again.Addr(), "events", 0)) + values(readAll(t, again.Addr(), "events", 2)); got != "ab" {
				t.Errorf("events = %q", got)
			}
			if got := values(readAll(t, again.Addr(), "state", 0)); got != "yes" {
				t.Errorf("state = %q, want only the committed record", got)
			}
			if offset, metadata := committed(t, again.Addr(), "group", "events", 0); offset != 1 || metadata != "covers" {
				t.Errorf("committed %d %q", offset, metadata)
			}
			if got := topicConfig(t, again.Addr(), "state", "cleanup.policy"); got != "compact" {
				t.Errorf("cleanup.policy = %q", got)
			}
			if epoch := producerEpoch(t, again.Addr(), "tx"); epoch <= oldEpoch {
				t.Errorf("the transactional id is at epoch %d, it was at %d: an old owner is not fenced", epoch, oldEpoch)
			}
			createTopicAgain := createTopicErr(t.Context(), again.Addr(), "events", 3)
			if !errors.Is(createTopicAgain, kerr.TopicAlreadyExists) {
				t.Errorf("create again: %v", createTopicAgain)
			}
		})
	}
}

// An engine that loads after a crash aborts an open transaction in its memory.
// The next transaction of that producer then commits both at the next load.
func TestOpen_ATransactionThatACrashAbortedStaysAborted(t *testing.T) {
	b := openBroker(t, t.TempDir())
	createTopic(t, b.Addr(), "changes", 1)
	begin(t, b.Addr(), "tx", "changes", "lost")
	for round := range 3 {
		b = openBroker(t, crashed(t, b))
		transact(t, b.Addr(), "tx", true, "changes", "kept")
		if got, want := values(readAll(t, b.Addr(), "changes", 0)), strings.Repeat(" kept", round+1)[1:]; got != want {
			t.Fatalf("after crash %d: changes = %q, want %q", round+1, got, want)
		}
	}
}

func TestOpen_AnOpenTransactionOutlivesACleanRestartAndIsAbortedByItsNextOwner(t *testing.T) {
	b := openBroker(t, t.TempDir())
	createTopic(t, b.Addr(), "changes", 1)
	begin(t, b.Addr(), "tx", "changes", "open")
	mustClose(t, b)
	b = openBroker(t, b.layout.dir)
	transact(t, b.Addr(), "tx", true, "changes", "kept")
	if got := values(readAll(t, b.Addr(), "changes", 0)); got != "kept" {
		t.Errorf("changes = %q", got)
	}
}

// Killed behind the mark that says it is open, and before the engine has loaded: what the
// clean close before remembered as open is ended in the log.
func TestOpen_AKillWhileItOpensLeavesNoEndedTransactionOpen(t *testing.T) {
	b := openBroker(t, t.TempDir())
	createTopic(t, b.Addr(), "changes", 1)
	begin(t, b.Addr(), "tx", "changes", "open")
	mustClose(t, b)
	half := &Broker{layout: b.layout, admission: &admission{}}
	if err := half.prepare(t.Context(), options(b.layout.dir).withDefaults(), seams{free: freeBytes, step: func(string) {}}); err != nil {
		t.Fatal(err)
	}
	b = openBroker(t, b.layout.dir)
	produce(t, client(t, b.Addr()), "changes", 0, "k", "next")
	if got := values(readAll(t, b.Addr(), "changes", 0)); got != "next" {
		t.Errorf("changes = %q", got)
	}
}

// A client that sets the attribute for the broker's time itself makes the
// engine store a batch with a wrong checksum, at which the next load cuts.
func TestProduce_ABatchThatWouldDamageTheLogIsRefused(t *testing.T) {
	b := openBroker(t, t.TempDir())
	createTopic(t, b.Addr(), "events", 1)
	c := client(t, b.Addr())
	produce(t, c, "events", 0, "k", "before")
	for name, change := range map[string]func(*kmsg.RecordBatch){
		"time":  func(b *kmsg.RecordBatch) { b.Attributes |= attributeLogAppend },
		"none":  func(b *kmsg.RecordBatch) { b.NumRecords, b.LastOffsetDelta = 0, -1 },
		"minus": func(b *kmsg.RecordBatch) { b.NumRecords, b.LastOffsetDelta = -1, -2 },
	} {
		resp := produceRaw(t, c, "events", rawBatch("x", change))
		if resp.ErrorCode != kerr.InvalidRecord.Code {
			t.Errorf("%s: error %d, want %d", name, resp.ErrorCode, kerr.InvalidRecord.Code)
		}
	}
	produce(t, c, "events", 0, "k", "after")
	mustClose(t, b)
	b = openBroker(t, b.layout.dir)
	if got := values(readAll(t, b.Addr(), "events", 0)); got != "before after" {
		t.Errorf("events = %q", got)
	}
}

// This is what the package's comment says about time. When it fails, the
// engine has learned LogAppendTime, and the comment and its readers change.
func TestProduce_TheTopicSettingLogAppendTimeHasNoEffect(t *testing.T) {
	b := openBroker(t, t.TempDir())
	createTopic(t, b.Addr(), "intake", 1, "message.timestamp.type=LogAppendTime")
	if got := topicConfig(t, b.Addr(), "intake", "message.timestamp.type"); got != "LogAppendTime" {
		t.Fatalf("the setting was not stored: %q", got)
	}
	claimed := time.UnixMilli(1_000_000_000_000)
	c := client(t, b.Addr())
	rec := &kgo.Record{Topic: "intake", Value: []byte("x"), Timestamp: claimed}
	if err := c.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if resp := produceRaw(t, c, "intake", rawBatch("y", nil)); resp.LogAppendTime != -1 {
		t.Errorf("the answer carries the broker's time %d", resp.LogAppendTime)
	}
	got := readAll(t, b.Addr(), "intake", 0)[0]
	if !got.Timestamp.Equal(claimed) || got.Attrs.TimestampType() != 0 {
		t.Errorf("fetched time %v of type %d, want the claimed %v of type 0", got.Timestamp, got.Attrs.TimestampType(), claimed)
	}
}

func TestOpen_AGroupResumesAtOnceThoughItsMembersDidNotLeave(t *testing.T) {
	for name, restart := range map[string]func(b *Broker) string{
		"clean":  func(b *Broker) string { mustClose(t, b); return b.layout.dir },
		"killed": func(b *Broker) string { return crashed(t, b) },
	} {
		b := openBroker(t, t.TempDir())
		createTopic(t, b.Addr(), "events", 2)
		produce(t, client(t, b.Addr()), "events", 0, "k", "a")
		join := func(addr string) *kgo.Client {
			return client(t, addr, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("events"), kgo.SessionTimeout(6*time.Second),
				kgo.HeartbeatInterval(500*time.Millisecond), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
				kgo.FetchMaxWait(50*time.Millisecond)) // a first fetch that has but the empty partition waits so long
		}
		ghost := join(b.Addr())
		if err := ghost.PollFetches(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		b = openBroker(t, restart(b))
		began := time.Now()
		if err := join(b.Addr()).PollFetches(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		t.Logf("%s: resumed after %v", name, took)
		if took > 2*time.Second {
			t.Errorf("%s: the group resumed after %v: it waited for members that are gone", name, took)
		}
	}
}

func TestOpen_ARunningBrokerDeletesNothingByAge(t *testing.T) {
	b := openBroker(t, t.TempDir())
	const never = "2147483647"
	for name, want := range map[string]string{
		"log.retention.ms": "-1", "log.retention.bytes": "-1", "log.cleaner.backoff.ms": "3155760000000",
		"offsets.retention.minutes": never, "offsets.retention.check.interval.ms": never, "transactional.id.expiration.ms": never,
	} {
		if got := brokerConfig(t, b.Addr(), name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	createTopic(t, b.Addr(), "events", 1)
	if got := topicConfig(t, b.Addr(), "events", "log.retention.ms"); got != "-1" {
		t.Errorf("log.retention.ms = %q", got)
	}
}

func TestClose_TwiceIsFineAndMarksTheDirectoryOnce(t *testing.T) {
	b := openBroker(t, t.TempDir())
	if _, err := os.Stat(b.layout.cleanMark()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a running broker's directory is marked as closed: %v", err)
	}
	mustClose(t, b)
	mustClose(t, b)
	if _, err := os.Stat(b.layout.cleanMark()); err != nil {
		t.Error(err)
	}
}

func TestClose_DoesNotWaitForAnEngineThatHangs(t *testing.T) {
	b := openBroker(t, t.TempDir())
	createTopic(t, b.Addr(), "events", 1)
	hangs, release := make(chan struct{}), make(chan struct{})
	var once sync.Once // the engine asks more than once for a request
	b.engine.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListGroups}, When: func(kmsg.Request) bool {
		once.Do(func() { close(hangs) })
		<-release
		return false
	}})
	c := client(t, b.Addr())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = kmsg.NewPtrListGroupsRequest().RequestWith(t.Context(), c)
	}()
	<-hangs
	b.closeWithin = 50 * time.Millisecond
	if err := b.Close(); err == nil || !strings.Contains(err.Error(), "did not stop") {
		t.Errorf("Close: %v", err)
	}
	if closed, _ := b.layout.wasClosed(); closed {
		t.Error("the directory is marked as closed in order")
	}
	close(release)
	c.Close()
	<-asked
	<-b.engineClosed
}

// Each of these stops the engine, or lets it delete what was stored.
func TestAdmission_RefusesWhatStopsTheEngine(t *testing.T) {
	b := openBroker(t, t.TempDir())
	if err := createTopicErr(t.Context(), b.Addr(), "many", math.MaxInt32); !errors.Is(err, kerr.InvalidPartitions) {
		t.Errorf("a topic of 2 billion partitions: %v", err)
	}
	c := client(t, b.Addr())
	alter := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType = kmsg.ConfigResourceTypeBroker
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "log.cleaner.backoff.ms", kmsg.StringPtr("1")
	resource.Configs = append(resource.Configs, config)
	alter.Resources = append(alter.Resources, resource)
	altered, err := alter.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := altered.Resources[0].ErrorCode; got != kerr.PolicyViolation.Code {
		t.Errorf("a change of the broker's settings: error %d", got)
	}
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", "consumer", 6000, 6000
	for range 2 {
		protocol := kmsg.NewJoinGroupRequestProtocol()
		protocol.Name = "range"
		join.Protocols = append(join.Protocols, protocol)
	}
	joined, err := join.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if joined.ErrorCode != kerr.InconsistentGroupProtocol.Code {
		t.Errorf("a member that lists a protocol twice: error %d", joined.ErrorCode)
	}
	// And what is not served is not offered either.
	versions, err := kmsg.NewPtrApiVersionsRequest().RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range versions.ApiKeys {
		if newestVersions[key.ApiKey] < key.MaxVersion || key.ApiKey == int16(kmsg.Produce) && key.MaxVersion > maxProduceVersion {
			t.Errorf("clients are offered version %d of api key %d", key.MaxVersion, key.ApiKey)
		}
	}
}
