package model

// The takeover's steps, in their order. Init, then and only then offsets, verify, restore,
// announce.

// first is the step that a claim begins with.
func (m *Model) first() place {
	if m.off(OffsetsBeforeInit) {
		return atOffsets
	}
	return atInit
}

// offsets reads what is committed. With require_stable it waits for the offsets of a
// transaction that is not settled.
func (m *Model) offsets(s *State, i int) bool {
	if (s.tx.settled || s.tx.pending) && !m.off(NoRequireStable) {
		return false
	}
	in := &s.instances[i]
	in.work = work{}
	for p := range m.config.Partitions {
		in.work.from[p], in.work.notes[p] = s.offsets[p].next, s.offsets[p].note
	}
	s.taken = max(s.taken, in.gen)
	in.at = atVerify
	if m.off(OffsetsBeforeInit) {
		in.at = atInit
	}
	return true
}

// verify looks for what the notes say was written, and goes back to where that began if
// a part is missing; and it collects the changes that readers see already.
func (m *Model) verify(s *State, i int) {
	in := &s.instances[i]
	in.at = atRestore
	if m.off(NoVerify) {
		return
	}
	for p := range m.config.Partitions {
		n := in.work.notes[p]
		rowsThere := n.rows.end == 0 || s.rows[p][n.rows.end-1].fate == committed
		changesThere := n.changes.end == 0 || s.changes[p][n.changes.end-1].fate == committed
		if !rowsThere || !changesThere {
			in.work.from[p] = n.from
		}
		first := n.changes.first
		if m.off(DedupBehindNoteOnly) {
			first = n.changes.end
		}
		for at := first; at < readableChanges(s.changes[p][:]); at++ {
			if c := s.changes[p][at]; c.fate == committed {
				in.work.told[p] |= 1 << c.input
			}
		}
		if m.off(NoOffsetMeansRows) && s.offsets[p] == (commit{}) {
			for _, r := range s.rows[p] {
				if r.fate == committed {
					in.work.from[p] = max(in.work.from[p], r.input+1)
				}
			}
		}
	}
}

// restore takes the local store, if it is a prefix of the changelog, and then the
// changelog to its end. Rows at or above where the fold goes on are not used: their
// transaction was torn, or committed by somebody who took over meanwhile.
func (m *Model) restore(s *State, i int) {
	in := &s.instances[i]
	for p := range m.config.Partitions {
		from, below := uint8(0), in.work.from[p]
		if m.off(RowsBelowCommitUsed) {
			below = max(below, s.offsets[p].next)
		}
		if m.usable(s, i, p) {
			from = in.marks[p].changelog
			for subject := range m.subjects {
				if int(m.homes[subject]) == p {
					in.work.base[subject] = in.stored[subject]
				}
			}
		}
		end := readableRows(s.rows[p][:])
		covered := max(from, end)
		for at := from; at < end; at++ {
			switch r := s.rows[p][at]; {
			case r.fate != committed:
			case r.input >= below && !m.off(StaleRowsUsed):
				covered = min(covered, at)
			default:
				in.work.base[r.subject] = r.folded
			}
		}
		if m.off(MarkBehindIgnored) {
			covered = max(from, end)
		}
		if !m.off(MarkAfterAnnounce) {
			m.store(s, i, p, covered, in.work.from[p])
		}
		in.work.wrote[p] = covered
	}
	in.at = atAnnounce
}

// usable reports whether a local store is a prefix of the changelog, and not ahead of
// where the fold goes on. One that is not is discarded.
func (m *Model) usable(s *State, i, p int) bool {
	in := &s.instances[i]
	k := &in.marks[p]
	if !k.valid {
		return false
	}
	if m.off(NoDiscard) ||
		(k.topic == s.topic || m.off(NoTopicCheck)) &&
			(k.changelog <= readableRows(s.rows[p][:]) || m.off(NoEndCheck)) &&
			(k.input <= in.work.from[p] || m.off(NoInputCheck)) &&
			(k.last == lastEpoch(s, p, k.changelog) || m.off(NoProducerCheck)) {
		return true
	}
	*k = mark{}
	return false
}

// lastEpoch is the producer's epoch of the row before a changelog offset; 0 if none is
// committed there.
func lastEpoch(s *State, p int, changelog uint8) uint8 {
	if changelog == 0 || changelog > maxRows || s.rows[p][changelog-1].fate != committed {
		return 0
	}
	return s.rows[p][changelog-1].epoch
}

// store writes a partition's local store and its mark, at once.
func (m *Model) store(s *State, i, p int, changelog, input uint8) {
	in := &s.instances[i]
	for subject := range m.subjects {
		if int(m.homes[subject]) == p {
			in.stored[subject] = in.work.base[subject]
		}
	}
	last := uint8(0)
	if changelog > 0 {
		last = s.rows[p][changelog-1].epoch
	}
	in.marks[p] = mark{valid: true, topic: s.topic, changelog: changelog, input: input, last: last}
}

// live is what an instance does when its announcement is answered.
func (m *Model) live(s *State, i int) {
	in := &s.instances[i]
	if m.off(MarkAfterAnnounce) {
		for p := range m.config.Partitions {
			m.store(s, i, p, in.work.wrote[p], in.work.from[p])
		}
	}
	in.work.to, in.work.wrote = in.work.from, [maxPartitions]uint8{}
	in.at, in.cut = atFetch, false
	for subject := range m.subjects {
		if in.work.base[subject] != m.right(s, subject, in.work.from[m.homes[subject]]) {
			s.wrong = restoredWrong
		}
	}
}
