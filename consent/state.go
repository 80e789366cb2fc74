package consent

import (
	"bytes"
	"slices"
	"strings"
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
	Jurisdictions []Jurisdiction // those that events named, sorted: the first maxJurisdictions of them
	Links         []LinkRecord   // sorted by To
	VersionFloor  int64          // versions of new rows go on above it: the highest that an erasure took away
	Erased        *Record        // the largest erase: what is smaller is not kept
}

// maxJurisdictions bounds what a subject's row holds: a person has a handful of them.
// Where there are as many, one of those that are not kept may be strict: all count as opt-in.
const maxJurisdictions = 64

// keptJurisdictions are those of a sorted list that a row holds.
func keptJurisdictions(sorted []Jurisdiction) []Jurisdiction {
	return sorted[:min(len(sorted), maxJurisdictions)]
}

// Row is what is folded of one purpose node: the largest event of each kind,
// and what was last announced. An erasure takes rows away: a State after a fold
// can lack rows of the State before.
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
	NoEvent *Original

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

// with gives the set with r in it; the same one where nothing changes. It takes a
// copy of r.
func (n *Named) with(r *Record) *Named {
	if r.Names.IsZero() {
		return n
	}
	var old []*Record
	if n != nil {
		old = n.Records
	}
	i, found := slices.BinarySearchFunc(old, r.Names, func(x *Record, id UUID) int { return bytes.Compare(x.Names[:], id[:]) })
	if found && !r.beats(old[i]) {
		return n
	}
	kept := *r
	records := append(make([]*Record, 0, len(old)+1), old...)
	if found {
		records[i] = &kept
	} else {
		records = slices.Insert(records, i, &kept)
	}
	if len(records) > maxNamed {
		smallest := slices.IndexFunc(records, func(x *Record) bool {
			return !slices.ContainsFunc(records, func(y *Record) bool { return y.Compare(x) < 0 })
		})
		records = slices.Delete(records, smallest, smallest+1)
	}
	return &Named{records}
}

// of gives the largest invalidate that names a yes: the grant itself, or the one that a
// confirm completes.
func (n *Named) of(yes *Record) (largest *Record) {
	if n == nil {
		return nil
	}
	for _, r := range n.Records {
		if r.Names == yes.EventID || (yes.Action == Confirm && r.Names == yes.Names) {
			largest = larger(largest, r)
		}
	}
	return largest
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
	Names         UUID // the grant that a confirm or invalidate names, the event that a carried one carries
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
	if len(s.Rows) > fewRows {
		if i, ok := s.find(p); ok {
			return &s.Rows[i]
		}
		return nil
	}
	for i := range s.Rows {
		if r := &s.Rows[i]; r.Purpose == p {
			return r
		}
	}
	return nil
}

// fewRows are looked through one by one: most differ in their lengths already, which is
// sooner seen than which of two is the larger.
const fewRows = 16

// find gives the place of a purpose's row, or where it would stand.
func (s *State) find(p Purpose) (int, bool) {
	low, high := 0, len(s.Rows)
	for low < high {
		middle := int(uint(low+high) >> 1)
		switch c := strings.Compare(string(s.Rows[middle].Purpose), string(p)); {
		case c == 0:
			return middle, true
		case c < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return low, false
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
