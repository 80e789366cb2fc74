package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// join enters the group and returns the partitions that it was given.
func (m *member) join(ctx context.Context) ([]Partition, error) {
	counts := make(map[string]int, len(m.options.Topics))
	for _, topic := range m.options.Topics {
		count, err := m.client.PartitionCount(ctx, topic)
		if err != nil {
			return nil, err
		}
		counts[topic] = count
	}
	resp, err := m.joinGroup(ctx)
	if err != nil {
		return nil, err
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.Generation, sync.MemberID = m.options.Group, resp.Generation, resp.MemberID
	if resp.LeaderID == resp.MemberID {
		if sync.GroupAssignment, err = m.assign(resp.Members, counts); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	synced := kmsg.NewPtrSyncGroupResponse()
	if err := m.client.sendToCoordinator(ctx, groupNamed(m.options.Group), m.options.RebalanceTimeout, sync, synced); err != nil {
		return nil, err
	}
	if err := m.client.coordinatorCode(groupNamed(m.options.Group), synced.ErrorCode); err != nil {
		if isRebalance(err) {
			return nil, errRebalance // somebody came meanwhile
		}
		return nil, fmt.Errorf("sync group: %w", err)
	}
	m.pulse = new(pulse)
	m.pulse.beat(began)
	assigned, err := decodeAssignment(synced.MemberAssignment)
	if err != nil {
		return nil, err
	}
	m.generation, m.owned = resp.Generation, assigned
	return assigned, nil
}

// joinGroup waits until every member has joined.
func (m *member) joinGroup(ctx context.Context) (*kmsg.JoinGroupResponse, error) {
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = protocolName(m.options.Stripes)
	protocol.Metadata = encodeSubscription(m.options.Topics, m.owned, m.generation)
	for {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.MemberID = m.options.Group, m.memberID
		req.SessionTimeoutMillis = int32(m.options.SessionTimeout.Milliseconds())
		req.RebalanceTimeoutMillis = int32(m.options.RebalanceTimeout.Milliseconds())
		req.ProtocolType = "consumer"
		req.Protocols = []kmsg.JoinGroupRequestProtocol{protocol}
		resp := kmsg.NewPtrJoinGroupResponse()
		if err := m.client.sendToCoordinator(ctx, groupNamed(m.options.Group), m.options.RebalanceTimeout, req, resp); err != nil {
			return nil, err
		}
		if kafkago.Error(resp.ErrorCode) == kafkago.MemberIDRequired && m.memberID == "" {
			// So that a join whose answer is lost leaves no ghost that holds the others up.
			m.memberID = resp.MemberID
			continue
		}
		if err := m.client.coordinatorCode(groupNamed(m.options.Group), resp.ErrorCode); err != nil {
			return nil, fmt.Errorf("join group: %w", err)
		}
		m.memberID = resp.MemberID
		return resp, nil
	}
}

// assign is the leader's work: it shares the stripes among the members.
func (m *member) assign(members []kmsg.JoinGroupResponseMember, counts map[string]int) ([]kmsg.SyncGroupRequestGroupAssignment, error) {
	partitions := groupPartitions(counts, m.options.Stripes)
	stripes := make([]int, 0, len(partitions))
	for s := range partitions {
		stripes = append(stripes, s)
	}
	var seen []stripeMember
	for _, other := range members {
		s, err := decodeSubscription(other.MemberID, other.ProtocolMetadata, m.options.Stripes)
		if err != nil {
			return nil, err
		}
		seen = append(seen, s)
	}
	var answer []kmsg.SyncGroupRequestGroupAssignment
	for id, stripes := range assignStripes(stripes, seen) {
		var all []Partition
		for _, s := range stripes {
			all = append(all, partitions[s]...)
		}
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = id, encodeAssignment(all)
		answer = append(answer, a)
	}
	return answer, nil
}

// beat sends heartbeats until ctx ends, and ends the generation when an answer says
// that it is over, or when none comes for a whole session. It goes on beating after a
// rebalance was announced: the work that has to stop first may take a while.
func (m *member) beat(ctx context.Context, end context.CancelCauseFunc) {
	var pause backoff
	// The first at once, and whatever the age: it counts from before the sync, which may have
	// waited long for the others.
	next, first := time.Duration(0), true
	for ; sleep(ctx, next) == nil; first = false {
		next = m.options.HeartbeatInterval
		left := m.options.SessionTimeout - m.pulse.age()
		if first {
			left = m.options.SessionTimeout
		}
		if left <= 0 {
			end(errSessionLost)
			return
		}
		err := m.sendHeartbeat(ctx, min(left, m.options.SessionTimeout/3))
		switch {
		case err == nil:
			pause.reset()
		case isRebalance(err):
			end(errRebalance)
		case classify(err) == verdictFenced || classify(err) == verdictFatal:
			end(fmt.Errorf("heartbeat: %w", err))
			return
		default:
			next = min(pause.step(), m.options.HeartbeatInterval)
		}
	}
}

// sendHeartbeat sends one. An answered one counts from when it was sent: the broker's
// clock for the session starts later, never earlier.
func (m *member) sendHeartbeat(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.Generation, req.MemberID = m.options.Group, m.generation, m.memberID
	resp := kmsg.NewPtrHeartbeatResponse()
	began := time.Now()
	if err := m.client.sendToCoordinator(ctx, groupNamed(m.options.Group), 0, req, resp); err != nil {
		return err
	}
	err := m.client.coordinatorCode(groupNamed(m.options.Group), resp.ErrorCode)
	if err == nil || isRebalance(err) {
		m.pulse.beat(began)
	}
	return err
}

// leaveTimeout bounds the polite goodbye. Without it the others wait for the session's end.
const leaveTimeout = 2 * time.Second

// leave gives the stripes back at once, and forgets the member id. Also after ctx has ended.
func (m *member) leave(ctx context.Context) {
	if m.memberID == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	id := m.memberID
	m.memberID = ""
	err := m.client.persist(ctx, "leave group", func(ctx context.Context) error {
		one := kmsg.NewLeaveGroupRequestMember()
		one.MemberID = id
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group, req.Members = m.options.Group, []kmsg.LeaveGroupRequestMember{one}
		resp := kmsg.NewPtrLeaveGroupResponse()
		if err := m.client.sendToCoordinator(ctx, groupNamed(m.options.Group), 0, req, resp); err != nil {
			return err
		}
		return m.client.coordinatorCode(groupNamed(m.options.Group), resp.ErrorCode)
	})
	if err != nil && !errors.Is(err, ErrFenced) {
		m.log.Warn("kafka group could not be left, the others wait for the session to end", "error", err)
	}
}

func isRebalance(err error) bool {
	code, ok := codeOf(err)
	return ok && kafkago.Error(code) == kafkago.RebalanceInProgress
}
