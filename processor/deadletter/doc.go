// Package deadletter is the desk for what could not be processed: it reads
// consent.deadletters, says what a code means, and publishes records again.
//
// # Who is right about what
//
// The topic consent.deadletters is right about everything: a letter stands there
// with its origin, code and bytes, and so does the mark that says it was
// published again. There is no other store, so any instance of the command can go
// on where another one died.
//
// A letter is known by its [ID]: origin, code and downstream. Roles write letters
// at least once; copies count as the first one. A mark is a letter with the code
// [CodeReplayed] under the key of the letter that it names, and so behind it in
// the same partition. A letter with a mark is replayed, the others are open.
//
// # Where a letter goes
//
//	origin            published again to   why
//	consent.intake    consent.intake       where it came from
//	consent.events    consent.intake       only the gateway writes consent.events: what lies
//	                                       there has no stamps, or none that can be trusted
//	consent.changes   nowhere              one downstream refused it; publishing it again would
//	                                       tell all of them
//	an expire event   nowhere              the processor writes it by itself, from the state
//
// What passes the intake is checked and stamped as if it came today: a grant whose
// proof is too old by now becomes a letter again. A carried restriction becomes a
// restriction of the subject's own: what it was carried from is a stamp, and the
// gateway takes none.
//
// # What is published
//
// The original key, value and headers, and a header [HeaderReplayOf] with the
// origin of the first letter, so that a record that fails once more becomes a
// letter that names it. Where the value is an event, two things are set anew, as a
// sender that tries again would: an absent event_id becomes the one that the
// gateway derives from the origin, so that every attempt is the same event; and
// sent_at moves by as long as the letter lay, so that the skew of the sender's
// clock is what it was, and a withdrawal takes effect when it would have. One that
// counts from its receipt counts from the new one.
//
// # Order
//
// Letters of one key are published in the order of their letters. One that is not
// chosen, or that can no longer be published, holds back the chosen ones behind
// it; force passes it. Letters without a key know no order.
//
// # The steps of a replay
//
//	1 survey    read all letters and marks        nothing happened
//	2 plan      pure: what goes, what is held     nothing happened
//	3 load      read a batch of letters again     nothing happened
//	4 publish   acknowledged by all replicas      published again, under the same event ids
//	5 mark      acknowledged by all replicas      nothing to do again
//
// The right column says what a crash after the step costs. Steps 3 to 5 are
// repeated batch by batch. They are not one transaction on purpose: a replay that
// died in the middle of one would hold up everybody's withdrawals in
// consent.intake until the broker gave up on it. A repeat counts once, because
// it is the same event; a bare withdrawal, which takes effect when it is received,
// takes effect once more, which restricts and never allows.
//
// # Goroutines
//
// None of its own.
//
// Bytes of a letter may hold personal data: they are in [Letter], and nothing here
// prints them. Errors name positions only.
package deadletter
