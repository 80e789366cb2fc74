package intake

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

const now consent.Instant = 1_770_000_000_000

// sample is a registry with one of everything that intake looks at.
type sample struct{ heard map[consent.Purpose]bool }

func (s sample) Catalogue(t consent.Tenant) *consent.Catalogue {
	if t != consent.DefaultTenant {
		return consent.NewCatalogue(t, "v1", nil)
	}
	return consent.NewCatalogue(t, "v1", []*consent.Declaration{
		{ID: "marketing", Group: true},
		{ID: "marketing.email", LegalBasis: consent.BasisConsent, Notices: []consent.NoticeText{
			{Notice: consent.Notice{ID: "n", Version: "1", Language: "en", SHA256: [32]byte{1}}},
		}},
		{ID: "billing", LegalBasis: consent.BasisContract},
		{ID: "ads.sold", LegalBasis: consent.BasisConsent, SaleOrShare: true},
	})
}

func (s sample) Heard(_ consent.Tenant, p consent.Purpose) bool { return s.heard[p] }

func testIntake(t testing.TB) *Intake {
	registry := sample{map[consent.Purpose]bool{"marketing.email": true}}
	return New(func() Registry { return registry }, testSubjects(t))
}

func grant() consent.Event {
	return consent.Event{
		Subject: "user:42", Purpose: "marketing.email", Action: consent.Grant, Channel: consent.Web,
		OccurredAt: now - 1000,
		Notice:     consent.Notice{ID: "n", Version: "1"},
		Evidence:   consent.Evidence{Method: consent.ClickAccept},
	}
}

func withdrawal() consent.Event {
	return consent.Event{Subject: "user:42", Purpose: "marketing.email", Action: consent.Withdraw}
}

func accept(t *testing.T, e consent.Event, problems ...jsonform.Problem) Accepted {
	t.Helper()
	a, err := testIntake(t).Accept(Claims{Event: e, Problems: problems, ReceivedAt: now})
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	return a
}

func faults(t *testing.T, e consent.Event, problems ...jsonform.Problem) consent.Faults {
	t.Helper()
	_, err := testIntake(t).Accept(Claims{Event: e, Problems: problems, ReceivedAt: now})
	var f consent.Faults
	if !errors.As(err, &f) {
		t.Fatalf("got %v, want faults", err)
	}
	return f
}

func codes(w []consent.Warning) string {
	var all []string
	for _, x := range w {
		all = append(all, string(x.Code)+":"+x.Field)
	}
	return strings.Join(all, " ")
}

func TestAccept_StampsAGrant(t *testing.T) {
	a := accept(t, grant())
	e := a.Event
	if e.ReceivedAt != now || e.EffectiveAt != now-1000 || e.Tenant != consent.DefaultTenant || e.ID.IsZero() {
		t.Errorf("received %v, effective %v, tenant %q, id %v", e.ReceivedAt, e.EffectiveAt, e.Tenant, e.ID)
	}
	if e.Policy == nil || e.Policy.Version != "v1" || e.Policy.LegalBasis != consent.BasisConsent || e.Notice.SHA256 != [32]byte{1} {
		t.Errorf("policy %+v, notice %+v", e.Policy, e.Notice)
	}
	if len(a.Warnings) != 0 || a.Hashed {
		t.Errorf("warnings %v, hashed %v", a.Warnings, a.Hashed)
	}
}

func TestAccept_SendersStampsAreIgnoredAndTold(t *testing.T) {
	e := grant()
	e.Policy = &consent.Policy{Version: "mine", HistoryImport: true}
	e.ReceivedAt, e.EffectiveAt, e.Carried = 1, now+1, &consent.Carried{Subject: "user:1"}
	a := accept(t, e)
	if want := accept(t, grant()).Event; !reflect.DeepEqual(a.Event, want) {
		t.Errorf("a sender's stamps had an effect:\n%+v\nwant\n%+v", a.Event, want)
	}
	if got := codes(a.Warnings); got != "stamp_ignored:policy stamp_ignored:received_at stamp_ignored:effective_at stamp_ignored:carried" {
		t.Errorf("warnings %q", got)
	}
	if e.Policy.Version != "mine" {
		t.Error("the caller's event was changed")
	}
}

