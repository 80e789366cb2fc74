package schemas

import "github.com/assent-dev/assent/consent"

// The two halves of each record stand one under the other, field by field in
// the order of the .avsc file.

func (x *encoder) event(e *consent.Event) {
	x.optionalID(e.ID)
	x.optionalID(e.InteractionID)
	x.optionalID(e.RequestID)
	x.text("tenant", string(e.Tenant))
	x.text("subject", string(e.Subject))
	x.text("purpose", string(e.Purpose))
	x.enum("action", uint8(e.Action), actions)
	x.optionalText("property", e.Property)
	sent, received := e.SentAt, e.ReceivedAt
	if x.bare {
		sent, received = 0, 0
	}
	x.instant("occurred_at", e.OccurredAt)
	x.instant("sent_at", sent)
	x.instant("received_at", received)
	x.instant("effective_at", e.EffectiveAt)
	x.optionalEnum("channel", uint8(e.Channel), channels)
	x.optionalText("source", e.Source)
	x.optionalText("jurisdiction", string(e.Jurisdiction))
	if x.some(e.Notice != consent.Notice{}) {
		x.notice(&e.Notice)
	}
	if x.some(e.Evidence != consent.Evidence{}) {
		x.evidence(&e.Evidence)
	}
	if x.some(e.Actor != consent.Actor{}) {
		x.optionalEnum("actor.type", uint8(e.Actor.Type), actorTypes)
		x.optionalText("actor.id", e.Actor.ID)
	}
	if x.some(e.Policy != nil) {
		x.policy(e.Policy)
	}
	x.eventRef("confirms.effective_at", e.Confirms)
	x.eventRef("invalidates.effective_at", e.Invalidates)
	if x.some(e.LinkTo != "") {
		x.text("link.to", string(e.LinkTo))
	}
	if x.some(e.Carried != nil) {
		x.carried(e.Carried)
	}
	x.flag(e.Test)
}

func (d *decoder) event(e *consent.Event) {
	e.ID = d.optionalID("event_id")
	e.InteractionID = d.optionalID("interaction_id")
	e.RequestID = d.optionalID("request_id")
	e.Tenant = consent.Tenant(d.word("tenant"))
	e.Subject = consent.Subject(d.text("subject"))
	e.Purpose = consent.Purpose(d.word("purpose"))
	e.Action = consent.Action(d.enum("action", actions))
	e.Property = d.optionalWord("property")
	e.OccurredAt = d.instant("occurred_at")
	d.beforeSent = d.left
	e.SentAt = d.instant("sent_at")
	e.ReceivedAt = d.instant("received_at")
	d.behindReceived = d.left
	e.EffectiveAt = d.instant("effective_at")
	e.Channel = consent.Channel(d.optionalEnum("channel", channels))
	e.Source = d.optionalWord("source")
	e.Jurisdiction = consent.Jurisdiction(d.optionalWord("jurisdiction"))
	if d.some("notice") {
		d.notice(&e.Notice)
		given(d, e.Notice)
	}
	if d.some("evidence") {
		d.evidence(&e.Evidence)
		given(d, e.Evidence)
	}
	if d.some("actor") {
		e.Actor.Type = consent.ActorType(d.optionalEnum("actor.type", actorTypes))
		e.Actor.ID = d.optionalText("actor.id")
		given(d, e.Actor)
	}
	if d.some("policy") {
		e.Policy = d.policy()
	}
	e.Confirms = d.eventRef("confirms")
	e.Invalidates = d.eventRef("invalidates")
	if d.some("link") {
		e.LinkTo = given(d, consent.Subject(d.text("link.to")))
	}
	if d.some("carried") {
		e.Carried = d.carried()
	}
	e.Test = d.flag("test")
}

func (x *encoder) notice(n *consent.Notice) {
	x.optionalText("notice.id", n.ID)
	x.optionalText("notice.version", n.Version)
	x.optionalText("notice.language", n.Language)
	x.optionalHash(&n.SHA256)
}

func (d *decoder) notice(n *consent.Notice) {
	n.ID = d.optionalWord("notice.id")
	n.Version = d.optionalWord("notice.version")
	n.Language = d.optionalWord("notice.language")
	n.SHA256 = d.optionalHash("notice.sha256")
}

