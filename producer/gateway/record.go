package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/problem"
	"github.com/assent-dev/assent/internal/token"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/producer/intake"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// entry is one event on its way through a request: what was asked, and what
// became of it. It is recorded when it has no problem at the end.
type entry struct {
	claims   intake.Claims
	accepted intake.Accepted
	position kafka.Position
	problem  *problem.Problem
	purpose  string // as asked, where an answer names it: submissions
}

// protective tells that the event can only restrict: a link too, which carries
// what one id refused to another.
func (e *entry) protective() bool {
	action := e.claims.Event.Action
	return action.Protective() || action == consent.Link
}

func (e *entry) fail(p problem.Problem) { e.problem = &p }

// recorded is the answer for an event that all in-sync replicas have.
type recorded struct {
	Purpose     string         `json:"purpose,omitempty"`
	EventID     string         `json:"event_id"`
	ReceivedAt  string         `json:"received_at"`
	EffectiveAt string         `json:"effective_at"`
	Position    wirePosition   `json:"position"`
	Token       string         `json:"token"`
	Status      string         `json:"status"`
	Subject     string         `json:"subject,omitempty"` // only when it was hashed
	Warnings    []problem.Item `json:"warnings"`
}

type wirePosition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

const statusRecorded = "recorded"

func (e *entry) answer() recorded {
	x := &e.accepted.Event
	r := recorded{
		Purpose:     e.purpose,
		EventID:     x.ID.String(),
		ReceivedAt:  x.ReceivedAt.String(),
		EffectiveAt: x.EffectiveAt.String(),
		Position:    wirePosition{e.position.Topic, e.position.Index, int64(e.position.Offset)},
		Token:       token.Encode(e.position.Index, int64(e.position.Offset)),
		Status:      statusRecorded,
		Warnings:    make([]problem.Item, 0, len(e.accepted.Warnings)),
	}
	if e.accepted.Hashed {
		r.Subject = string(x.Subject)
	}
	for _, w := range e.accepted.Warnings {
		r.Warnings = append(r.Warnings, problem.Item{Code: string(w.Code), Field: w.Field, Message: w.Message})
	}
	return r
}

// accept decides about every entry that has no problem yet.
func (g *Gateway) accept(entries []*entry) {
	for _, e := range entries {
		if e.problem != nil {
			continue
		}
		accepted, err := g.intake.Accept(e.claims)
		e.accepted = accepted
		if err != nil {
			e.fail(refusal(err))
		}
	}
}

// refusal tells a sender why an event was not accepted.
func refusal(err error) problem.Problem {
	if unusable := new(jsonform.Unusable); errors.As(err, &unusable) {
		p := problem.BadRequest(unusable.Error() + "; nothing was recorded")
		if unusable.Field != "" {
			p.Errors = []problem.Item{{Code: string(consent.CodeMalformed), Field: unusable.Field, Message: unusable.Message}}
		}
		return p
	}
	faults := consent.Faults{}
	errors.As(err, &faults)
	kind, detail := "invalid-grant", "the grant breaks a rule: see errors; nothing was recorded"
	items := make([]problem.Item, len(faults))
	for i, f := range faults {
		items[i] = problem.Item{Code: string(f.Code), Field: f.Field, Message: f.Message}
		switch f.Field {
		case "action":
			kind, detail = "malformed", "nobody can send this action; nothing was recorded"
		case "link.to":
			kind, detail = "malformed", "the event does not name what it speaks of; nothing was recorded"
		}
	}
	return problem.Unprocessable(kind, detail, items)
}

// write writes every entry without a problem to consent.events and fills in its
// position, or the problem that the broker had. It returns when all in-sync
// replicas have them; it does not end with the request: who has gone away may
// have withdrawn.
func (g *Gateway) write(ctx context.Context, entries []*entry, traceparent string) {
	records := make([]kafka.Record, 0, len(entries))
	of := make([]*entry, 0, len(entries)) // whose each record is; an entry's own comes last
	for _, e := range entries {
		if e.problem != nil {
			continue
		}
		made, err := g.records(&e.accepted, traceparent)
		if err != nil {
			e.fail(refusal(err))
			continue
		}
		for _, r := range made {
			records, of = append(records, r), append(of, e)
		}
	}
	if len(records) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.config.ProduceTimeout)
	defer cancel()
	positions, err := g.events.Produce(ctx, records...)
	if err == nil {
		for i, e := range of {
			e.position = positions[i]
		}
		return
	}
	if now := time.Now().Unix(); g.warned.Swap(now) != now { // once a second tells enough
		g.log.Warn("events were not confirmed by the broker and are answered 503", "events", len(records), "error", err)
	}
	results := outcomes(err, len(records))
	for i, e := range of {
		switch {
		case e.problem != nil: // an earlier one of its records has failed
		case results[i].Outcome == kafka.Written:
			e.position = results[i].Position
		case len(e.accepted.Withdrawals) > 0: // some of its records may be there
			e.fail(unconfirmed(kafka.Unknown, e.accepted.Event.ID))
		default:
			e.fail(unconfirmed(results[i].Outcome, e.accepted.Event.ID))
		}
	}
}

