package consent

import (
	"slices"
	"strings"
)

// A link says that two ids are one person, and only restricts: every no of the
// one becomes a no of the other. Who folds writes what is carried to the log
// under the other's key, where it is folded like any event.
//
//	what      the events behind the nos on record, when a link begins to be in
//	          force; after it each refuse and withdraw that is folded
//	not       a purpose of scope device that is no sale or sharing
//	whereto   the link's subject, but none that the event came through
//	order     by the whole key of the first event, so that a later yes of the
//	          person stands, and two copies count as one
//	holds     from the later of link and original on
//
// Source: semantics.md, section 5, Link.

// LinkRecord is the newest link and unlink to one other subject. Linked has the
// order of the newest link; its EffectiveAt is that of the first one since when
// the two are linked without interruption.
type LinkRecord struct {
	To       Subject
	Linked   *Record
	Unlinked *Record
}

// maxLinks bounds what a subject's row holds: a person has a handful of ids. Of
// more, those in force stay before others, and then the newest. What fell out has
// carried all that was said so far and carries nothing further; [DroppedLink]
// tells it.
const maxLinks = 256

// maxVia bounds the subjects that a carried event names. They keep it from going
// round, for which the first one and the latest do: a node that has it already
// passes no copy on.
const maxVia = 256

// InForce reports whether what is said from now on is carried; erased is the
// subject's largest erase.
func (l *LinkRecord) InForce(erased *Record) bool {
	return l.Linked != nil && !l.ended(erased) && (l.Unlinked == nil || l.Linked.OrderAt >= l.Unlinked.OrderAt)
}

// ended reports whether an erase ended the link, as an unlink would.
func (l *LinkRecord) ended(erased *Record) bool {
	return l.Linked != nil && erased != nil && l.Linked.Compare(erased) < 0
}

// carries reports whether a no is carried: while the link is in force, and of
// what comes late, all that was said before it ended.
func (l *LinkRecord) carries(no, erased *Record) bool {
	switch {
	case l.Linked == nil:
		return false
	case l.ended(erased):
		return no.OrderAt <= erased.OrderAt
	}
	return l.InForce(erased) || no.OrderAt <= l.Unlinked.OrderAt
}

// link takes in a link; begins tells that what is on record has to be carried: the
// link was not in force, or is so since earlier than was known. A newer link to a
// subject that is linked already would carry what was carried.
func (l *LinkRecord) link(r, erased *Record) (begins bool) {
	was, old := l.InForce(erased), l.Linked
	late := erased != nil && r.Compare(erased) < 0
	switch {
	case old == nil:
		l.Linked = r.bare()
		return !late
	case r.Compare(old) == 0: // a retry: the first receipt stays
		if r.ReceivedAt < old.ReceivedAt {
			first := *old
			first.ReceivedAt = r.ReceivedAt
			l.Linked = &first
		}
	case r.Compare(old) > 0:
		l.Linked = r.bare()
		if was {
			l.Linked.EffectiveAt = min(r.EffectiveAt, old.EffectiveAt)
		}
		return !was && !late
	case was && !late && r.EffectiveAt < old.EffectiveAt && (l.Unlinked == nil || r.OrderAt >= l.Unlinked.OrderAt):
		earlier := *old
		earlier.EffectiveAt = r.EffectiveAt
		l.Linked = &earlier
		return true
	}
	return false
}

// unlink takes in an unlink.
func (l *LinkRecord) unlink(r *Record) {
	if r.beats(l.Unlinked) {
		l.Unlinked = r.bare()
	}
}

// forget drops an unlink from before an erase, which ended what it ended. The link
// stays: what was said before the erase and comes late still goes there. It
// reports whether anything is left.
func (l *LinkRecord) forget(erased *Record) bool {
	if l.Unlinked != nil && erased != nil && l.Unlinked.Compare(erased) < 0 {
		l.Unlinked = nil
	}
	return l.Linked != nil || l.Unlinked != nil
}

