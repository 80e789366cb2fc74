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
//   - A link (the row of [Root] holds them) carries what one id refused to another:
//     [Fold] gives the events, whoever runs it writes them to the log. They are
//     ordered as what they carry, so each State stays a join of what was said, by
//     whatever id and on whatever way it came.
//   - An erase takes rows away and stays itself: what is smaller is not kept, now
//     and later.
//
// # The path of an event
//
//	Catalogue.Check   may it be accepted? (only a grant can be refused)
//	Catalogue.Stamp   effective_at and policy, once, at intake
//	Fold              State × Event → State, Changes, carried Events
//	ExpireEvent       State × Purpose × Instant → the event that tells of a yes run out
//	Decide            State × Catalogue × Query → Decision
//
// Doubt favours the subject throughout: no record, an unknown jurisdiction or a
// tie give the more protective answer.
package consent
