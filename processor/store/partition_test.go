package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// reference holds what a Partition should hold.
type reference struct {
	rows  model
	index map[string]bool // index keys
	mark  Mark
}

func (r *reference) apply(rows []Row, m Mark) {
	r.rows.apply(rows)
	for _, row := range rows {
		expires := row.Expires
		if row.Value == nil {
			expires = 0
		}
		if row.WasExpires != 0 {
			delete(r.index, string(appendIndexKey(nil, row.WasExpires, row.Key)))
		}
		if expires != 0 {
			r.index[string(appendIndexKey(nil, expires, row.Key))] = true
		}
	}
	r.mark = m
}

// TestPartition_DoesWhatAMapDoes: random operations, with reopening, discarding, and
// memtables so small that flushes and compactions happen all the time.
func TestPartition_DoesWhatAMapDoes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for run := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, run))
		o := Options{Dir: t.TempDir(), MemtableBytes: 64 << 10}
		s, p := openAgain(t, nil, o)
		want := &reference{rows: model{}, index: map[string]bool{}}
		for step := range 1500 {
			switch n := rng.IntN(100); {
			case n < 45:
				rows := randomRows(rng, want, 60)
				m := randomMark(rng, step)
				if err := p.Write(rows, m); err != nil {
					t.Fatal(err)
				}
				want.apply(rows, m)
			case n < 65:
				rows := randomRows(rng, want, 200)
				m := randomMark(rng, step)
				if err := p.Load(rows, m); err != nil {
					t.Fatal(err)
				}
				want.apply(rows, m)
			case n < 80:
				checkSubject(t, p, want, fmt.Sprintf("acme|user:%d|", rng.IntN(60)))
			case n < 90:
				checkDue(t, p, want, int64(rng.IntN(600)-100), 1+rng.IntN(50))
			case n < 97:
				settleOne(t, p, want)
			case n < 99:
				s, p = openAgain(t, s, o)
			default:
				if rng.IntN(4) > 0 {
					continue
				}
				if err := p.Discard(); err != nil {
					t.Fatal(err)
				}
				want = &reference{rows: model{}, index: map[string]bool{}}
			}
			if mark, ok := p.Mark(); mark != want.mark || ok != (want.mark != Mark{}) {
				t.Fatalf("step %d: mark %+v %v, want %+v", step, mark, ok, want.mark)
			}
		}
		compare(t, p, want.rows)
		checkDue(t, p, want, never, 1<<30)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func openAgain(t *testing.T, s *Store, o Options) (*Store, *Partition) {
	t.Helper()
	if s != nil {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Partition(3)
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

func randomMark(rng *rand.Rand, step int) Mark {
	return Mark{Topic: [16]byte{1, 2, 3}, Changelog: int64(step) + 1, Input: rng.Int64(), Producer: rng.Int64(), Epoch: int16(rng.IntN(100)), At: -5}
}

func randomRows(rng *rand.Rand, want *reference, most int) []Row {
	rows := make([]Row, 1+rng.IntN(most))
	for i := range rows {
		key := fmt.Appendf(nil, "acme|user:%d|purpose%d", rng.IntN(60), rng.IntN(9))
		rows[i] = Row{Key: key, Value: make([]byte, rng.IntN(300))}
		for j := range rows[i].Value {
			rows[i].Value[j] = byte(rng.Uint32())
		}
		if rng.IntN(6) == 0 {
			rows[i].Value = nil
		}
		if rng.IntN(3) == 0 {
			rows[i].Expires = 1 + rng.Int64N(500)
		}
		if rng.IntN(2) == 0 {
			for k := range want.index {
				if e, old, _ := splitIndexKey([]byte(k)); bytes.Equal(old, key) {
					rows[i].WasExpires = e
					break
				}
			}
		}
	}
	return rows
}

func checkSubject(t *testing.T, p *Partition, want *reference, prefix string) {
	t.Helper()
	var got, expected []string
	err := p.Subject([]byte(prefix), func(k, v []byte) error {
		got = append(got, string(k)+"="+string(v))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range slices.Sorted(maps.Keys(want.rows)) {
		if strings.HasPrefix(k, prefix) {
			expected = append(expected, k+"="+want.rows[k])
		}
	}
	if !slices.Equal(got, expected) {
		t.Fatalf("%d rows of %q, want %d", len(got), prefix, len(expected))
	}
}

func checkDue(t *testing.T, p *Partition, want *reference, before int64, limit int) {
	t.Helper()
	var got, expected []string
	err := p.Due(before, limit, func(e int64, k []byte) { got = append(got, string(appendIndexKey(nil, e, k))) })
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Sorted(maps.Keys(want.index))
	for _, k := range all {
		if e, _, _ := splitIndexKey([]byte(k)); e <= before && len(expected) < limit {
			expected = append(expected, k)
		}
	}
	if !slices.Equal(got, expected) {
		t.Fatalf("%d entries due at %d, want %d", len(got), before, len(expected))
	}
	next, ok := p.NextDue()
	if ok != (len(all) > 0) {
		t.Fatalf("next due %v, want %v", ok, len(all) > 0)
	}
	if ok {
		if e, _, _ := splitIndexKey([]byte(all[0])); e != next {
			t.Fatalf("next due at %d, want %d", next, e)
		}
	}
}

func settleOne(t *testing.T, p *Partition, want *reference) {
	t.Helper()
	if len(want.index) == 0 {
		return
	}
	all := slices.Sorted(maps.Keys(want.index))
	e, k, _ := splitIndexKey([]byte(all[0]))
	if err := p.Settle(k, e); err != nil {
		t.Fatal(err)
	}
	delete(want.index, all[0])
}

func TestDue_IsSeenWhateverLooksWereBefore(t *testing.T) {
	_, p := openPartition(t, Options{})
	see := func(want ...int64) {
		t.Helper()
		var got []int64
		if err := p.Due(never, 100, func(e int64, _ []byte) { got = append(got, e) }); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("due %v, want %v", got, want)
		}
	}
	see()
	put := func(key string, at int64) {
		t.Helper()
		if err := p.Write([]Row{{Key: []byte(key), Value: []byte("v"), Expires: at}}, Mark{Changelog: at}); err != nil {
			t.Fatal(err)
		}
	}
	put("a", 50)
	see(50)
	put("b", 20)
	put("c", -7)
	see(-7, 20, 50)
	if err := p.Settle([]byte("c"), -7); err != nil {
		t.Fatal(err)
	}
	see(20, 50)
	put("d", 1)
	see(1, 20, 50)
}

// A look that began before a write must not hide what the write brought.
func TestDue_ALookHidesNoWriteThatComesMeanwhile(t *testing.T) {
	_, p := openPartition(t, Options{})
	var looking sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		looking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.NextDue()
				}
			}
		})
	}
	for i := range 3000 {
		at := int64(5000 - i)
		if err := p.Write([]Row{{Key: []byte("k"), Value: []byte("v"), Expires: at, WasExpires: at + 1}}, Mark{Changelog: int64(i)}); err != nil {
			t.Fatal(err)
		}
		if next, ok := p.NextDue(); !ok || next != at {
			t.Fatalf("next due %d %v, want %d", next, ok, at)
		}
	}
	close(stop)
	looking.Wait()
}

