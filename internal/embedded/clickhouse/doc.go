// Package clickhouse runs the embedded ClickHouse: a child process of the same binary that serves the native
// protocol on loopback, and the supervisor that starts it, watches over it and starts it again.
//
// A child process, because the engine is a C++ library: a fault of it, or a query that takes all memory, must not
// take the roles down.
//
// Who is right about what: the child owns the data directory (a lock file says so) and everything in it; the
// supervisor owns the listening socket and the password, and hands both to each child in turn. So the address and
// the DSN stay the same over restarts: a client that connects while no child runs waits in the socket's queue.
//
// # Start, in steps, with what a crash after each one costs
//
//  1. The supervisor listens, and starts the child with the socket as file 3. Nothing is written.
//  2. It sends the child one line of JSON over standard input: data directory, password, library. (Not by
//     environment or arguments, which other processes can read.) A child that gets none ends at once.
//  3. The child locks the data directory. The lock dies with the process.
//  4. It loads the library, starts the engine, makes the database. A crash here is a crash of the engine while it
//     loads tables: the next start does the same again.
//  5. It prints "ready <addr>" and serves, or prints "failed" with a sentence.
//
// # Stop
//
// Standard input is the child's life line. Its end, by Server.Close or by the parent's death, makes the child
// finish running statements (3 s, then they are killed), close the engine and exit. On Linux the kernel kills the
// child with its parent besides. The command that runs Child should ignore the signals that end others: a terminal
// sends them to the whole group, while the parent still works with the child. A kill at any moment loses no row of
// an INSERT that was answered, where the table has fsync_after_insert; an INSERT that was not answered may be there
// or not, and is sent again with its token.
//
// # Goroutines
//
//   - supervise: one for the life of a Server; starts children one after the other, on a thread of its own, since
//     Linux ties the death signal to the thread. Ends by Close.
//   - three per child, which end with it: one waits for its end, two read its standard output and standard error.
//   - in the child: one that waits for the end of standard input, and the front's (see package chfront).
package clickhouse
