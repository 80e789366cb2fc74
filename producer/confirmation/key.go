package confirmation

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// SigningKey makes tokens. It never shows in a log.
type SigningKey struct{ private ed25519.PrivateKey }

// VerifyingKey is the public half of a SigningKey: it checks tokens.
type VerifyingKey struct{ public ed25519.PublicKey }

var (
	errSigningKey   = fmt.Errorf("a confirmation key is %d hex digits (%d random bytes): make one with openssl rand -hex %d", 2*ed25519.SeedSize, ed25519.SeedSize, ed25519.SeedSize)
	errVerifyingKey = fmt.Errorf("a public confirmation key is %d hex digits", 2*ed25519.PublicKeySize)
)

// ParseSigningKey reads the 64 hex digits of an Ed25519 seed; blanks around them
// are cut off.
func ParseSigningKey(s string) (SigningKey, error) {
	seed, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil || len(seed) != ed25519.SeedSize || [ed25519.SeedSize]byte(seed) == [ed25519.SeedSize]byte{} {
		return SigningKey{}, errSigningKey
	}
	return SigningKey{ed25519.NewKeyFromSeed(seed)}, nil
}

// NewSigningKey draws a key.
func NewSigningKey() (SigningKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return SigningKey{}, fmt.Errorf("make a confirmation key: %w", err)
	}
	return SigningKey{private}, nil
}

// Hex gives the seed as ParseSigningKey reads it: for the file that keeps it.
func (k SigningKey) Hex() string {
	if len(k.private) == 0 {
		return ""
	}
	return hex.EncodeToString(k.private.Seed())
}

// Public gives the half that checks.
func (k SigningKey) Public() VerifyingKey {
	if len(k.private) == 0 {
		return VerifyingKey{}
	}
	return VerifyingKey{k.private.Public().(ed25519.PublicKey)}
}

// String is redacted.
func (SigningKey) String() string { return "confirmation key (hidden)" }

// GoString is redacted.
func (k SigningKey) GoString() string { return k.String() }

// Format is redacted under every verb.
func (k SigningKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// LogValue is redacted.
func (k SigningKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// ParseVerifyingKey reads what String gives.
func ParseVerifyingKey(s string) (VerifyingKey, error) {
	public, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil || len(public) != ed25519.PublicKeySize {
		return VerifyingKey{}, errVerifyingKey
	}
	return VerifyingKey{public}, nil
}

// String gives the key's 64 hex digits.
func (k VerifyingKey) String() string { return hex.EncodeToString(k.public) }

// id is how a token names its key.
func (k VerifyingKey) id() [keyIDBytes]byte {
	sum := sha256.Sum256(k.public)
	return [keyIDBytes]byte(sum[:])
}

var errNoKey = errors.New("no confirmation key is set")
