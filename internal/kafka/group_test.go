package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// quickGroup is a group with time-outs for tests.
func quickGroup(topics ...string) GroupOptions {
	return GroupOptions{
		Group: "processor", Topics: topics, Stripes: 4,
		SessionTimeout: time.Second, HeartbeatInterval: 50 * time.Millisecond, JoinBackoff: 20 * time.Millisecond,
	}
}

// groupMember runs RunGroup and reports the claims it is given.
type groupMember struct {
	t      testing.TB
	cancel context.CancelFunc
	claims chan *Claim // as work begins
	ended  chan *Claim // as work returns
	result chan error
}

// startMember runs a member. during runs in each work, before it waits for the generation's end.
func startMember(t testing.TB, c *Client, options GroupOptions, during func(context.Context, *Claim) error) *groupMember {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	m := &groupMember{t: t, cancel: cancel, claims: make(chan *Claim, 1000), ended: make(chan *Claim, 1000), result: make(chan error, 1)}
	go func() {
		m.result <- c.RunGroup(ctx, options, func(ctx context.Context, claim *Claim) error {
			m.claims <- claim
			defer func() { m.ended <- claim }()
			if during != nil {
				if err := during(ctx, claim); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return ctx.Err()
		})
		close(m.result)
	}()
	t.Cleanup(func() { m.stop() })
	return m
}

func (m *groupMember) stop() {
	m.t.Helper()
	m.cancel()
	if err := receive(m.t, "the end of a member", m.result); err != nil {
		m.t.Errorf("member ended with %v", err)
	}
}

// awaitStripes waits until the claims of one generation are n, and returns them by stripe.
func (m *groupMember) awaitStripes(n int) map[int]*Claim {
	m.t.Helper()
	var have map[int]*Claim
	generation := int32(-1)
	for len(have) != n {
		c := receive(m.t, fmt.Sprintf("%d claims (have %v)", n, have), m.claims)
		if c.Generation() != generation {
			generation, have = c.Generation(), make(map[int]*Claim)
		}
		have[c.Stripe()] = c
	}
	return have
}

func TestRunGroup_GivesEachMemberWholeStripesAndHandsThemOverFastOnAPoliteLeave(t *testing.T) {
	cluster := startBroker(t, 8, []string{"consent.events", "consent.state"})
	options := quickGroup("consent.events", "consent.state")
	options.SessionTimeout = 20 * time.Second // so that only the goodbye can explain the speed
	options.HeartbeatInterval = 100 * time.Millisecond
	one := startMember(t, connect(t, cluster), options, nil)
	for s, c := range one.awaitStripes(4) {
		want := []Partition{{"consent.events", int32(s)}, {"consent.events", int32(s + 4)}, {"consent.state", int32(s)}, {"consent.state", int32(s + 4)}}
		if !slices.Equal(c.Partitions(), want) {
			t.Errorf("stripe %d has %v", s, c.Partitions())
		}
		if age := c.HeartbeatAge(); age < 0 || age > 5*time.Second {
			t.Errorf("heartbeat age is %s", age)
		}
	}
	two := startMember(t, connect(t, cluster), options, nil)
	first, second := one.awaitStripes(2), two.awaitStripes(2)
	for s := range 4 {
		if (first[s] == nil) == (second[s] == nil) {
			t.Errorf("stripe %d: %v and %v", s, first[s], second[s])
		}
	}
	began := time.Now()
	one.stop()
	two.awaitStripes(4)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("handing over took %s", took)
	}
}

// Two members and one stripe: one of them must be told that it got nothing.
func TestRunGroup_TellsAMemberThatItGotNothing(t *testing.T) {
	cluster := startBroker(t, 6, []string{"consent.events"})
	options := quickGroup("consent.events")
	options.Stripes = 1
	told := make(chan []int, 1000)
	options.Assigned = func(stripes []int) { told <- stripes }
	startMember(t, connect(t, cluster), options, nil)
	if stripes := receive(t, "the lone member's assignment", told); !slices.Equal(stripes, []int{0}) {
		t.Fatalf("the lone member was told %v", stripes)
	}
	startMember(t, connect(t, cluster), options, nil)
	for len(receive(t, "an assignment without stripes", told)) > 0 {
	}
}

