package owner

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
)

// installation is a broker with the topics of one installation.
type installation struct {
	testing.TB
	cluster  *kfake.Cluster
	names    topic.Names
	client   *kafka.Client
	producer *kafka.Producer
}

func newInstallation(t testing.TB, provision bool) *installation {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	in := &installation{TB: t, cluster: cluster, names: topic.Names{Prefix: "t."}}
	in.client = in.connect()
	if provision {
		in.provision()
	}
	in.producer = in.client.NewProducer(kafka.ProducerOptions{})
	t.Cleanup(func() { _ = in.producer.Close() })
	return in
}

func (in *installation) connect() *kafka.Client {
	in.Helper()
	c, err := kafka.New(kafka.Config{Brokers: in.cluster.ListenAddrs(), Logger: testLogger(in.TB)})
	if err != nil {
		in.Fatal(err)
	}
	in.Cleanup(func() { _ = c.Close() })
	return c
}

func (in *installation) provision() {
	in.Helper()
	if _, err := in.client.Provision(in.Context(), in.names.Specs(topic.Layout{Partitions: partitions, Replication: 1}), false); err != nil {
		in.Fatal(err)
	}
}

func (in *installation) write(records ...kafka.Record) {
	in.Helper()
	for i := range records {
		records[i].Topic = in.names.Owners()
	}
	if _, err := in.producer.Produce(in.Context(), records...); err != nil {
		in.Fatal(err)
	}
}

func (in *installation) announce(records ...Record) {
	in.Helper()
	for i := range records {
		r, err := records[i].Kafka(in.names)
		if err != nil {
			in.Fatal(err)
		}
		in.write(r)
	}
}

// follow runs a directory until the test ends.
func (in *installation) follow() *Directory {
	d, _ := in.run()
	return d
}

func (in *installation) run() (*Directory, <-chan error) {
	d := NewDirectory(in.connect(), in.names, stripes, testLogger(in.TB))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		done <- d.Run(ctx)
	}()
	in.Cleanup(func() { cancel(); <-stopped })
	return d, done
}

func record(stripe int, instance string, producer int64, epoch int16) Record {
	return Record{
		Stripes: stripes, Stripe: stripe, Address: "http://10.0.0.7:8080", Instance: instance, Producer: producer, Epoch: epoch,
		Since: time.Date(2026, 3, 1, 9, 0, 0, 123e6, time.FixedZone("", 3600)),
	}
}

// owners gives the instances of all stripes; "-" = none.
func (d *Directory) instances() string {
	var all []string
	for stripe := range int32(stripes) {
		r, ok := d.Owner(stripe + 2*stripes) // any partition of the stripe
		if !ok {
			r.Instance = "-"
		}
		all = append(all, r.Instance)
	}
	return strings.Join(all, " ")
}

