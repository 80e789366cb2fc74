package processor

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// The codes of dead letters that this package gives, beside those of
// [schemas.DecodeError], [consent.CodeUnstamped] and [consent.CodeNotYet].
const (
	codeWrongKey       = "wrong_key"
	codeWrongPartition = "wrong_partition"
)

// refusal is why a record can never be folded.
type refusal struct{ code, reason string }

// decode is step 2 for one record: into an empty event as it is folded, or why it cannot
// be. It depends on the record and the number of partitions alone, so that reading
// again gives the same event.
func decode(m *kafka.Message, partitions int, e *schemas.Folding) *refusal {
	if len(m.Value) > schemas.MaxEventBytes {
		return &refusal{schemas.CodeTooLarge, fmt.Sprintf("the event has %d bytes, at most %d are folded", len(m.Value), schemas.MaxEventBytes)}
	}
	if err := e.Decode(m.Value); err != nil {
		fault := &schemas.DecodeError{Code: schemas.CodeInvalid, Reason: "the value cannot be decoded"}
		errors.As(err, &fault)
		return &refusal{fault.Code, fault.Error()}
	}
	var stack [128]byte
	if !bytes.Equal(m.Key, consent.AppendKey(stack[:0], e.Tenant, e.Subject)) {
		return &refusal{codeWrongKey, "the record's key is not tenant|subject of its event"}
	}
	if want := kafka.PartitionFor(m.Key, partitions); want != m.Partition.Index {
		return &refusal{codeWrongPartition, fmt.Sprintf("the key belongs to partition %d: the writer must use the partitioner murmur2 as the Java client does", want)}
	}
	if !e.Action.Folds() {
		return &refusal{string(consent.CodeNotYet), fmt.Sprintf("the action %s is not folded by this version", e.Action)}
	}
	if refused := stampedBy(&e.Event, brokerTime(m)); refused != nil {
		return refused
	}
	if e.Action.Kept() && e.Original == nil {
		if err := schemas.SetOriginal(&e.Event); err != nil {
			return &refusal{schemas.CodeInvalid, err.Error()}
		}
	}
	return nil
}

// lastInstant is the end of the year 9999: the last time that a schema takes.
const lastInstant consent.Instant = 253_402_300_799_999

// brokerTime is when the broker had the record; 0 where the record has no time
// that could be one, as on a topic where writers set it.
func brokerTime(m *kafka.Message) consent.Instant {
	if t := consent.InstantOf(m.Time); t > 0 && t <= lastInstant {
		return t
	}
	return 0
}

// stampedBy holds the event's stamps against the broker's clock: no time that
// counts is later than when the broker had the record. What has no stamps did not
// pass the gateway: a protective event then counts from the broker's time, a grant
// not at all. Source: semantics.md, section 2.
func stampedBy(e *consent.Event, broker consent.Instant) *refusal {
	// What a link carries is the processor's own, and can be the copy of an event
	// that never had a policy.
	stamped := (e.Policy != nil || e.Carried != nil) && e.ReceivedAt != 0 && e.EffectiveAt != 0
	switch {
	case broker == 0 && !stamped: // no time on the record: nothing to hold the stamps against
		return &refusal{string(consent.CodeUnstamped), "neither the event nor its record has a time: set message.timestamp.type=LogAppendTime on the topic"}
	case broker == 0:
		return nil
	case !stamped && e.Action.Affirms():
		return &refusal{string(consent.CodeUnstamped), "a grant must pass the gateway, which checks and stamps it: publish it to consent.intake"}
	case !stamped:
		e.ReceivedAt, e.EffectiveAt, e.Original = broker, broker, nil
	}
	held := func(at *consent.Instant) {
		if *at > broker {
			*at, e.Original = broker, nil
		}
	}
	held(&e.ReceivedAt)
	held(&e.EffectiveAt)
	for _, named := range []*consent.EventRef{e.Confirms, e.Invalidates} {
		if named != nil {
			held(&named.EffectiveAt)
		}
	}
	if e.Carried != nil {
		held(&e.Carried.EffectiveAt)
	}
	return nil
}

// deadLetter is the record of consent.deadletters for a record that cannot be folded.
func deadLetter(topic string, m *kafka.Message, r *refusal) (kafka.Record, error) {
	letter := schemas.DeadLetter{
		Topic:     m.Topic,
		Partition: m.Partition.Index,
		Offset:    int64(m.Offset),
		Code:      r.code,
		Reason:    r.reason,
		Role:      "processor",
		At:        brokerTime(m), // not now: reading again writes the same bytes
		Key:       m.Key,
		Value:     m.Value,
	}
	for _, h := range m.Headers {
		letter.Headers = append(letter.Headers, schemas.Header{Key: h.Key, Value: h.Value})
	}
	value, err := schemas.EncodeDeadLetter(nil, &letter)
	if err != nil {
		return kafka.Record{}, fmt.Errorf("encode dead letter of %s: %w", m.Position, err)
	}
	return kafka.Record{Topic: topic, Key: bytes.Clone(m.Key), Value: value}, nil
}
