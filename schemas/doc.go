// Package schemas is the contract in bytes: the Avro schemas of every topic,
// and the codecs for them. It is the only package that knows Avro.
//
// # Who is right about what
//
//   - The .avsc files say what a record is. They are embedded ([All]), registered
//     as they stand, and enough for a publisher or reader in another language.
//   - Package consent says what the fields mean and which values are allowed.
//   - The codecs here are written by hand for speed. Tests hold them to the
//     .avsc files through the library's reflective codec, and to the bytes that
//     another implementation writes.
//
// # Bytes
//
// A record is written in Avro's single-object encoding:
//
//	+----+----+-------------------------+------------------+
//	| C3 | 01 | fingerprint, 8 bytes LE | Avro binary body |
//	+----+----+-------------------------+------------------+
//
// The fingerprint is the CRC-64-AVRO of the schema's parsing canonical form.
// Absent is null; an absent flag is false. Arrays are one block without a size,
// as Java and Python write them. Ids are the 16 bytes of the UUID.
// Source: Avro 1.12 specification, "Single-object encoding" and "Parsing Canonical Form".
//
// # What a decoder promises
//
// It never panics, never reads past the value's own schema, keeps nothing of
// its input, and allocates in proportion to the bytes that it was given:
//
//  1. a payload over [MaxPayloadBytes] is refused before anything is read;
//  2. the first bytes must name the schema that is asked for;
//  3. every length and count is held against the bytes that are left;
//  4. text must be UTF-8, an enum's index must be listed, an instant must lie in
//     the years 1900 to 9999;
//  5. tenant, subject and purpose must be what package consent accepts;
//  6. nothing may follow.
//
// The first fault ends it, as a [DecodeError] that names the field and never
// the payload. The encoders hold to the same rules, so that nothing is written
// which could not be read. UNKNOWN, the first symbol of every enum, is nothing
// that a grant could be made of.
//
// What a publisher puts into consent.intake may hold a raw subject or a purpose
// that nobody declared; [DecodeIntakeEvent] leaves that to the gateway.
//
// The package starts no goroutines; every function may be called concurrently.
package schemas
