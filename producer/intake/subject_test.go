package intake

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/assent-dev/assent/consent"
)

const testKeyHex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func testSubjects(t testing.TB) *Pseudonymiser {
	t.Helper()
	key, err := ParseKey(testKeyHex)
	if err != nil {
		t.Fatal(err)
	}
	return NewPseudonymiser(key)
}

func TestPseudonymise_KeepsWhatIsPseudonymousAndHashesTheRest(t *testing.T) {
	p := testSubjects(t)
	const (
		email = "email-hmac:"
		phone = "phone-hmac:"
		plain = "id-hmac:"
	)
	for _, c := range []struct{ raw, prefix, same string }{
		{"user:42", "user:42", "user:42"},
		{"  user:42\n", "user:42", "user:42"},
		{"jane@shop.example", email, "jane@shop.example"},
		{" Jane@Shop.Example ", email, "jane@shop.example"},
		{"email:Jane@shop.example", email, "jane@shop.example"},
		{"jane:doe@shop.example", email, "doe@shop.example"},
		{"+491701234567", phone, "+491701234567"},
		{"tel:+491701234567", phone, "+491701234567"},
		{"+49 170 1234567", plain, "+49 170 1234567"},
		{"42", plain, "42"},
		{"user:", plain, "user:"},
		{":42", plain, ":42"},
		{"user:jürgen", plain, "user:jürgen"},
		{strings.Repeat("x", 70000), plain, strings.Repeat("x", 70000)},
	} {
		s, hashed := p.Pseudonymise(c.raw)
		if !strings.HasPrefix(string(s), c.prefix) {
			t.Errorf("%.40q became %q, want prefix %q", c.raw, string(s), c.prefix)
		}
		if hashed == (c.prefix == c.same) {
			t.Errorf("%.40q: hashed = %v", c.raw, hashed)
		}
		if !s.Pseudonymous() {
			t.Errorf("%.40q became %q, which is not pseudonymous", c.raw, string(s))
		}
		if same, _ := p.Pseudonymise(c.same); same != s {
			t.Errorf("%.40q and %.40q are two subjects", c.raw, c.same)
		}
		if again, hashed := p.Pseudonymise(string(s)); again != s || hashed {
			t.Errorf("the id of %.40q was hashed again", c.raw)
		}
	}
	if a, _ := p.Pseudonymise("user:jürgen"); string(a) == "user:jürgen" {
		t.Error("characters that an id may not have were kept")
	}
}

func TestPseudonymise_IsHMACSHA256UnderTheKey(t *testing.T) {
	// printf %s jane@shop.example | openssl dgst -sha256 -mac HMAC -macopt hexkey:0001…1f
	const want consent.Subject = "email-hmac:eef7fd4c4c44052479c6b1d9b0077992c09277ed8c1ad9a6cf5b51f7ca32b4a0"
	if got, _ := testSubjects(t).Pseudonymise("jane@shop.example"); got != want {
		t.Errorf("got %q, want %q", string(got), string(want))
	}
}

func TestSubject_RefusesNothingAtAll(t *testing.T) {
	p := testSubjects(t)
	for _, raw := range []string{"", " ", "\t\n"} {
		if s, err := p.Subject(raw); err == nil {
			t.Errorf("%q became %q", raw, string(s))
		}
	}
	if s, err := p.Subject("jane@shop.example"); err != nil || s.Namespace() != consent.NamespaceEmailHMAC {
		t.Errorf("an address became %q, %v", string(s), err)
	}
}

func TestKey_NeverShows(t *testing.T) {
	key, _ := ParseKey(testKeyHex)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", key, "in", struct{ K Key }{key})
	texts := []string{log.String(), fmt.Sprintf("%v %s %q %x %d %#v %+v", key, key, key, key, key, key, struct{ K *Key }{&key})}
	for _, s := range texts {
		if strings.Contains(s, "0001020304") || strings.Contains(s, "1 2 3 4") || strings.Contains(s, "0x1, 0x2") {
			t.Errorf("the key shows: %s", s)
		}
	}
}

func TestParseKey_RefusesWhatIsTooWeakOrNoHex(t *testing.T) {
	for _, s := range []string{"", "secret", testKeyHex[:62], testKeyHex + "00", strings.Repeat("zz", 32), strings.Repeat("00", 32)} {
		if _, err := ParseKey(s); err == nil {
			t.Errorf("%q was accepted", s)
		} else if s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}

func TestKey_FingerprintTellsKeysApartForEver(t *testing.T) {
	one, err := ParseKey(testKeyHex)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ParseKey(strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	// Of an installation's data: a change would refuse every start.
	if got, want := one.Fingerprint(), "a6235d41fb52c001c6b6e6732b5261e68a0b6feeb9e06704903ce1ee6f6d940e"; got != want {
		t.Errorf("fingerprint %s, want %s", got, want)
	}
	if one.Fingerprint() == other.Fingerprint() {
		t.Error("two keys have one fingerprint")
	}
}

func TestLoadOrCreateKey_MakesOneOnceForItsOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subject.key")
	keys := make([]Key, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, k := range keys {
		if k != keys[0] || k == (Key{}) {
			t.Fatal("eight starts at once made different keys")
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("%d files are left, want the key alone", len(entries))
	}
}

func TestLoadOrCreateKey_NeverReplacesADamagedKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "subject.key")
	if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names the file", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "torn" {
		t.Error("the file was replaced")
	}
}
