package consent

import (
	"bytes"
	"slices"
	"sort"
)

// State is everything folded of one subject of one tenant; test events fold
// into a State of their own. The zero value is a subject of whom nothing is
// known.
type State struct {
	Tenant  Tenant
	Subject Subject
	Test    bool
	Whole   Whole
	Rows    []Row // sorted by purpose, each purpose once
}

// Whole is what belongs to the subject as such. It travels with the row of
// [Root], which exists as soon as anything was folded and is never a tombstone.
type Whole struct {
	Clock         Instant        // the largest received_at folded
	Jurisdictions []Jurisdiction // every jurisdiction that an event named, sorted
	Links         []LinkRecord   // sorted by To
	VersionFloor  int64          // versions of new rows go on above it
	Erased        *Record        // the largest erase
}

// LinkRecord is the newest link and unlink to one other subject.
type LinkRecord struct {
	To       Subject
	Linked   *Record
	Unlinked *Record
}

// Row is what is folded of one purpose node: the largest event of each kind,
// and what was last announced.
type Row struct {
	Purpose Purpose
	Yes     *Record // grant, confirm
	Pending *Record // a grant that waits for its confirmation
	No      *Record // refuse, withdraw
	Ended   *Record // invalidate, erase
	// Named are the invalidates that name a grant. Ended alone would forget a name
	// as soon as a larger one came, and let the grant it takes back count again.
	Named *Named
	// NoEvent is the event of No in full: a link that comes later carries it to
	// another subject with every field.
	NoEvent *Event

	Announced Verdict
	Version   int64
}

// Named holds, for each grant that an invalidate on a node names, the largest
// such invalidate: at most maxNamed of them, the largest ones. It is never
// written to once made.
type Named struct {
	Records []*Record // sorted by Names
}

// maxNamed bounds a row. A subject's node sees a handful at most.
const maxNamed = 256

// with gives the set with r in it; the same one where nothing changes.
func (n *Named) with(r *Record) *Named {
	if r == nil || r.Names.IsZero() {
		return n
	}
	var old []*Record
	if n != nil {
		old = n.Records
	}
	i := sort.Search(len(old), func(i int) bool { return bytes.Compare(old[i].Names[:], r.Names[:]) >= 0 })
	records := append(make([]*Record, 0, len(old)+1), old...)
	switch {
	case i < len(old) && old[i].Names == r.Names && larger(old[i], r) == old[i]:
		return n
	case i < len(old) && old[i].Names == r.Names:
		records[i] = r
	default:
		records = slices.Insert(records, i, r)
	}
	if len(records) > maxNamed {
		smallest := slices.IndexFunc(records, func(x *Record) bool {
			return !slices.ContainsFunc(records, func(y *Record) bool { return y.Compare(x.OrderKey) < 0 })
		})
		records = slices.Delete(records, smallest, smallest+1)
	}
	return &Named{records}
}

// of gives the invalidate that names a yes: the grant itself, or the one that a
// confirm completes.
func (n *Named) of(yes *Record) *Record {
	if n == nil {
		return nil
	}
	for _, r := range n.Records {
		if r.Names == yes.EventID || (yes.Action == Confirm && r.Names == yes.Names) {
			return r
		}
	}
	return nil
}

// Verdict is a status with what it allows, as far as events alone tell.
type Verdict struct {
	Status  Status // None when nothing was announced
	Allowed Tri    // Undecided: the registry's default decides
}

// Tri is yes, no, or left to the registry's default.
type Tri uint8

// The values of Tri.
const (
	Undecided Tri = iota
	Denied
	Allowed
)

// Record is what the fold keeps of an event: its order key, and what an answer
// tells about it.
type Record struct {
	OrderKey
	Action        Action
	EffectiveAt   Instant
	ReceivedAt    Instant
	Names         UUID // the grant that a confirm or invalidate names
	Carried       bool
	Channel       Channel
	Jurisdiction  Jurisdiction
	Model         Model
	LegalBasis    LegalBasis
	NoticeID      string
	NoticeVersion string
	PolicyVersion string
}

// Row gives the row of a purpose, nil when there is none.
func (s *State) Row(p Purpose) *Row {
	if s == nil {
		return nil
	}
	i, ok := s.find(p)
	if !ok {
		return nil
	}
	return &s.Rows[i]
}

func (s *State) find(p Purpose) (int, bool) {
	i := sort.Search(len(s.Rows), func(i int) bool { return s.Rows[i].Purpose >= p })
	return i, i < len(s.Rows) && s.Rows[i].Purpose == p
}

// PutRow replaces or adds a row. A changelog is loaded with it.
func (s *State) PutRow(r Row) {
	i, ok := s.find(r.Purpose)
	if !ok {
		s.Rows = append(s.Rows, Row{})
		copy(s.Rows[i+1:], s.Rows[i:])
	}
	s.Rows[i] = r
}

// RemoveRow drops a row; a tombstone in the changelog does it.
func (s *State) RemoveRow(p Purpose) {
	if i, ok := s.find(p); ok {
		s.Rows = append(s.Rows[:i], s.Rows[i+1:]...)
	}
}

// clone copies what the fold changes: rows and jurisdictions. Records and
// events are never written to once made, and are shared.
func (s *State) clone() State {
	c := *s
	c.Rows = append(make([]Row, 0, len(s.Rows)+1), s.Rows...)
	c.Whole.Jurisdictions = append([]Jurisdiction(nil), s.Whole.Jurisdictions...)
	return c
}
