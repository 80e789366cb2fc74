// Package intake decides whether an event is accepted, and stamps it: one
// [Intake] for both doors of the gateway, HTTP and the topic consent.intake.
//
// # Who is right about what
//
// The sender is right about what the subject did: claims are kept as claimed.
// The [Registry] in force is right about what may be granted. Everything that
// later parts rely on (the subject's id, the purpose's form, the event's id, when
// it takes effect, the policy) is made here, once, and never again: a replay
// reads it from the log.
//
// # The steps of Accept
//
//  1. what is there at all: subject, purpose, an action that senders may say; what
//     speaks of the whole subject gets the purpose *
//  2. stamps of the sender's are dropped
//  3. form: a raw subject becomes pseudonymous ([Pseudonymiser]), a purpose
//     lower-case, a tenant its default, a jurisdiction upper-case
//  4. event_id: given; by the request's key or the record's position; by the
//     claims; at random
//  5. received_at and effective_at
//  6. the registry's stamp and its check
//  7. problems of form: faults of a grant, warnings on all else
//  8. warnings; the withdrawals that go with a link which came with Sec-GPC: 1
//
// Only a grant can be refused for what it says, and a link that names nobody. Nothing here does I/O, reads a
// clock or keeps state, but for [LoadOrCreateKey]; there are no goroutines.
package intake
