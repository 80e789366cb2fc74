package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/sink/table"
)

// clock is time under the test's control; each look at it takes a moment, so
// that whoever waits for a time gets there.
type clock struct{ t time.Time }

func (c *clock) now() time.Time {
	c.t = c.t.Add(10 * time.Millisecond)
	return c.t
}

// engine models what matters of ClickHouse: a block is there whole or not at
// all; a token is remembered, and a repeat under it is answered OK; a block whose
// deadline has passed by the engine's own clock is refused.
type engine struct {
	clock  *clock
	skew   time.Duration
	tokens map[string]bool
	rows   map[kafka.LastOffset]int
	late   []lateInsert // requests that are held up somewhere

	// next decides what happens to the next insert.
	next func() fate
}

type lateInsert struct {
	rows   []table.Row
	token  string
	before time.Time
}

type fate uint8

const (
	fine            fate = iota
	refusedBefore        // an error, and it never arrived
	answerLost           // it is there, and the answer got lost
	heldUp               // an error now; it arrives later, or never
	tokenWithoutRow      // killed between writing the token and the part: OK is answered to a repeat
)

var errAway = errors.New("connection lost")

func newEngine(c *clock) *engine {
	return &engine{clock: c, tokens: map[string]bool{}, rows: map[kafka.LastOffset]int{}, next: func() fate { return fine }}
}

func (e *engine) apply(rows []table.Row, token string, before time.Time) error {
	if !e.clock.now().Add(e.skew).Before(before) {
		return table.ErrTooLate
	}
	if e.tokens[token] {
		return nil
	}
	e.tokens[token] = true
	for i := range rows {
		e.rows[rows[i].Position.Offset]++
	}
	return nil
}

func (e *engine) Insert(_ context.Context, _ *table.Table, rows []table.Row, token string, before time.Time) error {
	switch e.next() {
	case refusedBefore:
		return errAway
	case answerLost:
		if err := e.apply(rows, token, before); err != nil {
			return err
		}
		return errAway
	case heldUp:
		e.late = append(e.late, lateInsert{append([]table.Row(nil), rows...), token, before})
		return errAway
	case tokenWithoutRow:
		if !e.tokens[token] && e.clock.now().Add(e.skew).Before(before) {
			e.tokens[token] = true
		}
		return errAway
	case fine:
	}
	return e.apply(rows, token, before)
}

// deliverLate lets a held-up request arrive.
func (e *engine) deliverLate(r *rand.Rand) {
	if len(e.late) == 0 {
		return
	}
	i := r.IntN(len(e.late))
	l := e.late[i]
	e.late = append(e.late[:i], e.late[i+1:]...)
	_ = e.apply(l.rows, l.token, l.before)
}

func (e *engine) Offsets(_ context.Context, _ *table.Table, _ kafka.Partition, first, last kafka.LastOffset) ([]kafka.LastOffset, error) {
	var all []kafka.LastOffset
	for o, n := range e.rows {
		for range n {
			if o >= first && o <= last {
				all = append(all, o)
			}
		}
	}
	return all, nil
}

func (e *engine) Holds(context.Context, *table.Table, kafka.Partition) (bool, error) {
	return len(e.rows) > 0, nil
}
func (e *engine) Applied(context.Context) (int, error)        { return table.Version(), nil }
func (e *engine) Skew(context.Context) (time.Duration, error) { return e.skew, nil }

// coordinator keeps the group's position. A claim is fenced once there is a newer one.
type coordinator struct {
	commit     kafka.Commit
	generation int
}

type claim struct {
	c          *coordinator
	generation int
	lose       func() bool // the commit is stored, and its answer lost
}

func (c *claim) Commit(_ context.Context, positions map[kafka.Partition]kafka.Commit) error {
	if c.generation != c.c.generation {
		return kafka.ErrFenced
	}
	for _, p := range positions {
		c.c.commit = p
	}
	if c.lose != nil && c.lose() {
		return kafka.ErrIndefinite
	}
	return nil
}

