package gateway

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/token"
)

func TestEvents_AcceptedIsInTheLogAsTheAnswerTells(t *testing.T) {
	r := newRig(t)
	a := r.postEvent(grantJSON(), "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if a.code != 202 || a.Status != "recorded" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("answer %d %v %v: %s", a.code, a.Status, a.header, a.body)
	}
	if a.ReceivedAt != "2026-03-01T12:00:00.000Z" || a.EffectiveAt != "2026-03-01T11:59:59.000Z" || a.Subject != "" {
		t.Errorf("received %s, effective %s, subject %q", a.ReceivedAt, a.EffectiveAt, a.Subject)
	}
	if !strings.Contains(a.body, `"warnings":[]`) {
		t.Errorf("no empty list of warnings: %s", a.body)
	}
	partition, offset, err := token.Decode(a.Token)
	if err != nil || partition != a.Position.Partition || offset != a.Position.Offset {
		t.Errorf("token %q is %d@%d, %v; position %+v", a.Token, partition, offset, err, a.Position)
	}
	records := r.read(r.topics.Events())
	if len(records) != 1 || records[0].Topic != a.Position.Topic || records[0].Index != a.Position.Partition || int64(records[0].Offset) != a.Position.Offset {
		t.Fatalf("records %v, answered %+v", records, a.Position)
	}
	headers := map[string]string{}
	for _, h := range records[0].headers {
		headers[h.Key] = string(h.Value)
	}
	if headers["ce_id"] != a.EventID || headers["ce_type"] != "consent.grant" || headers["tenant"] != "default" || headers["traceparent"] == "" {
		t.Errorf("headers %v", headers)
	}
	e := r.eventWithID(a.EventID)
	if e.Policy == nil || e.Policy.ExpiresAt != e.EffectiveAt.Add(730*24*time.Hour) || !e.Policy.DoubleOptIn || e.Notice.SHA256 == [32]byte{} || e.ReceivedAt.String() != a.ReceivedAt {
		t.Errorf("event %+v, policy %+v", e, e.Policy)
	}
}

