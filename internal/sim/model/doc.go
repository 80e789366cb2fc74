// Package model is the protocol of the fold as a small model, and a checker that visits
// every state that it can come to. The processor does the same steps under the same names.
//
// # Who is right about what
//
// The model is right about the order of steps, and about which request may follow which answer.
// The code is right about everything else: what an event means (package consent), what a
// request looks like (internal/kafka), how long things take. A step that changes
// place in the code changes place here first.
//
// # The protocol
//
// Takeover, for each claim and after each answer that did not come:
//
//	1 init      InitProducerID: fences the former owner, aborts what it left open
//	2 offsets   committed offsets with their metadata, require_stable
//	3 verify    what the metadata names is looked for; if a part is missing, the fold goes
//	            back to where that transaction began; changes that are there are remembered
//	4 restore   the local store if it is usable, then the changelog to its end, without the
//	            rows at or above the offset where the fold goes on
//	5 announce  the owner record, and the committed offsets as they are, in one transaction
//	6 live
//
// Batch: fetch, carry, begin, write, commit offsets, end, publish, store. (Decode and fold
// are part of fetch, and publish is part of the answer to end: they touch only memory,
// so that a crash behind them leaves what a crash before them leaves.)
//
// What a crash after each step costs is what the checker tries: a crash, a lost answer, a late
// request, a new claim can come between any two.
//
// # What is modelled
//
//   - consent.events, consent.state and consent.changes of one stripe of one or two partitions:
//     each record with its fate (open, committed, aborted), offsets of aborted records
//     included; read_committed readers, which stop at the first open record; compaction.
//   - The coordinator of the transactional id: epochs, a commit that is decided and answered before
//     its markers are written, offsets that are applied some time behind the marker.
//   - The group: generations that commits are checked against; a new one at any time.
//   - Up to three processes with their steps and local stores. Each goes at its own pace:
//     a process that is suspended is one that takes no step, and a zombie is one that takes
//     some after the group gave its stripe to another.
//   - Requests that are done but not answered, and such that arrive late, when their
//     sender has gone on.
//   - Brokers that are killed while they commit, and leave any subset of {states, changes} of
//     each partition and {offsets} behind ([Config.Tears]); on request also between the answer and
//     the markers ([Config.TearsAnswered]).
//   - Leases: a member is given up when its lease has run out, not before. That holds
//     because a lease counts from a heartbeat's sending and is shorter than the session.
//   - Topics and offsets that an operator drops, to have everything folded again.
//
// # What is abstracted
//
//   - A subject's state is the list of inputs that were folded into it. The real fold is a join and
//     forgives a repeat; here a repeat shows. Only a derived event (carried, expire) is
//     known by its id, and counts once.
//   - A change's id is its input and the subject's version.
//   - A produce request is one for all partitions, and a partition's leader refuses what is
//     not of the coordinator's open transaction (Kafka verifies that; the embedded broker is
//     one process). The owner record is one atomic transaction.
//   - A commit's control record takes no offset.
//   - Derived events are produced until they are acknowledged; that a request of this kind
//     arrives late is the same as that it was written twice, which happens anyway. A log takes six
//     events, and copies beyond that are dropped.
//   - Stripes share nothing but consent.events, which no transaction writes: one stripe is modelled.
//   - Only safety: that something happens at all is not checked, beyond that every kind of
//     step and the states that a configuration is about are reached.
//
// # What must hold, in every state
//
// [ErrFolded] (I1), [ErrTold] (I2), [ErrCarried] (I3), [ErrZombie] (I4), [ErrStore] (I5), and
// [ErrDecision] (I7). I6, that I1 and I2 hold through torn commits, is their check in the
// configurations with tears: whatever is visible is right at any time, and nothing is missing
// where the owner has nothing left to do.
//
// # What it says about details
//
// Each [Deviation] is a protocol with one mechanism left out. The tests show the trace that breaks
// it, or that nothing does because something else stands in. What is easily overlooked:
//
//   - A restore's mark must not cover a row that it ignored. Between offsets and restore another
//     process can take over and commit; its rows are ignored, and a store that says that
//     it covers them would lack them for ever ([MarkBehindIgnored]).
//   - A note's changes must include those that were found and not told again, or the next
//     torn commit hides them ([SpanOfWrittenOnly]).
//   - No committed offset means the start of the log, also where rows are there: they can be
//     those of a first transaction that was torn ([NoOffsetMeansRows]).
//   - A fold that goes back ignores rows from where it goes on, not from the committed offset
//     ([RowsBelowCommitUsed]), and knows the changes of the torn transaction too ([DedupBehindNoteOnly]).
//   - An announcement that commits no offsets can be a former owner's, whose process woke up:
//     only the group's coordinator checks generations ([AnnounceWithoutOffsets]).
//   - EndTxn may not be repeated under an epoch that goes on being used: its late twin would
//     end the next transaction half written. Only the repair hides that ([LostEndIsRepeated]).
//   - The changelog may not be compacted between a torn commit and the end of its repair: a row
//     that will be ignored would take away the one that is needed ([CompactedUnrepaired]).
//   - If a commit can be torn when it was answered already, a connection that breaks between two
//     transactions is an indefinite answer, also while nothing is to be folded ([CutGoesOn]).
//   - A local store is told from a usable one by the topic's id and its input offset. How long
//     the changelog is, and whose its last row was, add nothing, and do not replace the topic's id
//     ([NoInputCheck], [NoTopicCheck]).
//
// # Sizes
//
// The small configurations have 15 thousand to 1.3 million states each, 7 million in all; with the
// deviations a run takes about 25 s of one core and 400 MB. -large explores 23 million
// more in one to two minutes and 700 MB. The race detector would make that ten times slower and has nothing to find in
// one goroutine: with it an exploration ends at ten thousand states.
//
// # Goroutines
//
// None.
package model
