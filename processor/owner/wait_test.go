package owner

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/assent-dev/assent/processor/decision"
)

// positionsOf gives a position in one partition of each stripe.
func positionsOf(offset int64) (all []decision.Position) {
	for stripe := range int32(stripes) {
		all = append(all, decision.Position{Partition: stripe, Offset: offset})
	}
	return all
}

// waits runs WaitFolded, and gives its answer.
func (p *process) waits(ctx context.Context, after ...decision.Position) <-chan error {
	done := make(chan error, 1)
	go func() { done <- p.WaitFolded(ctx, after) }()
	return done
}

func TestWaitFolded_WaitsForEveryPositionWhereverItIsFolded(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	for _, p := range all {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		done := p.waits(ctx, positionsOf(7)...)
		for stripe := range int32(stripes) {
			for _, other := range all {
				other.local.fold(stripe, 6)
			}
			select {
			case err := <-done:
				t.Fatalf("%s: stripe %d is not folded, and the wait is over: %v", p.config.Instance, stripe, err)
			case <-time.After(30 * time.Millisecond):
			}
			for _, other := range all {
				other.local.fold(stripe, 7)
			}
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", p.config.Instance, err)
		}
		for _, other := range all {
			for stripe := range int32(stripes) {
				other.local.fold(stripe, 0)
			}
		}
	}
}

func TestWaitFolded_OfAPartitionTheFurthestPositionCounts(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	for _, offsets := range [][2]int64{{7, 9}, {9, 7}} {
		all[1].local.fold(1, 8)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		after := []decision.Position{{Partition: 1, Offset: offsets[0]}, {Partition: 1, Offset: offsets[1]}}
		if err := all[0].WaitFolded(ctx, after); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, folded up to 8: %v", offsets, err)
		}
		cancel()
		all[1].local.fold(1, 9)
		if err := all[0].WaitFolded(t.Context(), after); err != nil {
			t.Errorf("%v, folded up to 9: %v", offsets, err)
		}
	}
}

func TestWaitFolded_EndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	for _, after := range []decision.Position{{Partition: 0, Offset: 5}, {Partition: 1, Offset: 5}, {Partition: 1<<31 - 1, Offset: 1<<63 - 1}} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := all[0].WaitFolded(ctx, []decision.Position{after}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("partition %d: %v", after.Partition, err)
		}
		cancel()
	}
	for stripe := range stripes { // nobody owns anything
		for _, p := range all {
			p.local.own(stripe, false)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := all[0].WaitFolded(ctx, positionsOf(0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestWaitFolded_FollowsAStripeThatMoves(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := all[0].waits(ctx, decision.Position{Partition: 1, Offset: 7})
	eventually(t, "b is asked", func() bool { return all[1].requests.get() == 1 })
	all[2].local.fold(1, 7)
	all[2].takes(all, 2, 1) // away from b while it waits
	if err := <-done; err != nil {
		t.Error(err)
	}
	// And to the asker itself.
	done = all[0].waits(ctx, decision.Position{Partition: 1, Offset: 8})
	eventually(t, "c is asked", func() bool { return all[2].requests.get() >= 2 })
	all[0].takes(all, 3, 1)
	all[0].local.fold(1, 8)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWaitFolded_OutlastsManySlices(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := all[0].waits(ctx, decision.Position{Partition: 1, Offset: 7})
	eventually(t, "b is asked again", func() bool { return all[1].requests.get() >= 2 })
	all[1].local.fold(1, 7)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
