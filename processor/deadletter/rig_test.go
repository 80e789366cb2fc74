package deadletter

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
)

// desk is all topics on a broker in this process.
type desk struct {
	*testing.T
	client *kafka.Client
	names  topic.Names
	now    time.Time
}

func newDesk(t *testing.T) *desk {
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
	d := &desk{T: t, client: client, names: topic.Names{Prefix: "test."}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	if _, err := client.Provision(t.Context(), d.names.Specs(topic.Layout{Partitions: 3, Replication: 1}), false); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) produce(records ...kafka.Record) []kafka.Position {
	d.Helper()
	p := d.client.NewProducer(kafka.ProducerOptions{MaxBatchBytes: 4 << 20})
	defer p.Close()
	positions, err := p.Produce(d.Context(), records...)
	if err != nil {
		d.Fatal(err)
	}
	return positions
}

// put writes letters, each under the key that it holds.
func (d *desk) put(letters ...schemas.DeadLetter) []kafka.Position {
	d.Helper()
	var records []kafka.Record
	for i := range letters {
		value, err := schemas.EncodeDeadLetter(nil, &letters[i])
		if err != nil {
			d.Fatal(err)
		}
		records = append(records, kafka.Record{Topic: d.names.DeadLetters(), Key: letters[i].Key, Value: value})
	}
	return d.produce(records...)
}

// fromIntake is a letter of the gateway's.
func (d *desk) fromIntake(key string, offset int64, value string) schemas.DeadLetter {
	l := schemas.DeadLetter{
		Topic: d.names.Intake(), Partition: 1, Offset: offset, Code: schemas.CodeNoSchema, Reason: "no schema", Role: "gateway",
		At: consent.InstantOf(d.now), Value: []byte(value),
	}
	if key != "" {
		l.Key = []byte(key)
	}
	return l
}

func (d *desk) survey() *Index {
	d.Helper()
	x, err := Survey(d.Context(), d.client, d.names)
	if err != nil {
		d.Fatal(err)
	}
	return x
}

// replay carries out a plan for what is chosen, and gives its steps as told.
func (d *desk) replay(chosen Selection, force bool) []Step {
	d.Helper()
	var told []Step
	if err := Replay(d.Context(), d.client, d.names, d.survey().Plan(chosen, force), func(s Step) { told = append(told, s) }); err != nil {
		d.Fatal(err)
	}
	return told
}

// crash carries out a plan until the nth time that the step is done.
func (d *desk) crash(at string, nth int) (told []Step) {
	d.Helper()
	producer := d.client.NewProducer(kafka.ProducerOptions{})
	defer producer.Close()
	died := fmt.Errorf("crash after %s", at)
	r := &replay{
		client: d.client, names: d.names, records: producer, now: time.Now,
		told: func(s Step) { told = append(told, s) },
		crashed: func(step string) error {
			if step == at {
				if nth--; nth == 0 {
					return died
				}
			}
			return nil
		},
	}
	if err := r.run(d.Context(), d.survey().Plan(Selection{}, false)); err != died { //nolint:errorlint // the very value
		d.Fatalf("the run ended with %v, want the crash", err)
	}
	return told
}

// read gives what a topic holds, by partition, in order.
func (d *desk) read(name string) []kafka.Message {
	d.Helper()
	all, err := partitionsOf(d.Context(), d.client, name)
	if err != nil {
		d.Fatal(err)
	}
	var messages []kafka.Message
	for _, p := range all {
		end, err := d.client.Offsets(d.Context(), []kafka.Partition{p}, kafka.Latest)
		if err != nil {
			d.Fatal(err)
		}
		for at := range kafka.LastOffset(end[p]) {
			m, found, err := original(d.Context(), d.client, kafka.Position{Partition: p, Offset: at})
			if err != nil {
				d.Fatal(err)
			}
			if found {
				messages = append(messages, m)
			}
		}
	}
	return messages
}

// intakeValues gives the values in consent.intake, by key, in order.
func (d *desk) intakeValues() map[string][]string {
	d.Helper()
	got := map[string][]string{}
	for _, m := range d.read(d.names.Intake()) {
		got[string(m.Key)] = append(got[string(m.Key)], string(m.Value))
	}
	return got
}

func seed(t *testing.T) *rand.Rand {
	t.Helper()
	s := rand.Uint64()
	t.Logf("seed %d", s)
	return rand.New(rand.NewPCG(s, s))
}

func encode(t *testing.T, e *consent.Event) string {
	t.Helper()
	b, err := schemas.EncodeIntakeEvent(nil, e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
