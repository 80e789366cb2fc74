package consent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

const day = 24 * time.Hour

var (
	hash3en = [32]byte{3, 'e'}
	hash3de = [32]byte{3, 'd'}
)

// intake is the registry of the validity tests.
func intake() *consent.Catalogue {
	c := consent.NewCatalogue(consent.DefaultTenant, "v7", []*consent.Declaration{
		{ID: "m", Group: true},
		{
			ID: "m.e", LegalBasis: consent.BasisConsent, RefuseConditional: true,
			Notices: []consent.NoticeText{
				{Notice: consent.Notice{ID: "newsletter", Version: "3", Language: "en", SHA256: hash3en}},
				{Notice: consent.Notice{ID: "newsletter", Version: "3", Language: "de", SHA256: hash3de}},
				{Notice: consent.Notice{ID: "newsletter", Version: "2", Language: "en"}, ValidUntil: at("11:00:00")},
			},
			TTLs:          consent.ByJurisdiction[time.Duration]{"": 48 * time.Hour, "FR": 24 * time.Hour},
			DoubleOptIn:   consent.ByJurisdiction[bool]{"DE": true},
			ConfirmWindow: 7 * day,
		},
		{ID: "m.s", LegalBasis: consent.BasisConsent, Notices: []consent.NoticeText{{Notice: consent.Notice{ID: "sms", Version: "1"}}}},
		{ID: "stats", LegalBasis: consent.BasisLegitimateInterests, Notices: []consent.NoticeText{{Notice: consent.Notice{ID: "stats", Version: "1"}}}},
		{ID: "billing", LegalBasis: consent.BasisContract},
	})
	c.ReplayWindows = map[consent.Channel]time.Duration{consent.App: 90 * day, consent.Import: consent.Unlimited}
	return c
}

// validGrant breaks no rule.
func validGrant() consent.Event {
	return consent.Event{
		ID: id(1), Tenant: consent.DefaultTenant, Subject: "user:42", Purpose: "m.e", Action: consent.Grant, Channel: consent.Web,
		OccurredAt: at("10:00:00"), ReceivedAt: at("12:00:00"), EffectiveAt: at("10:00:00"),
		Notice:   consent.Notice{ID: "newsletter", Version: "3", Language: "en"},
		Evidence: consent.Evidence{Method: consent.Checkbox, ControlDefault: consent.DefaultOff},
	}
}

func codes(f consent.Faults) []string {
	var list []string
	for _, x := range f {
		list = append(list, string(x.Code)+" "+x.Field)
	}
	return list
}

