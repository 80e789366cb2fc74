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
	rows   []movedRow       // set by moved
	// erased are purposes whose rows an erase took, or took from: also what the batch
	// itself had put there. After it such a row can be what it was before the batch, or
	// can be missing as before; but a torn transaction that ended ahead of the erase has
	// written it, so it is written.
	erased []consent.Purpose
}

// movedRow is a row that is to be written, and what it was (nil = new).
type movedRow struct{ was, is *consent.Row }

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
	if e.Action == consent.Erase {
		s.noteErased(&state)
	}
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
	s.id, s.place, s.state = id, place, place.state
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
	rows := make([]movedRow, 0, len(f.order))
	for _, s := range f.order {
		first := len(rows)
		rows = s.appendMovedRows(rows)
		s.rows = slices.Clip(rows[first:])
		if len(s.rows) > 0 || s.rowsGone() || s.wholeMoved() {
			moved = append(moved, s)
		}
	}
	return moved
}

// appendMovedRows appends the rows that are new or not what they were, or were not in
// between. Both sets are sorted by purpose.
func (s *subjectFold) appendMovedRows(moved []movedRow) []movedRow {
	var old []consent.Row
	if s.before != nil {
		old = s.before.Rows
	}
	rows := s.state.Rows
	if len(rows) > 0 && len(rows) == len(old) && &rows[0] == &old[0] {
		return moved // nothing was written to
	}
	for i := range rows {
		is := &rows[i]
		for len(old) > 0 && old[0].Purpose < is.Purpose {
			old = old[1:]
		}
		var was *consent.Row
		if len(old) > 0 && old[0].Purpose == is.Purpose {
			if old[0] == *is && !slices.Contains(s.erased, is.Purpose) {
				continue
			}
			was = &old[0]
		}
		moved = append(moved, movedRow{was, is})
	}
	return moved
}

// lastInput is the offset of the last event folded.
func (s *subjectFold) lastInput() int64 { return int64(s.input) - 1 }

// noteErased notes the rows that an erase took, or took from.
func (s *subjectFold) noteErased(after *consent.State) {
	for i := range s.state.Rows {
		was := &s.state.Rows[i]
		if is := after.Row(was.Purpose); (is == nil || *is != *was) && !slices.Contains(s.erased, was.Purpose) {
			s.erased = append(s.erased, was.Purpose)
		}
	}
}

// goneRows goes over the rows that an erase took and that did not come back, each
// with what it was before the batch (nil = it was not there).
func (s *subjectFold) goneRows(each func(p consent.Purpose, was *consent.Row) bool) {
	for _, p := range s.erased {
		if s.state.Row(p) == nil && !each(p, s.before.Row(p)) {
			return
		}
	}
}

func (s *subjectFold) rowsGone() bool {
	for range s.goneRows {
		return true
	}
	return false
}

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
	if s.before == nil || s.moreThanTheClockMoved() {
		return true
	}
	was, is := s.before.Row(consent.Root), s.state.Row(consent.Root)
	if (was == nil) != (is == nil) || was != nil && *was != *is {
		return true
	}
	clock := s.state.Whole.Clock
	for _, m := range s.rows { // nearly always here
		if rowClock(m.is) == clock {
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
