package consent

import "strconv"

// Change tells that what holds for one purpose moved. A receiver that keeps
// the highest version per (subject, purpose) ends right.
type Change struct {
	ID            UUID // derived: a replay repeats it
	Tenant        Tenant
	Subject       Subject
	Purpose       Purpose
	From, To      Status
	AllowedBefore Tri // Undecided from none: the fold knows no defaults
	AllowedAfter  Tri // Undecided while only a pending grant is there
	Withdrawal    bool
	EffectiveAt   Instant
	EventID       UUID // the event whose folding moved it
	Version       int64
	Timestamp     Instant // the State's clock
	ReceivedAt    Instant // of that event: legal deadlines count from it
	Jurisdiction  Jurisdiction
	Test          bool
}

// Type is the change's event type: "consent." and the new status.
func (c *Change) Type() string { return "consent." + c.To.String() }

// Key is the Kafka key of the change's record.
func (c *Change) Key() []byte { return Key(c.Tenant, c.Subject) }

// IsWithdrawal reports whether moving from one verdict to another takes away
// what somebody may have relied on: a yes, or a default. Whatever it is called
// afterwards, what is denied and was not denied before is one: a newer pending
// grant can stand over the refusal that took the yes away.
func IsWithdrawal(before, after Verdict) bool {
	switch before.Status {
	case Granted, None, Pending:
		return after.Status.Denies() || (after.Allowed == Denied && before.Allowed != Denied)
	}
	return false
}

func changeID(s *State, p Purpose, version int64, event UUID) UUID {
	var stack [512]byte
	b := append(stack[:0], s.Tenant...)
	b = append(b, '|')
	b = append(b, s.Subject...)
	b = append(b, '|')
	b = append(b, p...)
	b = append(b, '|')
	b = strconv.AppendInt(b, version, 10)
	b = append(b, '|')
	b = append(b, event[:]...)
	if s.Test {
		b = append(b, "|test"...)
	}
	return DeriveUUID(NamespaceChange, b)
}
