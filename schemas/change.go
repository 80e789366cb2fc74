package schemas

import "github.com/assent-dev/assent/consent"

// EncodeChange appends a change's record to dst: frame and body. On an error,
// an [EncodeError], it gives dst back unchanged.
func EncodeChange(dst []byte, c *consent.Change) ([]byte, error) {
	x := newEncoder(dst, changeFingerprint)
	if field, err := checkNames(c.Tenant, c.Subject, c.Purpose); err != nil {
		x.fail(CodeInvalid, field, err.Error())
	}
	x.change(c)
	return x.after(dst)
}

// DecodeChange reads a change's record, frame and body. The change keeps
// nothing of b. An error is a [DecodeError].
func DecodeChange(b []byte) (consent.Change, error) {
	var c consent.Change
	d, err := newDecoder(b, changeFingerprint)
	if err != nil {
		return c, err
	}
	defer d.release()
	d.change(&c)
	d.named(c.Tenant, c.Subject, c.Purpose)
	if err := d.finish(); err != nil {
		return consent.Change{}, err
	}
	return c, nil
}

// named applies checkNames to what was read.
func (d *decoder) named(t consent.Tenant, s consent.Subject, p consent.Purpose) {
	if d.err != nil {
		return
	}
	if field, err := checkNames(t, s, p); err != nil {
		d.fail(CodeInvalid, field, err.Error())
	}
}

func (x *encoder) change(c *consent.Change) {
	x.id(c.ID)
	x.text("type", c.Type())
	x.text("tenant", string(c.Tenant))
	x.text("subject", string(c.Subject))
	x.text("purpose", string(c.Purpose))
	x.enum("from", uint8(c.From), statuses)
	x.enum("to", uint8(c.To), statuses)
	x.tri("allowed_before", c.AllowedBefore)
	x.tri("allowed_after", c.AllowedAfter)
	x.flag(c.Withdrawal)
	x.instant("effective_at", c.EffectiveAt)
	x.optionalID(c.EventID)
	x.long(c.Version)
	x.instant("timestamp", c.Timestamp)
	x.instant("received_at", c.ReceivedAt)
	x.optionalText("jurisdiction", string(c.Jurisdiction))
	x.flag(c.Test)
}

func (d *decoder) change(c *consent.Change) {
	c.ID = d.id("change_id")
	typ := d.word("type")
	c.Tenant = consent.Tenant(d.word("tenant"))
	c.Subject = consent.Subject(d.text("subject"))
	c.Purpose = consent.Purpose(d.word("purpose"))
	c.From = consent.Status(d.enum("from", statuses))
	c.To = consent.Status(d.enum("to", statuses))
	if d.err == nil && typ != c.Type() {
		d.fail(CodeInvalid, "type", "does not name the new status")
	}
	c.AllowedBefore = d.tri("allowed_before")
	c.AllowedAfter = d.tri("allowed_after")
	c.Withdrawal = d.flag("withdrawal")
	c.EffectiveAt = d.instant("effective_at")
	c.EventID = d.optionalID("event_id")
	c.Version = d.long("version")
	c.Timestamp = d.instant("timestamp")
	c.ReceivedAt = d.instant("received_at")
	c.Jurisdiction = consent.Jurisdiction(d.optionalWord("jurisdiction"))
	c.Test = d.flag("test")
}
