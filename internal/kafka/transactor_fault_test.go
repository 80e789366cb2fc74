package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Requests that were refused for now are repeated, and nothing comes of it: the
// transaction is whole, and so is the next one.
func TestTransactor_RepeatsWhatIsRefusedForNow(t *testing.T) {
	s, cluster := fakeSite(t)
	claim := s.claim(t)
	var faults []*kfake.FaultHandle
	refuse := func(key kmsg.Key, errs ...*kerr.Error) {
		for _, err := range errs {
			faults = append(faults, cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: 2}))
		}
	}
	refuse(kmsg.FindCoordinator, kerr.CoordinatorNotAvailable)
	refuse(kmsg.InitProducerID, kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable)
	tx := s.transactor(s.client, "a")
	refuse(kmsg.AddPartitionsToTxn, kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator)
	faults = append(faults, cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Topic: s.states, Partitions: []int32{1}, Err: kerr.UnknownTopicOrPartition, Count: 2})) // as right after creation
	refuse(kmsg.AddOffsetsToTxn, kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator)
	refuse(kmsg.Produce, kerr.NotEnoughReplicas, kerr.NotLeaderForPartition)
	refuse(kmsg.TxnOffsetCommit, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator)
	refuse(kmsg.EndTxn, kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator)
	for i := range 2 {
		s.begin(tx, claim)
		s.write(tx, records(s.states, fmt.Sprint(i), 30)...)
		s.must(tx.CommitOffsets(s.ctx, claim, map[Partition]Commit{claim.Partitions()[0]: {Next: NextOffset(i)}}))
		s.must(tx.End(s.ctx))
	}
	for i, f := range faults {
		if f.Hits() == 0 {
			t.Errorf("fault %d never hit: the test shows nothing", i)
		}
	}
	if got := s.visibleSet(s.states); len(got) != 60 || len(slices.Compact(got)) != 60 {
		t.Errorf("%d records: %v", len(got), got)
	}
	if c, _ := s.committed(claim, claim.Partitions()[0]); c.Next != 1 {
		t.Errorf("committed: %+v", c)
	}
}

func TestTransactor_StopsAtWhatNoRepetitionCures(t *testing.T) {
	s, cluster := fakeSite(t)
	claim := s.claim(t)
	for name, c := range map[string]struct {
		key  kmsg.Key
		err  *kerr.Error
		want error
	}{
		"begin":            {kmsg.AddPartitionsToTxn, kerr.TransactionalIDAuthorizationFailed, ErrUnauthorized},
		"begin, fenced":    {kmsg.AddPartitionsToTxn, kerr.ProducerFenced, ErrFenced},
		"begin, forgotten": {kmsg.AddOffsetsToTxn, kerr.InvalidProducerIDMapping, Code(kerr.InvalidProducerIDMapping.Code)},
		"write":            {kmsg.Produce, kerr.OutOfOrderSequenceNumber, Code(kerr.OutOfOrderSequenceNumber.Code)},
		"write, fenced":    {kmsg.Produce, kerr.InvalidProducerEpoch, ErrFenced},
		"write, not known": {kmsg.Produce, kerr.InvalidTxnState, Code(kerr.InvalidTxnState.Code)},
		"offsets":          {kmsg.TxnOffsetCommit, kerr.RebalanceInProgress, ErrFenced},
		"end":              {kmsg.EndTxn, kerr.InvalidTxnState, Code(kerr.InvalidTxnState.Code)},
		"end, fenced":      {kmsg.EndTxn, kerr.ProducerFenced, ErrFenced},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			tx := s.transactor(s.client, "a")
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{c.key}, Err: c.err, Count: 1})
			err := s.whole(tx, claim, records(s.states, name, 3), 1)
			if !errors.Is(err, c.want) || errors.Is(err, ErrIndefinite) || errors.Is(err, ErrFenced) != errors.Is(c.want, ErrFenced) {
				t.Fatalf("error is %v, want %v", err, c.want)
			}
			if again := tx.Abort(s.ctx); again != err { //nolint:errorlint // the same one
				t.Errorf("the next call returns %v", again)
			}
		})
	}
	s.transactor(s.client, "a")
	if got := s.visibleSet(s.states); len(got) != 0 {
		t.Errorf("visible: %v", got)
	}
}

