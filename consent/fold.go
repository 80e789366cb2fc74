package consent

import "sort"

// Fold takes one event into a subject's State. It gives the State after it, the
// Changes to announce, and the events that links carry to other subjects.
//
// It is pure, and changes neither s nor e. The rows of the two States that
// compare equal (==) are unchanged. Source: semantics.md, section 5.
func Fold(s State, e *Event) (State, []Change, []Event) {
	if !e.Action.Folds() || e.Action == Request || e.Action == Defer {
		return s, nil, nil
	}
	next := s.clone()
	next.Tenant, next.Subject, next.Test = e.Tenant, e.Subject, e.Test
	next.Whole.Clock = max(s.Whole.Clock, e.ReceivedAt)
	next.addJurisdiction(e.Jurisdiction)
	next.keep(e)

	f := folding{state: &next, event: e}
	f.announce(e.Purpose)
	if e.Action.Protective() {
		for _, p := range next.descendants(e) {
			f.announce(p)
		}
	}
	return next, f.changes, nil
}

// folding is one call of Fold while it works out what moved.
type folding struct {
	state   *State
	event   *Event
	changes []Change
}

// keep puts the event's record into its row if it is the largest of its kind.
func (s *State) keep(e *Event) {
	row := Row{Purpose: e.Purpose}
	if old := s.Row(e.Purpose); old != nil {
		row = *old
	}
	r := record(e)
	switch {
	case e.Action == Grant && e.Policy != nil && e.Policy.DoubleOptIn:
		row.Pending = larger(row.Pending, r)
	case e.Action.Affirms():
		row.Yes = larger(row.Yes, r)
	case e.Action == Refuse, e.Action == Withdraw:
		if row.No = larger(row.No, r); row.No == r {
			row.NoEvent = e
		}
	case e.Action == Invalidate, e.Action == Erase:
		row.Ended = larger(row.Ended, r)
		row.Named = row.Named.with(r)
	}
	s.PutRow(row)
}

func (s *State) addJurisdiction(j Jurisdiction) {
	if j == "" {
		return
	}
	list := s.Whole.Jurisdictions
	i := sort.Search(len(list), func(i int) bool { return list[i] >= j })
	if i < len(list) && list[i] == j {
		return
	}
	list = append(list, "")
	copy(list[i+1:], list[i:])
	list[i] = j
	s.Whole.Jurisdictions = list
}

// descendants lists what lies below the event's node and is on record or
// covered by its policy, sorted.
func (s *State) descendants(e *Event) []Purpose {
	seen := map[Purpose]bool{e.Purpose: true}
	var below []Purpose
	add := func(p Purpose) {
		if !seen[p] && e.Purpose.Covers(p) {
			seen[p] = true
			below = append(below, p)
		}
	}
	for i := range s.Rows {
		add(s.Rows[i].Purpose)
	}
	if e.Policy != nil {
		for _, p := range e.Policy.Covers {
			add(p)
		}
	}
	sort.Slice(below, func(i, j int) bool { return below[i] < below[j] })
	return below
}

// announce emits a Change where what holds for p at the State's clock differs
// from what was announced last.
func (f *folding) announce(p Purpose) {
	s := f.state
	row := Row{Purpose: p}
	if old := s.Row(p); old != nil {
		row = *old
	}
	was := row.announced()
	is := s.evaluate(p, s.Whole.Clock)
	if is.Verdict == was {
		return
	}
	row.Version = max(row.Version, s.Whole.VersionFloor) + 1
	row.Announced = is.Verdict
	s.PutRow(row)

	f.changes = append(f.changes, Change{
		ID:            changeID(s, p, row.Version, f.event.ID),
		Tenant:        s.Tenant,
		Subject:       s.Subject,
		Purpose:       p,
		From:          was.Status,
		To:            is.Status,
		AllowedBefore: was.Allowed,
		AllowedAfter:  is.Allowed,
		Withdrawal:    IsWithdrawal(was, is.Verdict),
		EffectiveAt:   is.since,
		EventID:       f.event.ID,
		Version:       row.Version,
		Timestamp:     s.Whole.Clock,
		ReceivedAt:    f.event.ReceivedAt,
		Jurisdiction:  f.event.Jurisdiction,
		Test:          s.Test,
	})
}

// announced is what was last told of a row; of a fresh one, nothing.
func (r *Row) announced() Verdict {
	if r.Version == 0 {
		return Verdict{Status: None}
	}
	return r.Announced
}