func TestSubject_SeesOneMomentOfAWriter(t *testing.T) {
	_, p := openPartition(t, Options{Dir: t.TempDir(), MemtableBytes: 64 << 10})
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				seen := map[string]bool{}
				err := p.Subject([]byte("acme|user:1|"), func(_, v []byte) error { seen[string(v[:8])] = true; return nil })
				if err != nil {
					t.Error(err)
					return
				}
				if len(seen) > 1 {
					t.Errorf("rows of %d batches in one view", len(seen))
					return
				}
			}
		})
	}
	rows := make([]Row, 9)
	for n := range 2000 {
		for i := range rows {
			rows[i] = Row{Key: fmt.Appendf(nil, "acme|user:1|p%d", i), Value: fmt.Appendf(nil, "%08d%0200d", n, i)}
		}
		write := p.Write
		if n%3 == 0 {
			write = p.Load
		}
		if err := write(rows, Mark{Changelog: int64(n)}); err != nil {
			t.Fatal(err)
		}
		if n%3 != 1 { // behind a Load that a reader may be applying
			continue
		}
		err := p.Subject([]byte("acme|user:1|"), func(_, v []byte) error {
			if string(v[:8]) != fmt.Sprintf("%08d", n) {
				return fmt.Errorf("after batch %d a row of %s", n, v[:8])
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	readers.Wait()
}

// TestWrite_DoesNotOvertakeALoad: a reader applies what Load has gathered while the
// writer goes on.
func TestWrite_DoesNotOvertakeALoad(t *testing.T) {
	_, p := openPartition(t, Options{MemtableBytes: 2 << 20})
	rows := newSample(1, 250).shuffled(3000)
	key := rows[1500].Key
	for round := range 40 {
		if err := p.Load(rows, Mark{Changelog: 1}); err != nil {
			t.Fatal(err)
		}
		began := make(chan struct{})
		var reader sync.WaitGroup
		reader.Go(func() {
			close(began)
			_ = p.Subject([]byte("nobody|"), nil)
		})
		<-began
		time.Sleep(time.Duration(round) * 50 * time.Microsecond) // into the middle of it
		if err := p.Write([]Row{{Key: key, Value: []byte("newer")}}, Mark{Changelog: 2}); err != nil {
			t.Fatal(err)
		}
		reader.Wait()
		err := p.Subject(key, func(_, v []byte) error {
			if string(v) != "newer" {
				return errors.New("the older row came last")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSubject_EndsWithTheCallersError(t *testing.T) {
	_, p := openPartition(t, Options{})
	if err := p.Write(newSample(1, 100).rows(0, 9), Mark{Changelog: 9}); err != nil {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	if err := p.Subject(nil, func(_, _ []byte) error { return mine }); !errors.Is(err, mine) {
		t.Fatalf("error %v", err)
	}
	if _, ok := p.Mark(); !ok {
		t.Fatal("a caller's error made the store a damaged one")
	}
}

func TestHash_IsOfTheRowsAndOfNothingElse(t *testing.T) {
	_, p := openPartition(t, Options{})
	other, q := openPartition(t, Options{})
	rows := newSample(3, 100).rows(0, 500)
	if err := p.Write(rows, Mark{Changelog: 1}); err != nil {
		t.Fatal(err)
	}
	for i := len(rows) - 1; i >= 0; i-- { // another order, through other values
		r := rows[i]
		for _, v := range [][]byte{[]byte("old"), nil, r.Value} {
			if err := q.Load([]Row{{Key: r.Key, Value: v, Expires: 7}}, Mark{Changelog: 2}); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, n, err := p.Hash()
	if err != nil || n != 500 {
		t.Fatal(n, err)
	}
	b, n, err := q.Hash()
	if err != nil || n != 500 {
		t.Fatal(n, err)
	}
	if a != b {
		t.Fatal("equal rows, other hash")
	}
	rows[77].Value[3]++
	if err := q.Write(rows[77:78], Mark{Changelog: 3}); err != nil {
		t.Fatal(err)
	}
	if b, _, _ = q.Hash(); a == b {
		t.Fatal("other rows, equal hash")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOrder_PutsPartsFirst checks what the engine asks of a Split.
func TestOrder_PutsPartsFirst(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var keys [][]byte
	for range 3000 {
		k := []byte{"mrxq"[rng.IntN(4)]}
		for range rng.IntN(7) {
			k = append(k, "|a|}\x00z{"[rng.IntN(7)])
		}
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return bytes.Compare(keys[i], keys[j]) < 0 })
	for i, k := range keys {
		part := k[:subjectLength(k)]
		if subjectLength(part) != len(part) {
			t.Fatalf("the part %q of %q has a part of its own", part, k)
		}
		if i > 0 {
			if before := keys[i-1]; bytes.Compare(before[:subjectLength(before)], part) > 0 {
				t.Fatalf("%q < %q, but not their parts", before, k)
			}
		}
		next := order.ImmediateSuccessor(nil, part)
		if bytes.Compare(part, next) >= 0 || subjectLength(next) != len(next) {
			t.Fatalf("%q behind %q", next, part)
		}
	}
}

func FuzzPartition_TakesAnyKey(f *testing.F) {
	s, err := Open(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	p, err := s.Partition(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("acme|user:1|ads"), []byte("acme|user:1|"), []byte("v"), int64(4))
	f.Add([]byte(""), []byte(""), []byte(""), int64(-1))
	f.Add([]byte("|||"), []byte("||"), []byte("x"), int64(never))
	f.Add([]byte("a|"), []byte("a"), []byte("x"), int64(-never-1))
	f.Fuzz(func(t *testing.T, a, b, value []byte, expires int64) {
		if value == nil {
			value = []byte{}
		}
		if err := p.Discard(); err != nil {
			t.Fatal(err)
		}
		want := &reference{rows: model{}, index: map[string]bool{}}
		rows := []Row{{Key: a, Value: value, Expires: expires}, {Key: b, Value: append(value, 'b')}}
		if err := p.Write(rows, Mark{Changelog: 1}); err != nil {
			t.Fatal(err)
		}
		want.apply(rows, Mark{Changelog: 1})
		for _, prefix := range [][]byte{a, b, a[:len(a)/2], nil} {
			checkSubject(t, p, want, string(prefix))
		}
		checkDue(t, p, want, never, 10)
	})
}
