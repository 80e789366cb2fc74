package model

import (
	"errors"
	"maps"
	"slices"
	"testing"
)

func TestProtocol_HoldsInEverySmallConfiguration(t *testing.T) {
	taken := make(map[string]int)
	for _, name := range slices.Sorted(maps.Keys(small)) {
		c := small[name]
		t.Run(name, func(t *testing.T) {
			for by, n := range holds(t, c, 0).Taken {
				taken[by] += n
			}
		})
	}
	for _, by := range everyStep() {
		if taken[by] == 0 && !raced {
			t.Errorf("no configuration comes to the step %q", by)
		}
	}
}

// everyStep names what can happen at all.
func everyStep() []string {
	names := []string{
		"claim", "crash", "offsets", "verify", "restore", "fetch", "carry", "store",
		"markers", "apply offsets", "compaction", "topics anew", "killed: the broker is killed", "end: the broker is killed",
		"lease runs out", "heartbeat", "compute", "answer", "unavailable", "begin: begins its takeover again", "fetch: begins its takeover again",
	}
	for _, call := range []string{"init", "announce", "begin", "write", "commit offsets", "end"} {
		names = append(names, call, call+": done, and the answer is lost", call+": on its way, and not waited for", "late "+call)
		if call != "init" {
			names = append(names, call+": refused: somebody else owns it")
		}
	}
	return names
}

func TestProtocol_HoldsInLargeConfigurations(t *testing.T) {
	if !*large {
		t.Skip("only with -large")
	}
	for _, name := range slices.Sorted(maps.Keys(huge)) {
		c := huge[name]
		c.MaxStates = 60_000_000
		t.Run(name, func(t *testing.T) { holds(t, c, 0) })
	}
}

// unrepaired is what a broker needs whose commit cannot tear.
const unrepaired = NoVerify | StaleRowsUsed

// Each of these departs from the protocol, and harms nothing: something else stands in for it.
func TestProtocol_OtherWaysThatHold(t *testing.T) {
	for _, way := range []struct {
		of  Deviation
		in  []string
		why string
	}{
		{unrepaired, []string{"takeovers", "a link carries", "compaction", "leases"},
			"a broker that cannot tear a commit needs no repair"},
		{MarkAfterAnnounce | MarkBehindIgnored, []string{"takeovers", "a tear behind the answer", "two tears"},
			"who has announced itself was not overtaken since its init, so that what it ignored is of no commit"},
		{ForgetNote, []string{"two tears", "tears around a dead letter and a link"},
			"what an empty note hides was verified before; the changes are looked for from the start of the log"},
		{NoEndCheck | NoProducerCheck, []string{"takeovers", "a tear behind the answer", "topics made anew", "compaction"},
			"the topic's id and the input offset tell all differences that there are"},
		{NoGeneration, []string{"takeovers", "two requests lost", "leases"},
			"the announcement has had its generation checked, and whoever takes over fences it"},
		{OffsetsBeforeInit, []string{"takeovers"},
			"the generation refuses the former owner's offsets, require_stable waits for those that it had committed"},
		{LostEndIsRepeated, []string{"takeovers"},
			"a late twin can tear the next transaction, which the repair mends"},
	} {
		for _, name := range way.in {
			t.Run(way.of.String()+" in "+name, func(t *testing.T) { holds(t, small[name], way.of) })
		}
	}
}

// reached is a model in which what should be reachable counts as a violation.
type reached struct {
	*Model
	is func(m *Model, s *State) bool
}

var errReached = errors.New("reached")

func (r reached) check(s *State) error {
	if r.is(r.Model, s) {
		return errReached
	}
	return nil
}

// An invariant holds easily where nothing happens: these states show that something does.
func TestModel_ComesToWhatItIsAbout(t *testing.T) {
	for name, c := range map[string]struct {
		in string
		is func(m *Model, s *State) bool
	}{
		"all is folded and told after two tears": {"two tears", func(m *Model, s *State) bool { return s.tears == 0 && m.atRest(s) }},
		"a fold goes back behind the committed offset": {"two tears", func(_ *Model, s *State) bool {
			return s.instances[0].at == atAnnounce && s.instances[0].work.from[0] < s.offsets[0].next
		}},
		"a repair moves the committed offset back": {"two tears", func(_ *Model, s *State) bool {
			return s.tx.status == committing && s.tx.pending && s.tx.offsets[0].next < s.offsets[0].next
		}},
		"a row stands twice": {"two tears", func(_ *Model, s *State) bool {
			return s.rows[0][0].fate == committed && slices.ContainsFunc(s.rows[0][1:], func(r row) bool {
				return r.fate == committed && r.input == s.rows[0][0].input
			})
		}},
		"what is carried twice is applied once": {"a link carries", func(m *Model, s *State) bool {
			return s.events[1][1].id == s.events[1][2].id && s.events[1][1].id != 0 && m.atRest(s)
		}},
		"a zombie works beside the owner": {"takeovers", func(_ *Model, s *State) bool {
			a, b := &s.instances[0], &s.instances[1]
			return a.at > atFetch && b.at > atFetch && a.gen != b.gen
		}},
		"a store of a former claim is used": {"takeovers", func(m *Model, s *State) bool {
			return usesStore(m, *s, 0) && s.instances[0].marks[0].input > 0 && s.gen == 3
		}},
		"a store is discarded after a tear": {"a tear behind the answer", func(m *Model, s *State) bool {
			return s.instances[0].at == atRestore && s.instances[0].marks[0].valid && !usesStore(m, *s, 0)
		}},
		"a row is ignored that somebody else committed": {"takeovers", func(_ *Model, s *State) bool {
			a := &s.instances[0]
			return a.at == atRestore && s.rows[0][0].fate == committed && s.rows[0][0].input >= a.work.from[0]
		}},
		"a new log is folded to its end": {"topics made anew", func(m *Model, s *State) bool { return s.topic == 1 && m.atRest(s) }},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := New(small[c.in])
			if err != nil {
				t.Fatal(err)
			}
			if raced {
				t.Skip("explored without the race detector")
			}
			r, err := explore[State](reached{m, c.is}, m.config.MaxStates, m.describe)
			if err != nil || r.Violation == nil {
				t.Errorf("no such state among %d: %v", r.States, err)
			}
		})
	}
}

func usesStore(m *Model, s State, i int) bool {
	return s.instances[i].at == atRestore && m.usable(&s, i, 0)
}
