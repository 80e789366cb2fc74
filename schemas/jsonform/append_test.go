package jsonform

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func id(s string) consent.UUID {
	u, err := consent.ParseUUID(s)
	if err != nil {
		panic(err)
	}
	return u
}

func instant(s string) consent.Instant {
	i, err := consent.ParseInstant(s)
	if err != nil {
		panic(err)
	}
	return i
}

// fullEvent sets every field.
func fullEvent() consent.Event {
	at := instant("2026-03-04T05:06:07.089Z")
	u := id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
	return consent.Event{
		ID: u, InteractionID: id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c"), RequestID: id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5d"),
		Tenant: "default", Subject: "user:a1b2c3", Purpose: "marketing.email", Action: consent.Grant, Property: "shop.example",
		OccurredAt: at, SentAt: at + 40, ReceivedAt: at + 95, EffectiveAt: at, Channel: consent.Web, Source: "shop-web/3.2", Jurisdiction: "US-CA",
		Notice: consent.Notice{ID: "newsletter", Version: "2026-01", Language: "de", SHA256: [32]byte{0xab, 31: 0x01}},
		Evidence: consent.Evidence{Method: consent.Checkbox, Control: consent.Save, ControlDefault: consent.DefaultOff, Bundled: true, Conditional: true, GPC: true,
			Reference: "call/2026/17", PageURL: "https://shop.example/?a=<b>&c", UserAgent: "Mozilla/5.0 \"x\"\n", IP: "192.0.2.17", TCString: "CP", GPPString: "DB", Token: "t"},
		Actor: consent.Actor{Type: consent.ActorGuardian, ID: "g:1"},
		Policy: &consent.Policy{Version: "3f9c", Model: consent.OptIn, LegalBasis: consent.BasisConsent, Scope: consent.ScopePerson, SaleOrShare: true,
			ExpiresAt: at + 63_072_000_000, DoubleOptIn: true, ConfirmBy: at + 1000, HistoryImport: true, Covers: []consent.Purpose{"marketing.email", "marketing.email.weekly"}},
		Confirms: &consent.EventRef{EventID: u, EffectiveAt: at}, Invalidates: &consent.EventRef{EventID: u, EffectiveAt: at}, LinkTo: "user:b",
		Carried: &consent.Carried{Subject: "device:9f", EventID: u, EffectiveAt: at, Via: []consent.Subject{"device:9f"}}, Test: true,
	}
}

func fullChange() consent.Change {
	at := instant("2026-03-04T05:06:07.089Z")
	return consent.Change{
		ID: id("5b0d9a52-8f52-5a6e-9d0f-000000000001"), Tenant: "default", Subject: "user:42", Purpose: "marketing.email", From: consent.Granted, To: consent.Withdrawn,
		AllowedBefore: consent.Allowed, AllowedAfter: consent.Denied, Withdrawal: true, EffectiveAt: at, EventID: id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"),
		Version: 2, Timestamp: at + 111, ReceivedAt: at + 111, Jurisdiction: "DE", Test: true,
	}
}

func fullDelivery() schemas.Delivery {
	at := instant("2026-03-04T05:06:08.000Z")
	return schemas.Delivery{
		ID: id("5b0d9a52-8f52-5a6e-9d0f-000000000002"), ChangeID: id("5b0d9a52-8f52-5a6e-9d0f-000000000001"), Tenant: "default", Subject: "user:42", Purpose: "marketing.email",
		Version: 2, Withdrawal: true, Downstream: "crm", WebhookID: "5b0d9a52-8f52-5a6e-9d0f-000000000001-crm", Attempt: 3, StartedAt: at, DurationMillis: 15000,
		Outcome: schemas.InProgress, HTTPStatus: 503, Reason: "unavailable", NextAttemptAt: at + 1, DeadlineAt: at + 2, ChangeReceivedAt: at + 3, Test: true,
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".json")
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.TrimSuffix(want, []byte("\n"))) {
		t.Errorf("%s: what receivers read changed:\n got %s\nwant %s", name, got, want)
	}
}

func TestForms_StayAsTheyAre(t *testing.T) {
	e, c, d := fullEvent(), fullChange(), fullDelivery()
	golden(t, "event", AppendEvent(nil, &e))
	golden(t, "change", AppendChange(nil, &c))
	golden(t, "delivery", AppendDelivery(nil, &d))
	granted := consent.Change{ID: c.ID, Tenant: "default", Subject: "user:42", Purpose: "analytics", From: consent.None, To: consent.Granted, AllowedAfter: consent.Allowed, Version: 1, Timestamp: c.Timestamp}
	golden(t, "change_granted", AppendChange(nil, &granted))
	bare := consent.Event{Subject: "user:42", Purpose: "*", Action: consent.Withdraw}
	golden(t, "event_bare", AppendEvent(nil, &bare))
}