// A member that falls silent loses its stripes after a session. What it commits from then
// on is refused, even though it has not noticed, and the new owner's position stays.
func TestRunGroup_HandsOverASilentMembersStripesAndFencesItsCommits(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 4, []string{"consent.events"})
	wake := make(chan struct{})
	zombie := startMember(t, connect(t, cluster), quickGroup("consent.events"), func(context.Context, *Claim) error {
		<-wake // whatever happens to its generation
		return nil
	})
	old := zombie.awaitStripes(4)[1]
	cluster.ControlKey(kmsg.Heartbeat.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if req.(*kmsg.HeartbeatRequest).MemberID == old.MemberID() {
			return nil, errors.New("lost"), true
		}
		return nil, nil, false
	})
	began := time.Now()
	two := startMember(t, connect(t, cluster), quickGroup("consent.events"), nil)
	claim := two.awaitStripes(4)[1]
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("handing over took %s, the session is 1s", took)
	}
	p := claim.Partitions()[0]
	if err := claim.Commit(ctx, map[Partition]Commit{p: {Next: 7}}); err != nil {
		t.Fatal(err)
	}
	if err := old.Commit(ctx, map[Partition]Commit{p: {Next: 3}}); !errors.Is(err, ErrFenced) {
		t.Errorf("the zombie's commit: %v", err)
	}
	if got, err := claim.Committed(ctx); err != nil || got[p].Next != 7 {
		t.Errorf("committed is %v, %v", got, err)
	}
	close(wake)
}

func TestClaimCommit_KeepsMetadataAndIsReadByTheNextOwner(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 4, []string{"consent.events"})
	c := connect(t, cluster)
	produceN(t, ctx, c, "a", 3)
	options := quickGroup("consent.events")
	options.Start = Latest
	one := startMember(t, c, options, nil)
	claim := one.awaitStripes(4)[2]
	p := claim.Partitions()[0]
	if got, err := claim.Committed(ctx); err != nil || len(got) != 0 {
		t.Fatalf("before the first commit: %v, %v", got, err)
	}
	ends, err := c.Offsets(ctx, claim.Partitions(), Latest)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := claim.Positions(ctx); err != nil || got[p] != ends[p] {
		t.Fatalf("positions without a commit: %v, %v; want the start %v", got, err, ends)
	}
	want := Commit{Next: 42, Metadata: "pending=77;n=0;before=1760000000000"}
	if err := claim.Commit(ctx, map[Partition]Commit{p: want}); err != nil {
		t.Fatal(err)
	}
	if err := claim.Commit(ctx, map[Partition]Commit{p: {Next: 43, Metadata: strings.Repeat("x", MaxMetadataBytes+1)}}); !errors.Is(err, ErrMetadataTooLarge) {
		t.Fatalf("large metadata: %v", err)
	}
	if err := claim.Commit(ctx, map[Partition]Commit{{"consent.events", 3}: {Next: 1}}); err == nil {
		t.Fatal("a partition of another stripe is committed")
	}
	one.stop()
	if err := claim.Commit(ctx, map[Partition]Commit{p: {Next: 44}}); !errors.Is(err, ErrFenced) {
		t.Fatalf("commit after the claim's end: %v", err)
	}
	two := startMember(t, c, options, nil)
	next := two.awaitStripes(4)[2]
	if got, err := next.Committed(ctx); err != nil || len(got) != 1 || got[p] != want {
		t.Fatalf("the next owner reads %v, %v", got, err)
	}
	if got, err := next.Positions(ctx); err != nil || got[p] != 42 {
		t.Fatalf("positions: %v, %v", got, err)
	}
}

func TestClaimCommit_IsFencedByTheBrokerWithAnOldGenerationOrAStrangersID(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 4, []string{"consent.events"})
	one := startMember(t, connect(t, cluster), quickGroup("consent.events"), nil)
	claim := one.awaitStripes(4)[0]
	commits := map[Partition]Commit{claim.partitions[0]: {Next: 1}}
	stale := &Claim{client: claim.client, group: claim.group, partitions: claim.partitions, memberID: claim.memberID, generation: claim.generation - 1}
	if err := stale.Commit(ctx, commits); !errors.Is(err, ErrFenced) || errors.Is(err, ErrIndefinite) {
		t.Errorf("old generation: %v", err)
	}
	stranger := &Claim{client: claim.client, group: claim.group, partitions: claim.partitions, memberID: "stranger", generation: claim.generation}
	if err := stranger.Commit(ctx, commits); !errors.Is(err, ErrFenced) {
		t.Errorf("unknown member: %v", err)
	}
	if err := claim.Commit(ctx, commits); err != nil {
		t.Errorf("the owner: %v", err)
	}
}

