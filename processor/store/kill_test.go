package store

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// childDir in the environment makes this test binary a writer that waits to be killed.
const childDir = "ASSENT_STORE_TEST_CHILD"

// numbered is the batch that covers the changelog from n−1 to n: some rows come new, some
// come again with another value, some go, some are due. Some batches go through a memtable
// (of 32 KiB), some are large enough to be a table.
func numbered(n int64) ([]Row, Mark) {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	rows := make([]Row, 1+rng.IntN(25)+rng.IntN(2)*int(n%8/7)*40)
	for i := range rows {
		rows[i] = Row{Key: sampleKey(rng.Int64N(5000)), Value: fmt.Appendf(nil, "%d of batch %d %0200d", i, n, rng.Uint64())}
		if rng.IntN(5) == 0 {
			rows[i].Value = nil
		} else if rng.IntN(3) == 0 {
			rows[i].Expires = 1 + rng.Int64N(1000)
		}
	}
	return rows, Mark{Topic: [16]byte{9}, Changelog: n, Input: 10 * n, Producer: 5, Epoch: 3, At: n}
}

// runChild writes numbered batches behind what is there, some through Load, and tells
// after each.
func runChild(dir string) {
	s, err := Open(Options{Dir: dir, MemtableBytes: 64 << 10})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	p, err := s.Partition(0)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	mark, _ := p.Mark()
	for n := mark.Changelog + 1; ; n++ {
		rows, m := numbered(n)
		if n%100 < 50 {
			err = p.Write(rows, m)
		} else {
			err = p.Load(rows, m)
		}
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(n)
	}
}

// model is what a partition holds, the plain way.
type model map[string]string

func (m model) apply(rows []Row) {
	for _, r := range rows {
		if r.Value == nil {
			delete(m, string(r.Key))
		} else {
			m[string(r.Key)] = string(r.Value)
		}
	}
}

func TestPartition_KilledHoldsTheBatchesUpToItsMarkAndNoOther(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	var furthest int64
	kept := 0
	for round := range rounds {
		told := killWriter(t, dir, 1+rng.IntN(400), time.Duration(rng.IntN(20))*time.Millisecond)
		mark := checkPrefix(t, dir)
		if mark < furthest {
			t.Fatalf("round %d: the store went back from %d to %d", round, furthest, mark)
		}
		if mark > furthest {
			kept++
		}
		furthest = mark
		t.Logf("round %d: told %d, kept %d", round, told, mark)
	}
	if kept < rounds/4 {
		t.Fatalf("only %d of %d rounds left something behind: the test shows nothing", kept, rounds)
	}
}

// killWriter starts a writer, and kills it a moment after it has written batches more.
func killWriter(t *testing.T, dir string, batches int, moment time.Duration) (told int64) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		if strings.HasPrefix(lines.Text(), "error") {
			t.Error(lines.Text())
			break
		}
		if told, err = strconv.ParseInt(lines.Text(), 10, 64); err != nil {
			t.Error(err)
			break
		}
		if i == batches {
			time.AfterFunc(moment, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	return told
}

// checkPrefix compares a partition with the batches up to its mark.
func checkPrefix(t *testing.T, dir string) int64 {
	t.Helper()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := s.Partition(0)
	if err != nil {
		t.Fatal(err)
	}
	mark, _ := p.Mark()
	want := model{}
	for n := int64(1); n <= mark.Changelog; n++ {
		rows, m := numbered(n)
		want.apply(rows)
		if n == mark.Changelog && m != mark {
			t.Fatalf("mark %+v, want %+v", mark, m)
		}
	}
	compare(t, p, want)
	return mark.Changelog
}

func compare(t *testing.T, p *Partition, want model) {
	t.Helper()
	got := model{}
	if err := p.Subject(nil, func(k, v []byte) error { got[string(k)] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("row %q is %.30q, want %.30q", k, got[k], v)
		}
	}
}
