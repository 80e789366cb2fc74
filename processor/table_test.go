package processor

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"weak"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
)

func TestTable_KeepsWhatItsLimitAllows(t *testing.T) {
	r := seed(t)
	rows, closeStore := openRows(t)
	defer closeStore()
	var ids []consent.SubjectID
	for i := range 200 {
		ids = append(ids, withdrawn(t, r, newTable(rows, 1<<30), i))
	}
	one, err := newTable(rows, 1<<30).find(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	const room = 40
	table := newTable(rows, room*one.bytes())
	for range 2 {
		for _, id := range ids {
			if state, err := table.State(id); err != nil || state == nil {
				t.Fatal(state, err)
			}
			if n := len(table.young) + len(table.old); n > room+1 {
				t.Fatalf("%d States are in memory, which has room for %d", n, room)
			}
		}
	}
	if n := len(table.young) + len(table.old); n < room/3 {
		t.Errorf("only %d States are in memory, which has room for %d", n, room)
	}
}

// What a subject becomes once it is in memory counts too.
func TestTable_KeepsWhatItsLimitAllowsOfSubjectsThatGrow(t *testing.T) {
	r := seed(t)
	rows, closeStore := openRows(t)
	defer closeStore()
	const limit = 1 << 20
	table := newTable(rows, limit)
	table.begin()
	for batch := range 40 {
		var events []consent.Event
		for i := range 20 {
			for p := range 20 { // nobody wants anything
				events = append(events, event(r, consent.Subject(fmt.Sprintf("user:%d", batch*20+i)), consent.Refuse, consent.Purpose(fmt.Sprintf("p%d", p)), batch))
			}
		}
		foldAndStore(t, table, batch*len(events), events...)
		var held int64
		for _, places := range []map[consent.SubjectID]*place{table.young, table.old} {
			for _, p := range places {
				held += p.bytes()
			}
		}
		if held > 2*limit {
			t.Fatalf("%d KiB are in memory after %d subjects, which may have %d KiB", held>>10, (batch+1)*20, limit>>10)
		}
	}
}

// withdrawn folds a withdrawal of subject number i, and stores it.
func withdrawn(t *testing.T, r *rand.Rand, table *Table, i int) consent.SubjectID {
	t.Helper()
	e := event(r, consent.Subject(fmt.Sprintf("user:%d", i)), consent.Withdraw, "m", i)
	foldAndStore(t, table, i, e)
	return consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject}
}

// foldAndStore does with a batch of events what a stripe does.
func foldAndStore(t *testing.T, table *Table, offset int, events ...consent.Event) {
	t.Helper()
	f := newFolding(table, (*consent.Folder).Fold, new(slab[subjectFold]))
	table.hold()
	for i := range events {
		if err := f.add(&events[i], kafka.LastOffset(offset+i)); err != nil {
			t.Fatal(err)
		}
	}
	moved := f.moved()
	writes, err := new(encoding).states(moved)
	if err != nil {
		t.Fatal(err)
	}
	table.publish(moved)
	f.reset()
	var stored []store.Row
	for _, w := range writes {
		stored = append(stored, store.Row{Key: w.record.Key, Value: w.record.Value})
	}
	if err := table.rows.Write(stored, store.Mark{}); err != nil {
		t.Fatal(err)
	}
	table.saved()
}

// A table over an empty store knows without a look at it who is not on record, and only
// for as long as it has dropped nobody.
func TestTable_WhoWasDroppedFromMemoryIsFoundInTheStore(t *testing.T) {
	r := seed(t)
	rows, closeStore := openRows(t)
	defer closeStore()
	table := newTable(rows, 20_000)
	table.begin()
	var ids []consent.SubjectID
	for i := range 200 {
		ids = append(ids, withdrawn(t, r, table, i))
	}
	if n := len(table.young) + len(table.old); n == len(ids) {
		t.Fatal("all are in memory: nothing was dropped")
	}
	for _, id := range ids {
		if state, err := table.State(id); err != nil || state == nil {
			t.Fatal(id, state, err)
		}
	}
}

// Readers look while it drops the first: nobody who is on record is a stranger to them,
// nor to the fold afterwards.
func TestTable_NobodyIsAStrangerWhileTheFirstAreDropped(t *testing.T) {
	r := seed(t)
	for range 8 {
		rows, closeStore := openRows(t)
		table := newTable(rows, 20_000)
		table.begin()
		var ids []consent.SubjectID
		for i := range 20 {
			ids = append(ids, withdrawn(t, r, table, i))
		}
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if state, err := table.State(ids[i%len(ids)]); err != nil || state == nil {
						t.Error(ids[i%len(ids)], state, err)
						return
					}
				}
			})
		}
		for i := range 40 {
			withdrawn(t, r, table, len(ids)+i)
		}
		close(stop)
		readers.Wait()
		for _, id := range ids {
			if state, err := table.State(id); err != nil || state == nil {
				t.Error(id, state, err)
			}
		}
		closeStore()
		if t.Failed() {
			return
		}
	}
}

// As long as it is whole, the store is not asked: here there is none.
func TestTable_AWholeOneDoesNotAskTheStore(t *testing.T) {
	table := newTable(nil, 1<<20)
	table.begin()
	if state, err := table.State(consent.SubjectID{Tenant: consent.DefaultTenant, Subject: anna}); err != nil || state != nil {
		t.Error(state, err)
	}
}

func TestTable_AStateThatWasFollowedIsForgotten(t *testing.T) {
	r := seed(t)
	rows, closeStore := openRows(t)
	defer closeStore()
	table := newTable(rows, 1<<20)
	id := consent.SubjectID{Tenant: consent.DefaultTenant, Subject: anna}
	var first weak.Pointer[consent.Row]
	for i := range 3 {
		f := newFolding(table, (*consent.Folder).Fold, new(slab[subjectFold]))
		e := event(r, anna, consent.Withdraw, "m", i)
		if err := f.add(&e, kafka.LastOffset(i)); err != nil {
			t.Fatal(err)
		}
		table.publish(f.moved())
		f.reset()
		if i == 0 {
			state, err := table.State(id)
			if err != nil || state == nil {
				t.Fatal(state, err)
			}
			first = weak.Make(&state.Rows[0])
		}
	}
	runtime.GC()
	if first.Value() != nil {
		t.Error("the State after the first event is still in memory: each holds the one before")
	}
	if state, err := table.State(id); err != nil || len(state.Rows) == 0 {
		t.Error("the last one is gone", err)
	}
}
