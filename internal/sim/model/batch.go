package model

// The steps of a batch that ask no coordinator: fetch with decode and fold, carry, publish,
// store; and the decisions that are asked meanwhile.

// maxBatch is how many records of a partition a fetch brings at most.
const maxBatch = 2

// fetch takes a batch of any size.
func (m *Model) fetch(s *State, i int, yield func(step, *State)) {
	in := &s.instances[i]
	var most [maxPartitions]uint8
	for p := range m.config.Partitions {
		most[p] = min(maxBatch, readable(s.events[p][:])-in.work.from[p])
	}
	for a := range most[0] + 1 {
		for b := range most[1] + 1 {
			if a+b == 0 {
				continue
			}
			t := *s
			u := &t.instances[i]
			u.work.to[0], u.work.to[1] = u.work.from[0]+a, u.work.from[1]+b
			u.at = m.behindFetch(&t, i)
			m.yield(step{uint8(i), atFetch.String(), plain, a<<4 | b}, &t, yield)
		}
	}
}

// behindFetch skips the carry of a batch that carries nothing.
func (m *Model) behindFetch(s *State, i int) place {
	f := m.fold(s, &s.instances[i].work)
	switch {
	case m.off(ChangesOutside) && f.changes[0].n+f.changes[1].n > 0:
		return atCarry
	case f.carried.n == 0 || m.off(CarryInside) || m.off(CarryAfterEnd):
		return atBegin
	}
	return atCarry
}

// carryStep writes what must stand before the offset that it follows from.
func (m *Model) carryStep(s *State, i int) {
	in := &s.instances[i]
	f := m.fold(s, &in.work)
	m.carry(s, &f, committed)
	if m.off(ChangesOutside) {
		for p := range m.config.Partitions {
			for _, c := range f.changes[p].list[:f.changes[p].n] {
				if !m.told(&in.work, p, c.input) {
					c.fate = committed
					put(s.changes[p][:], c)
				}
			}
		}
	}
	in.at = atBegin
}

// publish lets decisions see the batch. It is part of the answer to EndTxn: between the
// two there is nothing that a crash could leave behind.
func (m *Model) publish(s *State, i int) {
	w := &s.instances[i].work
	f := m.fold(s, w)
	w.base = f.base
}

// storeStep writes the local store. What the batch wrote is known to be committed.
func (m *Model) storeStep(s *State, i int) {
	in := &s.instances[i]
	if m.off(CarryAfterEnd) {
		f := m.fold(s, &in.work)
		m.carry(s, &f, committed)
	}
	m.storeBatch(s, i)
	in.work.from, in.work.wrote = in.work.to, [maxPartitions]uint8{}
	in.at = atFetch
}

func (m *Model) storeBatch(s *State, i int) {
	in := &s.instances[i]
	for p := range m.config.Partitions {
		changelog := in.marks[p].changelog
		if in.work.wrote[p] > 0 {
			changelog = in.work.wrote[p]
		}
		m.store(s, i, p, changelog, in.work.to[p])
	}
}

// published is the offset that a live instance answers up to.
func (in *instance) published(p int) uint8 {
	if in.at == atStore {
		return in.work.to[p]
	}
	return in.work.from[p]
}

// query lets leases run out and be renewed, and decisions be asked of a live instance. Time is
// nothing but this: the coordinator gives a member up only when its lease has run out,
// since a lease is counted from a heartbeat's sending and is shorter than the session.
func (m *Model) query(s *State, i int, yield func(step, *State)) {
	if !m.config.Leases {
		return
	}
	in := &s.instances[i]
	t := *s
	u := &t.instances[i]
	switch {
	case in.lease:
		u.lease = false
		m.yield(step{uint8(i), "lease runs out", plain, 0}, &t, yield)
	case s.owner == uint8(i+1) && s.gen == in.gen || m.off(BeatWithoutMembership):
		u.lease = true
		m.yield(step{uint8(i), "heartbeat", plain, 0}, &t, yield)
	}
	if in.at < atFetch || in.asked == answered {
		return
	}
	t = *s
	if in.asked == notAsked {
		if m.off(LeaseCheckedBefore) && !in.lease {
			return
		}
		u.asked = computed
		m.yield(step{uint8(i), "compute", plain, 0}, &t, yield)
		return
	}
	u.asked = answered
	if in.lease || m.off(LeaseCheckedBefore) {
		m.answer(&t, i)
		m.yield(step{uint8(i), "answer", plain, 0}, &t, yield)
		return
	}
	m.yield(step{uint8(i), "unavailable", plain, 0}, &t, yield)
}

// answer is the moment in which a decision leaves.
func (m *Model) answer(s *State, i int) {
	in := &s.instances[i]
	if s.owner != uint8(i+1) || s.gen != in.gen {
		s.wrong = answeredByFormer
	}
	for p := range m.config.Partitions {
		if in.published(p) > decided(s, p) {
			s.wrong = answeredUncommitted
		}
		if in.published(p) < decided(s, p) && in.epoch != s.tx.epoch {
			s.wrong = answeredStale // what its own transaction commits, it publishes at once
		}
	}
}
