package processor

import (
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

// foldFunc is consent.Fold. It is pure.
type foldFunc func(consent.State, *consent.Event) (consent.State, []consent.Change, []consent.Event)

// folding is step 3 for one partition: it folds a batch's events onto the table
// without touching it.
type folding struct {
	table    *Table
	fold     foldFunc
	subjects map[subjectID]*subjectFold
	order    []*subjectFold // as they first came, so that what is written repeats
	changes  []consent.Change
}

// subjectFold is one subject's way through a batch.
type subjectFold struct {
	id     subjectID
	before folded
	state  consent.State
	input  kafka.NextOffset
}

func newFolding(t *Table, fold foldFunc) *folding {
	return &folding{table: t, fold: fold, subjects: make(map[subjectID]*subjectFold)}
}

// add folds the event at an offset; fresh is false when the restored rows contain
// it already. Its error is a panic in the fold: a bug, after which nothing of the
// event was taken in.
func (f *folding) add(e *consent.Event, offset kafka.LastOffset) (fresh bool, err error) {
	s := f.subject(subjectID{e.Tenant, e.Subject, e.Test})
	if offset.Next() <= s.input {
		return false, nil
	}
	defer func() {
		if r := recover(); r != nil {
			// Not the panic's value: it could hold what the event says.
			err = fmt.Errorf("the fold panicked with a %T\n%s", r, debug.Stack())
		}
	}()
	state, changes, _ := f.fold(s.state, e)
	s.state, s.input = state, offset.Next()
	f.changes = append(f.changes, changes...)
	return true, nil
}

func (f *folding) subject(id subjectID) *subjectFold {
	if s := f.subjects[id]; s != nil {
		return s
	}
	s := &subjectFold{id: id, before: f.table.get(id)}
	s.input = s.before.input
	if s.before.state != nil {
		s.state = *s.before.state
	}
	f.subjects[id] = s
	f.order = append(f.order, s)
	return s
}

// moved lists the subjects whose State is not what it was. An event that moves
// nothing need not be noted: read again, it meets the same State, and moves nothing.
func (f *folding) moved() []*subjectFold {
	var moved []*subjectFold
	for _, s := range f.order {
		if s.rowsMoved(nil) || s.wholeMoved() {
			moved = append(moved, s)
		}
	}
	return moved
}

// rowsMoved reports whether a row differs, and calls each for those that do.
func (s *subjectFold) rowsMoved(each func(*consent.Row)) bool {
	moved := false
	for i := range s.state.Rows {
		row := &s.state.Rows[i]
		if old := s.before.state.Row(row.Purpose); old != nil && *old == *row {
			continue
		}
		moved = true
		if each == nil {
			break
		}
		each(row)
	}
	return moved
}

func (s *subjectFold) wholeMoved() bool {
	if s.before.state == nil {
		return s.state.Whole.Clock != 0 || len(s.state.Whole.Jurisdictions) > 0
	}
	was, is := &s.before.state.Whole, &s.state.Whole
	return was.Clock != is.Clock || was.VersionFloor != is.VersionFloor || was.Erased != is.Erased ||
		!slices.Equal(was.Jurisdictions, is.Jurisdictions) || !slices.Equal(was.Links, is.Links)
}