func TestEvents_EachRuleIs422WithItsCode(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct{ body, codes string }{
		"no method":             {grantJSON("evidence", `{}`), "affirmative:evidence.method"},
		"scrolling":             {grantJSON("evidence", `{"method":"scroll"}`), "affirmative:evidence.method"},
		"no known method":       {grantJSON("evidence", `{"method":"telepathy"}`), "affirmative:evidence.method"},
		"pre-ticked":            {grantJSON("evidence", `{"method":"checkbox","control_default":"on"}`), "affirmative:evidence.control_default"},
		"checkbox, not told":    {grantJSON("evidence", `{"method":"checkbox"}`), "affirmative:evidence.control_default"},
		"undeclared purpose":    {grantJSON("purpose", `"nowhere"`), "specific:purpose"},
		"everything":            {grantJSON("purpose", `"*"`), "specific:purpose"},
		"a group":               {grantJSON("purpose", `"marketing"`), "specific:purpose informed:notice"},
		"another legal basis":   {grantJSON("purpose", `"billing"`), "specific:purpose informed:notice"},
		"bundled":               {grantJSON("evidence", `{"method":"click_accept","bundled":true}`), "specific:evidence.bundled"},
		"no notice":             {grantJSON("notice", ""), "informed:notice.id"},
		"no notice version":     {grantJSON("notice", `{"id":"newsletter"}`), "informed:notice.version"},
		"unknown notice":        {grantJSON("notice", `{"id":"newsletter","version":"9"}`), "informed:notice"},
		"notice of the past":    {grantJSON("notice", `{"id":"newsletter","version":"1"}`), "informed:notice"},
		"another text":          {grantJSON("notice", `{"id":"newsletter","version":"2","sha256":"`+strings.Repeat("ab", 32)+`"}`), "informed:notice.sha256"},
		"conditional":           {grantJSON("purpose", `"ads.personalisation"`, "notice", `{"id":"ads","version":"1"}`, "evidence", `{"method":"click_accept","conditional":true}`), "freely_given:evidence.conditional"},
		"no time":               {grantJSON("occurred_at", ""), "fresh:occurred_at"},
		"too old":               {grantJSON("occurred_at", `"2026-01-30T11:59:59Z"`, "notice", `{"id":"newsletter","version":"2"}`), "fresh:occurred_at"},
		"an address":            {grantJSON("subject", `"jane@shop.example"`), "pseudonymous:subject"},
		"a telephone number":    {grantJSON("subject", `"tel:+491701234567"`), "pseudonymous:subject"},
		"no namespace":          {grantJSON("subject", `"42424"`), "pseudonymous:subject"},
		"an unknown field":      {grantJSON("colour", `"red"`), "malformed:colour"},
		"an unknown channel":    {grantJSON("channel", `"pigeon"`), "malformed:channel"},
		"a bad time":            {grantJSON("sent_at", `"yesterday"`), "malformed:sent_at"},
		"several":               {grantJSON("evidence", `{}`, "notice", "", "occurred_at", ""), "affirmative:evidence.method informed:notice.id fresh:occurred_at"},
		"confirm":               {withdrawalJSON("action", `"confirm"`), "confirm:action"},
		"expire":                {withdrawalJSON("action", `"expire"`), "malformed:action"},
		"a link to nobody":      {withdrawalJSON("action", `"link"`, "purpose", ""), "malformed:link.to"},
		"an unlink of nobody":   {withdrawalJSON("action", `"unlink"`, "purpose", "", "link", `{"to":" "}`), "malformed:link.to"},
		"a link to itself":      {withdrawalJSON("action", `"link"`, "subject", `"user:9"`, "link", `{"to":"user:9"}`), "malformed:link.to"},
		"a link to its address": {withdrawalJSON("action", `"link"`, "subject", `"jane@shop.example"`, "link", `{"to":"email:Jane@shop.example"}`), "malformed:link.to"},
		"an action of no list":  {withdrawalJSON("action", `"dance"`), "malformed:action"},
		"a tenant nobody knows": {grantJSON("tenant", `"other"`), "specific:purpose"},
	} {
		a := r.postEvent(c.body)
		if a.code != 422 || a.codes() != c.codes || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %q, want 422 %q: %s", name, a.code, a.codes(), c.codes, a.body)
		}
		if a.Status != 422.0 || a.Type == "" || a.Title == "" || a.Detail == "" {
			t.Errorf("%s: not a whole problem: %s", name, a.body)
		}
		if strings.Contains(a.body, "user:77") || strings.Contains(a.body, "jane") || strings.Contains(a.body, "1701234567") {
			t.Errorf("%s: the answer repeats the subject: %s", name, a.body)
		}
	}
	if n := len(r.read(r.topics.Events())); n != 0 {
		t.Errorf("%d refused events are in the log", n)
	}
	for name, body := range map[string]string{
		"valid":              grantJSON(),
		"old, by import":     grantJSON("channel", `"import"`, "occurred_at", `"2019-01-01T00:00:00Z"`),
		"accept-all is fine": grantJSON("evidence", `{"method":"click_accept","control":"accept_all"}`),
		"conditional, where the purpose does not mind": grantJSON("evidence", `{"method":"click_accept","conditional":true}`),
	} {
		if a := r.postEvent(body); a.code != 202 || a.codes() != "" {
			t.Errorf("%s: %d: %s", name, a.code, a.body)
		}
	}
}

