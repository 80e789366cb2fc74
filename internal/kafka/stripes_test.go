package kafka

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestAssignStripes_IsCompleteBalancedStickyAndTheSameForTheSameInput(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		stripes := make([]int, rng.IntN(20))
		for i := range stripes {
			stripes[i] = i
		}
		members := make([]stripeMember, 1+rng.IntN(6))
		for i := range members {
			members[i] = stripeMember{id: fmt.Sprintf("m%d", i), generation: int32(rng.IntN(3))}
			for range rng.IntN(8) {
				members[i].owned = append(members[i].owned, rng.IntN(22)) // of others and of none, too
			}
		}
		got := assignStripes(stripes, members)
		var all []int
		fewest, most := len(stripes), 0
		for _, m := range members {
			all = append(all, got[m.id]...)
			fewest, most = min(fewest, len(got[m.id])), max(most, len(got[m.id]))
		}
		slices.Sort(all)
		if !slices.Equal(all, stripes) {
			t.Fatalf("%v of %v are assigned", all, stripes)
		}
		if most-fewest > 1 {
			t.Fatalf("from %d to %d stripes a member: %v", fewest, most, got)
		}
		shuffled := slices.Clone(members)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		rng.Shuffle(len(stripes), func(i, j int) { stripes[i], stripes[j] = stripes[j], stripes[i] })
		if again := assignStripes(stripes, shuffled); !maps.EqualFunc(got, again, slices.Equal) {
			t.Fatalf("%v, in another order %v", got, again)
		}
		// Asked again with what it gave, it moves nothing.
		for i := range members {
			members[i].owned, members[i].generation = got[members[i].id], 9
		}
		if again := assignStripes(stripes, members); !maps.EqualFunc(got, again, slices.Equal) {
			t.Fatalf("%v becomes %v without a reason", got, again)
		}
	}
}

func TestAssignStripes_MovesAsLittleAsItCanWhenAMemberComesOrGoes(t *testing.T) {
	stripes := []int{0, 1, 2, 3, 4, 5}
	got := assignStripes(stripes, []stripeMember{{id: "a", owned: []int{0, 1, 2}}, {id: "b", owned: []int{3, 4, 5}}, {id: "c"}})
	if want := map[string][]int{"a": {0, 1}, "b": {3, 4}, "c": {2, 5}}; !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("a third comes: %v", got)
	}
	got = assignStripes(stripes, []stripeMember{{id: "a", owned: []int{0, 1}}, {id: "b", owned: []int{3, 4}}})
	if want := map[string][]int{"a": {0, 1, 2}, "b": {3, 4, 5}}; !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("a third goes: %v", got)
	}
}

func TestAssignStripes_BelievesTheNewestOwner(t *testing.T) {
	got := assignStripes([]int{0, 1}, []stripeMember{{id: "away", owned: []int{0}, generation: 3}, {id: "there", owned: []int{0}, generation: 5}})
	if want := map[string][]int{"there": {0}, "away": {1}}; !maps.EqualFunc(got, want, slices.Equal) {
		t.Error(got)
	}
}

func TestGroupPartitions_PutsThePartitionsOfAllTopicsIntoOneStripe(t *testing.T) {
	got := groupPartitions(map[string]int{"events": 5, "state": 5, "short": 1}, 2)
	want := map[int][]Partition{
		0: {{"events", 0}, {"events", 2}, {"events", 4}, {"short", 0}, {"state", 0}, {"state", 2}, {"state", 4}},
		1: {{"events", 1}, {"events", 3}, {"state", 1}, {"state", 3}},
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Error(got)
	}
	if got := groupPartitions(map[string]int{"events": 3}, 0); len(got) != 3 {
		t.Errorf("0 stripes of 3 partitions: %v", got)
	}
	if got := groupPartitions(map[string]int{"events": 2}, 8); len(got) != 2 {
		t.Errorf("8 stripes of 2 partitions: %v", got)
	}
}

func TestSubscription_RoundTrips(t *testing.T) {
	owned := []Partition{{"events", 0}, {"events", 2}, {"state", 0}, {"state", 2}, {"state", 3}}
	got, err := decodeSubscription("a", encodeSubscription([]string{"events", "state"}, owned, 7), 2)
	slices.Sort(got.owned)
	if err != nil || got.id != "a" || got.generation != 7 || !slices.Equal(got.owned, []int{0, 1}) {
		t.Errorf("%+v, %v", got, err)
	}
	back, err := decodeAssignment(encodeAssignment(owned))
	if err != nil || !slices.Equal(back, owned) {
		t.Errorf("%v, %v", back, err)
	}
	if _, err := decodeSubscription("a", []byte{0, 2, 0}, 2); err == nil {
		t.Error("a cut-off subscription is taken")
	}
}
