package processor

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/processor/store"
	"github.com/assent-dev/assent/schemas"
)

// Table holds what is folded of one partition's subjects: all of it in the local
// store, and in memory those that were asked for or moved of late. A reader gets a copy
// of the rows, since publish writes to the table's, and keeps it for as long as it likes.
//
// One goroutine writes, many read. There is one Table per partition, so that a
// stripe that publishes holds up the readers of one partition only, for the time
// that a batch of map inserts takes.
type Table struct {
	rows  *store.Partition
	limit int64 // bytes kept in memory, roughly

	// reading is held while rows are read, so that they are not closed meanwhile.
	reading sync.RWMutex
	closed  bool

	mu sync.RWMutex
	// young and old are the subjects in memory. One that is used moves to young;
	// when young is half of the limit, old is dropped and young becomes old.
	young, old map[consent.SubjectID]*place
	youngBytes int64
	held       bool   // a batch is being folded, or is not in rows yet: nothing may be dropped
	published  uint64 // counts publish, so that a slow reader keeps nothing old
	whole      bool   // who is not in memory is not on record: need not be looked for
}

// place is where a subject stands in memory.
type place struct {
	state consent.State // written under the table's mu, by publish alone
	known bool          // something is on record; as state
	fold  *subjectFold  // in the batch in hand, nil = not in it. Of the stripe's goroutine alone
}

// take copies a State that ends with its batch: of its rows what was written to. It gives
// by how many bytes the place grew.
func (p *place) take(s *subjectFold) int64 {
	was := p.bytes()
	rows := p.state.Rows
	if !s.sameRows() {
		rows = slices.Clone(s.state.Rows)
	} else {
		for i := range s.written {
			if is := s.written[i].is; is != nil { // nil = it came and went
				*p.state.Row(is.Purpose) = *is
			}
		}
	}
	p.state, p.known = s.state, true
	p.state.Rows = rows
	return p.bytes() - was
}

var errTableClosed = errors.New("the partition was given away")

// storeError is a fault of the local store: what it holds is not to be used.
type storeError struct{ err error }

func (e *storeError) Error() string { return "local store: " + e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

func newTable(rows *store.Partition, limitBytes int64) *Table {
	return &Table{rows: rows, limit: limitBytes, young: make(map[consent.SubjectID]*place), old: make(map[consent.SubjectID]*place)}
}

// State gives what is folded of a subject, nil when nothing is on record. An error
// means that it cannot be known.
func (t *Table) State(id consent.SubjectID) (*consent.State, error) {
	p, err := t.find(id)
	if err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !p.known {
		return nil, nil
	}
	state := p.state
	state.Rows = slices.Clone(state.Rows)
	return &state, nil
}

// find gives a subject's place in memory.
func (t *Table) find(id consent.SubjectID) (*place, error) {
	t.mu.RLock()
	published := t.published
	p, ok := t.young[id]
	t.mu.RUnlock()
	if ok {
		return p, nil
	}
	if p := t.remembered(id); p != nil {
		return p, nil
	}
	state, err := t.load(id)
	if err != nil {
		return nil, err
	}
	p = new(place)
	if state != nil {
		p.state, p.known = *state, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.published != published {
		return p, nil // may be old already. Only a reader comes here: who publishes, folds
	}
	p = t.keep(id, p)
	t.rotate()
	return p, nil
}

// remembered gives the place of who is in memory, or is a stranger to a whole table; nil =
// the store must be asked. That the table is whole and that the subject is not in it are
// seen under one lock: between two, somebody could drop it.
func (t *Table) remembered(id consent.SubjectID) *place {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.old[id]; ok {
		t.rejuvenate(id, p)
		return p
	}
	if p := t.young[id]; p != nil || !t.whole {
		return p
	}
	p := new(place)
	t.rejuvenate(id, p)
	t.rotate()
	return p
}

// load reads a subject's rows.
func (t *Table) load(id consent.SubjectID) (*consent.State, error) {
	t.reading.RLock()
	defer t.reading.RUnlock()
	if t.closed {
		return nil, errTableClosed
	}
	var state *consent.State
	var unreadable error
	prefix := append(id.Key(), '|')
	err := t.rows.Subject(prefix, func(key, value []byte) error {
		if schemas.IsTestKey(key) != id.Test {
			return nil
		}
		row, err := schemas.DecodeState(value)
		if err != nil {
			unreadable = fmt.Errorf("a row of the changelog cannot be read: %w", err)
			return unreadable
		}
		if row.Tenant != id.Tenant || row.Subject != id.Subject || row.Test != id.Test || !bytes.Equal(key, schemas.StateKey(row.Tenant, row.Subject, row.Row.Purpose, row.Test)) {
			unreadable = errors.New("a row of the changelog names another in its value than in its key")
			return unreadable
		}
		if state == nil {
			state = &consent.State{Tenant: id.Tenant, Subject: id.Subject, Test: id.Test}
		}
		row.AddTo(state)
		return nil
	})
	if unreadable != nil {
		return nil, unreadable // another store would hold the same
	}
	if err != nil {
		return nil, &storeError{fmt.Errorf("read a subject: %w", err)}
	}
	if state != nil {
		settleClock(state)
	}
	return state, nil
}

// hold sees to it that nothing is dropped from memory until saved: a batch is folded.
func (t *Table) hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = true
}

// publish shows a batch to readers, the whole of it at once. It stays in memory
// until saved says that it is in the store.
func (t *Table) publish(moved []*subjectFold) {
	if len(moved) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.published++
	t.held = true
	for _, m := range moved {
		t.youngBytes += m.place.take(m) // whoever was folded is among the young
	}
}

// saved says that everything published is in the store.
func (t *Table) saved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = false
	t.rotate()
}

