// Package sink writes events, changes, deliveries and dead letters into the
// history, each record exactly once.
//
// # Who is right about what
//
//   - Kafka is the truth; the history is a copy by position.
//   - The group's committed offset says up to which offset rows are there, and its
//     metadata which range may be there or not: the pending one.
//   - After any doubt the table itself says what it holds.
//
// # A batch of one partition, in steps
//
// Rows [a, b] of one partition, in order:
//
//	1 cut       rows a to b                            nothing happened
//	2 announce  commit a, "pending=b;n=0;before=T"      b's outcome is looked up at T
//	3 insert    one block, token of a, b and n,         repeated under the same token,
//	            refused by ClickHouse from T on          then counted
//	4 confirm   commit b+1, ""                          nothing to do again
//
// The right column says what a crash after the step costs. Who finds a pending
// range (a repeat after an error, or a new owner) does this, until all rows are
// there, and then step 4:
//
//	before T, n = 0   insert the same rows under the same token, then count
//	before T, n > 0   count, insert what is missing under that token, then count
//	after T           count; what is missing is announced as n+1 with a new T
//
// Why count after a repeat: ClickHouse writes the token before it renames the
// part. Killed in between, it answers the repeat with OK, and the rows are not
// there. Why T: an INSERT that was held up somewhere and arrives when its token is
// forgotten would double the rows, and Kafka cannot fence it. Every commit carries
// the generation and member of its claim; one without a definite answer ends the
// membership, since its late twin could erase a pending range.
//
// # Windows
//
// ClickHouse must remember tokens for longer than 2 minutes: the tables keep the
// last 20,000 blocks, and a claim writes at most one block a partition each
// flush interval. Its clock and ours may differ by at most 30 s, which is checked
// at the start; a part that is written for longer than that after T is not waited for. A
// committed offset that expired (Kafka keeps it for 7 days after a
// group's last member) while the table has rows stops the partition with an alarm.
//
// # Goroutines
//
// [Sink.Run] blocks in the group's loop, which starts one goroutine per claimed
// stripe (stripe.run) and waits for it. Beside it runs one that asks ClickHouse
// every 2 s whether it is there ([Sink.Ready] tells); Run waits for that one, too.
package sink
