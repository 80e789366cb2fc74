package processor

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// part is what a commit moves.
type part struct{ states, changes, offset bool }

func (p part) String() string {
	return fmt.Sprintf("states=%v changes=%v offset=%v", p.states, p.changes, p.offset)
}

// tear commits the batch behind the committed offset of partition 0, but only some
// of its parts: what is left out is written in a transaction that aborts, so that it
// takes offsets all the same.
func (w *world) tear(ctx context.Context, survives part, records int) {
	w.Helper()
	commit := w.commit()
	f := w.folding(commit.Next)
	next := commit.Next
	w.read(w.names.Events(), func(m *kafka.Message) {
		if kafka.NextOffset(m.Offset) < commit.Next || kafka.NextOffset(m.Offset) >= commit.Next+kafka.NextOffset(records) {
			return
		}
		e := new(schemas.Folding)
		if refused := decode(m, w.partitions, e); refused != nil {
			w.Fatal(refused.reason)
		}
		if err := f.add(&e.Event, m.Offset); err != nil {
			w.Fatal(err)
		}
		next = m.Offset.Next()
	})
	pb := partBatch{begins: commit.Next, next: next, folding: f, moved: f.moved()}
	x := newEncoding(w.names)
	var err error
	if pb.note, err = parseNote(commit.Metadata); err != nil {
		w.Fatal(err)
	}
	if pb.rows, err = x.states(pb.moved); err != nil {
		w.Fatal(err)
	}
	pb.part = &partition{told: w.seenFrom(pb.note.seen)} // by a tear before
	if pb.changes, err = x.changes(f.folder.Changes, func(id consent.UUID) bool {
		at, told := pb.part.told[id]
		if told {
			delete(pb.part.told, id)
			pb.retold.cover(at)
		}
		return told
	}); err != nil {
		w.Fatal(err)
	}
	if len(pb.rows) == 0 {
		w.Fatal("the batch moves nothing: nothing to tear")
	}
	states := make([]kafka.Record, len(pb.rows))
	for i := range pb.rows {
		states[i] = pb.rows[i].record
	}
	pb.takeNote(w.writePart(ctx, w.names.Changes(), pb.changes, survives.changes), w.writePart(ctx, w.names.State(), states, survives.states))
	if survives.offset {
		w.commitPlainly(kafka.Commit{Next: next, Metadata: pb.note.String()})
	}
}

// seenFrom gives the ids of the changes in partition 0 from an offset on.
func (w *world) seenFrom(offset kafka.NextOffset) map[consent.UUID]kafka.LastOffset {
	w.Helper()
	seen := make(map[consent.UUID]kafka.LastOffset)
	w.read(w.names.Changes(), func(m *kafka.Message) {
		c, err := schemas.DecodeChange(m.Value)
		if err != nil {
			w.Fatal(err)
		}
		if kafka.NextOffset(m.Offset) >= offset {
			seen[c.ID] = m.Offset
		}
	})
	return seen
}

// writePart writes records to partition 0, in a transaction that commits or aborts.
func (w *world) writePart(ctx context.Context, topic string, records []kafka.Record, commit bool) []kafka.Position {
	w.Helper()
	if len(records) == 0 {
		return nil
	}
	tx, err := w.client.OpenTransactor(ctx, kafka.TransactorOptions{ID: w.names.TransactionalID(1, 0), MaxBatchBytes: maxBatchBytes})
	if err != nil {
		w.Fatal(err)
	}
	if err := tx.Begin(ctx, nil, []kafka.Partition{{Topic: topic}}); err != nil {
		w.Fatal(err)
	}
	positions, err := tx.Write(ctx, records)
	if err != nil {
		w.Fatal(err)
	}
	end := tx.Abort
	if commit {
		end = tx.End
	}
	if err := end(ctx); err != nil {
		w.Fatal(err)
	}
	return positions
}

// folding is one over what the changelog says of the events below an offset.
func (w *world) folding(below kafka.NextOffset) *folding {
	w.Helper()
	rows, closeStore := openRows(w)
	w.Cleanup(closeStore)
	table := newTable(rows, 1<<30)
	for id, state := range w.loggedBelow(below) {
		table.keep(id, &place{state: state, known: true})
	}
	return newFolding(table, (*consent.Folder).Fold, new(slab[subjectFold]))
}

// inGroup joins the processor's group for a moment.
func (w *world) inGroup(do func(context.Context, *kafka.Claim) error) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var fault error
	err := w.client.RunGroup(ctx, kafka.GroupOptions{Group: w.names.ProcessorGroup(), Topics: []string{w.names.Events()}, Stripes: 1},
		func(ctx context.Context, claim *kafka.Claim) error {
			defer cancel()
			fault = do(ctx, claim)
			return nil
		})
	if err != nil || fault != nil {
		w.Fatal(err, fault)
	}
}

