// Package confirmation makes and checks the tokens of double opt-in: the link in
// the message that asks whether it was really you.
//
// # Who is right about what
//
// A token holds the grant that it completes, as the gateway stamped it: whose,
// for which purpose, on which notice, by which act, under which policy, and until
// when it may be confirmed. So the confirm that is made of it stands by itself:
// nobody has to find the grant again, and a registry that has changed since
// changes nothing. A token says nothing about the person behind the click; that
// it reached the mailbox, and came back, is the proof.
//
// Tokens are signed with Ed25519, so that an auditor who has the public key can
// check one that is kept as evidence, and can make none. Whoever has the signing
// key can make a yes of anybody: keep it apart, and change it now and then. During
// a change both public keys are accepted.
//
// # Bytes
//
//	base64url, no padding
//	┌─────────┬────────┬───────────────────────────────┬───────────┐
//	│ version │ key id │ ConsentEvent, framed Avro     │ signature │
//	│ 1 byte  │ 8      │ (what a grant is reduced to)  │ 64        │
//	└─────────┴────────┴───────────────────────────────┴───────────┘
//
// The key id is the beginning of the public key's SHA-256. The signature is over
// a context line, and all that stands before it.
//
// Nothing here does I/O, reads a clock or keeps state. A token can be used more
// than once until it runs out: each click is a confirm of its own, and all of them
// are ordered at the grant that they name, so that whatever was refused since stays
// refused.
package confirmation
