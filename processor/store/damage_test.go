package store

import (
	"bytes"
	"errors"
	"maps"
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

// filled makes a closed store with the numbered batches up to 60, in some tables.
func filled(t *testing.T, dir string) {
	t.Helper()
	s, p := openAgain(t, nil, Options{Dir: dir, MemtableBytes: 64 << 10})
	for n := int64(1); n <= 60; n++ {
		rows, m := numbered(n)
		if err := p.Write(rows, m); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// useAndMend reads all that a partition has, and mends it as an owner would: what is
// damaged is discarded. What is not must be what was written, up to the mark: a
// manifest whose end is gone is one of an earlier moment.
func useAndMend(t *testing.T, p *Partition) {
	t.Helper()
	mark, ok := p.Mark()
	got := model{}
	err := p.Subject(nil, func(k, v []byte) error { got[string(k)] = string(v); return nil })
	if err == nil {
		err = p.Due(never, 1<<30, func(int64, []byte) {})
	}
	switch {
	case err == nil:
		want := model{}
		for n := int64(1); ok && n <= mark.Changelog; n++ {
			rows, _ := numbered(n)
			want.apply(rows)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%d rows at mark %d, want %d", len(got), mark.Changelog, len(want))
		}
	case !errors.Is(err, ErrDamaged):
		t.Fatalf("error %v, want ErrDamaged", err)
	default:
		if _, ok := p.Mark(); ok {
			t.Fatal("a damaged store has a mark")
		}
		if err := p.Write(nil, Mark{}); !errors.Is(err, ErrDamaged) {
			t.Fatalf("write to a damaged store: %v", err)
		}
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
// opens, with what was there or nothing, and says so when it finds out later.
func TestPartition_DamagedFilesAreBegunAnew(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	origin := t.TempDir()
	filled(t, origin)
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
			useAndMend(t, p)
			_ = s.Close() // may say what is wrong
		}
	}
	t.Logf("begun anew %d, found out later %d", anew, found)
	if anew < 5 || anew+found < 8 { // of the manifest and the tables alone
		t.Fatal("too little was noticed: the test shows nothing")
	}
}

// TestPartition_DamageThatComesWhileOpenIsNeverServed: blocks that rot under an open store.
func TestPartition_DamageThatComesWhileOpenIsNeverServed(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s, p := openAgain(t, nil, o)
	if err := p.Write(newSample(1, 250).rows(0, 2000), Mark{Changelog: 60}); err != nil {
		t.Fatal(err)
	}
	s, p = openAgain(t, s, o)
	defer func() { _ = s.Close() }()
	files, err := filepath.Glob(filepath.Join(o.Dir, "partition-3", "*.sst"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for at := len(b) / 4; at < len(b)/2; at += 64 {
		b[at] ^= 0x55
	}
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Hash(); !errors.Is(err, ErrDamaged) {
		t.Fatalf("error %v, want ErrDamaged", err)
	}
	useAndMend(t, p)
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
	if err := p.apply(p.db, b); err != nil {
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

// crashable makes a file system that loses what was not synced, with the state directory
// on its disk.
func crashable(t *testing.T) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll("state", 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := fs.OpenDir("")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(root.Sync(), root.Close()); err != nil {
		t.Fatal(err)
	}
	return fs
}

// TestPartition_PowerLostHoldsTheBatchesUpToItsMark: of what was not synced, any part is lost.
func TestPartition_PowerLostHoldsTheBatchesUpToItsMark(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	kept := 0
	for round := range 30 {
		fs := crashable(t)
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
		if mark.Changelog > 0 {
			kept++
		}
	}
	if kept < 20 {
		t.Fatalf("something survived in %d of 30 rounds: the test shows nothing", kept)
	}
}

func TestDiscard_DoesNotComeBackAfterPowerIsLost(t *testing.T) {
	for seed := range uint64(20) {
		fs := crashable(t)
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
