// Package table is the history's side of ClickHouse: the connection, the
// tables and their migrations, and writing rows.
//
// # Who is right about what
//
//   - ddl/*.sql says which columns there are; the column lists in this package say
//     how a record fills them, and a test holds the two against each other.
//   - A row's position (topic, partition, offset) names it. Writing the same
//     position twice is what package sink prevents.
//
// An INSERT is one block, under a deduplication token and a deadline; its outcome
// after an error is unknown. Nothing here retries: package sink decides.
package table
