package schemas

import (
	"sync"
	"unicode/utf8"

	"github.com/hamba/avro/v2"

	"github.com/assent-dev/assent/consent"
)

// config is how the library is used: no size before an array's items (the bytes
// that Java and Python write), and its own limits as a second fence.
var config = avro.Config{
	DisableBlockSizeHeader: true,
	MaxByteSliceSize:       MaxPayloadBytes,
	MaxSliceAllocSize:      MaxPayloadBytes,
}.Freeze()

// encoder writes one body. The first fault sticks; what is written after it is
// thrown away.
type encoder struct {
	w    *avro.Writer
	err  *EncodeError
	path string // prefix of field names in errors
	bare bool   // leave sent_at and received_at out: see EventDigest
}

// keptBufferBytes is the largest buffer that goes back into the pool.
const keptBufferBytes = 64 << 10

var encoders = sync.Pool{New: func() any {
	return &encoder{w: avro.NewWriter(nil, 1024, avro.WithWriterConfig(config))}
}}

func newEncoder() *encoder { return encoders.Get().(*encoder) }

func (x *encoder) release() {
	if cap(x.w.Buffer()) > keptBufferBytes {
		return
	}
	x.w.Reset(nil)
	x.w.Error, x.err, x.path, x.bare = nil, nil, "", false
	encoders.Put(x)
}

// appendTo appends frame and body to dst; on a fault it gives dst back as it was.
func (x *encoder) appendTo(dst []byte, fingerprint uint64) ([]byte, error) {
	body := x.w.Buffer()
	if x.err == nil && frameBytes+len(body) > MaxPayloadBytes {
		x.path = ""
		x.fail(CodeTooLarge, "", "the record is over 1 MiB")
	}
	if x.err != nil {
		return dst, x.err
	}
	return append(appendFrame(dst, fingerprint), body...), nil
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
		x.w.WriteInt(1)
	} else {
		x.w.WriteInt(0)
	}
	return present
}

func (x *encoder) text(field, s string) {
	switch {
	case len(s) > maxFieldBytes:
		x.fail(CodeTooLarge, field, "longer than 64 KiB")
	case !utf8.ValidString(s):
		x.fail(CodeInvalid, field, "not UTF-8")
	}
	x.w.WriteString(s)
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

// raw writes a fixed value; the library's writer keeps it in memory and cannot fail.
func (x *encoder) raw(b []byte) { _, _ = x.w.Write(b) }

func (x *encoder) optionalBytes(b []byte) {
	if x.some(b != nil) {
		x.w.WriteBytes(b)
	}
}

func (x *encoder) instant(field string, i consent.Instant) {
	if !x.some(i != 0) {
		return
	}
	if !inCalendar(i) {
		x.fail(CodeInvalid, field, "outside the years 1900 to 9999")
	}
	x.w.WriteLong(int64(i))
}

func (x *encoder) enum(field string, index uint8, size int) {
	if int(index) >= size {
		x.fail(CodeInvalid, field, "no value of its enum")
	}
	x.w.WriteInt(int32(index))
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
		x.w.WriteBool(t == consent.Allowed)
	}
}

// array writes the count of an array's one block, n items, and its end.
func (x *encoder) array(n int, item func(i int)) {
	if n > 0 {
		x.w.WriteBlockHeader(int64(n), 0)
		for i := range n {
			item(i)
		}
	}
	x.w.WriteBlockHeader(0, 0)
}
