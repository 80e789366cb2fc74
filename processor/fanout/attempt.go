package fanout

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/webhook"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// entry is one change on its way to one downstream.
type entry struct {
	position kafka.Position
	key      string // of the queue: the record's key
	change   consent.Change
	value    []byte // the record, for a dead letter
	poison   string // why it cannot be decoded; such an entry is set aside

	attempts       int  // made so far, by this process
	refusals       int  // of them, those that were answered with a refusal of this change
	failedWithLane bool // the last one failed because the endpoint did
}

// result is what came of an attempt.
type result struct {
	entry *entry
	final bool      // it has an outcome, which is recorded
	again time.Time // else: when it is due
}

// maxAnswerBytes bounds what is read of an answer's body.
const maxAnswerBytes = 4 << 10

// filter decodes records and keeps those that concern the downstream.
func (l *lane) filter(messages []kafka.Message) []*entry {
	var kept []*entry
	for i := range messages {
		m := &messages[i]
		c, err := schemas.DecodeChange(m.Value)
		if err == nil && !l.downstream.Hears(&c) {
			continue
		}
		e := &entry{position: m.Position, key: string(m.Key), change: c, value: bytes.Clone(m.Value)}
		if err != nil {
			e.poison = err.Error()
		}
		kept = append(kept, e)
	}
	return kept
}

// attempt makes one attempt and records what came of it. It returns only when
// the record is acknowledged, or ctx has ended.
func (s *session) attempt(ctx context.Context, e *entry) result {
	if e.poison != "" {
		s.gate.abandon() // says nothing about the endpoint
		return s.setAside(ctx, e, "undecodable", e.poison, nil)
	}
	if err := s.limit.Wait(ctx); err != nil {
		s.gate.abandon()
		return result{entry: e, again: s.now()}
	}
	started := s.now()
	began := time.Now()
	a := s.request(ctx, e, started)
	if ctx.Err() != nil && a.status == 0 {
		s.gate.abandon() // cut off by the stop: nothing is known of the endpoint
		return result{entry: e, again: s.now()}
	}
	v := classify(a)
	e.attempts++
	now := s.now()
	if s.gate.report(v, now) {
		s.noteGate()
	}
	d := s.delivery(e, started, time.Since(began), a.status, v)
	return s.decide(ctx, e, v, d, now)
}

// decide turns a verdict into a result, and records it.
func (s *session) decide(ctx context.Context, e *entry, v verdict, d *schemas.Delivery, now time.Time) result {
	e.failedWithLane = v.kind != refused
	switch v.kind {
	case taken:
		if !s.record(ctx, d, nil) {
			return result{entry: e, again: now}
		}
		s.metrics.told(d, e.change.ReceivedAt.Time(), now)
		return result{entry: e, final: true}
	case refused:
		// An endpoint that was away or wrong has not judged the change: only its
		// refusals are held against it.
		if e.refusals++; e.refusals >= s.downstream.Webhook.Attempts {
			reason := "the endpoint refuses this change"
			if v.outcome == schemas.Failed {
				reason = "the downstream took this change, and says that it failed to obey it"
			}
			return s.setAside(ctx, e, v.reason, reason, d)
		}
	case wrongEndpoint, busy: // the gate tells when; the change is not to blame
		d.NextAttemptAt = consent.InstantOf(now.Add(v.wait))
		return result{entry: e, final: false, again: s.recorded(ctx, d, now)}
	case away:
	}
	wait, ok := s.schedule.next(e.attempts, v.wait, e.change.Withdrawal, e.change.ReceivedAt, d.DeadlineAt, now)
	if !ok {
		return s.setAside(ctx, e, "deadline_passed", "not taken by its deadline", d)
	}
	d.NextAttemptAt = consent.InstantOf(now.Add(wait))
	return result{entry: e, again: s.recorded(ctx, d, now.Add(wait))}
}

// recorded records an attempt that settles nothing, and gives when to go on.
func (s *session) recorded(ctx context.Context, d *schemas.Delivery, again time.Time) time.Time {
	s.record(ctx, d, nil)
	return again
}

