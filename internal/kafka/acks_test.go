package kafka

import (
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// With one copy of everything an answer of the leader alone looks the same: so what is
// asked for is looked at.
func TestProduce_AsksForTheAcknowledgementOfAllInSyncReplicas(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"a"})
	var mu sync.Mutex
	var acks []int16
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		acks = append(acks, r.(*kmsg.ProduceRequest).Acks)
		return true
	}})
	c := connect(t, cluster)
	record := Record{Topic: "a", Key: []byte("k"), Value: []byte("v")}
	if _, err := newProducer(t, c, ProducerOptions{}).Produce(ctx, record); err != nil {
		t.Fatal(err)
	}
	tx, err := c.OpenTransactor(ctx, TransactorOptions{ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Begin(ctx, nil, []Partition{{Topic: "a"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Write(ctx, []Record{record}); err != nil {
		t.Fatal(err)
	}
	if err := tx.End(ctx); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(acks) < 2 {
		t.Errorf("%d requests were seen, want one of the producer and one in the transaction", len(acks))
	}
	for _, asked := range acks {
		if asked != -1 {
			t.Errorf("asked for the acknowledgement of %d, want that of all (-1)", asked)
		}
	}
}
