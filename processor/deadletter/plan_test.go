package deadletter

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// index is a survey of letters that were never written: key "" = none.
func index(letters ...Entry) *Index {
	x := &Index{byID: map[ID]int{}, others: map[kafka.Position]ID{}}
	for i, e := range letters {
		e.Letter = kafka.Position{Partition: kafka.Partition{Topic: "letters"}, Offset: kafka.LastOffset(i)}
		if e.Origin.Topic == "" {
			e.Origin = kafka.Position{Partition: kafka.Partition{Topic: "intake"}, Offset: kafka.LastOffset(i)}
		}
		if e.Route == 0 {
			e.Route = ToIntake
		}
		x.Entries = append(x.Entries, e)
		x.byID[e.ID] = i
	}
	return x
}

func keyed(key uint64, code string) Entry {
	return Entry{ID: ID{Code: code}, queue: queue{key: key, none: -1}}
}

func verdicts(p Plan) string {
	var all []string
	for _, s := range p.Steps {
		all = append(all, fmt.Sprintf("%d:%s", s.Letter.Offset, s.Verdict))
	}
	return strings.Join(all, " ")
}

func TestPlan_HoldsWhatStandsBehindALetterThatTheSelectionLeftOut(t *testing.T) {
	x := index(keyed(1, "a"), keyed(2, "b"), keyed(1, "b"), keyed(1, "b"), keyed(2, "a"))
	plan := x.Plan(Selection{Code: "b"}, false)
	if got := verdicts(plan); got != "1:replay 2:held 3:held" {
		t.Errorf("got %s", got)
	}
	for _, s := range plan.Steps[1:] {
		if s.Behind == nil || s.Behind.Offset != 0 || !strings.Contains(s.Why, "letters/0@0") || !strings.Contains(s.Why, "--force") {
			t.Errorf("the letter that holds it back is not named: %+v", s)
		}
	}
	plan = x.Plan(Selection{Code: "b"}, true)
	if got := verdicts(plan); got != "1:replay 2:replay 3:replay" {
		t.Errorf("with force: %s", got)
	}
	if s := plan.Steps[1]; s.Behind == nil || s.Behind.Offset != 0 {
		t.Errorf("force does not name what it passes: %+v", s)
	}
	if s := plan.Steps[0]; s.Behind != nil {
		t.Errorf("nothing is passed: %+v", s)
	}
}

func TestPlan_AReplayedLetterHoldsNothingAndIsNotChosenAgain(t *testing.T) {
	done := keyed(1, "a")
	done.Mark = &Mark{To: "intake/0@9"}
	x := index(done, keyed(1, "b"))
	if got := verdicts(x.Plan(Selection{Code: "b"}, false)); got != "1:replay" {
		t.Errorf("got %s", got)
	}
	if got := verdicts(x.Plan(Selection{}, false)); got != "1:replay" {
		t.Errorf("all: %s", got)
	}
	plan := x.Plan(Selection{Positions: []kafka.Position{x.Entries[0].Letter}}, true)
	if got := verdicts(plan); got != "0:already_replayed" || !strings.Contains(plan.Steps[0].Why, "intake/0@9") {
		t.Errorf("by its position: %s %s", got, plan.Steps[0].Why)
	}
}

func TestPlan_WhatCannotBePublishedSaysWhatToDo(t *testing.T) {
	for _, r := range []Route{ToDownstream, ToProcessor, ToNobody} {
		first := keyed(1, "a")
		first.Route = r
		plan := index(first, keyed(1, "b")).Plan(Selection{}, false)
		if got := verdicts(plan); got != "0:impossible 1:replay" {
			t.Errorf("route %d: %s; it does not touch the order of what goes into the log", r, got)
		}
		if plan.Steps[0].Why == "" {
			t.Errorf("route %d says nothing", r)
		}
	}
	gone := keyed(1, "a")
	gone.Gone = true
	x := index(gone, keyed(1, "b"))
	if got := verdicts(x.Plan(Selection{}, false)); got != "0:impossible 1:held" {
		t.Errorf("a lost record: %s", got)
	}
	if got := verdicts(x.Plan(Selection{}, true)); got != "0:impossible 1:replay" {
		t.Errorf("a lost record, with force: %s", got)
	}
}

func TestPlan_LettersWithoutAKeyKnowNoOrder(t *testing.T) {
	a, b := keyed(0, "a"), keyed(0, "b")
	a.queue.none, b.queue.none = 0, 1
	if got := verdicts(index(a, b).Plan(Selection{Code: "b"}, false)); got != "1:replay" {
		t.Errorf("got %s", got)
	}
}