func TestAccept_WhatNoEventCanDoWithout(t *testing.T) {
	for field, change := range map[string]func(*consent.Event){
		"subject": func(e *consent.Event) { e.Subject = " " },
		"purpose": func(e *consent.Event) { e.Purpose = "" },
	} {
		e := withdrawal()
		change(&e)
		_, err := testIntake(t).Accept(Claims{Event: e, ReceivedAt: now})
		var unusable *jsonform.Unusable
		if !errors.As(err, &unusable) || unusable.Field != field {
			t.Errorf("without %s: %v", field, err)
		}
	}
	e := withdrawal()
	e.Action = consent.ActionUnknown
	if f := faults(t, e); len(f) != 1 || f[0].Code != consent.CodeMalformed || f[0].Field != "action" {
		t.Errorf("unknown action: %v", f)
	}
	for action, code := range map[consent.Action]consent.Code{consent.Confirm: consent.CodeConfirm, consent.Expire: consent.CodeMalformed} {
		e.Action, e.LinkTo = action, "user:9"
		if f := faults(t, e); len(f) != 1 || f[0].Code != code || f[0].Field != "action" {
			t.Errorf("%s: %v", action, f)
		}
	}
	for _, action := range []consent.Action{consent.Link, consent.Unlink} {
		for _, to := range []consent.Subject{"", " ", e.Subject} {
			e.Action, e.LinkTo = action, to
			if f := faults(t, e); len(f) != 1 || f[0].Code != consent.CodeMalformed || f[0].Field != "link.to" {
				t.Errorf("%s to %q: %v", action, string(to), f)
			}
		}
	}
}

func TestAccept_WhatSpeaksOfTheWholeSubjectHasThePurposeOfAll(t *testing.T) {
	for _, action := range []consent.Action{consent.Link, consent.Unlink, consent.Erase} {
		for given, want := range map[consent.Purpose]string{"": "", "*": "", " ": "", "marketing.email": "whole_subject:purpose", "no path!": "whole_subject:purpose"} {
			e := withdrawal()
			e.Action, e.Purpose, e.LinkTo = action, given, "device:9"
			a := accept(t, e)
			if a.Event.Purpose != consent.Root || codes(a.Warnings) != want || a.Event.Policy == nil || len(a.Withdrawals) != 0 {
				t.Errorf("%s of %q: %q, warnings %q, policy %+v", action, given, a.Event.Purpose, codes(a.Warnings), a.Event.Policy)
			}
		}
	}
}

func TestAccept_BothSubjectsOfALinkArePseudonymous(t *testing.T) {
	e := withdrawal()
	e.Action, e.Subject, e.LinkTo = consent.Link, "+491701234567", "Jane@shop.example"
	a := accept(t, e)
	if a.Event.Subject.Namespace() != consent.NamespacePhoneHMAC || a.Event.LinkTo.Namespace() != consent.NamespaceEmailHMAC || !a.Hashed {
		t.Errorf("link from %q to %q", string(a.Event.Subject), string(a.Event.LinkTo))
	}
	e.LinkTo = "tel:+491701234567" // the same person's own number
	if f := faults(t, e); len(f) != 1 || f[0].Field != "link.to" {
		t.Errorf("a link to the same number: %v", f)
	}
}

func TestAccept_ALinkUnderGPCIsAWithdrawalByBoth(t *testing.T) {
	e := withdrawal()
	e.Action, e.Subject, e.LinkTo, e.ID, e.Jurisdiction = consent.Link, "device:1", "Jane@shop.example", consent.UUID{5}, "us-ca"
	e.OccurredAt = now - 3_600_000
	in := testIntake(t)
	for name, claims := range map[string]Claims{"header": {Event: e, ReceivedAt: now, GPC: true}, "evidence": {Event: e, ReceivedAt: now}} {
		claims.Event.Evidence.GPC = name == "evidence"
		a, err := in.Accept(claims)
		if err != nil {
			t.Fatal(err)
		}
		if got := codes(a.Warnings); got != "whole_subject:purpose gpc_withdrawal:evidence.gpc" {
			t.Errorf("%s: warnings %q", name, got)
		}
		subjects := []consent.Subject{a.Event.Subject, a.Event.LinkTo}
		if len(a.Withdrawals) != len(subjects) {
			t.Fatalf("%s: %d withdrawals, want one of ads.sold by each", name, len(a.Withdrawals))
		}
		for i, w := range a.Withdrawals {
			if w.Subject != subjects[i] || w.Purpose != "ads.sold" || w.Action != consent.Withdraw || w.EffectiveAt != now || w.ReceivedAt != now || !w.Evidence.GPC ||
				w.InteractionID != a.Event.ID || w.Policy == nil || !w.Policy.SaleOrShare || w.Jurisdiction != "US-CA" || w.LinkTo != "" {
				t.Errorf("%s: %+v, policy %+v", name, w, w.Policy)
			}
			if w.ID.IsZero() || w.ID == a.Event.ID || w.ID == a.Withdrawals[1-i].ID {
				t.Errorf("%s: id %s", name, w.ID)
			}
		}
		again, _ := in.Accept(claims)
		if !reflect.DeepEqual(again.Withdrawals, a.Withdrawals) {
			t.Errorf("%s: taken in again, the withdrawals are others", name)
		}
	}
	for _, action := range []consent.Action{consent.Unlink, consent.Refuse, consent.Erase} {
		e.Action = action
		if a, err := in.Accept(Claims{Event: e, ReceivedAt: now, GPC: true}); err != nil || len(a.Withdrawals) != 0 {
			t.Errorf("%s: %d withdrawals, %v", action, len(a.Withdrawals), err)
		}
	}
}

