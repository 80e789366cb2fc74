package processor

import (
	"sync"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

// Table holds what is folded of one partition's subjects. Its States are never
// changed once they are in it: a reader keeps one for as long as it likes.
//
// One goroutine writes, many read. There is one Table per partition, so that a
// stripe that publishes holds up the readers of one partition only, for the time
// that a batch of map inserts takes.
type Table struct {
	mu       sync.RWMutex
	subjects map[subjectID]folded
}

// subjectID tells States apart. Test events fold into a State of their own.
type subjectID struct {
	tenant  consent.Tenant
	subject consent.Subject
	test    bool
}

// folded is a State, and how far it is folded.
type folded struct {
	state *consent.State // nil = nothing on record
	// input is the offset behind the last event of the subject that the State
	// contains, as saved with its "*" row.
	input kafka.NextOffset
}

func newTable() *Table { return &Table{subjects: make(map[subjectID]folded)} }

// State gives what is folded of a subject, nil when nothing is on record.
func (t *Table) State(tenant consent.Tenant, subject consent.Subject, test bool) *consent.State {
	return t.get(subjectID{tenant, subject, test}).state
}

// Len is the number of subjects on record, test States counted apart.
func (t *Table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.subjects)
}

func (t *Table) get(id subjectID) folded {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.subjects[id]
}

// publish shows a batch to readers, the whole of it at once.
func (t *Table) publish(moved []*subjectFold) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range moved {
		t.subjects[m.id] = folded{state: &m.state, input: m.input}
	}
}
