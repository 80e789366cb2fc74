package model

// verdict is a broker's answer.
type verdict uint8

const (
	done    verdict = iota
	busy            // CONCURRENT_TRANSACTIONS and the like: asked again until it passes
	fenced          // 22, 47, 90: somebody else owns it
	invalid         // 48: there is no transaction to add to, or to end
)

// handle does what a request asks for, when it arrives. Answers that carry more than a
// verdict put it where the sender will find it: in r.
func (m *Model) handle(s *State, r *request) verdict {
	if r.kind == atInit {
		return m.initProducer(s, r)
	}
	if r.epoch != s.tx.epoch {
		return fenced
	}
	switch r.kind {
	case atAnnounce:
		return m.handleAnnounce(s, r)
	case atBegin:
		if s.tx.status == committing || s.tx.settled {
			return busy
		}
		s.tx.status, s.tx.gen = ongoing, r.gen
		return done
	case atWrite:
		if s.tx.status != ongoing {
			return invalid
		}
		if s.tx.gen != r.gen {
			s.wrong = twoWriters
		}
		m.append(s, r)
		return done
	case atCommit:
		return m.handleCommit(s, r)
	default:
		return m.handleEnd(s, r)
	}
}

// initProducer ends what the former owner left open, and refuses all that it still sends.
// It waits for the markers of a commit that is decided, but not for the group's
// coordinator to apply the offsets: that comes some time behind the marker.
func (m *Model) initProducer(s *State, r *request) verdict {
	if s.tx.status == committing {
		return busy
	}
	if m.off(NoFencing) {
		r.epoch = s.tx.epoch
		return done
	}
	if s.tx.status == ongoing {
		settle(s, func(int) fate { return aborted }, func(int) fate { return aborted })
		s.tx.pending, s.tx.offsets = false, [maxPartitions]commit{}
	}
	s.tx.epoch++
	s.tx.status, s.tx.gen, s.tx.last = empty, 0, false
	r.epoch = s.tx.epoch
	return done
}

// handleAnnounce is a whole small transaction: the owner record, and the committed offsets
// as they are, so that the group's coordinator checks the generation.
func (m *Model) handleAnnounce(s *State, r *request) verdict {
	if s.tx.status == committing || s.tx.settled {
		return busy
	}
	if r.gen != s.gen && !m.off(AnnounceWithoutOffsets) {
		return fenced
	}
	if r.gen < s.announced {
		s.wrong = zombieAnnounced
	}
	s.announced = r.gen
	return done
}

// handleCommit is TxnOffsetCommit, at the group's coordinator.
func (m *Model) handleCommit(s *State, r *request) verdict {
	switch {
	case r.gen != s.gen && !m.off(NoGeneration):
		return fenced
	case s.tx.status != ongoing:
		return invalid
	}
	for p := range m.config.Partitions {
		s.tx.offsets[p] = s.offsets[p]
		if r.work.to[p] > r.work.from[p] {
			s.tx.offsets[p] = commit{r.work.to[p], r.work.notes[p]}
		}
	}
	s.tx.pending = true
	return done
}

// handleEnd decides a commit. Its markers come later.
func (m *Model) handleEnd(s *State, r *request) verdict {
	switch {
	case s.tx.status == committing:
		return busy
	case s.tx.status == empty && s.tx.last:
		return done // the same verdict, repeated
	case s.tx.status == empty:
		return invalid
	}
	if r.gen < s.taken {
		s.wrong = zombieCommitted
	}
	s.tx.status, s.tx.last = committing, true
	return done
}

// append writes a batch's states and changes into the open transaction, and notes where
// they are.
func (m *Model) append(s *State, r *request) {
	f := m.fold(s, &r.work)
	for p := range m.config.Partitions {
		var written note
		for subject := range m.subjects {
			if moved := f.rows[subject]; moved.moved == 1 && int(m.homes[subject]) == p {
				at := put(s.rows[p][:], row{f.base[subject], uint8(subject), moved.input, open, r.epoch})
				written.rows.cover(at)
			}
		}
		for _, c := range f.changes[p].list[:f.changes[p].n] {
			if m.told(&r.work, p, c.input) {
				if at, ok := toldAt(s, p, c.input); ok && !m.off(SpanOfWrittenOnly) {
					written.changes.cover(at)
				}
				continue
			}
			if !m.off(ChangesOutside) {
				c.fate = open
				written.changes.cover(put(s.changes[p][:], c))
			}
		}
		r.work.wrote[p] = written.rows.end
		m.keep(&r.work.notes[p], written, r.work.from[p])
	}
	if m.off(CarryInside) {
		m.carry(s, &f, open)
	}
}

