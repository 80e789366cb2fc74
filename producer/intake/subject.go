package intake

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/assent-dev/assent/consent"
)

// Key is the secret under which raw identifiers become pseudonymous. Who
// has it can find out whether an address is on record; who loses it can no
// longer find the subjects that were made with it. It never shows in a log.
type Key struct{ secret [keyBytes]byte }

const keyBytes = 32

var errKey = fmt.Errorf("a subject key is %d hex digits (%d random bytes): make one with openssl rand -hex %d", 2*keyBytes, keyBytes, keyBytes)

// ParseKey reads 64 hex digits; blanks around them are cut off.
func ParseKey(s string) (Key, error) {
	var k Key
	s = strings.TrimSpace(s)
	if len(s) != 2*keyBytes {
		return k, errKey
	}
	if _, err := hex.Decode(k.secret[:], []byte(s)); err != nil {
		return Key{}, errKey
	}
	if k == (Key{}) {
		return k, errKey
	}
	return k, nil
}

// String is redacted.
func (Key) String() string { return "subject key (hidden)" }

// GoString is redacted.
func (k Key) GoString() string { return k.String() }

// Format is redacted under every verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue is redacted.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Fingerprint tells keys apart and gives none away: the hex HMAC-SHA256 of a fixed
// text. It may be kept beside the data that was written under the key.
func (k Key) Fingerprint() string {
	mac := hmac.New(sha256.New, k.secret[:])
	mac.Write([]byte("assent subject key"))
	return hex.EncodeToString(mac.Sum(nil))
}

// LoadOrCreateKey reads the key in the file at path. Where there is none, it
// makes one: 32 random bytes as hex, readable by its owner only. The file is on
// disk before the key is used, since subjects that were made with a lost key
// could never be found again; of two processes that make it at once, one wins
// and both use its key. The folder must exist.
func LoadOrCreateKey(path string) (Key, error) {
	k, err := LoadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := createKey(path); err != nil {
		return Key{}, fmt.Errorf("make subject key %s: %w", path, err)
	}
	return LoadKey(path)
}

// LoadKey reads the key in the file at path, and never makes one.
func LoadKey(path string) (Key, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("read subject key: %w", err)
	}
	k, err := ParseKey(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w; never replace a key that was in use: the subjects made with it are lost with it", path, err)
	}
	return k, nil
}

// createKey writes a new key beside path and links it into place: a link never
// replaces what is there.
func createKey(path string) error {
	var secret [keyBytes]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".subject-key-*") // made with 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // the link is what stays
	_, err = fmt.Fprintf(f, "%x\n", secret)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Pseudonymiser makes subject ids out of raw identifiers: the same one always
// gives the same id, and no id can be turned back without the key.
type Pseudonymiser struct{ key Key }

// NewPseudonymiser makes a Pseudonymiser under key.
func NewPseudonymiser(key Key) *Pseudonymiser { return &Pseudonymiser{key} }

// Pseudonymise trims raw, and keeps it when it is a pseudonymous id. Else it
// gives a namespace and the hex HMAC-SHA256 of
//
//	email-hmac  the address in lower case; a namespace before it is left out, so
//	            that email:Jane@shop.example and jane@shop.example are one subject
//	phone-hmac  '+' and digits; a namespace before it is left out too
//	id-hmac     everything else, as it stands
//
// Source: semantics.md, section 4, rule pseudonymous.
func (p *Pseudonymiser) Pseudonymise(raw string) (s consent.Subject, hashed bool) {
	raw = strings.TrimSpace(raw)
	if s = consent.Subject(raw); s.Pseudonymous() {
		return s, false
	}
	namespace, value := consent.NamespaceIDHMAC, raw
	bare := raw
	if ns, v, ok := strings.Cut(raw, ":"); ok && ns != "" && !strings.Contains(ns, "@") {
		bare = strings.TrimSpace(v)
	}
	switch {
	case strings.Contains(bare, "@"):
		namespace, value = consent.NamespaceEmailHMAC, strings.ToLower(bare)
	case consent.IsPhoneNumber(bare):
		namespace, value = consent.NamespacePhoneHMAC, bare
	}
	mac := hmac.New(sha256.New, p.key.secret[:])
	mac.Write([]byte(value))
	return consent.Subject(namespace + ":" + hex.EncodeToString(mac.Sum(nil))), true
}

// Subject is Pseudonymise for queries: they hash as intake does, so that who
// asks with an address finds what was said with it. Empty is an error.
func (p *Pseudonymiser) Subject(raw string) (consent.Subject, error) {
	if strings.TrimSpace(raw) == "" {
		return "", errors.New("name a subject")
	}
	s, _ := p.Pseudonymise(raw)
	return s, nil
}
