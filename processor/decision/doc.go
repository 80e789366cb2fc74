// Package decision answers "may I?" over HTTP, from the states that the processor
// has folded.
//
// # Who is right about what
//
//   - The states ([States]) say what was said. They are never older than what
//     the processor has saved.
//   - The registry in force ([Config.Catalogue]) says what holds where nothing was.
//   - Package consent decides ([consent.Decide], [consent.DecideTogether]); this
//     package reads questions and writes answers.
//
// # An answer, step by step
//
//  1. Read the whole question. One fault, and all faults are told (400).
//  2. Wait until the events that at_least names are folded, or answer 503
//     not_folded: never an older answer.
//  3. Look up the states. Where one cannot be known here (the partition is
//     another process's, or not restored), the answer is unavailable: denied.
//  4. Decide, for the later of now and the State's clock: when the machine's clock
//     is set back, what had expired stays expired.
//  5. Ask again whether this process may answer: it may have been suspended since
//     step 3, and its partition given to another. If so, unavailable.
//
// A subject is echoed as the pseudonymous id that it is on record under, and
// reaches no log. The package starts no goroutines.
package decision
