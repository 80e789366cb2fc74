package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// filled makes a closed store with rows in tables, and says what it holds.
func filled(t *testing.T, dir string) model {
	t.Helper()
	want := model{}
	s, p := openAgain(t, nil, Options{Dir: dir, MemtableBytes: 64 << 10})
	for n := int64(1); n <= 60; n++ {
		rows, m := numbered(n)
		want.apply(rows)
		if err := p.Write(rows, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

// useAndMend reads and writes all that a partition can do, as a taken-over stripe would, until
// it is right: what is damaged is discarded.
func useAndMend(t *testing.T, p *Partition, want model) {
	t.Helper()
	mark, ok := p.Mark()
	if ok && mark.Changelog == 60 {
		got := model{}
		err := p.Subject(nil, func(k, v []byte) error { got[string(k)] = string(v); return nil })
		if err == nil {
			_, _, err = p.Hash()
		}
		if err == nil {
			err = p.Due(never, 1<<30, func(int64, []byte) {})
		}
		if err == nil {
			compare(t, p, want)
			return
		}
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("error %v, want ErrDamaged", err)
		}
		if _, ok := p.Mark(); ok {
			t.Fatal("a damaged store has a mark")
		}
		if err := p.Write(nil, Mark{}); !errors.Is(err, ErrDamaged) {
			t.Fatalf("write to a damaged store: %v", err)
		}
	} else if ok {
		t.Fatalf("mark of %d: what was synced went back without a word", mark.Changelog)
	}
	if err := p.Discard(); err != nil {
		t.Fatal(err)
	}
	rows, m := numbered(1)
	if err := p.Write(rows, m); err != nil {
		t.Fatal(err)
	}
	again := model{}
	again.apply(rows)
	compare(t, p, again)
}

// TestPartition_DamagedFilesAreBegunAnew flips, cuts and removes in each file. The store
// opens, with all that was there or nothing, and says so when it finds out later.
func TestPartition_DamagedFilesAreBegunAnew(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	origin := t.TempDir()
	want := filled(t, origin)
	files, err := filepath.Glob(filepath.Join(origin, "partition-3", "*"))
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	anew, found := 0, 0
	for _, file := range files {
		for _, how := range []string{"flip", "flip", "flip", "cut", "empty", "remove"} {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
				t.Fatal(err)
			}
			damage(t, rng, filepath.Join(dir, "partition-3", filepath.Base(file)), how)
			s, p := openAgain(t, nil, Options{Dir: dir})
			if _, ok := p.Mark(); !ok {
				anew++
			} else if _, _, err := p.Hash(); err != nil {
				found++
			}
			useAndMend(t, p, want)
			_ = s.Close() // may say what is wrong
		}
	}
	t.Logf("begun anew %d, found out later %d", anew, found)
	if anew < len(files) || anew+found < 2*len(files) {
		t.Fatal("too little was noticed: the test shows nothing")
	}
}

// TestPartition_DamageThatComesWhileOpenIsNeverServed: a block that rots under an open store.
func TestPartition_DamageThatComesWhileOpenIsNeverServed(t *testing.T) {
	dir := t.TempDir()
	want := filled(t, dir)
	s, p := openAgain(t, nil, Options{Dir: dir})
	defer func() { _ = s.Close() }()
	tables, err := filepath.Glob(filepath.Join(dir, "partition-3", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, table := range tables {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for at := len(b) / 4; at < len(b)/2; at += 64 {
			b[at] ^= 0x55
		}
		if err := os.WriteFile(table, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := p.Hash(); !errors.Is(err, ErrDamaged) {
		t.Fatalf("error %v, want ErrDamaged", err)
	}
	useAndMend(t, p, want)
}

func damage(t *testing.T, rng *rand.Rand, path, how string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	switch how {
	case "remove":
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return
	case "cut":
		b = b[:len(b)/2]
	case "empty":
		b = nil
	case "flip":
		for range 3 {
			if len(b) > 0 {
				b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
			}
		}
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPartition_FoundDamagedIsNotUsedAfterARestart(t *testing.T) {
	dir := t.TempDir()
	filled(t, dir)
	s, p := openAgain(t, nil, Options{Dir: dir})
	p.fault.set(errors.New("found by the test"))
	if err := p.Subject(nil, func(_, _ []byte) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	_ = s.Close() // says that it is damaged
	s, p = openAgain(t, nil, Options{Dir: dir})
	defer s.Close()
	if m, ok := p.Mark(); ok {
		t.Fatalf("mark %+v", m)
	}
}

func TestPartition_OfAnotherFormatIsBegunAnew(t *testing.T) {
	dir := t.TempDir()
	s, p := openAgain(t, nil, Options{Dir: dir})
	b := p.db.NewBatch()
	if err := b.Set(markKey, bytes.Repeat([]byte{2}, markBytes), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.commit(p.db, b); err != nil {
		t.Fatal(err)
	}
	s, p = openAgain(t, s, Options{Dir: dir})
	defer s.Close()
	if m, ok := p.Mark(); ok {
		t.Fatalf("mark %+v", m)
	}
	if err := p.Write(nil, Mark{Changelog: 3}); err != nil {
		t.Fatal(err)
	}
}

// TestPartition_FullDiskIsAnErrorNotTheEnd: a disk that takes no more tables, or no more of
// the manifest. Nothing hangs, nothing ends the process, and Discard mends it.
func TestPartition_FullDiskIsAnErrorNotTheEnd(t *testing.T) {
	for _, what := range []string{".sst", "MANIFEST"} {
		t.Run(what, func(t *testing.T) {
			var full atomic.Bool
			fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.Contains(op.Path, what) &&
					op.Kind != errorfs.OpRemove && op.Kind != errorfs.OpRemoveAll {
					return syscall.ENOSPC
				}
				return nil
			}))
			s, p := openPartition(t, Options{MemtableBytes: 64 << 10, fs: fs})
			rows := newSample(1, 250).rows(0, 100)
			if err := p.Write(rows, Mark{Changelog: 1}); err != nil {
				t.Fatal(err)
			}
			full.Store(true)
			var err error
			for n := int64(2); err == nil && n < 10_000; n++ {
				err = p.Write(rows, Mark{Changelog: n})
			}
			if !errors.Is(err, ErrDamaged) || !errors.Is(err, syscall.ENOSPC) && !strings.Contains(err.Error(), "no space") {
				t.Fatalf("error %v", err)
			}
			full.Store(false)
			if err := p.Discard(); err != nil {
				t.Fatal(err)
			}
			if err := p.Write(rows, Mark{Changelog: 9}); err != nil {
				t.Fatal(err)
			}
			if _, n, err := p.Hash(); n != 100 || err != nil {
				t.Fatal(n, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestPartition_PowerLostHoldsTheBatchesUpToItsMark: of what was not synced, any part is lost.
func TestPartition_PowerLostHoldsTheBatchesUpToItsMark(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	furthest := int64(0)
	for round := range 30 {
		fs := vfs.NewCrashableMem()
		_, p := openPartition(t, Options{MemtableBytes: 64 << 10, fs: fs})
		last := int64(20 + rng.IntN(200))
		for n := int64(1); n <= last; n++ {
			rows, m := numbered(n)
			write := p.Write
			if round%2 == 0 {
				write = p.Load
			}
			if err := write(rows, m); err != nil {
				t.Fatal(err)
			}
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		_, q := openPartition(t, Options{fs: after})
		mark, _ := q.Mark()
		want := model{}
		for n := int64(1); n <= mark.Changelog; n++ {
			rows, _ := numbered(n)
			want.apply(rows)
		}
		compare(t, q, want)
		furthest = max(furthest, mark.Changelog)
	}
	if furthest == 0 {
		t.Fatal("nothing survived: the test shows nothing")
	}
}

func TestDiscard_DoesNotComeBackAfterPowerIsLost(t *testing.T) {
	for seed := range uint64(20) {
		fs := vfs.NewCrashableMem()
		s, p := openPartition(t, Options{MemtableBytes: 64 << 10, fs: fs})
		rows, m := numbered(1)
		if err := p.Write(rows, m); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.remove(p.dir); err != nil { // Discard crashes here
			t.Fatal(err)
		}
		after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 0))})
		_, q := openPartition(t, Options{fs: after})
		if m, ok := q.Mark(); ok {
			t.Fatalf("mark %+v came back", m)
		}
		compare(t, q, model{})
	}
}
