package processor

import (
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

// foldFunc is [consent.Folder.Fold].
type foldFunc func(*consent.Folder, consent.State, *consent.Event) consent.State

// folding is the fold of one partition's share of a batch: events onto the table,
// without touching it.
type folding struct {
	table   *Table
	fold    foldFunc
	folder  consent.Folder
	order   []*subjectFold // as they first came, so that what is written repeats
	room    *slab[subjectFold]
	dropped int // links that fell out of a full list: nothing is carried there any more
}

// subjectFold is one subject's way through a batch. It ends with the batch: what the
// table keeps is a copy of state and its rows.
type subjectFold struct {
	id     consent.SubjectID
	place  *place
	before *consent.State // nil = nothing on record. That of place: good until publish
	state  consent.State
	input  kafka.NextOffset // behind the last event folded
	// written are the rows that an event of the batch brought, wrote to or took, each
	// once. All of them go to the changelog, also one that is what it was before the
	// batch, or is missing as before, since an erase took what had come: a torn
	// transaction that ended ahead of the erase has written it.
	written []writtenRow
	few     [2]writtenRow // the first of written
}

// writtenRow is a row that a batch wrote to.
type writtenRow struct {
	purpose    consent.Purpose
	existed    bool         // before the batch
	wasExpires int64        // before the batch, see expiryMillis
	is         *consent.Row // after the batch, set by moved. nil = it is gone
}

// newFolding makes a folding, whose subjects have their room.
func newFolding(t *Table, fold foldFunc, room *slab[subjectFold]) *folding {
	return &folding{table: t, fold: fold, room: room}
}

// reset makes it ready for another batch, before the room is reset.
func (f *folding) reset() {
	for _, s := range f.order {
		s.place.fold = nil
	}
	clear(f.order)
	f.order, f.dropped = f.order[:0], 0
	f.folder.Reset()
}

// add folds the event at an offset. Its error is a [storeError], or a panic in the
// fold: a bug, after which nothing of the event was taken in.
func (f *folding) add(e *consent.Event, offset kafka.LastOffset) (err error) {
	s, err := f.subject(consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject, Test: e.Test})
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			// Not the panic's value: it could hold what the event says.
			err = fmt.Errorf("the fold panicked with a %T\n%s", r, debug.Stack())
		}
	}()
	state := f.fold(&f.folder, s.state, e)
	if _, dropped := consent.DroppedLink(&s.state, &state, e); dropped {
		f.dropped++
	}
	s.noteWritten(state.Rows)
	s.state, s.input = state, offset.Next()
	return nil
}

func (f *folding) subject(id consent.SubjectID) (*subjectFold, error) {
	place, err := f.table.find(id)
	if err != nil {
		return nil, err
	}
	if place.fold != nil {
		return place.fold, nil
	}
	s := f.room.next()
	s.id, s.place, s.state, s.written = id, place, place.state, s.few[:0]
	if place.known {
		s.before = &place.state
	}
	place.fold = s
	f.order = append(f.order, s)
	return s, nil
}

// moved lists the subjects whose State is not what it was. An event that moves
// nothing need not be noted: read again, it meets the same State, and moves nothing.
func (f *folding) moved() []*subjectFold {
	moved := make([]*subjectFold, 0, len(f.order))
	for _, s := range f.order {
		if len(s.written) == 0 && !s.wholeMoved() {
			continue
		}
		for i := range s.written {
			s.written[i].is = s.state.Row(s.written[i].purpose)
		}
		moved = append(moved, s)
	}
	return moved
}

