// Package drive sends what package loadgen makes, at a pace, and keeps the score.
//
// # Who is right about what
//
// The generator says what is sent and what must be answered; a [Sender] how it
// is carried; the answer whether it is recorded, where, and since when. What is
// not confirmed is sent again with the same ids, so that it counts once.
//
// # A parcel on its way
//
//  1. [Run] waits until the next events are due, and makes them then: their times
//     are those of the moment. With a rate, due does not depend on the answers,
//     and latency counts from due: a target that stalls is not spared.
//  2. A worker carries the parcel. There are Concurrency of them; when all wait
//     for answers, Run waits too, and what is due meanwhile is late.
//  3. Each answer is held against what was expected, and counted. The [Witness],
//     where there is one, keeps the answers of the households that it watches.
//
// Run stops at its number of events or its duration, or when its context ends.
// What is on its way has Grace to be answered; what is not is counted as
// unanswered, and its household is left out of the comparison.
//
// # The comparison
//
// [Witness.Compare] folds what was recorded of the watched households, in the
// order of its positions, with package consent, as the processor should have,
// and asks the target for its decisions: every declared purpose of every subject.
// A carried restriction takes a second turn through the log, so a difference
// counts only if it stays.
//
// # Goroutines
//
//	worker    Concurrency of them; each carries one parcel at a time; Run waits for all
//	progress  calls Config.Progress each second; Run waits for it
package drive
