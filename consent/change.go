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

// IsWithdrawal reports whether moving from one status to another takes away
// what somebody may have relied on: a yes, or a default.
func IsWithdrawal(from, to Status) bool {
	return (from == Granted || from == None || from == Pending) && to.Denies()
}

func changeID(s *State, p Purpose, version int64, event UUID) UUID {
	b := make([]byte, 0, len(s.Tenant)+len(s.Subject)+len(p)+48)
	b = append(b, s.Tenant...)
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
