package model

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// grid is a walk over a square: right or up, to the last corner; and one corner that must
// not be.
type grid struct {
	size uint8
	bad  [2]uint8
}

var errBad = errors.New("a bad place")

func (g grid) starts() [][2]uint8 { return [][2]uint8{{0, 0}} }

func (g grid) next(s *[2]uint8, yield func(step, *[2]uint8)) {
	for i, name := range []string{"right", "up"} {
		if t := *s; t[i]+1 < g.size {
			t[i]++
			yield(step{by: noInstance, name: name}, &t)
		}
	}
}

func (g grid) check(s *[2]uint8) error {
	if *s == g.bad {
		return errBad
	}
	return nil
}

func tellPlace(by step, _, after *[2]uint8) string { return fmt.Sprintf("%s to %v", by.name, *after) }

func TestExplore_VisitsEachStateOnce(t *testing.T) {
	r, err := explore(grid{size: 100, bad: [2]uint8{200, 200}}, 1_000_000, tellPlace)
	if err != nil || r.Violation != nil {
		t.Fatal(err, r.Violation)
	}
	if r.States != 100*100 || r.Transitions != 2*100*99 || r.Depth != 2*99+1 {
		t.Errorf("%d states, %d transitions, depth %d", r.States, r.Transitions, r.Depth)
	}
	if r.Taken["right"] != 100*99 || r.Taken["up"] != 100*99 {
		t.Errorf("taken %v", r.Taken)
	}
}

func TestExplore_FindsAShortestTraceAndWalksItAgain(t *testing.T) {
	r, err := explore(grid{size: 50, bad: [2]uint8{7, 5}}, 1_000_000, tellPlace)
	if err != nil || r.Violation == nil {
		t.Fatal(err, r.Violation)
	}
	trace := r.Violation.Trace
	if !errors.Is(r.Violation, errBad) || len(trace) != 12 || !strings.HasSuffix(trace[11], "to [7 5]") {
		t.Errorf("%v", r.Violation)
	}
}

func TestExplore_AStartThatIsWrongHasAnEmptyTrace(t *testing.T) {
	r, err := explore(grid{size: 5}, 100, tellPlace)
	if err != nil || r.Violation == nil || len(r.Violation.Trace) != 0 {
		t.Errorf("%v, %v", err, r.Violation)
	}
}

func TestExplore_SaysWhenItDidNotSeeAll(t *testing.T) {
	r, err := explore(grid{size: 100, bad: [2]uint8{200, 200}}, 500, tellPlace)
	if !errors.Is(err, ErrTooLarge) || r.States != 500 {
		t.Errorf("%d states, %v", r.States, err)
	}
}

func TestHashes_KeepWhatWasAddedAcrossGrowth(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random, h, known := rand.New(rand.NewPCG(seed, 0)), newHashes(), make(map[uint64]bool)
	for range 200_000 {
		v := random.Uint64N(150_000) * 0x9E3779B97F4A7C15
		if v == 0 {
			v = 1 // which 0 is kept as
		}
		if h.add(v) == known[v] {
			t.Fatalf("hash %d: added twice, or taken for known", v)
		}
		known[v] = true
	}
	if h.used != len(known) {
		t.Errorf("%d used, %d known", h.used, len(known))
	}
}

func TestNew_RefusesWhatDoesNotFit(t *testing.T) {
	for name, c := range map[string]Config{
		"unknown event":           {Log: []string{"nobody"}, Partitions: 1, Instances: 1},
		"no partition":            {Instances: 1},
		"too many instances":      {Partitions: 1, Instances: maxInstances + 1},
		"partition out of range":  {Events: map[string]Event{"e": {Subject: "a", Partition: 1}}, Log: []string{"e"}, Partitions: 1, Instances: 1},
		"a subject in two places": {Events: map[string]Event{"e": {Subject: "a"}, "f": {Subject: "a", Partition: 1}}, Log: []string{"e", "f"}, Partitions: 2, Instances: 1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
