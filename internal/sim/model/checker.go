package model

import (
	"errors"
	"fmt"
	"hash/maphash"
	"time"
)

// system is what the checker explores: every state that can be reached from the first
// ones. S must be a value without pointers: states are kept by their hash.
type system[S comparable] interface {
	// starts gives the states to begin with.
	starts() []S
	// next hands each step that is possible in s, and the state that it leads to, to yield.
	// The same state gives the same steps in the same order.
	next(s *S, yield func(step, *S))
	// check says what is wrong with a state, nil if nothing is.
	check(s *S) error
}

// Result is what an exploration found.
type Result struct {
	States      int // different ones
	Transitions int
	Depth       int // steps to the farthest state
	Elapsed     time.Duration
	Violation   *Violation     // nil: every state holds what it must
	Taken       map[string]int // how often each kind of step was possible, by its name and outcome
}

// Violation is a state that breaks an invariant, and a shortest way to it.
type Violation struct {
	Err   error
	Trace []string // one line a step
}

func (v *Violation) Error() string {
	text := v.Err.Error()
	for i, line := range v.Trace {
		text += fmt.Sprintf("\n%4d  %s", i+1, line)
	}
	return text
}

func (v *Violation) Unwrap() error { return v.Err }

// ErrTooLarge means that an exploration was given up at its limit of states: it
// says nothing about those that it did not see.
var ErrTooLarge = errors.New("more states than the limit allows")

// visit is how a state was first reached: enough to walk there again.
type visit struct {
	parent int32
	choice uint16 // which step of the parent, counted from 0
}

// explore goes breadth first, so that the first violation has a shortest trace.
//
// A state is known by 64 bits of its hash. Two states with one hash would hide what
// follows from the second: with n states the odds are n²/2⁶⁵, one in 350,000 for ten
// million states, and the seed is another in each run.
func explore[S comparable](sys system[S], limit int, describe func(step, *S, *S) string) (Result, error) {
	began := time.Now()
	e := &exploration[S]{sys: sys, limit: limit, seen: newHashes(), found: -1, taken: make(map[step]int)}
	for _, s := range sys.starts() {
		e.add(&s, -1, 0)
	}
	for e.behind.n > 0 && e.goesOn() {
		e.expand()
		e.result.Depth++
	}
	e.result.States, e.result.Elapsed = len(e.visits), time.Since(began)
	e.result.Taken = make(map[string]int)
	for by, n := range e.taken {
		e.result.Taken[by.String()] = n
	}
	switch {
	case e.found >= 0:
		e.result.Violation = &Violation{Err: e.err, Trace: e.trace(e.found, describe)}
	case !e.goesOn():
		return e.result, fmt.Errorf("%w: %d", ErrTooLarge, limit)
	}
	return e.result, nil
}

type exploration[S comparable] struct {
	sys    system[S]
	limit  int
	seen   *hashes
	visits []visit
	level  frontier[S] // states of one depth
	behind frontier[S] // new states one step behind them; their visits are the last ones
	found  int         // index of the state that breaks something, -1: none yet
	err    error
	taken  map[step]int
	result Result
}

func (e *exploration[S]) goesOn() bool { return e.found < 0 && len(e.visits) < e.limit }

func (e *exploration[S]) add(s *S, parent int, choice uint16) {
	if !e.seen.add(maphash.Comparable(e.seen.seed, *s)) {
		return
	}
	e.visits = append(e.visits, visit{int32(parent), choice})
	e.behind.add(s)
	if err := e.sys.check(s); err != nil {
		e.found, e.err = len(e.visits)-1, err
	}
}

// expand goes one step on from every state of the level.
func (e *exploration[S]) expand() {
	first := len(e.visits) - e.behind.n
	e.level, e.behind = e.behind, e.level
	e.behind.n = 0
	for i := range e.level.n {
		choice := uint16(0)
		e.sys.next(e.level.at(i), func(by step, s *S) {
			if e.goesOn() {
				e.result.Transitions++
				e.taken[by.kind()]++
				e.add(s, first+i, choice)
			}
			choice++
		})
		if !e.goesOn() {
			return
		}
	}
}

// frontier is a list of states in pieces that are used again, level after level.
type frontier[S any] struct {
	pieces [][]S
	n      int
}

const pieceSize = 1024

func (f *frontier[S]) add(s *S) {
	if f.n == len(f.pieces)*pieceSize {
		f.pieces = append(f.pieces, make([]S, pieceSize))
	}
	f.pieces[f.n/pieceSize][f.n%pieceSize] = *s
	f.n++
}

func (f *frontier[S]) at(i int) *S { return &f.pieces[i/pieceSize][i%pieceSize] }

// trace walks from a first state to the one at index again.
func (e *exploration[S]) trace(index int, describe func(step, *S, *S) string) []string {
	var choices []uint16
	for ; e.visits[index].parent >= 0; index = int(e.visits[index].parent) {
		choices = append(choices, e.visits[index].choice)
	}
	at := e.sys.starts()[index]
	var lines []string
	for i := len(choices) - 1; i >= 0; i-- {
		before, n := at, uint16(0)
		e.sys.next(&before, func(by step, s *S) {
			if n == choices[i] {
				at = *s
				lines = append(lines, describe(by, &before, s))
			}
			n++
		})
	}
	return lines
}

// hashes is a set of 64-bit hashes, open addressing, 8 bytes a slot.
type hashes struct {
	seed  maphash.Seed
	slots []uint64
	used  int
}

func newHashes() *hashes {
	return &hashes{seed: maphash.MakeSeed(), slots: make([]uint64, 1<<12)}
}

// add reports whether h is new.
func (h *hashes) add(hash uint64) bool {
	if hash == 0 {
		hash = 1 // 0 marks a free slot
	}
	if 4*h.used >= 3*len(h.slots) {
		old := h.slots
		h.slots = make([]uint64, 2*len(old))
		for _, v := range old {
			if v != 0 {
				h.slots[h.slot(v)] = v
			}
		}
	}
	i := h.slot(hash)
	if h.slots[i] == hash {
		return false
	}
	h.slots[i] = hash
	h.used++
	return true
}

// slot is where hash is, or the free place where it belongs.
func (h *hashes) slot(hash uint64) int {
	mask := len(h.slots) - 1
	i := int(hash>>7) & mask
	for h.slots[i] != 0 && h.slots[i] != hash {
		i = (i + 1) & mask
	}
	return i
}
