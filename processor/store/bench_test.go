//go:build unix

package store

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cpuSeconds is what this process has used of all cores: the figure that a busy
// machine spoils least.
func cpuSeconds(tb testing.TB) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkLoad: rows of 60 + 250 bytes into an empty store on disk, in calls of 500 as
// fetches bring them, in no order; timed until everything is synced.
func BenchmarkLoad(b *testing.B) {
	const rows = 1_000_000
	all := newSample(1, 250).shuffled(rows)
	b.ReportAllocs()
	runtime.GC()
	cpu, took := 0.0, time.Duration(0)
	for b.Loop() {
		s, p := openEmpty(b)
		before, began := cpuSeconds(b), time.Now()
		load(b, p, all)
		if err := p.flush(); err != nil {
			b.Fatal(err)
		}
		cpu += cpuSeconds(b) - before
		took += time.Since(began)
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(rows*float64(b.N)/took.Seconds(), "rows/s")
	b.ReportMetric(cpu/float64(b.N)/rows*1e9, "cpu-ns/row")
}

func openEmpty(tb testing.TB) (*Store, *Partition) {
	tb.Helper()
	s, err := Open(Options{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	p, err := s.Partition(0)
	if err != nil {
		tb.Fatal(err)
	}
	return s, p
}

func load(tb testing.TB, p *Partition, rows []Row) {
	tb.Helper()
	for i := 0; i < len(rows); i += 500 {
		end := min(len(rows), i+500)
		if err := p.Load(rows[i:end], Mark{Changelog: int64(end)}); err != nil {
			tb.Fatal(err)
		}
	}
}

// loaded makes a store of 250,000 rows at rest.
func loaded(b *testing.B) *Partition {
	b.Helper()
	_, p := openPartition(b, Options{Dir: b.TempDir()})
	load(b, p, newSample(1, 250).shuffled(250_000))
	rest(b, p)
	return p
}

// rest waits until there is nothing left to compact.
func rest(tb testing.TB, partitions ...*Partition) {
	tb.Helper()
	for _, p := range partitions {
		if err := p.flush(); err != nil {
			tb.Fatal(err)
		}
		p.loaded()
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		busy := slices.ContainsFunc(partitions, func(p *Partition) bool {
			m := p.db.Metrics()
			return m.Compact.NumInProgress > 0 || m.Levels[0].Sublevels >= compactAtSublevels
		})
		if !busy {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal("compactions do not end")
		}
	}
}

// BenchmarkWrite: 200 rows a batch, of subjects anywhere, into 250,000 rows.
func BenchmarkWrite(b *testing.B) {
	p := loaded(b)
	s := newSample(2, 250)
	rows := make([]Row, 200)
	n := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for i := range rows {
			rows[i] = s.row(s.rng.Int64N(250_000))
		}
		n++
		b.StartTimer()
		if err := p.Write(rows, Mark{Changelog: n}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSubject: one of 27,778 subjects with nine rows, and one with nothing.
func BenchmarkSubject(b *testing.B) {
	p := loaded(b)
	for _, there := range []bool{true, false} {
		b.Run(fmt.Sprintf("there=%v", there), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(3, 3))
			b.ReportAllocs()
			for b.Loop() {
				readSubject(b, p, rng, 250_000/9, there)
			}
		})
	}
}

func readSubject(tb testing.TB, p *Partition, rng *rand.Rand, subjects int64, there bool) {
	key := sampleKey(9 * rng.Int64N(subjects))
	prefix := key[:strings.LastIndexByte(string(key), '|')+1]
	if !there {
		prefix[len(prefix)-2] ^= 0x40
	}
	rows := 0
	if err := p.Subject(prefix, func(_, _ []byte) error { rows++; return nil }); err != nil {
		tb.Fatal(err)
	}
	if rows == 9 != there {
		tb.Fatalf("%d rows", rows)
	}
}

// BenchmarkReopen: 250,000 rows on disk, until a subject is read.
func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	p, err := s.Partition(0)
	if err != nil {
		b.Fatal(err)
	}
	load(b, p, newSample(1, 250).shuffled(250_000))
	rest(b, p)
	rng := rand.New(rand.NewPCG(3, 3))
	for b.Loop() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		if s, err = Open(Options{Dir: dir}); err != nil {
			b.Fatal(err)
		}
		if p, err = s.Partition(0); err != nil {
			b.Fatal(err)
		}
		readSubject(b, p, rng, 250_000/9, true)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

var tenMillion = flag.Bool("tenmillion", false, "run TestTenMillion: 2 GB of disk and a few minutes")

// TestTenMillion prints what 10 million rows of 60 + 230 bytes in 12 partitions take.
func TestTenMillion(t *testing.T) {
	if !*tenMillion {
		t.Skip("only with -tenmillion")
	}
	const partitions, each = 12, 833_334
	dir := t.TempDir()
	s, parts := openAll(t, dir, partitions)
	samples := make([]*sample, partitions)
	for i := range samples {
		samples[i] = newSample(uint64(i), 230)
	}
	rows := make([]Row, 0, 500)
	runtime.GC()
	t.Logf("RSS of the test itself %d MB", rss(t, "VmRSS"))
	before, began, making := cpuSeconds(t), time.Now(), time.Duration(0)
	for at := 0; at < each; at += 500 { // as a fetch brings them: some of each partition
		for i, p := range parts {
			making -= time.Since(began)
			rows = rows[:0]
			for n := at; n < min(each, at+500); n++ {
				row := int64(n) * 500_009 % each // a prime: each row once, in no order
				rows = append(rows, samples[i].row(int64(i)*9_000_000+row))
			}
			making += time.Since(began)
			if err := p.Load(rows, Mark{Changelog: int64(at + len(rows))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, p := range parts {
		if err := p.flush(); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began) - making
	t.Logf("load: %.1fs without making rows, %.0f rows/s; CPU with making them %.1fs; RSS %d MB, highest %d MB",
		took.Seconds(), partitions*each/took.Seconds(), cpuSeconds(t)-before, rss(t, "VmRSS"), rss(t, "VmHWM"))
	measureSubjects(t, parts, "at once after the load")
	before, began = cpuSeconds(t), time.Now()
	rest(t, parts...)
	t.Logf("compactions: %.1fs more, CPU %.1fs; disk %d MB", time.Since(began).Seconds(), cpuSeconds(t)-before, disk(parts)>>20)
	measureSubjects(t, parts, "at rest")
	began = time.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("close: %v", time.Since(began))
	began = time.Now()
	s, parts = openAll(t, dir, partitions)
	t.Logf("reopen: %v", time.Since(began))
	measureSubjects(t, parts, "after reopening")
	t.Logf("RSS %d MB, highest %d MB", rss(t, "VmRSS"), rss(t, "VmHWM"))
	began = time.Now()
	for _, p := range parts {
		if _, n, err := p.Hash(); err != nil || n != each {
			t.Fatal(n, err)
		}
	}
	t.Logf("hash of all rows: %.1fs", time.Since(began).Seconds())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func openAll(t *testing.T, dir string, n int32) (*Store, []*Partition) {
	t.Helper()
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	parts := make([]*Partition, n)
	for i := range parts {
		if parts[i], err = s.Partition(int32(i)); err != nil {
			t.Fatal(err)
		}
	}
	return s, parts
}

func measureSubjects(t *testing.T, parts []*Partition, when string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 5))
	for _, there := range []bool{true, false} {
		took := make([]time.Duration, 20_000)
		for n := range took {
			i := rng.IntN(len(parts))
			key := sampleKey(int64(i)*9_000_000 + 9*rng.Int64N(90_000))
			prefix := key[:len(key)-len("*")]
			if !there {
				prefix[len(prefix)-2] ^= 0x40
			}
			rows := 0
			began := time.Now()
			if err := parts[i].Subject(prefix, func(_, _ []byte) error { rows++; return nil }); err != nil {
				t.Fatal(err)
			}
			took[n] = time.Since(began)
			if rows == 9 != there {
				t.Fatalf("%d rows of %q", rows, prefix)
			}
		}
		slices.Sort(took)
		t.Logf("subject %s, there=%v: p50 %v, p99 %v, highest %v", when, there,
			took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
	}
}

func disk(parts []*Partition) (n int64) {
	for _, p := range parts {
		n += p.Bytes()
	}
	return n
}

// rss reads a figure of /proc/self/status, in MB; 0 where there is none.
func rss(t *testing.T, name string) (mb int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			if _, err := fmt.Sscan(rest, &mb); err != nil {
				t.Fatal(err)
			}
		}
	}
	return mb >> 10
}