// keep makes the new note of the last one and of what was written now.
func (m *Model) keep(n *note, written note, from uint8) {
	if written == (note{}) {
		if m.off(ForgetNote) {
			*n = note{}
		}
		return
	}
	n.from, n.rows = from, written.rows
	if written.changes.end > 0 || m.off(ForgetNote) {
		n.changes = written.changes
	}
}

func (m *Model) told(w *work, p int, input uint8) bool {
	return w.told[p]>>input&1 == 1 && !m.off(NoDedup)
}

// carry writes derived events, which anybody may have written before. A log that is full
// has so many copies already that one more shows nothing new.
func (m *Model) carry(s *State, f *folded, as fate) {
	for _, id := range f.carried.list[:f.carried.n] {
		log := s.events[m.events[id].home][:]
		if log[len(log)-1].fate == free {
			put(log, event{id, as})
		}
	}
}

// settle gives each partition's open records their fate.
func settle(s *State, rows, changes func(p int) fate) {
	for p := range s.rows {
		for i := range s.rows[p] {
			if r := &s.rows[p][i]; r.fate == open {
				if r.fate = rows(p); r.fate == aborted {
					*r = row{fate: aborted} // a hole
				}
			}
		}
		for i := range s.changes[p] {
			if c := &s.changes[p][i]; c.fate == open {
				if c.fate = changes(p); c.fate == aborted {
					*c = change{fate: aborted}
				}
			}
		}
		for i := range s.events[p] {
			if e := &s.events[p][i]; e.fate == open {
				if e.fate = rows(p); e.fate == aborted {
					*e = event{fate: aborted}
				}
			}
		}
	}
}

func all(f fate) func(int) fate { return func(int) fate { return f } }

// markers writes the markers of a decided commit.
func markers(s *State) {
	settle(s, all(committed), all(committed))
	s.tx.status, s.tx.gen = empty, 0
	s.tx.settled, s.tx.pending = s.tx.pending, false
	if !s.tx.settled {
		s.tx.offsets = [maxPartitions]commit{}
	}
}

// apply lets the group's coordinator apply a committed transaction's offsets.
func apply(s *State) {
	s.offsets, s.tx.offsets, s.tx.settled = s.tx.offsets, [maxPartitions]commit{}, false
}

// pieces counts what a kill of the broker can leave behind of a transaction, each for itself:
// states and changes of each partition, and the offsets.
func pieces(s *State) (n int, present [2*maxPartitions + 1]bool) {
	for p := range s.rows {
		for i := range s.rows[p] {
			present[p] = present[p] || s.rows[p][i].fate == open
		}
		for i := range s.changes[p] {
			present[maxPartitions+p] = present[maxPartitions+p] || s.changes[p][i].fate == open
		}
	}
	present[2*maxPartitions] = s.tx.pending
	for _, is := range present {
		if is {
			n++
		}
	}
	return n, present
}

// tear leaves of the transaction the pieces whose bit is set, counted over those that there are.
func tear(s *State, left int) {
	_, present := pieces(s)
	var stays [len(present)]bool
	bit := 0
	for i := range present {
		if present[i] {
			stays[i] = left>>bit&1 == 1
			bit++
		}
	}
	outcome := func(stay bool) fate {
		if stay {
			return committed
		}
		return aborted
	}
	settle(s, func(p int) fate { return outcome(stays[p]) }, func(p int) fate { return outcome(stays[maxPartitions+p]) })
	if stays[2*maxPartitions] {
		s.offsets = s.tx.offsets
	}
	s.tx = coordinator{epoch: s.tx.epoch}
	s.tears--
	s.torn = true
	for i := range s.instances {
		s.instances[i].cut = s.instances[i].at != idle
	}
}
