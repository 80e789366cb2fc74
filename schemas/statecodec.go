package schemas

import (
	"errors"
	"math"

	"github.com/assent-dev/assent/consent"
)

var errNoRecord = errors.New("an event without the record that was made of it")

// linkBytes is the least that a link record takes: its text and two nulls.
const linkBytes = 3

func (x *encoder) state(r *StateRow) {
	row := &r.Row
	x.text("tenant", string(r.Tenant))
	x.text("subject", string(r.Subject))
	x.text("purpose", string(row.Purpose))
	x.flag(r.Test)
	x.enum("status", uint8(row.Announced.Status), statuses)
	x.tri("allowed", row.Announced.Allowed)
	x.long(row.Version)
	x.long(r.InputOffset)
	if x.some(row.NoEvent != nil) {
		x.original(row.NoEvent)
	}
	x.record("yes", row.Yes)
	x.record("pending", row.Pending)
	x.record("no", row.No)
	x.record("ended", row.Ended)
	x.invalidates(row.Named)
	if x.some(r.Whole != nil) {
		x.whole(r.Whole)
	}
}

func (d *decoder) state(r *StateRow) {
	row := &r.Row
	r.Tenant = consent.Tenant(d.word("tenant"))
	r.Subject = consent.Subject(d.text("subject"))
	row.Purpose = consent.Purpose(d.word("purpose"))
	r.Test = d.flag("test")
	row.Announced.Status = consent.Status(d.enum("status", statuses))
	row.Announced.Allowed = d.tri("allowed")
	row.Version = d.long("version")
	r.InputOffset = d.long("input_offset")
	var noEvent []byte
	if d.some("no_event") {
		noEvent = d.original()
	}
	row.Yes = d.record("yes")
	row.Pending = d.record("pending")
	row.No = d.record("no")
	switch {
	case noEvent == nil:
	case row.No == nil:
		d.fail(CodeInvalid, "no_event", errNoRecord.Error())
	default:
		row.NoEvent = storedOriginal(noEvent, row.No.Digest) // of the event that No was made of
	}
	row.Ended = d.record("ended")
	row.Named = d.invalidates()
	if d.some("whole") {
		r.Whole = d.whole()
	}
}

// recordBytes is the least that a record takes.
const recordBytes = 19

func (x *encoder) invalidates(n *consent.Named) {
	var records []*consent.Record
	if n != nil {
		records = n.Records
	}
	x.array(len(records), func(i int) { x.bareRecord("named", records[i]) })
}

func (d *decoder) invalidates() *consent.Named {
	var n consent.Named
	d.array("named", recordBytes, func() { n.Records = append(n.Records, d.bareRecord("named")) })
	if len(n.Records) == 0 {
		return nil
	}
	return &n
}

func (x *encoder) whole(w *consent.Whole) {
	x.instant("whole.clock", w.Clock)
	x.array(len(w.Jurisdictions), func(i int) { x.text("whole.jurisdictions", string(w.Jurisdictions[i])) })
	x.array(len(w.Links), func(i int) {
		x.text("whole.links.to", string(w.Links[i].To))
		x.record("whole.links.linked", w.Links[i].Linked)
		x.record("whole.links.unlinked", w.Links[i].Unlinked)
	})
	x.long(w.VersionFloor)
	x.record("whole.erased", w.Erased)
}

func (d *decoder) whole() *consent.Whole {
	w := &consent.Whole{Clock: d.instant("whole.clock")}
	d.array("whole.jurisdictions", 1, func() {
		w.Jurisdictions = append(w.Jurisdictions, consent.Jurisdiction(d.word("whole.jurisdictions")))
	})
	d.array("whole.links", linkBytes, func() {
		w.Links = append(w.Links, consent.LinkRecord{
			To:       consent.Subject(d.text("whole.links.to")),
			Linked:   d.record("whole.links.linked"),
			Unlinked: d.record("whole.links.unlinked"),
		})
	})
	w.VersionFloor = d.long("whole.version_floor")
	w.Erased = d.record("whole.erased")
	return w
}

func (x *encoder) record(field string, r *consent.Record) {
	if x.some(r != nil) {
		x.bareRecord(field, r)
	}
}

// bareRecord is a record where there must be one.
func (x *encoder) bareRecord(field string, r *consent.Record) {
	x.enum(field, uint8(r.Action), actions)
	x.optionalID(r.EventID)
	x.instant(field, r.EffectiveAt)
	x.instant(field, r.ReceivedAt)
	x.flag(r.Expressed)
	x.instant(field, r.OrderAt)
	x.flag(r.Protective)
	x.long(int64(r.Stage))
	x.instant(field, r.ExpiresAt)
	x.optionalHash(&r.Digest)
	x.optionalID(r.Names)
	x.flag(r.Carried)
	x.optionalEnum(field, uint8(r.Channel), channels)
	x.optionalText(field, string(r.Jurisdiction))
	x.optionalEnum(field, uint8(r.Model), models)
	x.optionalEnum(field, uint8(r.LegalBasis), legalBases)
	x.optionalText(field, r.NoticeID)
	x.optionalText(field, r.NoticeVersion)
	x.optionalText(field, r.PolicyVersion)
}

func (d *decoder) record(field string) *consent.Record {
	if !d.some(field) {
		return nil
	}
	return d.bareRecord(field)
}

func (d *decoder) bareRecord(field string) *consent.Record {
	r := new(consent.Record)
	r.Action = consent.Action(d.enum(field, actions))
	r.EventID = d.optionalID(field)
	r.EffectiveAt = d.instant(field)
	r.ReceivedAt = d.instant(field)
	r.Expressed = d.flag(field)
	r.OrderAt = d.instant(field)
	r.Protective = d.flag(field)
	stage := d.int(field)
	if stage < 0 || stage > math.MaxUint8 {
		d.fail(CodeInvalid, field, "a stage outside 0 to 255")
	}
	r.Stage = uint8(stage)
	r.ExpiresAt = d.instant(field)
	r.Digest = d.optionalHash(field)
	r.Names = d.optionalID(field)
	r.Carried = d.flag(field)
	r.Channel = consent.Channel(d.optionalEnum(field, channels))
	r.Jurisdiction = consent.Jurisdiction(d.optionalWord(field))
	r.Model = consent.Model(d.optionalEnum(field, models))
	r.LegalBasis = consent.LegalBasis(d.optionalEnum(field, legalBases))
	r.NoticeID = d.optionalWord(field)
	r.NoticeVersion = d.optionalWord(field)
	r.PolicyVersion = d.optionalWord(field)
	return r
}