// outcomes gives what became of each of n records.
func outcomes(err error, n int) []kafka.RecordResult {
	if failed := new(kafka.ProduceError); errors.As(err, &failed) && len(failed.Results) == n {
		return failed.Results
	}
	results := make([]kafka.RecordResult, n)
	for i := range results {
		results[i] = kafka.RecordResult{Outcome: kafka.Unknown, Err: err}
	}
	return results
}

const brokerRetryAfter = 2 * time.Second

// unconfirmed says whether the event may be in the log, and how to repeat it so
// that it counts once.
func unconfirmed(o kafka.Outcome, id consent.UUID) problem.Problem {
	detail := "the broker is away or cannot store: nothing was recorded, send it again"
	if o == kafka.Unknown {
		detail = fmt.Sprintf("the broker did not confirm in time: whether the event was recorded is not known; send it again with the same Idempotency-Key, or with event_id %s, so that it counts once", id)
	}
	return problem.Unavailable("broker-unavailable", detail, brokerRetryAfter)
}

// records makes the records of consent.events for what was accepted: the
// withdrawals that go with it, and then the event itself, so that its position
// covers those of its own subject.
func (g *Gateway) records(a *intake.Accepted, traceparent string) ([]kafka.Record, error) {
	records := make([]kafka.Record, 0, len(a.Withdrawals)+1)
	for i := range a.Withdrawals {
		r, err := g.record(&intake.Accepted{Event: a.Withdrawals[i]}, traceparent)
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	r, err := g.record(a, traceparent)
	if err != nil {
		return nil, err
	}
	return append(records, r), nil
}

// maxValueBytes bounds an event as it is written. What is larger than
// [schemas.MaxEventBytes] is never folded, and a link's copy is larger than what it
// was made of.
const maxValueBytes = schemas.MaxEventBytes / 2

// encode makes the value of an event's record; an error, a [schemas.EncodeError], tells
// why it can have none.
func encode(e *consent.Event) ([]byte, error) {
	value, err := schemas.EncodeEvent(nil, e)
	if err == nil && len(value) > maxValueBytes {
		return nil, &schemas.EncodeError{Code: schemas.CodeTooLarge, Reason: fmt.Sprintf("the event has more than %d KiB with its stamps: send shorter texts", maxValueBytes>>10)}
	}
	return value, err
}

// record makes the record of one event. An event whose texts are more than is
// written is refused when it is a grant; a restriction goes on without them.
func (g *Gateway) record(a *intake.Accepted, traceparent string) (kafka.Record, error) {
	value, err := encode(&a.Event)
	if unfit := new(schemas.EncodeError); errors.As(err, &unfit) {
		if a.Event.Action == consent.Grant {
			faults := consent.Faults{{Code: consent.CodeMalformed, Field: unfit.Field, Message: unfit.Reason}}
			return kafka.Record{}, fmt.Errorf("%w: %s", faults, unfit.Reason)
		}
		a.Event = essentials(a.Event)
		a.Warnings = append(a.Warnings, consent.Warning{Code: consent.WarnUnknownField, Field: unfit.Field, Message: "does not fit into a record: recorded without the texts that came with it"})
		value, err = encode(&a.Event)
	}
	if err != nil {
		return kafka.Record{}, consent.Faults{{Code: consent.CodeMalformed, Message: err.Error()}}
	}
	return kafka.Record{
		Topic:   g.config.Topics.Events(),
		Key:     a.Event.Key(),
		Value:   value,
		Headers: topic.EventHeaders(&a.Event, traceparent),
	}, nil
}

// essentials is what decides, without what only tells more. It always fits: what
// policy.covers can name is bounded where the purposes are read.
func essentials(e consent.Event) consent.Event {
	return consent.Event{
		ID: e.ID, InteractionID: e.InteractionID, RequestID: e.RequestID,
		Tenant: e.Tenant, Subject: e.Subject, Purpose: e.Purpose, Action: e.Action,
		OccurredAt: e.OccurredAt, SentAt: e.SentAt, ReceivedAt: e.ReceivedAt, EffectiveAt: e.EffectiveAt,
		Channel: e.Channel, Jurisdiction: e.Jurisdiction, Policy: e.Policy, Invalidates: e.Invalidates, LinkTo: e.LinkTo, Test: e.Test,
	}
}

// count tells the metrics what became of the entries.
func (g *Gateway) count(entries []*entry) {
	for _, e := range entries {
		outcome := outcomeRecorded
		if e.problem != nil {
			switch e.problem.Status {
			case 422:
				outcome = outcomeRefused
			case 429:
				outcome = outcomeLimited
			case 503:
				outcome = outcomeUnavailable
			default:
				outcome = outcomeUnusable
			}
		}
		g.metrics.count(doorHTTP, &e.claims.Event, outcome)
	}
}