func TestDirectory_TheNewestRecordOfAStripeCounts(t *testing.T) {
	in := newInstallation(t, true)
	var former []kafka.Record // more than one fetch takes: an older record must not look like news
	for range 1200 {
		padded := `{"stripes":4,"stripe":0,"instance":"a","producer":10,"later":"` + strings.Repeat("x", 3000) + `"}`
		former = append(former, kafka.Record{Key: []byte("4/0"), Value: []byte(padded)})
	}
	in.write(former...)
	in.announce(record(1, "b", 11, 0), record(0, "c", 10, 1))
	first := in.follow()
	for deadline := time.Now().Add(patience); first.Ready() != nil; runtime.Gosched() { // without a pause: at the very moment
		if time.Now().After(deadline) {
			t.Fatal(first.Ready())
		}
	}
	if got := first.instances(); got != "c b - -" {
		t.Errorf("at the moment it is ready: %s", got)
	}
	in.announce(record(3, "d", 12, 0), record(1, "a", 11, 1))
	eventually(t, "news", func() bool { return first.instances() == "c a - d" })
	in.announce(record(1, "e", 99, 0)) // the broker forgot the transactional id: another producer id, from epoch 0
	eventually(t, "another producer id", func() bool { return first.instances() == "c e - d" })
	second := in.follow()
	eventually(t, "the same from the beginning", func() bool { return second.Ready() == nil && second.instances() == "c e - d" })
	want := record(1, "e", 99, 0)
	want.Since = want.Since.UTC()
	if got, _ := second.Owner(1); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDirectory_ARecordOfAFormerEpochChangesNothing(t *testing.T) {
	in := newInstallation(t, true)
	in.announce(record(0, "new", 10, 5), record(0, "zombie", 10, 4), record(1, "b", 11, 0))
	d := in.follow()
	eventually(t, "both stripes", func() bool { return strings.Contains(d.instances(), "b") })
	if got := d.instances(); got != "new b - -" {
		t.Errorf("owners: %s", got)
	}
}

func TestDirectory_ATransactionThatIsAbortedChangesNothing(t *testing.T) {
	in := newInstallation(t, true)
	in.announce(record(0, "a", 10, 0))
	d := in.follow()
	eventually(t, "ready", func() bool { return d.instances() == "a - - -" })
	tx, err := in.client.OpenTransactor(t.Context(), kafka.TransactorOptions{ID: in.names.TransactionalID(stripes, 0)})
	if err != nil {
		t.Fatal(err)
	}
	write := func(r Record) {
		t.Helper()
		announcement, err := r.Kafka(in.names)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Begin(t.Context(), nil, []kafka.Partition{{Topic: in.names.Owners()}}); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Write(t.Context(), []kafka.Record{announcement}); err != nil {
			t.Fatal(err)
		}
	}
	write(record(0, "aborted", 10, 1))
	if err := tx.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(record(1, "committed", 10, 1))
	if err := tx.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the committed one", func() bool { return strings.Contains(d.instances(), "committed") })
	if got := d.instances(); got != "a committed - -" {
		t.Errorf("owners: %s", got)
	}
}

func TestDirectory_WhatIsNoRecordOfOursIsPassed(t *testing.T) {
	in := newInstallation(t, true)
	other := record(0, "other", 10, 9)
	other.Stripes = stripes + 1
	swapped, err := (&Record{Stripes: stripes, Stripe: 0, Instance: "swapped"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	in.announce(record(0, "a", 10, 0), other)
	in.write(
		kafka.Record{Key: []byte("4/0"), Value: []byte("not JSON")},
		kafka.Record{Key: []byte("4/0"), Value: []byte(`{"stripes":4,"stripe":0,"instance":""}`)},
		kafka.Record{Key: []byte("4/1"), Value: swapped},
		kafka.Record{Key: []byte("4/2"), Value: nil},
	)
	in.announce(record(1, "b", 11, 0))
	d := in.follow()
	eventually(t, "the last one", func() bool { return strings.Contains(d.instances(), "b") })
	if got := d.instances(); got != "a b - -" {
		t.Errorf("owners: %s", got)
	}
	in.write(kafka.Record{Key: []byte("4/0"), Value: nil}) // an operator's tombstone
	eventually(t, "the tombstone", func() bool { return d.instances() == "- b - -" })
}

func TestDirectory_WaitsForItsTopic(t *testing.T) {
	in := newInstallation(t, false)
	d := in.follow()
	eventually(t, "the fault is told", func() bool { err := d.Ready(); return err != nil && strings.Contains(err.Error(), "consent.owners") })
	in.provision()
	eventually(t, "ready", func() bool { return d.Ready() == nil })
	in.announce(record(2, "a", 10, 0))
	eventually(t, "news", func() bool { return d.instances() == "- - a -" })
}

func TestDirectory_RunEndsWhenItsClientIsClosed(t *testing.T) {
	in := newInstallation(t, true)
	d, done := in.run()
	eventually(t, "ready", func() bool { return d.Ready() == nil })
	_ = d.client.Close()
	if err := <-done; !errors.Is(err, kafka.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestRecord_ComesBackAsItWas(t *testing.T) {
	want := record(3, "9f2c", 17, 5)
	value, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if string(want.Key()) != "4/3" || string(value) != `{"stripes":4,"stripe":3,"address":"http://10.0.0.7:8080","instance":"9f2c","producer":17,"epoch":5,"since":"2026-03-01T09:00:00.123+01:00"}` {
		t.Errorf("%s %s: other versions read these", want.Key(), value)
	}
	got, err := DecodeRecord(append(value[:len(value)-1], `,"later":"fields"}`...))
	if want.Since = want.Since.UTC(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRecord_WhatCannotBeAskedIsRefused(t *testing.T) {
	for _, address := range []string{"10.0.0.7:8080", "ftp://h:1", "http://h", "http://:8080", "http://h:1/", "http://h:1/x", "http://h:1?x", "http://u:p@h:1", "http://h:1#x", "http://h:p", "http://h:1\r\n"} {
		r := record(0, "a", 1, 1)
		if r.Address = address; r.validate() == nil {
			t.Errorf("%q was taken", address)
		}
	}
	for _, address := range []string{"", "http://10.0.0.7:8080", "https://p-0.assent.svc:443", "http://[::1]:8080"} {
		r := record(0, "a", 1, 1)
		if r.Address = address; r.validate() != nil {
			t.Errorf("%q: %v", address, r.validate())
		}
	}
	bad := Record{Stripes: 2, Stripe: 2, Address: "x", Instance: strings.Repeat("i", maxInstanceBytes+1)}
	_, err := bad.Kafka(topic.Names{})
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want all three faults: %v", err)
	}
	if _, err := DecodeRecord(make([]byte, maxRecordBytes+1)); err == nil {
		t.Error("a huge record was taken")
	}
}
