package registry

import (
	"strconv"
	"time"

	"github.com/assent-dev/assent/consent"
)

// Deadline is how long a system has to obey, from the time at which the event
// was received. One of the two fields is set; the zero value is no deadline.
type Deadline struct {
	Duration     time.Duration
	BusinessDays int
}

// IsZero reports that there is no deadline.
func (d Deadline) IsZero() bool { return d == Deadline{} }

// String gives the form that the files use: "2d", "10bd", "" for none.
func (d Deadline) String() string {
	switch {
	case d.BusinessDays > 0:
		return strconv.Itoa(d.BusinessDays) + "bd"
	case d.Duration > 0:
		return spanText(d.Duration)
	}
	return ""
}

// holidays are days that are no business days, though not in a weekend, by
// their number since 1970-01-01 in UTC.
type holidays map[int64]bool

func dayNumber(t time.Time) int64 { return t.Unix() / int64(day/time.Second) }

// due gives the first instant at which it is too late: the end is exclusive.
//
// Business days are Monday to Friday, without holidays, in UTC. The day of
// receipt does not count, and the time of day is kept: received on a Friday at
// 10:00, one business day ends on Monday at 10:00, and so it does when received
// on that Saturday at 10:00. (Moving the receipt to the next business day first
// would give a day more; the shorter reading favours the subject.)
func (d Deadline) due(received consent.Instant, closed holidays) consent.Instant {
	if d.BusinessDays == 0 {
		return received.Add(d.Duration)
	}
	t := received.Time()
	for left := d.BusinessDays; left > 0; {
		t = t.AddDate(0, 0, 1)
		if w := t.Weekday(); w != time.Saturday && w != time.Sunday && !closed[dayNumber(t)] {
			left--
		}
	}
	return consent.InstantOf(t)
}

// DueAt gives when downstream d must have obeyed change c: the earlier of the
// purpose's deadline in the change's jurisdiction and the downstream's own, both
// from c.ReceivedAt. The end is exclusive: obeyed at that instant is too late.
// 0 = no deadline holds. A change without ReceivedAt counts from its Timestamp.
//
// The purpose's deadline is its own; where it declares none that holds in the
// jurisdiction, that of the nearest declared purpose above; for a group or *,
// then the earliest of those below. With the jurisdiction unknown every declared
// deadline counts, without holidays, and the earliest holds.
// Source: semantics.md, sections 4 and 5; interfaces.md, Registry files.
func (r *Registry) DueAt(d *Downstream, c *consent.Change) consent.Instant {
	received := c.ReceivedAt
	if received == 0 {
		received = c.Timestamp
	}
	if received == 0 {
		return 0
	}
	t := r.tenants[c.Tenant]
	due := t.dueByPurpose(c.Purpose, c.Jurisdiction, received)
	if d != nil && !d.Deadline.IsZero() {
		due = earlier(due, d.Deadline.due(received, t.holidays(c.Jurisdiction)))
	}
	return due
}

func earlier(a, b consent.Instant) consent.Instant {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// dueByPurpose works on a nil tenant: nothing is declared, nothing is due.
func (t *tenant) dueByPurpose(p consent.Purpose, j consent.Jurisdiction, received consent.Instant) consent.Instant {
	if t == nil {
		return 0
	}
	for node := p; node != ""; node = node.Parent() {
		if due := t.due(node, j, received); due != 0 {
			return due
		}
	}
	var due consent.Instant
	for _, below := range t.catalogue.Covers(p) {
		due = earlier(due, t.due(below, j, received))
	}
	return due
}

func (t *tenant) due(p consent.Purpose, j consent.Jurisdiction, received consent.Instant) consent.Instant {
	terms := t.terms[p]
	if terms == nil {
		return 0
	}
	if j != "" {
		deadline, ok := terms.Deadlines.Lookup(j)
		if !ok {
			return 0
		}
		return deadline.due(received, t.holidays(j))
	}
	var due consent.Instant
	for _, deadline := range terms.Deadlines {
		due = earlier(due, deadline.due(received, nil))
	}
	return due
}

// holidays gives the calendar of a jurisdiction; none where that is unknown.
func (t *tenant) holidays(j consent.Jurisdiction) holidays {
	if t == nil || j == "" {
		return nil
	}
	closed, _ := t.calendars.Lookup(j)
	return closed
}
