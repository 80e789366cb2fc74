package registry

import (
	"crypto/sha256"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
)

func loadExamples(t *testing.T) *Registry {
	t.Helper()
	r, err := Load([]string{examples + "purposes.yaml"}, []string{examples + "downstreams.yaml"}, Options{})
	if err != nil {
		t.Fatal(Explain(err))
	}
	return r
}

func TestLoad_FillsTheCatalogue(t *testing.T) {
	c := loadExamples(t).Catalogue("default")
	email := c.Find("marketing.email")
	ads := c.Find("ads.personalisation")
	window := func(ch consent.Channel) time.Duration { return c.ReplayWindow(ch) }
	for name, ok := range map[string]bool{
		"tenant":                 c.Tenant == "default",
		"title":                  email.Title == "Newsletter" && email.Description == "New books and events, twice a month, by e-mail.",
		"group":                  c.Find("marketing").Group && !email.Group,
		"basis":                  email.LegalBasis == consent.BasisConsent && c.Find("orders").LegalBasis == consent.BasisContract,
		"model for all":          c.Model(email, "US") == consent.OptIn,
		"model by jurisdiction":  c.Model(ads, "US-CA") == consent.OptOut && c.Model(ads, "FR") == consent.OptIn && c.Model(ads, "") == consent.OptIn,
		"model of the file":      c.Models["US"] == consent.OptOut && c.Models["EEA"] == consent.OptIn,
		"ttl":                    email.TTL("FR") == 730*day && c.Find("data-sharing.partners").TTL("FR") == 0,
		"ttl by jurisdiction":    ads.TTL("BR") == 90*day && ads.TTL("FR") == 180*day && ads.TTL("") == 90*day,
		"double opt-in":          email.NeedsDoubleOptIn("DE") && !email.NeedsDoubleOptIn("FR") && email.NeedsDoubleOptIn("") && email.ConfirmWindow == 7*day,
		"scope":                  c.Find("analytics").Scope == consent.ScopeDevice && email.Scope == consent.ScopePerson,
		"sale or share":          ads.SaleOrShare && !email.SaleOrShare,
		"freely given":           ads.RefuseConditional && !email.RefuseConditional,
		"notices in their order": len(email.Notices) == 3 && email.Notices[0].Version == "1" && email.Notices[2].Language == "de",
		"notice text":            strings.HasPrefix(email.Notices[1].Text, "Send me the Riverside newsletter: new books"),
		"notice hash":            email.Notices[1].SHA256 == sha256.Sum256([]byte(email.Notices[1].Text)),
		"declared hash":          email.Notices[2].SHA256 != [32]byte{} && email.Notices[2].Text == "",
		"valid until, inclusive": email.Notices[0].ValidUntil.String() == "2026-03-31T23:59:59.999Z",
		"material":               email.Notices[0].Material == MaterialRenew && email.Notices[1].Material == "",
		"replay windows":         window(consent.App) == 90*day && window(consent.SMS) == 7*day && window(consent.Import) == consent.Unlimited && window(consent.ChannelUnknown) == 30*day,
	} {
		if !ok {
			t.Errorf("%s is not as declared", name)
		}
	}
}

func TestLoad_AGrantWithoutABoundDoesNotExpire(t *testing.T) {
	for yaml, want := range map[string]map[consent.Jurisdiction]time.Duration{
		"unlimited":                      {"FR": 0, "US": 0, "": 0},
		"{default: unlimited, US: 365d}": {"FR": 0, "US": 365 * day, "": 365 * day},
		"{US: 365d}":                     {"FR": 0, "US": 365 * day, "": 365 * day},
		"{default: 90d, EU: 30d}":        {"FR": 30 * day, "US": 90 * day, "": 30 * day},
	} {
		d := load(t, inPurpose("    ttl: "+yaml+"\n"), "").Catalogue("default").Find("marketing.email")
		for j, ttl := range want {
			if got := d.TTL(j); got != ttl {
				t.Errorf("ttl: %s is %s in %q, want %s", yaml, got, j, ttl)
			}
		}
	}
}