// The JSON forms have the fields of the .avsc files, in their order.
func TestForms_HaveTheFieldsOfTheSchemas(t *testing.T) {
	e, c, d := fullEvent(), fullChange(), fullDelivery()
	for name, form := range map[string][]byte{
		"assent.v1.ConsentEvent":    AppendEvent(nil, &e),
		"assent.v1.ConsentChange":   AppendChange(nil, &c),
		"assent.v1.DeliveryAttempt": AppendDelivery(nil, &d),
	} {
		var source any
		for _, s := range schemas.All() {
			if s.Name == name {
				if err := json.Unmarshal(s.Source, &source); err != nil {
					t.Fatal(err)
				}
			}
		}
		var tree map[string]any
		if err := json.Unmarshal(form, &tree); err != nil {
			t.Fatal(err)
		}
		records := map[string]map[string]any{}
		sameFields(t, name, source, tree, records)
	}
}

// sameFields holds an object's fields against the record type that it is of.
func sameFields(t *testing.T, path string, typ, value any, records map[string]map[string]any) {
	t.Helper()
	if union, ok := typ.([]any); ok {
		typ = union[1]
	}
	def, ok := typ.(map[string]any)
	if name, isName := typ.(string); isName {
		def, ok = records[name], records[name] != nil
	}
	if !ok || def["type"] != "record" {
		return
	}
	records[def["name"].(string)] = def
	object, ok := value.(map[string]any)
	if !ok {
		t.Errorf("%s is no object", path)
		return
	}
	want := map[string]bool{}
	for _, f := range def["fields"].([]any) {
		field := f.(map[string]any)
		name := field["name"].(string)
		want[name] = true
		if _, ok := object[name]; !ok {
			t.Errorf("%s.%s is missing", path, name)
			continue
		}
		sameFields(t, path+"."+name, field["type"], object[name], records)
	}
	for name := range object {
		if !want[name] {
			t.Errorf("%s.%s is no field of the schema", path, name)
		}
	}
}

// And the parser knows exactly them.
func TestParseEvent_KnowsTheFieldsOfTheSchema(t *testing.T) {
	e := fullEvent()
	want := e
	want.ReceivedAt, want.EffectiveAt, want.Policy, want.Carried = 0, 0, nil, nil
	got, problems, err := ParseEvent(AppendEvent(nil, &e))
	if err != nil || summary(problems) != "stamp received_at, stamp effective_at, stamp policy, stamp carried" || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, %v\n got %+v\nwant %+v", problems, err, got, want)
	}
}

func TestAppendQuoted_EscapesAsEncodingJSONDoes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	alphabet := []string{"a", "é", "日", "🙂", "\"", "\\", "\n", "\r", "\t", "\b", "\f", "\x00", "\x1f", "\x7f", "\u2028", "\u2029", "<", "&", "\xff", "\xe2\x80", "\uFFFD", "/"}
	for range 5000 {
		var s strings.Builder
		for range r.IntN(12) {
			s.WriteString(alphabet[r.IntN(len(alphabet))])
		}
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(s.String()); err != nil {
			t.Fatal(err)
		}
		if got := appendQuoted(nil, s.String()); string(got)+"\n" != want.String() {
			t.Fatalf("%q: got %s, want %s", s.String(), got, want.String())
		}
	}
}

func TestAppend_LeavesWhatIsThere(t *testing.T) {
	e, c, d := consent.Event{Test: true}, consent.Change{}, schemas.Delivery{}
	for _, got := range []string{string(AppendEvent([]byte("["), &e)), string(AppendChange([]byte("["), &c)), string(AppendDelivery([]byte("["), &d))} {
		if !strings.HasPrefix(got, "[{") || !json.Valid([]byte(got+"]")) {
			t.Errorf("%s", got)
		}
	}
	if got := string(AppendEvent(nil, &consent.Event{})); got != "{}" {
		t.Errorf("%s", got)
	}
}

func BenchmarkParseEvent(b *testing.B) {
	e := fullEvent()
	e.Policy, e.Carried, e.Confirms, e.Invalidates, e.ReceivedAt, e.EffectiveAt = nil, nil, nil, nil, 0, 0
	data := AppendEvent(nil, &e)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseEvent(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	e := fullEvent()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendEvent(buf[:0], &e)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkAppendChange(b *testing.B) {
	c := fullChange()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendChange(buf[:0], &c)
	}
	b.SetBytes(int64(len(buf)))
}
