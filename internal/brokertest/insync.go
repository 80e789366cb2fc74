package brokertest

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AwaitInSync waits until each partition, those of internal topics too, has a copy in
// sync on every broker. Between a Restart and the next Kill: two copies of three that
// are away or behind stop every write.
func (c *Cluster) AwaitInSync() {
	c.tb.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addrs...))
	if err != nil {
		c.tb.Fatal(err)
	}
	defer client.Close()
	const patience = 2 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		behind := c.behind(ctx, client)
		if behind == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			c.tb.Fatalf("not in sync within %s: %v", patience, behind)
		}
	}
}

// behind names a partition that has not all its copies in sync.
func (c *Cluster) behind(ctx context.Context, client *kgo.Client) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = nil // all
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if len(p.ISR) < len(p.Replicas) || len(p.OfflineReplicas) > 0 {
				return fmt.Errorf("%s/%d has %d of %d copies in sync", *t.Topic, p.Partition, len(p.ISR), len(p.Replicas))
			}
		}
	}
	return nil
}