func TestLoad_KeepsWhatTheDomainDoesNotDecideBy(t *testing.T) {
	r := loadExamples(t)
	if c := r.Controller("default"); c != (Controller{"Riverside Books Ltd", "privacy@riverside.example", "12 Quay Road, Cork, IE"}) {
		t.Errorf("controller = %+v", c)
	}
	a, ads := r.Terms("default", "analytics"), r.Terms("default", "ads.personalisation")
	for name, ok := range map[string]bool{
		"keywords":  slices.Equal(r.Terms("default", "marketing.sms").Keywords.Withdraw, []string{"stop", "quit", "end", "revoke", "opt out", "cancel", "unsubscribe"}) && slices.Equal(r.Terms("default", "marketing.sms").Keywords.Grant, []string{"start", "unstop"}),
		"signals":   slices.Equal(ads.Signals.TCF, []int{1, 3, 4}) && len(ads.Signals.GPP) == 3 && slices.Equal(a.Signals.ConsentMode, []string{"analytics_storage"}),
		"was":       slices.Equal(ads.Was, []consent.Purpose{"ads.profiling"}) && ads.SameMeaning && a.Was == nil && !a.SameMeaning,
		"data":      slices.Equal(a.Data, []string{"pages opened", "duration of visits"}) && slices.Equal(a.Recipients, []string{"Tally Analytics GmbH"}) && slices.Equal(a.Storage, []string{"Frankfurt"}),
		"retention": a.Retention == 400*day && ads.Retention == 0,
		"deadline":  r.Terms("default", "marketing.email").Deadlines["US"] == Deadline{BusinessDays: 10},
		"unknown":   r.Terms("default", "x") == nil && r.Terms("x", "analytics") == nil && r.Controller("x") == Controller{},
	} {
		if !ok {
			t.Errorf("%s is not as declared", name)
		}
	}
	// Thanksgiving 2026 is the Thursday after this Monday.
	due := r.DueAt(nil, &consent.Change{Tenant: "default", Purpose: "marketing.email", Jurisdiction: "US-NY", ReceivedAt: instant(t, "2026-11-23T10:00:00.000Z")})
	if due.String() != "2026-12-08T10:00:00.000Z" {
		t.Errorf("10 business days end at %s", due)
	}
}

func TestLoad_ReadsDownstreams(t *testing.T) {
	all := loadExamples(t).Downstreams()
	if len(all) != 4 {
		t.Fatalf("%d downstreams", len(all))
	}
	letters, crm, ads, warehouse := all[0], all[1], all[2], all[3]
	w := letters.Webhook
	for name, ok := range map[string]bool{
		"names":           letters.Name == "newsletter-tool" && crm.Name == "crm" && ads.Name == "ad-server" && warehouse.Name == "warehouse",
		"patterns":        slices.Equal(crm.Purposes, []consent.Pattern{"marketing.*", "data-sharing.*"}),
		"changes":         letters.Changes == All && crm.Changes == Withdrawals && warehouse.Changes == All,
		"webhook":         w.URL == "https://hooks.letters.example/consent" && w.Timeout == 15*time.Second && w.Concurrency == 16 && w.RateLimit == 500 && w.Attempts == 3 && !w.Internal,
		"secrets":         slices.Equal(w.Secrets, []SecretRef{"env:LETTERS_WEBHOOK_SECRET", "file:" + examples + "secrets/letters-old"}),
		"internal":        crm.Webhook.Internal && crm.Webhook.URL == "http://10.0.7.20:8080/consent",
		"topic":           ads.Topic.Name == "ad-server.suppressions" && ads.Webhook == nil && ads.Poll == nil,
		"poll":            warehouse.Poll.Retain == 30*day && warehouse.Webhook == nil && warehouse.Topic == nil,
		"start":           letters.Start == StartSnapshot && ads.Start == StartNow && warehouse.Start == StartBeginning,
		"deadline":        letters.Deadline == Deadline{Duration: 2 * day} && crm.Deadline.IsZero(),
		"acknowledgement": crm.Acknowledgement == Acknowledgement{true, day},
		"batch":           letters.Batch == Batch{100, time.Second},
		"test":            letters.Test && !crm.Test,
	} {
		if !ok {
			t.Errorf("%s is not as declared", name)
		}
	}
}

func TestExamples_HaveNoWarning(t *testing.T) {
	if w := loadExamples(t).Warnings(); len(w) > 0 {
		t.Error(Explain(w))
	}
}

func TestRegistry_WaitingNamesEachKeyOnce(t *testing.T) {
	got := loadExamples(t).Waiting()
	var keys []string
	for _, line := range got {
		key, rest, ok := strings.Cut(line, " (")
		if !ok || !regexp.MustCompile(`^[a-z. _-]+(, [a-z. _-]+)*\): \S.+`).MatchString(rest) || strings.Contains(line, "\n") {
			t.Errorf("line %q is not a key, who uses it, and a sentence", line)
		}
		keys = append(keys, key)
	}
	want := []string{"acknowledgement", "batch", "data", "delivery.poll", "delivery.topic", "double_opt_in", "keywords", "material", "recipients", "retention", "signals", "start: snapshot", "storage", "was"}
	if !slices.Equal(keys, want) {
		t.Errorf("keys = %q\nwant   %q", keys, want)
	}
	for _, line := range got {
		if strings.HasPrefix(line, "keywords") && !strings.HasPrefix(line, "keywords (marketing, marketing.sms): ") {
			t.Errorf("got %q", line)
		}
	}
	if len(want) != len(notYet) {
		t.Errorf("the examples use %d of the %d keys that wait", len(want), len(notYet))
	}
	twice := load(t, strings.Replace(notice(`id: n, version: "1", language: en, text: x, material: true`), "      - {", "      - {id: n, version: 0, language: en, text: y, material: invalidate}\n      - {", 1), "").Waiting()
	if len(twice) != 1 || !strings.HasPrefix(twice[0], "material (a): ") {
		t.Errorf("two notices of one purpose: %q", twice)
	}
	if w := load(t, goodPurposes, "").Waiting(); len(w) > 0 {
		t.Errorf("nothing waits in a plain file, and it says %q", w)
	}
}