func TestEvents_ProtectiveIsAcceptedWithWarnings(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct{ body, codes, purpose, subject string }{
		"bare":                 {withdrawalJSON(), "", "marketing.email", ""},
		"refuse":               {withdrawalJSON("action", `"refuse"`), "", "marketing.email", ""},
		"invalidate":           {withdrawalJSON("action", `"invalidate"`), "", "marketing.email", ""},
		"everything":           {withdrawalJSON("purpose", `"*"`), "", "*", ""},
		"unknown purpose":      {withdrawalJSON("purpose", `"Marketing.Fax"`), "unknown_purpose:purpose", "marketing.fax", ""},
		"nobody hears":         {withdrawalJSON("purpose", `"ads.personalisation"`), "no_downstream:purpose", "ads.personalisation", ""},
		"no consent needed":    {withdrawalJSON("purpose", `"billing"`), "not_consent_based:purpose no_downstream:purpose", "billing", ""},
		"a purpose of no form": {withdrawalJSON("purpose", `"marketing email"`), "unknown_field:purpose unknown_purpose:purpose no_downstream:purpose", "marketing_email", ""},
		"an unknown field":     {withdrawalJSON("colour", `"red"`), "unknown_field:colour", "marketing.email", ""},
		"an unknown channel":   {withdrawalJSON("channel", `"pigeon"`), "unknown_field:channel", "marketing.email", ""},
		"an unknown method":    {withdrawalJSON("evidence", `{"method":"telepathy"}`), "unknown_field:evidence.method", "marketing.email", ""},
		"a stamp":              {withdrawalJSON("received_at", `"2020-01-01T00:00:00Z"`, "policy", `{"version":"x"}`), "stamp_ignored", "marketing.email", ""},
		"an unknown place":     {withdrawalJSON("jurisdiction", `"Atlantis"`), "unknown_field:jurisdiction", "marketing.email", ""},
		"an address":           {withdrawalJSON("subject", `" Jane@Shop.Example"`), "subject_hashed:subject", "marketing.email", janeID},
		"backdated":            {withdrawalJSON("occurred_at", `"2026-02-20T00:00:00Z"`), "backdated:occurred_at", "marketing.email", ""},
		"no UUID":              {withdrawalJSON("event_id", `"order 17"`), "event_id_derived:event_id", "marketing.email", ""},
		"a subject of no form": {withdrawalJSON("subject", `"\tjane@shop.example\u000a"`), "subject_hashed:subject", "marketing.email", janeID},
		"a tenant of no form":  {withdrawalJSON("tenant", `"Default"`, "purpose", `"Marketing..Email"`), "unknown_field:purpose unknown_field:tenant", "marketing.email", ""},
		"an unknown tenant":    {withdrawalJSON("tenant", `"other"`), "unknown_purpose:purpose no_downstream:purpose", "marketing.email", ""},
	} {
		a := r.postEvent(c.body)
		if a.code != 202 {
			t.Errorf("%s: refused with %d: %s", name, a.code, a.body)
			continue
		}
		if got := a.codes(); got != c.codes && (c.codes != "stamp_ignored" || strings.Count(got, c.codes) != 2) {
			t.Errorf("%s: warnings %q, want %q", name, got, c.codes)
		}
		if a.Subject != c.subject {
			t.Errorf("%s: subject %q, want %q", name, a.Subject, c.subject)
		}
		if e := r.eventWithID(a.EventID); string(e.Purpose) != c.purpose {
			t.Errorf("%s: recorded for %q, want %q", name, e.Purpose, c.purpose)
		}
	}
}

func TestEvents_RequestAndDeferAreRecorded(t *testing.T) {
	r := newRig(t)
	for _, action := range []string{"request", "defer"} {
		if a := r.postEvent(withdrawalJSON("action", `"`+action+`"`)); a.code != 202 {
			t.Errorf("%s: %d: %s", action, a.code, a.body)
		}
	}
}