// setAside makes a dead letter of a change.
func (s *session) setAside(ctx context.Context, e *entry, code, reason string, d *schemas.Delivery) result {
	letter := &schemas.DeadLetter{
		Topic: e.position.Topic, Partition: e.position.Index, Offset: int64(e.position.Offset),
		Code: code, Reason: reason, Role: "fanout", Downstream: s.downstream.Name,
		At: consent.InstantOf(s.now()), Key: []byte(e.key), Value: e.value,
	}
	if d != nil {
		d.Outcome, d.Reason = schemas.DeadLettered, code
	}
	if !s.record(ctx, d, letter) {
		return result{entry: e, again: s.now()}
	}
	log := s.log.Warn
	if e.change.Withdrawal || e.poison != "" {
		log = s.log.Error // somebody must see to it
	}
	log("a change became a dead letter", "position", e.position.String(), "code", code, "withdrawal", e.change.Withdrawal)
	return result{entry: e, final: true}
}

// record writes the outcome, and the dead letter where there is one, and waits
// until they are acknowledged. A broker that is away is waited for; false means
// that ctx ended first, and the attempt counts as not made.
func (s *session) record(ctx context.Context, d *schemas.Delivery, letter *schemas.DeadLetter) bool {
	var records []kafka.Record
	if letter != nil {
		value, err := schemas.EncodeDeadLetter(nil, letter)
		if err != nil { // positions and codes of our own, and bytes that were in a record
			s.log.Error("a dead letter cannot be encoded", "position", letter.Topic, "error", err)
		} else {
			records = append(records, kafka.Record{Topic: s.config.Names.DeadLetters(), Key: letter.Key, Value: value})
		}
	}
	if d != nil {
		value, err := schemas.EncodeDelivery(nil, d)
		if err != nil {
			s.log.Error("a delivery cannot be encoded", "error", err)
		} else {
			records = append(records, kafka.Record{Topic: s.config.Names.Deliveries(), Key: consent.Key(d.Tenant, d.Subject), Value: value})
		}
	}
	for len(records) > 0 {
		if _, err := s.records.Produce(ctx, records...); err == nil {
			break
		} else if ctx.Err() != nil {
			return false
		} else {
			s.log.Warn("an outcome could not be recorded; tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(recordRetry):
		}
	}
	if d != nil {
		s.metrics.attempted(d)
	}
	return true
}

const recordRetry = time.Second

// request sends the change once.
func (s *session) request(ctx context.Context, e *entry, at time.Time) answer {
	keys, err := s.keys.current(at)
	if err != nil {
		s.log.Error("a webhook secret cannot be resolved", "error", err)
		return answer{status: http.StatusUnauthorized} // as if the endpoint had refused our signature: the lane pauses
	}
	ctx, cancel := context.WithTimeout(ctx, s.downstream.Webhook.Timeout)
	defer cancel()
	body := jsonform.AppendChange(nil, &e.change)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.downstream.Webhook.URL, bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	webhook.Sign(req.Header, keys, s.webhookID(&e.change), at, body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "assent-fanout")
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	// A body that breaks off changes nothing: the status has answered.
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	return answer{status: resp.StatusCode, body: said, retryAfter: parseRetryAfter(resp.Header.Get("Retry-After"), at)}
}

// delivery describes the attempt.
func (s *session) delivery(e *entry, started time.Time, took time.Duration, status int, v verdict) *schemas.Delivery {
	c := &e.change
	d := &schemas.Delivery{
		ChangeID: c.ID, Tenant: c.Tenant, Subject: c.Subject, Purpose: c.Purpose, Version: c.Version,
		Withdrawal: c.Withdrawal, Downstream: s.downstream.Name, WebhookID: s.webhookID(c), Attempt: int32(e.attempts),
		StartedAt: consent.InstantOf(started), DurationMillis: int32(took.Milliseconds()),
		Outcome: v.outcome, HTTPStatus: int32(status), Reason: v.reason,
		DeadlineAt: s.registry.Current().DueAt(s.downstream, c), ChangeReceivedAt: c.ReceivedAt, Test: c.Test,
	}
	// The start is in the id: after a restart attempts count from one again, and
	// are others.
	d.ID = consent.DeriveUUID(c.ID, []byte(s.downstream.Name+"|"+strconv.Itoa(e.attempts)+"|"+d.StartedAt.String()))
	return d
}
