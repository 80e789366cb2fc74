package schemas

import (
	"strings"
	"testing"

	"github.com/hamba/avro/v2"

	"github.com/assent-dev/assent/consent"
)

// The records as the library's reflective codec sees them: a second mapping
// between the domain and the .avsc files, by names instead of by order.

type (
	wireEvent struct {
		ID            *[16]byte     `avro:"event_id"`
		InteractionID *[16]byte     `avro:"interaction_id"`
		RequestID     *[16]byte     `avro:"request_id"`
		Tenant        string        `avro:"tenant"`
		Subject       string        `avro:"subject"`
		Purpose       string        `avro:"purpose"`
		Action        string        `avro:"action"`
		Property      *string       `avro:"property"`
		OccurredAt    *int64        `avro:"occurred_at"`
		SentAt        *int64        `avro:"sent_at"`
		ReceivedAt    *int64        `avro:"received_at"`
		EffectiveAt   *int64        `avro:"effective_at"`
		Channel       *string       `avro:"channel"`
		Source        *string       `avro:"source"`
		Jurisdiction  *string       `avro:"jurisdiction"`
		Notice        *wireNotice   `avro:"notice"`
		Evidence      *wireEvidence `avro:"evidence"`
		Actor         *wireActor    `avro:"actor"`
		Policy        *wirePolicy   `avro:"policy"`
		Confirms      *wireRef      `avro:"confirms"`
		Invalidates   *wireRef      `avro:"invalidates"`
		Link          *wireLink     `avro:"link"`
		Carried       *wireCarried  `avro:"carried"`
		Test          bool          `avro:"test"`
	}
	wireNotice struct {
		ID       *string   `avro:"id"`
		Version  *string   `avro:"version"`
		Language *string   `avro:"language"`
		SHA256   *[32]byte `avro:"sha256"`
	}
	wireEvidence struct {
		Method         *string `avro:"method"`
		Control        *string `avro:"control"`
		ControlDefault *string `avro:"control_default"`
		Bundled        bool    `avro:"bundled"`
		Conditional    bool    `avro:"conditional"`
		GPC            bool    `avro:"gpc"`
		Reference      *string `avro:"reference"`
		PageURL        *string `avro:"page_url"`
		UserAgent      *string `avro:"user_agent"`
		IP             *string `avro:"ip"`
		TCString       *string `avro:"tc_string"`
		GPPString      *string `avro:"gpp_string"`
		Token          *string `avro:"token"`
	}
	wireActor struct {
		Type *string `avro:"type"`
		ID   *string `avro:"id"`
	}
	wirePolicy struct {
		Version       *string  `avro:"version"`
		Model         *string  `avro:"model"`
		LegalBasis    *string  `avro:"legal_basis"`
		Scope         *string  `avro:"scope"`
		SaleOrShare   bool     `avro:"sale_or_share"`
		ExpiresAt     *int64   `avro:"expires_at"`
		DoubleOptIn   bool     `avro:"double_opt_in"`
		ConfirmBy     *int64   `avro:"confirm_by"`
		HistoryImport bool     `avro:"history_import"`
		Covers        []string `avro:"covers"`
	}
	wireRef struct {
		EventID     *[16]byte `avro:"event_id"`
		EffectiveAt *int64    `avro:"effective_at"`
	}
	wireLink struct {
		To string `avro:"to"`
	}
	wireCarried struct {
		Subject     string    `avro:"subject"`
		EventID     *[16]byte `avro:"event_id"`
		EffectiveAt *int64    `avro:"effective_at"`
		Via         []string  `avro:"via"`
	}
	wireRecord struct {
		Action        string    `avro:"action"`
		EventID       *[16]byte `avro:"event_id"`
		EffectiveAt   *int64    `avro:"effective_at"`
		ReceivedAt    *int64    `avro:"received_at"`
		Expressed     bool      `avro:"expressed"`
		OrderAt       *int64    `avro:"order_at"`
		Protective    bool      `avro:"protective"`
		Stage         int32     `avro:"stage"`
		ExpiresAt     *int64    `avro:"expires_at"`
		Digest        *[32]byte `avro:"digest"`
		Names         *[16]byte `avro:"names"`
		Carried       bool      `avro:"carried"`
		Channel       *string   `avro:"channel"`
		Jurisdiction  *string   `avro:"jurisdiction"`
		Model         *string   `avro:"model"`
		LegalBasis    *string   `avro:"legal_basis"`
		NoticeID      *string   `avro:"notice_id"`
		NoticeVersion *string   `avro:"notice_version"`
		PolicyVersion *string   `avro:"policy_version"`
	}
	wireState struct {
		Tenant      string       `avro:"tenant"`
		Subject     string       `avro:"subject"`
		Purpose     string       `avro:"purpose"`
		Test        bool         `avro:"test"`
		Status      string       `avro:"status"`
		Allowed     *bool        `avro:"allowed"`
		Version     int64        `avro:"version"`
		InputOffset int64        `avro:"input_offset"`
		NoEvent     *wireEvent   `avro:"no_event"`
		Yes         *wireRecord  `avro:"yes"`
		Pending     *wireRecord  `avro:"pending"`
		No          *wireRecord  `avro:"no"`
		Ended       *wireRecord  `avro:"ended"`
		Named       []wireRecord `avro:"named"`
		Whole       *wireWhole   `avro:"whole"`
	}
	wireWhole struct {
		Clock         *int64           `avro:"clock"`
		Jurisdictions []string         `avro:"jurisdictions"`
		Links         []wireLinkRecord `avro:"links"`
		VersionFloor  int64            `avro:"version_floor"`
		Erased        *wireRecord      `avro:"erased"`
	}
	wireLinkRecord struct {
		To       string      `avro:"to"`
		Linked   *wireRecord `avro:"linked"`
		Unlinked *wireRecord `avro:"unlinked"`
	}
	wireChange struct {
		ID            [16]byte  `avro:"change_id"`
		Type          string    `avro:"type"`
		Tenant        string    `avro:"tenant"`
		Subject       string    `avro:"subject"`
		Purpose       string    `avro:"purpose"`
		From          string    `avro:"from"`
		To            string    `avro:"to"`
		AllowedBefore *bool     `avro:"allowed_before"`
		AllowedAfter  *bool     `avro:"allowed_after"`
		Withdrawal    bool      `avro:"withdrawal"`
		EffectiveAt   *int64    `avro:"effective_at"`
		EventID       *[16]byte `avro:"event_id"`
		Version       int64     `avro:"version"`
		Timestamp     *int64    `avro:"timestamp"`
		ReceivedAt    *int64    `avro:"received_at"`
		Jurisdiction  *string   `avro:"jurisdiction"`
		Test          bool      `avro:"test"`
	}
	wireDelivery struct {
		ID               [16]byte `avro:"delivery_id"`
		ChangeID         [16]byte `avro:"change_id"`
		Tenant           string   `avro:"tenant"`
		Subject          string   `avro:"subject"`
		Purpose          string   `avro:"purpose"`
		Version          int64    `avro:"version"`
		Withdrawal       bool     `avro:"withdrawal"`
		Downstream       string   `avro:"downstream"`
		WebhookID        *string  `avro:"webhook_id"`
		Attempt          int32    `avro:"attempt"`
		StartedAt        *int64   `avro:"started_at"`
		DurationMillis   int32    `avro:"duration_millis"`
		Outcome          string   `avro:"outcome"`
		HTTPStatus       int32    `avro:"http_status"`
		Reason           *string  `avro:"reason"`
		NextAttemptAt    *int64   `avro:"next_attempt_at"`
		DeadlineAt       *int64   `avro:"deadline_at"`
		ChangeReceivedAt *int64   `avro:"change_received_at"`
		Test             bool     `avro:"test"`
	}
	wireDeadLetter struct {
		Topic      string       `avro:"topic"`
		Partition  int32        `avro:"partition"`
		Offset     int64        `avro:"offset"`
		Code       string       `avro:"code"`
		Reason     *string      `avro:"reason"`
		Role       *string      `avro:"role"`
		Downstream *string      `avro:"downstream"`
		At         *int64       `avro:"at"`
		Key        *[]byte      `avro:"key"`
		Value      *[]byte      `avro:"value"`
		Headers    []wireHeader `avro:"headers"`
		Partial    bool         `avro:"partial"`
	}
	wireHeader struct {
		Key   string  `avro:"key"`
		Value *[]byte `avro:"value"`
	}
)