func TestEvents_Clock(t *testing.T) {
	r := newRig(t)
	const received = "2026-03-01T12:00:00.000Z"
	for name, c := range map[string]struct{ action, channel, occurred, sent, effective string }{
		"within a minute there is no skew":          {"withdraw", "web", "2026-03-01T11:00:00Z", "2026-03-01T11:59:00Z", "2026-03-01T11:00:00.000Z"},
		"a slow clock moves a withdrawal later":     {"withdraw", "web", "2026-03-01T10:00:00Z", "2026-03-01T10:30:00Z", "2026-03-01T11:30:00.000Z"},
		"a fast clock moves no withdrawal earlier":  {"withdraw", "web", "2026-03-01T11:30:00Z", "2026-03-01T14:00:00Z", "2026-03-01T11:30:00.000Z"},
		"nothing is later than received":            {"withdraw", "web", "2026-03-01T15:00:00Z", "2026-03-01T12:00:00Z", received},
		"a grant is never moved later":              {"grant", "web", "2026-03-01T10:00:00Z", "2026-03-01T10:30:00Z", "2026-03-01T10:00:00.000Z"},
		"a fast clock moves a grant earlier":        {"grant", "web", "2026-03-01T13:00:00Z", "2026-03-01T14:00:00Z", "2026-03-01T11:00:00.000Z"},
		"web without sent_at counts from received":  {"refuse", "web", "2026-03-01T10:00:00Z", "", received},
		"app without sent_at counts from received":  {"refuse", "app", "2026-03-01T10:00:00Z", "", received},
		"a call centre without sent_at is believed": {"refuse", "call_center", "2026-03-01T10:00:00Z", "", "2026-03-01T10:00:00.000Z"},
		"without occurred_at it is received":        {"withdraw", "api", "", "2026-03-01T10:30:00Z", received},
		"any offset is read":                        {"withdraw", "post", "2026-03-01T12:30:00.1239+02:00", "", "2026-03-01T10:30:00.123Z"},
	} {
		body := grantJSON
		if c.action != "grant" {
			body = withdrawalJSON
		}
		quoted := func(s string) string {
			if s == "" {
				return ""
			}
			return `"` + s + `"`
		}
		a := r.postEvent(body("action", quoted(c.action), "channel", quoted(c.channel), "occurred_at", quoted(c.occurred), "sent_at", quoted(c.sent)))
		if a.code != 202 || a.EffectiveAt != c.effective || a.ReceivedAt != received {
			t.Errorf("%s: %d, effective %s, want %s: %s", name, a.code, a.EffectiveAt, c.effective, a.body)
		}
	}
}

func TestEvents_WhatCannotBeReadIs400(t *testing.T) {
	r := newRig(t)
	for _, body := range []string{
		``, ` `, `{`, `nonsense`, `"text"`, `17`, `null`, `{}`, `{} {}`, grantJSON() + `x`, `[{]`, `[` + grantJSON(),
		withdrawalJSON("subject", ""), withdrawalJSON("subject", `""`), withdrawalJSON("subject", `"  "`), withdrawalJSON("subject", `null`),
		withdrawalJSON("purpose", ""), withdrawalJSON("purpose", `""`), withdrawalJSON("action", ""), withdrawalJSON("action", `""`),
		grantJSON("tenant", `"Shop DE"`), grantJSON("purpose", `"a b"`), grantJSON("subject", `"a\u0000b"`),
	} {
		if a := r.postEvent(body); a.code != 400 || a.Detail == "" || a.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.60q: %d: %s", body, a.code, a.body)
		}
	}
	if a := r.postEvent(withdrawalJSON(), "Idempotency-Key", strings.Repeat("k", 256)); a.code != 400 {
		t.Errorf("a key of 256 characters: %d", a.code)
	}
}

