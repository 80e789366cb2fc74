package broker

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// served are the requests that the broker answers: what clients, and whoever
// provisions topics, need. The engine knows more. What it would do for them
// can delete records (DeleteRecords), end other people's transactions
// (WriteTxnMarkers), leave files that it cannot write again (quotas), or panic
// (share groups).
var served = []kmsg.Key{
	kmsg.ApiVersions, kmsg.Metadata, kmsg.DescribeCluster, kmsg.DescribeTopicPartitions,
	kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.OffsetForLeaderEpoch,
	kmsg.FindCoordinator, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup,
	kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.OffsetDelete,
	kmsg.DescribeGroups, kmsg.ListGroups, kmsg.DeleteGroups,
	kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.EndTxn,
	kmsg.DescribeProducers, kmsg.DescribeTransactions, kmsg.ListTransactions,
	kmsg.CreateTopics, kmsg.DeleteTopics, kmsg.CreatePartitions,
	kmsg.DescribeConfigs, kmsg.IncrementalAlterConfigs,
}

// servedVersions are the versions of a released Kafka, for the served requests.
// Clients are told of no others.
func servedVersions() *kversion.Versions {
	versions := kversion.Stable()
	for key := range int16(kmsg.MaxKey + 1) {
		if !slices.Contains(served, kmsg.Key(key)) {
			versions.SetMaxKeyVersion(key, -1)
		}
	}
	versions.SetMaxKeyVersion(int16(kmsg.Produce), maxProduceVersion)
	return versions
}

// maxProduceVersion is the last one that names topics by name. A later one with
// two ids that the engine does not know, as a client has them whose topics were
// made anew, makes it panic.
const maxProduceVersion = 12

// newestVersions has the newest served version of each api key, -1 for a key
// that is not served.
var newestVersions = func() (table [kmsg.MaxKey + 1]int16) {
	versions := servedVersions()
	for key := range table {
		table[key], _ = versions.LookupMaxKeyVersion(int16(key)) // -1 when there is none
	}
	return table
}()
