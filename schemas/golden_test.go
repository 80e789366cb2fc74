package schemas

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func mustID(s string) consent.UUID {
	u, err := consent.ParseUUID(s)
	if err != nil {
		panic(err)
	}
	return u
}

func mustInstant(s string) consent.Instant {
	i, err := consent.ParseInstant(s)
	if err != nil {
		panic(err)
	}
	return i
}

func hashOf(b byte) (h [32]byte) {
	for i := range h {
		h[i] = b
	}
	return h
}

// typicalEvent is a grant as the gateway writes it.
func typicalEvent() consent.Event {
	at := mustInstant("2026-03-04T05:06:07.089Z")
	return consent.Event{
		ID:            mustID("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"),
		InteractionID: mustID("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c"),
		Tenant:        "default", Subject: "user:a1b2c3d4e5f60718", Purpose: "marketing.email", Action: consent.Grant,
		Property: "shop.example", OccurredAt: at, SentAt: at + 40, ReceivedAt: at + 95, EffectiveAt: at,
		Channel: consent.Web, Source: "shop-web/3.2", Jurisdiction: "DE",
		Notice:   consent.Notice{ID: "newsletter", Version: "2026-01", Language: "de", SHA256: hashOf(0xab)},
		Evidence: consent.Evidence{Method: consent.Checkbox, Control: consent.Save, ControlDefault: consent.DefaultOff, PageURL: "https://shop.example/preferences", UserAgent: "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0", IP: "192.0.2.17"},
		Policy:   &consent.Policy{Version: "3f9c2b7a61d0e845", Model: consent.OptIn, LegalBasis: consent.BasisConsent, Scope: consent.ScopePerson, ExpiresAt: at + 63_072_000_000, Covers: []consent.Purpose{"marketing.email"}},
	}
}

// fullEvent sets every field.
func fullEvent() consent.Event {
	e := typicalEvent()
	e.RequestID = mustID("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5d")
	e.Action = consent.Invalidate
	e.Evidence = consent.Evidence{
		Method: consent.ContinuedUse, Control: consent.ToggleControl, ControlDefault: consent.DefaultOn, Bundled: true, Conditional: true, GPC: true,
		Reference: "call/2026/17", PageURL: "https://shop.example/ü", UserAgent: "app", IP: "2001:db8::1", TCString: "CP", GPPString: "DB", Token: "t",
	}
	e.Actor = consent.Actor{Type: consent.ActorAgent, ID: "agent:7"}
	e.Policy = &consent.Policy{
		Version: "v", Model: consent.OptOut, LegalBasis: consent.BasisLegitimateInterests, Scope: consent.ScopeDevice, SaleOrShare: true,
		ExpiresAt: 1, DoubleOptIn: true, ConfirmBy: -1, HistoryImport: true, Covers: []consent.Purpose{"marketing", "marketing.email"},
	}
	e.Confirms = &consent.EventRef{EventID: e.RequestID, EffectiveAt: 2}
	e.Invalidates = &consent.EventRef{EventID: e.InteractionID, EffectiveAt: 3}
	e.LinkTo = "user:b"
	e.Carried = &consent.Carried{Subject: "device:9f", EventID: e.ID, EffectiveAt: 4, Via: []consent.Subject{"device:9f", "user:a"}}
	e.Test = true
	return e
}

func minimalEvent() consent.Event {
	return consent.Event{Tenant: "default", Subject: "user:42", Purpose: "analytics", Action: consent.Withdraw}
}

func goldenRecord(a consent.Action) *consent.Record {
	return &consent.Record{
		OrderKey: consent.OrderKey{Expressed: true, OrderAt: mustInstant("2026-03-04T05:06:07.089Z"), Protective: true, Stage: 1, EventID: mustID("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"), ExpiresAt: mustInstant("2028-03-04T05:06:07.089Z"), Digest: hashOf(0xcd)},
		Action:   a, EffectiveAt: mustInstant("2026-03-04T05:06:07.089Z"), ReceivedAt: mustInstant("2026-03-04T05:06:07.200Z"), Names: mustID("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c"), Carried: true,
		Channel: consent.API, Jurisdiction: "US-CA", Model: consent.OptOut, LegalBasis: consent.BasisConsent, NoticeID: "n", NoticeVersion: "1", PolicyVersion: "p",
	}
}

func goldenRow() StateRow {
	no := fullEvent()
	no.Digest = hashOf(0xcd)
	return StateRow{Tenant: "shop-de", Subject: "user:a1b2c3", Test: true, InputOffset: 1042, Row: consent.Row{
		Purpose: "ads.personalisation", Yes: goldenRecord(consent.Confirm), Pending: goldenRecord(consent.Grant), No: goldenRecord(consent.Refuse), Ended: goldenRecord(consent.Invalidate),
		Named:   &consent.Named{Records: []*consent.Record{goldenRecord(consent.Invalidate)}},
		NoEvent: stored(no), Announced: consent.Verdict{Status: consent.Invalidated, Allowed: consent.Denied}, Version: 7,
	}}
}

func goldenRoot() StateRow {
	return StateRow{Tenant: "shop-de", Subject: "user:a1b2c3", InputOffset: 1 << 40, Row: consent.Row{Purpose: consent.Root}, Whole: &consent.Whole{
		Clock: mustInstant("2026-03-04T05:06:07.200Z"), Jurisdictions: []consent.Jurisdiction{"DE", "US-CA"}, VersionFloor: 9, Erased: goldenRecord(consent.Erase),
		Links: []consent.LinkRecord{{To: "user:b", Linked: goldenRecord(consent.Link), Unlinked: goldenRecord(consent.Unlink)}, {To: "user:c"}},
	}}
}

