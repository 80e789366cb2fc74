package consent

// finding is what the records say of one purpose at one time: the verdict, the
// record that decides, the node it stands on, and since when it holds.
type finding struct {
	Verdict
	decides *Record
	node    Purpose
	since   Instant
}

// evaluate decides for a purpose at time t, as far as events alone tell.
// Source: semantics.md, section 5, "The decision for a purpose at time t".
func (s *State) evaluate(p Purpose, t Instant) finding {
	own := s.Row(p)
	if own == nil {
		own = &Row{}
	}
	denial, node := s.restriction(p)
	f := finding{Verdict: Verdict{Status: None}}
	if yes := own.Yes; yes != nil && (denial == nil || yes.Compare(denial) > 0) {
		named := own.Named.of(yes)
		switch {
		case named != nil: // whatever the keys say
			f = finding{Verdict{Invalidated, Denied}, named, p, named.since()}
		case yes.ExpiresAt != 0 && yes.ExpiresAt <= t:
			f = finding{Verdict{Expired, Denied}, yes, p, yes.ExpiresAt}
		default:
			return finding{Verdict{Granted, Allowed}, yes, p, yes.EffectiveAt}
		}
	} else if denial != nil {
		f = finding{Verdict{denial.denies(), Denied}, denial, node, denial.since()}
	}
	return f.orPending(own.Pending, p)
}

// restriction is the largest no or end from * down to p, and where it stands.
func (s *State) restriction(p Purpose) (r *Record, node Purpose) {
	for q := p; q != ""; q = q.Parent() {
		row := s.Row(q)
		if row == nil {
			continue
		}
		if l := larger(larger(r, row.No), row.Ended); l != r {
			r, node = l, q
		}
	}
	return r, node
}

// orPending shows a grant that waits for its confirmation: alone it leaves the
// default to decide, larger than what denies it stays denied. It never takes a
// grant or a default away.
func (f finding) orPending(pending *Record, p Purpose) finding {
	switch {
	case pending == nil:
		return f
	case f.decides == nil:
		return finding{Verdict{Pending, Undecided}, pending, p, pending.EffectiveAt}
	case pending.Compare(f.decides) > 0:
		return finding{Verdict{Pending, Denied}, pending, p, pending.EffectiveAt}
	}
	return f
}

// since is when a restriction begins to hold: from its own effective_at,
// whatever its order_at; an invalidate that names a grant, from that grant on.
func (r *Record) since() Instant {
	if r.Action == Invalidate {
		return r.OrderAt
	}
	return r.EffectiveAt
}

// denies is the status that a restriction gives.
func (r *Record) denies() Status {
	switch r.Action {
	case Refuse:
		return Refused
	case Invalidate:
		return Invalidated
	case Erase:
		return Erased
	}
	return Withdrawn
}
