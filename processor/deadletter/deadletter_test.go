package deadletter

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const name = "consent.deadletters"

func newTopic(t *testing.T) (*kafka.Client, func(values ...[]byte)) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kafka.New(kafka.Config{Brokers: cluster.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if _, err := client.Provision(t.Context(), []kafka.TopicSpec{{Name: name, Partitions: 2, Replication: 1}}, false); err != nil {
		t.Fatal(err)
	}
	return client, func(values ...[]byte) {
		t.Helper()
		p := client.NewProducer(kafka.ProducerOptions{})
		defer p.Close()
		for _, v := range values {
			if _, err := p.Produce(t.Context(), kafka.Record{Topic: name, Key: []byte("one key, one partition"), Value: v}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func letter(t *testing.T, code string) []byte {
	t.Helper()
	b, err := schemas.EncodeDeadLetter(nil, &schemas.DeadLetter{Topic: "consent.events", Partition: 3, Offset: 42, Code: code, Value: []byte("bytes")})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRead_GivesLettersInOrderAndGoesOnBehindOneThatIsNone(t *testing.T) {
	client, put := newTopic(t)
	put(letter(t, "a"), []byte("poison"), letter(t, "b"))
	var got []string
	for l, err := range Read(t.Context(), client, name) {
		if err != nil {
			if !strings.Contains(err.Error(), l.Position.String()) || strings.Contains(err.Error(), "poison") {
				t.Errorf("the error does not name the position, or shows the bytes: %v", err)
			}
			got = append(got, "error")
			continue
		}
		got = append(got, l.Code)
		if l.Offset != 42 || l.Partition != 3 || string(l.Value) != "bytes" {
			t.Errorf("%+v", l.DeadLetter)
		}
	}
	if s := strings.Join(got, " "); s != "a error b" {
		t.Errorf("got %s", s)
	}
}

func TestRead_AnEmptyTopicEndsAtOnceAndABreakLeaksNothing(t *testing.T) {
	client, put := newTopic(t)
	for l, err := range Read(t.Context(), client, name) {
		t.Errorf("%+v %v in an empty topic", l, err)
	}
	put(letter(t, "a"), letter(t, "b"))
	for range Read(t.Context(), client, name) {
		break
	}
}

func TestRead_ATopicThatIsNotThereIsAnError(t *testing.T) {
	client, _ := newTopic(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	n := 0
	for _, err := range Read(ctx, client, "nothing") {
		n++
		if err == nil {
			t.Error("no error")
		}
	}
	if n != 1 {
		t.Errorf("%d results", n)
	}
}