func TestAccept_RawSubjectIsHashedUnlessItGrants(t *testing.T) {
	for _, action := range []consent.Action{consent.Refuse, consent.Withdraw, consent.Invalidate, consent.Request, consent.Defer} {
		e := withdrawal()
		e.Subject, e.Action = " Jane@Shop.example", action
		a := accept(t, e)
		if !a.Hashed || a.Event.Subject.Namespace() != consent.NamespaceEmailHMAC || !strings.Contains(codes(a.Warnings), "subject_hashed:subject") {
			t.Errorf("%s: subject %q, warnings %v", action, string(a.Event.Subject), a.Warnings)
		}
	}
	e := grant()
	e.Subject = "jane@shop.example"
	f := faults(t, e)
	if len(f) != 1 || f[0].Code != consent.CodePseudonymous {
		t.Errorf("a grant with an address: %v", f)
	}
	if strings.Contains(f.Error()+f[0].Message, "jane") {
		t.Errorf("the fault tells the address: %v", f)
	}
}

func TestAccept_NoAddressReachesTheLogByTheLink(t *testing.T) {
	e := withdrawal()
	e.LinkTo = "jane@shop.example"
	if a := accept(t, e); a.Event.LinkTo.Namespace() != consent.NamespaceEmailHMAC {
		t.Errorf("link to %q", string(a.Event.LinkTo))
	}
	e = grant()
	e.LinkTo = "jane@shop.example"
	if f := faults(t, e); len(f) != 1 || f[0].Code != consent.CodeMalformed || f[0].Field != "link.to" {
		t.Errorf("got %v", f)
	}
}

func TestAccept_KeepsOfAWithdrawalsPurposeWhatCanBeKept(t *testing.T) {
	for _, c := range []struct {
		given, kept string
		told        bool
	}{
		{"Marketing.Email", "marketing.email", false},
		{" marketing.email ", "marketing.email", false},
		{"*", "*", false},
		{"marketing email!", "marketing_email_", true},
		{"marketing..email.", "marketing.email", true},
		{"márketing.e-mail", "m_rketing.e-mail", true},
		{"a.*", "a._", true},
		{"...", "_", true},
		{strings.Repeat("a.", 200) + "b", strings.Repeat("a.", 127) + "a", true},
	} {
		e := withdrawal()
		e.Purpose = consent.Purpose(c.given)
		a := accept(t, e)
		if string(a.Event.Purpose) != c.kept {
			t.Errorf("%q became %q, want %q", c.given, a.Event.Purpose, c.kept)
		}
		if _, err := consent.ParsePurpose(string(a.Event.Purpose)); err != nil {
			t.Errorf("%q became %q: %v", c.given, a.Event.Purpose, err)
		}
		if told := strings.Contains(codes(a.Warnings), "unknown_field:purpose"); told != c.told {
			t.Errorf("%q: warnings %v", c.given, a.Warnings)
		}
	}
	e := grant()
	e.Purpose = "Marketing.Email"
	if f := faults(t, e); !tells(f, consent.CodeSpecific) || !tells(f, consent.CodeMalformed) {
		t.Errorf("a grant's purpose was mended: %v", f)
	}
}

