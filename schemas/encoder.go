package schemas

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"

	"github.com/assent-dev/assent/consent"
)

// encoder writes one body, behind what b holds. The first fault sticks; what is written
// after it is thrown away. Numbers are Avro's, which are those of encoding/binary, so
// that a record is written where it is to stand and not copied there.
type encoder struct {
	b    []byte
	err  *EncodeError
	path string // prefix of field names in errors
	bare bool   // leave sent_at and received_at out: see EventDigest
}

// usualBytes hold most records: what has no room yet grows once.
const usualBytes = 512

// newEncoder writes a record with a frame behind dst.
func newEncoder(dst []byte, fingerprint uint64) encoder {
	return encoder{b: appendFrame(slices.Grow(dst, usualBytes), fingerprint)}
}

// after gives dst with the record that was written behind it, frame and body; on a fault
// it gives dst back as it was.
func (x *encoder) after(dst []byte) ([]byte, error) {
	if x.err == nil && len(x.b)-len(dst) > MaxPayloadBytes {
		x.path = ""
		x.fail(CodeTooLarge, "", "the record is over 1 MiB")
	}
	if x.err != nil {
		return dst, x.err
	}
	return x.b, nil
}

func (x *encoder) fail(code, field, reason string) {
	if x.err == nil {
		x.err = &EncodeError{Code: code, Field: x.path + field, Reason: reason}
	}
}

// some writes the branch of a nullable field, and gives back whether a value
// has to follow.
func (x *encoder) some(present bool) bool {
	if present {
		x.b = append(x.b, 1<<1)
	} else {
		x.b = append(x.b, 0)
	}
	return present
}

func (x *encoder) long(n int64) { x.b = binary.AppendVarint(x.b, n) }

func (x *encoder) flag(set bool) {
	if set {
		x.b = append(x.b, 1)
	} else {
		x.b = append(x.b, 0)
	}
}

func (x *encoder) text(field, s string) {
	switch {
	case len(s) > maxFieldBytes:
		x.fail(CodeTooLarge, field, "longer than 64 KiB")
	case !utf8.ValidString(s):
		x.fail(CodeInvalid, field, "not UTF-8")
	}
	x.long(int64(len(s)))
	x.b = append(x.b, s...)
}

func (x *encoder) optionalText(field, s string) {
	if x.some(s != "") {
		x.text(field, s)
	}
}

func (x *encoder) id(u consent.UUID) { x.raw(u[:]) }

func (x *encoder) optionalID(u consent.UUID) {
	if x.some(!u.IsZero()) {
		x.raw(u[:])
	}
}

func (x *encoder) optionalHash(h *[32]byte) {
	if x.some(*h != [32]byte{}) {
		x.raw(h[:])
	}
}

// raw writes a fixed value.
func (x *encoder) raw(b []byte) { x.b = append(x.b, b...) }

func (x *encoder) optionalBytes(b []byte) {
	if x.some(b != nil) {
		x.long(int64(len(b)))
		x.raw(b)
	}
}

func (x *encoder) instant(field string, i consent.Instant) {
	if !x.some(i != 0) {
		return
	}
	if !inCalendar(i) {
		x.fail(CodeInvalid, field, "outside the years 1900 to 9999")
	}
	x.long(int64(i))
}

func (x *encoder) enum(field string, index uint8, size int) {
	if int(index) >= size {
		x.fail(CodeInvalid, field, "no value of its enum")
	}
	x.long(int64(index))
}

func (x *encoder) optionalEnum(field string, index uint8, size int) {
	if x.some(index != 0) {
		x.enum(field, index, size)
	}
}

func (x *encoder) tri(field string, t consent.Tri) {
	if t > consent.Allowed {
		x.fail(CodeInvalid, field, "neither yes, no nor undecided")
	}
	if x.some(t != consent.Undecided) {
		x.flag(t == consent.Allowed)
	}
}

// array writes the count of an array's one block, n items, and its end.
func (x *encoder) array(n int, item func(i int)) {
	if n > 0 {
		x.long(int64(n))
		for i := range n {
			item(i)
		}
	}
	x.long(0)
}
