// Package consent is the domain: what a consent event means, when a grant is
// valid, how events fold into what holds now, and how "may I?" is answered.
//
// It is pure. Nothing in it reads a clock, a file, a network or a random
// source, and it imports the standard library only. Time comes in as [Instant],
// the purpose registry as [Catalogue], an event's digest as [Event.Digest].
//
// # Who is right about what
//
//   - An [Event] is what somebody said. It is never edited; a correction is
//     another event.
//   - A [Catalogue] says what may be consented to, and what holds where nothing
//     was said. It is consulted at intake ([Catalogue.Stamp], [Catalogue.Check])
//     and when a question is answered ([Decide]); the fold never sees it, because
//     each event carries the [Policy] that was in force when it was accepted.
//   - A [State] is everything folded of one subject. Its records are a join: any
//     order, any repetition of the same events gives the same records. Its clock,
//     versions and announcements follow the log: the same log gives the same bytes.
//   - A [Change] tells that the answer for one purpose moved.
//
// # The path of an event
//
//	Catalogue.Check   may it be accepted? (only a grant can be refused)
//	Catalogue.Stamp   effective_at and policy, once, at intake
//	Fold              State × Event → State, Changes, carried Events
//	Decide            State × Catalogue × Query → Decision
//
// Doubt favours the subject throughout: no record, an unknown jurisdiction or a
// tie give the more protective answer.
package consent