// forget drops what is in memory: the store was loaded anew beneath it.
func (t *Table) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.published++
	t.held, t.youngBytes, t.whole = false, 0, false
	clear(t.young)
	clear(t.old)
}

// begin says, after forget, that there is nothing in the store.
func (t *Table) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.whole = true
}

// keep puts a place where the young are, unless the subject has one. Under mu.
func (t *Table) keep(id consent.SubjectID, p *place) *place {
	if known := t.young[id]; known != nil {
		return known
	}
	t.rejuvenate(id, p)
	return p
}

// rejuvenate moves a place to the young. Under mu.
func (t *Table) rejuvenate(id consent.SubjectID, p *place) {
	t.youngBytes += p.bytes()
	t.young[id] = p
	delete(t.old, id)
}

// rotate drops the old once the young are many. Under mu.
func (t *Table) rotate() {
	if t.held || t.youngBytes < t.limit/2 {
		return
	}
	t.whole = t.whole && len(t.old) == 0
	t.old, t.young = t.young, make(map[consent.SubjectID]*place, len(t.young))
	t.youngBytes = 0
}

// Bytes of a State in memory, as measured with refusals and grants in the heap;
// they need not be exact.
const (
	placeBytes  = 400
	rowBytes    = 150
	recordBytes = 260
)

func (p *place) bytes() int64 {
	n := int64(placeBytes)
	for i := range p.state.Rows {
		r := &p.state.Rows[i]
		n += rowBytes
		for _, record := range [...]*consent.Record{r.Yes, r.Pending, r.No, r.Ended} {
			if record != nil {
				n += recordBytes
			}
		}
		if r.NoEvent != nil {
			n += int64(r.NoEvent.Bytes())
		}
		if r.Named != nil {
			n += recordBytes * int64(len(r.Named.Records))
		}
	}
	return n + recordBytes*int64(2*len(p.state.Whole.Links))
}

// close waits for who reads rows, and closes them. Twice is fine.
func (t *Table) close() error {
	t.mu.Lock()
	t.whole = false // who asks for a stranger is told that it cannot be known
	t.mu.Unlock()
	t.reading.Lock()
	defer t.reading.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	return t.rows.Close()
}
