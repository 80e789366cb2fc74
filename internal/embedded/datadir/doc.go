// Package datadir owns the data directory of one installation: one process at a
// time, a format that is known, and the place of everything below it.
//
//	<data dir>/            0700
//	  LOCK                 locked while a process uses the directory
//	  LOCK.pid             who that is; a hint for the error text, nothing else
//	  VERSION              {"format":1,"writer":"v0.3.0"}
//	  kafka/               the embedded broker
//	  clickhouse/          the embedded ClickHouse
//	  state/               what the processor keeps of the changelog
//	  keys/                secrets made at the first start
//	  subject-key.fingerprint  tells which subject key the data was written under
//
// # Who is right
//
// The lock of the operating system on LOCK says who owns the directory: it ends
// with the process, however that ends, so no stale file ever blocks a start.
// VERSION says how to read what is there. The lock is per machine: a directory
// on a network share must not be used from two of them.
//
// # Order of steps of Open, and what a crash after each one costs
//
//  1. make the directory, take the lock: nothing
//  2. refuse a directory that holds something else, or a newer format: nothing
//  3. write VERSION, atomically and synced: nothing; the next Open finds it
//
// The package runs no goroutine.
package datadir
