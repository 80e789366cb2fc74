package broker

import (
	"hash/crc32"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawBatch is a batch of one record, changed before its checksum is made.
func rawBatch(value string, change func(*kmsg.RecordBatch)) []byte {
	rec := kmsg.NewRecord()
	rec.Key, rec.Value = []byte("k"), []byte(value)
	rec.Length = int32(len(rec.AppendTo(nil)) - 1)
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		FirstTimestamp: 1, MaxTimestamp: 1, NumRecords: 1, Records: rec.AppendTo(nil),
	}
	if change != nil {
		change(&b)
	}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	b.CRC = int32(crc32.Checksum(b.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b.AppendTo(nil)
}

func produceRaw(t testing.TB, c *kgo.Client, topic string, batch []byte) kmsg.ProduceResponseTopicPartition {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, topicID(t, c, topic)
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].Partitions[0]
}

func topicID(t testing.TB, c *kgo.Client, topic string) [16]byte {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Topics[0].TopicID
}

// transact writes one record in a transaction and ends it.
func transact(t testing.TB, addr, txid string, commit bool, topic, value string) {
	t.Helper()
	c := begin(t, addr, txid, topic, value)
	if err := c.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// begin writes one record in a transaction and leaves it open.
func begin(t testing.TB, addr, txid, topic, value string) *kgo.Client {
	t.Helper()
	c := client(t, addr, kgo.TransactionalID(txid))
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, c, topic, 0, value, value)
	return c
}

func producerEpoch(t testing.TB, addr, txid string) int16 {
	t.Helper()
	_, epoch, err := client(t, addr, kgo.TransactionalID(txid)).ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return epoch
}

func topicConfig(t testing.TB, addr, topic, name string) string {
	return describeConfig(t, addr, kmsg.ConfigResourceTypeTopic, topic, name)
}

func brokerConfig(t testing.TB, addr, name string) string {
	return describeConfig(t, addr, kmsg.ConfigResourceTypeBroker, "", name)
}

func describeConfig(t testing.TB, addr string, kind kmsg.ConfigResourceType, resource, name string) (value string) {
	t.Helper()
	req := kmsg.NewPtrDescribeConfigsRequest()
	rr := kmsg.NewDescribeConfigsRequestResource()
	rr.ResourceType, rr.ResourceName, rr.ConfigNames = kind, resource, []string{name}
	req.Resources = append(req.Resources, rr)
	resp, err := req.RequestWith(t.Context(), client(t, addr))
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Resources[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
	for _, c := range resp.Resources[0].Configs {
		if c.Name == name && c.Value != nil {
			value = *c.Value
		}
	}
	return value
}