// A commit without an answer ends the membership, even if work hides the error: the next
// one has another member id, which the late twin of the commit does not have.
func TestClaimCommit_WithoutAnAnswerEndsTheMembership(t *testing.T) {
	for name, fault := range map[string]func(*kfake.Cluster){
		"cut connection": func(cluster *kfake.Cluster) {
			cluster.ControlKey(kmsg.OffsetCommit.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
				return nil, errors.New("cut"), true
			})
		},
		"timed out": func(cluster *kfake.Cluster) {
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.RequestTimedOut, Count: 1})
		},
		"coordinator not available": func(cluster *kfake.Cluster) {
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorNotAvailable, Count: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := startBroker(t, 4, []string{"consent.events"})
			var once atomic.Bool
			errs := make(chan error, 2)
			one := startMember(t, connect(t, cluster), quickGroup("consent.events"), func(ctx context.Context, claim *Claim) error {
				if claim.Stripe() != 0 || !once.CompareAndSwap(false, true) {
					return nil
				}
				fault(cluster)
				commit := map[Partition]Commit{claim.Partitions()[0]: {Next: 1}}
				errs <- claim.Commit(ctx, commit)
				errs <- claim.Commit(ctx, commit)
				return nil // and then waits for the generation's end, as if nothing had happened
			})
			before := one.awaitStripes(4)[0]
			for range 2 {
				if err := receive(t, "the commit's error", errs); !errors.Is(err, ErrIndefinite) || errors.Is(err, ErrFenced) {
					t.Fatal(err)
				}
			}
			// A second member makes the generation end, as happens sooner or later.
			startMember(t, connect(t, cluster), quickGroup("consent.events"), nil)
			after := receive(t, "a claim of the next membership", one.claims)
			if after.MemberID() == before.MemberID() {
				t.Fatalf("the member id is still %s", after.MemberID())
			}
		})
	}
}

// A new owner must not read a position that a transaction of the old one may still change.
func TestClaimCommitted_WaitsForAnOpenTransaction(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 4, []string{"consent.events"})
	c := connect(t, cluster)
	claim := startMember(t, c, quickGroup("consent.events"), nil).awaitStripes(4)[0]
	p := claim.Partitions()[0]

	old, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID("old-owner"), kgo.MaxVersions(kversion.V3_5_0()))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	id, epoch, err := old.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = "old-owner", id, epoch, "processor"
	if resp, err := add.RequestWith(ctx, old); err != nil || resp.ErrorCode != 0 {
		t.Fatal(resp, err)
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.ProducerID, commit.ProducerEpoch, commit.Group = "old-owner", id, epoch, "processor"
	commit.Generation, commit.MemberID = claim.Generation(), claim.MemberID()
	one := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	one.Partition, one.Offset = p.Index, 77
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = p.Topic, []kmsg.TxnOffsetCommitRequestTopicPartition{one}
	commit.Topics = append(commit.Topics, topic)
	if resp, err := commit.RequestWith(ctx, old); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(resp, err)
	}

	asked := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Observe: true, Count: -1})
	answer := make(chan Commit, 1)
	go func() {
		got, err := claim.Committed(ctx)
		if err != nil {
			t.Error(err)
		}
		answer <- got[p]
	}()
	if err := asked.Wait(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if len(answer) > 0 {
		t.Fatalf("an answer while the transaction is open: %+v", <-answer)
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "old-owner", id, epoch, true
	if resp, err := end.RequestWith(ctx, old); err != nil || resp.ErrorCode != 0 {
		t.Fatal(resp, err)
	}
	if got := receive(t, "the committed position", answer); got.Next != 77 {
		t.Fatalf("position %+v, want 77", got)
	}
}

func TestClaimCommit_RepeatsWhatWasRefusedForNow(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 4, []string{"consent.events"})
	one := startMember(t, connect(t, cluster), quickGroup("consent.events"), nil)
	claim := one.awaitStripes(4)[0]
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorLoadInProgress, Count: 2},
		kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.NotCoordinator, Count: 1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.UnstableOffsetCommit, Count: 3})
	p := claim.Partitions()[0]
	if err := claim.Commit(ctx, map[Partition]Commit{p: {Next: 5}}); err != nil {
		t.Fatal(err)
	}
	if got, err := claim.Committed(ctx); err != nil || got[p].Next != 5 {
		t.Fatalf("%v, %v", got, err)
	}
}

