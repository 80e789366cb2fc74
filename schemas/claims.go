package schemas

import (
	"encoding/binary"
	"strconv"

	"github.com/assent-dev/assent/consent"
)

// EventClaims gives what the sender claims in one unambiguous form, for ids
// that are derived from it: the same claims always give the same bytes. It
// leaves out event_id, sent_at, received_at, effective_at, policy and carried.
// Take it before the event is stamped: a stamp may add to the notice.
//
// The form is this package's own, and is for ever: for each field that is
// there, its dotted name and its text, each after its length as a varint, in
// the order of the schema. A field that is absent leaves no trace, so that a
// field added to the schema changes the claims of no event without it.
func EventClaims(e *consent.Event) []byte {
	c := claims{buf: make([]byte, 0, 1024)}
	c.id("interaction_id", e.InteractionID)
	c.id("request_id", e.RequestID)
	c.text("tenant", string(e.Tenant))
	c.text("subject", string(e.Subject))
	c.text("purpose", string(e.Purpose))
	c.word("action", uint8(e.Action), e.Action.String())
	c.text("property", e.Property)
	c.instant("occurred_at", e.OccurredAt)
	c.word("channel", uint8(e.Channel), e.Channel.String())
	c.text("source", e.Source)
	c.text("jurisdiction", string(e.Jurisdiction))
	c.text("notice.id", e.Notice.ID)
	c.text("notice.version", e.Notice.Version)
	c.text("notice.language", e.Notice.Language)
	if e.Notice.SHA256 != ([32]byte{}) {
		c.text("notice.sha256", string(e.Notice.SHA256[:]))
	}
	c.evidence(&e.Evidence)
	c.word("actor.type", uint8(e.Actor.Type), e.Actor.Type.String())
	c.text("actor.id", e.Actor.ID)
	if e.Confirms != nil {
		c.id("confirms.event_id", e.Confirms.EventID)
		c.instant("confirms.effective_at", e.Confirms.EffectiveAt)
	}
	if e.Invalidates != nil {
		c.id("invalidates.event_id", e.Invalidates.EventID)
		c.instant("invalidates.effective_at", e.Invalidates.EffectiveAt)
	}
	c.text("link.to", string(e.LinkTo))
	c.flag("test", e.Test)
	return c.buf
}

type claims struct{ buf []byte }

func (c *claims) evidence(v *consent.Evidence) {
	c.word("evidence.method", uint8(v.Method), v.Method.String())
	c.word("evidence.control", uint8(v.Control), v.Control.String())
	c.word("evidence.control_default", uint8(v.ControlDefault), v.ControlDefault.String())
	c.flag("evidence.bundled", v.Bundled)
	c.flag("evidence.conditional", v.Conditional)
	c.flag("evidence.gpc", v.GPC)
	c.text("evidence.reference", v.Reference)
	c.text("evidence.page_url", v.PageURL)
	c.text("evidence.user_agent", v.UserAgent)
	c.text("evidence.ip", v.IP)
	c.text("evidence.tc_string", v.TCString)
	c.text("evidence.gpp_string", v.GPPString)
	c.text("evidence.token", v.Token)
}

func (c *claims) text(name, value string) {
	if value == "" {
		return
	}
	c.buf = binary.AppendUvarint(c.buf, uint64(len(name)))
	c.buf = append(c.buf, name...)
	c.buf = binary.AppendUvarint(c.buf, uint64(len(value)))
	c.buf = append(c.buf, value...)
}

// word writes an enum by its word: its place in the list may differ elsewhere.
func (c *claims) word(name string, index uint8, word string) {
	if index != 0 {
		c.text(name, word)
	}
}

func (c *claims) id(name string, u consent.UUID) {
	if !u.IsZero() {
		c.text(name, string(u[:]))
	}
}

func (c *claims) instant(name string, i consent.Instant) {
	if i != 0 {
		c.text(name, strconv.FormatInt(int64(i), 10))
	}
}

func (c *claims) flag(name string, set bool) {
	if set {
		c.text(name, "true")
	}
}
