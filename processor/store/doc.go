// Package store keeps, for each partition of consent.state, a copy of the compacted
// changelog on local disk, so that a restart reads only what came since.
//
// # Who is right about what
//
//   - The changelog in Kafka is the truth. A store is a cache of it: it may be behind,
//     it may be gone, and whatever is doubtful about it is settled by [Partition.Discard].
//   - The [Mark] says what the copy covers. It is written in the same batch as the rows
//     that brought it there: rows and mark are one, or neither.
//   - Keys and values are the bytes of the topic. This package reads neither, but for the
//     two bars in a key (tenant|subject|purpose) that make a subject's rows neighbours.
//
// # What a crash leaves
//
// There is no write-ahead log. Calls are gathered, and go into one memtable together, whole;
// memtables are flushed in the order in which they were filled; a flush becomes visible by one
// record of the engine's manifest, written after the tables are synced. So after a crash, of the process
// or of the machine, a store holds the batches up to one of them and nothing else, and
// its mark is that batch's. What is missing is read from the changelog again.
//
//	Write, Load   in memory                  a crash loses it, and what came after it
//	flush         tables synced, manifest    a crash before the manifest's record: as if not
//	              record synced              begun; behind it: kept
//	Close         flushes                    nothing is read again
//
// # Damage
//
// Blocks carry checksums. What does not open, has a format that is not known, or was found
// damaged while it was used, is removed and begun anew, and the log says so. From the
// moment that damage is seen, or that a flush fails (a full disk), every call answers
// [ErrDamaged] and [Partition.Mark] nothing, until Discard; a file named DAMAGED keeps
// it so over a restart. No error of a disk ends the process. A manifest that has lost
// its end reads as one of an earlier moment: fewer batches, and the mark of the last of them.
//
// # On disk
//
//	<Dir>/LOCK             held while a Store is open
//	<Dir>/partition-<n>/   an engine's files (pebble), one directory a partition
//
// Keys of the engine, and their values:
//
//	+-----+
//	| 'm' |                            the mark, 51 bytes, see [Mark]
//	+-----+-------------------------+
//	| 'r' | key of the topic        |  the row: value of the topic
//	+-----+--------+----------------+
//	| 'x' | 8      | key of the     |  expiry index: empty. The 8 bytes are unix ms, big
//	|     |        | topic          |  endian, sign bit turned, so that they sort as numbers
//	+-----+--------+----------------+
//
// # Memory
//
// Blocks that were read and memtables share [Options.CacheBytes] over all partitions; what
// is on its way to disk adds up to two memtables a partition that is being written, and half
// a one that is gathered.
//
// # Goroutines
//
// All are the engine's. Per open partition one that removes files, and while they run
// one flush and one compaction (with a helper that writes blocks); [Partition.Close] waits for
// them. Per Store, four that close tables; they end with [Store.Close]. Compactions over all
// partitions: one for every two cores.
package store
