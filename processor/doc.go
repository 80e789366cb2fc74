// Package processor folds consent.events into what holds now: the states that
// decisions are answered from, and the changes that downstreams are told. Each event
// counts exactly once, through crashes, rebalances and processes that wake up late.
//
// # Who is right about what
//
//   - consent.events is the truth. A partition's fold is a function of its
//     records in their order, of their broker times, and of nothing else.
//   - consent.state is the changelog of the fold: the latest record of a key is the
//     row. consent.changes is what was told. States, changes and the group's offset
//     move together, in one Kafka transaction a batch.
//   - The transactional id of a stripe is the lock on it. Who opened it last owns the
//     stripe; the broker refuses everybody else. The group's generation, checked with
//     each offset, is a second lock.
//   - The committed offset says what is folded; its metadata ([commitNote]) says what
//     the transaction wrote that brought it there.
//   - The local store ([Table], package store) is a copy of the changelog up to a
//     mark. It is never ahead of what is known to be committed, and a doubt discards it.
//   - consent.owners says who answers for a stripe: a hint for the other processors.
//     Who is asked knows better, by the age of its last heartbeat.
//
// # A takeover
//
// At the beginning of a claim, and again after every transaction whose outcome is
// not known, in this order:
//
//	init      the transactional id is taken: a former owner's transaction ends, what it still sends is refused
//	offsets   the committed offsets are read, now that no transaction can move them
//	verify    the states and changes of the last transaction are looked for
//	restore   the local store is brought to the end of the changelog, or made anew
//	announce  consent.owners names this process, in a transaction of the new epoch
//
// A crash behind any of them costs nothing: the next owner does the same. Offsets
// that were read before init, as a group's join gives them, would be those of a moment
// when the former owner could still commit: its events would be folded twice.
//
// # A batch
//
//	fetch           records of the stripe's partitions    nothing happened
//	decode          decode, check, clamp; or a dead letter
//	fold            consent.Folder over the table, pure
//	carry           carried events and dead letters are   written again, same ids
//	                acknowledged, outside of the transaction
//	begin           the transaction opens                 ended by the next owner
//	write           changes and states
//	commit offsets  with the group's generation
//	end             the transaction commits               done, or not at all
//	publish         decisions see the new states          read from the changelog
//	store           the local store takes the rows        the same
//
// The right column is what a crash behind the step costs. Carried events are written
// before the transaction ends, since a crash behind it would lose them; and not inside
// of it, since an open transaction of a dead process would hold up the withdrawals of
// everybody whose events come behind.
//
// An idle stripe commits at once: a lone withdrawal never waits. A busy one begins a
// transaction every [Config.Pace] or when it is full, since a broker that is asked to
// commit all the time does nothing else. Where the log has more, the next batch is
// fetched and decoded while one is folded and written; it is folded when that one is
// published, and dropped when that one fails.
//
// # A commit that tears
//
// A broker that is the only one, and is killed in the middle of a commit, can lose a
// part of it: the embedded broker by its nature, Apache Kafka by a fault. So verify
// believes nothing, see [tail]: a transaction that is not whole is folded again from
// where it began, over the states from before (rows carry the offset of consent.events
// that they were written for), and changes that readers have seen are not told again.
//
// # Dead letters, alarms
//
// A record that can never be used is a dead letter, and the partition goes on:
// bytes that do not decode (the decoder's code), wrong_key, wrong_partition,
// unstamped (a grant without stamps). A protective event without stamps counts at the
// broker's time.
//
// What is no property of the record stops its partition with an alarm, and
// skips nothing: a panic in the fold, an offset that the broker no longer has, a batch
// that fails its checksum, a changelog that cannot be read or is cut. A stopped
// partition answers no decision, makes [Processor.Ready] fail and a gauge rise;
// the other partitions of the stripe go on. It is tried again with the next claim.
// A broker that is away stops nothing: the stripe is taken over again until it is back.
//
// # Windows
//
// A stripe whose owner died waits for the group's session to run out. A transaction
// that it left open holds readers of its partitions up until the next owner's init,
// or [Config.TransactionTimeout]. A torn commit can be mended for as long as the broker has
// not compacted the rows from before it: brokers do not compact the active segment.
// Where the group's offset itself was lost (a group that was empty for seven days),
// folding goes on behind the newest state, and a torn commit before that is not seen.
//
// # Goroutines
//
// [Processor.Run] blocks in the group's loop. For each claimed stripe that loop
// starts one goroutine, stripe.run, owns it and waits for it before the group
// moves on; it alone writes the tables of its partitions. Decisions read tables
// from the goroutines of their requests. The local store has goroutines of its own,
// which end with Run.
package processor