// nullable is nil for a zero value.
func nullable[W any, T comparable](v T, convert func(T) W) *W {
	var zero T
	if v == zero {
		return nil
	}
	w := convert(v)
	return &w
}

func wireText[T ~string](s T) *string { return nullable(s, func(s T) string { return string(s) }) }
func wireID(u consent.UUID) *[16]byte {
	return nullable(u, func(u consent.UUID) [16]byte { return u })
}
func wireHash(h [32]byte) *[32]byte { return nullable(h, func(h [32]byte) [32]byte { return h }) }
func wireInstant(i consent.Instant) *int64 {
	return nullable(i, func(i consent.Instant) int64 { return int64(i) })
}
func wireSymbol(v interface{ String() string }) string { return strings.ToUpper(v.String()) }
func wireEnum[T interface {
	comparable
	String() string
}](v T) *string {
	return nullable(v, func(v T) string { return wireSymbol(v) })
}

func wireTri(t consent.Tri) *bool {
	return nullable(t, func(t consent.Tri) bool { return t == consent.Allowed })
}

func wireList[T ~string](list []T) []string {
	w := []string{}
	for _, s := range list {
		w = append(w, string(s))
	}
	return w
}

func wireBytes(b []byte) *[]byte {
	if b == nil {
		return nil
	}
	return &b
}

