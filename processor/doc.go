// Package processor folds consent.events into what holds now: the states that
// decisions are answered from, and the changes that downstreams are told.
//
// # Who is right about what
//
//   - consent.events is the truth. A partition's fold is a function of its
//     records in their order, of their broker times, and of nothing else.
//   - consent.state is the changelog of the fold: the latest record of a key is
//     the row. The row of "*" is written last of a subject's rows, and says up
//     to which offset of consent.events ([schemas.StateRow.InputOffset]) the
//     subject's rows are folded.
//   - consent.changes is what was told. A change's id is derived, so that telling
//     it again is the same change.
//   - The committed offset of the group says from where the events are read
//     again; its metadata says how far consent.state had been written by then.
//     It is read within the claim, when the former owner is out.
//   - The [Table] in memory is what decisions see: never more than what consent.state
//     has acknowledged.
//
// # A batch, in seven steps
//
// The stripe does these in this order, for all its partitions at once. What a
// crash after each step costs:
//
//	1 fetch     records of the stripe's partitions      nothing happened
//	2 decode    decode, check, clamp; or a dead letter   nothing happened
//	3 fold      consent.Fold over the table, pure        nothing happened
//	4 tell      changes and dead letters acknowledged    told again, same ids
//	5 save      states acknowledged                      read again, skipped by offset
//	6 publish   readers see the new states               the same
//	7 commit    the offset moves                         nothing to do again
//
// Steps 4 and 5 may not change places ([StatesThenChanges] exists so that a test
// can show it): a state that is saved says that its events were folded, so that
// the events are skipped when they are read again, and a change that was not told
// before would never be.
//
// # Reading again
//
// After a crash the events from the committed offset on are read again. Those
// that a subject's restored rows contain are skipped, by the offset that its "*"
// row carries; the others meet exactly the state that they met the first time,
// and give the same changes under the same ids. So states and changes are those of
// one straight fold, whatever crashed and when.
//
// A crash within step 5 can leave some rows of a subject saved and others not.
// Such rows are ahead of the subject's "*" row, and a restore does not use them:
// the events are folded again from the rows before. (Compaction could have taken
// those rows away only if it ran over the newest segment between the crash and
// the takeover; brokers do not compact the active segment.)
//
// # Dead letters, alarms
//
// A record that can never be used is a dead letter, and the partition goes on:
// bytes that do not decode (the decoder's code), wrong_key, wrong_partition,
// unstamped (a grant without stamps), not_yet (an action that this version does
// not fold). A protective event without stamps counts at the broker's time.
//
// What is no property of the record stops its partition with an alarm, and
// skips nothing: a panic in the fold, an offset that the broker no longer has, a batch
// that fails its checksum, a changelog that cannot be read or is cut. A stopped
// partition answers no decision, makes [Processor.Ready] fail and a gauge rise;
// the other partitions of the stripe go on. It is tried again with the next claim.
// A broker that is away stops nothing: writes and reads are repeated.
//
// # Windows
//
// A process that was suspended for longer than the session, and wakes up within
// step 4 or 5, repeats changes that the new owner tells too (same ids), and can
// write older rows over newer ones. A restore prefers the row with the larger input
// offset; only compaction between the two could lose one. The age of the last
// heartbeat is checked before each write, which leaves the time of one request.
//
// # Goroutines
//
// [Processor.Run] blocks in the group's loop. For each claimed stripe that loop
// starts one goroutine, stripe.run, owns it and waits for it before the group
// moves on; it alone writes the tables of its partitions. Decisions read tables
// from the goroutines of their requests. Nothing else runs here.
package processor