// commit is the group's commit in partition 0.
func (w *world) commit() (c kafka.Commit) {
	w.Helper()
	w.inGroup(func(ctx context.Context, claim *kafka.Claim) error {
		commits, err := claim.Committed(ctx)
		c = commits[kafka.Partition{Topic: w.names.Events()}]
		return err
	})
	return c
}

func (w *world) commitPlainly(c kafka.Commit) {
	w.Helper()
	w.inGroup(func(ctx context.Context, claim *kafka.Claim) error {
		return claim.Commit(ctx, map[kafka.Partition]kafka.Commit{{Topic: w.names.Events()}: c})
	})
}

var tears = func() (all []part) {
	for i := range 8 {
		all = append(all, part{i&1 > 0, i&2 > 0, i&4 > 0})
	}
	return all
}()

// All eight ways in which a commit can tear, in the first transaction, in a later
// one, and in two that follow on each other; with and without a local store.
func TestProcessor_ATornCommitIsMended(t *testing.T) {
	for _, survives := range tears {
		for _, batches := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s behind %d", survives, batches), func(t *testing.T) {
				r := seed(t)
				w := newWorld(t, 1)
				w.publish(randomLog(r, 150)...)
				dir := t.TempDir()
				small := func(c *Config) { c.Stripes, c.BatchRecords, c.StateDir = 1, 20, dir }
				w.crashedBehind(stepEnd, batches, small)
				w.tear(w.ctx, survives, 30)
				if r.IntN(2) == 0 { // a repair that is cut short, and another tear
					w.crashedBehind(stepEnd, 1, small)
					w.tear(w.ctx, tears[r.IntN(len(tears))], 25)
				}
				if r.IntN(2) == 0 {
					small = func(c *Config) { c.Stripes, c.BatchRecords = 1, 7 }
				}
				p := w.start(small)
				p.awaitReady()
				p.awaitFolded()
				p.stop()
				w.requireReference()
			})
		}
	}
}

// crashedBehind runs a processor that crashes behind a step of its nth batch; of the
// takeover, when n is 0.
func (w *world) crashedBehind(at step, nth int, change func(*Config)) {
	w.Helper()
	if nth == 0 {
		at, nth = stepAnnounce, 1
	}
	hook, crashed := crash(at, nth)
	p := w.start(hook, change)
	<-crashed
	p.stop()
}

func TestCommitNote_RoundTripsAndRefusesOthers(t *testing.T) {
	for _, n := range []commitNote{
		{},
		{from: 7, states: span{3, 9}, changes: span{4, 5}, seen: 4, by: kafka.Sender{ID: 12, Epoch: 3}},
		{from: 1 << 40, states: span{0, 1}, by: kafka.Sender{ID: 1 << 50, Epoch: 32767}},
	} {
		got, err := parseNote(n.String())
		if err != nil || !reflect.DeepEqual(got, n) {
			t.Errorf("%s: %+v, %v", n, got, err)
		}
	}
	for _, text := range []string{"", "state=12", "from=1;states=2-1;changes=-;seen=0;by=1/1", "from=-1;states=-;changes=-;seen=0;by=1/1", "from=1;states=1;changes=-;seen=0;by=1/1",
		"from=1;states=-;changes=-;seen=0;by=1", "from=1;states=-;changes=-;seen=0;by=1/99999", "from=x;states=-;changes=-;seen=0;by=1/1", "from=1;states=-;changes=-;by=1/1", "from=1;states=-;changes=-;seen=x;by=1/1"} {
		if n, err := parseNote(text); err == nil {
			t.Errorf("%q was taken for %+v", text, n)
		}
	}
}

// A share that is withheld told nothing: what a torn transaction told is told still.
func TestPartBatch_AWithheldShareLeavesTheNoteAlone(t *testing.T) {
	told := commitNote{from: 3, states: span{1, 2}, changes: span{4, 6}, seen: 4}
	pb := partBatch{part: &partition{seenEnd: 6}, begins: 5, next: 9, note: told, retold: span{5, 6}, folding: newFolding(newTable(nil, 1), (*consent.Folder).Fold, new(slab[subjectFold]))}
	pb.withhold(errors.New("a row cannot be written"))
	pb.takeNote(nil, nil)
	if pb.note != told || pb.next != 5 {
		t.Errorf("goes on at %d with %s, want %s", pb.next, pb.note, told)
	}
}
