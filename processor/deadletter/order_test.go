package deadletter

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/assent-dev/assent/internal/kafka"
)

// fill writes letters and poison under many keys and gives what stands where.
func fill(t *testing.T, client *kafka.Client, n int) map[kafka.Position]string {
	t.Helper()
	p := client.NewProducer(kafka.ProducerOptions{})
	defer p.Close()
	written := map[kafka.Position]string{}
	for i := range n {
		code, value := fmt.Sprint("code-", i), []byte("poison")
		if i%7 == 3 {
			code = ""
		} else {
			value = letter(t, code)
		}
		positions, err := p.Produce(t.Context(), kafka.Record{Topic: name, Key: fmt.Append(nil, "key", i), Value: value})
		if err != nil {
			t.Fatal(err)
		}
		written[positions[0]] = code
	}
	return written
}

func TestRead_GivesEveryLetterAtItsPositionInTheOrderOfItsPartition(t *testing.T) {
	client, _ := newTopic(t)
	written := fill(t, client, 60)
	last := map[kafka.Partition]kafka.LastOffset{}
	for l, err := range Read(t.Context(), client, name) {
		code, there := written[l.Position]
		if !there {
			t.Fatalf("%s was not written, or came twice", l.Position)
		}
		delete(written, l.Position)
		if (err != nil) != (code == "") || l.Code != code {
			t.Errorf("%s is %q, %v; want %q", l.Position, l.Code, err, code)
		}
		if before, read := last[l.Position.Partition]; read && l.Position.Offset <= before {
			t.Errorf("%s came behind offset %d", l.Position, before)
		}
		last[l.Position.Partition] = l.Position.Offset
	}
	if len(written) != 0 || len(last) != 2 {
		t.Errorf("%d of %d partitions read, missing: %v", len(last), 2, written)
	}
}

func TestRead_EndsWhereTheTopicEndedWhenItBegan(t *testing.T) {
	client, _ := newTopic(t)
	want := len(fill(t, client, 20))
	n := 0
	for range Read(t.Context(), client, name) {
		if n++; n == 1 {
			fill(t, client, 20) // in the partition that is read next, too
		}
	}
	if n != want {
		t.Errorf("%d results, want the %d that were there", n, want)
	}
}

func TestRead_EndsWithItsContext(t *testing.T) {
	client, put := newTopic(t)
	put(letter(t, "a"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n := 0
	for _, err := range Read(ctx, client, name) {
		if n++; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d results, want the error alone", n)
	}
}
