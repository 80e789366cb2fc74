package topic

import (
	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

const specVersion = "1.0"

// EventHeaders are the CloudEvents headers of an event's record, so that
// consumers can route it without decoding. traceparent may be empty.
func EventHeaders(e *consent.Event, traceparent string) []kafka.Header {
	at := e.OccurredAt
	if at == 0 {
		at = e.ReceivedAt
	}
	h, _ := appendHeaders(make([]kafka.Header, 0, 7), nil, e.ID, "consent."+e.Action.String(), orDefault(e.Source, "assent"), at, e.Tenant)
	if traceparent != "" {
		h = append(h, kafka.Header{Key: "traceparent", Value: []byte(traceparent)})
	}
	return h
}

// AppendChangeHeaders appends the CloudEvents headers of a change's record to dst, and
// what they say to text, which their values share.
func AppendChangeHeaders(dst []kafka.Header, text []byte, c *consent.Change) ([]kafka.Header, []byte) {
	return appendHeaders(dst, text, c.ID, c.Type(), "assent", c.Timestamp, c.Tenant)
}

func appendHeaders(dst []kafka.Header, text []byte, id consent.UUID, kind, source string, at consent.Instant, t consent.Tenant) ([]kafka.Header, []byte) {
	from := len(text)
	add := func(key string) {
		dst = append(dst, kafka.Header{Key: key, Value: text[from:len(text):len(text)]})
		from = len(text)
	}
	text = id.Append(text)
	add("ce_id")
	text = append(text, kind...)
	add("ce_type")
	text = append(text, source...)
	add("ce_source")
	text = append(text, specVersion...)
	add("ce_specversion")
	text = at.Append(text)
	add("ce_time")
	text = append(text, t...)
	add("tenant")
	return dst, text
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
