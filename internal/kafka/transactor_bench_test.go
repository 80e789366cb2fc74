package kafka

import (
	"fmt"
	"testing"
)

// One transaction as the fold makes it: a record in each of three partitions of states and
// of changes, and the offsets of the input.
func BenchmarkTransaction(b *testing.B) {
	s := openSite(b)
	claim := s.claim(b)
	tx := s.transactor(s.client, "a")
	var list []Record
	for i := range int32(3) {
		for _, topic := range []string{s.states, s.changes} {
			list = append(list, Record{Topic: topic, Key: keyOf(i, 3), Value: make([]byte, 150)})
		}
	}
	commits := make(map[Partition]Commit)
	b.ReportAllocs()
	for b.Loop() {
		s.begin(tx, claim)
		s.write(tx, list...)
		for _, p := range claim.partitions {
			commits[p] = Commit{Next: commits[p].Next + 1, Metadata: "from=1;states=1-1;changes=1-1"}
		}
		s.must(tx.CommitOffsets(s.ctx, claim, commits))
		s.must(tx.End(s.ctx))
	}
}

// Write alone, in transactions of 100 calls.
func BenchmarkTransactorWrite(b *testing.B) {
	for _, perCall := range []int{10, 1000, 20_000} {
		b.Run(fmt.Sprintf("%d-a-call", perCall), func(b *testing.B) {
			s := openSite(b)
			tx := s.transactor(s.client, "a")
			list := make([]Record, perCall)
			for i := range list {
				list[i] = Record{Topic: s.states, Key: fmt.Appendf(nil, "default|user:%d|ads", i), PartitionKey: fmt.Appendf(nil, "default|user:%d", i), Value: make([]byte, 150)}
			}
			s.begin(tx, nil)
			b.ReportAllocs()
			calls := 0
			for b.Loop() {
				if calls++; calls%100 == 0 {
					s.must(tx.End(s.ctx))
					s.begin(tx, nil)
				}
				s.write(tx, list...)
			}
			s.must(tx.End(s.ctx))
			b.ReportMetric(float64(b.N*perCall)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
