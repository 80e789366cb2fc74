package consent

import "slices"

// erasedVerdict is what an erasure leaves of every purpose.
var erasedVerdict = Verdict{Status: Erased, Allowed: Denied}

// erase takes in an erase: what is smaller goes, and what is smaller and comes
// later is not kept; a link up to it ends. It reports whether this is a newer
// erase than any before. Source: semantics.md, section 5, Erase.
func (f *folding) erase(r *Record) (newer bool) {
	whole := &f.state.Whole
	if f.gone(r) || !r.beats(whole.Erased) {
		return false
	}
	kept := *r
	newer = whole.Erased == nil || r.Compare(whole.Erased) > 0
	whole.Erased = &kept

	root := Row{Purpose: Root}
	if old := f.state.Row(Root); old != nil {
		root = *old
	}
	if kept.beats(root.Ended) {
		root.Ended = &kept
	}
	f.put(&root)
	for i := range f.state.Rows { // put has made them ours
		f.state.Rows[i].forget(&kept)
	}
	f.forgetLinks()
	return newer
}

// forget drops the records that are smaller than an erase. Names stay: they hold
// an id and no more, and a yes that is newer than the erase must not come to
// life because what took it back by name is forgotten.
func (r *Row) forget(erased *Record) {
	for _, place := range [...]**Record{&r.Yes, &r.Pending, &r.No, &r.Ended} {
		if *place != nil && (*place).Compare(erased) < 0 {
			*place = nil
		}
	}
	if r.No == nil {
		r.NoEvent = nil
	}
	r.Named = r.Named.bare(erased)
}

// bare gives the set with the records that are smaller than an erase reduced to
// what orders and names them.
func (n *Named) bare(erased *Record) *Named {
	smaller := func(r *Record) bool { return r.Compare(erased) < 0 }
	if n == nil || !slices.ContainsFunc(n.Records, smaller) {
		return n
	}
	records := slices.Clone(n.Records)
	for i, r := range records {
		if smaller(r) {
			records[i] = r.bare()
		}
	}
	return &Named{records}
}

// bury takes away the rows of which nothing is left to know. Their versions go on
// above the highest of all, so that a receiver which keeps the highest ends right.
// The row of * holds the erase, and so stays.
func (f *folding) bury() {
	whole := &f.state.Whole
	for i := range f.state.Rows {
		whole.VersionFloor = max(whole.VersionFloor, f.state.Rows[i].Version)
	}
	f.state.Rows = slices.DeleteFunc(f.state.Rows, func(r Row) bool {
		return r.Announced == erasedVerdict && r.Yes == nil && r.Pending == nil && r.No == nil && r.Ended == nil && r.Named == nil
	})
}
