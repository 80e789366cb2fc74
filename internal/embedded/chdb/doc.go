// Package chdb binds libchdb, ClickHouse 26.7 as a shared library, without cgo.
//
// Who is right about what: the engine decides everything about SQL, data and errors; this package only
// carries bytes to it and back, and knows where the library lies on disk (Locate).
//
// One process has one data directory. Library.Connect with that directory's path may be called many times;
// each Conn is a session of its own (current database, SET values) and runs one statement at a time, several
// Conns run in parallel. The first Conn starts the engine, closing the last one stops it, so whoever serves
// clients keeps one open until the end.
//
// The order at the end of a process is: close every Conn, exit. Nothing else is called: the library's own
// shutdown function is not used, and a kill at any point costs no more than what the engine had not
// synchronised (see fsync_after_insert).
//
// Memory: a Result and what Data returns live in C memory until Release. A Stream or an Insert that is not
// closed leaks its handle and blocks its Conn.
//
// The package starts no goroutine. The engine starts threads of its own, outside Go's sight.
package chdb