var testPart = kafka.Partition{Topic: "consent.events", Index: 3}

func row(o kafka.LastOffset) table.Row {
	return table.Row{Position: kafka.Position{Partition: testPart, Offset: o}}
}

func rowsOf(first, last kafka.LastOffset) (rows []table.Row) {
	for o := first; o <= last; o++ {
		rows = append(rows, row(o))
	}
	return rows
}

// bench is a writer over the model.
type bench struct {
	clock  *clock
	engine *engine
	coord  *coordinator
	sink   *Sink
}

func newBench(t testing.TB) *bench {
	t.Helper()
	c := &clock{time.Unix(1_767_225_600, 0)}
	e := newEngine(c)
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	config := Config{RetryInterval: time.Nanosecond}
	config.ensureDefaults()
	return &bench{clock: c, engine: e, coord: &coordinator{}, sink: &Sink{
		config: config, tables: e, log: slog.New(slog.DiscardHandler), metrics: m, now: c.now,
	}}
}

func (b *bench) writer() *writer {
	b.coord.generation++
	return &writer{sink: b.sink, claim: &claim{c: b.coord, generation: b.coord.generation}, table: table.Events, part: testPart, next: b.coord.commit.Next}
}

// takeover is what a new owner does with a pending range.
func (b *bench) takeover(w *writer) error {
	p, ok, err := parsePending(b.coord.commit.Metadata)
	if err != nil || !ok {
		return err
	}
	if err := w.settle(context.Background(), rowsOf(kafka.LastOffset(w.next), p.last), p); err != nil {
		return err
	}
	return w.confirm(context.Background(), p.last.Next())
}

func (b *bench) requireOnce(t *testing.T, first, last kafka.LastOffset) {
	t.Helper()
	for o := first; o <= last; o++ {
		if n := b.engine.rows[o]; n != 1 {
			t.Errorf("offset %d is there %d times", o, n)
		}
	}
	if int(last-first)+1 != len(b.engine.rows) {
		t.Errorf("%d offsets are there, want %d to %d", len(b.engine.rows), first, last)
	}
}

func fates(list ...fate) func() fate {
	return func() fate {
		if len(list) == 0 {
			return fine
		}
		f := list[0]
		list = list[1:]
		return f
	}
}

func TestWriter_WritesAndMovesThePosition(t *testing.T) {
	b := newBench(t)
	if err := b.writer().write(t.Context(), rowsOf(0, 9), 10); err != nil {
		t.Fatal(err)
	}
	b.requireOnce(t, 0, 9)
	if b.coord.commit != (kafka.Commit{Next: 10}) {
		t.Errorf("position %+v", b.coord.commit)
	}
}

func TestWriter_AnInsertWithoutAnAnswerIsRepeatedAndCounted(t *testing.T) {
	for name, f := range map[string]fate{"never arrived": refusedBefore, "answer lost": answerLost, "token without rows": tokenWithoutRow} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.engine.next = fates(f)
			if err := b.writer().write(t.Context(), rowsOf(0, 9), 10); err != nil {
				t.Fatal(err)
			}
			b.requireOnce(t, 0, 9)
			if b.coord.commit != (kafka.Commit{Next: 10}) {
				t.Errorf("position %+v", b.coord.commit)
			}
		})
	}
}

