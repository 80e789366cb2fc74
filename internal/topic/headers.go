package topic

import (
	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

const specVersion = "1.0"

// EventHeaders are the CloudEvents headers of an event's record, so that
// consumers can route it without decoding. traceparent may be empty.
func EventHeaders(e *consent.Event, traceparent string) []kafka.Header {
	return headers(e.ID.String(), "consent."+e.Action.String(), orDefault(e.Source, "assent"), e.OccurredAt, e.ReceivedAt, e.Tenant, traceparent)
}

// ChangeHeaders are the CloudEvents headers of a change's record.
func ChangeHeaders(c *consent.Change) []kafka.Header {
	return headers(c.ID.String(), c.Type(), "assent", c.Timestamp, 0, c.Tenant, "")
}

func headers(id, kind, source string, at, otherwise consent.Instant, t consent.Tenant, traceparent string) []kafka.Header {
	if at == 0 {
		at = otherwise
	}
	h := make([]kafka.Header, 0, 7)
	h = append(h,
		kafka.Header{Key: "ce_id", Value: []byte(id)},
		kafka.Header{Key: "ce_type", Value: []byte(kind)},
		kafka.Header{Key: "ce_source", Value: []byte(source)},
		kafka.Header{Key: "ce_specversion", Value: []byte(specVersion)},
		kafka.Header{Key: "ce_time", Value: []byte(at.String())},
		kafka.Header{Key: "tenant", Value: []byte(t)},
	)
	if traceparent != "" {
		h = append(h, kafka.Header{Key: "traceparent", Value: []byte(traceparent)})
	}
	return h
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
