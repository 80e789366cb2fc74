package table

import (
	"encoding/hex"
	"time"

	"github.com/google/uuid"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas"
)

// withPosition puts the columns that every table has around its own.
func withPosition(own []column) []column {
	all := []column{
		of("topic", func(r *Row) string { return r.Position.Topic }),
		of("partition", func(r *Row) int32 { return r.Position.Index }),
		of("offset", func(r *Row) int64 { return int64(r.Position.Offset) }),
		of("recorded_at", func(r *Row) time.Time { return held(r.RecordedAt) }),
	}
	all = append(all, own...)
	return append(all,
		of("key", func(r *Row) string { return string(r.Key) }),
		of("record", func(r *Row) string { return string(r.Record) }),
		of("decode_error", func(r *Row) string { return r.DecodeError }),
	)
}

func event[T any](name string, get func(*consent.Event) T) column {
	return from(func(r *Row) *consent.Event { return r.Event }, name, get)
}

func policy[T any](name string, get func(*consent.Policy) T) column {
	return from(func(r *Row) *consent.Policy {
		if r.Event == nil {
			return nil
		}
		return r.Event.Policy
	}, name, get)
}

func confirms(e *consent.Event) *consent.EventRef    { return e.Confirms }
func invalidates(e *consent.Event) *consent.EventRef { return e.Invalidates }

func ref[T any](name string, of func(*consent.Event) *consent.EventRef, get func(*consent.EventRef) T) column {
	return from(func(r *Row) *consent.EventRef {
		if r.Event == nil {
			return nil
		}
		return of(r.Event)
	}, name, get)
}

func carried[T any](name string, get func(*consent.Carried) T) column {
	return from(func(r *Row) *consent.Carried {
		if r.Event == nil {
			return nil
		}
		return r.Event.Carried
	}, name, get)
}