// A request that is held up arrives after its repeat: under the same token it
// adds nothing; after its deadline it is refused.
func TestWriter_AHeldUpInsertNeverDoubles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	b := newBench(t)
	b.engine.next = fates(heldUp)
	if err := b.writer().write(t.Context(), rowsOf(0, 9), 10); err != nil {
		t.Fatal(err)
	}
	b.engine.deliverLate(r)
	b.requireOnce(t, 0, 9)

	b = newBench(t)
	b.engine.next = fates(heldUp)
	w := b.writer()
	crash := errors.New("crash")
	b.sink.config.after = func(s step) error {
		if s == insert {
			return crash
		}
		return nil
	}
	if err := w.write(t.Context(), rowsOf(0, 9), 10); !errors.Is(err, crash) {
		t.Fatal(err)
	}
	b.sink.config.after = nil
	b.clock.t = b.clock.t.Add(10 * time.Minute) // past T and every clock
	clear(b.engine.tokens)                      // and the token is forgotten
	if err := b.takeover(b.writer()); err != nil {
		t.Fatal(err)
	}
	b.engine.deliverLate(r)
	b.requireOnce(t, 0, 9)
}

// By our clock the deadline has passed, by ClickHouse's it has not: a count now
// would not be final.
func TestWriter_WaitsUntilTheDeadlineHasPassedByEveryClock(t *testing.T) {
	b := newBench(t)
	b.engine.skew = -20 * time.Second
	p := pending{last: 9, before: b.clock.t}
	b.clock.t = b.clock.t.Add(5 * time.Second)
	w := b.writer()
	if complete, err := w.repeat(t.Context(), rowsOf(0, 9), &p); complete || !errors.Is(err, errNotYetLate) {
		t.Fatalf("complete %t, %v: it did not wait", complete, err)
	}
	_ = b.engine.apply(rowsOf(0, 9), p.token(testPart, 0), p.before) // the held-up one arrives, and is still taken
	b.clock.t = b.clock.t.Add(maxSkew)
	if err := w.settle(t.Context(), rowsOf(0, 9), p); err != nil {
		t.Fatal(err)
	}
	b.requireOnce(t, 0, 9)
}

// ClickHouse's clock is ahead. An insert passed its check in time and lost its connection; its
// part is not there yet when the repeat is refused as too late.
func TestWriter_ARefusalAsTooLateIsNoProofThatEarlierInsertsAreOver(t *testing.T) {
	b := newBench(t)
	b.engine.skew = 5 * time.Second
	p := pending{last: 9, before: b.clock.t.Add(4 * time.Second)}
	w := b.writer()
	if complete, err := w.repeat(t.Context(), rowsOf(0, 9), &p); complete || !errors.Is(err, table.ErrTooLate) || p.n != 0 {
		t.Fatalf("complete %t, %v, n %d: it did not wait", complete, err, p.n)
	}
	b.engine.tokens[p.token(testPart, 0)] = true // the part lands
	for o := range kafka.LastOffset(10) {
		b.engine.rows[o]++
	}
	if err := w.settle(t.Context(), rowsOf(0, 9), p); err != nil {
		t.Fatal(err)
	}
	b.requireOnce(t, 0, 9)
}

func TestWriter_OfAPartlyWrittenRangeOnlyWhatIsMissingIsInserted(t *testing.T) {
	b := newBench(t)
	for o := range kafka.LastOffset(5) { // a block over two months: one of its parts is there
		b.engine.rows[o] = 1
	}
	p := pending{last: 9, n: 2, before: b.clock.t.Add(time.Minute)}
	b.coord.commit = kafka.Commit{Next: 0, Metadata: p.String()}
	if err := b.takeover(b.writer()); err != nil {
		t.Fatal(err)
	}
	b.requireOnce(t, 0, 9)
}

func TestWriter_ACommitWithoutAnAnswerEndsTheClaim(t *testing.T) {
	for _, at := range []int{1, 2} { // the announcement; the confirmation
		b := newBench(t)
		w := b.writer()
		n := 0
		w.claim.(*claim).lose = func() bool { n++; return n == at }
		if err := w.write(t.Context(), rowsOf(0, 9), 10); !errors.Is(err, kafka.ErrIndefinite) {
			t.Errorf("commit %d: %v", at, err)
		}
		if err := b.takeover(b.writer()); err != nil {
			t.Error(err)
		}
		if b.coord.commit.Metadata != "" {
			t.Errorf("commit %d: %q is left", at, b.coord.commit.Metadata)
		}
		if at == 2 {
			b.requireOnce(t, 0, 9)
		}
	}
}

