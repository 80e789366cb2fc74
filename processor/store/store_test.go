package store

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOpen_RefusesADirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Fatalf("second store in the process: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal("close twice:", err)
	}
	// Now another process holds it.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		t.Fatal("the other process wrote nothing")
	}
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("a store beside another process: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	s, err = Open(Options{Dir: dir})
	if err != nil {
		t.Fatal("its lock outlived the other process:", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPartition_HasOneOwner(t *testing.T) {
	s, p := openPartition(t, Options{Dir: t.TempDir()})
	if _, err := s.Partition(0); !errors.Is(err, ErrOpen) {
		t.Fatalf("opened twice: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal("close twice:", err)
	}
	p, err := s.Partition(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"write":   p.Write(nil, Mark{}),
		"load":    p.Load(nil, Mark{}),
		"discard": p.Discard(),
		"due":     p.Due(0, 1, nil),
		"settle":  p.Settle(nil, 0),
		"subject": p.Subject(nil, nil),
		"open":    func() error { _, err := s.Partition(1); return err }(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
	if _, ok := p.Mark(); ok {
		t.Error("a mark after close")
	}
}

func TestOpen_NamesEveryFault(t *testing.T) {
	_, err := Open(Options{CacheBytes: 7, MemtableBytes: 7})
	if err == nil || !strings.Contains(err.Error(), "CacheBytes is 7") || !strings.Contains(err.Error(), "MemtableBytes is 7") {
		t.Fatal(err)
	}
}

func TestOpen_IsForItsOwnerOnlyAndSweeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(filepath.Join(dir, "partition-7.gone"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "mine"), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := os.Stat(filepath.Join(dir, "partition-7.gone")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("what was being removed is still there:", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mine")); err != nil {
		t.Fatal("what is not ours is gone:", err)
	}
	fresh, err := Open(Options{Dir: filepath.Join(dir, "new")})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	info, err := os.Stat(filepath.Join(dir, "new"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatal(info.Mode(), err)
	}
}

// TestClose_DoesNotWaitForCompactions: one over everything that a restore brought can take
// longer than a polite stop may.
func TestClose_DoesNotWaitForCompactions(t *testing.T) {
	const rows = 100_000
	o := Options{Dir: t.TempDir(), MemtableBytes: 1 << 20}
	s, p := openAgain(t, nil, o)
	all := newSample(1, 250).shuffled(rows)
	for i := 0; i < rows; i += 1000 {
		if err := p.Load(all[i:i+1000], Mark{Changelog: int64(i + 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	before := tables(t, o.Dir)
	p.loaded() // now it is compacted
	for deadline := time.Now().Add(20 * time.Second); p.db.Metrics().Compact.NumInProgress == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no compaction began")
		}
		time.Sleep(50 * time.Microsecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := tables(t, o.Dir); n < before {
		t.Fatalf("%d tables became %d: the compaction ran to its end", before, n)
	}
	s, p = openAgain(t, nil, o)
	defer s.Close()
	if mark, _ := p.Mark(); mark.Changelog != rows {
		t.Fatalf("mark %+v after a compaction that was given up", mark)
	}
	if _, n, err := p.Hash(); err != nil || n != rows {
		t.Fatal("rows after a compaction that was given up:", n, err)
	}
}

func tables(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "partition-3", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
