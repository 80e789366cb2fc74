package model

// outcome is how a step went.
type outcome uint8

const (
	plain     outcome = iota
	toDone            // the request was answered
	toFenced          // it was refused: somebody else owns the stripe
	toInvalid         // it was refused: there is no such transaction
	lost              // it was done, the answer was lost
	late              // it is still on its way, and its sender no longer waits
	tornApart         // the broker was killed while it was done
)

// step is one transition's name.
type step struct {
	by      uint8 // instance; noInstance: see name
	name    string
	outcome outcome
	detail  uint8 // which of several
}

const noInstance = 0xFF

// kind is the step without who took it.
func (p step) kind() step { return step{noInstance, p.name, p.outcome, 0} }

// next hands out every step that is possible. Instances are asynchronous: one that takes no
// step for long is one that is suspended, and it wakes up at any time.
func (m *Model) next(s *State, yield func(step, *State)) {
	for i := range m.config.Instances {
		m.claim(s, i, yield)
		if s.instances[i].at == idle {
			continue
		}
		m.advance(s, i, yield)
		m.crash(s, i, yield)
		m.query(s, i, yield)
	}
	m.broker(s, yield)
	m.renew(s, yield)
}

// claim lets the group give the stripe to an instance. A former owner that has not
// stopped by then is one that the group gave up.
func (m *Model) claim(s *State, i int, yield func(step, *State)) {
	if int(s.gen) >= m.config.Takeovers || s.instances[i].at != idle || s.gen == 0 && i > 0 {
		return
	}
	if s.owner > 0 && m.config.Leases {
		if o := &s.instances[s.owner-1]; o.at != idle && o.gen == s.gen && o.lease {
			return
		}
	}
	t := *s
	t.gen++
	t.owner = uint8(i + 1)
	in := &t.instances[i]
	in.at, in.gen, in.lease = m.first(), t.gen, m.config.Leases
	m.yield(step{uint8(i), "claim", plain, 0}, &t, yield)
}

// crash ends an instance's claim between any two steps: it was killed, or it stopped. What
// it holds in memory is gone; its store stays.
func (m *Model) crash(s *State, i int, yield func(step, *State)) {
	t := *s
	m.stop(&t, i)
	m.yield(step{uint8(i), "crash", plain, 0}, &t, yield)
}

func (m *Model) stop(s *State, i int) {
	in := &s.instances[i]
	*in = instance{stored: in.stored, marks: in.marks, asked: in.asked &^ computed}
}

// advance takes an instance's next step.
func (m *Model) advance(s *State, i int, yield func(step, *State)) {
	in := &s.instances[i]
	t := *s
	by := step{uint8(i), in.at.String(), plain, 0}
	if in.cut && (in.at == atFetch || in.at == atBegin) && !m.off(CutGoesOn) {
		// A broker went away since the last answer: what it had answered may be torn.
		m.retake(&t, i)
		by.outcome = toInvalid
		m.yield(by, &t, yield)
		return
	}
	switch in.at {
	case atOffsets:
		if m.offsets(&t, i) {
			m.yield(by, &t, yield)
		}
	case atVerify:
		m.verify(&t, i)
		m.yield(by, &t, yield)
	case atRestore:
		m.restore(&t, i)
		m.yield(by, &t, yield)
	case atFetch:
		m.fetch(s, i, yield)
	case atCarry:
		m.carryStep(&t, i)
		m.yield(by, &t, yield)
	case atStore:
		m.storeStep(&t, i)
		m.yield(by, &t, yield)
	default:
		m.call(s, i, yield)
	}
}

// call sends the request of an instance's step, in each way that can go.
func (m *Model) call(s *State, i int, yield func(step, *State)) {
	in := &s.instances[i]
	r := request{kind: in.at, from: uint8(i), gen: in.gen, epoch: in.epoch, work: in.work}
	by := step{uint8(i), in.at.String(), plain, 0}
	if in.at == atEnd {
		m.tearEnd(s, i, &r, yield)
	}
	if s.losses > 0 {
		m.sendLate(s, i, r, yield)
	}
	t := *s
	if in.at == atEnd && m.off(StoreBeforeEnd) {
		m.publish(&t, i)
		m.storeBatch(&t, i)
	}
	v := m.handle(&t, &r)
	if v == busy {
		return
	}
	if s.losses > 0 && v == done {
		u := t
		u.losses--
		m.unanswered(&u, i)
		by.outcome = lost
		m.yield(by, &u, yield)
	}
	by.outcome = [...]outcome{done: toDone, fenced: toFenced, invalid: toInvalid}[v]
	switch v {
	case fenced:
		m.stop(&t, i)
	case invalid:
		m.retake(&t, i)
	default:
		m.answered(&t, i, &r)
	}
	m.yield(by, &t, yield)
}

// sendLate leaves a request in the network. Its sender learns nothing.
func (m *Model) sendLate(s *State, i int, r request, yield func(step, *State)) {
	for k := range s.late {
		if s.late[k].kind != idle {
			continue
		}
		t := *s
		t.losses--
		t.late[k] = r
		m.unanswered(&t, i)
		m.yield(step{uint8(i), r.kind.String(), late, 0}, &t, yield)
		return
	}
}

