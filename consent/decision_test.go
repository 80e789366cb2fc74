package consent_test

import (
	"slices"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func TestDecide_WithoutAStateGivesTheDefault(t *testing.T) {
	for p, want := range map[consent.Purpose]bool{"m.e": true, "m.s": true, "a": true, "m": false, "*": false, "undeclared": false} {
		for name, s := range map[string]*consent.State{"no state": nil, "an empty state": {}} {
			got := consent.Decide(s, catalogue(), consent.Query{Purpose: p, Jurisdiction: "US", At: minute})
			if got.Allowed != want || got.Status != consent.None || got.Reason != consent.ReasonDefault || got.DecidedBy != nil || got.Version != 0 {
				t.Errorf("%s, %s: %+v, want allowed %t by default", name, p, got, want)
			}
		}
	}
	for _, states := range [][]*consent.State{nil, {}, {nil}, {nil, nil}, {nil, {}}} {
		if got := consent.DecideTogether(states, catalogue(), consent.Query{Purpose: "m.e", Jurisdiction: "FR"}); got.Allowed || got.Status != consent.None {
			t.Errorf("%d subjects with nothing on record: %+v", len(states), got)
		}
	}
}

func TestUnavailable_IsDenied(t *testing.T) {
	got := consent.Unavailable("m.e")
	if got.Allowed || got.Reason != consent.ReasonUnavailable || got.Purpose != "m.e" || got.Status.String() != "unknown" {
		t.Errorf("%+v", got)
	}
}

// Sec-GPC: 1 denies what is sold or shared, whatever is on record; it allows
// nothing, and a denial keeps its own reason.
func TestDecide_GPCDeniesSaleOrShareForThisAnswer(t *testing.T) {
	cat := consent.NewCatalogue("default", "v1", []*consent.Declaration{
		{ID: "sold", LegalBasis: consent.BasisConsent, SaleOrShare: true},
		{ID: "kept", LegalBasis: consent.BasisConsent},
		{ID: "owed", LegalBasis: consent.BasisContract, SaleOrShare: true},
	})
	var s consent.State
	for i, p := range []consent.Purpose{"sold", "kept", "owed"} {
		s, _, _ = consent.Fold(s, &consent.Event{ID: id(i + 1), Purpose: p, Action: consent.Grant, EffectiveAt: 5, ReceivedAt: 5})
	}
	for p, want := range map[consent.Purpose]consent.Reason{"sold": consent.ReasonGPC, "kept": consent.ReasonExplicit, "owed": consent.ReasonBasis} {
		got := consent.Decide(&s, cat, consent.Query{Purpose: p, At: 9, GPC: true})
		if got.Reason != want || got.Allowed != (want != consent.ReasonGPC) || got.Status != consent.Granted {
			t.Errorf("%s: %+v, want reason %s", p, got, want)
		}
		if again := consent.Decide(&s, cat, consent.Query{Purpose: p, At: 9}); !again.Allowed {
			t.Errorf("%s is denied without the signal", p)
		}
	}
	denied, _, _ := consent.Fold(s, &consent.Event{ID: id(9), Purpose: "sold", Action: consent.Withdraw, EffectiveAt: 6, ReceivedAt: 6})
	if got := consent.Decide(&denied, cat, consent.Query{Purpose: "sold", At: 9, GPC: true}); got.Allowed || got.Reason != consent.ReasonExplicit {
		t.Errorf("a withdrawn purpose with the signal: %+v", got)
	}
}

// The asker does not pick the law: no order of jurisdictions on the record, and
// none asked for, allows what one of them denies.
func TestDecide_DefaultHoldsOnlyWhereEveryJurisdictionAgrees(t *testing.T) {
	cat := catalogue()
	for _, asked := range jurisdictions {
		for _, first := range jurisdictions {
			for _, second := range jurisdictions {
				var s consent.State
				for i, j := range []consent.Jurisdiction{first, second} {
					s, _, _ = consent.Fold(s, &consent.Event{ID: id(i + 1), Purpose: "elsewhere", Action: consent.Withdraw, EffectiveAt: 5, ReceivedAt: 5, Jurisdiction: j})
				}
				for _, p := range []consent.Purpose{"m.e", "m.s", "a"} {
					want := registry.refOptOut(p, asked) && (first == "" || registry.refOptOut(p, first)) && (second == "" || registry.refOptOut(p, second))
					got := consent.Decide(&s, cat, consent.Query{Purpose: p, Jurisdiction: asked, At: 9})
					if got.Allowed != want || (got.Model == consent.OptOut) != want {
						t.Errorf("%s asked in %q, on record %q and %q: allowed %t by %s of %q, want %t", p, asked, first, second, got.Allowed, got.Model, got.Jurisdiction, want)
					}
					if !got.Allowed && registry.refOptOut(p, got.Jurisdiction) {
						t.Errorf("%s is denied by %q, whose default allows it", p, got.Jurisdiction)
					}
				}
			}
		}
	}
}

func TestAllPurposes_EveryDeclaredOneAndAllOnRecord(t *testing.T) {
	cat := catalogue()
	if got, want := cat.AllPurposes(nil), []consent.Purpose{"a", "m.e", "m.s"}; !slices.Equal(got, want) {
		t.Errorf("of nobody: %v, want %v", got, want)
	}
	s, _ := foldAll([]consent.Event{
		{ID: id(1), Purpose: "m", Action: consent.Withdraw, EffectiveAt: 5, ReceivedAt: 5},
		{ID: id(2), Purpose: "undeclared", Action: consent.Refuse, EffectiveAt: 5, ReceivedAt: 5},
		{ID: id(3), Purpose: "m.e", Action: consent.Grant, EffectiveAt: 5, ReceivedAt: 5},
		{ID: id(4), Purpose: "noticed", Action: consent.Request, EffectiveAt: 5, ReceivedAt: 5},
	})
	if got, want := cat.AllPurposes(&s), []consent.Purpose{"a", "m", "m.e", "m.s", "undeclared"}; !slices.Equal(got, want) {
		t.Errorf("with records: %v, want %v", got, want)
	}
}

// The order key, part by part: each outweighs everything after it.
func TestOrderKey_EachPartOutweighsThoseAfterIt(t *testing.T) {
	small := consent.OrderKey{OrderAt: 5, EventID: id(5), ExpiresAt: 50, Digest: [32]byte{5}}
	for name, larger := range map[string]consent.OrderKey{
		"expressed":              {Expressed: true, OrderAt: 1, EventID: id(1), ExpiresAt: 90, Digest: [32]byte{1}},
		"order_at":               {OrderAt: 6, EventID: id(1), ExpiresAt: 90, Digest: [32]byte{1}},
		"protectiveness":         {OrderAt: 5, Protective: true, EventID: id(1), ExpiresAt: 90, Digest: [32]byte{1}},
		"stage":                  {OrderAt: 5, Stage: 1, EventID: id(1), ExpiresAt: 90, Digest: [32]byte{1}},
		"event_id":               {OrderAt: 5, EventID: id(6), ExpiresAt: 90, Digest: [32]byte{1}},
		"earlier expires_at":     {OrderAt: 5, EventID: id(5), ExpiresAt: 49, Digest: [32]byte{1}},
		"digest":                 {OrderAt: 5, EventID: id(5), ExpiresAt: 50, Digest: [32]byte{6}},
		"protectiveness, stage":  {OrderAt: 5, Protective: true, EventID: id(5), ExpiresAt: 50, Digest: [32]byte{5}},
		"event_id, first byte":   {OrderAt: 5, EventID: consent.UUID{0: 0xff}, ExpiresAt: 90},
		"digest, the last byte":  {OrderAt: 5, EventID: id(5), ExpiresAt: 50, Digest: [32]byte{0: 5, 31: 1}},
		"order_at, far negative": {OrderAt: 1 << 62, EventID: id(1)},
	} {
		if larger.Compare(small) != 1 || small.Compare(larger) != -1 || larger.Compare(larger) != 0 { //nolint:gocritic // a key equals itself
			t.Errorf("%s: %d, %d", name, larger.Compare(small), small.Compare(larger))
		}
	}
	never, ever := small, small
	never.ExpiresAt = 0
	if ever.Compare(never) != 1 || never.Compare(ever) != -1 {
		t.Error("never to expire is earlier than to expire")
	}
}
