package consent_test

import (
	"fmt"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// busySubject folds one subject with 8 purposes, and gives events that go on
// moving all of them. One operation is one event.
func busySubject() (consent.State, []consent.Event, *consent.Catalogue) {
	var declared []*consent.Declaration
	for i := range 8 {
		declared = append(declared, &consent.Declaration{ID: consent.Purpose(fmt.Sprintf("area%d.use%d", i/4, i)), LegalBasis: consent.BasisConsent})
	}
	cat := consent.NewCatalogue(consent.DefaultTenant, "v1", declared)
	var log []consent.Event
	for n := range 64 {
		e := consent.Event{
			ID: id(n + 1), Tenant: consent.DefaultTenant, Subject: "user:42", Purpose: declared[n%8].ID,
			Action: []consent.Action{consent.Grant, consent.Withdraw}[n/8%2], Channel: consent.Web, Jurisdiction: "FR",
			EffectiveAt: minute * consent.Instant(n+1), ReceivedAt: minute * consent.Instant(n+1),
		}
		cat.Stamp(&e)
		log = append(log, digested(e))
	}
	s, _ := foldAll(log[:8])
	return s, log, cat
}

func BenchmarkFold(b *testing.B) {
	base, log, _ := busySubject()
	b.ReportAllocs()
	s, i := base, 8
	for b.Loop() {
		s, _, _ = consent.Fold(s, &log[i])
		if i++; i == len(log) {
			s, i = base, 8 // from here every event moves its purpose again
		}
	}
}

func BenchmarkFold_Repeated(b *testing.B) {
	base, log, _ := busySubject()
	b.ReportAllocs()
	for b.Loop() {
		consent.Fold(base, &log[3])
	}
}

func BenchmarkDecide(b *testing.B) {
	s, log, cat := busySubject()
	b.ReportAllocs()
	for b.Loop() {
		consent.Decide(&s, cat, consent.Query{Purpose: log[5].Purpose, Jurisdiction: "FR", At: minute * 100})
	}
}