func TestEvents_SizesAndMediaTypes(t *testing.T) {
	log := &memoryLog{}
	r := newOffline(t, log)
	pad := func(size int) string {
		empty := withdrawalJSON("source", `""`)
		return withdrawalJSON("source", `"`+strings.Repeat("x", size-len(empty))+`"`)
	}
	if a := r.postEvent(pad(maxEventBytes)); a.code != 202 {
		t.Errorf("64 KiB: %d: %.200s", a.code, a.body)
	}
	if a := r.postEvent(pad(maxEventBytes + 1)); a.code != 413 {
		t.Errorf("64 KiB and a byte: %d", a.code)
	}
	if a := r.post("/v1/submissions", "application/json", pad(maxEventBytes+1)); a.code != 413 {
		t.Errorf("a submission of 64 KiB and a byte: %d", a.code)
	}
	lines := func(size int) string {
		line := pad(maxEventBytes) + "\n"
		return strings.Repeat(line, size/len(line)) + strings.Repeat(" ", size%len(line))
	}
	before := log.written
	over := lines(maxBodyBytes + 1)
	if a := r.post("/v1/events", "application/x-ndjson", over); a.code != 413 {
		t.Errorf("16 MiB and a byte: %d", a.code)
	}
	// Without a length, as a stream.
	if a := r.do(http.MethodPost, "/v1/events", "application/x-ndjson", struct{ *strings.Reader }{strings.NewReader(over)}); a.code != 413 {
		t.Errorf("16 MiB and a byte, streamed: %d", a.code)
	}
	if log.written != before {
		t.Errorf("%d events of batches that are too large were recorded", log.written-before)
	}
	if a := r.post("/v1/events", "application/x-ndjson", lines(maxBodyBytes)); a.code != 200 || a.Accepted != 255 {
		t.Errorf("16 MiB: %d, %d accepted, %d rejected", a.code, a.Accepted, a.Rejected)
	}
	for contentType, code := range map[string]int{
		"":                                  415,
		"text/plain":                        415,
		"application/cloudevents+json":      415,
		"application/x-www-form-urlencoded": 415,
		"application/json; charset=utf-8":   202,
		"Application/JSON":                  202,
	} {
		if a := r.post("/v1/events", contentType, withdrawalJSON()); a.code != code {
			t.Errorf("%q: %d, want %d", contentType, a.code, code)
		}
	}
	if a := r.post("/v1/submissions", "application/x-ndjson", "{}"); a.code != 415 {
		t.Errorf("a submission as NDJSON: %d", a.code)
	}
	if a := r.do(http.MethodDelete, "/v1/events", "", nil); a.code != 405 || a.header.Get("Allow") != "POST" {
		t.Errorf("DELETE: %d, Allow %q", a.code, a.header.Get("Allow"))
	}
}

func TestEvents_Idempotency(t *testing.T) {
	r := newRig(t)
	id := func(body string, headers ...string) string {
		t.Helper()
		a := r.postEvent(body, headers...)
		if a.code != 202 {
			t.Fatalf("%d: %s", a.code, a.body)
		}
		return a.EventID
	}
	if a, b := id(withdrawalJSON()), id(withdrawalJSON()); a == b {
		t.Error("two bare withdrawals are one act")
	}
	if a, b := id(withdrawalJSON(), "Idempotency-Key", "k1"), id(withdrawalJSON(), "Idempotency-Key", "k1"); a != b {
		t.Error("the same key gave two events")
	}
	if a, b := id(withdrawalJSON(), "Idempotency-Key", "k1"), id(withdrawalJSON(), "Idempotency-Key", "k2"); a == b {
		t.Error("two keys gave one event")
	}
	if a, b := id(withdrawalJSON("tenant", `"a"`), "Idempotency-Key", "k1"), id(withdrawalJSON("tenant", `"b"`), "Idempotency-Key", "k1"); a == b {
		t.Error("two tenants share a key")
	}
	if a, b := id(grantJSON()), id(grantJSON("sent_at", `"2026-03-01T11:59:59Z"`)); a != b {
		t.Error("the same claims, sent again, are two events")
	}
	const given = "0195f7a0-0000-7000-8000-000000000001"
	if a := id(withdrawalJSON("event_id", `"`+given+`"`), "Idempotency-Key", "k1"); a != given {
		t.Errorf("a given id became %s", a)
	}
	if a := id(withdrawalJSON("event_id", `"`+strings.ToUpper(strings.ReplaceAll(given, "-", ""))+`"`)); a != given {
		t.Errorf("another form of the same id became %s", a)
	}

	many := withdrawalJSON() + "\n\n" + withdrawalJSON() + "\n"
	ids := func() string {
		a := r.post("/v1/events", "application/x-ndjson", many, "Idempotency-Key", "k3")
		if a.code != 200 || len(a.Results) != 2 || a.Results[0].EventID == a.Results[1].EventID {
			t.Fatalf("%d: %s", a.code, a.body)
		}
		return a.Results[0].EventID + a.Results[1].EventID
	}
	if once, again := ids(), ids(); once != again {
		t.Error("a batch under the same key gave other events")
	}
}

