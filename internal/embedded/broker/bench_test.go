package broker

import (
	"testing"

	"github.com/assent-dev/assent/internal/kafka"
)

// BenchmarkProduce writes one record after the other, each acknowledged before
// the next: with a sync of the file, and without as the peer.
func BenchmarkProduce(b *testing.B) {
	for name, unsynced := range map[string]bool{"synced": false, "unsynced": true} {
		b.Run(name, func(b *testing.B) {
			server, err := open(b.Context(), Options{Dir: b.TempDir(), Addr: "127.0.0.1:0"}, seams{free: freeBytes, step: func(string) {}, unsynced: unsynced})
			if err != nil {
				b.Fatal(err)
			}
			defer server.Close()
			client, err := kafka.New(kafka.Config{Brokers: []string{server.Addr()}})
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Provision(b.Context(), []kafka.TopicSpec{{Name: "events", Partitions: 1, Replication: 1}}, false); err != nil {
				b.Fatal(err)
			}
			producer := client.NewProducer(kafka.ProducerOptions{})
			defer producer.Close()
			value := make([]byte, 400)
			for b.Loop() {
				if _, err := producer.Produce(b.Context(), kafka.Record{Topic: "events", Key: []byte("k"), Value: value}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
