// Package chfront serves ClickHouse's native TCP protocol over libchdb, so that production code sees nothing but a
// ClickHouse address.
//
// Who is right about what: the engine decides about SQL, data, rights, limits and errors, whose codes and messages
// pass through unchanged. This package carries packets, keeps one engine session per connection, and refuses what
// the engine would do outside its access control (package sqltext). Blocks are translated, not decoded (package
// native).
//
// # One query, in steps
//
//  1. read decodes the query packet; serve takes it, and the external tables after it (refused where there are any).
//  2. The engine parses the text without running it: exactly one statement, or an exception. Guards.
//  3. The query's settings become the session's, by SET. The engine has no settings of one query.
//  4. A SELECT is streamed, block by block. An INSERT of blocks is answered by the table's header; its blocks are fed
//     to the engine and committed by the empty one. Everything else runs in one piece.
//  5. Settings are taken back; where that fails, the engine session is replaced by a new one.
//  6. Progress, profile and end of stream, or an exception.
//
// A crash before the answer to step 4's commit leaves an INSERT undecided, as with every ClickHouse: send it again
// with the same insert_deduplication_token. A Cancel, a closed connection and Close of the server are one thing: the
// watcher kills the session's query, again and again, until the engine's call returns.
//
// # What it does not do
//
// HTTP, TLS, external tables, query ids of the client, server logs and profile events, totals and extremes, the types
// Variant, Dynamic and AggregateFunction in answers, parameters of type Identifier, one user besides "default". The
// engine offers no users, grants or query log by SQL: least privilege is for a real server.
//
// # Goroutines
//
//   - Serve: accepts, in the caller's goroutine.
//   - serve, one per connection: handshake, then executes packets. It alone calls the engine session.
//   - read, one per connection: decodes packets and hands them to serve; it notices a Cancel or the client's going
//     while a query runs. Ends with the connection; serve waits for it.
//   - a watcher, one per running query: asleep until the query is cancelled, then kills. The query waits for it.
package chfront
