// Package broker is the embedded Kafka broker: kfake, franz-go's in-process
// broker, made fit to keep data. It is for one machine; see docs/adr/0003.
//
// # Who is right about what
//
//   - The files below Dir/log are the truth; package disk knows and mends them.
//   - The engine (kfake) serves the protocol from memory, and writes through: each
//     produce request is answered when its records are synced.
//   - The mark Dir/… of a clean close says that the files can be believed as they
//     are. It is written last at Close, and removed first at Open.
//
// # Open, in steps
//
//	1 listen    the port is taken before anything is touched
//	2 settle    an interrupted compaction is finished or thrown away
//	3 check     closed in order: the files are checked, and compacted if worth it;
//	            else they are mended: torn ends are cut, open transactions aborted
//	4 mark      "open": from here on a kill is seen as one
//	5 serve     the engine loads, the rules are installed, connections are let in
//
// A crash before step 4 leaves the directory as it was, or finished; after it,
// the next Open mends. Acknowledged records are never cut: damage in front of
// readable records is an error, and needs a person.
//
// # Compaction
//
// The engine's own cleaner does not survive a kill -9, so it is switched off.
// Compacted topics are made small while the broker is stopped, after a clean
// close only: copy, compact the copy in a cluster that nobody can reach, verify
// that each key's last record and all offsets are there, assemble beside the log,
// swap by two renames. A crash at any step leaves the old log or the new one.
//
// # Rules in front of the engine
//
//   - guard drops a connection whose frame the engine would panic at, or that asks
//     for memory without measure. Other connections live on.
//   - admission answers a storage error while the disk has less than a reserve, and
//     for everything that writes once a write has failed: the engine would count it
//     as stored. Nothing is acknowledged that is not on disk.
//   - A batch that would damage the log, and a change of the broker's own settings,
//     are refused.
//
// # What differs from Apache Kafka
//
// The topic setting message.timestamp.type=LogAppendTime has no effect: a
// record's time is the producer's. Replication factor is 1. After an unclean stop
// an idempotent producer's sequence is forgotten, so a retry across it can write
// a record twice; readers tell by ids.
//
// # Cost
//
// BenchmarkProduce writes one record at a time with and without sync: 0.55 ms
// against 0.07 ms where the figures of docs/benchmarks.md were taken. Writers at
// the same time share a sync.
//
// # Goroutines
//
// The engine's own: one that serves the whole cluster, one per connection. Close
// waits for them, up to a bound.
package broker
