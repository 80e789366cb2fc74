// Package fanout tells each downstream of each change that concerns it, until
// it has answered.
//
// # Who is right about what
//
//   - consent.changes is what there is to tell, in the order of each subject.
//   - The committed position of a downstream's own group is what it was told: its
//     offset and the open ones in its metadata (see window).
//   - consent.deliveries is what came of each attempt.
//
// # The path of a change, in steps
//
//	1 fetch     records of the claimed partitions       nothing happened
//	2 filter    decode; does it concern the downstream   nothing happened
//	3 attempt   one signed request                       told again, same webhook-id
//	4 record    the outcome acknowledged                 told again, same webhook-id
//	5 settle    the next change of the subject may go    the same
//	6 commit    the position moves                       nothing to do again
//
// The right column says what a crash after the step costs. So a downstream
// hears each change at least once, under the same id each time, and no outcome
// is unrecorded behind the position.
//
// # Order
//
// The changes of one subject go one after the other: the next one waits until
// the one before was taken or set aside as a dead letter. Other subjects pass.
// A repeat of an older change can come later (a request that timed out and was
// taken all the same, another process that lost its claim while it sent):
// versions tell, and a receiver drops lower ones.
//
// # When an endpoint fails
//
// classify alone decides what an answer means, schedule when it is tried again,
// gate whether the whole lane waits. A wrong endpoint (401, 404, a redirect, a
// missing secret) pauses its lane, one that is away breaks it; both are probed
// with one request at a time and resume by themselves. Nothing is lost
// meanwhile: the position waits. Only a change that the endpoint refuses for
// itself (400, 413, 422, or it says that it failed to obey), or one that is no
// withdrawal and past its deadline, becomes a dead letter. A withdrawal is tried
// for ever. What is past its legal deadline is counted, also where it waits for
// its turn (see backlog).
//
// # Windows
//
// At most Config.MaxPending changes of a claim are read ahead, and what two
// fetches of up to 1,000 add; a downstream that is away for long waits in
// consent.changes, and loses what that topic's retention takes (30 days):
// resume makes dead letters of that, and the rest goes on. Up to 256 changes a
// partition that are tried for long do not hold back the position of later ones.
//
// # Goroutines
//
//	Dispatcher.Run   starts and stops lanes; waits for all
//	lane.run         one per downstream: its consumer group
//	session.loop     one per claimed stripe: owns queues and windows, commits
//	session.fetch    one per claimed stripe: reads, decodes, filters
//	session.attempt  one per request in flight, at most the lane's concurrency
package fanout
