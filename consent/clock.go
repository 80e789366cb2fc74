package consent

import "time"

const (
	// skewTolerance: a difference of the clocks below it is a slow wire.
	skewTolerance = 60 * time.Second
	// backdatedAfter: a protective action that takes effect longer before it was
	// received may lose to a newer grant, and is answered with a warning.
	backdatedAfter = 24 * time.Hour
)

// EffectiveAt computes when an event takes effect, from the channel's claims
// and the time at which it was received. It is never later than received.
//
//	skew         = received − sent_at; 0 within 60 s, or without sent_at
//	effective_at = occurred_at + skew
//
// Exceptions favour the subject: a yes is never moved later, a protective
// action never earlier, and a protective action from web or app without sent_at
// counts from received. Source: semantics.md, section 3.
func EffectiveAt(e *Event, received Instant) Instant {
	if e.OccurredAt == 0 {
		return received
	}
	protective := e.Action.Protective()
	if protective && e.SentAt == 0 && (e.Channel == Web || e.Channel == App) {
		return received
	}
	var skew time.Duration
	if e.SentAt != 0 {
		skew = received.Sub(e.SentAt)
		if skew.Abs() <= skewTolerance {
			skew = 0
		}
	}
	if (e.Action.Affirms() && skew > 0) || (protective && skew < 0) {
		skew = 0
	}
	return min(e.OccurredAt.Add(skew), received)
}

// Backdated reports whether a protective action takes effect so long before it
// was received that a newer grant may outrank it.
func Backdated(e *Event) bool {
	return e.Action.Protective() && e.ReceivedAt.Sub(e.EffectiveAt) > backdatedAfter
}