func TestSample_GrantsEachOfItsPurposes(t *testing.T) {
	r := Sample()
	c := r.Catalogue(consent.DefaultTenant)
	if r != Sample() || c != r.Catalogue(consent.DefaultTenant) {
		t.Error("the sample or its catalogue is made anew")
	}
	if len(r.Warnings()) > 0 || len(r.Downstreams()) > 0 {
		t.Errorf("warnings: %s, %d downstreams", Explain(r.Warnings()), len(r.Downstreams()))
	}
	now := instant(t, "2026-01-05T10:00:00.000Z")
	var granted []consent.Purpose
	for _, d := range c.Purposes {
		if d.Group {
			continue
		}
		n := d.Notices[0]
		e := &consent.Event{Tenant: "default", Subject: "user:1", Purpose: d.ID, Action: consent.Grant, Channel: consent.Web, Jurisdiction: "FR",
			OccurredAt: now, ReceivedAt: now, EffectiveAt: now, Notice: consent.Notice{ID: n.ID, Version: n.Version, Language: "en"},
			Evidence: consent.Evidence{Method: consent.Toggle, ControlDefault: consent.DefaultOff}}
		if faults := c.Check(e); faults != nil {
			t.Errorf("%s: %v", d.ID, faults)
		}
		c.Stamp(e)
		if e.Policy.DoubleOptIn || e.Notice.SHA256 != sha256.Sum256([]byte(n.Text)) || n.Text == "" {
			t.Errorf("%s is stamped %+v with the notice %+v", d.ID, e.Policy, e.Notice)
		}
		granted = append(granted, d.ID)
	}
	if want := []consent.Purpose{"ads.personalisation", "analytics", "data-sharing.partners", "marketing.email"}; !slices.Equal(granted, want) {
		t.Errorf("purposes = %q", granted)
	}
	for j, want := range map[consent.Jurisdiction]bool{"DE": true, "AT": true, "FR": false, "US": false, "": true} {
		if got := c.Find("marketing.email").NeedsDoubleOptIn(j); got != want {
			t.Errorf("double opt-in in %q = %v", j, got)
		}
	}
	if a := c.Find("analytics"); a.Scope != consent.ScopePerson || c.Model(a, "US") != consent.OptOut || c.Model(a, "IE") != consent.OptIn {
		t.Errorf("analytics = %+v", a)
	}
}

func TestLoad_TakesTheSampleOnlyWhenAsked(t *testing.T) {
	_, d := files("", inDownstream("test: false"))
	r, err := LoadBytes(nil, d, Options{SamplePurposes: true})
	if err != nil {
		t.Fatal(Explain(err))
	}
	if r.Catalogue("default").Find("marketing.email") == nil {
		t.Error("the sample is not there")
	}
	r, err = LoadBytes(nil, d, Options{})
	if err != nil {
		t.Fatal(Explain(err))
	}
	if len(r.Catalogue("default").Purposes) != 0 || !slices.Equal(r.Tenants(), []consent.Tenant{"default"}) {
		t.Error("something is declared where no file was given")
	}
}

func TestRegistry_KeepsTenantsApart(t *testing.T) {
	p := []Source{{"a.yaml", []byte("tenant: a\n" + goodPurposes)}, {"b.yaml", []byte("tenant: b\npurposes:\n  - {id: x, title: X, legal_basis: contract}\n")}}
	d := []Source{{"da.yaml", []byte("tenant: a\n" + inDownstream("test: false"))}, {"db.yaml", []byte("tenant: b\n" + strings.Replace(inDownstream("test: false"), "marketing.email", "x", 1))}}
	r, err := LoadBytes(p, d, Options{})
	if err != nil {
		t.Fatal(Explain(err)) // the two downstreams have one name, in two tenants
	}
	if !slices.Equal(r.Tenants(), []consent.Tenant{"a", "b"}) {
		t.Errorf("tenants = %q", r.Tenants())
	}
	if r.Catalogue("a").Find("x") != nil || r.Catalogue("b").Find("x") == nil || r.Catalogue("a").Version == r.Catalogue("b").Version {
		t.Error("the tenants' catalogues are mixed up")
	}
	if !r.Heard("a", "marketing.email") || r.Heard("b", "marketing.email") || !r.Heard("b", "x") {
		t.Error("the tenants' downstreams are mixed up")
	}
	unknown := r.Catalogue("nobody")
	if unknown == nil || len(unknown.Purposes) > 0 || unknown != r.Catalogue("somebody") {
		t.Error("an unknown tenant has no single empty catalogue")
	}
}

