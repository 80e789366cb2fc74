package webhook

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

var (
	now    = time.Unix(1_767_225_600, 0)
	body   = []byte(`{"type":"consent.withdrawn"}`)
	secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
	other  = "another secret of enough bytes"
	seed   = "whsk_" + base64.StdEncoding.EncodeToString([]byte("abcdefghijklmnopqrstuvwxyz012345"))
)

func key(t *testing.T, text string) Key {
	t.Helper()
	k, err := ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func signed(t *testing.T, at time.Time, secrets ...string) http.Header {
	t.Helper()
	var keys []Key
	for _, s := range secrets {
		keys = append(keys, key(t, s))
	}
	h := http.Header{}
	Sign(h, keys, "msg_1", at, body)
	return h
}

func TestSign_IsWhatTheReferenceLibraryVerifies(t *testing.T) {
	at := time.Now()
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Verify(body, signed(t, at, secret)); err != nil {
		t.Fatalf("the reference library refuses our signature: %v", err)
	}
	if err := w.Verify(body, signed(t, at, other, secret)); err != nil {
		t.Fatalf("the reference library refuses two signatures: %v", err)
	}
	theirs, err := w.Sign("msg_1", at, body)
	if err != nil {
		t.Fatal(err)
	}
	if ours := signed(t, at, secret).Get(HeaderSignature); ours != theirs {
		t.Fatalf("ours %s, theirs %s", ours, theirs)
	}
}

func TestVerify_TakesEitherSecretDuringARotation(t *testing.T) {
	h := signed(t, now, secret, other)
	for _, s := range []string{secret, other} {
		if err := Verify(h, []Key{key(t, s)}, body, now); err != nil {
			t.Errorf("%s: %v", s[:5], err)
		}
	}
}

func TestVerify_TakesEd25519UnderThePublicKeyAlone(t *testing.T) {
	h := signed(t, now, seed)
	if !strings.HasPrefix(h.Get(HeaderSignature), "v1a,") {
		t.Fatalf("signature %q", h.Get(HeaderSignature))
	}
	private := ed25519.NewKeyFromSeed([]byte("abcdefghijklmnopqrstuvwxyz012345"))
	public := "whpk_" + base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
	if err := Verify(h, []Key{key(t, public)}, body, now); err != nil {
		t.Error(err)
	}
}

func TestVerify_RefusesWhatWasAlteredOrIsOldOrForeign(t *testing.T) {
	k := []Key{key(t, secret)}
	altered := signed(t, now, secret)
	altered.Set(HeaderID, "msg_2")
	for name, test := range map[string]struct {
		header http.Header
		body   []byte
		at     time.Time
		want   error
	}{
		"another body":    {signed(t, now, secret), []byte("{}"), now, ErrSignature},
		"another id":      {altered, body, now, ErrSignature},
		"another secret":  {signed(t, now, other), body, now, ErrSignature},
		"six minutes old": {signed(t, now, secret), body, now.Add(6 * time.Minute), ErrTooOld},
		"from the future": {signed(t, now, secret), body, now.Add(-6 * time.Minute), ErrTooOld},
		"no headers":      {http.Header{}, body, now, ErrHeaders},
	} {
		if err := Verify(test.header, k, test.body, test.at); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func TestParseKey_NeverShowsTheSecretInAnError(t *testing.T) {
	for _, text := range []string{"short", "whsec_!!!", "whsec_c2hvcnQ=", "whsk_c2hvcnQ=", "whpk_c2hvcnQ="} {
		_, err := ParseKey(text)
		if err == nil {
			t.Errorf("%q was taken", text)
		} else if strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}