func (x *encoder) evidence(v *consent.Evidence) {
	x.optionalEnum("evidence.method", uint8(v.Method), methods)
	x.optionalEnum("evidence.control", uint8(v.Control), controls)
	x.optionalEnum("evidence.control_default", uint8(v.ControlDefault), controlDefaults)
	x.flag(v.Bundled)
	x.flag(v.Conditional)
	x.flag(v.GPC)
	x.optionalText("evidence.reference", v.Reference)
	x.optionalText("evidence.page_url", v.PageURL)
	x.optionalText("evidence.user_agent", v.UserAgent)
	x.optionalText("evidence.ip", v.IP)
	x.optionalText("evidence.tc_string", v.TCString)
	x.optionalText("evidence.gpp_string", v.GPPString)
	x.optionalText("evidence.token", v.Token)
}

func (d *decoder) evidence(v *consent.Evidence) {
	v.Method = consent.Method(d.optionalEnum("evidence.method", methods))
	v.Control = consent.Control(d.optionalEnum("evidence.control", controls))
	v.ControlDefault = consent.ControlDefault(d.optionalEnum("evidence.control_default", controlDefaults))
	v.Bundled = d.flag("evidence.bundled")
	v.Conditional = d.flag("evidence.conditional")
	v.GPC = d.flag("evidence.gpc")
	v.Reference = d.optionalText("evidence.reference")
	v.PageURL = d.optionalText("evidence.page_url")
	v.UserAgent = d.optionalText("evidence.user_agent")
	v.IP = d.optionalText("evidence.ip")
	v.TCString = d.optionalText("evidence.tc_string")
	v.GPPString = d.optionalText("evidence.gpp_string")
	v.Token = d.optionalText("evidence.token")
}

func (x *encoder) policy(p *consent.Policy) {
	x.optionalText("policy.version", p.Version)
	x.optionalEnum("policy.model", uint8(p.Model), models)
	x.optionalEnum("policy.legal_basis", uint8(p.LegalBasis), legalBases)
	x.optionalEnum("policy.scope", uint8(p.Scope), scopes)
	x.flag(p.SaleOrShare)
	x.instant("policy.expires_at", p.ExpiresAt)
	x.flag(p.DoubleOptIn)
	x.instant("policy.confirm_by", p.ConfirmBy)
	x.flag(p.HistoryImport)
	x.array(len(p.Covers), func(i int) { x.text("policy.covers", string(p.Covers[i])) })
}

func (d *decoder) policy() *consent.Policy {
	var p *consent.Policy
	var covers []consent.Purpose
	if d.folding != nil {
		p, covers = &d.folding.policy, d.folding.covers[:0]
	} else {
		p = new(consent.Policy)
	}
	p.Version = d.optionalWord("policy.version")
	p.Model = consent.Model(d.optionalEnum("policy.model", models))
	p.LegalBasis = consent.LegalBasis(d.optionalEnum("policy.legal_basis", legalBases))
	p.Scope = consent.Scope(d.optionalEnum("policy.scope", scopes))
	p.SaleOrShare = d.flag("policy.sale_or_share")
	p.ExpiresAt = d.instant("policy.expires_at")
	p.DoubleOptIn = d.flag("policy.double_opt_in")
	p.ConfirmBy = d.instant("policy.confirm_by")
	p.HistoryImport = d.flag("policy.history_import")
	d.array("policy.covers", 1, func() {
		covers = append(covers, consent.Purpose(d.word("policy.covers")))
	})
	if len(covers) > 0 {
		p.Covers = covers
	}
	return p
}

func (x *encoder) eventRef(timeField string, ref *consent.EventRef) {
	if x.some(ref != nil) {
		x.optionalID(ref.EventID)
		x.instant(timeField, ref.EffectiveAt)
	}
}

func (d *decoder) eventRef(field string) *consent.EventRef {
	if !d.some(field) {
		return nil
	}
	return &consent.EventRef{EventID: d.optionalID(field), EffectiveAt: d.instant(field)}
}

func (x *encoder) carried(c *consent.Carried) {
	x.text("carried.subject", string(c.Subject))
	x.optionalID(c.EventID)
	x.instant("carried.effective_at", c.EffectiveAt)
	x.array(len(c.Via), func(i int) { x.text("carried.via", string(c.Via[i])) })
}

func (d *decoder) carried() *consent.Carried {
	c := &consent.Carried{
		Subject:     consent.Subject(d.text("carried.subject")),
		EventID:     d.optionalID("carried.event_id"),
		EffectiveAt: d.instant("carried.effective_at"),
	}
	d.array("carried.via", 1, func() {
		c.Via = append(c.Via, consent.Subject(d.text("carried.via")))
	})
	return c
}
