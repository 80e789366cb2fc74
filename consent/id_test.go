package consent_test

import (
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// Source: RFC 9562, appendix A.4.
func TestDeriveUUID_GivesTheVectorOfRFC9562(t *testing.T) {
	dns, err := consent.ParseUUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := consent.DeriveUUID(dns, []byte("www.example.com")).String(), "2ed6657d-e927-568b-95e1-2665a8aea6a2"; got != want {
		t.Errorf("UUIDv5 %s, want %s", got, want)
	}
}

func TestDeriveUUID_IsVersion5AndDependsOnNamespaceAndName(t *testing.T) {
	seen := map[consent.UUID]bool{}
	for _, ns := range []consent.UUID{consent.NamespaceEvent, consent.NamespaceChange} {
		for _, name := range []string{"", "a", "b", "aa"} {
			u := consent.DeriveUUID(ns, []byte(name))
			if u[6]>>4 != 5 || u[8]>>6 != 2 {
				t.Errorf("%s is no UUIDv5 of the RFC's variant", u)
			}
			if seen[u] {
				t.Errorf("%s comes twice", u)
			}
			seen[u] = true
			if u != consent.DeriveUUID(ns, []byte(name)) {
				t.Error("derived twice, it differs")
			}
		}
	}
}

// The namespaces are constants of the format: with another one, a replay would
// look like new events and new changes.
func TestDeriveUUID_NamespacesStayAsTheyAre(t *testing.T) {
	if got := consent.NamespaceEvent.String(); got != "5a1d0c3e-6b3a-5f0e-9c41-8f27106db201" {
		t.Errorf("events are named in %s", got)
	}
	if got := consent.NamespaceChange.String(); got != "5a1d0c3e-6b3a-5f0e-9c41-8f27106db202" {
		t.Errorf("changes are named in %s", got)
	}
	e := consent.Event{ID: id(1), Tenant: "default", Subject: "user:1", Purpose: "m.e", Action: consent.Grant, EffectiveAt: 5, ReceivedAt: 5}
	_, changes, _ := consent.Fold(consent.State{}, &e)
	name := "default|user:1|m.e|1|" + string(e.ID[:])
	if want := consent.DeriveUUID(consent.NamespaceChange, []byte(name)); changes[0].ID != want {
		t.Errorf("change id %s, want %s, of tenant|subject|purpose|version|event", changes[0].ID, want)
	}
}

func TestParseUUID_ReadsBothFormsInEitherCase(t *testing.T) {
	const want = "2ed6657d-e927-568b-95e1-2665a8aea6a2"
	for _, s := range []string{want, strings.ToUpper(want), strings.ReplaceAll(want, "-", "")} {
		u, err := consent.ParseUUID(s)
		if err != nil || u.String() != want || u.IsZero() {
			t.Errorf("%q reads as %s, %v", s, u, err)
		}
	}
	for _, s := range []string{
		"", "2ed6657d", want + "0", want[1:], "{" + want[1:35] + "}", strings.Replace(want, "2", "g", 1), strings.ReplaceAll(want, "-", "_"),
		"2ed6657de-927-568b-95e1-2665a8aea6a2", strings.Repeat("-", 36), strings.Repeat("-", 32), "urn:uuid:" + want,
	} {
		if u, err := consent.ParseUUID(s); err == nil || !u.IsZero() {
			t.Errorf("%q reads as %s", s, u)
		}
	}
	if (consent.UUID{}).String() != "" {
		t.Error("an absent id has a form")
	}
}
