package deadletter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

// Selection chooses letters. What is zero chooses nothing out.
type Selection struct {
	// Code is the letter's, or one of the codes in it.
	Code string
	// Topic is that of the origin.
	Topic string
	// Since is the earliest time of setting aside.
	Since consent.Instant
	// Positions are those of origins or of letters.
	Positions []kafka.Position
}

// Takes reports whether the letter is chosen.
func (s *Selection) Takes(e *Entry) bool {
	return (s.Code == "" || e.Code == s.Code || slices.Contains(strings.Split(e.Code, ","), s.Code)) &&
		(s.Topic == "" || e.Origin.Topic == s.Topic) &&
		e.At >= s.Since &&
		(len(s.Positions) == 0 || slices.Contains(s.Positions, e.Origin) || slices.Contains(s.Positions, e.Letter))
}

// Verdict is what becomes of a chosen letter.
type Verdict uint8

// The verdicts.
const (
	Publish    Verdict = iota + 1 // it is to be published again
	Published                     // it was, and is marked
	Held                          // a letter before it, of the same key, stays open
	Impossible                    // it cannot be published; Why says what can be done
	Already                       // it was published before this plan
)

func (v Verdict) String() string {
	switch v {
	case Publish:
		return "replay"
	case Published:
		return "replayed"
	case Held:
		return "held"
	case Impossible:
		return "impossible"
	case Already:
		return "already_replayed"
	}
	return "unknown"
}

// Step is what becomes of one chosen letter.
type Step struct {
	Entry
	Verdict Verdict
	Why     string          // a sentence, where it is not published
	Behind  *kafka.Position // the letter that holds it back, or that force passes
	To      kafka.Position  // where it was published
}

// Plan is a list of steps in the order of the log.
type Plan struct {
	Steps []Step
	force bool
}

// Plan decides what becomes of the chosen letters. It is pure. With force a letter
// is published though an earlier one of its key stays open.
func (x *Index) Plan(chosen Selection, force bool) Plan {
	plan := Plan{force: force}
	open := map[queue]kafka.Position{} // the first letter of each key that stays open
	for i := range x.Entries {
		e := &x.Entries[i]
		if e.Mark != nil {
			if len(chosen.Positions) > 0 && chosen.Takes(e) {
				plan.Steps = append(plan.Steps, Step{Entry: *e, Verdict: Already, Why: "it was published again at " + e.Mark.To})
			}
			continue
		}
		if !chosen.Takes(e) {
			if e.Route == ToIntake {
				stays(open, e)
			}
			continue
		}
		plan.Steps = append(plan.Steps, plan.judge(e, open))
	}
	return plan
}

// stays notes that a letter stays open.
func stays(open map[queue]kafka.Position, e *Entry) {
	if _, held := open[e.queue]; !held {
		open[e.queue] = e.Letter
	}
}

// judge decides about one letter, by the letters of its key that stay open.
func (p *Plan) judge(e *Entry, open map[queue]kafka.Position) Step {
	s := Step{Entry: *e, Verdict: Publish}
	switch {
	case e.Route != ToIntake:
		return s.impossible(whyNot[e.Route])
	case e.Gone:
		stays(open, e)
		return s.impossible(fmt.Sprintf("the letter holds a part of the record, and the whole is no longer at %s: ask its sender for it", e.Origin))
	}
	before, held := open[e.queue]
	if !held {
		return s
	}
	s.Behind = &before
	if !p.force {
		s.Verdict = Held
		s.Why = fmt.Sprintf("the letter at %s is of the same key, comes first and stays open: choose it too, or pass it with --force", before)
	}
	return s
}

func (s Step) impossible(why string) Step {
	s.Verdict, s.Why = Impossible, why
	return s
}

// whyNot says of the routes that publish nothing what can be done.
var whyNot = map[Route]string{
	ToDownstream: "a downstream refused this change; publishing it again would tell all of them. Mend the downstream, and tell it by hand what `assent deadletter show` prints; telling one downstream again is no part of this version",
	ToProcessor:  "the processor writes an expiry by itself, from the state: there is nothing to publish",
	ToNobody:     "its origin is neither consent.intake nor consent.events of this installation: look at --topic-prefix, or publish it by hand",
}
