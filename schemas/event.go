package schemas

import (
	"crypto/sha256"

	"github.com/assent-dev/assent/consent"
)

// EncodeEvent appends an event's record to dst: frame and body. Tenant, subject
// and purpose must be what package consent accepts, so that what is written to
// consent.events can be read by all. On an error, an [EncodeError], it gives
// dst back unchanged.
func EncodeEvent(dst []byte, e *consent.Event) ([]byte, error) {
	x := newEncoder(dst, eventFingerprint)
	if field, err := checkEvent(e); err != nil {
		x.fail(CodeInvalid, field, err.Error())
	}
	x.event(e)
	return x.after(dst)
}

// EncodeIntakeEvent is EncodeEvent for who publishes to consent.intake: the
// subject may be raw and the purpose anything, since the gateway decides. What
// only the gateway may stamp is left out.
func EncodeIntakeEvent(dst []byte, e *consent.Event) ([]byte, error) {
	x := newEncoder(dst, eventFingerprint)
	claims := *e
	dropStamps(&claims)
	x.event(&claims)
	return x.after(dst)
}

// DecodeEvent reads an event's record, frame and body, and fills its Digest.
// The event keeps nothing of b. An error is a [DecodeError].
func DecodeEvent(b []byte) (consent.Event, error) {
	var e consent.Event
	d, err := newDecoder(b, eventFingerprint)
	if err != nil {
		return e, err
	}
	defer d.release()
	if err := d.wholeEvent(&e); err != nil {
		return consent.Event{}, err
	}
	return e, nil
}

// Folding is an event on its way through the fold, with memory for what nearly every
// event points to. What is to last longer is copied.
type Folding struct {
	consent.Event
	policy consent.Policy
	covers [4]consent.Purpose
}

// Decode is DecodeEvent into an empty Folding, which after an error is not to be used.
// An event that a State may keep in full has an Original, which lasts.
func (e *Folding) Decode(b []byte) error {
	d, err := newDecoder(b, eventFingerprint)
	if err != nil {
		return err
	}
	defer d.release()
	d.folding = e
	if err := d.wholeEvent(&e.Event); err != nil {
		return err
	}
	if e.Action.Kept() {
		e.Original = storedOriginal(d.written(&e.Event, d.body), e.Digest)
	}
	return nil
}

func (d *decoder) wholeEvent(e *consent.Event) error {
	d.event(e)
	d.checked(e)
	if err := d.finish(); err != nil {
		return err
	}
	e.Digest = d.eventDigest(e)
	return nil
}

// eventDigest is EventDigest of the event that was read. Nearly every event stands there
// as the encoder would write it: then its bytes need not be written to be summed.
func (d *decoder) eventDigest(e *consent.Event) [32]byte {
	if d.odd || e.Carried != nil {
		return EventDigest(e)
	}
	const null = 0
	d.scratch = append(d.scratch[:0], d.body[:len(d.body)-d.beforeSent]...)
	d.scratch = append(d.scratch, null, null)
	d.scratch = append(d.scratch, d.body[len(d.body)-d.behindReceived:]...)
	return sha256.Sum256(d.scratch)
}

// DecodeIntakeEvent reads what somebody published to consent.intake. Texts are
// held to their lengths and to UTF-8 only: subject, purpose, tenant and
// jurisdiction may be anything, empty too. Stamps are dropped, a time that no
// calendar shows is absent, and the Digest is left to who reads the event from
// consent.events. An error is a [DecodeError].
func DecodeIntakeEvent(b []byte) (consent.Event, error) {
	var e consent.Event
	d, err := newDecoder(b, eventFingerprint)
	if err != nil {
		return e, err
	}
	defer d.release()
	d.intake = true
	d.event(&e)
	if err := d.finish(); err != nil {
		return consent.Event{}, err
	}
	dropStamps(&e)
	return e, nil
}

// dropStamps takes away what a sender may not say.
func dropStamps(e *consent.Event) {
	e.ReceivedAt, e.EffectiveAt, e.Policy, e.Carried = 0, 0, nil, nil
	e.Digest = [32]byte{}
}

// EventDigest is the SHA-256 of the event's body with sent_at and received_at
// null: what a repeat may say anew does not make it another event. Of a carried
// event it is that of the event which is carried, put together again from its
// copy: whichever way a copy came, it is the same event.
func EventDigest(e *consent.Event) [32]byte {
	if e.Carried != nil {
		first := *e
		first.ID, first.Subject, first.EffectiveAt = e.Carried.EventID, e.Carried.Subject, e.Carried.EffectiveAt
		first.Carried = nil
		e = &first
	}
	x := encoder{b: make([]byte, 0, usualBytes), bare: true}
	x.event(e)
	return sha256.Sum256(x.b)
}

// checkEvent holds the names in an event against package consent's rules. It
// gives the field that breaks one.
func checkEvent(e *consent.Event) (field string, err error) {
	if _, err = consent.ParseTenant(string(e.Tenant)); err != nil {
		return "tenant", err
	}
	if _, err = consent.ParseSubject(string(e.Subject)); err != nil {
		return "subject", err
	}
	if _, err = consent.ParsePurpose(string(e.Purpose)); err != nil {
		return "purpose", err
	}
	if e.LinkTo != "" {
		if _, err = consent.ParseSubject(string(e.LinkTo)); err != nil {
			return "link.to", err
		}
	}
	if e.Policy != nil {
		for _, p := range e.Policy.Covers {
			if _, err = consent.ParsePurpose(string(p)); err != nil {
				return "policy.covers", err
			}
		}
	}
	if e.Carried == nil {
		return "", nil
	}
	if _, err = consent.ParseSubject(string(e.Carried.Subject)); err != nil {
		return "carried.subject", err
	}
	for _, s := range e.Carried.Via {
		if _, err = consent.ParseSubject(string(s)); err != nil {
			return "carried.via", err
		}
	}
	return "", nil
}

// checked applies checkEvent to what was read.
func (d *decoder) checked(e *consent.Event) {
	if d.err != nil {
		return
	}
	if field, err := checkEvent(e); err != nil {
		d.fail(CodeInvalid, field, err.Error())
	}
}