// The next generation begins nowhere before all work of the last has returned.
func TestRunGroup_JoinsAgainOnlyAfterAllWorkHasReturned(t *testing.T) {
	cluster := startBroker(t, 4, []string{"consent.events"})
	options := quickGroup("consent.events")
	options.RebalanceTimeout = 30 * time.Second
	release, stuck := make(chan struct{}), make(chan struct{}, 10)
	var holding atomic.Bool
	one := startMember(t, connect(t, cluster), options, func(ctx context.Context, claim *Claim) error {
		<-ctx.Done()
		if claim.Stripe() == 3 && holding.CompareAndSwap(false, true) {
			stuck <- struct{}{}
			<-release
			if age := claim.HeartbeatAge(); age > time.Second {
				t.Errorf("no heartbeat for %s while work was stopping", age)
			}
		}
		return nil
	})
	one.awaitStripes(4)
	two := startMember(t, connect(t, cluster), options, nil)
	receive(t, "work that takes its time", stuck)
	for range 3 {
		receive(t, "the other work returns", one.ended)
	}
	// Longer than a session: the slow member is kept alive by its heartbeats.
	select {
	case c := <-two.claims:
		t.Fatalf("stripe %d went to the second member while its old owner worked", c.Stripe())
	case c := <-one.claims:
		t.Fatalf("stripe %d was given out while work of the last generation ran", c.Stripe())
	case <-time.After(3 * options.SessionTimeout / 2):
	}
	close(release)
	one.awaitStripes(2)
	two.awaitStripes(2)
}

func TestRunGroup_LeavesAndJoinsAsANewMemberWhenWorkFails(t *testing.T) {
	cluster := startBroker(t, 4, []string{"consent.events"})
	var failures atomic.Int32
	one := startMember(t, connect(t, cluster), quickGroup("consent.events"), func(_ context.Context, claim *Claim) error {
		if claim.Stripe() == 1 && failures.Add(1) <= 3 {
			return errors.New("cannot go on")
		}
		return nil
	})
	ids := make(map[string]bool)
	for failures.Load() < 4 {
		ids[receive(t, "claims", one.claims).MemberID()] = true
	}
	eventually(t, "all are claimed by the last member", func() bool {
		for {
			select {
			case c := <-one.claims:
				ids[c.MemberID()] = true
			default:
				return len(ids) == 4
			}
		}
	})
}

func TestRunGroup_WorkThatReturnsEarlyIsDoneForTheGeneration(t *testing.T) {
	cluster := startBroker(t, 4, []string{"consent.events"})
	ctx, cancel := context.WithCancel(testContext(t))
	var runs atomic.Int32
	result := make(chan error, 1)
	go func() {
		result <- connect(t, cluster).RunGroup(ctx, quickGroup("consent.events"), func(context.Context, *Claim) error {
			runs.Add(1)
			return nil
		})
	}()
	beats := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Observe: true, Count: -1})
	if err := beats.Wait(ctx, 10); err != nil {
		t.Fatal(err)
	}
	if got := runs.Load(); got != 4 {
		t.Errorf("work ran %d times for 4 stripes", got)
	}
	cancel()
	if err := receive(t, "the end", result); err != nil {
		t.Error(err)
	}
}

func TestRunGroup_ReturnsWhatNoPatienceCures(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 4, []string{"consent.events"})
	c := connect(t, cluster)
	work := func(ctx context.Context, _ *Claim) error { <-ctx.Done(); return nil }
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.GroupAuthorizationFailed, Count: 1})
	if err := c.RunGroup(ctx, quickGroup("consent.events"), work); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("no right to the group: %v", err)
	}
	bad := quickGroup()
	bad.Group, bad.Stripes, bad.HeartbeatInterval = "", -1, time.Hour
	err := c.RunGroup(ctx, bad, work)
	for _, fault := range []string{"group", "topics", "stripes", "heartbeat"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s is not named in %v", fault, err)
		}
	}
}

func TestRunGroup_WaitsForMembersWithAnotherStripeCountToLeave(t *testing.T) {
	cluster := startBroker(t, 4, []string{"consent.events"})
	four := startMember(t, connect(t, cluster), quickGroup("consent.events"), nil)
	four.awaitStripes(4)
	options := quickGroup("consent.events")
	options.Stripes = 2
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Observe: true, Count: -1})
	two := startMember(t, connect(t, cluster), options, nil)
	if err := refused.Wait(testContext(t), 4); err != nil {
		t.Fatal(err)
	}
	if len(two.claims) != 0 || len(four.ended) != 0 {
		t.Fatal("a member with another stripe count disturbs the group")
	}
	four.stop()
	two.awaitStripes(2)
}
