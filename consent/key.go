package consent

import "bytes"

// OrderKey orders the events of one kind; the larger wins. Source:
// semantics.md, section 5, Records.
//
//	expressed       0 for an import that may not speak of acts, else 1
//	order_at        when it counts from, for the order
//	protectiveness  1 for what restricts: it wins a tie in time
//	stage           1 for confirm
//	event_id        16 bytes
//	expires_at      the earlier one wins; "never" is the latest
//	digest          of the content, for the same id with other content
type OrderKey struct {
	Expressed  bool
	OrderAt    Instant
	Protective bool
	Stage      uint8
	EventID    UUID
	ExpiresAt  Instant
	Digest     [32]byte
}

// Compare gives −1, 0 or +1. Two keys are equal only for the same event.
func (k OrderKey) Compare(l OrderKey) int {
	if c := compareBool(k.Expressed, l.Expressed); c != 0 {
		return c
	}
	if c := compareInstant(k.OrderAt, l.OrderAt); c != 0 {
		return c
	}
	if c := compareBool(k.Protective, l.Protective); c != 0 {
		return c
	}
	if k.Stage != l.Stage {
		if k.Stage > l.Stage {
			return 1
		}
		return -1
	}
	if c := bytes.Compare(k.EventID[:], l.EventID[:]); c != 0 {
		return c
	}
	if c := compareInstant(expiry(l.ExpiresAt), expiry(k.ExpiresAt)); c != 0 {
		return c
	}
	return bytes.Compare(k.Digest[:], l.Digest[:])
}

// expiry maps "never" to the end of time, so that earlier means less.
func expiry(i Instant) Instant {
	if i == 0 {
		return 1<<63 - 1
	}
	return i
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func compareInstant(a, b Instant) int {
	switch {
	case a > b:
		return 1
	case a < b:
		return -1
	}
	return 0
}

// larger gives the record with the larger key; a missing one is the smallest.
// A retry has the key of the event that it repeats and was received later: the
// first receipt stays, in whatever order the two are folded.
func larger(a, b *Record) *Record {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	if c := b.Compare(a.OrderKey); c > 0 || (c == 0 && b.ReceivedAt < a.ReceivedAt) {
		return b
	}
	return a
}

// record makes what the fold keeps of an event.
func record(e *Event) *Record {
	r := &Record{
		OrderKey: OrderKey{
			Expressed:  true,
			OrderAt:    e.EffectiveAt,
			Protective: e.Action.Protective(),
			EventID:    e.ID,
			Digest:     e.Digest,
		},
		Action:        e.Action,
		EffectiveAt:   e.EffectiveAt,
		ReceivedAt:    e.ReceivedAt,
		Carried:       e.Carried != nil,
		Channel:       e.Channel,
		Jurisdiction:  e.Jurisdiction,
		NoticeID:      e.Notice.ID,
		NoticeVersion: e.Notice.Version,
	}
	if e.Policy != nil {
		r.ExpiresAt = e.Policy.ExpiresAt
		r.Model = e.Policy.Model
		r.LegalBasis = e.Policy.LegalBasis
		r.PolicyVersion = e.Policy.Version
	}
	if e.Action == Grant && e.Channel == Import && (e.Policy == nil || !e.Policy.HistoryImport) {
		r.Expressed = false
	}
	switch e.Action {
	case Confirm:
		r.Stage = 1
		r.name(e.Confirms)
	case Invalidate:
		r.name(e.Invalidates)
	}
	if e.Carried != nil {
		r.OrderAt = e.Carried.EffectiveAt
	}
	return r
}

// name notes the event that this one speaks of, and orders this one with it.
func (r *Record) name(ref *EventRef) {
	if ref == nil {
		return
	}
	r.Names = ref.EventID
	if ref.EffectiveAt != 0 {
		r.OrderAt = ref.EffectiveAt
	}
}
