// Package webhook signs and verifies webhooks as Standard Webhooks defines them.
//
// What is signed:
//
//	{webhook-id} "." {webhook-timestamp, seconds} "." {body}
//
// The header webhook-signature lists signatures, separated by spaces, one for
// each secret, so that a secret can be rotated without a gap: "v1," and base64
// for HMAC-SHA256, "v1a," and base64 for ed25519.
//
// Source: the Standard Webhooks specification, 1.0.
package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a webhook.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

// Tolerance is how far a webhook's time may be from the receiver's: an older
// one may be a replay.
const Tolerance = 5 * time.Minute

const (
	symmetricPrefix = "whsec_" // base64 of 24 to 64 bytes
	privatePrefix   = "whsk_"  // base64 of an ed25519 seed or private key
	publicPrefix    = "whpk_"  // base64 of an ed25519 public key
	minSecretBytes  = 16
)

// Key signs or verifies. The zero value does neither.
type Key struct {
	secret  []byte
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// ParseKey reads a secret: whsec_ and base64, whsk_ and base64 for signing with
// ed25519, whpk_ and base64 for verifying with it, or else the text itself as
// an HMAC secret of at least 16 bytes. An error never shows the secret.
func ParseKey(text string) (Key, error) {
	decode := func(prefix string) ([]byte, error) {
		b, err := base64.StdEncoding.DecodeString(text[len(prefix):])
		if err != nil {
			return nil, fmt.Errorf("what follows %s is not base64", prefix)
		}
		return b, nil
	}
	switch {
	case strings.HasPrefix(text, symmetricPrefix):
		b, err := decode(symmetricPrefix)
		if err == nil && len(b) < minSecretBytes {
			err = fmt.Errorf("the secret has %d bytes, want at least %d", len(b), minSecretBytes)
		}
		return Key{secret: b}, err
	case strings.HasPrefix(text, privatePrefix):
		b, err := decode(privatePrefix)
		switch {
		case err != nil:
			return Key{}, err
		case len(b) == ed25519.SeedSize:
			return privateKey(ed25519.NewKeyFromSeed(b)), nil
		case len(b) == ed25519.PrivateKeySize:
			return privateKey(ed25519.PrivateKey(b)), nil
		}
		return Key{}, fmt.Errorf("an ed25519 key has 32 or 64 bytes, this one %d", len(b))
	case strings.HasPrefix(text, publicPrefix):
		b, err := decode(publicPrefix)
		if err == nil && len(b) != ed25519.PublicKeySize {
			err = fmt.Errorf("an ed25519 public key has 32 bytes, this one %d", len(b))
		}
		return Key{public: b}, err
	case len(text) < minSecretBytes:
		return Key{}, fmt.Errorf("the secret has %d bytes, want at least %d", len(text), minSecretBytes)
	}
	return Key{secret: []byte(text)}, nil
}

func privateKey(k ed25519.PrivateKey) Key {
	public, _ := k.Public().(ed25519.PublicKey)
	return Key{private: k, public: public}
}

func content(id string, at time.Time, body []byte) []byte {
	b := make([]byte, 0, len(id)+len(body)+24)
	b = append(b, id...)
	b = append(b, '.')
	b = strconv.AppendInt(b, at.Unix(), 10)
	b = append(b, '.')
	return append(b, body...)
}

// Sign sets the three headers: one signature for each key that can sign.
func Sign(h http.Header, keys []Key, id string, at time.Time, body []byte) {
	signed := content(id, at, body)
	var signatures []string
	for _, k := range keys {
		switch {
		case k.secret != nil:
			signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(k.mac(signed)))
		case k.private != nil:
			signatures = append(signatures, "v1a,"+base64.StdEncoding.EncodeToString(ed25519.Sign(k.private, signed)))
		}
	}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(HeaderSignature, strings.Join(signatures, " "))
}

func (k Key) mac(signed []byte) []byte {
	m := hmac.New(sha256.New, k.secret)
	m.Write(signed)
	return m.Sum(nil)
}

// What is wrong with a webhook.
var (
	ErrHeaders   = errors.New("the webhook's id, timestamp or signature header is missing or malformed")
	ErrTooOld    = errors.New("the webhook's timestamp is more than 5 minutes from now: a replay, or a wrong clock")
	ErrSignature = errors.New("no signature of the webhook is valid under the given keys")
)

// Verify checks a received webhook: its time is within Tolerance of now, and
// one of its signatures is valid under one of the keys.
func Verify(h http.Header, keys []Key, body []byte, now time.Time) error {
	id := h.Get(HeaderID)
	seconds, err := strconv.ParseInt(h.Get(HeaderTimestamp), 10, 64)
	signatures := strings.Fields(h.Get(HeaderSignature))
	if err != nil || id == "" || len(signatures) == 0 {
		return ErrHeaders
	}
	at := time.Unix(seconds, 0)
	if now.Sub(at).Abs() > Tolerance {
		return ErrTooOld
	}
	signed := content(id, at, body)
	for _, s := range signatures {
		version, text, _ := strings.Cut(s, ",")
		signature, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		for _, k := range keys {
			if k.valid(version, signed, signature) {
				return nil
			}
		}
	}
	return ErrSignature
}

func (k Key) valid(version string, signed, signature []byte) bool {
	switch {
	case version == "v1" && k.secret != nil:
		return hmac.Equal(k.mac(signed), signature)
	case version == "v1a" && k.public != nil:
		return ed25519.Verify(k.public, signed, signature)
	}
	return false
}
