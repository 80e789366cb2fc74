package confirmation

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas"
)

const (
	seed    = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	public  = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8" // of seed, by another implementation
	asked   = consent.Instant(1_770_000_000_000)
	clicked = asked + 3_600_000
	window  = 7 * 24 * time.Hour
	subject = "email-hmac:5f0e"
	purpose = consent.Purpose("marketing.email")
)

func key(t testing.TB) SigningKey {
	t.Helper()
	k, err := ParseSigningKey(seed)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func grant() consent.Event {
	return consent.Event{
		ID: consent.UUID{1, 15: 9}, InteractionID: consent.UUID{2}, RequestID: consent.UUID{3}, Tenant: "shop", Subject: subject, Purpose: purpose, Action: consent.Grant,
		Property: "shop.example", OccurredAt: asked - 5, SentAt: asked, ReceivedAt: asked, EffectiveAt: asked - 5, Channel: consent.Web, Source: "shop/1", Jurisdiction: "DE",
		Notice:   consent.Notice{ID: "newsletter", Version: "3", Language: "de", SHA256: [32]byte{7}},
		Evidence: consent.Evidence{Method: consent.Checkbox, ControlDefault: consent.DefaultOff, IP: "192.0.2.1", UserAgent: "browser", PageURL: "https://shop.example/?email=jane"},
		Policy: &consent.Policy{Version: "v1", Model: consent.OptIn, LegalBasis: consent.BasisConsent, Scope: consent.ScopePerson, ExpiresAt: asked.Add(700 * 24 * time.Hour),
			DoubleOptIn: true, ConfirmBy: asked.Add(window), Covers: []consent.Purpose{purpose}},
	}
}

func mint(t testing.TB, k SigningKey, g consent.Event) string {
	t.Helper()
	token, err := Mint(k, &g)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestCheck_GivesTheConfirmThatStandsByItself(t *testing.T) {
	g := grant()
	token := mint(t, key(t), g)
	c, err := Check([]VerifyingKey{key(t).Public()}, token, clicked)
	if err != nil {
		t.Fatal(err)
	}
	if c.Action != consent.Confirm || c.Tenant != g.Tenant || c.Subject != g.Subject || c.Purpose != g.Purpose || c.Notice != g.Notice || c.Jurisdiction != g.Jurisdiction {
		t.Errorf("confirm %+v", c)
	}
	if *c.Confirms != (consent.EventRef{EventID: g.ID, EffectiveAt: g.EffectiveAt}) || c.Evidence != (consent.Evidence{Method: consent.Checkbox, Token: token}) {
		t.Errorf("confirms %+v with evidence %+v", c.Confirms, c.Evidence)
	}
	if c.EffectiveAt != clicked || c.ReceivedAt != clicked || c.OccurredAt != clicked || c.ID.IsZero() || c.ID == g.ID {
		t.Errorf("effective %d, received %d, id %s", c.EffectiveAt, c.ReceivedAt, c.ID)
	}
	if fmt.Sprintf("%+v", *c.Policy) != fmt.Sprintf("%+v", *g.Policy) {
		t.Errorf("policy %+v, want the grant's", *c.Policy)
	}
	if _, err := schemas.EncodeEvent(nil, &c); err != nil {
		t.Errorf("the confirm cannot be written: %v", err)
	}
	again, _ := Check([]VerifyingKey{key(t).Public()}, token, clicked)
	other, _ := Check([]VerifyingKey{key(t).Public()}, token, clicked+1)
	if again.ID != c.ID || other.ID == c.ID {
		t.Error("one click is one confirm, and another is another")
	}
	// And it completes the grant.
	s, _, _ := consent.Fold(consent.State{}, &g)
	_, changes, _ := consent.Fold(s, &c)
	if len(changes) != 1 || changes[0].From != consent.Pending || changes[0].To != consent.Granted || changes[0].EffectiveAt != clicked {
		t.Errorf("changes %+v", changes)
	}
}

func TestMint_TellsNoMoreThanItMust(t *testing.T) {
	token := mint(t, key(t), grant())
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || token != url.QueryEscape(token) || len(token) > 600 {
		t.Errorf("%d characters, URL-safe %t, %v", len(token), token == url.QueryEscape(token), err)
	}
	for _, secret := range []string{"192.0.2.1", "browser", "jane"} {
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("the token holds %s", secret)
		}
	}
	if again := mint(t, key(t), grant()); again != token {
		t.Error("one grant gives two tokens")
	}
}

func TestMint_RefusesWhatNeedsNoConfirmationOrCannotRunOut(t *testing.T) {
	for name, change := range map[string]func(*consent.Event){
		"a refusal":             func(e *consent.Event) { e.Action = consent.Refuse },
		"no id":                 func(e *consent.Event) { e.ID = consent.UUID{} },
		"not stamped":           func(e *consent.Event) { e.Policy = nil },
		"no time":               func(e *consent.Event) { e.EffectiveAt = 0 },
		"needs no confirmation": func(e *consent.Event) { e.Policy.DoubleOptIn = false },
		"no window":             func(e *consent.Event) { e.Policy.ConfirmBy = 0 },
		"an address":            func(e *consent.Event) { e.Subject = "jane@shop.example" },
		"too long for a link":   func(e *consent.Event) { e.Source = strings.Repeat("x", maxTokenBytes) },
		"no text":               func(e *consent.Event) { e.Source = "\xff" },
	} {
		g := grant()
		change(&g)
		if token, err := Mint(key(t), &g); err == nil || token != "" || strings.Contains(err.Error(), "jane") || strings.Contains(err.Error(), subject) {
			t.Errorf("%s: %q, %v", name, token, err)
		}
	}
	g := grant()
	if _, err := Mint(SigningKey{}, &g); !errors.Is(err, errNoKey) {
		t.Errorf("without a key: %v", err)
	}
}

func TestCheck_HoldsUntilConfirmByAndNoLonger(t *testing.T) {
	keys, token := []VerifyingKey{key(t).Public()}, mint(t, key(t), grant())
	if _, err := Check(keys, token, asked.Add(window)); err != nil {
		t.Errorf("at confirm_by: %v", err)
	}
	if _, err := Check(keys, token, asked.Add(window)+1); !errors.Is(err, ErrExpired) {
		t.Errorf("after confirm_by: %v", err)
	}
	if c, err := Check(keys, token, asked-1000); err != nil || c.EffectiveAt != asked-5 {
		t.Errorf("before the grant, by a clock that went back: effective %d, %v", c.EffectiveAt, err)
	}
}

func TestCheck_AcceptsTheKeyBeforeDuringAChangeAndNoOther(t *testing.T) {
	old := key(t)
	next, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := NewSigningKey()
	fromOld, fromNext := mint(t, old, grant()), mint(t, next, grant())
	both := []VerifyingKey{next.Public(), old.Public()}
	for _, token := range []string{fromOld, fromNext} {
		if _, err := Check(both, token, clicked); err != nil {
			t.Errorf("during the change: %v", err)
		}
	}
	for name, keys := range map[string][]VerifyingKey{"after the change": {next.Public()}, "another key": {stranger.Public()}, "no key": nil, "an empty key": {{}}} {
		if _, err := Check(keys, fromOld, clicked); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A stranger cannot sign in the name of a key.
	raw, _ := base64.RawURLEncoding.DecodeString(mint(t, stranger, grant()))
	id := old.Public().id()
	copy(raw[1:], id[:])
	if _, err := Check(both, base64.RawURLEncoding.EncodeToString(raw), clicked); !errors.Is(err, ErrForged) {
		t.Errorf("signed by a stranger: %v", err)
	}
}

func TestCheck_RefusesEveryPrefixAndEveryAlteredBit(t *testing.T) {
	keys, token := []VerifyingKey{key(t).Public()}, mint(t, key(t), grant())
	for n := range len(token) {
		if _, err := Check(keys, token[:n], clicked); err == nil {
			t.Fatalf("the first %d characters pass", n)
		}
	}
	raw, _ := base64.RawURLEncoding.DecodeString(token)
	for i := range len(raw) * 8 {
		altered := bytes.Clone(raw)
		altered[i/8] ^= 1 << (i % 8)
		if _, err := Check(keys, base64.RawURLEncoding.EncodeToString(altered), clicked); err == nil {
			t.Fatalf("bit %d can be altered", i)
		}
	}
	// One token has one text: nobody can write it otherwise.
	for name, other := range map[string]string{
		"padding": token + "=", "a line end": token + "\n", "a blank": token[:9] + " " + token[9:], "standard alphabet": strings.ReplaceAll(strings.ReplaceAll(token, "-", "+"), "_", "/"),
		"more": token + "AAAA", "huge": token + strings.Repeat("A", maxTokenBytes), "another last character": token[:len(token)-1] + next(token[len(token)-1]),
	} {
		if other == token {
			continue
		}
		if _, err := Check(keys, other, clicked); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}

// next is a character beside c: where the last one has bits to spare, only they differ.
func next(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func TestErrors_NeverTellWhoseTokenItIs(t *testing.T) {
	for _, err := range []error{ErrMalformed, ErrUnknown, ErrForged, ErrExpired} {
		if text := err.Error(); !strings.Contains(text, ": ") || strings.Contains(text, subject) {
			t.Errorf("%q says not what to do", text)
		}
	}
}

func TestKeys_ComeApartAndTheSecretNeverShows(t *testing.T) {
	k := key(t)
	if got := k.Public().String(); got != public {
		t.Errorf("the public key is %s, want %s", got, public)
	}
	if again, err := ParseSigningKey(" " + k.Hex() + "\n"); err != nil || again.Public().String() != public {
		t.Errorf("a key written and read: %v", err)
	}
	if v, err := ParseVerifyingKey(public + "\n"); err != nil || v.String() != public {
		t.Errorf("a public key written and read: %v", err)
	}
	for _, bad := range []string{"", "00", seed[:62], seed + "00", strings.Repeat("z", 64), strings.Repeat("0", 64)} {
		if _, err := ParseSigningKey(bad); err == nil || strings.Contains(err.Error(), "0001") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "00", public[:62], strings.Repeat("z", 64)} {
		if _, err := ParseVerifyingKey(bad); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", k)
	shown := log.String() + fmt.Sprintf("%v %s %x %d %#v %+v %q", k, k, k, k, k, struct{ K SigningKey }{k}, k)
	if strings.Contains(shown, "00010203") || strings.Contains(shown, "1 2 3") || strings.Contains(shown, "0x1, 0x2") {
		t.Errorf("the key shows: %s", shown)
	}
	if (SigningKey{}).Hex() != "" || (SigningKey{}).Public().String() != "" {
		t.Error("no key has a text")
	}
}

func FuzzCheck_TakesOnlyWhatWasMinted(f *testing.F) {
	k := key(f)
	good := mint(f, k, grant())
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add("")
	f.Add(strings.Repeat("A", 200))
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := Check([]VerifyingKey{k.Public()}, token, clicked); err == nil && token != good {
			t.Errorf("a token that was not made here passes: %q", token)
		}
	})
}

func TestCheck_RandomGrantsComeBackAsTheyWere(t *testing.T) {
	n := uint64(time.Now().UnixNano())
	t.Logf("seed %d", n)
	r := rand.New(rand.NewPCG(n, 0))
	for range 500 {
		g := grant()
		g.ID[r.IntN(16)]++
		g.EffectiveAt -= consent.Instant(r.IntN(1000))
		g.Test = r.IntN(2) == 0
		g.Policy.ExpiresAt = consent.Instant(r.IntN(2)) * (clicked + consent.Instant(r.IntN(1_000_000)))
		g.Notice.Version = strings.Repeat("9", 1+r.IntN(9))
		c, err := Check([]VerifyingKey{key(t).Public()}, mint(t, key(t), g), clicked)
		if err != nil || c.Confirms.EventID != g.ID || c.Confirms.EffectiveAt != g.EffectiveAt || c.Test != g.Test || c.Policy.ExpiresAt != g.Policy.ExpiresAt || c.Notice != g.Notice {
			t.Fatalf("%+v became %+v, %v", g, c, err)
		}
	}
}
