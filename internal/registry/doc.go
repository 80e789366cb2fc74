// Package registry reads the two files that a controller writes: purposes.yaml
// (what a subject can say yes or no to) and downstreams.yaml (which systems must
// obey), checks every key of them, and answers questions about them.
//
// # Who is right about what
//
//   - The files are right about the present: defaults, notices, deadlines, who
//     is told. They never change a record; an event carries the policy that was
//     in force when it was accepted.
//   - A [Registry] is one reading of all files. It is made whole or not at all:
//     one fault in one file and there is no Registry, so that a half-read file
//     can't widen anybody's consent or silence a downstream.
//   - [consent.Catalogue] is the part that the domain decides by. This package
//     fills it; what it means stands in package consent.
//   - A [Store] holds the Registry in force. Replacing it is one atomic write;
//     who wants a consistent answer takes Current once and uses that.
//
// # Order of steps
//
//  1. Read the files, and bound them (size, nesting) before any parser sees them.
//  2. Parse YAML into nodes with positions. A file that is no YAML gives one
//     fault and is left; the others are read on.
//  3. Read each file key by key: unknown keys, wrong types and wrong values are
//     collected, never only the first.
//  4. Read what the files name: notice texts and calendars.
//  5. Check across files: tenants, patterns.
//  6. Hash, index, answer.
//
// Nothing is written anywhere, so a crash costs a new reading and no more. The
// package starts no goroutine. Files are read in [Load] only (steps 1 and 4),
// and secrets when their resolver is called.
//
// # Versions
//
// A catalogue's version is the SHA-256 (hex) of the tenant's purposes file and
// of every notice and calendar that it names by file, in the order in which they
// are named. It is stamped on events, so a change of downstreams does not alter
// it. [Registry.Version] covers all files of all tenants, in any order. Names and
// places of files count for neither: the same bytes have the same version on
// every machine.
//
// What YAML is read, and how a fault finds its line, stands in package
// [github.com/assent-dev/assent/internal/registry/strictyaml].
package registry
