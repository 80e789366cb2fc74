package processor

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
)

// operate sends what an operator's tools send; nil = no answer came.
func (s *simulation) operate(req kmsg.Request) kmsg.Response {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.fake.ListenAddrs()...), kgo.Dialer(s.network.DialContext))
	if err != nil {
		s.fault("no operator: %v", err)
		return nil
	}
	defer client.Close()
	resp, err := client.Request(s.ctx, req)
	if err != nil {
		s.fault("an operator gets no answer: %v", err)
		return nil
	}
	return resp
}

// expel takes a process out of the group, by the client id that it has there.
func (s *simulation) expel(clientID string) {
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Groups = []string{s.names.ProcessorGroup()}
	described, ok := s.operate(describe).(*kmsg.DescribeGroupsResponse)
	if !ok {
		return
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = s.names.ProcessorGroup()
	for _, g := range described.Groups {
		for _, m := range g.Members {
			if m.ClientID == clientID {
				one := kmsg.NewLeaveGroupRequestMember()
				one.MemberID = m.MemberID
				leave.Members = append(leave.Members, one)
			}
		}
	}
	if len(leave.Members) > 0 {
		s.operate(leave)
	}
}

// startOver is an operator who has everything folded again: the topics that the
// processor writes are made anew, and the group forgets its offsets. Local stores are of
// another history then.
func (s *simulation) startOver() {
	s.note("-- states, changes and offsets are dropped")
	s.unwatch()
	topics := kmsg.NewPtrDeleteTopicsRequest()
	for _, name := range []string{s.names.State(), s.names.Changes()} {
		t := kmsg.NewDeleteTopicsRequestTopic()
		t.Topic = &name
		topics.Topics, topics.TopicNames = append(topics.Topics, t), append(topics.TopicNames, name)
	}
	group := kmsg.NewPtrDeleteGroupsRequest()
	group.Groups = []string{s.names.ProcessorGroup()}
	s.operate(topics)
	for ; ; time.Sleep(time.Second) { // until the group has no members, of whom some are dead
		deleted, ok := s.operate(group).(*kmsg.DeleteGroupsResponse)
		if !ok || deleted.Groups[0].ErrorCode != kerr.NonEmptyGroup.Code {
			break
		}
	}
	if _, err := s.client.Provision(s.ctx, s.names.Specs(topic.Layout{Partitions: s.partitions, Replication: 1}), false); err != nil {
		s.fault("no topics: %v", err)
	}
	s.shown = make(map[int32]kafka.NextOffset)
	s.tally.again.Add(1)
	s.watch()
}