func TestRegistry_VersionIsTheContent(t *testing.T) {
	texts := map[string]string{"n.txt": "Yes.", "us.cal": "2026-12-25\n"}
	version := func(order bool, p1, d1 string) (string, string) {
		t.Helper()
		p := []Source{{"a.yaml", []byte(p1)}, {"b.yaml", []byte("tenant: b\n" + goodPurposes)}}
		if order {
			slices.Reverse(p)
		}
		_, d := files("", d1)
		r, err := LoadBytes(p, d, Options{ReadFile: disk(texts)})
		if err != nil {
			t.Fatal(Explain(err))
		}
		return r.Version(), r.Catalogue("default").Version
	}
	base := "calendars: {US: us.cal}\n" + notice(`id: n, version: "1", language: en, file: n.txt`)
	all, mine := version(false, base, inDownstream("test: false"))
	if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(all) || !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(mine) {
		t.Errorf("versions %q and %q", all, mine)
	}
	if a, m := version(true, base, inDownstream("test: false")); a != all || m != mine {
		t.Error("the order of the files counts")
	}
	if a, m := version(false, base, inDownstream("test: true")); a == all || m != mine {
		t.Error("downstreams count for the catalogue's version, or not for the registry's")
	}
	if a, m := version(false, base+"# a comment\n", inDownstream("test: false")); a == all || m == mine {
		t.Error("the purposes file does not count")
	}
	texts["n.txt"] = "Yes!"
	afterText, m := version(false, base, inDownstream("test: false"))
	if afterText == all || m == mine {
		t.Error("a notice's text does not count")
	}
	texts["us.cal"] = "2026-12-24\n"
	if a, _ := version(false, base, inDownstream("test: false")); a == afterText {
		t.Error("a calendar does not count")
	}
}

func TestStore_GivesTheRegistryInForce(t *testing.T) {
	one, two := load(t, goodPurposes, ""), load(t, goodPurposes+"# two\n", "")
	s := NewStore(one)
	if s.Current() != one {
		t.Fatal("the first registry is not in force")
	}
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 1000 {
				if r := s.Current(); r.Catalogue("default").Find("marketing.email") == nil {
					t.Error("a registry that is not whole was seen")
				}
			}
		})
	}
	s.Replace(two)
	readers.Wait()
	if s.Current() != two {
		t.Error("the second registry is not in force")
	}
}

func FuzzLoad_NeverPanics(f *testing.F) {
	for _, table := range []map[string]struct{ yaml, want string }{badPurposes, badNotices} {
		for _, c := range table {
			f.Add([]byte(c.yaml), []byte(""))
		}
	}
	for _, c := range badDownstreams {
		f.Add([]byte(goodPurposes), []byte(c.yaml))
	}
	f.Add(samplePurposes, []byte(inDownstream("test: true")))
	f.Fuzz(func(t *testing.T, purposes, downstreams []byte) {
		r, err := LoadBytes([]Source{{"p.yaml", purposes}}, []Source{{"d.yaml", downstreams}}, Options{ReadFile: someFiles})
		if err != nil {
			if r != nil || Explain(err) == "" {
				t.Error("a faulty registry is given, or a fault without a sentence")
			}
			return
		}
		for _, tenant := range r.Tenants() {
			for _, p := range append(r.Catalogue(tenant).AllPurposes(nil), consent.Root) {
				change := &consent.Change{Tenant: tenant, Purpose: p, Withdrawal: true, ReceivedAt: 1_700_000_000_000}
				heard := false
				for _, d := range r.Downstreams() {
					if due := r.DueAt(d, change); due != 0 && due <= change.ReceivedAt {
						t.Errorf("due before it was received: %s", due)
					}
					if (d.Webhook == nil) == (d.Topic == nil && d.Poll == nil) || d.Name == "" || len(d.Purposes) == 0 {
						t.Errorf("an accepted downstream is not whole: %+v", d)
					}
					heard = heard || (d.Webhook != nil && d.Hears(change))
				}
				if heard && !r.Heard(tenant, p) {
					t.Errorf("a change of %s is heard, and Heard says no", p)
				}
			}
		}
		r.Warnings()
		r.Waiting()
	})
}
