package model

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// Without any one of these mechanisms something breaks; the trace that shows it is printed
// with -v.
var deviations = []struct {
	of    Deviation
	in    string
	wants error
}{
	{NoFencing, "takeovers", ErrZombie},
	{NoFencing, "two tears", ErrTold},
	{OffsetsBeforeInit | NoRequireStable, "takeovers", ErrZombie}, // as a group library reads them
	{OffsetsBeforeInit | NoGeneration, "takeovers", ErrZombie},
	{NoRequireStable, "two requests lost", ErrStore},
	{NoRequireStable | unrepaired, "two requests lost", ErrFolded},
	{AnnounceWithoutOffsets, "takeovers", ErrZombie},

	{NoVerify, "two tears", ErrFolded},
	{StaleRowsUsed, "two tears", ErrFolded},
	{RowsBelowCommitUsed, "two tears", ErrFolded},
	{NoDedup, "two tears", ErrTold},
	{DedupBehindNoteOnly, "two tears", ErrTold},
	{SpanOfWrittenOnly, "two tears", ErrTold},
	{NoOffsetMeansRows, "two tears", ErrTold},
	{CutGoesOn, "a tear behind the answer", ErrTold},
	{CompactedUnrepaired, "two tears", ErrFolded},

	{StoreBeforeEnd, "takeovers", ErrStore},
	{MarkBehindIgnored, "takeovers", ErrFolded},
	{NoDiscard, "a tear behind the answer", ErrFolded},
	{NoDiscard, "topics made anew", ErrFolded},
	{NoInputCheck, "a tear behind the answer", ErrFolded},
	{NoTopicCheck | NoEndCheck | NoProducerCheck, "topics made anew", ErrFolded},

	{CarryInside, "a link carries", ErrCarried},
	{CarryAfterEnd, "a link carries", ErrCarried},
	{ChangesOutside, "takeovers", ErrTold},
	{LostEndIsCommit, "takeovers", ErrStore},
	{LostEndIsCommit, "two tears", ErrFolded},
	{LostEndIsAbort, "takeovers", ErrTold},
	{LostEndIsRepeated | unrepaired, "takeovers", ErrFolded},

	{LeaseCheckedBefore, "leases", ErrDecision},
	{BeatWithoutMembership, "leases", ErrDecision},
}

func TestDeviations_EachBreaksSomething(t *testing.T) {
	for _, d := range deviations {
		t.Run(fmt.Sprintf("%s in %s", d.of, d.in), func(t *testing.T) {
			v := broken(t, small[d.in], d.of)
			if !errors.Is(v, d.wants) {
				t.Errorf("breaks another invariant than %q", d.wants)
			}
			t.Log(v)
		})
	}
}

// The topic's id is needed beside all other checks: offsets, inputs and even the last
// row's producer can agree with those of the log that was there before.
func TestDeviations_AStoreOfAnotherTopicCanPassEveryOtherCheck(t *testing.T) {
	if !*large {
		t.Skip("two million states: only with -large")
	}
	if v := broken(t, huge["topics made anew, four claims"], NoTopicCheck); !errors.Is(v, ErrFolded) {
		t.Error(v)
	}
}

func TestDeviations_AllAreExplored(t *testing.T) {
	elsewhere := MarkAfterAnnounce | ForgetNote // other ways that hold
	for bit := Deviation(1); bit <= CompactedUnrepaired; bit <<= 1 {
		found := elsewhere.Has(bit)
		for _, d := range deviations {
			found = found || d.of.Has(bit)
		}
		if !found {
			t.Errorf("%s is in no table", bit)
		}
		if deviationNames[bit] == "" {
			t.Errorf("deviation %d has no name", bit)
		}
	}
}

func TestDeviations_BreakEachInvariant(t *testing.T) {
	for _, invariant := range []error{ErrFolded, ErrTold, ErrCarried, ErrZombie, ErrStore, ErrDecision} {
		found := false
		for _, d := range deviations {
			found = found || d.wants == invariant //nolint:errorlint // the table holds the sentinels themselves
		}
		if !found {
			t.Errorf("nothing breaks %q: nobody knows that its check can fail", invariant)
		}
	}
}

func TestViolation_TellsEachStepOfAShortestTrace(t *testing.T) {
	v := broken(t, small["takeovers"], AnnounceWithoutOffsets)
	if len(v.Trace) != 12 {
		t.Errorf("%d steps, want 12: two claims, and two takeovers of five steps", len(v.Trace))
	}
	text := v.Error()
	for _, want := range []string{"A claim; generation 1", "B claim; generation 2", "A init; producer epoch 3", "12  A announce"} {
		if !strings.Contains(text, want) {
			t.Errorf("the trace does not say %q:\n%s", want, text)
		}
	}
}
