package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// Submission is one act over several purposes, such as a saved preference page.
type Submission struct {
	// Act is what holds for every choice. Its ID, Purpose and Action are not used.
	Act     consent.Event
	Choices []Choice
	// Key makes a repetition count once. Default: a fresh one for each Submit.
	Key string
}

// Choice is what was chosen for one purpose; false is a refusal.
type Choice struct {
	Purpose  consent.Purpose
	Granted  bool
	Notice   *consent.Notice   // nil = the act's
	Evidence *consent.Evidence // nil = the act's
}

// SubmissionResult tells what became of each choice, in their order.
type SubmissionResult struct {
	InteractionID consent.UUID // of all events of the submission
	Results       []Result
}

// Submit sends one act over several purposes. As long as some choice was not
// confirmed it tries again with the same key, so that what was recorded counts
// once. Choices that are refused are told in the result; the error is that of
// the submission as a whole.
func (c *Client) Submit(ctx context.Context, s Submission) (SubmissionResult, error) {
	if s.Key == "" {
		s.Key = consent.UUID(uuid.New()).String()
	}
	granted := false
	for _, choice := range s.Choices {
		granted = granted || choice.Granted
	}
	if s.Act.OccurredAt == 0 && !granted { // each attempt then says the same
		s.Act.OccurredAt = consent.InstantOf(time.Now())
	}
	var result SubmissionResult
	err := c.persist(ctx, func() (time.Duration, error) {
		s.Act.SentAt = consent.InstantOf(time.Now())
		body, err := s.json()
		if err != nil {
			return 0, err
		}
		status, after, answer, err := c.post(ctx, "/v1/submissions", mediaJSON, s.Key, body)
		if err != nil {
			return 0, err
		}
		if status != http.StatusOK {
			_, err = readResult(status, answer)
			return after, err
		}
		if result, err = readSubmission(answer, len(s.Choices)); err != nil {
			return 0, err
		}
		for _, r := range result.Results {
			if r.Err != nil && temporary(r.Err) {
				return after, r.Err
			}
		}
		return 0, nil
	})
	if err != nil && len(result.Results) == 0 {
		return SubmissionResult{}, fmt.Errorf("submit: %w", err)
	}
	return result, ctx.Err()
}

func readSubmission(answer []byte, choices int) (SubmissionResult, error) {
	var w struct {
		InteractionID string `json:"interaction_id"`
		Results       []json.RawMessage
	}
	if err := json.Unmarshal(answer, &w); err != nil {
		return SubmissionResult{}, fmt.Errorf("read the answer: %w", err)
	}
	if len(w.Results) != choices {
		return SubmissionResult{}, fmt.Errorf("the answer has %d results for %d choices", len(w.Results), choices)
	}
	id, err := consent.ParseUUID(w.InteractionID)
	if err != nil {
		return SubmissionResult{}, fmt.Errorf("read the answer: %w", err)
	}
	result := SubmissionResult{InteractionID: id}
	for _, raw := range w.Results {
		result.Results = append(result.Results, readPart(raw))
	}
	return result, nil
}

// json writes the submission: the members of an event that hold for all, and the
// choices in their order.
func (s *Submission) json() ([]byte, error) {
	act := s.Act
	act.Policy, act.Carried, act.ReceivedAt, act.EffectiveAt = nil, nil, 0, 0
	b := []byte(`{"choices":{`)
	for i, c := range s.Choices {
		if c.Purpose == "" {
			return nil, errors.New("a choice names no purpose")
		}
		if i > 0 {
			b = append(b, ',')
		}
		own := fmt.Appendf(nil, `{"granted":%t`, c.Granted)
		if c.Notice != nil {
			own = appendPart(own, "notice", &consent.Event{Notice: *c.Notice})
		}
		if c.Evidence != nil {
			own = appendPart(own, "evidence", &consent.Event{Evidence: *c.Evidence})
		}
		b = append(append(quote(b, string(c.Purpose)), ':'), own...)
		b = append(b, '}')
	}
	b = append(b, '}')
	for name, value := range parts(&act) {
		switch name {
		case "event_id", "purpose", "action":
		default:
			b = append(append(quote(append(b, ','), name), ':'), value...)
		}
	}
	return append(b, '}'), nil
}

// appendPart appends one member of an event's JSON form; {} where it holds nothing.
func appendPart(b []byte, name string, e *consent.Event) []byte {
	value, ok := parts(e)[name]
	if !ok {
		value = []byte("{}")
	}
	return append(append(quote(append(b, ','), name), ':'), value...)
}

// parts gives the members of an event's JSON form.
func parts(e *consent.Event) map[string]json.RawMessage {
	var all map[string]json.RawMessage
	_ = json.Unmarshal(jsonform.AppendEvent(nil, e), &all) // an object always can
	return all
}

func quote(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // a string always can
	return append(b, q...)
}