// whole is a transaction from begin to end.
func (s *site) whole(tx *Transactor, claim *Claim, records []Record, next NextOffset) error {
	if err := tx.Begin(s.ctx, claim, s.all(s.states, s.changes)); err != nil {
		return err
	}
	if _, err := tx.Write(s.ctx, records); err != nil {
		return err
	}
	if err := tx.CommitOffsets(s.ctx, claim, map[Partition]Commit{claim.Partitions()[0]: {Next: next}}); err != nil {
		return err
	}
	return tx.End(s.ctx)
}

// An answer that is lost does not matter within its transaction: the repeat is told what the
// first copy came to. It does matter for the next one, which the late copy could reach.
func TestTransactor_FinishesATransactionThroughLostAnswersAndBeginsNoOtherUnderTheEpoch(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn} {
		for name, f := range map[string]fate{"cut": cut, "unanswered": unanswered, "late": late} {
			t.Run(key.Name()+" "+name, func(t *testing.T) {
				s := openSite(t)
				claim := s.claim(t)
				c, line := s.connect()
				tx := s.transactor(c, "a")
				line.next(key, f)
				s.must(s.whole(tx, claim, records(s.states, "first", 9), 1))
				err := tx.Begin(s.ctx, claim, s.all(s.states))
				if key == kmsg.Produce { // a batch is told from its copies by its sequence
					s.must(err)
					s.must(tx.Abort(s.ctx))
				} else if !errors.Is(err, ErrIndefinite) || errors.Is(err, ErrFenced) {
					t.Errorf("the next transaction: %v", err)
				}
				if f == late {
					receive(t, "the late request", line.held)()
				}
				s.must(s.whole(s.transactor(c, "a"), claim, records(s.states, "second", 9), 2))
				var want []string
				for i := range 9 {
					want = append(want, fmt.Sprintf("first #%d", i), fmt.Sprintf("second #%d", i))
				}
				slices.Sort(want)
				if got := s.visibleSet(s.states); !slices.Equal(got, want) {
					t.Errorf("visible: %v", got)
				}
				if c, _ := s.committed(claim, claim.Partitions()[0]); c.Next != 2 {
					t.Errorf("committed: %+v", c)
				}
			})
		}
	}
}

// The hazard that Begin refuses to run into: the late copy of an EndTxn ends the next
// transaction of the same epoch half-way.
func TestTransactor_ALateEndWouldCommitHalfOfTheNextTransaction(t *testing.T) {
	s := openSite(t)
	claim := s.claim(t)
	c, line := s.connect()
	tx := s.transactor(c, "a")
	line.next(kmsg.EndTxn, late)
	s.must(s.whole(tx, claim, records(s.states, "first", 3), 1))
	tx.twin = nil // as if Begin did not care
	s.must(tx.Begin(s.ctx, claim, s.all(s.states)))
	s.write(tx, records(s.states, "half", 3)...)
	receive(t, "the late request", line.held)()
	if got := s.visibleSet(s.states); len(got) != 6 {
		t.Errorf("the broker does not have the hazard: visible are %v", got)
	}
	if err := tx.CommitOffsets(s.ctx, claim, map[Partition]Commit{claim.Partitions()[0]: {Next: 2}}); err == nil {
		t.Error("offsets are taken into a transaction that is over")
	}
}

func TestTransactor_LeavesTheOutcomeOpenWhenNoEndIsAnswered(t *testing.T) {
	for name, f := range map[string]fate{"carried out": unanswered, "not carried out": cut} {
		t.Run(name, func(t *testing.T) {
			s := openSite(t)
			claim := s.claim(t)
			c, line := s.connect()
			tx := s.transactor(c, "a")
			s.begin(tx, claim)
			s.write(tx, records(s.states, "v", 9)...)
			s.must(tx.CommitOffsets(s.ctx, claim, map[Partition]Commit{claim.Partitions()[0]: {Next: 1}}))
			line.disturb(func(key kmsg.Key) fate {
				if key == kmsg.EndTxn {
					return f
				}
				return delivered
			})
			ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
			defer cancel()
			if err := tx.End(ctx); !errors.Is(err, ErrIndefinite) || errors.Is(err, ErrFenced) {
				t.Fatalf("error is %v", err)
			}
			line.disturb(nil)
			s.transactor(c, "a")
			got, c2 := len(s.visibleSet(s.states)), NextOffset(0)
			if commit, ok := s.committed(claim, claim.Partitions()[0]); ok {
				c2 = commit.Next
			}
			if f == unanswered && (got != 9 || c2 != 1) || f == cut && (got != 0 || c2 != 0) {
				t.Errorf("%d records are visible, and %d is committed", got, c2)
			}
		})
	}
}