func TestCheck_EachRuleWithWhatPassesAndWhatFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		alter func(*consent.Event)
		want  []string
	}{
		{"a valid grant", func(*consent.Event) {}, nil},

		{"affirmative: no method", func(e *consent.Event) { e.Evidence.Method = consent.MethodUnknown }, []string{"affirmative evidence.method"}},
		{"affirmative: inactivity", func(e *consent.Event) { e.Evidence.Method = consent.Inactivity }, []string{"affirmative evidence.method"}},
		{"affirmative: scroll", func(e *consent.Event) { e.Evidence.Method = consent.Scroll }, []string{"affirmative evidence.method"}},
		{"affirmative: continued_use", func(e *consent.Event) { e.Evidence.Method = consent.ContinuedUse }, []string{"affirmative evidence.method"}},
		{"affirmative: a checkbox that was on", func(e *consent.Event) { e.Evidence.ControlDefault = consent.DefaultOn }, []string{"affirmative evidence.control_default"}},
		{"affirmative: a checkbox without its default", func(e *consent.Event) { e.Evidence.ControlDefault = consent.DefaultUnknown }, []string{"affirmative evidence.control_default"}},
		{"affirmative: a toggle without its default", func(e *consent.Event) {
			e.Evidence = consent.Evidence{Method: consent.Toggle}
		}, []string{"affirmative evidence.control_default"}},
		{"affirmative: a toggle that was off passes", func(e *consent.Event) { e.Evidence.Method = consent.Toggle }, nil},
		{"affirmative: click_accept needs no default", func(e *consent.Event) { e.Evidence = consent.Evidence{Method: consent.ClickAccept} }, nil},
		{"affirmative: signature", func(e *consent.Event) { e.Evidence = consent.Evidence{Method: consent.Signature} }, nil},
		{"affirmative: verbal", func(e *consent.Event) { e.Evidence = consent.Evidence{Method: consent.Verbal} }, nil},
		{"affirmative: double_opt_in", func(e *consent.Event) { e.Evidence = consent.Evidence{Method: consent.DoubleOptIn} }, nil},
		{"affirmative: preference_center", func(e *consent.Event) { e.Evidence = consent.Evidence{Method: consent.PreferenceCenter} }, nil},
		{"affirmative: api_attested", func(e *consent.Event) { e.Evidence = consent.Evidence{Method: consent.APIAttested} }, nil},

		{"specific: *", func(e *consent.Event) { e.Purpose = consent.Root }, []string{"specific purpose"}},
		{"specific: a group", func(e *consent.Event) { e.Purpose = "m" }, []string{"specific purpose", "informed notice"}},
		{"specific: not declared", func(e *consent.Event) { e.Purpose = "m.unknown" }, []string{"specific purpose"}},
		{"specific: rests on a contract", func(e *consent.Event) { e.Purpose = "billing" }, []string{"specific purpose", "informed notice"}},
		{"specific: legitimate interests may be said yes to", func(e *consent.Event) {
			e.Purpose, e.Notice = "stats", consent.Notice{ID: "stats", Version: "1"}
		}, nil},
		{"specific: bundled", func(e *consent.Event) { e.Evidence.Bundled = true }, []string{"specific evidence.bundled"}},
		{"specific: accept-all beside a list is not bundled", func(e *consent.Event) { e.Evidence.Control = consent.AcceptAll }, nil},

		{"informed: no notice", func(e *consent.Event) { e.Notice = consent.Notice{} }, []string{"informed notice.id"}},
		{"informed: no version", func(e *consent.Event) { e.Notice.Version = "" }, []string{"informed notice.version"}},
		{"informed: unknown notice", func(e *consent.Event) { e.Notice.ID = "other" }, []string{"informed notice"}},
		{"informed: unknown version", func(e *consent.Event) { e.Notice.Version = "9" }, []string{"informed notice"}},
		{"informed: unknown language", func(e *consent.Event) { e.Notice.Language = "fr" }, []string{"informed notice"}},
		{"informed: a notice of another purpose", func(e *consent.Event) { e.Notice = consent.Notice{ID: "sms", Version: "1"} }, []string{"informed notice"}},
		{"informed: no language passes", func(e *consent.Event) { e.Notice.Language = "" }, nil},
		{"informed: still valid", func(e *consent.Event) { e.Notice.Version = "2" }, nil},
		{"informed: valid until this very moment", func(e *consent.Event) {
			e.Notice.Version, e.EffectiveAt = "2", at("11:00:00")
		}, nil},
		{"informed: no longer valid", func(e *consent.Event) {
			e.Notice.Version, e.EffectiveAt = "2", at("11:00:00.001")
		}, []string{"informed notice"}},
		{"informed: the registry's hash", func(e *consent.Event) { e.Notice.SHA256 = hash3en }, nil},
		{"informed: another hash", func(e *consent.Event) { e.Notice.SHA256 = [32]byte{9} }, []string{"informed notice.sha256"}},
		{"informed: the hash of another language", func(e *consent.Event) { e.Notice.SHA256 = hash3de }, []string{"informed notice.sha256"}},
		{"informed: a hash where the language is open", func(e *consent.Event) { e.Notice.Language, e.Notice.SHA256 = "", hash3de }, nil},

		{"freely_given: conditional where the purpose refuses it", func(e *consent.Event) { e.Evidence.Conditional = true }, []string{"freely_given evidence.conditional"}},
		{"freely_given: conditional where it does not", func(e *consent.Event) {
			e.Evidence.Conditional, e.Purpose, e.Notice = true, "m.s", consent.Notice{ID: "sms", Version: "1"}
		}, nil},

		{"fresh: no occurred_at", func(e *consent.Event) { e.OccurredAt = 0 }, []string{"fresh occurred_at"}},
		{"fresh: exactly as old as the window", func(e *consent.Event) { e.EffectiveAt = e.ReceivedAt.Add(-30 * day) }, nil},
		{"fresh: older than the window", func(e *consent.Event) { e.EffectiveAt = e.ReceivedAt.Add(-30*day) - 1 }, []string{"fresh occurred_at"}},
		{"fresh: an app has its own window", func(e *consent.Event) { e.Channel, e.EffectiveAt = consent.App, e.ReceivedAt.Add(-90*day) }, nil},
		{"fresh: and that ends too", func(e *consent.Event) { e.Channel, e.EffectiveAt = consent.App, e.ReceivedAt.Add(-91*day) }, []string{"fresh occurred_at"}},
		{"fresh: an import has none", func(e *consent.Event) { e.Channel, e.EffectiveAt = consent.Import, e.ReceivedAt.Add(-4000*day) }, nil},

		{"pseudonymous: no namespace", func(e *consent.Event) { e.Subject = "jane.doe" }, []string{"pseudonymous subject"}},
		{"pseudonymous: an address", func(e *consent.Event) { e.Subject = "jane@example.org" }, []string{"pseudonymous subject"}},
		{"pseudonymous: an address behind a namespace", func(e *consent.Event) { e.Subject = "user:jane@example.org" }, []string{"pseudonymous subject"}},
		{"pseudonymous: a telephone number", func(e *consent.Event) { e.Subject = "phone:+4915112345678" }, []string{"pseudonymous subject"}},
		{"pseudonymous: a device", func(e *consent.Event) { e.Subject = "device:9f8e" }, nil},

		{"every broken rule at once", func(e *consent.Event) {
			*e = consent.Event{Action: consent.Grant, Purpose: consent.Root, Subject: "jane@example.org", Evidence: consent.Evidence{Bundled: true}}
		}, []string{"affirmative evidence.method", "specific purpose", "specific evidence.bundled", "informed notice.id", "fresh occurred_at", "pseudonymous subject"}},
	} {
		e := validGrant()
		c.alter(&e)
		if got := codes(intake().Check(&e)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestCheck_NeverRefusesAProtectiveAction(t *testing.T) {
	withdrawals := []consent.Event{
		{},
		{Subject: "jane@example.org", Purpose: "not.declared", Evidence: consent.Evidence{Bundled: true, Conditional: true}},
		{Subject: "+4915112345678", Purpose: "billing", Channel: consent.Web, EffectiveAt: 1, ReceivedAt: at("12:00:00")},
		{Subject: "user:42", Purpose: "m", Notice: consent.Notice{ID: "never heard of", SHA256: [32]byte{1}}},
	}
	for _, action := range []consent.Action{consent.Refuse, consent.Withdraw, consent.Invalidate, consent.Erase} {
		for _, e := range withdrawals {
			e.Action = action
			if f := intake().Check(&e); len(f) != 0 {
				t.Errorf("%s is refused: %v", action, f)
			}
			var nobody *consent.Catalogue
			if f := nobody.Check(&e); len(f) != 0 {
				t.Errorf("%s is refused by an unknown tenant's registry: %v", action, f)
			}
		}
	}
}

func TestCheck_WhatOnlyThisSystemWritesIsRefused(t *testing.T) {
	c := intake()
	for a := consent.ActionUnknown; a <= consent.Defer; a++ {
		e := validGrant()
		e.Action, e.LinkTo = a, "user:43"
		want := map[consent.Action][]string{
			consent.ActionUnknown: {"affirmative action"}, consent.Confirm: {"confirm action"}, consent.Expire: {"malformed action"},
		}[a]
		if got := codes(c.Check(&e)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", a, got, want)
		}
		if a.Folds() != (a != consent.ActionUnknown) {
			t.Errorf("%s folds: %t", a, a.Folds())
		}
	}
	if (consent.Defer + 1).Folds() {
		t.Error("an action of a later version is folded")
	}
	unknown := validGrant()
	unknown.Action = consent.ActionUnknown
	if s, changes, carried := consent.Fold(consent.State{}, &unknown); len(changes)+len(carried)+len(s.Rows) != 0 || s.Whole.Clock != 0 {
		t.Errorf("an unknown action is folded: %+v", changes)
	}
}

func TestCheck_ALinkNamesAnotherSubject(t *testing.T) {
	for _, a := range []consent.Action{consent.Link, consent.Unlink} {
		for to, want := range map[consent.Subject][]string{"user:43": nil, "": {"malformed link.to"}, "user:42": {"malformed link.to"}} {
			e := consent.Event{Action: a, Subject: "user:42", Purpose: consent.Root, LinkTo: to}
			if got := codes(intake().Check(&e)); !slices.Equal(got, want) {
				t.Errorf("%s to %q: %v, want %v", a, string(to), got, want)
			}
		}
	}
}

func TestStamp_ALinkIsStampedWithTheVersionAlone(t *testing.T) {
	for a := consent.Grant; a <= consent.Defer; a++ {
		e := consent.Event{Action: a, Subject: "user:42", Purpose: consent.Root}
		intake().Stamp(&e)
		if link := a == consent.Link || a == consent.Unlink; e.Policy == nil || e.Policy.Version == "" || link != (len(e.Policy.Covers) == 0) {
			t.Errorf("%s: %+v", a, e.Policy)
		}
	}
}

// Whatever is wrong with a grant, neither the messages nor the error repeat the
// subject or another value.
func TestCheck_MessagesNeverContainTheSubject(t *testing.T) {
	const secret = "zq.secret-person@example.org"
	e := validGrant()
	e.Subject, e.Purpose, e.Source, e.Property = secret, secret, secret, secret
	e.Notice = consent.Notice{ID: secret, Version: secret, Language: secret}
	e.Evidence = consent.Evidence{Method: consent.Scroll, Reference: secret, PageURL: secret, Bundled: true}
	e.OccurredAt = 0
	faults := intake().Check(&e)
	e.Purpose = "m.e"
	faults = append(faults, intake().Check(&e)...)
	e.Action, e.Purpose, e.EffectiveAt = consent.Withdraw, secret, 1
	text := faults.Error() + fmt.Sprintf(" %+v %+v", faults, intake().Warnings(&e))
	if len(faults) < 6 || contains(text, "zq.secret") {
		t.Errorf("%d faults, and a value in their text:\n%s", len(faults), text)
	}
	for _, f := range faults {
		if f.Code == "" || f.Field == "" || f.Message == "" {
			t.Errorf("fault %+v does not say what to do", f)
		}
		if !contains(faults.Error(), string(f.Code)) || !contains(faults.Error(), f.Field) {
			t.Errorf("the error does not name %s (%s): %s", f.Code, f.Field, faults.Error())
		}
	}
}

func TestWarnings_TellWhatLooksWrongAboutAProtectiveAction(t *testing.T) {
	for _, c := range []struct {
		name  string
		event consent.Event
		want  []consent.WarningCode
	}{
		{"nothing", consent.Event{Action: consent.Withdraw, Purpose: "m.e"}, nil},
		{"a group", consent.Event{Action: consent.Withdraw, Purpose: "m"}, nil},
		{"*", consent.Event{Action: consent.Withdraw, Purpose: "*"}, nil},
		{"legitimate interests", consent.Event{Action: consent.Refuse, Purpose: "stats"}, nil},
		{"unknown purpose", consent.Event{Action: consent.Withdraw, Purpose: "m.unknown"}, []consent.WarningCode{consent.WarnUnknownPurpose}},
		{"a contract", consent.Event{Action: consent.Withdraw, Purpose: "billing"}, []consent.WarningCode{consent.WarnNotConsentBased}},
		{"backdated", consent.Event{Action: consent.Withdraw, Purpose: "m.e", EffectiveAt: -1 - consent.Instant(day.Milliseconds())}, []consent.WarningCode{consent.WarnBackdated}},
		{"both", consent.Event{Action: consent.Invalidate, Purpose: "x", EffectiveAt: -2 * consent.Instant(day.Milliseconds())}, []consent.WarningCode{consent.WarnUnknownPurpose, consent.WarnBackdated}},
		{"a grant gets none", consent.Event{Action: consent.Grant, Purpose: "m.unknown"}, nil},
		{"history gets none", consent.Event{Action: consent.Request, Purpose: "m.unknown"}, nil},
	} {
		var got []consent.WarningCode
		e := c.event
		e.ReceivedAt = at("12:00:00")
		e.EffectiveAt += e.ReceivedAt
		for _, w := range intake().Warnings(&e) {
			got = append(got, w.Code)
			if w.Field == "" || w.Message == "" {
				t.Errorf("%s: warning %+v says nothing", c.name, w)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
