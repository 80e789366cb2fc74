package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// MaxMetadataBytes bounds the metadata of a commit. Brokers refuse more than this by
// default, and store nothing at all in place of more than 32,767 bytes.
const MaxMetadataBytes = 4096

// Commit is a committed position of a group in one partition.
type Commit struct {
	Next     NextOffset
	Metadata string // up to MaxMetadataBytes
}

// Claim is one stripe in the hands of one member for one generation. For concurrent use.
type Claim struct {
	client     *Client
	group      string
	start      When
	stripe     int
	partitions []Partition
	generation int32
	memberID   string
	pulse      *pulse // of the generation

	mu     sync.Mutex // one commit at a time
	closed bool
	broken error // a commit has no answer
}

// Stripe returns the number of the stripe.
func (c *Claim) Stripe() int { return c.stripe }

// Partitions returns the stripe's partitions, by topic and index.
func (c *Claim) Partitions() []Partition { return slices.Clone(c.partitions) }

// Generation returns the group's generation that the claim was given in.
func (c *Claim) Generation() int32 { return c.generation }

// MemberID returns the member id that the claim was given to.
func (c *Claim) MemberID() string { return c.memberID }

// HeartbeatAge returns how long ago the last heartbeat was sent that the coordinator
// answered. Past the session time-out others may own the stripe.
func (c *Claim) HeartbeatAge() time.Duration { return c.pulse.age() }

// Committed asks the coordinator for the committed positions of the claim's partitions. One
// that has none is absent. While a transaction holds an offset it waits: the answer is
// never one that a transaction still on its way may change.
func (c *Claim) Committed(ctx context.Context) (map[Partition]Commit, error) {
	var commits map[Partition]Commit
	err := c.client.persist(ctx, "fetch committed offsets of group "+c.group, func(ctx context.Context) (err error) {
		commits, err = c.fetchCommitted(ctx)
		return err
	})
	return commits, err
}

func (c *Claim) fetchCommitted(ctx context.Context) (map[Partition]Commit, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = c.group
	req.RequireStable = true
	for topic, partitions := range byTopic(c.partitions) {
		t := kmsg.NewOffsetFetchRequestTopic()
		t.Topic, t.Partitions = topic, partitions
		req.Topics = append(req.Topics, t)
	}
	resp := kmsg.NewPtrOffsetFetchResponse()
	if err := c.client.sendToCoordinator(ctx, groupNamed(c.group), 0, req, resp); err != nil {
		return nil, err
	}
	if err := c.client.coordinatorCode(groupNamed(c.group), resp.ErrorCode); err != nil {
		return nil, err
	}
	commits := make(map[Partition]Commit)
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := c.client.coordinatorCode(groupNamed(c.group), p.ErrorCode); err != nil {
				return nil, fmt.Errorf("partition %s/%d: %w", t.Topic, p.Partition, err)
			}
			if p.Offset < 0 {
				continue
			}
			commit := Commit{Next: NextOffset(p.Offset)}
			if p.Metadata != nil {
				commit.Metadata = *p.Metadata
			}
			commits[Partition{Topic: t.Topic, Index: p.Partition}] = commit
		}
	}
	return commits, nil
}

// Positions returns where to begin reading: the committed position, or GroupOptions.Start
// where there is none.
func (c *Claim) Positions(ctx context.Context) (map[Partition]NextOffset, error) {
	commits, err := c.Committed(ctx)
	if err != nil {
		return nil, err
	}
	positions := make(map[Partition]NextOffset, len(c.partitions))
	var fresh []Partition
	for _, p := range c.partitions {
		if commit, ok := commits[p]; ok {
			positions[p] = commit.Next
		} else {
			fresh = append(fresh, p)
		}
	}
	if len(fresh) == 0 {
		return positions, nil
	}
	starts, err := c.client.Offsets(ctx, fresh, c.start)
	if err != nil {
		return nil, err
	}
	for p, next := range starts {
		positions[p] = next
	}
	return positions, nil
}

// Commit stores positions for the group, under the generation and member id that the
// claim was given with. Errors:
//
//   - ErrFenced: refused, others own the stripe or will in a moment. Stop.
//   - ErrIndefinite: no answer, or one that leaves it open. From here on this claim
//     refuses every commit: a late twin of this one could overwrite it. Return the error
//     from work, so that the membership ends and a new one reads what is committed.
//   - ErrMetadataTooLarge, or another: refused, nothing changed.
func (c *Claim) Commit(ctx context.Context, commits map[Partition]Commit) error {
	if err := c.check(commits); err != nil || len(commits) == 0 {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usable(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.client.config.RequestTimeout)
	defer cancel()
	var pause backoff
	for {
		err := c.commitOnce(ctx, commits)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("commit offsets of group %s: %w", c.group, err)
		switch classify(err) {
		case verdictIndefinite:
			c.broken = fmt.Errorf("%w: %w", ErrIndefinite, err)
			return c.broken
		case verdictFenced, verdictFatal:
			return err
		}
		if pause.wait(ctx) != nil {
			return err // refused until the end: nothing is on its way
		}
	}
}

// check refuses what the broker would refuse, or worse, not refuse.
func (c *Claim) check(commits map[Partition]Commit) error {
	for p, commit := range commits {
		if !slices.Contains(c.partitions, p) {
			return fmt.Errorf("commit %s: not a partition of stripe %d", p, c.stripe)
		}
		if n := len(commit.Metadata); n > MaxMetadataBytes {
			return fmt.Errorf("commit %s: %w: %d bytes, at most %d", p, ErrMetadataTooLarge, n, MaxMetadataBytes)
		}
	}
	return nil
}

// usable says whether the claim may commit still. With c.mu held.
func (c *Claim) usable() error {
	if c.broken != nil {
		return fmt.Errorf("an earlier commit of this claim has no answer: %w", c.broken)
	}
	if c.closed {
		return fmt.Errorf("commit of stripe %d: its work has returned: %w", c.stripe, ErrFenced)
	}
	return nil
}

// commitOnce sends one OffsetCommit. Of several codes it returns the gravest.
func (c *Claim) commitOnce(ctx context.Context, commits map[Partition]Commit) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID = c.group, c.generation, c.memberID
	topics := make(map[string][]kmsg.OffsetCommitRequestTopicPartition)
	for p, commit := range commits {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.Metadata = p.Index, int64(commit.Next), kmsg.StringPtr(commit.Metadata)
		topics[p.Topic] = append(topics[p.Topic], rp)
	}
	for topic, partitions := range topics {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.Partitions = topic, partitions
		req.Topics = append(req.Topics, t)
	}
	resp := kmsg.NewPtrOffsetCommitResponse()
	if err := c.client.sendToCoordinator(ctx, groupNamed(c.group), 0, req, resp); err != nil {
		return err
	}
	var a answers
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			a.take(t.Topic, p.Partition, c.client.coordinatorCode(groupNamed(c.group), p.ErrorCode))
		}
	}
	return a.verdict(len(commits))
}

// close ends the claim with its work. The error is that of a commit that has no answer.
func (c *Claim) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.broken
}