var eventColumns = []column{
	event("tenant", func(e *consent.Event) string { return string(e.Tenant) }),
	event("subject", func(e *consent.Event) string { return string(e.Subject) }),
	event("purpose", func(e *consent.Event) string { return string(e.Purpose) }),
	event("action", func(e *consent.Event) string { return word(e.Action) }),
	event("event_id", func(e *consent.Event) *uuid.UUID { return uuidOf(e.ID) }),
	event("interaction_id", func(e *consent.Event) *uuid.UUID { return uuidOf(e.InteractionID) }),
	event("request_id", func(e *consent.Event) *uuid.UUID { return uuidOf(e.RequestID) }),
	event("property", func(e *consent.Event) string { return e.Property }),
	event("occurred_at", func(e *consent.Event) *time.Time { return timeOf(e.OccurredAt) }),
	event("sent_at", func(e *consent.Event) *time.Time { return timeOf(e.SentAt) }),
	event("received_at", func(e *consent.Event) *time.Time { return timeOf(e.ReceivedAt) }),
	event("effective_at", func(e *consent.Event) *time.Time { return timeOf(e.EffectiveAt) }),
	event("channel", func(e *consent.Event) string { return word(e.Channel) }),
	event("source", func(e *consent.Event) string { return e.Source }),
	event("jurisdiction", func(e *consent.Event) string { return string(e.Jurisdiction) }),
	event("notice_id", func(e *consent.Event) string { return e.Notice.ID }),
	event("notice_version", func(e *consent.Event) string { return e.Notice.Version }),
	event("notice_language", func(e *consent.Event) string { return e.Notice.Language }),
	event("notice_sha256", func(e *consent.Event) string { return hashOf(e.Notice.SHA256) }),
	event("evidence_method", func(e *consent.Event) string { return word(e.Evidence.Method) }),
	event("evidence_control", func(e *consent.Event) string { return word(e.Evidence.Control) }),
	event("evidence_control_default", func(e *consent.Event) string { return word(e.Evidence.ControlDefault) }),
	event("evidence_bundled", func(e *consent.Event) bool { return e.Evidence.Bundled }),
	event("evidence_conditional", func(e *consent.Event) bool { return e.Evidence.Conditional }),
	event("evidence_gpc", func(e *consent.Event) bool { return e.Evidence.GPC }),
	event("evidence_reference", func(e *consent.Event) string { return e.Evidence.Reference }),
	event("evidence_page_url", func(e *consent.Event) string { return e.Evidence.PageURL }),
	event("evidence_user_agent", func(e *consent.Event) string { return e.Evidence.UserAgent }),
	event("evidence_ip", func(e *consent.Event) string { return e.Evidence.IP }),
	event("evidence_tc_string", func(e *consent.Event) string { return e.Evidence.TCString }),
	event("evidence_gpp_string", func(e *consent.Event) string { return e.Evidence.GPPString }),
	event("evidence_token", func(e *consent.Event) string { return e.Evidence.Token }),
	event("actor_type", func(e *consent.Event) string { return word(e.Actor.Type) }),
	event("actor_id", func(e *consent.Event) string { return e.Actor.ID }),
	policy("policy_version", func(p *consent.Policy) string { return p.Version }),
	policy("policy_model", func(p *consent.Policy) string { return word(p.Model) }),
	policy("policy_legal_basis", func(p *consent.Policy) string { return word(p.LegalBasis) }),
	policy("policy_scope", func(p *consent.Policy) string { return word(p.Scope) }),
	policy("policy_sale_or_share", func(p *consent.Policy) bool { return p.SaleOrShare }),
	policy("policy_expires_at", func(p *consent.Policy) *time.Time { return timeOf(p.ExpiresAt) }),
	policy("policy_double_opt_in", func(p *consent.Policy) bool { return p.DoubleOptIn }),
	policy("policy_confirm_by", func(p *consent.Policy) *time.Time { return timeOf(p.ConfirmBy) }),
	policy("policy_history_import", func(p *consent.Policy) bool { return p.HistoryImport }),
	policy("policy_covers", func(p *consent.Policy) []string { return texts(p.Covers) }),
	ref("confirms_event_id", confirms, func(r *consent.EventRef) *uuid.UUID { return uuidOf(r.EventID) }),
	ref("confirms_effective_at", confirms, func(r *consent.EventRef) *time.Time { return timeOf(r.EffectiveAt) }),
	ref("invalidates_event_id", invalidates, func(r *consent.EventRef) *uuid.UUID { return uuidOf(r.EventID) }),
	ref("invalidates_effective_at", invalidates, func(r *consent.EventRef) *time.Time { return timeOf(r.EffectiveAt) }),
	event("link_to", func(e *consent.Event) string { return string(e.LinkTo) }),
	carried("carried_subject", func(c *consent.Carried) string { return string(c.Subject) }),
	carried("carried_event_id", func(c *consent.Carried) *uuid.UUID { return uuidOf(c.EventID) }),
	carried("carried_effective_at", func(c *consent.Carried) *time.Time { return timeOf(c.EffectiveAt) }),
	carried("carried_via", func(c *consent.Carried) []string { return texts(c.Via) }),
	event("test", func(e *consent.Event) bool { return e.Test }),
	event("digest", func(e *consent.Event) string { return hashOf(e.Digest) }),
}

func texts[S ~string](list []S) []string {
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = string(s)
	}
	return all
}

func hashOf(h [32]byte) string {
	if h == [32]byte{} {
		return ""
	}
	return hex.EncodeToString(h[:])
}

func change[T any](name string, get func(*consent.Change) T) column {
	return from(func(r *Row) *consent.Change { return r.Change }, name, get)
}

var changeColumns = []column{
	change("tenant", func(c *consent.Change) string { return string(c.Tenant) }),
	change("subject", func(c *consent.Change) string { return string(c.Subject) }),
	change("purpose", func(c *consent.Change) string { return string(c.Purpose) }),
	change("change_id", func(c *consent.Change) *uuid.UUID { return uuidOf(c.ID) }),
	change("from_status", func(c *consent.Change) string { return c.From.String() }),
	change("to_status", func(c *consent.Change) string { return c.To.String() }),
	change("allowed_before", func(c *consent.Change) *bool { return boolOf(c.AllowedBefore) }),
	change("allowed_after", func(c *consent.Change) *bool { return boolOf(c.AllowedAfter) }),
	change("withdrawal", func(c *consent.Change) bool { return c.Withdrawal }),
	change("effective_at", func(c *consent.Change) *time.Time { return timeOf(c.EffectiveAt) }),
	change("event_id", func(c *consent.Change) *uuid.UUID { return uuidOf(c.EventID) }),
	change("version", func(c *consent.Change) int64 { return c.Version }),
	change("timestamp", func(c *consent.Change) *time.Time { return timeOf(c.Timestamp) }),
	change("received_at", func(c *consent.Change) *time.Time { return timeOf(c.ReceivedAt) }),
	change("jurisdiction", func(c *consent.Change) string { return string(c.Jurisdiction) }),
	change("test", func(c *consent.Change) bool { return c.Test }),
}