// noteWritten compares the rows before and behind an event: now, while the caches hold
// them. Both sets are sorted by purpose.
func (s *subjectFold) noteWritten(is []consent.Row) {
	was := s.state.Rows
	if len(was) == len(is) && (len(is) == 0 || &was[0] == &is[0]) {
		return
	}
	for len(was) > 0 && len(is) > 0 {
		switch w, i := &was[0], &is[0]; {
		case w.Purpose == i.Purpose:
			if *w != *i {
				s.wrote(w.Purpose, w)
			}
			was, is = was[1:], is[1:]
		case w.Purpose < i.Purpose:
			s.wrote(w.Purpose, w)
			was = was[1:]
		default:
			s.wrote(i.Purpose, nil)
			is = is[1:]
		}
	}
	for i := range was {
		s.wrote(was[i].Purpose, &was[i])
	}
	for i := range is {
		s.wrote(is[i].Purpose, nil)
	}
}

// wrote notes that a row was written to, for the first time in the batch, or again.
func (s *subjectFold) wrote(p consent.Purpose, was *consent.Row) {
	if s.writtenRow(p) == nil {
		s.written = append(s.written, writtenRow{purpose: p, existed: was != nil, wasExpires: expiryMillis(was)})
	}
}

// writtenRow gives what is noted of a row, nil = nothing was written to it.
func (s *subjectFold) writtenRow(p consent.Purpose) *writtenRow {
	for i := range s.written {
		if s.written[i].purpose == p {
			return &s.written[i]
		}
	}
	return nil
}

// sameRows tells whether no row came or went.
func (s *subjectFold) sameRows() bool {
	for i := range s.written {
		if s.written[i].existed != (s.written[i].is != nil) {
			return false
		}
	}
	return s.before != nil
}

// lastInput is the offset of the last event folded.
func (s *subjectFold) lastInput() int64 { return int64(s.input) - 1 }

func (s *subjectFold) wholeMoved() bool {
	if s.before == nil {
		return s.state.Whole.Clock != 0 || len(s.state.Whole.Jurisdictions) > 0
	}
	return s.before.Whole.Clock != s.state.Whole.Clock || s.moreThanTheClockMoved()
}

func (s *subjectFold) moreThanTheClockMoved() bool {
	was, is := &s.before.Whole, &s.state.Whole
	return was.VersionFloor != is.VersionFloor || was.Erased != is.Erased ||
		!slices.Equal(was.Jurisdictions, is.Jurisdictions) || !slices.Equal(was.Links, is.Links)
}

// rootMoved tells whether the "*" row has to be written. Of nearly every event the
// clock is all of it that moves, and that stands in the row of the event too: it is
// not written twice, see [settleClock].
func (s *subjectFold) rootMoved() bool {
	if s.before == nil || s.moreThanTheClockMoved() || s.writtenRow(consent.Root) != nil {
		return true
	}
	clock := s.state.Whole.Clock
	for i := range s.written { // nearly always here
		if is := s.written[i].is; is != nil && rowClock(is) == clock {
			return false
		}
	}
	for i := range s.state.Rows {
		if rowClock(&s.state.Rows[i]) == clock {
			return false
		}
	}
	return true
}

// root gives the "*" row as it is to be written: an empty one, where there is none.
func (s *subjectFold) root() writtenRow {
	root := writtenRow{purpose: consent.Root, is: s.state.Row(consent.Root)}
	if w := s.writtenRow(consent.Root); w != nil {
		root = *w
	} else {
		root.wasExpires = expiryMillis(root.is)
	}
	if root.is == nil {
		root.is = &consent.Row{Purpose: consent.Root}
	}
	return root
}

// rowClock is the largest received_at in a row.
func rowClock(r *consent.Row) (clock consent.Instant) {
	for _, record := range [...]*consent.Record{r.Yes, r.Pending, r.No, r.Ended} {
		if record != nil {
			clock = max(clock, record.ReceivedAt)
		}
	}
	return clock
}

// settleClock completes a State that was read row by row: its clock is the largest
// time in any of them.
func settleClock(s *consent.State) {
	for i := range s.Rows {
		s.Whole.Clock = max(s.Whole.Clock, rowClock(&s.Rows[i]))
	}
}
