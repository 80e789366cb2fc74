package processor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/kafka"
)

// kafkaGoWriter writes transactions as a program does that has kafka-go's Client and no
// more: its calls one after the other, one produce for each partition, batches encoded by
// a library.
type kafkaGoWriter struct {
	client     *kafkago.Client
	id         string // of its transactions
	group      string
	partitions int // of each topic
	session    *kafkago.ProducerSession
	sequences  map[kafka.Partition]int32
	parcels    map[kafka.Partition]*parcel
	scratch    []byte
}

// parcel is what goes into one batch.
type parcel struct {
	records []byte
	count   int32
}

func openKafkaGo(ctx context.Context, brokers []string, id, group string, partitions int) (*kafkaGoWriter, error) {
	k := &kafkaGoWriter{
		client: &kafkago.Client{Addr: kafkago.TCP(brokers...), Timeout: 30 * time.Second, Transport: new(kafkago.Transport)},
		id:     id, group: group, partitions: partitions,
		sequences: make(map[kafka.Partition]int32),
		parcels:   make(map[kafka.Partition]*parcel),
	}
	return k, insist(ctx, func() error {
		answer, err := k.client.InitProducerID(ctx, &kafkago.InitProducerIDRequest{TransactionalID: id, TransactionTimeoutMs: 60_000, ProducerID: -1, ProducerEpoch: -1})
		if err != nil {
			return err
		}
		k.session = answer.Producer
		return answer.Error
	})
}

// notReady are a broker's answers while its topics or coordinators are being made, or the
// transaction before is not at its end everywhere.
var notReady = []error{
	kafkago.NotCoordinatorForGroup, kafkago.GroupCoordinatorNotAvailable, kafkago.GroupLoadInProgress,
	kafkago.ConcurrentTransactions, kafkago.NotLeaderForPartition,
}

// insist repeats what a broker is not ready for.
func insist(ctx context.Context, do func() error) error {
	for {
		err := do()
		again := slices.ContainsFunc(notReady, func(e error) bool { return errors.Is(err, e) })
		if !again || !wait(ctx, time.Millisecond) {
			return err
		}
	}
}

func (k *kafkaGoWriter) close() { k.client.Transport.(*kafkago.Transport).CloseIdleConnections() }

// commit is one transaction, with the offsets of a claim.
func (k *kafkaGoWriter) commit(ctx context.Context, claim *kafka.Claim, records []kafka.Record, commits map[kafka.Partition]kafka.Commit) error {
	for i := range records {
		k.add(&records[i])
	}
	covered := make(map[string][]kafkago.AddPartitionToTxn)
	for at, p := range k.parcels {
		if p.count > 0 {
			covered[at.Topic] = append(covered[at.Topic], kafkago.AddPartitionToTxn{Partition: int(at.Index)})
		}
	}
	if err := insist(ctx, func() error { return k.cover(ctx, covered) }); err != nil {
		return err
	}
	for at, p := range k.parcels {
		if p.count == 0 {
			continue
		}
		batch := k.batch(at, p)
		err := insist(ctx, func() error {
			answer, err := k.client.RawProduce(ctx, &kafkago.RawProduceRequest{
				Topic: at.Topic, Partition: int(at.Index), RequiredAcks: kafkago.RequireAll, TransactionalID: k.id,
				RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(batch)},
			})
			if err != nil {
				return err
			}
			return answer.Error
		})
		if err != nil {
			return err
		}
		p.records, p.count = p.records[:0], 0
	}
	return insist(ctx, func() error { return k.end(ctx, claim, commits) })
}

func (k *kafkaGoWriter) cover(ctx context.Context, covered map[string][]kafkago.AddPartitionToTxn) error {
	if len(covered) > 0 {
		answer, err := k.client.AddPartitionsToTxn(ctx, &kafkago.AddPartitionsToTxnRequest{
			TransactionalID: k.id, ProducerID: k.session.ProducerID, ProducerEpoch: k.session.ProducerEpoch, Topics: covered,
		})
		if err != nil {
			return err
		}
		for _, partitions := range answer.Topics {
			for _, p := range partitions {
				if p.Error != nil {
					return p.Error
				}
			}
		}
	}
	answer, err := k.client.AddOffsetsToTxn(ctx, &kafkago.AddOffsetsToTxnRequest{
		TransactionalID: k.id, ProducerID: k.session.ProducerID, ProducerEpoch: k.session.ProducerEpoch, GroupID: k.group,
	})
	if err != nil {
		return err
	}
	return answer.Error
}

func (k *kafkaGoWriter) end(ctx context.Context, claim *kafka.Claim, commits map[kafka.Partition]kafka.Commit) error {
	offsets := make(map[string][]kafkago.TxnOffsetCommit)
	for at, c := range commits {
		offsets[at.Topic] = append(offsets[at.Topic], kafkago.TxnOffsetCommit{Partition: int(at.Index), Offset: int64(c.Next)})
	}
	committed, err := k.client.TxnOffsetCommit(ctx, &kafkago.TxnOffsetCommitRequest{
		TransactionalID: k.id, GroupID: k.group, ProducerID: k.session.ProducerID, ProducerEpoch: k.session.ProducerEpoch,
		GenerationID: int(claim.Generation()), MemberID: claim.MemberID(), Topics: offsets,
	})
	if err != nil {
		return err
	}
	for _, partitions := range committed.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return p.Error
			}
		}
	}
	ended, err := k.client.EndTxn(ctx, &kafkago.EndTxnRequest{TransactionalID: k.id, ProducerID: k.session.ProducerID, ProducerEpoch: k.session.ProducerEpoch, Committed: true})
	if err != nil {
		return err
	}
	return ended.Error
}

// add encodes a record for its partition.
func (k *kafkaGoWriter) add(r *kafka.Record) {
	key := r.Key
	if r.PartitionKey != nil {
		key = r.PartitionKey
	}
	at := kafka.Partition{Topic: r.Topic, Index: kafka.PartitionFor(key, k.partitions)}
	p := k.parcels[at]
	if p == nil {
		p = new(parcel)
		k.parcels[at] = p
	}
	record := kmsg.Record{OffsetDelta: p.count, Key: r.Key, Value: r.Value}
	k.scratch = record.AppendTo(k.scratch[:0]) // with a length of 0, one byte
	p.records = binary.AppendVarint(p.records, int64(len(k.scratch)-1))
	p.records = append(p.records, k.scratch[1:]...)
	p.count++
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch makes a batch of the parcel, and puts its size before it.
func (k *kafkaGoWriter) batch(at kafka.Partition, p *parcel) []byte {
	const transactional, header, checksum, summed = 1 << 4, 61, 17, 21
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{
		Length: int32(header - 12 + len(p.records)), PartitionLeaderEpoch: -1, Magic: 2, Attributes: transactional,
		LastOffsetDelta: p.count - 1, FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: int64(k.session.ProducerID), ProducerEpoch: int16(k.session.ProducerEpoch), FirstSequence: k.sequences[at],
		NumRecords: p.count, Records: p.records,
	}
	k.sequences[at] += p.count
	sized := binary.BigEndian.AppendUint32(make([]byte, 0, 4+header+len(p.records)), uint32(header+len(p.records)))
	sized = b.AppendTo(sized)
	batch := sized[4:]
	binary.BigEndian.PutUint32(batch[checksum:], crc32.Checksum(batch[summed:], castagnoli))
	return sized
}
