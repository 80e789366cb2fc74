// Package sqltext looks at the text of a statement before the engine does.
//
// Who is right about what: the engine's own parser decides what a statement is and whether it is one. The tokens
// here serve three ends: to refuse what the engine would do outside its access control (Guard), to find out
// whether the rows of an INSERT come from the client (Insert), and to take off a FORMAT clause, which the native
// protocol ignores and the engine would obey (WithoutFormat).
//
// For that, Lex must see the same tokens as the engine. So it refuses every text, outside quotes and comments,
// that could be read in two ways: bytes that are not ASCII, backslashes, control characters, lone dollar signs,
// and backslashes inside quoted names.
//
// The package is pure: no I/O, no clock, no goroutine.
package sqltext
