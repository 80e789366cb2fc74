package model

// folded is what the fold of a batch gives.
type folded struct {
	base    [maxSubjects]list
	rows    [maxSubjects]struct{ moved, input uint8 }
	changes [maxPartitions]tellings
	carried carriedIDs
}

type tellings struct {
	n    int
	list [maxEvents]change
}

type carriedIDs struct {
	n    int
	list [maxEvents]uint8
}

// fold is pure, as the real one is: it depends on the log and on what was folded before.
func (m *Model) fold(s *State, w *work) folded {
	f := folded{base: w.base}
	for p := range m.config.Partitions {
		for i := w.from[p]; i < w.to[p]; i++ {
			e := m.effect(s, p, i)
			if e == nil {
				continue
			}
			f.base[e.subject] = f.base[e.subject].with(int(i))
			f.rows[e.subject].moved, f.rows[e.subject].input = 1, i
			if e.kind == Plain {
				t := &f.changes[p]
				t.list[t.n] = change{input: i, version: f.base[e.subject].version()}
				t.n++
			}
			if e.carries != 0 {
				f.carried.list[f.carried.n] = e.carries
				f.carried.n++
			}
		}
	}
	return f
}

// effect is the event at an offset, nil if its fold moves nothing: a dead letter, an aborted
// record, or an event that is in the log before.
func (m *Model) effect(s *State, p int, offset uint8) *definition {
	at := s.events[p][offset]
	e := &m.events[at.id]
	if at.fate != committed || e.kind == Dead {
		return nil
	}
	for j := range offset {
		if s.events[p][j] == at {
			return nil
		}
	}
	return e
}

// right is what a subject's list must be when everything before next is folded once, in order.
func (m *Model) right(s *State, subject int, next uint8) list {
	var l list
	p := int(m.homes[subject])
	for i := range min(next, maxEvents) {
		if e := m.effect(s, p, i); e != nil && int(e.subject) == subject {
			l = l.with(int(i))
		}
	}
	return l
}

// readable is the offset up to which a read_committed reader comes.
func readable(log []event) uint8 {
	for i := range log {
		if log[i].fate == free || log[i].fate == open {
			return uint8(i)
		}
	}
	return uint8(len(log))
}

func readableRows(log []row) uint8 {
	for i := range log {
		if log[i].fate == free || log[i].fate == open {
			return uint8(i)
		}
	}
	return uint8(len(log))
}

func readableChanges(log []change) uint8 {
	for i := range log {
		if log[i].fate == free || log[i].fate == open {
			return uint8(i)
		}
	}
	return uint8(len(log))
}

// toldAt is where a reader finds the change of an input.
func toldAt(s *State, p int, input uint8) (uint8, bool) {
	for i := range s.changes[p][:] {
		if c := &s.changes[p][i]; c.fate == committed && c.input == input {
			return uint8(i), true
		}
	}
	return 0, false
}
