package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
)

const submissionJSON = `{
	"subject": "user:77", "channel": "web", "source": "shop-web/3.2", "occurred_at": "2026-03-01T11:59:00Z",
	"notice": {"id": "newsletter", "version": "2", "language": "en"},
	"evidence": {"method": "toggle", "control_default": "off", "control": "save"},
	"choices": {
		"marketing.email": true,
		"ads.personalisation": {"granted": true, "notice": {"id": "ads", "version": "1"}},
		"Billing.X": false,
		"nothing": null
	}}`

func TestSubmission_IsOneActOverSeveralPurposes(t *testing.T) {
	r := newRig(t)
	a := r.post("/v1/submissions", "application/json", submissionJSON)
	if a.code != 200 || a.Accepted != 3 || a.Rejected != 0 || len(a.Results) != 3 || a.InteractionID == "" {
		t.Fatalf("%d: %s", a.code, a.body)
	}
	for i, want := range []struct {
		purpose, kept string
		action        consent.Action
		notice        string
	}{{"marketing.email", "marketing.email", consent.Grant, "newsletter"}, {"ads.personalisation", "ads.personalisation", consent.Grant, "ads"}, {"Billing.X", "billing.x", consent.Refuse, "newsletter"}} {
		x := a.Results[i]
		if x.Purpose != want.purpose || x.Status != "recorded" {
			t.Errorf("result %d: %+v", i, x)
		}
		e := r.eventWithID(x.EventID)
		if string(e.Purpose) != want.kept || e.Action != want.action || e.Notice.ID != want.notice || e.Source != "shop-web/3.2" || e.Evidence.Control != consent.Save {
			t.Errorf("event %d: %+v", i, e)
		}
		if e.InteractionID.String() != a.InteractionID {
			t.Errorf("event %d has interaction id %s, answered %s", i, e.InteractionID, a.InteractionID)
		}
	}
	again := r.post("/v1/submissions", "application/json", submissionJSON)
	if again.InteractionID != a.InteractionID || again.Results[2].EventID != a.Results[2].EventID {
		t.Error("the same claims, sent again, are another act")
	}
}

func TestSubmission_EachChoiceIsAnsweredOnItsOwn(t *testing.T) {
	r := newRig(t)
	a := r.post("/v1/submissions", "application/json", `{
		"subject": "jane@shop.example", "occurred_at": "2026-03-01T11:59:00Z", "event_id": "x",
		"choices": {"marketing.email": true, "ads.personalisation": false, "billing": "yes", "analytics": {"notice": {}}}}`)
	if a.code != 200 || a.Accepted != 1 || a.Rejected != 3 {
		t.Fatalf("%d: %s", a.code, a.body)
	}
	grant, refusal, text, object := a.Results[0], a.Results[1], a.Results[2], a.Results[3]
	if grant.Status != 422.0 || grant.Purpose != "marketing.email" || !strings.Contains(grant.codes(), "pseudonymous:subject") || !strings.Contains(grant.codes(), "malformed:event_id") {
		t.Errorf("the grant: %+v", grant)
	}
	if refusal.Status != "recorded" || refusal.Subject != janeID {
		t.Errorf("the refusal: %+v", refusal)
	}
	if text.Status != 400.0 || object.Status != 400.0 {
		t.Errorf("choices of no form: %+v, %+v", text, object)
	}
}

func TestSubmission_AChoicesOwnEvidenceReplacesTheOuter(t *testing.T) {
	r := newRig(t)
	a := r.post("/v1/submissions", "application/json", strings.Replace(submissionJSON, `"notice": {"id": "ads", "version": "1"}`, `"notice": {"id": "ads", "version": "1"}, "evidence": {"method": "scroll"}, "colour": 1`, 1))
	if got := a.Results[1].codes(); got != "affirmative:evidence.method malformed:choices.colour" {
		t.Errorf("%q: %s", got, a.body)
	}
}

// refusedByThem tells whether the events, folded in this order and in the other one, leave
// the purpose refused.
func refusedByThem(events ...consent.Event) bool {
	var forth, back consent.State
	for i := range events {
		forth, _, _ = consent.Fold(forth, &events[i])
		back, _, _ = consent.Fold(back, &events[len(events)-1-i])
	}
	refused := func(s consent.State) bool {
		row := s.Row(events[0].Purpose)
		return row != nil && row.Announced.Status == consent.Refused
	}
	return refused(forth) && refused(back)
}

