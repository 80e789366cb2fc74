// Package broker is the embedded Kafka broker: kfake, franz-go's in-process
// broker, made fit to keep data. It is for one machine; see docs/adr/0003.
//
// # Who is right about what
//
// The files below Dir/log are the truth; package disk knows and mends them. The
// engine (kfake) serves the protocol from memory and writes through: a produce
// request is answered when its records are synced. Dir/CLEAN says that the files
// can be believed as they are: it is written last at Close and removed first at
// Open. The caller owns Dir alone (package datadir).
//
//	<dir>/CLEAN           closed in order, and not opened since
//	<dir>/log/            the engine's data directory
//	<dir>/log.work/       a compaction's copy of the compacted topics
//	<dir>/log.compacted/  a whole log, compacted, on its way to be log/
//	<dir>/log.replaced/   the log that it replaces
//
// # Open, in steps
//
//  1. listen: a wrong or taken address fails before anything is touched
//  2. settle: an interrupted compaction is thrown away; log.replaced comes back
//     when there is no log
//  3. closed in order: read every batch, compact if it is worth it;
//     else mend: torn ends are cut, open transactions aborted
//  4. remove CLEAN, synced: from here on a kill is seen as one
//  5. the engine loads, the rules are installed, connections are let in
//
// A crash in 1 to 4 leaves a directory that the next Open takes the same way; one
// after 4 is what step 3 mends. Acknowledged records are never cut: damage in
// front of readable records is a [disk.CorruptError], and needs a person.
//
// # Compaction
//
// The engine's own cleaner loses keys in a kill -9, so it is switched off. Open
// compacts instead, with nobody connected, after a clean close only, and never
// while a transaction is open. It is worth it when 16 MiB and half of the
// compacted topics' bytes came since the last time. Steps, as tests kill them:
//
//	copied      log.work has the compacted topics, byte by byte: the engine must not
//	            get at the log through a link
//	compacted   an engine that nobody can reach has compacted them
//	verified    each key's last committed record has its offset, time, headers and
//	            value; the ends are the same; only old tombstones are gone
//	assembled   log.compacted: those topics, and links to all other files; synced
//	moved_away  log is log.replaced
//	swapped     log.compacted is log
//
// A kill behind any of them leaves the old log or the new one. Any error leaves
// the old one, with a warning. Compaction moves a partition's begin up to its
// first record that is left, which Apache Kafka does not do: a reader of a
// compacted topic whose position is below it is answered OFFSET_OUT_OF_RANGE
// and has missed nothing. A partition's last batch is never compacted.
// Nothing is ever deleted by age or size, whatever a topic's settings say.
//
// # Rules in front of the engine
//
//   - Only the requests in served are answered and offered to clients.
//   - guard judges the first 8 bytes of each request and drops the connection that
//     sends another, at which the engine would panic, or one over 100 MiB.
//   - admission answers KAFKA_STORAGE_ERROR (clients retry) to whatever needs room
//     while less than the reserve is free.
//   - After a write that failed it does so for everything that writes, until the
//     directory is opened again: the engine has counted the batch as seen, and
//     would acknowledge an idempotent producer's retry without storing it.
//   - It refuses what damages the log (a batch that claims the broker's time, or no
//     records), what stops the engine (a topic of two billion partitions, a group
//     member that lists a protocol twice), and changes of the broker's settings.
//
// What they leave open: a program on this machine that means harm can still keep
// a core busy, with a request that claims billions of tagged fields, or memory,
// with many connections that announce 100 MiB each.
//
// # What survives
//
// Records, topics, settings, commits with their metadata, transactional ids and
// epochs survive both a clean restart and a kill. A transaction that is open at
// a clean close goes on; one that is open at a kill is aborted in the log, and
// its producer fenced. Without that marker, which the engine does not write,
// clients skip the next committed transaction of the same producer, too.
//
// Group members are forgotten on purpose. The engine remembers them over a clean
// restart, and with a session of 6 s a group then resumed after 5.9 s; without
// them it resumes after 2 ms, as after a kill.
//
// # What differs from Apache Kafka
//
//   - message.timestamp.type=LogAppendTime is stored and has no effect. A fetched
//     batch carries the time that its producer claims and attribute bit 3 is
//     0; the answer to produce carries no time (-1).
//   - EndTxn is not atomic under a kill: its markers are written one partition
//     after the other, then the offsets. What was not marked is aborted.
//   - After a kill an idempotent producer's sequence is forgotten: a retry across
//     it can write a record twice.
//   - Produce is served up to version 12: with topic ids that it does not know the
//     engine panics. No KIP-848 groups, share groups, SASL, ACLs, quotas.
//   - The engine does not look at the result of a sync. A disk that fails there, as
//     a network disk may when it is full, is not noticed. Nor does it sync the
//     folder of a new file: that a synced file has its name after a power loss is
//     what ext4, xfs and btrfs do, and no standard demands.
//
// # Cost
//
// A batch costs two syncs, of segment and index, one batch after the other:
// partitions and writers do not share them, only records in one batch do.
// BenchmarkProduce, records of 400 bytes one by one on a virtual machine's ext4:
// 0.6 ms each, without syncs 0.07 ms. Opening reads every byte once more than the
// engine does.
//
// # Goroutines
//
// "engine" serves the whole cluster; "accept" waits for connections; each
// connection has a "read" and a "write" and, while they wait, one each for the
// socket. All are the engine's, and end by Close, which waits for the first. When
// that does not come within 7 s, Close gives up and the directory counts as
// not closed.
package broker
