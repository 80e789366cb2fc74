package registry

import (
	"strings"

	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

var (
	// Source: Google Consent Mode v2.
	consentModeTypes = []string{"ad_storage", "ad_user_data", "ad_personalization", "analytics_storage", "functionality_storage", "personalization_storage", "security_storage"}
	// Source: IAB GPP, the opt-out fields of the US sections.
	gppFields = []string{"SaleOptOut", "SharingOptOut", "TargetedAdvertisingOptOut"}
)

// tcfPurposes is how many purposes IAB TCF 2.3 has.
const tcfPurposes = 11

func readSignals(v strictyaml.Value) (s Signals) {
	m, ok := v.Mapping()
	if !ok {
		return s
	}
	if x, ok := m.Get("consent_mode"); ok {
		s.ConsentMode = strictyaml.Each(x, "Consent Mode types", among(consentModeTypes))
	}
	if x, ok := m.Get("tcf"); ok {
		s.TCF = strictyaml.Each(x, "TCF purposes", func(item strictyaml.Value) (int, bool) { return item.Number(1, tcfPurposes) })
	}
	if x, ok := m.Get("gpp"); ok {
		s.GPP = strictyaml.Each(x, "GPP fields", among(gppFields))
	}
	m.Done()
	return s
}

// among reads one of the words, kept as it is.
func among(known []string) func(strictyaml.Value) (string, bool) {
	return func(v strictyaml.Value) (string, bool) {
		return strictyaml.Word(v, func(s string) (string, bool) {
			for _, k := range known {
				if s == k {
					return s, true
				}
			}
			return "", false
		}, known...)
	}
}

// keywords reads the words of text messages, which count in any case; one word
// can't say both yes and no.
func readKeywords(v strictyaml.Value) (k Keywords) {
	m, ok := v.Mapping()
	if !ok {
		return k
	}
	read := func(item strictyaml.Value) (string, bool) {
		s, ok := item.Text(64)
		return strings.ToLower(s), ok
	}
	withdraws := map[string]bool{}
	if x, ok := m.Get("withdraw"); ok {
		k.Withdraw = strictyaml.Each(x, "words", read)
	}
	for _, w := range k.Withdraw {
		withdraws[w] = true
	}
	if x, ok := m.Get("grant"); ok {
		k.Grant = strictyaml.Each(x, "words", func(item strictyaml.Value) (string, bool) {
			s, ok := read(item)
			if ok && withdraws[s] {
				item.Fault("keyword %s can't grant: it withdraws already", strictyaml.Quote(s))
			}
			return s, ok
		})
	}
	m.Done()
	return k
}