func delivery[T any](name string, get func(*schemas.Delivery) T) column {
	return from(func(r *Row) *schemas.Delivery { return r.Delivery }, name, get)
}

var deliveryColumns = []column{
	delivery("tenant", func(d *schemas.Delivery) string { return string(d.Tenant) }),
	delivery("subject", func(d *schemas.Delivery) string { return string(d.Subject) }),
	delivery("purpose", func(d *schemas.Delivery) string { return string(d.Purpose) }),
	delivery("delivery_id", func(d *schemas.Delivery) *uuid.UUID { return uuidOf(d.ID) }),
	delivery("change_id", func(d *schemas.Delivery) *uuid.UUID { return uuidOf(d.ChangeID) }),
	delivery("version", func(d *schemas.Delivery) int64 { return d.Version }),
	delivery("withdrawal", func(d *schemas.Delivery) bool { return d.Withdrawal }),
	delivery("downstream", func(d *schemas.Delivery) string { return d.Downstream }),
	delivery("webhook_id", func(d *schemas.Delivery) string { return d.WebhookID }),
	delivery("attempt", func(d *schemas.Delivery) int32 { return d.Attempt }),
	delivery("started_at", func(d *schemas.Delivery) *time.Time { return timeOf(d.StartedAt) }),
	delivery("duration_millis", func(d *schemas.Delivery) int32 { return d.DurationMillis }),
	delivery("outcome", func(d *schemas.Delivery) string { return d.Outcome.String() }),
	delivery("http_status", func(d *schemas.Delivery) int32 { return d.HTTPStatus }),
	delivery("reason", func(d *schemas.Delivery) string { return d.Reason }),
	delivery("next_attempt_at", func(d *schemas.Delivery) *time.Time { return timeOf(d.NextAttemptAt) }),
	delivery("deadline_at", func(d *schemas.Delivery) *time.Time { return timeOf(d.DeadlineAt) }),
	delivery("change_received_at", func(d *schemas.Delivery) *time.Time { return timeOf(d.ChangeReceivedAt) }),
	delivery("test", func(d *schemas.Delivery) bool { return d.Test }),
}

func letter[T any](name string, get func(*schemas.DeadLetter) T) column {
	return from(func(r *Row) *schemas.DeadLetter { return r.Letter }, name, get)
}

var letterColumns = []column{
	letter("origin_topic", func(l *schemas.DeadLetter) string { return l.Topic }),
	letter("origin_partition", func(l *schemas.DeadLetter) int32 { return l.Partition }),
	letter("origin_offset", func(l *schemas.DeadLetter) int64 { return l.Offset }),
	letter("code", func(l *schemas.DeadLetter) string { return l.Code }),
	letter("reason", func(l *schemas.DeadLetter) string { return l.Reason }),
	letter("role", func(l *schemas.DeadLetter) string { return l.Role }),
	letter("downstream", func(l *schemas.DeadLetter) string { return l.Downstream }),
	letter("at", func(l *schemas.DeadLetter) *time.Time { return timeOf(l.At) }),
	letter("origin_key", func(l *schemas.DeadLetter) string { return string(l.Key) }),
	letter("origin_value", func(l *schemas.DeadLetter) string { return string(l.Value) }),
	letter("origin_header_keys", func(l *schemas.DeadLetter) []string {
		return headers(l, func(h *schemas.Header) string { return h.Key })
	}),
	letter("origin_header_values", func(l *schemas.DeadLetter) []string {
		return headers(l, func(h *schemas.Header) string { return string(h.Value) })
	}),
	letter("partial", func(l *schemas.DeadLetter) bool { return l.Partial }),
}

func headers(l *schemas.DeadLetter, get func(*schemas.Header) string) []string {
	all := make([]string, len(l.Headers))
	for i := range l.Headers {
		all[i] = get(&l.Headers[i])
	}
	return all
}
