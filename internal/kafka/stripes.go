package kafka

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A stripe is a fixed set of partitions that is assigned as a whole: stripe s of n has
// the partitions p with p mod n = s, of all topics of the group. So the same keys of
// several topics are always in one hand.

// protocolName carries the stripe count, so that the broker refuses a member with another.
func protocolName(stripes int) string { return fmt.Sprintf("assent-stripes-%d", stripes) }

// stripeOf returns the stripe of a partition. With 0 stripes each partition has its own.
func stripeOf(partition int32, stripes int) int {
	if stripes == 0 {
		return int(partition)
	}
	return int(partition) % stripes
}

// stripeMember is a group member as the leader sees it.
type stripeMember struct {
	id         string
	owned      []int // stripes that it had
	generation int32 // in which it had them
}

// assignStripes shares stripes among members: no member has two more than another, and
// each keeps what it had where that allows. The same input gives the same answer.
func assignStripes(stripes []int, members []stripeMember) map[string][]int {
	assigned := make(map[string][]int, len(members))
	if len(members) == 0 {
		return assigned
	}
	// The newest claim to a stripe is the true one: an older comes from a member that was away.
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b stripeMember) int {
		return cmp.Or(cmp.Compare(b.generation, a.generation), cmp.Compare(a.id, b.id))
	})
	free := make(map[int]bool, len(stripes))
	for _, s := range stripes {
		free[s] = true
	}
	share, extra := len(stripes)/len(members), len(stripes)%len(members)
	for _, m := range members {
		keep := []int{}
		for _, s := range slices.Sorted(slices.Values(m.owned)) {
			if !free[s] || len(keep) > share || len(keep) == share && extra == 0 {
				continue
			}
			if len(keep) == share {
				extra--
			}
			keep = append(keep, s)
			delete(free, s)
		}
		assigned[m.id] = keep
	}
	for _, s := range slices.Sorted(slices.Values(stripes)) {
		if !free[s] {
			continue
		}
		poorest := members[0].id
		for _, m := range members {
			if len(assigned[m.id]) < len(assigned[poorest]) {
				poorest = m.id
			}
		}
		assigned[poorest] = append(assigned[poorest], s)
	}
	for id := range assigned {
		slices.Sort(assigned[id])
	}
	return assigned
}

// groupPartitions returns the partitions of each stripe, given the size of each topic.
func groupPartitions(counts map[string]int, stripes int) map[int][]Partition {
	groups := make(map[int][]Partition)
	for topic, count := range counts {
		for i := range int32(count) {
			s := stripeOf(i, stripes)
			groups[s] = append(groups[s], Partition{Topic: topic, Index: i})
		}
	}
	for s := range groups {
		sortPartitions(groups[s])
	}
	return groups
}

func sortPartitions(ps []Partition) {
	slices.SortFunc(ps, func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Index, b.Index))
	})
}

// byTopic returns partitions in the form of the protocol's lists.
func byTopic(ps []Partition) map[string][]int32 {
	topics := make(map[string][]int32)
	for _, p := range ps {
		topics[p.Topic] = append(topics[p.Topic], p.Index)
	}
	return topics
}

// encodeSubscription says what a member reads and what it had, in the form of Kafka's
// consumer protocol, so that the usual tools show it.
func encodeSubscription(topics []string, owned []Partition, generation int32) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version = 2 // with owned partitions and their generation
	m.Topics = topics
	m.Generation = generation
	for topic, partitions := range byTopic(owned) {
		o := kmsg.NewConsumerMemberMetadataOwnedPartition()
		o.Topic, o.Partitions = topic, partitions
		m.OwnedPartitions = append(m.OwnedPartitions, o)
	}
	return m.AppendTo(nil)
}

func decodeSubscription(id string, p []byte, stripes int) (stripeMember, error) {
	m := kmsg.NewConsumerMemberMetadata()
	if err := m.ReadFrom(p); err != nil {
		return stripeMember{}, fmt.Errorf("decode subscription of a member: %w", err)
	}
	member := stripeMember{id: id, generation: m.Generation}
	for _, o := range m.OwnedPartitions {
		for _, p := range o.Partitions {
			if s := stripeOf(p, stripes); !slices.Contains(member.owned, s) {
				member.owned = append(member.owned, s)
			}
		}
	}
	return member, nil
}

func encodeAssignment(ps []Partition) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	for topic, partitions := range byTopic(ps) {
		t := kmsg.NewConsumerMemberAssignmentTopic()
		t.Topic, t.Partitions = topic, partitions
		a.Topics = append(a.Topics, t)
	}
	return a.AppendTo(nil)
}

func decodeAssignment(p []byte) ([]Partition, error) {
	if len(p) == 0 {
		return nil, nil
	}
	a := kmsg.NewConsumerMemberAssignment()
	if err := a.ReadFrom(p); err != nil {
		return nil, fmt.Errorf("decode assignment: %w", err)
	}
	var ps []Partition
	for _, t := range a.Topics {
		for _, i := range t.Partitions {
			ps = append(ps, Partition{Topic: t.Topic, Index: i})
		}
	}
	sortPartitions(ps)
	return ps, nil
}