// unanswered is what an instance does when it cannot know what became of its request: it
// takes over again, from the first step.
func (m *Model) unanswered(s *State, i int) {
	in := &s.instances[i]
	if in.at == atEnd {
		switch {
		case m.off(LostEndIsCommit):
			m.publish(s, i)
			in.at = atStore
			return
		case m.off(LostEndIsAbort):
			in.work.to = in.work.from
			in.at = atFetch
			return
		case m.off(LostEndIsRepeated):
			return
		}
	}
	m.retake(s, i)
}

// retake begins the takeover again, within the claim.
func (m *Model) retake(s *State, i int) {
	in := &s.instances[i]
	in.at, in.epoch, in.cut, in.work = atInit, 0, false, work{}
	if m.off(OffsetsBeforeInit) {
		in.at = atOffsets
	}
}

// answered moves an instance behind a request that was done.
func (m *Model) answered(s *State, i int, r *request) {
	in := &s.instances[i]
	switch r.kind {
	case atInit:
		in.epoch = r.epoch
		in.at = atOffsets
		if m.off(OffsetsBeforeInit) {
			in.at = atVerify
		}
	case atAnnounce:
		m.live(s, i)
	case atWrite:
		in.work.notes, in.work.wrote = r.work.notes, r.work.wrote
		in.at = atCommit
	case atEnd:
		if !m.off(StoreBeforeEnd) {
			m.publish(s, i)
		}
		in.at, in.cut = atStore, false
	default:
		in.at++
	}
}

// tearEnd kills the broker while it commits, in each way that can go.
func (m *Model) tearEnd(s *State, i int, r *request, yield func(step, *State)) {
	if s.tears == 0 || r.epoch != s.tx.epoch || s.tx.status != ongoing {
		return
	}
	n, _ := pieces(s)
	for left := range 1 << n {
		t := *s
		tear(&t, left)
		m.unanswered(&t, i)
		m.yield(step{uint8(i), r.kind.String(), tornApart, uint8(left)}, &t, yield)
	}
}

// broker takes the steps that nobody waits for.
func (m *Model) broker(s *State, yield func(step, *State)) {
	if s.tx.status == committing {
		t := *s
		markers(&t)
		m.yield(step{noInstance, "markers", plain, 0}, &t, yield)
		if m.config.TearsAnswered && s.tears > 0 {
			n, _ := pieces(s)
			for left := range 1 << n {
				u := *s
				tear(&u, left)
				m.yield(step{noInstance, "killed", tornApart, uint8(left)}, &u, yield)
			}
		}
	}
	if s.tx.settled {
		t := *s
		apply(&t)
		m.yield(step{noInstance, "apply offsets", plain, 0}, &t, yield)
	}
	m.compact(s, yield)
	for k := range s.late {
		if s.late[k].kind == idle {
			continue
		}
		t := *s
		r := t.late[k]
		t.late[k] = request{}
		if m.handle(&t, &r) != busy {
			m.yield(step{r.from, "late " + r.kind.String(), plain, 0}, &t, yield)
		}
	}
}

// compact takes away each row that has a newer one of its subject behind it, as far as
// readers come.
func (m *Model) compact(s *State, yield func(step, *State)) {
	if !m.config.Compacts || s.torn && !m.atRest(s) && !m.off(CompactedUnrepaired) {
		return
	}
	for p := range m.config.Partitions {
		t := *s
		rows := t.rows[p][:readableRows(t.rows[p][:])]
		for i := range rows {
			for _, newer := range rows[i+1:] {
				if rows[i].fate == committed && newer.fate == committed && newer.subject == rows[i].subject {
					rows[i] = row{fate: aborted}
				}
			}
		}
		if t.rows[p] != s.rows[p] {
			m.yield(step{noInstance, "compaction", plain, uint8(p)}, &t, yield)
		}
	}
}

// renew lets an operator have everything folded again: no processor runs, the topics of
// states and changes are made anew, the group's offsets are deleted.
func (m *Model) renew(s *State, yield func(step, *State)) {
	if s.renewal == 0 || s.tx.status != empty || s.tx.settled {
		return
	}
	for i := range s.instances {
		if s.instances[i].at != idle {
			return
		}
	}
	t := *s
	t.renewal--
	t.topic++
	t.rows, t.changes = [maxPartitions][maxRows]row{}, [maxPartitions][maxChanges]change{}
	t.offsets, t.late = [maxPartitions]commit{}, [maxLate]request{}
	m.yield(step{noInstance, "topics anew", plain, 0}, &t, yield)
}

// yield hands a state out in its shortest form: a late request that can only be refused is as good as gone.
func (m *Model) yield(by step, s *State, yield func(step, *State)) {
	for k := range s.late {
		if r := &s.late[k]; r.kind != idle && r.kind != atInit && r.epoch < s.tx.epoch {
			*r = request{}
		}
	}
	if !m.config.TearsAnswered {
		for i := range s.instances {
			s.instances[i].cut = false
		}
	}
	yield(by, s)
}
