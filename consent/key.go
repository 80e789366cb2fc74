package consent

import "bytes"

// OrderKey orders the events of one kind; the larger wins. Source:
// semantics.md, section 5, Records.
//
//	expressed       0 for an import that may not speak of acts, else 1
//	order_at        when it counts from, for the order
//	protectiveness  1 for what restricts: it wins a tie in time
//	stage           1 for confirm
//	event_id        16 bytes; of a carried event, that of the event it carries
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
func (k OrderKey) Compare(l OrderKey) int { return k.compare(&l, &k.EventID, &l.EventID) }

// compare orders two keys under the ids that count for them.
func (k *OrderKey) compare(l *OrderKey, id, other *UUID) int {
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
	if c := bytes.Compare(id[:], other[:]); c != 0 {
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

// Compare orders two records. A carried one is ordered as the event that it
// carries, by every part of its key, so that events keep their order wherever
// links take them; two copies of one event, come on different ways, are equal.
func (r *Record) Compare(o *Record) int {
	return r.compare(&o.OrderKey, r.orderID(), o.orderID())
}

func (r *Record) orderID() *UUID {
	if r.Carried {
		return &r.Names
	}
	return &r.EventID
}

// beats reports whether r takes the place of old in a row. Of equal ones, which
// are repetitions of one event, the one stays that holds from earlier on, then
// the one received first, then the event itself before its copy, in whatever
// order they are folded.
func (r *Record) beats(old *Record) bool {
	if old == nil {
		return true
	}
	if c := r.Compare(old); c != 0 {
		return c > 0
	}
	switch {
	case r.EffectiveAt != old.EffectiveAt:
		return r.EffectiveAt < old.EffectiveAt
	case r.ReceivedAt != old.ReceivedAt:
		return r.ReceivedAt < old.ReceivedAt
	}
	return old.Carried && !r.Carried
}

// larger gives the record with the larger key; a missing one is the smallest.
func larger(a, b *Record) *Record {
	if b != nil && b.beats(a) {
		return b
	}
	return a
}

// record makes what the fold keeps of an event.
func record(e *Event) Record {
	r := Record{
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
		Channel:       e.Channel,
		Jurisdiction:  e.Jurisdiction,
		NoticeID:      word(e.Notice.ID),
		NoticeVersion: word(e.Notice.Version),
	}
	if e.Policy != nil {
		r.ExpiresAt = e.Policy.ExpiresAt
		r.Model = e.Policy.Model
		r.LegalBasis = e.Policy.LegalBasis
		r.PolicyVersion = word(e.Policy.Version)
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
		r.Carried = true
		r.Names, r.OrderAt = e.Carried.EventID, e.Carried.EffectiveAt
	}
	return r
}

// word is a name of the registry's. What is longer than any is none: a restriction may
// say what it likes there, and the history keeps it, but a row stays small.
func word(s string) string {
	if len(s) > MaxNameBytes {
		return ""
	}
	return s
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

// bare is a record without the texts that an answer tells: what only orders
// need not keep them.
func (r *Record) bare() *Record {
	return &Record{
		OrderKey: r.OrderKey, Action: r.Action, EffectiveAt: r.EffectiveAt, ReceivedAt: r.ReceivedAt,
		Names: r.Names, Carried: r.Carried, Channel: r.Channel,
	}
}