func goldenChange() consent.Change {
	return consent.Change{
		ID: mustID("5b0d9a52-8f52-5a6e-9d0f-000000000001"), Tenant: "default", Subject: "user:42", Purpose: "marketing.email", From: consent.Granted, To: consent.Withdrawn,
		AllowedBefore: consent.Allowed, AllowedAfter: consent.Denied, Withdrawal: true, EffectiveAt: mustInstant("2026-03-04T05:06:07.089Z"), EventID: mustID("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"),
		Version: 2, Timestamp: mustInstant("2026-03-04T05:06:07.200Z"), ReceivedAt: mustInstant("2026-03-04T05:06:07.200Z"), Jurisdiction: "DE",
	}
}

func goldenDelivery() Delivery {
	return Delivery{
		ID: mustID("5b0d9a52-8f52-5a6e-9d0f-000000000002"), ChangeID: mustID("5b0d9a52-8f52-5a6e-9d0f-000000000001"), Tenant: "default", Subject: "user:42", Purpose: "marketing.email",
		Version: 2, Withdrawal: true, Downstream: "crm", WebhookID: "5b0d9a52-8f52-5a6e-9d0f-000000000001-crm", Attempt: 3, StartedAt: mustInstant("2026-03-04T05:06:08.000Z"), DurationMillis: 15000,
		Outcome: Retrying, HTTPStatus: 503, Reason: "unavailable", NextAttemptAt: mustInstant("2026-03-04T05:08:08.000Z"), DeadlineAt: mustInstant("2026-03-18T05:06:07.200Z"), ChangeReceivedAt: mustInstant("2026-03-04T05:06:07.200Z"),
	}
}

func goldenDeadLetter() DeadLetter {
	return DeadLetter{
		Topic: "consent.intake", Partition: 3, Offset: 1042, Code: "affirmative,informed", Reason: "event breaks affirmative (evidence.method), informed (notice.id)", Role: "gateway", Downstream: "crm",
		At: mustInstant("2026-03-04T05:06:07.200Z"), Key: []byte("default|user:42"), Value: []byte{0xC3, 0x01, 0x00}, Headers: []Header{{"ce_id", []byte("1")}, {"empty", []byte{}}, {"null", nil}}, Partial: true,
	}
}

// golden holds bytes against a file; with -rewrite it writes the file.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".hex")
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, wrapHex(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := readHex(t, path)
	if !bytes.Equal(got, want) {
		t.Errorf("%s: bytes on the wire changed: readers of old records will not understand them\n got %x\nwant %x", name, got, want)
	}
	return want
}

// wrapHex writes hex in lines of 32 bytes.
func wrapHex(b []byte) []byte {
	var out bytes.Buffer
	for len(b) > 0 {
		n := min(32, len(b))
		out.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return out.Bytes()
}

func readHex(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sameGolden[T any](t *testing.T, name string, v T, encode func([]byte, *T) ([]byte, error), decode func([]byte) (T, error), settle func(*T)) {
	t.Helper()
	b, err := encode(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(golden(t, name, b))
	if err != nil {
		t.Fatal(err)
	}
	if settle != nil {
		settle(&v)
	}
	if !reflect.DeepEqual(got, v) {
		t.Errorf("%s:\n got %+v\nwant %+v", name, got, v)
	}
}

func TestBytes_StayAsTheyAre(t *testing.T) {
	sameGolden(t, "event_minimal", minimalEvent(), EncodeEvent, DecodeEvent, settleEvent)
	sameGolden(t, "event_typical", typicalEvent(), EncodeEvent, DecodeEvent, settleEvent)
	sameGolden(t, "event_full", fullEvent(), EncodeEvent, DecodeEvent, settleEvent)
	sameGolden(t, "state_row", goldenRow(), EncodeState, DecodeState, nil)
	sameGolden(t, "state_root", goldenRoot(), EncodeState, DecodeState, nil)
	sameGolden(t, "change", goldenChange(), EncodeChange, DecodeChange, nil)
	sameGolden(t, "delivery", goldenDelivery(), EncodeDelivery, DecodeDelivery, nil)
	sameGolden(t, "deadletter", goldenDeadLetter(), EncodeDeadLetter, DecodeDeadLetter, nil)

	full := fullEvent()
	digest := EventDigest(&full)
	golden(t, "digest_full", digest[:])
	golden(t, "claims_full", EventClaims(&full))
}

// The files of testdata/fastavro were written by write.py there, with fastavro
// and the .avsc files alone.
func TestBytes_AreThoseOfAnotherImplementation(t *testing.T) {
	for _, name := range []string{"event_minimal", "event_typical", "event_full", "state_row", "state_root", "change", "delivery", "deadletter"} {
		ours := readHex(t, filepath.Join("testdata", "golden", name+".hex"))
		theirs := readHex(t, filepath.Join("testdata", "fastavro", name+".hex"))
		if !bytes.Equal(ours, theirs) {
			t.Errorf("%s:\n  ours %x\ntheirs %x", name, ours, theirs)
		}
	}
	// A publisher that sets nothing but what it must.
	e, err := DecodeIntakeEvent(readHex(t, filepath.Join("testdata", "fastavro", "publisher_minimal.hex")))
	if want := minimalEvent(); err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("got %+v, %v", e, err)
	}
}
