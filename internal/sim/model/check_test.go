package model

import (
	"errors"
	"testing"
)

// folding gives a model of two inputs of a, and a state in which both are committed and told.
func folding(t *testing.T) (*Model, State) {
	t.Helper()
	m, err := New(small["takeovers"])
	if err != nil {
		t.Fatal(err)
	}
	s := m.starts()[0]
	s.rows[0][0] = row{folded: list(0).with(0), fate: committed, epoch: 2}
	s.rows[0][1] = row{folded: list(0).with(0).with(1), input: 1, fate: committed, epoch: 2}
	s.changes[0][0] = change{input: 0, version: 1, fate: committed}
	s.changes[0][1] = change{input: 1, version: 2, fate: committed}
	s.offsets[0] = commit{next: 2, note: note{from: 1, rows: span{1, 2}, changes: span{1, 2}}}
	s.gen, s.owner, s.tx.epoch = 1, 1, 2
	s.instances[0] = instance{at: atFetch, gen: 1, epoch: 2, work: work{
		base: [maxSubjects]list{list(0).with(0).with(1)},
		from: [maxPartitions]uint8{2}, to: [maxPartitions]uint8{2},
	}}
	return m, s
}

func TestCheck_SeesEachKindOfWrongState(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(m *Model, s *State)
		wants error
	}{
		"nothing is wrong":            {func(*Model, *State) {}, nil},
		"an input folded twice":       {func(_ *Model, s *State) { s.rows[0][1].folded = list(0).with(0).with(1).with(1) }, ErrFolded},
		"an input skipped":            {func(_ *Model, s *State) { s.rows[0][1].folded = list(0).with(1) }, ErrFolded},
		"inputs in another order":     {func(_ *Model, s *State) { s.rows[0][1].folded = list(0).with(1).with(0) }, ErrFolded},
		"the newest row is absent":    {func(_ *Model, s *State) { s.rows[0][1] = row{fate: aborted} }, ErrFolded},
		"committed too little":        {func(_ *Model, s *State) { s.torn, s.offsets[0].next = true, 1 }, ErrFolded},
		"a change told twice":         {func(_ *Model, s *State) { s.changes[0][2] = s.changes[0][1] }, ErrTold},
		"a change not told":           {func(_ *Model, s *State) { s.changes[0][1] = change{fate: aborted} }, ErrTold},
		"changes in another order":    {func(_ *Model, s *State) { s.changes[0][0], s.changes[0][1] = s.changes[0][1], s.changes[0][0] }, ErrTold},
		"a change of another version": {func(_ *Model, s *State) { s.changes[0][1].version = 3 }, ErrTold},
		"an event in a transaction":   {func(_ *Model, s *State) { s.events[0][2] = event{1, open} }, ErrCarried},
		"a store that is ahead":       {func(_ *Model, s *State) { s.instances[1].marks[0] = mark{valid: true, input: 3} }, ErrStore},
		"an answer of a former owner": {func(m *Model, s *State) { s.gen = 2; m.answer(s, 0) }, ErrDecision},
		"an answer that holds more than is committed": {func(m *Model, s *State) {
			s.instances[0].at, s.instances[0].work.to[0] = atStore, 3
			m.answer(s, 0)
		}, ErrDecision},
		"an answer that lacks what a successor committed": {func(m *Model, s *State) {
			s.instances[0].work.from[0], s.tx.epoch = 1, 3
			m.answer(s, 0)
		}, ErrDecision},
		"a restored state that is another": {func(m *Model, s *State) {
			s.instances[0].work.base[0] = list(0).with(1)
			m.live(s, 0)
		}, ErrFolded},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := folding(t)
			c.spoil(m, &s)
			if err := m.check(&s); !errors.Is(err, c.wants) {
				t.Errorf("%v, want %v", err, c.wants)
			}
		})
	}
}

func TestTear_LeavesEachSubsetOfThePieces(t *testing.T) {
	m, s := folding(t)
	s.tears = 1
	s.rows[0][2] = row{folded: overfull, fate: open}
	s.changes[0][2] = change{input: 2, fate: open}
	s.tx = coordinator{epoch: 2, status: ongoing, pending: true, offsets: [maxPartitions]commit{{next: 3}}}
	seen := make(map[[3]bool]bool)
	n, _ := pieces(&s)
	for left := range 1 << n {
		u := s
		tear(&u, left)
		seen[[3]bool{u.rows[0][2].fate == committed, u.changes[0][2].fate == committed, u.offsets[0].next == 3}] = true
		if u.tx.status != empty || u.tx.pending || u.tears != 0 || u.rows[0][2].fate == open {
			t.Errorf("subset %b leaves something open", left)
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d subsets of {states, changes, offsets} of %d partitions, want 8", len(seen), m.config.Partitions)
	}
}

func TestList_KeepsOrderAndNeverTakesTooManyForFew(t *testing.T) {
	l := list(0).with(2).with(0)
	if l.String() != "[2 0]" || l.version() != 2 {
		t.Errorf("%s, version %d", l, l.version())
	}
	for i := range 4 {
		l = l.with(i)
	}
	if l != overfull || l.with(1) != overfull {
		t.Errorf("six entries are %s", l)
	}
}
