package model

import (
	"errors"
	"fmt"
)

// The invariants. Each error that a check gives wraps one of them.
var (
	ErrFolded   = errors.New("I1: each input is folded exactly once into the committed state, in order")
	ErrTold     = errors.New("I2: each change is visible exactly once to a read_committed reader")
	ErrCarried  = errors.New("I3: what is carried stands, readable, before the offset that it follows from is committed")
	ErrZombie   = errors.New("I4: nothing that a former owner writes is visible after the takeover")
	ErrStore    = errors.New("I5: a local store holds nothing but what is committed")
	ErrDecision = errors.New("I7: only the owner answers, within its lease, and just what is committed")
)

// wrong is what a step did that it must not. A state keeps it, so that the check of the
// state finds it.
type wrong uint8

const (
	_ wrong = iota
	twoWriters
	zombieCommitted
	zombieAnnounced
	restoredWrong
	answeredByFormer
	answeredUncommitted
	answeredStale
)

var wrongs = map[wrong]error{
	twoWriters:          fmt.Errorf("%w: two owners wrote into one transaction", ErrZombie),
	zombieCommitted:     fmt.Errorf("%w: a former owner committed when its successor had read the offsets", ErrZombie),
	zombieAnnounced:     fmt.Errorf("%w: a former owner announced itself over its successor", ErrZombie),
	restoredWrong:       fmt.Errorf("%w: a takeover restored another state than the fold of what is before its offset", ErrFolded),
	answeredByFormer:    fmt.Errorf("%w: a former owner answered", ErrDecision),
	answeredUncommitted: fmt.Errorf("%w: the answer holds an input that is not committed", ErrDecision),
	answeredStale:       fmt.Errorf("%w: the answer lacks an input that somebody else has committed", ErrDecision),
}

func (m *Model) check(s *State) error {
	if err := wrongs[s.wrong]; err != nil {
		return err
	}
	for p := range m.config.Partitions {
		if err := m.checkLogs(s, p); err != nil {
			return err
		}
		if err := m.checkCarried(s, p); err != nil {
			return err
		}
		if err := m.checkStores(s, p); err != nil {
			return err
		}
		if s.torn || s.tx.status == committing || s.tx.settled {
			continue
		}
		if err := m.checkCommit(s, p, s.offsets[p].next); err != nil {
			return err
		}
	}
	return m.checkEnd(s)
}

// decided is the offset of a partition that is committed, or will be whatever comes.
func decided(s *State, p int) uint8 {
	if s.tx.status == committing && s.tx.pending || s.tx.settled {
		return s.tx.offsets[p].next
	}
	return s.offsets[p].next
}

// checkLogs: whatever is visible is right, torn or not.
func (m *Model) checkLogs(s *State, p int) error {
	for i, r := range s.rows[p] {
		if r.fate == committed && r.folded != m.right(s, int(r.subject), r.input+1) {
			return fmt.Errorf("%w: states/%d@%d of %s holds %s", ErrFolded, p, i, m.subjects[r.subject], r.folded)
		}
	}
	var seen uint8
	for i, c := range s.changes[p] {
		if c.fate != committed {
			continue
		}
		e := m.effect(s, p, c.input)
		switch {
		case seen>>c.input&1 == 1:
			return fmt.Errorf("%w: changes/%d@%d tells input %d again", ErrTold, p, i, c.input)
		case seen>>c.input > 0:
			return fmt.Errorf("%w: changes/%d@%d tells input %d behind a later one", ErrTold, p, i, c.input)
		case e == nil || c.version != m.right(s, int(e.subject), c.input+1).version():
			return fmt.Errorf("%w: changes/%d@%d tells input %d as version %d", ErrTold, p, i, c.input, c.version)
		}
		seen |= 1 << c.input
	}
	return nil
}

// checkCarried: no log of events has a transaction in it, and nothing that a committed
// input carries is missing.
func (m *Model) checkCarried(s *State, p int) error {
	for i := range s.events[p] {
		e := s.events[p][i]
		if e.fate == open || e.fate == aborted {
			return fmt.Errorf("%w: events/%d@%d is part of a transaction, and what is behind it waits for its end", ErrCarried, p, i)
		}
		carries := m.events[e.id].carries
		if carries == 0 || uint8(i) >= s.offsets[p].next {
			continue
		}
		there := false
		for _, other := range s.events[m.events[carries].home] {
			there = there || other == event{carries, committed}
		}
		if !there {
			return fmt.Errorf("%w: %s, which events/%d@%d carries, is lost", ErrCarried, m.events[carries].name, p, i)
		}
	}
	return nil
}

// checkStores: a store is written when its inputs are known to be committed. (A tear behind
// the answer can take that back; then the takeover discards it.)
func (m *Model) checkStores(s *State, p int) error {
	if s.torn {
		return nil
	}
	for i := range s.instances {
		if k := s.instances[i].marks[p]; k.valid && k.topic == s.topic && k.input > decided(s, p) {
			return fmt.Errorf("%w: that of %s holds inputs of partition %d below %d, and %d are committed", ErrStore, instanceName(i), p, k.input, decided(s, p))
		}
	}
	return nil
}

// checkCommit: the newest rows below next are the fold of what is before next, and all of
// it is told.
func (m *Model) checkCommit(s *State, p int, next uint8) error {
	var lists [maxSubjects]list
	for _, r := range s.rows[p] {
		if r.fate == committed && r.input < next {
			lists[r.subject] = r.folded
		}
	}
	for subject, home := range m.homes {
		if want := m.right(s, subject, next); int(home) == p && lists[subject] != want {
			return fmt.Errorf("%w: partition %d is committed to %d, and the state of %s holds %s", ErrFolded, p, next, m.subjects[subject], lists[subject])
		}
	}
	for i := range next {
		e := m.effect(s, p, i)
		if e == nil || e.kind != Plain {
			continue
		}
		if _, ok := toldAt(s, p, i); !ok {
			return fmt.Errorf("%w: partition %d is committed to %d, and input %d is not told", ErrTold, p, next, i)
		}
	}
	return nil
}

// checkEnd: where the owner has nothing left to do, all is as if nothing had ever failed.
func (m *Model) checkEnd(s *State) error {
	if !m.atRest(s) {
		return nil
	}
	for p := range m.config.Partitions {
		if end := readable(s.events[p][:]); s.offsets[p].next != end {
			return fmt.Errorf("%w: partition %d is folded to %d, and %d is committed", ErrFolded, p, end, s.offsets[p].next)
		}
		if err := m.checkCommit(s, p, s.offsets[p].next); err != nil {
			return err
		}
	}
	return nil
}

// atRest reports whether the owner has folded everything and waits for more.
func (m *Model) atRest(s *State) bool {
	if s.owner == 0 || s.tx.status != empty || s.tx.settled {
		return false
	}
	o := &s.instances[s.owner-1]
	if o.at != atFetch || o.cut || o.gen != s.gen || o.epoch != s.tx.epoch {
		return false
	}
	for p := range m.config.Partitions {
		if o.work.from[p] != readable(s.events[p][:]) {
			return false
		}
	}
	return true
}
