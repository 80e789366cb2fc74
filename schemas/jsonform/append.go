package jsonform

import (
	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas"
)

// AppendEvent appends an event with its stamps, as the history shows it.
func AppendEvent(dst []byte, e *consent.Event) []byte {
	o := object{dst}
	o.open()
	o.id("event_id", e.ID)
	o.id("interaction_id", e.InteractionID)
	o.id("request_id", e.RequestID)
	o.text("tenant", string(e.Tenant))
	o.text("subject", string(e.Subject))
	o.text("purpose", string(e.Purpose))
	o.word("action", uint8(e.Action), e.Action.String())
	o.text("property", e.Property)
	o.instant("occurred_at", e.OccurredAt)
	o.instant("sent_at", e.SentAt)
	o.instant("received_at", e.ReceivedAt)
	o.instant("effective_at", e.EffectiveAt)
	o.word("channel", uint8(e.Channel), e.Channel.String())
	o.text("source", e.Source)
	o.text("jurisdiction", string(e.Jurisdiction))
	o.notice(&e.Notice)
	o.evidence(&e.Evidence)
	if e.Actor != (consent.Actor{}) {
		o.nest("actor")
		o.word("type", uint8(e.Actor.Type), e.Actor.Type.String())
		o.text("id", e.Actor.ID)
		o.close()
	}
	o.policy(e.Policy)
	o.eventRef("confirms", e.Confirms)
	o.eventRef("invalidates", e.Invalidates)
	if e.LinkTo != "" {
		o.nest("link")
		o.text("to", string(e.LinkTo))
		o.close()
	}
	if c := e.Carried; c != nil {
		o.nest("carried")
		o.text("subject", string(c.Subject))
		o.id("event_id", c.EventID)
		o.instant("effective_at", c.EffectiveAt)
		appendTexts(&o, "via", c.Via)
		o.close()
	}
	o.flag("test", e.Test)
	o.close()
	return o.buf
}

func (o *object) notice(n *consent.Notice) {
	if *n == (consent.Notice{}) {
		return
	}
	o.nest("notice")
	o.text("id", n.ID)
	o.text("version", n.Version)
	o.text("language", n.Language)
	o.hash("sha256", &n.SHA256)
	o.close()
}

func (o *object) evidence(v *consent.Evidence) {
	if *v == (consent.Evidence{}) {
		return
	}
	o.nest("evidence")
	o.word("method", uint8(v.Method), v.Method.String())
	o.word("control", uint8(v.Control), v.Control.String())
	o.word("control_default", uint8(v.ControlDefault), v.ControlDefault.String())
	o.flag("bundled", v.Bundled)
	o.flag("conditional", v.Conditional)
	o.flag("gpc", v.GPC)
	o.text("reference", v.Reference)
	o.text("page_url", v.PageURL)
	o.text("user_agent", v.UserAgent)
	o.text("ip", v.IP)
	o.text("tc_string", v.TCString)
	o.text("gpp_string", v.GPPString)
	o.text("token", v.Token)
	o.close()
}

func (o *object) policy(p *consent.Policy) {
	if p == nil {
		return
	}
	o.nest("policy")
	o.text("version", p.Version)
	o.word("model", uint8(p.Model), p.Model.String())
	o.word("legal_basis", uint8(p.LegalBasis), p.LegalBasis.String())
	o.word("scope", uint8(p.Scope), p.Scope.String())
	o.flag("sale_or_share", p.SaleOrShare)
	o.instant("expires_at", p.ExpiresAt)
	o.flag("double_opt_in", p.DoubleOptIn)
	o.instant("confirm_by", p.ConfirmBy)
	o.flag("history_import", p.HistoryImport)
	appendTexts(o, "covers", p.Covers)
	o.close()
}

func (o *object) eventRef(name string, ref *consent.EventRef) {
	if ref == nil {
		return
	}
	o.nest(name)
	o.id("event_id", ref.EventID)
	o.instant("effective_at", ref.EffectiveAt)
	o.close()
}

// AppendChange appends a change, flat, as the body of a webhook: its type and
// timestamp first. A receiver decides by allowed_after (absent: the registry's
// default holds) and withdrawal, and drops what has a lower version than it has.
func AppendChange(dst []byte, c *consent.Change) []byte {
	o := object{dst}
	o.open()
	o.text("type", c.Type())
	o.instant("timestamp", c.Timestamp)
	o.id("change_id", c.ID)
	o.text("tenant", string(c.Tenant))
	o.text("subject", string(c.Subject))
	o.text("purpose", string(c.Purpose))
	o.text("from", c.From.String())
	o.text("to", c.To.String())
	o.tri("allowed_before", c.AllowedBefore)
	o.tri("allowed_after", c.AllowedAfter)
	o.yes("withdrawal", c.Withdrawal)
	o.instant("effective_at", c.EffectiveAt)
	o.id("event_id", c.EventID)
	o.int("version", c.Version)
	o.instant("received_at", c.ReceivedAt)
	o.text("jurisdiction", string(c.Jurisdiction))
	o.flag("test", c.Test)
	o.close()
	return o.buf
}

// AppendDelivery appends an attempt to tell a downstream, as the history shows it.
func AppendDelivery(dst []byte, d *schemas.Delivery) []byte {
	o := object{dst}
	o.open()
	o.id("delivery_id", d.ID)
	o.id("change_id", d.ChangeID)
	o.text("tenant", string(d.Tenant))
	o.text("subject", string(d.Subject))
	o.text("purpose", string(d.Purpose))
	o.int("version", d.Version)
	o.yes("withdrawal", d.Withdrawal)
	o.text("downstream", d.Downstream)
	o.text("webhook_id", d.WebhookID)
	o.int("attempt", int64(d.Attempt))
	o.instant("started_at", d.StartedAt)
	o.int("duration_millis", int64(d.DurationMillis))
	o.text("outcome", d.Outcome.String())
	if d.HTTPStatus != 0 {
		o.int("http_status", int64(d.HTTPStatus))
	}
	o.text("reason", d.Reason)
	o.instant("next_attempt_at", d.NextAttemptAt)
	o.instant("deadline_at", d.DeadlineAt)
	o.instant("change_received_at", d.ChangeReceivedAt)
	o.flag("test", d.Test)
	o.close()
	return o.buf
}
