package consent

import "strconv"

// Expiry gives when the row's announced yes runs out; ok is false where no yes was
// announced that does. Whoever tells downstreams that a yes has run out watches
// these times; answers never do, they evaluate.
func Expiry(row *Row) (at Instant, ok bool) {
	if row == nil || row.Yes == nil || row.Announced.Status != Granted || row.Yes.ExpiresAt == 0 {
		return 0, false
	}
	return row.Yes.ExpiresAt, true
}

// ExpireEvent makes the event that announces that the purpose's yes ran out; nil
// where none has by now. Its id is derived from the grant's id and when it runs
// out: written twice, it counts once. It is received now, and leaves no record.
func ExpireEvent(s *State, p Purpose, now Instant) *Event {
	at, ok := Expiry(s.Row(p))
	if !ok || at > now {
		return nil
	}
	yes := s.Row(p).Yes
	return &Event{
		ID:          DeriveUUID(yes.EventID, strconv.AppendInt([]byte("expire|"), int64(at), 10)),
		Tenant:      s.Tenant,
		Subject:     s.Subject,
		Purpose:     p,
		Action:      Expire,
		ReceivedAt:  now,
		EffectiveAt: at,
		Actor:       Actor{Type: ActorSystem},
		Policy:      &Policy{Version: yes.PolicyVersion, Model: yes.Model, LegalBasis: yes.LegalBasis},
		Test:        s.Test,
	}
}
