package consent

import (
	"slices"
	"sort"
)

func sortPurposes(p []Purpose) { sort.Slice(p, func(i, j int) bool { return p[i] < p[j] }) }

// DecideTogether answers for several subjects that are one person (an account
// and its devices), as if all their records had been said under one id. For a
// purpose of scope device only those of device ids count, where one is named.
// A subject with nothing on record is silent; its State is given all the same,
// with its Subject set: a device that said nothing still counts as named.
func DecideTogether(states []*State, c *Catalogue, q Query) Decision {
	if d := c.Find(q.Purpose); d != nil && d.Scope == ScopeDevice {
		var devices []*State
		for _, s := range states {
			if s != nil && s.Subject.Namespace() == NamespaceDevice {
				devices = append(devices, s)
			}
		}
		if len(devices) > 0 {
			states = devices
		}
	}
	return Decide(join(states), c, q)
}

// join merges States record by record: the largest of each kind stays.
func join(states []*State) *State {
	if len(states) == 1 {
		return states[0]
	}
	var all State
	for _, s := range states {
		if s == nil {
			continue
		}
		all.Whole.Clock = max(all.Whole.Clock, s.Whole.Clock)
		all.Whole.VersionFloor = max(all.Whole.VersionFloor, s.Whole.VersionFloor)
		all.Whole.Jurisdictions = append(all.Whole.Jurisdictions, s.Whole.Jurisdictions...)
		for i := range s.Rows {
			all.joinRow(&s.Rows[i])
		}
	}
	slices.Sort(all.Whole.Jurisdictions)
	all.Whole.Jurisdictions = keptJurisdictions(slices.Compact(all.Whole.Jurisdictions))
	return &all
}

func (s *State) joinRow(r *Row) {
	row := Row{Purpose: r.Purpose}
	if old := s.Row(r.Purpose); old != nil {
		row = *old
	}
	row.Yes = larger(row.Yes, r.Yes)
	row.Pending = larger(row.Pending, r.Pending)
	row.No = larger(row.No, r.No)
	row.Ended = larger(row.Ended, r.Ended)
	if r.Named != nil {
		for _, named := range r.Named.Records {
			row.Named = row.Named.with(named)
		}
	}
	row.Version = max(row.Version, r.Version)
	s.PutRow(row)
}