func toWireEvent(e *consent.Event) *wireEvent {
	w := &wireEvent{
		ID: wireID(e.ID), InteractionID: wireID(e.InteractionID), RequestID: wireID(e.RequestID),
		Tenant: string(e.Tenant), Subject: string(e.Subject), Purpose: string(e.Purpose), Action: wireSymbol(e.Action),
		Property: wireText(e.Property), OccurredAt: wireInstant(e.OccurredAt), SentAt: wireInstant(e.SentAt),
		ReceivedAt: wireInstant(e.ReceivedAt), EffectiveAt: wireInstant(e.EffectiveAt), Channel: wireEnum(e.Channel),
		Source: wireText(e.Source), Jurisdiction: wireText(e.Jurisdiction),
		Notice: nullable(e.Notice, func(n consent.Notice) wireNotice {
			return wireNotice{wireText(n.ID), wireText(n.Version), wireText(n.Language), wireHash(n.SHA256)}
		}),
		Evidence: nullable(e.Evidence, func(v consent.Evidence) wireEvidence {
			return wireEvidence{wireEnum(v.Method), wireEnum(v.Control), wireEnum(v.ControlDefault), v.Bundled, v.Conditional, v.GPC,
				wireText(v.Reference), wireText(v.PageURL), wireText(v.UserAgent), wireText(v.IP), wireText(v.TCString), wireText(v.GPPString), wireText(v.Token)}
		}),
		Actor:    nullable(e.Actor, func(a consent.Actor) wireActor { return wireActor{wireEnum(a.Type), wireText(a.ID)} }),
		Confirms: toWireRef(e.Confirms), Invalidates: toWireRef(e.Invalidates),
		Link: nullable(e.LinkTo, func(s consent.Subject) wireLink { return wireLink{string(s)} }),
		Test: e.Test,
	}
	if p := e.Policy; p != nil {
		w.Policy = &wirePolicy{wireText(p.Version), wireEnum(p.Model), wireEnum(p.LegalBasis), wireEnum(p.Scope), p.SaleOrShare,
			wireInstant(p.ExpiresAt), p.DoubleOptIn, wireInstant(p.ConfirmBy), p.HistoryImport, wireList(p.Covers)}
	}
	if c := e.Carried; c != nil {
		w.Carried = &wireCarried{string(c.Subject), wireID(c.EventID), wireInstant(c.EffectiveAt), wireList(c.Via)}
	}
	return w
}

func toWireRef(r *consent.EventRef) *wireRef {
	if r == nil {
		return nil
	}
	return &wireRef{wireID(r.EventID), wireInstant(r.EffectiveAt)}
}