// A copying job over every kind of trouble on its line: cut, unanswered and late requests,
// and others that take the transactional id away. Each input ends up in the output
// once, in order.
func TestTransactor_CopiesEachInputOnceThroughAStorm(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := openSite(t)
	claim := s.claim(t)
	input := claim.Partitions()[0]
	c, line := s.connect()
	var counts [4]int
	var mu sync.Mutex
	line.disturb(func(key kmsg.Key) fate {
		mu.Lock()
		defer mu.Unlock()
		f := delivered
		switch key {
		case kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn, kmsg.OffsetFetch:
			if len(line.held) > 0 && random.IntN(8) == 0 { // the late ones arrive in between
				(<-line.held)()
			}
			if random.IntN(12) == 0 {
				f = fate(1 + random.IntN(3))
			}
		}
		counts[f]++
		return f
	})
	const total = 1500
	reopened, fenced, stolen := 0, 0, false
	for done := NextOffset(0); done < total; reopened++ {
		tx := s.transactor(c, "a")
		commits, err := (&Claim{client: c, group: claim.group, partitions: claim.partitions, memberID: claim.memberID, generation: claim.generation}).Committed(s.ctx)
		s.must(err)
		done = commits[input].Next
		for err == nil && done < total {
			if random.IntN(20) == 0 {
				s.transactor(s.client, "a")
				stolen = true
			}
			n := min(1+random.IntN(9), int(total-done))
			err = s.copyBatch(tx, claim, input, done, n)
			if err == nil {
				done += NextOffset(n)
			}
			if errors.Is(err, ErrFenced) {
				fenced++
			}
		}
	}
	for len(line.held) > 0 {
		(<-line.held)()
	}
	s.transactor(s.client, "a")
	for f, n := range counts {
		if n == 0 {
			t.Errorf("no request met fate %d: the test shows little", f)
		}
	}
	if stolen && fenced == 0 {
		t.Error("the id was taken away, and nobody noticed")
	}
	t.Logf("%d transactors, %d fenced; requests by fate: %v", reopened, fenced, counts)
	for _, topic := range []string{s.states, s.changes} {
		next := 0
		for _, v := range s.visible(topic)[0] {
			if want := fmt.Sprintf("input %d", next); v != want {
				t.Fatalf("%s: %q, want %q", topic, v, want)
			}
			next++
		}
		if next != total {
			t.Errorf("%s has %d of %d", topic, next, total)
		}
	}
	if got, _ := s.committed(claim, input); got.Next != total {
		t.Errorf("committed: %+v", got)
	}
}

// copyBatch is a transaction that turns n inputs into outputs in partition 0.
func (s *site) copyBatch(tx *Transactor, claim *Claim, input Partition, from NextOffset, n int) error {
	key := keyOf(0, 3)
	var list []Record
	for i := range n {
		for _, topic := range []string{s.states, s.changes} {
			list = append(list, Record{Topic: topic, Key: key, Value: fmt.Appendf(nil, "input %d", int(from)+i)})
		}
	}
	if err := tx.Begin(s.ctx, claim, []Partition{{s.states, 0}, {s.changes, 0}}); err != nil {
		return err
	}
	if _, err := tx.Write(s.ctx, list); err != nil {
		return err
	}
	if err := tx.CommitOffsets(s.ctx, claim, map[Partition]Commit{input: {Next: from + NextOffset(n)}}); err != nil {
		return err
	}
	return tx.End(s.ctx)
}

