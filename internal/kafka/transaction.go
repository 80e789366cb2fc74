package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The requests of a transaction, one attempt each. Several codes in one answer: the
// gravest is returned.

// addPartitions names all that Begin covers.
func (t *Transactor) addPartitions(ctx context.Context) error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = t.options.ID, t.sender.ID, t.sender.Epoch
	topics := make(map[string][]int32)
	for _, s := range t.covered {
		p := s.parcel.partition
		topics[p.Topic] = append(topics[p.Topic], p.Index)
	}
	for topic, indexes := range topics {
		rt := kmsg.NewAddPartitionsToTxnRequestTopic()
		rt.Topic, rt.Partitions = topic, indexes
		req.Topics = append(req.Topics, rt)
	}
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	if err := t.client.sendToCoordinator(ctx, t.coordinator(), 0, req, resp); err != nil {
		return err
	}
	var a answers
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			a.take(rt.Topic, rp.Partition, t.client.coordinatorCode(t.coordinator(), rp.ErrorCode))
		}
	}
	return a.verdict(len(t.covered))
}

func (t *Transactor) addOffsets(ctx context.Context) error {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = t.options.ID, t.sender.ID, t.sender.Epoch
	req.Group = t.claim.group
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	if err := t.client.sendToCoordinator(ctx, t.coordinator(), 0, req, resp); err != nil {
		return err
	}
	return t.client.coordinatorCode(t.coordinator(), resp.ErrorCode)
}

// commitOffsets goes to the coordinator of the group. Without generation and member id it
// would be taken from anybody: never send it so.
func (t *Transactor) commitOffsets(ctx context.Context, commits map[Partition]Commit) error {
	if t.claim.generation < 0 || t.claim.memberID == "" {
		return fmt.Errorf("claim of stripe %d without generation or member id: %w", t.claim.stripe, ErrFenced)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = t.options.ID, t.sender.ID, t.sender.Epoch
	req.Group, req.Generation, req.MemberID = t.claim.group, t.claim.generation, t.claim.memberID
	topics := make(map[string][]kmsg.TxnOffsetCommitRequestTopicPartition)
	for p, commit := range commits {
		rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.Metadata = p.Index, int64(commit.Next), kmsg.StringPtr(commit.Metadata)
		topics[p.Topic] = append(topics[p.Topic], rp)
	}
	for topic, partitions := range topics {
		rt := kmsg.NewTxnOffsetCommitRequestTopic()
		rt.Topic, rt.Partitions = topic, partitions
		req.Topics = append(req.Topics, rt)
	}
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	group := groupNamed(t.claim.group)
	if err := t.client.sendToCoordinator(ctx, group, 0, req, resp); err != nil {
		return err
	}
	var a answers
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			a.take(rt.Topic, rp.Partition, t.client.coordinatorCode(group, rp.ErrorCode))
		}
	}
	return a.verdict(len(commits))
}

func (t *Transactor) endTxn(ctx context.Context, commit bool) error {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = t.options.ID, t.sender.ID, t.sender.Epoch
	req.Commit = commit
	resp := kmsg.NewPtrEndTxnResponse()
	if err := t.client.sendToCoordinator(ctx, t.coordinator(), 0, req, resp); err != nil {
		return err
	}
	return t.client.coordinatorCode(t.coordinator(), resp.ErrorCode)
}
