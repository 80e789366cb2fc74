// Package owner lets any process of an installation answer for every subject, while each
// State is held once: by the processor that owns the subject's partition.
//
// # Who is right about what
//
//   - The owner ([Local]) knows whether it is one: its partition is live, and its last
//     heartbeat is so young that the group cannot have given the stripe away. Nobody
//     else's word makes it one.
//   - The [Directory] says whom to ask: the newest [Record] of a stripe in consent.owners.
//     It is a hint. Records are written at takeovers, in a transaction under the new
//     epoch, so the broker refuses one of a fenced owner; should one get through, the
//     epoch in it tells. A hint that is wrong costs a question, never a wrong answer.
//   - The [Router] knows how long an answer may be used: see [Config.lease].
//
// What is not known in time is not OK, and its decision is unavailable: denied.
//
// # A look-up, step by step
//
//  1. Each subject is asked of Local. What it gives is there at once.
//  2. The others are grouped by the owners that the directory names. Each owner gets one
//     request (of 1,000 subjects at most), all at the same time.
//  3. The owner reads the State, encodes it, and asks again whether it may be told: in
//     this order, so that what it sends was its own to tell when it was read.
//  4. The asker holds every row against the subject that it asked for.
//  5. Where an owner says that it is none, or was not reached, the directory is looked at
//     again. If the stripe has another owner by now, that one is asked: once, and within
//     the time of the first attempt. A forwarded request is never forwarded: a peer
//     answers from its own Local, or says that it is not the owner.
//  6. Whoever uses the answer asks Valid when the decision is made of it.
//
// A crash of the owner, or of the asker, at any step leaves nothing behind: nothing is
// written. The dead owner's subjects are unavailable until its stripes are taken over:
// half a second after a polite leave, a session after a kill. A request to it fails at
// once where its machine says so, and after half of the lease's slack where nobody does.
//
// # The lease
//
// An answer is bound to the owner's heartbeat, not to its arrival:
//
//	owner   heartbeat ├──────── HeartbeatLimit (4 s) ────────┤ latest check
//	        heartbeat ├────────────────── SessionTimeout (6 s) ─────────────────┤ others may own it
//	asker                              sent ├─ to get (1 s) ─┤
//	                                   sent ├─── to use (1.5 s) ───┤ not valid any more
//
// The check comes after the request was sent. So what is used within 1.5 s of sending is
// used within 4 s + 1.5 s of the heartbeat, and half a second is left for clocks that
// differ in speed and for writing the answer out. Owners name their own slack in each
// answer, and the shorter one counts: processes may be on different settings while
// those are changed.
//
// The clocks are monotonic, and only their speeds are compared. A machine that sleeps as
// a whole stops such a clock on some systems; a request that sleeps with it was asked
// before, and gets the answer of before.
//
// # Between peers
//
// POST /internal/v1/states and /internal/v1/folded, on the processor's own listener, in the
// bytes that wire.go describes: rows are records of consent.state as they are. Waiting for
// an event (at_least) is a request of its own, since its time would count as the time
// that an answer was on its way. A peer waits for 2 s at most and is then asked again,
// at whoever owns the stripe by then.
//
// A request names the instance that it is meant for. Another process that listens at the
// address now, even one of another installation, refuses it.
//
// States are personal data, so the paths are not for everybody. With a secret, which all
// processors share, who shows it is served, from wherever. Without one, only requests from
// a loopback address are, and none that came by a proxy: a processor that others are to
// reach needs the secret. The secret is not encrypted on its way, nor is the answer,
// unless the address is https.
//
// # Bounds
//
// A request has at most 1,000 subjects, an answer at most 64 MiB; an answer is never
// held as a whole where it is made. Requests to one peer, requests served at once, and
// requests that wait are each bounded, the rest waits for its turn or is refused.
//
// # Goroutines
//
// [Directory.Run] blocks in the loop that reads the topic. A look-up starts one goroutine
// per owner that is asked, if it asks more than one, and waits for all of them. The
// transports of net/http keep two per open connection; [Router.Close] ends the idle ones.
package owner
