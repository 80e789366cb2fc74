package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/producer/intake"
	"github.com/assent-dev/assent/schemas"
)

const (
	role = "gateway"

	fetchWait      = 250 * time.Millisecond
	fetchRecords   = 5000
	firstPause     = 100 * time.Millisecond
	longestPause   = 5 * time.Second
	traceparentKey = "traceparent"
)

// consume is the second door: it reads consent.intake as a member of a group
// until ctx ends.
func (g *Gateway) consume(ctx context.Context) error {
	err := g.kafka.RunGroup(ctx, kafka.GroupOptions{
		Group:   g.config.Topics.IntakeGroup(),
		Topics:  []string{g.config.Topics.Intake()},
		Stripes: g.config.IntakeStripes,
		Logger:  g.log,
	}, g.work)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("read %s: %w", g.config.Topics.Intake(), err)
	}
	return nil
}

// work takes in one stripe for one generation. Each turn of its loop: fetch,
// decide, write, and only then commit. A crash, or a new owner, in between
// repeats the turn from the committed position, and writes the same bytes again:
// same ids, same times, so they count once.
func (g *Gateway) work(ctx context.Context, claim *kafka.Claim) (err error) {
	defer func() {
		if p := recover(); p != nil { // a fault of ours: nothing is skipped, the log tells
			err = fmt.Errorf("take in stripe %d: panic of kind %T", claim.Stripe(), p)
		}
	}()
	from, err := claim.Positions(ctx)
	if err != nil {
		return err
	}
	fetcher := g.kafka.NewFetcher(from, kafka.FetchOptions{MaxWait: fetchWait, MaxRecords: fetchRecords})
	defer fetcher.Close() //nolint:errcheck // always nil
	for {
		batches, err := fetcher.Fetch(ctx)
		if stopped := g.partitionStopped(err); stopped {
			continue
		} else if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		if err := g.turn(ctx, claim, batches); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// partitionStopped tells of a partition that cannot go on without losing
// records. Its fetcher has paused it; the others go on.
func (g *Gateway) partitionStopped(err error) bool {
	gone, corrupt := new(kafka.OffsetOutOfRangeError), new(kafka.CorruptBatchError)
	var p kafka.Partition
	switch {
	case errors.As(err, &gone):
		p = gone.Partition
	case errors.As(err, &corrupt):
		p = corrupt.Position.Partition
	default:
		return false
	}
	g.metrics.stop(p)
	g.log.Error("a partition of the intake is stopped, and nothing of it is skipped: see the runbook", "partition", p.String(), "error", err)
	return true
}

// turn takes in what one Fetch brought.
func (g *Gateway) turn(ctx context.Context, claim *kafka.Claim, batches []kafka.Batch) error {
	var records []kafka.Record
	commits := make(map[kafka.Partition]kafka.Commit, len(batches))
	for _, b := range batches {
		for i := range b.Messages {
			made, err := g.decide(&b.Messages[i])
			if err != nil {
				return err
			}
			records = append(records, made...)
		}
		commits[b.Partition] = kafka.Commit{Next: b.Next}
	}
	if err := g.writeAll(ctx, records); err != nil {
		return err
	}
	if err := claim.Commit(ctx, commits); err != nil {
		return err
	}
	for _, b := range batches {
		g.metrics.behind(b.Partition, int64(b.HighWatermark-b.Next))
	}
	return nil
}

// decide makes of an intake record the records of consent.events, or a dead
// letter. The key that it came with need not be right: ours is made of what the
// event says.
func (g *Gateway) decide(m *kafka.Message) ([]kafka.Record, error) {
	event, err := schemas.DecodeIntakeEvent(m.Value)
	if err == nil {
		claims := intake.Claims{
			Event:      event,
			ReceivedAt: g.receivedAt(m),
			IDName:     []byte("position\x00" + m.Position.String()),
		}
		var accepted intake.Accepted
		if accepted, err = g.intake.Accept(claims); err == nil {
			var records []kafka.Record
			if records, err = g.records(&accepted, traceOf(m.Headers)); err == nil {
				g.metrics.count(doorIntake, &accepted.Event, outcomeRecorded)
				return records, nil
			}
		}
	}
	code, outcome := whyDead(err)
	g.metrics.count(doorIntake, &event, outcome)
	g.metrics.deadLetters.Inc()
	g.log.Warn("an intake record became a dead letter", "position", m.Position.String(), "code", code)
	letter, err := g.deadLetter(m, code, err.Error())
	return []kafka.Record{letter}, err
}

// A record's time that can be true is not before the year 2000, which is where seconds
// land that are taken for milliseconds, nor further ahead than clocks differ.
const (
	earliestRecord consent.Instant = 946_684_800_000
	clocksDiffer                   = time.Minute
)

// receivedAt is when an intake record came in: the time of the record, so that a repeat
// gives the same bytes. Where that is absent, or cannot be true (a publisher set it, in
// other units than milliseconds or by a wrong clock), it is our own: no withdrawal is to
// be lost, or to count from another century, for the clock of who published it.
func (g *Gateway) receivedAt(m *kafka.Message) consent.Instant {
	now := g.received()
	if t := consent.InstantOf(m.Time); t >= earliestRecord && t <= now.Add(clocksDiffer) {
		return t
	}
	return now
}

// whyDead gives the code of a dead letter: those of every broken rule, or that
// of the decoder.
func whyDead(err error) (code, outcome string) {
	faults, undecodable := consent.Faults{}, new(schemas.DecodeError)
	switch {
	case errors.As(err, &faults):
		var codes []string
		for _, f := range faults {
			if c := string(f.Code); !slices.Contains(codes, c) {
				codes = append(codes, c)
			}
		}
		return strings.Join(codes, ","), outcomeRefused
	case errors.As(err, &undecodable):
		return undecodable.Code, outcomeUnusable
	}
	return string(consent.CodeMalformed), outcomeUnusable
}

func (g *Gateway) deadLetter(m *kafka.Message, code, reason string) (kafka.Record, error) {
	letter := schemas.DeadLetter{
		Topic:     m.Topic,
		Partition: m.Index,
		Offset:    int64(m.Offset),
		Code:      code,
		Reason:    reason,
		Role:      role,
		At:        g.received(),
		Key:       m.Key,
		Value:     m.Value,
	}
	for _, h := range m.Headers {
		letter.Headers = append(letter.Headers, schemas.Header{Key: h.Key, Value: h.Value})
	}
	value, err := schemas.EncodeDeadLetter(nil, &letter)
	if err != nil {
		return kafka.Record{}, fmt.Errorf("set aside %s: %w", m.Position, err)
	}
	return kafka.Record{Topic: g.config.Topics.DeadLetters(), Key: bytes.Clone(m.Key), Value: value}, nil
}

// writeAll returns when all in-sync replicas have every record, however long the
// broker is away; only the end of ctx ends it before.
func (g *Gateway) writeAll(ctx context.Context, records []kafka.Record) error {
	pause := firstPause
	for len(records) > 0 {
		_, err := g.events.Produce(ctx, records...)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var again []kafka.Record
		for i, r := range outcomes(err, len(records)) {
			if r.Outcome != kafka.Written {
				again = append(again, records[i])
			}
		}
		g.log.Warn("intake waits for the broker", "records", len(again), "error", err)
		records = again
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // spreads retries, protects nothing
		}
		pause = min(2*pause, longestPause)
	}
	return nil
}

// traceOf gives the traceparent that a record came with.
func traceOf(headers []kafka.Header) string {
	for _, h := range headers {
		if h.Key == traceparentKey {
			return traceparent(string(h.Value))
		}
	}
	return ""
}
