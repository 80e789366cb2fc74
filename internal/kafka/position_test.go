package kafka

import (
	"fmt"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
)

// The vectors agree with Java's client, librdkafka's murmur2_random and franz-go.
func TestPartitionFor_IsThatOfTheJavaClient(t *testing.T) {
	for _, v := range []struct {
		key       string
		hash      uint32
		of6, of12 int32
	}{
		{"default|user:42", 0x7df509df, 5, 11},
		{"default|device:9f", 0x918368a2, 0, 6},
		{"t|x", 0xb8d04272, 0, 6},
		{"", 0x106e08d9, 3, 9},
		{"default|user:ü", 0x77a62dc0, 0, 0},
		{"shop-de|user:a1b2c3", 0x5014022e, 4, 10},
	} {
		if got := murmur2([]byte(v.key)); got != v.hash {
			t.Errorf("murmur2(%q) = %08x, want %08x", v.key, got, v.hash)
		}
		if got := PartitionFor([]byte(v.key), 6); got != v.of6 {
			t.Errorf("%q in 6: %d, want %d", v.key, got, v.of6)
		}
		if got := PartitionFor([]byte(v.key), 12); got != v.of12 {
			t.Errorf("%q in 12: %d, want %d", v.key, got, v.of12)
		}
	}
}

func TestPartitionFor_AgreesWithAnIndependentImplementation(t *testing.T) {
	theirs := kafkago.Murmur2Balancer{Consistent: true}
	partitions := []int{0, 1, 2, 3, 4, 5, 6}
	for i := range 2000 {
		key := fmt.Appendf(nil, "%08x|%d", i*i, i)[:i%9+1]
		if got, want := PartitionFor(key, len(partitions)), theirs.Balance(kafkago.Message{Key: key}, partitions...); int(got) != want {
			t.Fatalf("key %q: %d, want %d", key, got, want)
		}
	}
}

func TestPosition_NamesTopicPartitionAndOffset(t *testing.T) {
	p := Position{Partition{"consent.events", 3}, 1042}
	if got := p.String(); got != "consent.events/3@1042" {
		t.Error(got)
	}
	if got := p.Partition.String(); got != "consent.events/3" {
		t.Error(got)
	}
	if got := p.Offset.Next(); got != 1043 {
		t.Error(got)
	}
}