func TestSubmission_ARefusalIsNotLostToWhatIsSaidBesideIt(t *testing.T) {
	r := newRig(t)
	email := func(choices string) answer {
		t.Helper()
		a := r.post("/v1/submissions", "application/json", `{
			"subject": "user:77", "channel": "web", "occurred_at": "2026-03-01T11:59:00Z", "notice": {"id": "newsletter", "version": "2"},
			"evidence": {"method": "toggle", "control_default": "off"}, `+choices+`}`)
		if a.code != 200 {
			t.Fatalf("%s: %d: %s", choices, a.code, a.body)
		}
		return a
	}
	for _, granted := range []string{`"granted": false, "granted": true`, `"granted": true, "granted": false`, `"granted": false, "granted": "yes"`} {
		a := email(`"choices": {"marketing.email": {` + granted + `}}`)
		if a.Accepted != 1 || a.Results[0].codes() != "unknown_field:choices.granted" || r.eventWithID(a.Results[0].EventID).Action != consent.Refuse {
			t.Errorf("%s: %s", granted, a.body)
		}
	}
	if a := email(`"choices": {"marketing.email": {"granted": true, "granted": true}}`); a.Rejected != 1 || a.Results[0].Status != 422.0 || a.Results[0].codes() != "malformed:choices.granted" {
		t.Errorf("a yes that is said twice: %s", a.body)
	}
	if a := email(`"choices": {"marketing.email": {"granted": true, "granted": 1}}`); a.Rejected != 1 || a.Results[0].Status != 400.0 {
		t.Errorf("a yes beside what is neither: %s", a.body)
	}
	for _, choices := range []string{
		`"choices": {"marketing.email": false}, "choices": {"marketing.email": true}`,
		`"choices": {"marketing.email": true}, "choices": {"marketing.email": false}`,
		`"choices": {"marketing.email": false, "marketing.email": true}`,
	} {
		a := email(choices)
		if a.Accepted != 2 {
			t.Errorf("%s: %s", choices, a.body)
		} else if !refusedByThem(r.eventWithID(a.Results[0].EventID), r.eventWithID(a.Results[1].EventID)) {
			t.Errorf("%s: the refusal does not hold", choices)
		}
	}
	if a := email(`"choices": {"ads.personalisation": false}, "choices": {"marketing.email": true}`); a.Accepted != 2 || a.Results[0].Purpose != "ads.personalisation" {
		t.Errorf("choices in two objects: %s", a.body)
	}
	if a := email(`"choices": {"marketing.email": false}, "channel": "app"`); a.Accepted != 1 || a.Results[0].codes() != "unknown_field:channel" {
		t.Errorf("a member of the submission that is given twice: %s", a.body)
	}
}

func TestSubmission_IdempotencyKeyCountsPerPurpose(t *testing.T) {
	r := newRig(t)
	post := func(key string) answer {
		return r.post("/v1/submissions", "application/json", `{"subject":"user:77","choices":{"marketing.email":false,"ads.personalisation":false}}`, "Idempotency-Key", key)
	}
	a, again, other := post("k"), post("k"), post("l")
	if a.Results[0].EventID == a.Results[1].EventID {
		t.Error("two purposes are one event")
	}
	for i := range a.Results {
		if a.Results[i].EventID != again.Results[i].EventID || a.Results[i].EventID == other.Results[i].EventID {
			t.Errorf("choice %d: ids %s, %s, %s", i, a.Results[i].EventID, again.Results[i].EventID, other.Results[i].EventID)
		}
	}
	if a.InteractionID != again.InteractionID || a.InteractionID == other.InteractionID {
		t.Errorf("interaction ids %s, %s, %s", a.InteractionID, again.InteractionID, other.InteractionID)
	}
}

func TestSubmission_WithoutAChoiceIs400(t *testing.T) {
	r := newOffline(t, &memoryLog{})
	for _, body := range []string{``, `[]`, `{`, `{"subject":"user:77"}`, `{"subject":"user:77","choices":{}}`, `{"subject":"user:77","choices":[]}`, `{"subject":"user:77","choices":{"a":null}}`} {
		if a := r.post("/v1/submissions", "application/json", body); a.code != 400 {
			t.Errorf("%q: %d: %s", body, a.code, a.body)
		}
	}
	a := r.post("/v1/submissions", "application/json", `{"choices":{"marketing.email":false}}`)
	if a.code != 200 || a.Results[0].Status != 400.0 {
		t.Errorf("without a subject: %d: %s", a.code, a.body)
	}
}

