// Package producer is the library for channel apps: what a web shop, an app's
// backend or a call centre uses to tell what somebody consented to, refused or
// took back.
//
//   - [Client] speaks to the gateway over HTTP. Its answer tells at once whether
//     a grant is valid, and its token lets a decision wait for the event.
//   - [Publisher] writes to the topic consent.intake. The gateway role takes it
//     from there; what it refuses is a dead letter, and nobody waits for it.
//
// # Who is right about what
//
// The app says what the subject did, and when: [consent.Event]. What an event
// means, whether a grant is valid, and the stamps (policy, received_at,
// effective_at) are the gateway's. Both types leave stamps out.
//
// # Repeating
//
// A call that ends in an error may have been carried out. Both types give each
// event an id before the first attempt, keep it over their own retries, and tell
// it, so that whoever tries again with the same event counts once.
//
// Neither type starts a goroutine that outlives its calls, but for the one per
// partition of a Publisher, which Close ends.
//
// The role itself is in package gateway, the rules that it shares between its
// two doors in package intake.
package producer