func TestSelection_TakesByCodeTopicTimeAndPosition(t *testing.T) {
	at := func(topic string, offset kafka.LastOffset) kafka.Position {
		return kafka.Position{Partition: kafka.Partition{Topic: topic}, Offset: offset}
	}
	e := Entry{ID: ID{Origin: at("in", 4), Code: "fresh,informed"}, Letter: at("letters", 7), At: 100}
	for _, c := range []struct {
		s    Selection
		want bool
	}{
		{Selection{}, true},
		{Selection{Code: "fresh,informed"}, true},
		{Selection{Code: "informed"}, true},
		{Selection{Code: "inform"}, false},
		{Selection{Topic: "in"}, true},
		{Selection{Topic: "letters"}, false},
		{Selection{Since: 100}, true},
		{Selection{Since: 101}, false},
		{Selection{Positions: []kafka.Position{at("in", 4)}}, true},
		{Selection{Positions: []kafka.Position{at("x", 1), at("letters", 7)}}, true},
		{Selection{Positions: []kafka.Position{at("in", 7)}}, false},
		{Selection{Code: "fresh", Topic: "in", Since: 101}, false},
	} {
		if got := c.s.Takes(&e); got != c.want {
			t.Errorf("%+v takes it: %v", c.s, got)
		}
	}
}

// Whatever is chosen of whatever there is: without force, what is published of a key
// is a prefix of its open letters.
func TestPlan_PublishesAPrefixOfEachKeysOpenLetters(t *testing.T) {
	r := seed(t)
	for range 2000 {
		var letters []Entry
		for range r.IntN(12) {
			e := keyed(uint64(r.IntN(3)), string(rune('a'+r.IntN(3))))
			switch r.IntN(8) {
			case 0:
				e.Mark = &Mark{}
			case 1:
				e.Gone = true
			case 2:
				e.Route = ToDownstream
			}
			letters = append(letters, e)
		}
		x := index(letters...)
		chosen := Selection{Code: string(rune('a' + r.IntN(3)))}
		if r.IntN(4) == 0 {
			chosen = Selection{}
		}
		published := map[kafka.Position]bool{}
		for _, s := range x.Plan(chosen, false).Steps {
			published[s.Letter] = s.Verdict == Publish
			if s.Verdict == Publish && !chosen.Takes(&s.Entry) {
				t.Fatalf("%+v was not chosen", s)
			}
		}
		stopped := map[queue]bool{}
		for _, e := range x.Entries {
			switch {
			case e.Mark != nil || e.Route != ToIntake:
				if published[e.Letter] {
					t.Fatalf("%+v must not be published", e)
				}
			case published[e.Letter] && stopped[e.queue]:
				t.Fatalf("%+v is published past an open letter of its key, of %+v", e, x.Entries)
			case published[e.Letter]:
			case chosen.Takes(&e) && !e.Gone && !stopped[e.queue]:
				t.Fatalf("%+v is held back by nothing", e)
			default:
				stopped[e.queue] = true
			}
		}
	}
}

func TestExplain_KnowsEveryCodeThatARoleGives(t *testing.T) {
	codes := []string{
		schemas.CodeNoSchema, schemas.CodeTruncated, schemas.CodeTooLarge, schemas.CodeTrailing, schemas.CodeInvalid,
		"wrong_key", "wrong_partition", "undecodable", "deadline_passed", "rejected_400", "rejected_413", "rejected_422", "failed", "gone", CodeReplayed,
	}
	for _, c := range []consent.Code{
		consent.CodeAffirmative, consent.CodeSpecific, consent.CodeInformed, consent.CodeFreelyGiven, consent.CodeFresh,
		consent.CodePseudonymous, consent.CodeConfirm, consent.CodeMalformed, consent.CodeNotYet, consent.CodeUnstamped,
	} {
		codes = append(codes, string(c))
	}
	for _, m := range Explain(strings.Join(codes, ",")) {
		if m.Means == "" || m.Remedy == "" || strings.Contains(m.Means, "does not know the") == (m.Code != string(consent.CodeNotYet)) || !slices.Contains(codes, m.Code) {
			t.Errorf("%+v", m)
		}
	}
	if len(meanings) != len(codes) {
		t.Errorf("%d codes are explained, %d are given", len(meanings), len(codes))
	}
	if m := Explain("novel")[0]; !strings.Contains(m.Means, "does not know") || m.Code != "novel" {
		t.Errorf("%+v", m)
	}
}

func FuzzParsePosition_IsTheInverseOfString(f *testing.F) {
	for _, s := range []string{"consent.intake/3@1042", "a/b/0@0", "", "/@", "x/1@", "x/-1@2", "x/1@-2", "x/2147483648@1", "x/1@9223372036854775807", "x/01@2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s)
		if err != nil {
			return
		}
		if again, err := ParsePosition(p.String()); err != nil || again != p {
			t.Errorf("%q became %v, and that %v, %v", s, p, again, err)
		}
		if p.Topic == "" || p.Index < 0 || p.Offset < 0 || p.Offset.Next() < 0 {
			t.Errorf("%q became %+v", s, p)
		}
	})
}
