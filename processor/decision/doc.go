// Package decision answers "may I?" over HTTP, from the states that the processor
// has folded.
//
// # Who is right about what
//
//   - The states ([States]) say what was said. Whoever answers here need not be who
//     folds: package owner asks the process that owns the subject's partition.
//   - The registry in force ([Config.Catalogue]) says what holds where nothing was.
//   - Package consent decides ([consent.Decide], [consent.DecideTogether]); this
//     package reads questions and writes answers.
//
// # An answer, step by step
//
//  1. Read the whole question. One fault, and all faults are told (400).
//  2. Wait until the events that at_least names are folded, or answer 503
//     not_folded: never an older answer.
//  3. Look up the states, of all the questions of a request at once. Where one cannot
//     be known (nobody owns the partition, or its owner cannot be reached or may have
//     lost it), the answer is unavailable: denied.
//  4. Decide, for the later of now and the State's clock: when the machine's clock
//     is set back, what had expired stays expired.
//  5. Ask again whether the states may still be told ([Folded.Valid]): this process may
//     have been suspended since step 3, and a partition given to another. If not,
//     unavailable.
//
// as_of says when the states were read, by the clocks of those who own them: the earliest,
// where a question named several subjects.
//
// A subject is echoed as the pseudonymous id that it is on record under, and
// reaches no log. The package starts no goroutines.
package decision
