package processor

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// logged is what the changelog says: the last row of each key that readers see.
func (w *world) logged() map[consent.SubjectID]consent.State {
	w.Helper()
	return w.loggedBelow(math.MaxInt64)
}

// loggedBelow is logged without rows that were written for this input offset and those
// behind it.
func (w *world) loggedBelow(limit kafka.NextOffset) map[consent.SubjectID]consent.State {
	w.Helper()
	rows := make(map[string]schemas.StateRow)
	w.read(w.names.State(), func(m *kafka.Message) {
		if m.Value == nil {
			if input, err := tombstoneInput(m); err != nil || input < limit {
				delete(rows, string(m.Key))
			}
			return
		}
		row, err := schemas.DecodeState(m.Value)
		if err != nil {
			w.Fatal(err)
		}
		if want := kafka.PartitionFor(consent.Key(row.Tenant, row.Subject), w.partitions); m.Partition.Index != want {
			w.Fatalf("a row stands at %s, its subject belongs to partition %d", m.Position, want)
		}
		if kafka.NextOffset(row.InputOffset) < limit {
			rows[string(m.Key)] = row
		}
	})
	states := make(map[consent.SubjectID]consent.State)
	for _, row := range rows {
		id := consent.SubjectID{Tenant: row.Tenant, Subject: row.Subject, Test: row.Test}
		s := states[id]
		s.Tenant, s.Subject, s.Test = id.Tenant, id.Subject, id.Test
		row.AddTo(&s)
		settleClock(&s)
		states[id] = s
	}
	return states
}

// reference folds consent.events straight: no batches, no restore, no table.
func (w *world) reference() (states map[consent.SubjectID]consent.State, changes []consent.Change) {
	w.Helper()
	states = make(map[consent.SubjectID]consent.State)
	w.read(w.names.Events(), func(m *kafka.Message) {
		e := new(schemas.Folding)
		if refused := decode(m, w.partitions, e); refused != nil {
			return
		}
		id := consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject, Test: e.Test}
		next, told, _ := consent.Fold(states[id], &e.Event)
		if !reflect.DeepEqual(next, states[id]) {
			states[id] = next
		}
		changes = append(changes, told...)
	})
	return states, changes
}

// requireReference fails unless what is in the topics is what a straight fold gives:
// equal states, and each change told exactly once, in the order of its versions.
func (w *world) requireReference() {
	w.Helper()
	if w.cluster.Apache() { // readers see the end of a transaction a moment after it was answered
		w.awaitReference(10 * time.Second)
		return
	}
	for _, fault := range w.differences() {
		w.Error(fault)
	}
}

// differences tells how the topics differ from a straight fold. States are compared as
// they are encoded, but for the offset that a row was written for, which the size of
// batches decides.
func (w *world) differences() (faults []string) {
	w.Helper()
	wantStates, wantChanges := w.reference()
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	states := w.logged()
	if len(states) != len(wantStates) {
		fault("%d states, want %d", len(states), len(wantStates))
	}
	for id, want := range wantStates {
		got, there := states[id]
		if !there {
			fault("state of %s is missing", id.Subject)
		} else if !bytes.Equal(w.encoded(&got), w.encoded(&want)) {
			fault("state of %s differs:\n got %s\nwant %s", id.Subject, dump(got), dump(want))
		}
	}
	told := make(map[consent.UUID]consent.Change)
	version := make(map[string]int64)
	for _, c := range w.changes() {
		if first, again := told[c.ID]; again {
			fault("change %s was told twice:\n%+v\n%+v", c.ID, first, c)
			continue
		}
		told[c.ID] = c
		key := fmt.Sprint(string(c.Tenant), string(c.Subject), c.Purpose, c.Test)
		if before := version[key]; c.Version <= before {
			fault("change %s has version %d after %d", c.ID, c.Version, before)
		}
		version[key] = c.Version
	}
	for _, c := range wantChanges {
		got, ok := told[c.ID]
		if !ok {
			fault("change %s (%s %s -> %s) was never told", c.ID, c.Purpose, c.From, c.To)
		} else if got != c {
			fault("change differs:\n got %+v\nwant %+v", got, c)
		}
		delete(told, c.ID)
	}
	for id, c := range told {
		fault("change %s (%s %s -> %s) should not have been told", id, c.Purpose, c.From, c.To)
	}
	return faults
}

// encoded is all rows of a State, as the changelog holds them.
func (w *world) encoded(s *consent.State) (all []byte) {
	w.Helper()
	rows := s.Rows
	if s.Row(consent.Root) == nil {
		rows = append([]consent.Row{{Purpose: consent.Root}}, rows...)
	}
	for _, row := range rows {
		r := schemas.StateRow{Tenant: s.Tenant, Subject: s.Subject, Test: s.Test, Row: row}
		if row.Purpose == consent.Root {
			r.Whole = &s.Whole
		}
		var err error
		if all, err = schemas.EncodeState(all, &r); err != nil {
			w.Fatal(err)
		}
	}
	return all
}

func dump(s consent.State) string {
	text := fmt.Sprintf("whole %+v", s.Whole)
	for _, r := range s.Rows {
		text += fmt.Sprintf("\n  %s v%d %s/%d", r.Purpose, r.Version, r.Announced.Status, r.Announced.Allowed)
		for name, record := range map[string]*consent.Record{"yes": r.Yes, "pending": r.Pending, "no": r.No, "ended": r.Ended} {
			if record != nil {
				text += fmt.Sprintf(" %s=%+v", name, *record)
			}
		}
		if r.NoEvent != nil {
			text += fmt.Sprintf(" event=%+v", *r.NoEvent.Event())
		}
	}
	return text
}
