package consent_test

import (
	"slices"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
)

func TestParseJurisdiction_UpperCasesAndTakesUnknownAsEmpty(t *testing.T) {
	for in, want := range map[string]consent.Jurisdiction{
		"": "", "fr": "FR", "FR": "FR", "us-ca": "US-CA", "US-CA": "US-CA", "De-By": "DE-BY", "eu": "EU", "EEA": "EEA", "gb-eng": "GB-ENG", "cn-11": "CN-11",
	} {
		if got, ok := consent.ParseJurisdiction(in); got != want || !ok {
			t.Errorf("%q reads as %q, %t, want %q", in, got, ok, want)
		}
	}
	for _, in := range []string{"XX", "F", "FRA", "UK", "EU-FR", "US-", "US-CALI", "US-C!", "XX-CA", "-CA", "france", "US CA", "US-CA-LA", "*", "ÀÀ"} {
		if got, ok := consent.ParseJurisdiction(in); got != "" || ok {
			t.Errorf("%q reads as %q, %t, want empty, false", in, got, ok)
		}
	}
}

func TestLookup_ExactCodeThenCountryThenUnionsThenDefault(t *testing.T) {
	all := consent.ByJurisdiction[string]{"DE-BY": "exact", "DE": "country", "EU": "eu", "EEA": "eea", "": "default"}
	order := []consent.Jurisdiction{"DE-BY", "DE", "EU", "EEA", ""}
	for _, gone := range order {
		want, ok := all[gone]
		if got, found := all.Lookup("DE-BY"); got != want || found != ok {
			t.Fatalf("with %v on the table DE-BY finds %q, want %q", all, got, want)
		}
		delete(all, gone)
	}
	if v, ok := all.Lookup("DE-BY"); ok {
		t.Errorf("an empty table answers %q", v)
	}
	table := consent.ByJurisdiction[string]{"US": "us", "US-CA": "ca", "EU": "eu", "EEA": "eea", "": "default"}
	for j, want := range map[consent.Jurisdiction]string{
		"US-CA": "ca", "US-NY": "us", "US": "us", "FR": "eu", "FR-75": "eu", "EU": "eu", "NO": "eea", "IS": "eea", "LI": "eea", "EEA": "eea",
		"CH": "default", "GB": "default", "JP": "default", "": "default",
	} {
		if got, _ := table.Lookup(j); got != want {
			t.Errorf("%q finds %q, want %q", j, got, want)
		}
		if got, ok := table.Declared(j); want == "default" && ok || want != "default" && got != want {
			t.Errorf("%q is declared as %q, %t", j, got, ok)
		}
	}
	// What holds in the union holds where only the wider one is declared.
	if got, _ := (consent.ByJurisdiction[string]{"EEA": "eea"}).Lookup("EU"); got != "eea" {
		t.Errorf("EU finds %q in EEA", got)
	}
}

// The unions as they are: 27 members of the EU, 30 countries in the EEA.
func TestLookup_KnowsTheMembersOfTheUnions(t *testing.T) {
	eu, eea := 0, 0
	for a := 'A'; a <= 'Z'; a++ {
		for b := 'A'; b <= 'Z'; b++ {
			j := consent.Jurisdiction([]rune{a, b})
			if _, ok := consent.ParseJurisdiction(string(j)); !ok || j == consent.EU {
				continue
			}
			if _, ok := (consent.ByJurisdiction[bool]{consent.EU: true}).Lookup(j); ok {
				eu++
			}
			if _, ok := (consent.ByJurisdiction[bool]{consent.EEA: true}).Lookup(j); ok {
				eea++
			}
		}
	}
	if eu != 27 || eea != 30 {
		t.Errorf("%d countries in the EU, %d in the EEA, want 27 and 30", eu, eea)
	}
}