func TestAccept_MendsTenantOfAWithdrawalAndRefusesThatOfAGrant(t *testing.T) {
	for given, kept := range map[string]string{"": "default", "shop-de": "shop-de", "Shop DE": "shop-de", "  ": "default", strings.Repeat("x", 70): strings.Repeat("x", 64)} {
		e := withdrawal()
		e.Tenant = consent.Tenant(given)
		if a := accept(t, e); string(a.Event.Tenant) != kept {
			t.Errorf("%q became %q, want %q", given, a.Event.Tenant, kept)
		}
	}
	e := grant()
	e.Tenant = "Default"
	if f := faults(t, e); !tells(f, consent.CodeMalformed) {
		t.Errorf("got %v", f)
	}
}

func TestAccept_UnknownJurisdictionCountsAsNoneAndIsTold(t *testing.T) {
	for _, e := range []consent.Event{grant(), withdrawal()} {
		e.Jurisdiction = "Atlantis"
		a := accept(t, e)
		if a.Event.Jurisdiction != "" || !strings.Contains(codes(a.Warnings), "unknown_field:jurisdiction") {
			t.Errorf("%s: %q, %v", e.Action, a.Event.Jurisdiction, a.Warnings)
		}
		e.Jurisdiction = "us-ca"
		if a := accept(t, e); a.Event.Jurisdiction != "US-CA" || strings.Contains(codes(a.Warnings), "jurisdiction") {
			t.Errorf("%s: %q, %v", e.Action, a.Event.Jurisdiction, a.Warnings)
		}
	}
}

func TestAccept_TimesOfNoCalendarCountAsAbsent(t *testing.T) {
	e := withdrawal()
	e.OccurredAt, e.SentAt = -1<<62, 1<<62
	if a := accept(t, e); a.Event.OccurredAt != 0 || a.Event.SentAt != 0 || a.Event.EffectiveAt != now {
		t.Errorf("occurred %d, sent %d, effective %d", a.Event.OccurredAt, a.Event.SentAt, a.Event.EffectiveAt)
	}
	e = grant()
	e.OccurredAt = 1 << 62
	if f := faults(t, e); !tells(f, consent.CodeFresh) || !tells(f, consent.CodeMalformed) {
		t.Errorf("got %v", f)
	}
}

func TestAccept_EventID(t *testing.T) {
	in := testIntake(t)
	id := func(e consent.Event, name string) consent.UUID {
		t.Helper()
		a, err := in.Accept(Claims{Event: e, ReceivedAt: now, IDName: []byte(name)})
		if err != nil {
			t.Fatal(err)
		}
		return a.Event.ID
	}
	given := grant()
	given.ID = consent.UUID{7}
	if id(given, "key") != given.ID {
		t.Error("a given id was replaced")
	}
	once, again := id(withdrawal(), "key"), id(withdrawal(), "key")
	if once != again || once == id(withdrawal(), "other") {
		t.Error("the name does not decide")
	}
	if once, again := id(withdrawal(), ""), id(withdrawal(), ""); once == again {
		t.Error("two bare withdrawals are one act")
	}
	retry := grant()
	retry.SentAt = now - 5
	if id(grant(), "") != id(retry, "") {
		t.Error("the same claims, sent again, are another event")
	}
	other := grant()
	other.OccurredAt--
	if id(grant(), "") == id(other, "") {
		t.Error("other claims are the same event")
	}
	normal := grant()
	normal.Tenant = consent.DefaultTenant
	if want := consent.DeriveUUID(consent.NamespaceEvent, schemas.EventClaims(&normal)); id(grant(), "") != want {
		t.Error("the id is not the UUIDv5 of the claims")
	}
}

