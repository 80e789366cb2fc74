package schemas

import "github.com/assent-dev/assent/consent"

// Outcome is how an attempt to tell a downstream ended.
type Outcome uint8

// The outcomes.
const (
	OutcomeUnknown Outcome = iota
	Delivered              // it was taken
	Applied                // it was taken, and obeyed
	InProgress             // it was taken, and is being obeyed
	Failed                 // it was taken, and could not be obeyed
	Retrying               // it was not taken: tried again at NextAttemptAt
	Paused                 // something is wrong with the endpoint: the lane waits
	DeadLettered           // it cannot be taken: set aside with an alert
	Superseded             // a newer change of the same purpose took its place
)

var outcomeNames = [outcomes]string{"unknown", "delivered", "applied", "in_progress", "failed", "retrying", "paused", "dead_lettered", "superseded"}

// String gives lower snake case; "unknown" for a value that is not listed.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return outcomeNames[OutcomeUnknown]
}

// Delivery is a record of consent.deliveries: one attempt to tell one
// downstream of one change.
type Delivery struct {
	ID         consent.UUID // derived from change, downstream and attempt
	ChangeID   consent.UUID
	Tenant     consent.Tenant
	Subject    consent.Subject
	Purpose    consent.Purpose
	Version    int64 // of the change
	Withdrawal bool
	Downstream string
	WebhookID  string
	Attempt    int32 // from 1

	StartedAt      consent.Instant
	DurationMillis int32
	Outcome        Outcome
	HTTPStatus     int32  // 0 = there was no answer
	Reason         string // class of the fault, never a body

	NextAttemptAt    consent.Instant
	DeadlineAt       consent.Instant
	ChangeReceivedAt consent.Instant
	Test             bool
}

// EncodeDelivery appends a delivery's record to dst: frame and body. On an
// error, an [EncodeError], it gives dst back unchanged.
func EncodeDelivery(dst []byte, v *Delivery) ([]byte, error) {
	x := newEncoder(dst, deliveryFingerprint)
	if field, err := checkNames(v.Tenant, v.Subject, v.Purpose); err != nil {
		x.fail(CodeInvalid, field, err.Error())
	}
	x.delivery(v)
	return x.after(dst)
}

// DecodeDelivery reads a delivery's record, frame and body. The delivery keeps
// nothing of b. An error is a [DecodeError].
func DecodeDelivery(b []byte) (Delivery, error) {
	var v Delivery
	d, err := newDecoder(b, deliveryFingerprint)
	if err != nil {
		return v, err
	}
	defer d.release()
	d.delivery(&v)
	d.named(v.Tenant, v.Subject, v.Purpose)
	if err := d.finish(); err != nil {
		return Delivery{}, err
	}
	return v, nil
}

func (x *encoder) delivery(v *Delivery) {
	x.id(v.ID)
	x.id(v.ChangeID)
	x.text("tenant", string(v.Tenant))
	x.text("subject", string(v.Subject))
	x.text("purpose", string(v.Purpose))
	x.long(v.Version)
	x.flag(v.Withdrawal)
	x.text("downstream", v.Downstream)
	x.optionalText("webhook_id", v.WebhookID)
	x.long(int64(v.Attempt))
	x.instant("started_at", v.StartedAt)
	x.long(int64(v.DurationMillis))
	x.enum("outcome", uint8(v.Outcome), outcomes)
	x.long(int64(v.HTTPStatus))
	x.optionalText("reason", v.Reason)
	x.instant("next_attempt_at", v.NextAttemptAt)
	x.instant("deadline_at", v.DeadlineAt)
	x.instant("change_received_at", v.ChangeReceivedAt)
	x.flag(v.Test)
}

func (d *decoder) delivery(v *Delivery) {
	v.ID = d.id("delivery_id")
	v.ChangeID = d.id("change_id")
	v.Tenant = consent.Tenant(d.word("tenant"))
	v.Subject = consent.Subject(d.text("subject"))
	v.Purpose = consent.Purpose(d.word("purpose"))
	v.Version = d.long("version")
	v.Withdrawal = d.flag("withdrawal")
	v.Downstream = d.word("downstream")
	v.WebhookID = d.optionalText("webhook_id")
	v.Attempt = d.int("attempt")
	v.StartedAt = d.instant("started_at")
	v.DurationMillis = d.int("duration_millis")
	v.Outcome = Outcome(d.enum("outcome", outcomes))
	v.HTTPStatus = d.int("http_status")
	v.Reason = d.optionalWord("reason")
	v.NextAttemptAt = d.instant("next_attempt_at")
	v.DeadlineAt = d.instant("deadline_at")
	v.ChangeReceivedAt = d.instant("change_received_at")
	v.Test = d.flag("test")
}