// relate takes in a link or unlink.
func (f *folding) relate(r *Record) {
	to, whole := f.event.LinkTo, &f.state.Whole
	if to == "" || to == f.event.Subject {
		return // says nothing
	}
	i, found := slices.BinarySearchFunc(whole.Links, to, func(l LinkRecord, to Subject) int { return strings.Compare(string(l.To), string(to)) })
	l := LinkRecord{To: to}
	if found {
		l = whole.Links[i]
	}
	before, begins := l, false
	if r.Action == Link {
		begins = l.link(r, whole.Erased)
	} else {
		l.unlink(r)
	}
	left := l.forget(whole.Erased)
	switch {
	case l == before || (!left && !found):
	case !left:
		whole.Links = slices.Delete(slices.Clone(whole.Links), i, i+1)
	case found:
		whole.Links = slices.Clone(whole.Links)
		whole.Links[i] = l
	default:
		whole.Links = withoutLast(slices.Insert(slices.Clip(whole.Links), i, l), whole.Erased)
	}
	if begins {
		for i := range f.state.Rows {
			if row := &f.state.Rows[i]; row.No != nil && row.NoEvent != nil {
				f.carryTo(&l, row.No, row.NoEvent.Event())
			}
		}
	}
}

// forgetLinks drops what an erase takes away of the links.
func (f *folding) forgetLinks() {
	whole := &f.state.Whole
	var kept []LinkRecord
	for _, l := range whole.Links {
		if l.forget(whole.Erased) {
			kept = append(kept, l)
		}
	}
	whole.Links = kept
}

// withoutLast holds a list of links to its bound.
func withoutLast(links []LinkRecord, erased *Record) []LinkRecord {
	if len(links) <= maxLinks {
		return links
	}
	last := 0
	for i := range links {
		if links[i].before(&links[last], erased) {
			last = i
		}
	}
	return slices.Delete(links, last, last+1)
}

// before reports whether l falls out of a full list before o does.
func (l *LinkRecord) before(o *LinkRecord, erased *Record) bool {
	if lasts := l.InForce(erased); lasts != o.InForce(erased) {
		return !lasts
	}
	if c := larger(l.Linked, l.Unlinked).Compare(larger(o.Linked, o.Unlinked)); c != 0 {
		return c < 0
	}
	return l.To < o.To
}

// DroppedLink gives the subject whose link fell out of a full list when e was
// folded into before and gave after. Who runs the fold says so aloud: from now on
// nothing is carried there.
func DroppedLink(before, after *State, e *Event) (to Subject, dropped bool) {
	if e.Action != Link && e.Action != Unlink || len(after.Whole.Links) < maxLinks {
		return "", false
	}
	has := func(s *State, to Subject) bool {
		return slices.ContainsFunc(s.Whole.Links, func(l LinkRecord) bool { return l.To == to })
	}
	for i := range before.Whole.Links {
		if to := before.Whole.Links[i].To; !has(after, to) {
			return to, true
		}
	}
	return e.LinkTo, e.Action == Link && e.LinkTo != "" && e.LinkTo != e.Subject && !has(after, e.LinkTo)
}

// carry carries the folded event along the links, if they are to. What was
// carried here travels on only where it is new: that is what ends loops.
func (f *folding) carry(r *Record, largest bool) {
	if f.event.Carried != nil && !largest {
		return
	}
	for i := range f.state.Whole.Links {
		if l := &f.state.Whole.Links[i]; l.carries(r, f.state.Whole.Erased) {
			f.carryTo(l, r, f.event)
		}
	}
}

// carryTo makes the event that carries no over a link; e is the event behind no.
func (f *folding) carryTo(l *LinkRecord, no *Record, e *Event) {
	if p := e.Policy; p != nil && p.Scope == ScopeDevice && !p.SaleOrShare {
		return // a shared tablet's refusals are not its next user's
	}
	origin, first, via := e.Subject, e.ID, []Subject(nil)
	if e.Carried != nil {
		origin, first, via = e.Carried.Subject, e.Carried.EventID, e.Carried.Via
	}
	if l.To == origin || l.To == e.Subject || slices.Contains(via, l.To) {
		return
	}
	c := *e
	c.Original = nil
	c.ID = DeriveUUID(first, []byte(l.To))
	c.Subject = l.To
	c.EffectiveAt = max(l.Linked.EffectiveAt, no.EffectiveAt)
	c.ReceivedAt = max(no.ReceivedAt, c.EffectiveAt) // deadlines count from it: not from before the link
	c.Carried = &Carried{Subject: origin, EventID: first, EffectiveAt: no.OrderAt, Via: through(via, e.Subject)}
	f.carried = append(f.carried, c)
}

// through appends a subject to those that an event came through.
func through(via []Subject, s Subject) []Subject {
	longer := append(slices.Clip(via), s)
	if len(longer) > maxVia {
		longer = slices.Delete(longer, 1, 2)
	}
	return longer
}
