// Package jsonform is the contract in JSON: how an event is posted, and how
// events, changes and deliveries are shown and sent.
//
// Field names are those of the Avro schemas. Times are RFC 3339 in UTC with
// exactly three decimals; any offset is read. Enums are lower snake case, ids
// lower-case hex in the 36-character form, hashes 64 hex digits. What is absent
// is left out, and null is read as absent; a flag that is false is absent, but
// for the ones that a reader decides by (withdrawal, allowed_before and
// allowed_after).
//
// # Reading
//
// A sender's mistake is told, not guessed around, and it depends on the action
// what it costs: a grant with a mistake is refused, a withdrawal is accepted
// with a warning. So [ParseEvent] gives what it could read together with every
// [Problem], and an error only where there is nothing to go on: bytes that are
// no JSON, or no tenant, subject, purpose or action that could be used.
//
// The package knows no registry and no clock. Whether a subject is raw, a
// purpose declared or a grant valid is for the gateway and package consent.
package jsonform
