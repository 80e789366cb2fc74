// Package disk reads and mends the files that the embedded broker's engine
// (kfake) leaves in its data directory. It exists because the engine, when it
// loads, cuts a segment at the first batch that it cannot read, whatever
// follows; because it appends behind a torn log entry and then cannot read what
// it appended; and because it forgets at the second crash which transaction it
// aborted after the first. So these files are looked at before the engine is.
//
// # Who is right about what
//
// The segment files (.dat) are the truth: record batches as Kafka writes them,
// each with its CRC. An index (.idx) can be made again from its segment at any
// time. groups.log and pids.log are the truth about commits and producer
// epochs. topics.json says which partitions exist.
//
// # Files
//
//	meta.json           {"version":1,"cluster_id":…}
//	topics.json         {"version":1,"topics":[{name,id,partitions,replicas,configs}]}
//	groups.log          entries, JSON: commits, group metadata
//	pids.log            entries, JSON: producer ids and epochs
//	partitions/<topic, path-escaped>-<n>/
//	  <base offset>.dat   record batches, one behind the other
//	  <base offset>.idx   15 bytes for each batch
//	  snapshot.json       what a clean close knew; ignored when sizes differ
//
//	entry  | length u32 | crc32c u32 | version u16 | JSON … |   little endian;
//	       length counts version and JSON, so does the CRC
//	index  | version u8 | check u8 | leader epoch u32 | time u64 | flags u8 |
//	       check = low byte of the CRC of the 13 bytes behind it;
//	       flag 1 = the batch is part of a transaction
//
// # Check and Repair
//
// [Check] is for a directory that was closed in order: it changes nothing, and
// any unreadable byte is a [CorruptError]. [Repair] is for one that was not:
//
//  1. groups.log and pids.log keep every readable entry, in order;
//  2. each last segment is cut behind its last readable batch (that batch was
//     never acknowledged: each is synced before the next is written), but
//     when a readable batch follows, it is damage and no torn tail, and
//     a CorruptError;
//  3. an index that does not fit its segment is written anew;
//  4. a producer whose transaction is open gets the next epoch in pids.log, so
//     that its old self is fenced;
//  5. its partitions get an ABORT marker, synced.
//
// A crash between any two of them leaves work for the next Repair and takes
// nothing away. Repair of a repaired directory changes nothing.
//
// Both use a goroutine for each CPU, and wait for them.
package disk
