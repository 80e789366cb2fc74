// Package token encodes where an event was written, as the opaque text that an
// accepted event is answered with. A query that gives it back is answered from a
// state in which that event is folded (at_least).
//
// The text is base64url without padding, so that it needs no escaping in a URL:
//
//	+---------+-----------+---------+----------+
//	| version | partition | offset  | check    |
//	| 1 byte  | uvarint   | uvarint | 1 byte   |
//	+---------+-----------+---------+----------+
//
// The check byte is the low byte of the CRC-32C of what stands before it: a
// token that was cut or mistyped is told apart from one of another partition.
// There is exactly one text for a position.
package token

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
)

const (
	version = 1
	// maxChars is more than the longest token has: 1 + 5 + 9 + 1 bytes in base64.
	maxChars = 24
)

// ErrInvalid means that a text is no token of this version.
var ErrInvalid = errors.New("not a token: give back the text of an answer to POST /v1/events as it was")

var (
	encoding   = base64.RawURLEncoding.Strict()
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Encode gives the token of the record at offset of a partition of the event
// log. Negative numbers name no record; they count as 0.
func Encode(partition int32, offset int64) string {
	b := make([]byte, 0, 16)
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(max(partition, 0)))
	b = binary.AppendUvarint(b, uint64(max(offset, 0)))
	b = append(b, check(b))
	return encoding.EncodeToString(b)
}

// Decode reads a token. Its only error is [ErrInvalid].
func Decode(s string) (partition int32, offset int64, err error) {
	if len(s) == 0 || len(s) > maxChars {
		return 0, 0, ErrInvalid
	}
	b, err := encoding.DecodeString(s)
	if err != nil || len(b) < 4 || b[0] != version || check(b[:len(b)-1]) != b[len(b)-1] {
		return 0, 0, ErrInvalid
	}
	rest := b[1 : len(b)-1]
	p, n := binary.Uvarint(rest)
	if n <= 0 || p > math.MaxInt32 {
		return 0, 0, ErrInvalid
	}
	o, m := binary.Uvarint(rest[n:])
	if m <= 0 || o > math.MaxInt64 || n+m != len(rest) {
		return 0, 0, ErrInvalid
	}
	partition, offset = int32(p), int64(o)
	if Encode(partition, offset) != s { // a number written longer than it needs
		return 0, 0, ErrInvalid
	}
	return partition, offset, nil
}

func check(b []byte) byte { return byte(crc32.Checksum(b, castagnoli)) }
