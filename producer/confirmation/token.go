package confirmation

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas"
)

const (
	version    = 1
	keyIDBytes = 8
	headBytes  = 1 + keyIDBytes
	// maxTokenBytes bounds a token's text: a link that no mail program breaks is
	// far shorter, and nothing longer is looked at.
	maxTokenBytes = 4096
)

// signingContext keeps a signature from being taken for one over something else.
const signingContext = "assent double opt-in confirmation, version 1\n"

// Why a token is not taken. Each says what the person can do, and none of them
// tells whose token it is.
var (
	ErrMalformed = errors.New("this link is not complete: open it again from the message, or copy all of it")
	ErrUnknown   = errors.New("this link was not made here, or is too old: sign up again to get a new one")
	ErrForged    = errors.New("this link was altered: open it again from the message")
	ErrExpired   = errors.New("the time to confirm has passed: sign up again to get a new message")
)

var encoding = base64.RawURLEncoding.Strict() // one text for one token

// Mint makes the token that confirms grant, which must be stamped and wait for a
// confirmation until some time. The token holds no address and no evidence but
// the method of the act.
func Mint(key SigningKey, grant *consent.Event) (string, error) {
	switch p := grant.Policy; {
	case len(key.private) == 0:
		return "", errNoKey
	case grant.Action != consent.Grant || grant.ID.IsZero() || grant.EffectiveAt == 0:
		return "", errors.New("mint a confirmation: not a stamped grant")
	case p == nil || !p.DoubleOptIn:
		return "", errors.New("mint a confirmation: the grant needs none")
	case p.ConfirmBy == 0:
		return "", errors.New("mint a confirmation: the purpose sets no window: give double_opt_in one in purposes.yaml")
	case !grant.Subject.Pseudonymous():
		return "", errors.New("mint a confirmation: the subject is not pseudonymous")
	}
	id := key.Public().id()
	token := append([]byte{version}, id[:]...)
	kept := reduce(grant)
	token, err := schemas.EncodeEvent(token, &kept)
	if err != nil {
		return "", fmt.Errorf("mint a confirmation: %w", err)
	}
	token = append(token, ed25519.Sign(key.private, signed(token))...)
	text := encoding.EncodeToString(token)
	if len(text) > maxTokenBytes {
		return "", fmt.Errorf("mint a confirmation: the link would have %d characters, at most %d are taken", len(text), maxTokenBytes)
	}
	return text, nil
}

// reduce is what a confirm needs of its grant.
func reduce(grant *consent.Event) consent.Event {
	policy := *grant.Policy
	return consent.Event{
		ID: grant.ID, InteractionID: grant.InteractionID, RequestID: grant.RequestID,
		Tenant: grant.Tenant, Subject: grant.Subject, Purpose: grant.Purpose, Action: consent.Grant, Property: grant.Property,
		EffectiveAt: grant.EffectiveAt, Source: grant.Source, Jurisdiction: grant.Jurisdiction, Notice: grant.Notice,
		Evidence: consent.Evidence{Method: grant.Evidence.Method}, Policy: &policy, Test: grant.Test,
	}
}

func signed(token []byte) []byte { return append([]byte(signingContext), token...) }

// Check takes a token that was clicked at now, and gives the confirm that it makes:
// stamped, and ready for consent.events. keys are those in use and, during a
// change, the one before. The error is one of this package's, for errors.Is.
//
// The confirm's id is derived from the grant's and the time of the click: a click
// is an act, and told again with the same time it is the same one.
func Check(keys []VerifyingKey, token string, now consent.Instant) (consent.Event, error) {
	if len(token) > maxTokenBytes || strings.ContainsAny(token, "\r\n") { // which the decoder skips
		return consent.Event{}, ErrMalformed
	}
	raw, err := encoding.DecodeString(token)
	if err != nil || len(raw) <= headBytes+ed25519.SignatureSize {
		return consent.Event{}, ErrMalformed
	}
	if raw[0] != version {
		return consent.Event{}, ErrUnknown
	}
	body, signature := raw[:len(raw)-ed25519.SignatureSize], raw[len(raw)-ed25519.SignatureSize:]
	if err := verify(keys, body, signature); err != nil {
		return consent.Event{}, err
	}
	grant, err := schemas.DecodeEvent(body[headBytes:])
	if err != nil || !confirmable(&grant) {
		return consent.Event{}, ErrUnknown // signed by us, and by another version
	}
	switch {
	case now > grant.Policy.ConfirmBy:
		return consent.Event{}, ErrExpired
	case now < grant.EffectiveAt: // our clock went back: nothing holds before its grant
		now = grant.EffectiveAt
	}
	return confirm(&grant, token, now), nil
}

func verify(keys []VerifyingKey, body, signature []byte) error {
	named := [keyIDBytes]byte(body[1:headBytes])
	for _, key := range keys {
		if len(key.public) != ed25519.PublicKeySize || key.id() != named {
			continue
		}
		if !ed25519.Verify(key.public, signed(body), signature) {
			return ErrForged
		}
		return nil
	}
	return ErrUnknown
}

func confirmable(grant *consent.Event) bool {
	p := grant.Policy
	return grant.Action == consent.Grant && !grant.ID.IsZero() && grant.EffectiveAt != 0 && p != nil && p.DoubleOptIn && p.ConfirmBy != 0
}

func confirm(grant *consent.Event, token string, now consent.Instant) consent.Event {
	c := *grant
	c.ID = consent.DeriveUUID(grant.ID, strconv.AppendInt([]byte("confirm|"), int64(now), 10))
	c.Action = consent.Confirm
	c.Channel = consent.Web
	c.OccurredAt, c.ReceivedAt, c.EffectiveAt = now, now, now
	c.Confirms = &consent.EventRef{EventID: grant.ID, EffectiveAt: grant.EffectiveAt}
	c.Evidence.Token = token
	c.Digest = [32]byte{}
	return c
}
