package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// parcel is one batch on its way to the leader of its partition, and what came of it.
type parcel struct {
	partition Partition
	batch     []byte

	base LastOffset // of the batch's first record, if err is nil
	err  error
}

// produce sends batches, at most one a partition, to the leader of them all in one request,
// acknowledged by all in-sync replicas. transaction is nil for batches that are part of none.
// What came of each stands in its parcel. What an error proves wrong about leaders is forgotten.
func (c *Client) produce(ctx context.Context, leader int32, transaction *string, parcels []*parcel) {
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID = transaction
	req.Acks = -1
	req.TimeoutMillis = int32(c.config.RequestTimeout.Milliseconds())
	open := make(map[Partition]*parcel, len(parcels))
	topics := make(map[string]int)
	for _, p := range parcels {
		open[p.partition] = p
		i, ok := topics[p.partition.Topic]
		if !ok {
			i = len(req.Topics)
			topics[p.partition.Topic] = i
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic = p.partition.Topic
			req.Topics = append(req.Topics, rt)
		}
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = p.partition.Index, p.batch
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
	}
	resp := kmsg.NewPtrProduceResponse()
	// A little longer than the broker waits for its replicas, so that its own answer comes first.
	err := c.send(ctx, leader, time.Second, req, resp)
	if err == nil {
		err = errors.New("answer without the partition") // of those that are left below
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				answer := &resp.Topics[i].Partitions[j]
				at := Partition{Topic: resp.Topics[i].Topic, Index: answer.Partition}
				if p := open[at]; p != nil {
					p.base, p.err = LastOffset(answer.BaseOffset), produceError(answer)
					delete(open, at)
				}
			}
		}
	}
	for _, p := range open {
		p.err = err
	}
	for _, p := range parcels {
		if p.err != nil {
			c.directory.learn(p.partition.Topic, p.err)
		}
	}
}

// produceError is nil for a batch that was stored, now or by an earlier attempt.
func produceError(answer *kmsg.ProduceResponseTopicPartition) error {
	switch kafkago.Error(answer.ErrorCode) {
	case 0:
		return nil
	case kafkago.DuplicateSequenceNumber:
		// Stored long ago, at an offset that the broker no longer remembers.
		return fmt.Errorf("%w: %w", ErrIndefinite, Code(answer.ErrorCode))
	}
	err := fmt.Errorf("%w%s", Code(answer.ErrorCode), remark(answer.ErrorMessage))
	if Code(answer.ErrorCode).verdict() == verdictReroute {
		// It refused, or it appended the batch, and lost its office while it waited for the others:
		// the next leader may have it. Source: DelayedProduce.tryComplete of Apache Kafka.
		return fmt.Errorf("%w: %w", ErrIndefinite, err)
	}
	return err
}