// Each leader gets its own request, and a partition that moves is followed.
func TestTransactorWrite_FollowsLeadersAndKeepsOrder(t *testing.T) {
	s, cluster := fakeSite(t, kfake.NumBrokers(3))
	tx, err := s.client.OpenTransactor(s.ctx, TransactorOptions{ID: s.prefix + "a", MaxBatchBytes: 400})
	s.must(err)
	produced := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1})
	for round := range 4 {
		for i := range int32(3) { // what the client knows about leaders is wrong now
			s.must(cluster.MoveTopicPartition(s.states, i, (i+int32(round))%3))
		}
		s.must(tx.Begin(s.ctx, nil, s.all(s.states)))
		s.write(tx, records(s.states, fmt.Sprintf("round %d", round), 60)...)
		s.must(tx.End(s.ctx))
	}
	if produced.Hits() < 4*3 {
		t.Errorf("%d requests: not every leader had one", produced.Hits())
	}
	next := make(map[string]int)
	for index, values := range s.visible(s.states) {
		for _, v := range values {
			var round, i int
			if _, err := fmt.Sscanf(v, "round %d #%d", &round, &i); err != nil {
				t.Fatal(err)
			}
			at := fmt.Sprintf("%d in round %d", index, round)
			if before, ok := next[at]; ok && i <= before {
				t.Fatalf("partition %s: record %d is behind %d", at, i, before)
			}
			next[at] = i
		}
	}
	if got := s.visibleSet(s.states); len(got) != 4*60 || len(slices.Compact(got)) != 4*60 {
		t.Errorf("%d records", len(got))
	}
}

func TestTransactorWrite_SendsABrokerOneRequestOverAllTopics(t *testing.T) {
	s, cluster := fakeSite(t)
	tx := s.transactor(s.client, "a")
	s.begin(tx, nil)
	sent := batchSizes(cluster)
	s.write(tx, slices.Concat(records(s.states, "state", 30), records(s.changes, "change", 30))...)
	s.must(tx.End(s.ctx))
	if got := sent(); len(got) != 1 || len(got[0]) != 6 {
		t.Errorf("batches by request: %v, want one request with 6", got)
	}
}

func TestTransactorWrite_CutsBatchesAtMaxBatchBytes(t *testing.T) {
	s, cluster := fakeSite(t)
	const most = 400
	tx, err := s.client.OpenTransactor(s.ctx, TransactorOptions{ID: s.prefix + "a", MaxBatchBytes: most})
	s.must(err)
	s.begin(tx, nil)
	sent := batchSizes(cluster)
	s.write(tx, records(s.states, "state", 60)...)
	s.must(tx.End(s.ctx))
	requests := sent()
	if len(requests) < 3 {
		t.Errorf("%d requests carry 60 records: the test shows nothing", len(requests))
	}
	for _, sizes := range requests {
		if len(sizes) > 3 || slices.Max(sizes) > most {
			t.Errorf("batches of %v bytes, at most %d and one a partition is asked for", sizes, most)
		}
	}
	if got := s.visibleSet(s.states); len(got) != 60 {
		t.Errorf("%d records", len(got))
	}
}

// batchSizes returns the bytes of the batches of each Produce request from now on.
func batchSizes(cluster *kfake.Cluster) func() [][]int {
	var mu sync.Mutex
	var requests [][]int
	cluster.ControlKey(kmsg.Produce.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		var sizes []int
		for _, t := range req.(*kmsg.ProduceRequest).Topics {
			for _, p := range t.Partitions {
				sizes = append(sizes, len(p.Records))
			}
		}
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, sizes)
		return nil, nil, false
	})
	return func() [][]int {
		mu.Lock()
		defer mu.Unlock()
		return requests
	}
}

// The coordinator of a transactional id is another one than that of a group of the same name.
func TestTransactor_AsksForTheCoordinatorOfTransactions(t *testing.T) {
	s, cluster := fakeSite(t)
	var mu sync.Mutex
	asked := make(map[string]int8)
	cluster.ControlKey(kmsg.FindCoordinator.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		r := req.(*kmsg.FindCoordinatorRequest)
		mu.Lock()
		defer mu.Unlock()
		asked[r.CoordinatorKey] = r.CoordinatorType
		return nil, nil, false
	})
	claim := s.claim(t)
	s.must(s.whole(s.transactor(s.client, "a"), claim, records(s.states, "v", 3), 1))
	mu.Lock()
	defer mu.Unlock()
	if group, ok := asked[claim.group]; !ok || group != 0 || asked[s.prefix+"a"] != 1 {
		t.Errorf("kinds of coordinators asked for: %v", asked)
	}
}