func TestEvents_SubjectIsInNoLog(t *testing.T) {
	r := newRig(t, func(c *Config, _ *Deps) { c.ProduceTimeout = 300 * time.Millisecond })
	r.brokers.InProcessOnly("stops the broker")
	bodies := []string{grantJSON(), withdrawalJSON("subject", `"jane@shop.example"`), grantJSON("subject", `"jane@shop.example"`), `{"subject":"jane@shop.example"`}
	for _, body := range bodies {
		r.postEvent(body)
	}
	r.post("/v1/events", "application/x-ndjson", strings.Join(bodies, "\n"))
	r.cluster.Close()
	for _, body := range bodies {
		r.postEvent(body)
	}
	r.stop()
	log := r.log.String()
	if !strings.Contains(log, "answered 503") {
		t.Errorf("the log does not tell that the broker is away:\n%s", log)
	}
	if secret := regexp.MustCompile(`user:77|jane|` + janeID[11:] + `|newsletter|` + keyHex[:16]).FindString(log); secret != "" {
		t.Errorf("the log tells %q:\n%s", secret, log)
	}
}

func TestEvents_BrokerAwayIs503AndTheRetryCountsOnce(t *testing.T) {
	r := newRig(t, func(c *Config, _ *Deps) { c.ProduceTimeout = 300 * time.Millisecond })
	r.brokers.InProcessOnly("stops the broker")
	const id = "0195f7a0-0000-7000-8000-000000000002"
	body := withdrawalJSON("event_id", `"`+id+`"`, "occurred_at", `"2026-03-01T11:00:00Z"`, "channel", `"post"`)
	port := r.brokerPort()
	r.cluster.Close()
	a := r.postEvent(body)
	if a.code != 503 || a.header.Get("Retry-After") == "" || a.Detail == "" {
		t.Fatalf("%d %v: %s", a.code, a.header, a.body)
	}
	if many := r.post("/v1/events", "application/x-ndjson", body+"\n"+body); many.code != 503 || many.header.Get("Retry-After") == "" {
		t.Errorf("a batch of which nothing is recorded: %d: %s", many.code, many.body)
	}
	if s := r.post("/v1/submissions", "application/json", `{"subject":"user:77","choices":{"marketing.email":false}}`); s.code != 503 || s.header.Get("Retry-After") == "" {
		t.Errorf("a submission of which nothing is recorded: %d: %s", s.code, s.body)
	}
	r.eventually("the gateway tells that it is not ready", func() bool { return r.gateway.Ready() != nil })

	r.startBroker(port)
	r.eventually("a retry is accepted", func() bool { return r.postEvent(body).code == 202 })
	r.eventually("the gateway is ready again", func() bool { return r.gateway.Ready() == nil })
	digests := map[[32]byte]bool{}
	for _, e := range r.events() {
		if e.ID.String() == id {
			digests[e.Digest] = true
		}
	}
	if len(digests) != 1 {
		t.Errorf("the event is in the log in %d forms, want 1: readers would count it more than once", len(digests))
	}
}

func TestEvents_MetricsTellWhatBecameOfThem(t *testing.T) {
	r := newRig(t)
	r.postEvent(withdrawalJSON("channel", `"web"`))
	r.postEvent(grantJSON("evidence", `{}`))
	r.postEvent(`{`)
	got := map[string]float64{}
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if f.GetName() == "assent_gateway_events_total" {
				got[strings.Join(labels, " ")] = m.GetCounter().GetValue()
			}
			if f.GetName() == "assent_gateway_request_seconds" && m.GetHistogram().GetSampleCount() != 3 {
				t.Errorf("%d requests were timed, want 3", m.GetHistogram().GetSampleCount())
			}
		}
	}
	want := fmt.Sprint(map[string]float64{"withdraw web http recorded": 1, "grant web http refused": 1, "unknown unknown http unusable": 1})
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
