// Package loadgen makes realistic consent traffic out of one seed: for demos,
// benchmarks and tests. It sends nothing; package drive does.
//
// # Who is right about what
//
// A [Generator] plays the channels: it says what subjects did, and what a gateway
// that keeps the rules must answer ([Expect]). It works that out by itself, not
// by asking package consent, so that it can disagree with an implementation.
//
// The same [Options] give the same claims, byte for byte, on every machine: all
// draws are in integers, and time is a clock of the generator's own, unless
// Options.Now gives it another.
//
// # The people
//
// Subjects live in households of 20: nine user ids, eight devices, three mail
// boxes. A device belongs to one user of its household, and links stay inside
// it, so that whoever follows a household sees everything that reaches it. How
// often a subject acts falls off as 1/rank. Each has a jurisdiction, and one
// device in 30 a clock that is wrong.
//
// # What they do
//
// The kinds of acts ([Kind]) come by weight ([Mix]). One act is what a channel
// sends at once: a banner's answer is an event per purpose with one
// interaction_id, a phone that was offline sends its whole queue, an import its
// rows. Some acts are sent again later, with the same ids and a new sent_at.
// A share of events (Options.InvalidShare) is refused by rule, each with the
// code that it must be refused with.
//
// # Two ways to read it
//
//	Next, NextAct   claims without stamps, as channels send them
//	Stamped         events as they stand in consent.events, to feed a fold
//
// Stamped has no refused events, has the confirmations that the gateway writes
// out of a click in a mail, and lacks what the processor adds (expire, carried).
// Read a generator in one way only: both take from the same acts.
//
// A Generator starts no goroutine, and belongs to one.
package loadgen