func TestAccept_ProblemsOfFormAreMalformedOnAGrantAndWarningsOnAllElse(t *testing.T) {
	p := []jsonform.Problem{
		{Field: "colour", Kind: jsonform.UnknownField, Message: "m"},
		{Field: "channel", Kind: jsonform.BadValue, Message: "m"},
		{Field: "event_id", Kind: jsonform.IDDerived, Message: "m"},
		{Field: "policy", Kind: jsonform.StampIgnored, Message: "m"},
	}
	f := faults(t, grant(), p...)
	if len(f) != 2 || f[0] != (consent.Fault{Code: consent.CodeMalformed, Field: "colour", Message: "m"}) || f[1].Field != "channel" {
		t.Errorf("faults of a grant: %v", f)
	}
	if a := accept(t, grant(), p[2:]...); codes(a.Warnings) != "event_id_derived:event_id stamp_ignored:policy" {
		t.Errorf("warnings on a grant: %v", a.Warnings)
	}
	for _, action := range []consent.Action{consent.Withdraw, consent.Request} {
		e := withdrawal()
		e.Action = action
		if a := accept(t, e, p...); codes(a.Warnings) != "unknown_field:colour unknown_field:channel event_id_derived:event_id stamp_ignored:policy" {
			t.Errorf("warnings on %s: %v", action, a.Warnings)
		}
	}
	bad := grant()
	bad.Evidence.Method = consent.MethodUnknown
	if f := faults(t, bad, jsonform.Problem{Field: "evidence.method", Kind: jsonform.BadValue}); len(f) != 1 || f[0].Code != consent.CodeAffirmative {
		t.Errorf("a method that is not listed: %v", f)
	}
}

func TestAccept_WarnsOfWhatNobodyHears(t *testing.T) {
	for purpose, want := range map[consent.Purpose]string{
		"marketing.email": "",
		"marketing":       "", // its purposes are heard
		"*":               "",
		"billing":         "not_consent_based:purpose no_downstream:purpose",
		"nowhere":         "unknown_purpose:purpose no_downstream:purpose",
	} {
		e := withdrawal()
		e.Purpose = purpose
		if got := codes(accept(t, e).Warnings); got != want {
			t.Errorf("%s: %q, want %q", purpose, got, want)
		}
	}
	e := withdrawal()
	e.OccurredAt = now - 25*3600*1000
	if got := codes(accept(t, e).Warnings); got != "backdated:occurred_at" {
		t.Errorf("25 hours late: %q", got)
	}
}

func TestAccept_SameClaimsGiveTheSameBytes(t *testing.T) {
	e := withdrawal()
	e.Subject, e.Purpose, e.Jurisdiction = "Jane@shop.example", "Marketing E", "de"
	in := testIntake(t)
	var first []byte
	for range 3 {
		a, err := in.Accept(Claims{Event: e, ReceivedAt: now, IDName: []byte("position")})
		if err != nil {
			t.Fatal(err)
		}
		b, err := schemas.EncodeEvent(nil, &a.Event)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		} else if string(b) != string(first) {
			t.Fatal("the bytes differ")
		}
	}
}

func FuzzAccept_ProtectiveIsAcceptedAndReadable(f *testing.F) {
	f.Add("user:42", "marketing.email", "default", "DE", "", int64(now), int64(0), byte(consent.Withdraw))
	f.Add("user:42", "", "", "", "user:43", int64(0), int64(0), byte(consent.Erase))
	f.Add("user:42", "", "", "", "user:43", int64(0), int64(0), byte(consent.Link))
	f.Add("+491701234567", "..", "Ä", "xx", "a b", int64(-1<<63), int64(1<<62), byte(consent.Refuse))
	in := testIntake(f)
	f.Fuzz(func(t *testing.T, subject, purpose, tenant, jurisdiction, link string, occurred, sent int64, action byte) {
		e := consent.Event{
			Subject: consent.Subject(subject), Purpose: consent.Purpose(purpose), Tenant: consent.Tenant(tenant), Jurisdiction: consent.Jurisdiction(jurisdiction),
			OccurredAt: consent.Instant(occurred), SentAt: consent.Instant(sent), Action: consent.Action(action % 12), Channel: consent.Web, LinkTo: consent.Subject(link),
		}
		a, err := in.Accept(Claims{Event: e, ReceivedAt: now})
		if err != nil {
			if e.Action.Protective() && !blank(subject) && (!blank(purpose) || e.Action == consent.Erase) {
				t.Fatalf("a protective event was refused: %v", err)
			}
			return
		}
		b, err := schemas.EncodeEvent(nil, &a.Event)
		if err != nil {
			t.Fatalf("accepted, and cannot be written: %v", err)
		}
		if _, err := schemas.DecodeEvent(b); err != nil {
			t.Fatalf("accepted, and cannot be read: %v", err)
		}
		if !a.Event.Subject.Pseudonymous() || a.Event.EffectiveAt > now {
			t.Errorf("subject pseudonymous: %v, effective at %d", a.Event.Subject.Pseudonymous(), a.Event.EffectiveAt)
		}
	})
}
