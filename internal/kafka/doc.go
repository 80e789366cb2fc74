// Package kafka is all machinery on Kafka, and the only importer of kafka-go: a [Client]
// to a cluster, an idempotent [Producer], a [Transactor] that owns a transactional id, a
// [Fetcher] that hands out committed records only, group membership by whole stripes
// ([Client.RunGroup]), and the making of topics.
//
// # Who is right about what
//
// The broker is right about records, offsets and owners; nothing here is kept on disk.
// The directory (leaders, coordinators) is a guess that any answer may prove wrong.
// What an error means is decided in classify.go and nowhere else.
// A request is one of ours, in bytes, at a pinned version; kafka-go dials, logs in and
// pools the connections that it travels on (wire.go).
// The bytes of record batches are the business of package recordbatch.
//
// # A record on its way out
//
//  1. Produce finds the partition of the key and waits for room in the buffer.
//  2. The record waits in the lane of its partition while an earlier batch is on its
//     way. Its caller can still take it back: NotWritten.
//  3. The lane puts all that waits into one batch, with the producer's id and the next
//     sequence. From here on a caller who gives up is told Unknown.
//  4. The batch is sent, again and again with the same sequence if answers are lost, so
//     that the broker stores it once.
//  5. The answer gives each record its position. Without one in time, the outcome is
//     Unknown and the producer id is retired: a late copy cannot be taken for a later batch.
//
// A crash after 1 to 3 loses what nobody was told is written. A crash after 4 may leave a
// record behind that nobody was told about: senders repeat, readers tell by event id.
//
// # A stripe in one pair of hands
//
// A generation gives each member whole stripes. RunGroup runs work for each; the
// barrier between two generations is that all work has returned. A [Claim] commits under
// the generation and member id that it was given with, never the newest of the process.
//
//	joined    → work runs             crash: the session runs out (6 s), others take over
//	ends      → ctx of work is over   crash: same; what was not committed is read again
//	barrier   → all work returned     crash: same
//	rejoined or left                  others may have the stripe from here on
//
// A commit is answered (done), refused (nothing done), or indefinite. After an indefinite
// one the claim commits nothing more, and the membership ends: only a new member id is
// safe from the late twin.
//
// A paused process does not know that it lost its stripes: its commits are refused, and
// [Claim.HeartbeatAge] tells those who answer queries. What it writes by a Producer is
// not refused; what it writes by a Transactor is.
//
// # A transaction
//
// The transactional id is the lock. [Client.OpenTransactor] takes it: the broker aborts what
// the former owner left open, and refuses whatever that one still sends. Generation
// and member id, checked with the offsets, are a second lock, and a weaker one: a group that
// prepares a rebalance still takes the old generation.
//
//	InitProducerID   the id is ours, under a new epoch  crash: the next owner does the same
//	AddPartitions    a transaction is open              crash, from here to EndTxn: the next owner, or
//	AddOffsets       over the offsets too               the time-out, aborts it; nothing of it is seen
//	Produce          records are in the log, unseen
//	TxnOffsetCommit  offsets are in the log, unseen
//	EndTxn           all is seen, or nothing            crash before the answer: either; who opens the
//	                                                    id next finds it settled
//
// A lost answer is settled by a repeat: a batch is told from its copy by its sequence, an end
// with the same verdict is answered in the same way. But a copy that is still on its way counts
// for whatever is open when it arrives, since an epoch lasts over many transactions: an
// old end would end the next transaction half-way, old offsets would replace newer ones. So
// the transaction is finished, and the next one takes a new Transactor.
//
// A lone broker that is killed can keep a part of a transaction only: offsets without
// records, or the other way round. This package takes a broker at its word; who folds
// looks again.
//
// # Reading
//
// A [Fetcher] never skips. An offset that the log does not have, and a batch whose
// checksum is wrong, stop their partition with an error until Seek; the others go on.
// Aborted records and control records are passed silently: Next moves, messages do not come.
//
// # Goroutines
//
//	lane.run       one per partition with something to write; ends when its queue is empty; Producer.Close waits
//	produce        one per broker that a Write has batches for, where there are several; Write waits
//	poll           one per broker that a Fetcher waits for; ends with its answer; Fetcher.Close waits
//	member.beat    heartbeats of one generation, from the join until all work has returned; serve waits
//	work           one per claimed stripe and generation; serve waits, however long
//	kafka-go's     one per connection, one for the list of brokers; Client.Close ends them
//
// Close in the order fetchers and producers, then the client.
package kafka
