package kafka

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
)

// begin opens a transaction over all of the site's states and changes.
func (s *site) begin(tx *Transactor, claim *Claim) {
	s.t.Helper()
	if err := tx.Begin(s.ctx, claim, s.all(s.states, s.changes)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) write(tx *Transactor, records ...Record) []Position {
	s.t.Helper()
	positions, err := tx.Write(s.ctx, records)
	if err != nil {
		s.t.Fatal(err)
	}
	return positions
}

// committed is what the group has committed in a partition.
func (s *site) committed(claim *Claim, p Partition) (Commit, bool) {
	s.t.Helper()
	commits, err := claim.Committed(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	c, ok := commits[p]
	return c, ok
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestTransactor_ShowsRecordsAndOffsetsOnlyOnceEnded(t *testing.T) {
	s := openSite(t)
	claim := s.claim(t)
	tx, err := s.client.OpenTransactor(s.ctx, TransactorOptions{ID: s.prefix + "a", MaxBatchBytes: 300})
	s.must(err)
	input := claim.Partitions()[1]
	all := slices.Concat(records(s.states, "state", 40), records(s.changes, "change", 40))
	for i := range all { // states and changes in turn, so that the order of a partition is not that of a topic
		if j := (i * 37) % len(all); j > i {
			all[i], all[j] = all[j], all[i]
		}
	}

	s.begin(tx, claim)
	positions := slices.Concat(s.write(tx, all[:50]...), s.write(tx, all[50:]...))
	s.must(tx.CommitOffsets(s.ctx, claim, map[Partition]Commit{input: {Next: 7, Metadata: "from=3;states=0-9"}}))
	if got := s.visibleNow(s.states); len(got) != 0 {
		t.Fatalf("visible before the end: %v", got)
	}
	ends, err := s.client.Offsets(s.ctx, s.all(s.states), Latest)
	s.must(err)
	if total := ends[Partition{s.states, 0}] + ends[Partition{s.states, 1}] + ends[Partition{s.states, 2}]; total != 40 {
		t.Fatalf("%d states in the log before the end, want 40: the test shows nothing", total)
	}
	s.must(tx.End(s.ctx))

	if c, ok := s.committed(claim, input); !ok || c != (Commit{Next: 7, Metadata: "from=3;states=0-9"}) {
		t.Errorf("committed: %+v, %t", c, ok)
	}
	want := map[string]map[int32][]string{s.states: {}, s.changes: {}}
	last := make(map[Partition]LastOffset)
	for i, p := range positions {
		if index := PartitionFor(all[i].PartitionKey, 3); p.Topic != all[i].Topic || p.Index != index {
			t.Fatalf("record %d of %s is at %s, want partition %d", i, all[i].Topic, p, index)
		}
		if before, ok := last[p.Partition]; ok && p.Offset != before+1 {
			t.Errorf("record %d is at %s, the one before it at %d", i, p, before)
		}
		last[p.Partition] = p.Offset
		want[p.Topic][p.Index] = append(want[p.Topic][p.Index], string(all[i].Value))
	}
	for topic, values := range want {
		if got := s.visible(topic); !maps.EqualFunc(got, values, slices.Equal[[]string]) {
			t.Errorf("%s has %v, want %v", topic, got, values)
		}
	}
}

func TestTransactor_LeavesNothingOfAnAbortedTransactionAndGoesOn(t *testing.T) {
	s := openSite(t)
	claim := s.claim(t)
	tx := s.transactor(s.client, "a")
	input := claim.Partitions()[0]
	for i := range 8 { // past the five batches that a broker remembers
		s.begin(tx, claim)
		s.write(tx, records(s.states, fmt.Sprintf("round %d", i), 6)...)
		s.must(tx.CommitOffsets(s.ctx, claim, map[Partition]Commit{input: {Next: NextOffset(i)}}))
		if i%2 == 0 {
			s.must(tx.Abort(s.ctx))
		} else {
			s.must(tx.End(s.ctx))
		}
		c, ok := s.committed(claim, input)
		if want := NextOffset(i - 1 + i%2); i > 0 && c.Next != want || i == 0 && ok {
			t.Fatalf("after round %d %+v is committed", i, c)
		}
	}
	for _, v := range s.visibleSet(s.states) {
		if round := v[len("round ")]; (round-'0')%2 == 0 {
			t.Errorf("%q was aborted", v)
		}
	}
	if got := s.visibleSet(s.states); len(got) != 4*6 {
		t.Errorf("%d records, want 24", len(got))
	}
}

// Whatever the old owner tries after a new one opened is refused, and what it had open is gone.
func TestTransactor_IsFencedByANewerOwnerInEveryCall(t *testing.T) {
	s := openSite(t)
	claim := s.claim(t)
	commits := map[Partition]Commit{claim.Partitions()[0]: {Next: 1}}
	for name, try := range map[string]func(*Transactor) error{
		"begin": func(tx *Transactor) error { return tx.Begin(s.ctx, nil, s.all(s.states)) },
		"begin with offsets only": func(tx *Transactor) error {
			return tx.Begin(s.ctx, claim, nil)
		},
		"write":          func(tx *Transactor) error { _, err := tx.Write(s.ctx, records(s.states, "zombie", 3)); return err },
		"commit offsets": func(tx *Transactor) error { return tx.CommitOffsets(s.ctx, claim, commits) },
		"end":            func(tx *Transactor) error { return tx.End(s.ctx) },
		"abort":          func(tx *Transactor) error { return tx.Abort(s.ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			old := s.transactor(s.client, name)
			if !strings.HasPrefix(name, "begin") {
				s.begin(old, claim)
				s.write(old, records(s.states, "zombie", 3)...)
				if name != "commit offsets" {
					s.must(old.CommitOffsets(s.ctx, claim, commits))
				}
			}
			next := s.transactor(s.client, name)
			if next.Sender() == old.Sender() {
				t.Fatalf("both are %s", next.Sender())
			}
			err := try(old)
			if !errors.Is(err, ErrFenced) || errors.Is(err, ErrIndefinite) {
				t.Errorf("the old owner's error is %v", err)
			}
			if again := old.Begin(s.ctx, nil, s.all(s.changes)); again != err { //nolint:errorlint // the same one
				t.Errorf("later calls return %v", again)
			}
			s.must(next.Begin(s.ctx, nil, s.all(s.states)))
			s.write(next, records(s.states, "next "+name, 3)...)
			s.must(next.End(s.ctx))
		})
	}
	got := s.visibleSet(s.states)
	if len(got) != 6*3 || slices.ContainsFunc(got, func(v string) bool { return strings.HasPrefix(v, "zombie") }) {
		t.Errorf("visible: %v", got)
	}
	if c, ok := s.committed(claim, claim.Partitions()[0]); ok {
		t.Errorf("a zombie committed %+v", c)
	}
}

// The generation is the second lock: with the transactional id still its own, a member that
// lost its stripes cannot commit.
func TestTransactorCommitOffsets_IsFencedWithAnOldGenerationOrAStrangersID(t *testing.T) {
	s := openSite(t)
	claim := s.claim(t)
	for name, wrong := range map[string]*Claim{
		"old generation": {client: claim.client, group: claim.group, partitions: claim.partitions, memberID: claim.memberID, generation: claim.generation - 1},
		"stranger":       {client: claim.client, group: claim.group, partitions: claim.partitions, memberID: "stranger", generation: claim.generation},
		"nobody":         {client: claim.client, group: claim.group, partitions: claim.partitions, generation: -1},
		"returned":       {client: claim.client, group: claim.group, partitions: claim.partitions, memberID: claim.memberID, generation: claim.generation, closed: true},
	} {
		tx := s.transactor(s.client, "a")
		s.begin(tx, wrong)
		s.write(tx, records(s.states, "wrong", 3)...)
		if err := tx.CommitOffsets(s.ctx, wrong, map[Partition]Commit{claim.partitions[0]: {Next: 9}}); !errors.Is(err, ErrFenced) {
			t.Errorf("%s: %v", name, err)
		}
		if err := tx.End(s.ctx); !errors.Is(err, ErrFenced) {
			t.Errorf("%s: the end after it: %v", name, err)
		}
	}
	s.transactor(s.client, "a") // ends what is open
	if got := s.visibleSet(s.states); len(got) != 0 {
		t.Errorf("visible: %v", got)
	}
	if c, ok := s.committed(claim, claim.partitions[0]); ok {
		t.Errorf("committed: %+v", c)
	}
}

// After OpenTransactor nothing of the former owner is open: reading to the end of the log
// and the committed offsets does not wait.
func TestOpenTransactor_EndsWhatTheFormerOwnerLeftOpen(t *testing.T) {
	s := openSite(t)
	claim := s.claim(t)
	for range 5 {
		old := s.transactor(s.client, "a")
		s.begin(old, claim)
		s.write(old, records(s.states, "old", 6)...)
		s.must(old.CommitOffsets(s.ctx, claim, map[Partition]Commit{claim.Partitions()[0]: {Next: 5}}))
		s.transactor(s.client, "a")
		stable, err := s.client.Offsets(s.ctx, s.all(s.states), LatestStable)
		s.must(err)
		ends, err := s.client.Offsets(s.ctx, s.all(s.states), Latest)
		s.must(err)
		if !maps.Equal(stable, ends) {
			t.Errorf("stable to %v, the log ends at %v", stable, ends)
		}
		if c, ok := s.committed(claim, claim.Partitions()[0]); ok {
			t.Errorf("committed: %+v", c)
		}
	}
	if got := s.visibleSet(s.states); len(got) != 0 {
		t.Errorf("visible: %v", got)
	}
}

func TestTransactor_RefusesCallsOutOfPlaceAndEveryCallAfterwards(t *testing.T) {
	s := openSite(t)
	claim := s.claim(t)
	other := &Claim{client: claim.client, group: claim.group, partitions: claim.partitions, memberID: claim.memberID, generation: claim.generation}
	commits := map[Partition]Commit{claim.Partitions()[0]: {Next: 1}}
	open := func(tx *Transactor) error { return tx.Begin(s.ctx, claim, []Partition{{s.states, 0}, {s.states, 0}}) }
	write := func(tx *Transactor, r Record) error { _, err := tx.Write(s.ctx, []Record{r}); return err }
	for name, c := range map[string]struct {
		do   func(*Transactor) error
		want error  // nil = any
		text string // part of it
	}{
		"begin twice":         {func(tx *Transactor) error { return errors.Join(open(tx), open(tx)) }, nil, "still open"},
		"begin of nothing":    {func(tx *Transactor) error { return tx.Begin(s.ctx, nil, nil) }, nil, "neither"},
		"unknown partition":   {func(tx *Transactor) error { return tx.Begin(s.ctx, nil, []Partition{{s.states, 3}}) }, ErrUnknownTopic, "it has 3"},
		"negative partition":  {func(tx *Transactor) error { return tx.Begin(s.ctx, nil, []Partition{{s.states, -1}}) }, ErrUnknownTopic, ""},
		"unknown topic":       {func(tx *Transactor) error { return tx.Begin(s.ctx, nil, []Partition{{s.prefix + "no", 0}}) }, ErrUnknownTopic, ""},
		"write without begin": {func(tx *Transactor) error { return write(tx, Record{Topic: s.states}) }, nil, "no transaction"},
		"write elsewhere": {func(tx *Transactor) error {
			return errors.Join(open(tx), write(tx, Record{Topic: s.states, Key: keyOf(1, 3)}))
		}, nil, "not part of the transaction"},
		"write to another topic": {func(tx *Transactor) error {
			return errors.Join(open(tx), write(tx, Record{Topic: s.changes, Key: keyOf(0, 3)}))
		}, nil, "not part of the transaction"},
		"write where the one before went": {func(tx *Transactor) error {
			return errors.Join(open(tx), tx.End(s.ctx), tx.Begin(s.ctx, nil, []Partition{{s.states, 1}}), write(tx, Record{Topic: s.states, Key: keyOf(0, 3)}))
		}, nil, "not part of the transaction"},
		"write too much": {func(tx *Transactor) error {
			return errors.Join(open(tx), write(tx, Record{Topic: s.states, Key: keyOf(0, 3), Value: make([]byte, 1_000_000)}))
		}, ErrTooLarge, ""},
		"end without begin":   {func(tx *Transactor) error { return tx.End(s.ctx) }, nil, "no transaction"},
		"abort without begin": {func(tx *Transactor) error { return tx.Abort(s.ctx) }, nil, "no transaction"},
		"offsets twice": {func(tx *Transactor) error {
			return errors.Join(open(tx), tx.CommitOffsets(s.ctx, claim, commits), tx.CommitOffsets(s.ctx, claim, commits))
		}, nil, "already"},
		"offsets without begin":    {func(tx *Transactor) error { return tx.CommitOffsets(s.ctx, claim, commits) }, nil, "no transaction"},
		"offsets of another claim": {func(tx *Transactor) error { return errors.Join(open(tx), tx.CommitOffsets(s.ctx, other, commits)) }, nil, "not the claim"},
		"offsets of another partition": {func(tx *Transactor) error {
			return errors.Join(open(tx), tx.CommitOffsets(s.ctx, claim, map[Partition]Commit{{s.states, 0}: {}}))
		}, nil, "not a partition"},
		"too much metadata": {func(tx *Transactor) error {
			return errors.Join(open(tx), tx.CommitOffsets(s.ctx, claim, map[Partition]Commit{claim.Partitions()[0]: {Metadata: strings.Repeat("x", MaxMetadataBytes+1)}}))
		}, ErrMetadataTooLarge, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			tx := s.transactor(s.client, "a")
			err := c.do(tx)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("error is %v", err)
			}
			if errors.Is(err, ErrFenced) || errors.Is(err, ErrIndefinite) {
				t.Errorf("%v asks for more than a new transactor", err)
			}
			if err := tx.Begin(s.ctx, claim, nil); err == nil {
				t.Error("the next call is taken")
			}
		})
	}
	tx := s.transactor(s.client, "a")
	s.must(open(tx))
	s.must(tx.CommitOffsets(s.ctx, claim, nil)) // nothing is nothing
	s.must(tx.CommitOffsets(s.ctx, claim, commits))
	s.must(tx.End(s.ctx))
	if c, _ := s.committed(claim, claim.Partitions()[0]); c.Next != 1 {
		t.Errorf("committed: %+v", c)
	}
}

func TestOpenTransactor_SaysWhatIsWrongWithItsOptions(t *testing.T) {
	s := openSite(t)
	if _, err := s.client.OpenTransactor(s.ctx, TransactorOptions{}); err == nil {
		t.Error("no transactional id is taken")
	}
	_, err := s.client.OpenTransactor(s.ctx, TransactorOptions{ID: s.prefix + "a", Timeout: 16 * 60 * 1e9})
	var code Code
	if !errors.As(err, &code) || kafkago.Error(code) != kafkago.InvalidTransactionTimeout || !strings.Contains(err.Error(), "transaction.max.timeout.ms") {
		t.Errorf("time-out of 16 minutes: %v", err)
	}
}

func TestSender_NamesIDAndEpoch(t *testing.T) {
	if got := (Sender{ID: 1234, Epoch: 5}).String(); got != "1234/5" {
		t.Error(got)
	}
}

func TestTopicID_TellsTopicsApart(t *testing.T) {
	s := openSite(t)
	states, err := s.client.TopicID(s.ctx, s.states)
	s.must(err)
	again, err := s.client.TopicID(s.ctx, s.states)
	s.must(err)
	changes, err := s.client.TopicID(s.ctx, s.changes)
	s.must(err)
	if states == ([16]byte{}) || states != again || states == changes {
		t.Errorf("states %x, again %x, changes %x", states, again, changes)
	}
	if _, err := s.client.TopicID(s.ctx, s.prefix+"no"); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("unknown topic: %v", err)
	}
}
