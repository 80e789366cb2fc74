package consent

import "slices"

// Fold takes one event into a subject's State. It gives the State after it, the
// Changes to announce, and the events that links carry to other subjects: they
// belong into the log under their own key, before this State counts.
//
// It is pure, and changes neither s nor e. The State may keep an e whose Action is
// [Action.Kept] and that has no Original, which must not be written to afterwards; of
// others it keeps what e points to. Rows of the two States that compare equal (==) are
// unchanged, rows that only s has were erased. Source: semantics.md, section 5.
func Fold(s State, e *Event) (State, []Change, []Event) {
	f := folding{state: s, event: e}
	f.fold()
	return f.state, f.changes, f.carried
}

// Folder folds many events, in memory that it uses again.
type Folder struct {
	Changes []Change // to announce, as the folds since Reset gave them
	Carried []Event  // to carry to other subjects, likewise
	rows    rowRoom
}

// Fold is the function Fold. The rows of the State that it gives are good until Reset:
// who keeps the State, copies them. Where it panics, nothing was appended.
func (r *Folder) Fold(s State, e *Event) State {
	f := folding{state: s, event: e, room: &r.rows, changes: r.Changes, carried: r.Carried}
	f.fold()
	r.Changes, r.Carried = f.changes, f.carried
	return f.state
}

// Reset forgets what was folded.
func (r *Folder) Reset() {
	clear(r.Changes)
	clear(r.Carried)
	r.Changes, r.Carried = r.Changes[:0], r.Carried[:0]
	r.rows.reset()
}

func (f *folding) fold() {
	s, e := &f.state, f.event
	if !e.Action.Folds() || e.Action == Request || e.Action == Defer {
		return
	}
	f.node, f.erased = e.Purpose, s.Whole.Erased
	if e.Action.Whole() {
		f.node = Root
	}
	s.Tenant, s.Subject, s.Test = e.Tenant, e.Subject, e.Test
	s.Whole.Clock = max(s.Whole.Clock, e.ReceivedAt)
	f.addJurisdiction(e.Jurisdiction)

	r := record(e)
	buries := false
	switch e.Action {
	case Expire: // no record: what has run out is found by evaluating
	case Link, Unlink:
		f.relate(&r)
		return // of no purpose anything is said
	case Erase:
		buries = f.erase(&r)
	default:
		f.keep(&r)
	}
	f.announceAll()
	if buries {
		f.bury()
	}
}

// folding is one call of Fold. Its state begins as the one before, and shares all
// with it that is not written to.
type folding struct {
	state   State
	event   *Event
	room    *rowRoom // for copies of rows, nil = they are to last
	node    Purpose  // what the event speaks of
	erased  *Record  // the largest erase of before
	ownRows bool     // state.Rows is a copy
	changes []Change
	carried []Event
}

// put replaces or adds a row.
func (f *folding) put(row *Row) {
	if !f.ownRows {
		f.state.Rows = append(f.room.rows(len(f.state.Rows)+1), f.state.Rows...)
		f.ownRows = true
	}
	f.state.PutRow(*row)
}

// keep puts the event's record into its row if it is the largest of its kind, and
// carries it where links lead.
func (f *folding) keep(r *Record) {
	e := f.event
	if !keeps(e) {
		return
	}
	row := Row{Purpose: f.node}
	if old := f.state.Row(f.node); old != nil {
		row = *old
	}
	before, gone, largest := row, f.gone(r), false
	switch { // a name outlives an erasure: see forget
	case e.Action == Invalidate && gone:
		row.Named = row.Named.with(r.bare())
	case e.Action == Invalidate:
		row.Named = row.Named.with(r)
	}
	if place := row.place(e); !gone && r.beats(*place) {
		kept := *r
		*place, largest = &kept, true
		if e.Action.Kept() {
			row.NoEvent = e.original()
		}
	}
	if row != before {
		f.put(&row)
	}
	if e.Action.Kept() {
		f.carry(r, largest)
	}
}

// keeps reports whether an event can be kept at all. A confirm that names no
// grant confirms nothing, and a link never carries more than a no.
func keeps(e *Event) bool {
	switch {
	case e.Carried != nil:
		return e.Action.Kept()
	case e.Action == Confirm:
		return e.Confirms != nil && !e.Confirms.EventID.IsZero()
	}
	return true
}

// place is where a row keeps the largest event of e's kind.
func (r *Row) place(e *Event) **Record {
	switch e.Action {
	case Grant:
		if e.Policy != nil && e.Policy.DoubleOptIn {
			return &r.Pending
		}
		return &r.Yes
	case Confirm:
		return &r.Yes
	case Refuse, Withdraw:
		return &r.No
	}
	return &r.Ended
}

// gone reports whether an erasure took the record away, or would have.
func (f *folding) gone(r *Record) bool {
	return f.state.Whole.Erased != nil && r.Compare(f.state.Whole.Erased) < 0
}

func (f *folding) addJurisdiction(j Jurisdiction) {
	if j == "" {
		return
	}
	list := f.state.Whole.Jurisdictions
	if i, found := slices.BinarySearch(list, j); !found && i < maxJurisdictions {
		f.state.Whole.Jurisdictions = keptJurisdictions(slices.Insert(slices.Clip(list), i, j))
	}
}

// announceAll announces what moved: at the event's node and, on a protective
// event, at every descendant on record or covered by its policy.
func (f *folding) announceAll() {
	f.announce(f.node)
	if !f.event.Action.Protective() {
		return
	}
	var stack [32]Purpose // most subjects' purposes fit
	below := stack[:0]
	for i := range f.state.Rows {
		if p := f.state.Rows[i].Purpose; p != f.node && f.node.Covers(p) {
			below = append(below, p)
		}
	}
	if f.event.Policy != nil {
		for _, p := range f.event.Policy.Covers {
			if p != f.node && f.node.Covers(p) {
				below = append(below, p)
			}
		}
	}
	slices.Sort(below)
	for i, p := range below {
		if i == 0 || p != below[i-1] {
			f.announce(p)
		}
	}
}

// announce emits a Change where what holds for p at the State's clock differs
// from what was announced last.
func (f *folding) announce(p Purpose) {
	s := &f.state
	row := Row{Purpose: p}
	if old := s.Row(p); old != nil {
		row = *old
	}
	was, version := row.Announced, row.Version+1
	if row.Version == 0 {
		was, version = Verdict{Status: None}, s.Whole.VersionFloor+1
	}
	is := s.evaluate(p, s.Whole.Clock)
	if is.Verdict == was || (row.Version == 0 && f.erased != nil && is.Verdict == erasedVerdict) {
		return // also where the row went with an erasure, which was told then
	}
	row.Version, row.Announced = version, is.Verdict
	f.put(&row)
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