func TestModel_AsksThePurposeThenTheFileThenSaysOptIn(t *testing.T) {
	in, out := consent.OptIn, consent.OptOut
	type models = consent.ByJurisdiction[consent.Model]
	for _, c := range []struct {
		name    string
		purpose models
		file    models
		j       consent.Jurisdiction
		want    consent.Model
	}{
		{"the purpose's exact code", models{"US-CA": out, "US": in, "": in}, models{"US-CA": in}, "US-CA", out},
		{"the purpose's country", models{"US": out, "": in}, models{"US-CA": in}, "US-CA", out},
		{"the purpose's union", models{"EU": out, "": in}, nil, "FR", out},
		{"the purpose's default before the file", models{"": out}, models{"FR": in}, "FR", out},
		{"the file where the purpose says nothing", models{"US": in}, models{"JP": out}, "JP", out},
		{"the file's union", models{"US": in}, models{"EEA": out}, "FR", out},
		{"opt_in where nobody says anything", models{"US": out}, models{"US": out}, "JP", in},
		{"opt_in where nothing is declared", nil, nil, "JP", in},
		{"unknown: the strictest that the purpose declares", models{"": out, "FR": in}, nil, "", in},
		{"unknown: every line says opt_out", models{"": out, "US": out}, nil, "", out},
		{"unknown: no default, so somebody has opt_in", models{"US": out}, nil, "", in},
		{"unknown: the file's table is no answer", nil, models{"": out, "US": out}, "", in},
		{"a model that is no model is opt_in", models{"": consent.ModelUnknown}, nil, "JP", in},
	} {
		cat := consent.NewCatalogue("default", "v", []*consent.Declaration{{ID: "p", LegalBasis: consent.BasisConsent, Models: c.purpose}})
		cat.Models = c.file
		if got := cat.Model(cat.Find("p"), c.j); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	cat := consent.NewCatalogue("default", "v", []*consent.Declaration{
		{ID: "g", Group: true, Models: models{"": out}},
		{ID: "li", LegalBasis: consent.BasisLegitimateInterests},
	})
	for p, want := range map[consent.Purpose]consent.Model{"g": in, "undeclared": in, "li": out} {
		if got := cat.Model(cat.Find(p), "US"); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

func TestDeclaration_UnknownJurisdictionHasTheShortestTTLAndDoubleOptInIfAny(t *testing.T) {
	d := &consent.Declaration{
		TTLs:        consent.ByJurisdiction[time.Duration]{"": 48 * time.Hour, "FR": 24 * time.Hour, "US": 96 * time.Hour},
		DoubleOptIn: consent.ByJurisdiction[bool]{"": false, "DE": true},
	}
	for j, want := range map[consent.Jurisdiction]time.Duration{"": 24 * time.Hour, "FR": 24 * time.Hour, "US-CA": 96 * time.Hour, "JP": 48 * time.Hour} {
		if got := d.TTL(j); got != want {
			t.Errorf("ttl in %q is %s, want %s", j, got, want)
		}
	}
	for j, want := range map[consent.Jurisdiction]bool{"": true, "DE": true, "DE-BY": true, "FR": false} {
		if got := d.NeedsDoubleOptIn(j); got != want {
			t.Errorf("double opt-in in %q is %t, want %t", j, got, want)
		}
	}
	var none consent.Declaration
	if none.TTL("") != 0 || none.TTL("FR") != 0 || none.NeedsDoubleOptIn("") || none.NeedsDoubleOptIn("DE") {
		t.Error("a purpose that declares neither has neither")
	}
}

func TestStrictest_DoesNotDependOnTheMapsOrder(t *testing.T) {
	b := consent.ByJurisdiction[int]{"": 5, "FR": 3, "US": 9, "JP": 3, "DE": 7}
	for range 100 {
		if v, ok := b.Strictest(func(x, y int) bool { return x < y }); v != 3 || !ok {
			t.Fatalf("strictest is %d, %t", v, ok)
		}
	}
}

func TestStamp_FillsThePolicyFromTheRegistryInForce(t *testing.T) {
	c := intake()
	e := validGrant()
	e.Jurisdiction = "FR"
	c.Stamp(&e)
	want := consent.Policy{
		Version: "v7", Model: consent.OptIn, LegalBasis: consent.BasisConsent,
		ExpiresAt: e.EffectiveAt.Add(24 * time.Hour), Covers: []consent.Purpose{"m.e"},
	}
	if !same(*e.Policy, want) {
		t.Errorf("policy %+v, want %+v", *e.Policy, want)
	}
	if e.Notice.SHA256 != hash3en {
		t.Error("the registry's hash of the notice is not stamped")
	}
	e = validGrant()
	c.Stamp(&e) // no jurisdiction: the strictest
	if p := e.Policy; p.ExpiresAt != e.EffectiveAt.Add(24*time.Hour) || !p.DoubleOptIn || p.ConfirmBy != e.EffectiveAt.Add(7*day) {
		t.Errorf("without a jurisdiction: %+v", *p)
	}
	e = validGrant()
	e.Notice.SHA256 = [32]byte{9}
	e.Notice.Language = ""
	c.Stamp(&e)
	if e.Notice.SHA256 != [32]byte{9} {
		t.Error("a hash that the sender gave is overwritten: the rule informed compares it")
	}
}

func TestStamp_ReplacesWhatASenderPutThere(t *testing.T) {
	e := validGrant()
	e.Policy = &consent.Policy{Version: "mine", HistoryImport: true, ExpiresAt: 1, Covers: []consent.Purpose{"x"}}
	intake().Stamp(&e)
	if e.Policy.Version != "v7" || e.Policy.HistoryImport || e.Policy.ExpiresAt == 1 || slices.Contains(e.Policy.Covers, "x") {
		t.Errorf("the sender's policy survives: %+v", *e.Policy)
	}
}

func TestStamp_RestrictionsCoverWhatIsDeclaredBelowAndNeverExpire(t *testing.T) {
	for p, want := range map[consent.Purpose][]consent.Purpose{
		"*": {"billing", "m", "m.e", "m.s", "stats"}, "m": {"m", "m.e", "m.s"}, "m.e": {"m.e"}, "undeclared": nil,
	} {
		e := consent.Event{Action: consent.Withdraw, Purpose: p, EffectiveAt: 5}
		intake().Stamp(&e)
		if !slices.Equal(e.Policy.Covers, want) || e.Policy.ExpiresAt != 0 || e.Policy.DoubleOptIn || e.Policy.Version != "v7" {
			t.Errorf("a withdrawal of %s is stamped %+v, want covers %v", p, *e.Policy, want)
		}
	}
}

func TestReplayWindow_PerChannelThenTheFilesDefaultThen30Days(t *testing.T) {
	c := consent.NewCatalogue("default", "v", nil)
	for ch, want := range map[consent.Channel]time.Duration{consent.Web: 30 * day, consent.ChannelUnknown: 30 * day, consent.Import: consent.Unlimited} {
		if got := c.ReplayWindow(ch); got != want {
			t.Errorf("%s: %s, want %s", ch, got, want)
		}
	}
	c.ReplayWindows = map[consent.Channel]time.Duration{consent.ChannelUnknown: day, consent.App: 2 * day}
	for ch, want := range map[consent.Channel]time.Duration{consent.Web: day, consent.App: 2 * day, consent.Import: consent.Unlimited} {
		if got := c.ReplayWindow(ch); got != want {
			t.Errorf("%s: %s, want %s", ch, got, want)
		}
	}
}
