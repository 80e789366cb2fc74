package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// When chooses an end of a partition's log.
type When int

const (
	// Earliest is the first record that is still there.
	Earliest When = iota
	// Latest is the high watermark: behind the last record that all in-sync replicas
	// have, open transactions included.
	Latest
	// LatestStable is behind the last record that no open transaction precedes: as far
	// as a [Fetcher] can read now. With no transaction open it equals Latest.
	LatestStable
)

// String returns the name of the constant.
func (w When) String() string {
	switch w {
	case Earliest:
		return "earliest"
	case Latest:
		return "latest"
	default:
		return "latest stable"
	}
}

// Values of ListOffsets.
const (
	timestampLatest   = -1
	timestampEarliest = -2

	isolationUncommitted int8 = 0
	isolationCommitted   int8 = 1
)

// Offsets asks the leaders where the logs of partitions begin or end now. The answer
// has every partition that was asked for, or there is an error.
func (c *Client) Offsets(ctx context.Context, partitions []Partition, when When) (map[Partition]NextOffset, error) {
	found := make(map[Partition]NextOffset, len(partitions))
	err := c.persist(ctx, fmt.Sprintf("list %s offsets", when), func(ctx context.Context) error {
		byLeader := make(map[int32][]Partition)
		for _, p := range partitions {
			if _, done := found[p]; done {
				continue
			}
			leader, err := c.leader(ctx, p)
			if err != nil {
				return err
			}
			byLeader[leader] = append(byLeader[leader], p)
		}
		for leader, ps := range byLeader {
			if err := c.listOffsets(ctx, leader, ps, when, found); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// listOffsets asks one leader, once, and adds what it answered to found.
func (c *Client) listOffsets(ctx context.Context, leader int32, partitions []Partition, when When, found map[Partition]NextOffset) error {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.IsolationLevel = isolationUncommitted
	if when == LatestStable {
		req.IsolationLevel = isolationCommitted
	}
	timestamp := int64(timestampLatest)
	if when == Earliest {
		timestamp = timestampEarliest
	}
	topics := make(map[string][]kmsg.ListOffsetsRequestTopicPartition)
	for _, p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition = p.Index
		rp.Timestamp = timestamp
		topics[p.Topic] = append(topics[p.Topic], rp)
	}
	for topic, ps := range topics {
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic, rt.Partitions = topic, ps
		req.Topics = append(req.Topics, rt)
	}
	resp := kmsg.NewPtrListOffsetsResponse()
	if err := c.send(ctx, leader, 0, req, resp); err != nil {
		for topic := range topics {
			c.directory.learn(topic, err)
		}
		return err
	}
	var first error
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			partition := Partition{Topic: t.Topic, Index: p.Partition}
			if err := codeError(p.ErrorCode); err != nil {
				c.directory.learn(t.Topic, err)
				if first == nil {
					first = fmt.Errorf("partition %s: %w", partition, err)
				}
				continue
			}
			found[partition] = NextOffset(p.Offset)
		}
	}
	return first
}
