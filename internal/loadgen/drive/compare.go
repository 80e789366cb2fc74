package drive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assent-dev/assent/consent"
)

// Decider is who answers "may I?".
type Decider interface {
	// Decide answers questions in their order, once everything that the tokens
	// name is folded.
	Decide(ctx context.Context, questions []Question, atLeast []string) ([]Decision, error)
}

// Question asks for one decision.
type Question struct {
	Tenant       consent.Tenant
	Subject      consent.Subject
	Purpose      consent.Purpose
	Jurisdiction consent.Jurisdiction
	Test         bool
}

// Decision is an answer, as far as it is compared.
type Decision struct {
	Allowed       bool
	Status        string
	Reason        string
	Since         string
	ExpiresAt     string
	EventID       string // that decides
	Node          string // the purpose that it stands on
	EffectiveAt   string
	Model         string
	PolicyVersion string
	AsOf          consent.Instant // not compared: the instant for which it holds
}

// Comparison is what came of holding decisions against a fold of our own.
type Comparison struct {
	Subjects    int // whose decisions were compared
	Decisions   int
	Events      int // that were folded for it
	Doubtful    int // households left out: not everything of theirs was answered
	Differences []Difference
}

// Difference is a decision that is not as it should be.
type Difference struct {
	Question  Question
	Got, Want Decision
}

// String names the field that differs, and the subject by its redacted form.
func (d *Difference) String() string {
	return fmt.Sprintf("%s %s (test %v, jurisdiction %q): answered %+v, want %+v",
		d.Question.Subject, d.Question.Purpose, d.Question.Test, d.Question.Jurisdiction, d.Got, d.Want)
}

var (
	// ErrOnRecord: what the target answers cannot be told from what was there before.
	ErrOnRecord = errors.New("the target has consents of this population on record already: take another --seed")
	// ErrOtherRegistry: the defaults and stamps of the two would differ.
	ErrOtherRegistry = errors.New("the target runs with another purpose registry: give --purposes the files that it was given")
)

// CheckFresh asks before a run whether nothing is known of whom is watched. Its
// errors are [ErrOnRecord], [ErrOtherRegistry], and that nobody answers.
func (w *Witness) CheckFresh(ctx context.Context, d Decider) error {
	var questions []Question
	for h := range w.watched {
		for _, s := range w.generator.Household(h) {
			for _, p := range w.purposes() {
				questions = append(questions, Question{Subject: s, Purpose: p})
			}
		}
	}
	answers, err := d.Decide(ctx, questions, nil)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.EventID != "" {
			return ErrOnRecord
		}
		if a.Reason == string(consent.ReasonDefault) && a.PolicyVersion != w.catalogue.Version {
			return ErrOtherRegistry
		}
	}
	return nil
}

// purposes are all that a question is asked about: those declared, groups among
// them, and everything.
func (w *Witness) purposes() []consent.Purpose {
	all := []consent.Purpose{consent.Root}
	for _, d := range w.catalogue.Purposes {
		all = append(all, d.ID)
	}
	return all
}

const (
	answerWithin = 2 * time.Minute  // for the target to fold what it has recorded
	settleWithin = 20 * time.Second // then, for what is carried to come through
	settlePause  = 100 * time.Millisecond
)

// Compare holds the target's decisions against a fold of our own. Call it after
// Run. The error is that the target does not answer.
func (w *Witness) Compare(ctx context.Context, d Decider) (Comparison, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	states := w.fold()
	questions := w.questions(states)
	result := Comparison{Decisions: len(questions), Events: len(w.events), Doubtful: len(w.doubtful), Subjects: w.subjects(questions)}
	open, atLeast := questions, w.tokens()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	for deadline := (time.Time{}); ; {
		answers, err := d.Decide(ctx, open, atLeast)
		if err != nil {
			return result, err
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(settleWithin)
		}
		if result.Differences = w.differences(states, open, answers); len(result.Differences) == 0 || time.Now().After(deadline) {
			return result, nil
		}
		open, atLeast = nil, nil
		for i := range result.Differences {
			open = append(open, result.Differences[i].Question)
		}
		if !sleepUntil(ctx, time.Now().Add(settlePause)) {
			return result, ctx.Err()
		}
	}
}

// questions asks everything about everybody who is watched, under the
// jurisdictions of what they said and under none.
func (w *Witness) questions(states map[consent.SubjectID]*consent.State) []Question {
	ids := map[consent.SubjectID]bool{}
	for id := range states {
		ids[id] = true
	}
	for h := range w.watched {
		for _, s := range w.generator.Household(h) {
			if !w.doubtful[h] {
				ids[consent.SubjectID{Tenant: w.tenant(), Subject: s}] = true
			}
		}
	}
	var all []Question
	for id := range ids {
		purposes, jurisdictions := w.purposes(), []consent.Jurisdiction{""}
		if s := states[id]; s != nil {
			for i := range s.Rows {
				if !slices.Contains(purposes, s.Rows[i].Purpose) {
					purposes = append(purposes, s.Rows[i].Purpose)
				}
			}
			jurisdictions = append(jurisdictions, s.Whole.Jurisdictions...)
		}
		for _, p := range purposes {
			for _, j := range jurisdictions {
				all = append(all, Question{id.Tenant, id.Subject, p, j, id.Test})
			}
		}
	}
	return all
}

func (w *Witness) tenant() consent.Tenant {
	if w.catalogue.Tenant != "" {
		return w.catalogue.Tenant
	}
	return consent.DefaultTenant
}

func (w *Witness) subjects(questions []Question) int {
	seen := map[consent.Subject]bool{}
	for i := range questions {
		seen[questions[i].Subject] = true
	}
	return len(seen)
}

func (w *Witness) differences(states map[consent.SubjectID]*consent.State, questions []Question, answers []Decision) []Difference {
	var all []Difference
	for i, q := range questions {
		s := states[consent.SubjectID{Tenant: q.Tenant, Subject: q.Subject, Test: q.Test}]
		d := consent.Decide(s, w.catalogue, consent.Query{Purpose: q.Purpose, Jurisdiction: q.Jurisdiction, At: answers[i].AsOf})
		if want := decisionOf(&d, answers[i].AsOf); want != answers[i] {
			all = append(all, Difference{q, answers[i], want})
		}
	}
	return all
}

// decisionOf is a decision in the form of an answer.
func decisionOf(d *consent.Decision, asOf consent.Instant) Decision {
	x := Decision{
		Allowed: d.Allowed, Reason: string(d.Reason), Since: d.Since.String(), ExpiresAt: d.ExpiresAt.String(),
		PolicyVersion: d.PolicyVersion, AsOf: asOf,
	}
	if d.Status != consent.StatusUnknown {
		x.Status = d.Status.String()
	}
	if d.Model != consent.ModelUnknown && d.Reason != consent.ReasonBasis {
		x.Model = d.Model.String()
	}
	if by := d.DecidedBy; by != nil {
		x.EventID, x.Node, x.EffectiveAt = by.EventID.String(), string(by.Purpose), by.EffectiveAt.String()
	}
	return x
}
