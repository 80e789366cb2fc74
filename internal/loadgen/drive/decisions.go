package drive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/assent-dev/assent/consent"
)

const (
	questionsAtOnce = 1000  // as many as the target takes
	foldedWithin    = "20s" // a request has requestTimeout
)

// Decide asks POST /v1/decisions. It tries again while the target is away, or
// has not folded far enough.
func (h *HTTP) Decide(ctx context.Context, questions []Question, atLeast []string) ([]Decision, error) {
	answers := make([]Decision, 0, len(questions))
	for from := 0; from < len(questions); from += questionsAtOnce {
		part := questions[from:min(from+questionsAtOnce, len(questions))]
		err := h.patience.Persist(ctx, func() error {
			decided, err := h.decide(ctx, part, atLeast)
			answers = append(answers[:from], decided...)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("ask for decisions: %w", err)
		}
	}
	return answers, nil
}

func (h *HTTP) decide(ctx context.Context, questions []Question, atLeast []string) ([]Decision, error) {
	body, err := json.Marshal(wireQueries(questions, atLeast))
	if err != nil {
		return nil, err
	}
	status, after, text, err := h.post(ctx, "/v1/decisions", http.Header{"Content-Type": {mediaJSON}}, body)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
		return nil, &LaterError{Busy: true, After: after, Err: fmt.Errorf("answered %d", status)}
	case status != http.StatusOK:
		return nil, fmt.Errorf("answered %d", status)
	}
	var many struct {
		Decisions []wireDecision `json:"decisions"`
	}
	if err := json.Unmarshal(text, &many); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(many.Decisions) != len(questions) {
		return nil, fmt.Errorf("%d decisions for %d questions", len(many.Decisions), len(questions))
	}
	answers := make([]Decision, len(questions))
	for i := range many.Decisions {
		w := &many.Decisions[i]
		answers[i] = w.decision()
		if w.Reason == string(consent.ReasonUnavailable) {
			return nil, &LaterError{Err: errors.New("a decision is unavailable: its partition has no owner")}
		}
	}
	return answers, nil
}

type wireQuery struct {
	Tenant       string `json:"tenant,omitempty"`
	Subject      string `json:"subject"`
	Purpose      string `json:"purpose"`
	Jurisdiction string `json:"jurisdiction,omitempty"`
	Test         bool   `json:"test,omitempty"`
}

func wireQueries(questions []Question, atLeast []string) any {
	queries := make([]wireQuery, len(questions))
	for i, q := range questions {
		queries[i] = wireQuery{string(q.Tenant), string(q.Subject), string(q.Purpose), string(q.Jurisdiction), q.Test}
	}
	return struct {
		Queries []wireQuery `json:"queries"`
		AtLeast []string    `json:"at_least,omitempty"`
		Wait    string      `json:"wait"`
	}{queries, atLeast, foldedWithin}
}

type wireDecision struct {
	Allowed   bool   `json:"allowed"`
	Status    string `json:"status"`
	Reason    string `json:"reason"`
	Since     string `json:"since"`
	ExpiresAt string `json:"expires_at"`
	DecidedBy struct {
		EventID     string `json:"event_id"`
		Purpose     string `json:"purpose"`
		EffectiveAt string `json:"effective_at"`
	} `json:"decided_by"`
	Model         string `json:"model"`
	PolicyVersion string `json:"policy_version"`
	AsOf          string `json:"as_of"`
}

func (w *wireDecision) decision() Decision {
	asOf, _ := consent.ParseInstant(w.AsOf) // without it nothing will be equal
	return Decision{
		Allowed: w.Allowed, Status: w.Status, Reason: w.Reason, Since: w.Since, ExpiresAt: w.ExpiresAt,
		EventID: w.DecidedBy.EventID, Node: w.DecidedBy.Purpose, EffectiveAt: w.DecidedBy.EffectiveAt,
		Model: w.Model, PolicyVersion: w.PolicyVersion, AsOf: asOf,
	}
}