func TestSubmission_OfMoreThanItsChoicesCanShareIs413AndFewerAreTaken(t *testing.T) {
	log := &memoryLog{}
	r := newOffline(t, log)
	refusals := func(shared, choices int) answer {
		t.Helper()
		var b strings.Builder
		b.WriteString(`{"subject":"user:77","evidence":{"user_agent":"` + strings.Repeat("x", shared) + `"},"choices":{`)
		for i := range choices {
			fmt.Fprintf(&b, `%s"p%d":false`, ","[:min(i, 1)], i)
		}
		b.WriteString(`}}`)
		return r.post("/v1/submissions", "application/json", b.String())
	}
	a := refusals(32<<10, 2000)
	if a.code != 413 || a.Type != "urn:assent:problem:too-large" || !strings.Contains(a.Detail, "send fewer choices per request") || log.written != 0 {
		t.Errorf("2000 choices that share 32 KiB: %d, %d recorded: %.300s", a.code, log.written, a.body)
	}
	for choices, shared := range map[int]int{100: 32 << 10, 4000: 500} {
		if a := refusals(shared, choices); a.code != 200 || a.Accepted != choices {
			t.Errorf("%d choices that share %d bytes: %d: %.300s", choices, shared, a.code, a.body)
		}
	}
}

func TestPurposes_TellABannerWhatItMayAskFor(t *testing.T) {
	r := newOffline(t, &memoryLog{})
	type notice struct{ ID, Version, Language, SHA256, Text string }
	get := func(query string) (byID map[string]struct {
		Title, Model, LegalBasis string
		Group, DoubleOptIn       bool
		Notice                   *notice
	}, code int) {
		t.Helper()
		a := r.do(http.MethodGet, "/v1/purposes"+query, "", nil)
		var all struct {
			Purposes []struct {
				ID, Title, Model string
				LegalBasis       string `json:"legal_basis"`
				Group            bool
				DoubleOptIn      bool `json:"double_opt_in"`
				Notice           *notice
			}
		}
		decode(t, a.body, &all)
		byID = map[string]struct {
			Title, Model, LegalBasis string
			Group, DoubleOptIn       bool
			Notice                   *notice
		}{}
		for _, p := range all.Purposes {
			byID[p.ID] = struct {
				Title, Model, LegalBasis string
				Group, DoubleOptIn       bool
				Notice                   *notice
			}{p.Title, p.Model, p.LegalBasis, p.Group, p.DoubleOptIn, p.Notice}
		}
		return byID, a.code
	}
	all, code := get("?jurisdiction=us-ca&language=de-AT")
	email := all["marketing.email"]
	if code != 200 || len(all) != 4 || email.Model != "opt_out" || email.DoubleOptIn || email.Notice == nil || email.Notice.Language != "de" || email.Notice.Version != "2" || len(email.Notice.SHA256) != 64 || email.Notice.Text == "" {
		t.Errorf("%d: %+v, notice %+v", code, email, email.Notice)
	}
	if !all["marketing"].Group || all["marketing"].Notice != nil || all["billing"].LegalBasis != "contract" {
		t.Errorf("%+v", all)
	}
	all, _ = get("?jurisdiction=DE")
	if email = all["marketing.email"]; email.Model != "opt_in" || !email.DoubleOptIn || email.Notice.Language != "en" || email.Notice.Version != "2" {
		t.Errorf("%+v, notice %+v", email, email.Notice)
	}
	if all, _ = get("?jurisdiction=nowhere&language=fr"); all["marketing.email"].Model != "opt_in" || all["marketing.email"].Notice.Language != "en" {
		t.Errorf("%+v", all["marketing.email"])
	}
	if all, code = get("?tenant=other"); code != 200 || len(all) != 0 {
		t.Errorf("a tenant nobody knows: %d, %v", code, all)
	}
	if _, code = get("?tenant=Other!"); code != 400 {
		t.Errorf("a tenant of no form: %d", code)
	}
}

func TestPurposes_AQueryThatCannotBeReadWholeIsNotAnsweredInPart(t *testing.T) {
	r := newOffline(t, &memoryLog{})
	for _, query := range []string{"?jurisdiction=DE%", "?language=de;jurisdiction=DE", "?tenant=other%zz", "?jurisdiction=DE&%"} {
		if a := r.do(http.MethodGet, "/v1/purposes"+query, "", nil); a.code != 400 || a.Type != "urn:assent:problem:bad-request" || !strings.Contains(a.Detail, "cannot be read") {
			t.Errorf("%s: %d: %s", query, a.code, a.body)
		}
	}
}
