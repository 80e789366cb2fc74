package jsonform

import "github.com/assent-dev/assent/consent"

// The fields of a posted event, in the order of the schema.
var eventFields = []field{
	{"event_id", func(p *parser) { p.event.ID = p.id() }},
	{"interaction_id", func(p *parser) { p.event.InteractionID = p.id() }},
	{"request_id", func(p *parser) { p.event.RequestID = p.id() }},
	{"tenant", func(p *parser) { p.event.Tenant = p.tenant() }},
	{"subject", func(p *parser) { p.event.Subject = consent.Subject(p.string()) }},
	{"purpose", func(p *parser) { p.event.Purpose = consent.Purpose(p.string()) }},
	{"action", func(p *parser) { p.event.Action = p.action() }},
	{"property", func(p *parser) { p.event.Property = p.string() }},
	{"occurred_at", func(p *parser) { p.event.OccurredAt = p.instant() }},
	{"sent_at", func(p *parser) { p.event.SentAt = p.instant() }},
	{"received_at", (*parser).stamp},
	{"effective_at", (*parser).stamp},
	{"channel", func(p *parser) { p.event.Channel = enum(p, consent.ParseChannel) }},
	{"source", func(p *parser) { p.event.Source = p.string() }},
	{"jurisdiction", func(p *parser) { p.event.Jurisdiction = p.jurisdiction() }},
	{"notice", func(p *parser) { p.event.Notice = consent.Notice{}; p.nested(noticeFields) }},
	{"evidence", func(p *parser) { p.event.Evidence = consent.Evidence{}; p.nested(evidenceFields) }},
	{"actor", func(p *parser) { p.event.Actor = consent.Actor{}; p.nested(actorFields) }},
	{"policy", (*parser).stamp},
	{"confirms", func(p *parser) { p.event.Confirms = p.eventRef() }},
	{"invalidates", func(p *parser) { p.event.Invalidates = p.eventRef() }},
	{"link", func(p *parser) { p.event.LinkTo = ""; p.nested(linkFields) }},
	{"carried", (*parser).stamp},
	{"test", func(p *parser) { p.event.Test = p.flag() }},
}

var noticeFields = []field{
	{"id", func(p *parser) { p.event.Notice.ID = p.string() }},
	{"version", func(p *parser) { p.event.Notice.Version = p.string() }},
	{"language", func(p *parser) { p.event.Notice.Language = p.string() }},
	{"sha256", func(p *parser) { p.event.Notice.SHA256 = p.hash() }},
}

var evidenceFields = []field{
	{"method", func(p *parser) { p.event.Evidence.Method = enum(p, consent.ParseMethod) }},
	{"control", func(p *parser) { p.event.Evidence.Control = enum(p, consent.ParseControl) }},
	{"control_default", func(p *parser) { p.event.Evidence.ControlDefault = enum(p, consent.ParseControlDefault) }},
	{"bundled", func(p *parser) { p.event.Evidence.Bundled = p.flag() }},
	{"conditional", func(p *parser) { p.event.Evidence.Conditional = p.flag() }},
	{"gpc", func(p *parser) { p.event.Evidence.GPC = p.flag() }},
	{"reference", func(p *parser) { p.event.Evidence.Reference = p.string() }},
	{"page_url", func(p *parser) { p.event.Evidence.PageURL = p.string() }},
	{"user_agent", func(p *parser) { p.event.Evidence.UserAgent = p.string() }},
	{"ip", func(p *parser) { p.event.Evidence.IP = p.string() }},
	{"tc_string", func(p *parser) { p.event.Evidence.TCString = p.string() }},
	{"gpp_string", func(p *parser) { p.event.Evidence.GPPString = p.string() }},
	{"token", func(p *parser) { p.event.Evidence.Token = p.string() }},
}

var actorFields = []field{
	{"type", func(p *parser) { p.event.Actor.Type = enum(p, consent.ParseActorType) }},
	{"id", func(p *parser) { p.event.Actor.ID = p.string() }},
}

var eventRefFields = []field{
	{"event_id", func(p *parser) { p.ref.EventID = p.id() }},
	{"effective_at", func(p *parser) { p.ref.EffectiveAt = p.instant() }},
}

var linkFields = []field{
	{"to", func(p *parser) { p.event.LinkTo = consent.Subject(p.string()) }},
}