// Thousands of random runs: crashes behind any step, lost answers, held-up
// requests that arrive at any time, zombies, clocks that differ, time that
// passes. At the end every offset is there exactly once.
func TestWriter_RandomRunsWriteEachOffsetOnce(t *testing.T) {
	first := rand.Uint64()
	t.Logf("seeds from %d", first)
	for i := range uint64(4000) {
		if err := randomRun(t, first+i); err != nil {
			t.Fatalf("seed %d: %v", first+i, err)
		}
	}
}

func randomRun(t *testing.T, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 7))
	b := newBench(t)
	b.engine.skew = time.Duration(r.IntN(57)-28) * time.Second
	chance := func(percent int) bool { return r.IntN(100) < percent }
	b.engine.next = func() fate {
		if chance(60) {
			return fine
		}
		return fate(1 + r.IntN(4))
	}
	crash := errors.New("crash")
	b.sink.config.after = func(step) error {
		if chance(20) {
			b.engine.deliverLate(r)
		}
		b.clock.t = b.clock.t.Add(time.Duration(r.IntN(40)) * time.Second)
		if chance(12) {
			return crash
		}
		return nil
	}
	const end = 40
	var zombie *writer
	for tries := 0; b.coord.commit.Next < end || b.coord.commit.Metadata != ""; tries++ {
		if tries > 3000 {
			return fmt.Errorf("does not come to an end at %+v", b.coord.commit)
		}
		w := b.writer()
		w.claim.(*claim).lose = func() bool { return chance(5) }
		if zombie != nil && chance(30) { // the former owner wakes up in the middle of its work
			last := min(kafka.LastOffset(zombie.next)+kafka.LastOffset(r.IntN(8)), end-1)
			if last >= kafka.LastOffset(zombie.next) {
				if err := zombie.write(context.Background(), rowsOf(kafka.LastOffset(zombie.next), last), last.Next()); err == nil {
					return errors.New("a zombie's write went through")
				}
			}
		}
		zombie = w
		if err := b.takeover(w); err != nil {
			b.clock.t = b.clock.t.Add(time.Duration(r.IntN(90)) * time.Second)
			continue
		}
		for w.next < end {
			last := min(kafka.LastOffset(w.next)+kafka.LastOffset(r.IntN(8)), end-1)
			if err := w.write(context.Background(), rowsOf(kafka.LastOffset(w.next), last), last.Next()); err != nil {
				break
			}
		}
	}
	for len(b.engine.late) > 0 { // whatever is still on its way
		b.engine.deliverLate(r)
		b.clock.t = b.clock.t.Add(time.Second)
	}
	for o := range kafka.LastOffset(end) {
		if n := b.engine.rows[o]; n != 1 {
			return fmt.Errorf("offset %d is there %d times", o, n)
		}
	}
	return nil
}

func TestPending_RoundTripsAndRefusesWhatIsNotOurs(t *testing.T) {
	p := pending{last: 1042, n: 3, before: time.Unix(1_767_225_720, 0)}
	if p.String() != "pending=1042;n=3;before=1767225720" {
		t.Error(p)
	}
	got, ok, err := parsePending(p.String())
	if err != nil || !ok || got != p {
		t.Errorf("%+v %t %v", got, ok, err)
	}
	if _, ok, err := parsePending(""); ok || err != nil {
		t.Error("nothing pending reads as something")
	}
	for _, text := range []string{"x", "pending=1", "pending=a;n=0;before=1", "pending=1;n=0;before=-1", "n=0;pending=1;before=1", "pending=1;n=0;before=1;more=1"} {
		if _, ok, err := parsePending(text); ok || err == nil {
			t.Errorf("%q was read", text)
		}
	}
}