func toWireRecord(r *consent.Record) *wireRecord {
	if r == nil {
		return nil
	}
	return &wireRecord{wireSymbol(r.Action), wireID(r.EventID), wireInstant(r.EffectiveAt), wireInstant(r.ReceivedAt), r.Expressed,
		wireInstant(r.OrderAt), r.Protective, int32(r.Stage), wireInstant(r.ExpiresAt), wireHash(r.Digest), wireID(r.Names), r.Carried,
		wireEnum(r.Channel), wireText(r.Jurisdiction), wireEnum(r.Model), wireEnum(r.LegalBasis),
		wireText(r.NoticeID), wireText(r.NoticeVersion), wireText(r.PolicyVersion)}
}

func toWireState(r *StateRow) *wireState {
	w := &wireState{
		Tenant: string(r.Tenant), Subject: string(r.Subject), Purpose: string(r.Row.Purpose), Test: r.Test,
		Status: wireSymbol(r.Row.Announced.Status), Allowed: wireTri(r.Row.Announced.Allowed), Version: r.Row.Version, InputOffset: r.InputOffset,
		Yes: toWireRecord(r.Row.Yes), Pending: toWireRecord(r.Row.Pending), No: toWireRecord(r.Row.No), Ended: toWireRecord(r.Row.Ended),
		Named: []wireRecord{},
	}
	if r.Row.Named != nil {
		for _, named := range r.Row.Named.Records {
			w.Named = append(w.Named, *toWireRecord(named))
		}
	}
	if r.Row.NoEvent != nil {
		w.NoEvent = toWireEvent(r.Row.NoEvent.Event())
	}
	if h := r.Whole; h != nil {
		w.Whole = &wireWhole{Clock: wireInstant(h.Clock), Jurisdictions: wireList(h.Jurisdictions), Links: []wireLinkRecord{}, VersionFloor: h.VersionFloor, Erased: toWireRecord(h.Erased)}
		for _, l := range h.Links {
			w.Whole.Links = append(w.Whole.Links, wireLinkRecord{string(l.To), toWireRecord(l.Linked), toWireRecord(l.Unlinked)})
		}
	}
	return w
}

func toWireChange(c *consent.Change) *wireChange {
	return &wireChange{c.ID, c.Type(), string(c.Tenant), string(c.Subject), string(c.Purpose), wireSymbol(c.From), wireSymbol(c.To),
		wireTri(c.AllowedBefore), wireTri(c.AllowedAfter), c.Withdrawal, wireInstant(c.EffectiveAt), wireID(c.EventID), c.Version,
		wireInstant(c.Timestamp), wireInstant(c.ReceivedAt), wireText(c.Jurisdiction), c.Test}
}

func toWireDelivery(v *Delivery) *wireDelivery {
	return &wireDelivery{v.ID, v.ChangeID, string(v.Tenant), string(v.Subject), string(v.Purpose), v.Version, v.Withdrawal, v.Downstream,
		wireText(v.WebhookID), v.Attempt, wireInstant(v.StartedAt), v.DurationMillis, wireSymbol(v.Outcome), v.HTTPStatus, wireText(v.Reason),
		wireInstant(v.NextAttemptAt), wireInstant(v.DeadlineAt), wireInstant(v.ChangeReceivedAt), v.Test}
}

func toWireDeadLetter(l *DeadLetter) *wireDeadLetter {
	w := &wireDeadLetter{l.Topic, l.Partition, l.Offset, l.Code, wireText(l.Reason), wireText(l.Role), wireText(l.Downstream),
		wireInstant(l.At), wireBytes(l.Key), wireBytes(l.Value), []wireHeader{}, l.Partial}
	for _, h := range l.Headers {
		w.Headers = append(w.Headers, wireHeader{h.Key, wireBytes(h.Value)})
	}
	return w
}

// source gives a schema's .avsc file.
func source(t testing.TB, name string) []byte {
	t.Helper()
	for _, s := range All() {
		if s.Name == "assent.v1."+name {
			return s.Source
		}
	}
	t.Fatalf("no schema %s", name)
	return nil
}

// parsed gives a schema as the library reads it, in a cache of its own: every
// file defines its types anew.
func parsed(t testing.TB, json []byte) avro.Schema {
	t.Helper()
	s, err := avro.ParseBytesWithCache(json, "", &avro.SchemaCache{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
