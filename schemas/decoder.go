package schemas

import (
	"errors"
	"io"
	"math"
	"math/bits"
	"sync"
	"unicode/utf8"

	"github.com/hamba/avro/v2"

	"github.com/assent-dev/assent/consent"
)

// config is how the library is used: its own limits as a second fence; and where tests
// write by it, no size before an array's items, as Java and Python write.
var config = avro.Config{
	DisableBlockSizeHeader: true,
	MaxByteSliceSize:       MaxPayloadBytes,
	MaxSliceAllocSize:      MaxPayloadBytes,
}.Freeze()

// keptBufferBytes is the largest buffer that goes back into the pool.
const keptBufferBytes = 64 << 10

// decoder reads one body. The first fault sticks; what is read after it is zero.
//
// The library's reader grants memory for what a length declares, loops as often
// as a count declares, cuts numbers that are too long for an int and goes on
// after the end of its input. So every length, count and number passes through
// a method here, and the reader is asked only for numbers of more than one byte:
// most of a record are branches, lengths and symbols, which are smaller.
type decoder struct {
	r      *avro.Reader
	left   int // bytes not yet read
	err    *DecodeError
	path   string // prefix of field names in errors
	intake bool   // a publisher's event: see DecodeIntakeEvent
	// folding has memory for parts of the event, nil = they are to last.
	folding *Folding
	body    []byte
	odd     bool // a value has another form than the one that the encoder writes

	// What was left before and behind an event's sent_at and received_at.
	beforeSent, behindReceived int

	words   vocabulary
	scratch []byte
}

var decoders = sync.Pool{New: func() any {
	return &decoder{
		r:       avro.NewReader(nil, 0, avro.WithReaderConfig(config)),
		words:   vocabulary{all: make(map[string]string)},
		scratch: make([]byte, 0, 1024),
	}
}}

// newDecoder starts on the body of a framed value.
func newDecoder(b []byte, fingerprint uint64) (*decoder, error) {
	body, err := unframe(b, fingerprint)
	if err != nil {
		return nil, err
	}
	d := decoders.Get().(*decoder)
	d.begin(body)
	return d, nil
}

func (d *decoder) begin(body []byte) {
	d.body, d.left = body, len(body)
}

// finish tells how it went, and that nothing follows.
func (d *decoder) finish() error {
	if d.err != nil {
		return d.err
	}
	if d.left > 0 {
		return &DecodeError{Code: CodeTrailing, Reason: "bytes follow the record"}
	}
	return nil
}

func (d *decoder) release() {
	d.r.Reset(nil)
	d.r.Error, d.err, d.path, d.intake, d.body, d.odd, d.folding = nil, nil, "", false, nil, false, nil
	if cap(d.scratch) > keptBufferBytes {
		d.scratch = make([]byte, 0, 1024)
	}
	decoders.Put(d)
}

func (d *decoder) fail(code, field, reason string) {
	if d.err == nil {
		d.err = &DecodeError{Code: code, Field: d.path + field, Reason: reason}
	}
}

// cut tells that the record ends within a field.
func (d *decoder) cut(field string) { d.fail(CodeTruncated, field, "the record ends here") }

func (d *decoder) long(field string) int64 {
	if d.err != nil {
		return 0
	}
	rest := d.body[len(d.body)-d.left:]
	if len(rest) > 0 && rest[0] < 0x80 {
		d.left--
		return int64(rest[0]>>1) ^ -int64(rest[0]&1)
	}
	return d.longer(field, rest)
}

// longer reads a number of more than one byte.
func (d *decoder) longer(field string, rest []byte) int64 {
	d.r.Reset(rest)
	n := d.r.ReadLong()
	switch {
	case errors.Is(d.r.Error, io.EOF) || errors.Is(d.r.Error, io.ErrUnexpectedEOF):
		d.cut(field)
		return 0
	case d.r.Error != nil:
		d.fail(CodeInvalid, field, "no number of Avro's form")
		return 0
	}
	size := 1
	for rest[size-1] >= 0x80 {
		size++
	}
	if size != varintBytes(n) {
		d.odd = true
	}
	d.left -= size
	return n
}

// varintBytes is the size of n's shortest form. A writer may use a longer one.
func varintBytes(n int64) int {
	return max(1, (bits.Len64(uint64(n)<<1^uint64(n>>63))+6)/7)
}

// maxIntBytes is the longest form of an int, and of a branch and a symbol, which are
// ints: readers in other languages look no further.
const maxIntBytes = 5

func (d *decoder) int(field string) int32 {
	left := d.left
	n := d.long(field)
	if n < math.MinInt32 || n > math.MaxInt32 || left-d.left > maxIntBytes {
		d.fail(CodeInvalid, field, "does not fit an int")
		return 0
	}
	return int32(n)
}

// small looks at what comes: a number of one byte that is not negative, as branches and
// symbols nearly always are. Who takes it moves on.
func (d *decoder) small() (n byte, ok bool) {
	if d.left == 0 || d.err != nil {
		return 0, false
	}
	b := d.body[len(d.body)-d.left]
	return b >> 1, b&0x81 == 0
}

// some reads the branch of a nullable field: whether a value follows.
func (d *decoder) some(field string) bool {
	if n, ok := d.small(); ok && n <= 1 {
		d.left--
		return n == 1
	}
	switch d.int(field) {
	case 0:
		return false
	case 1:
		return true
	}
	d.fail(CodeInvalid, field, "no branch of its union")
	return false
}

func (d *decoder) flag(field string) bool {
	if d.err != nil {
		return false
	}
	if d.left == 0 {
		d.cut(field)
		return false
	}
	b := d.body[len(d.body)-d.left]
	if b > 1 {
		d.fail(CodeInvalid, field, "no flag of Avro's form")
		return false
	}
	d.left--
	return b == 1
}

// bytes reads n bytes, known to be within limits. They are those of the input.
func (d *decoder) bytes(field string, n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > d.left {
		d.cut(field)
		return nil
	}
	from := len(d.body) - d.left
	d.left -= n
	return d.body[from : from+n : from+n]
}

// sized reads a length and as many bytes, which are those of the input.
func (d *decoder) sized(field string, limit int) []byte {
	n := d.long(field)
	switch {
	case n < 0:
		d.fail(CodeInvalid, field, "a negative length")
	case n > int64(limit):
		d.fail(CodeTooLarge, field, "longer than its limit")
	default:
		return d.bytes(field, int(n))
	}
	return nil
}

func (d *decoder) utf8(field string) []byte {
	b := d.sized(field, maxFieldBytes)
	if !utf8.Valid(b) {
		d.fail(CodeInvalid, field, "not UTF-8")
		return nil
	}
	return b
}

// text reads a text that is likely to be seen once.
func (d *decoder) text(field string) string { return string(d.utf8(field)) }

// word reads a text that is likely to come again.
func (d *decoder) word(field string) string {
	s, ok := d.words.of(d.sized(field, maxFieldBytes))
	if !ok {
		d.fail(CodeInvalid, field, "not UTF-8")
		return ""
	}
	return s
}

func (d *decoder) optionalText(field string) string {
	if !d.some(field) {
		return ""
	}
	return given(d, d.text(field))
}

func (d *decoder) optionalWord(field string) string {
	if !d.some(field) {
		return ""
	}
	return given(d, d.word(field))
}

// given passes the value of a nullable field on. One that is absent all the same, the
// encoder writes as null.
func given[T comparable](d *decoder, v T) T {
	if v == *new(T) {
		d.odd = true
	}
	return v
}

func (d *decoder) optionalBytes(field string, limit int) []byte {
	if !d.some(field) {
		return nil
	}
	b := d.sized(field, limit)
	if d.err != nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

func (d *decoder) id(field string) (u consent.UUID) {
	copy(u[:], d.bytes(field, len(u)))
	return u
}

func (d *decoder) optionalID(field string) (u consent.UUID) {
	if d.some(field) {
		copy(u[:], d.bytes(field, len(u)))
		given(d, u)
	}
	return u
}

func (d *decoder) optionalHash(field string) (h [32]byte) {
	if d.some(field) {
		copy(h[:], d.bytes(field, len(h)))
		given(d, h)
	}
	return h
}

// instant reads a nullable time. One that no calendar shows is a fault; of a
// publisher's claim it is no claim: that refuses a grant, never a withdrawal.
func (d *decoder) instant(field string) consent.Instant {
	if !d.some(field) {
		return 0
	}
	i := given(d, consent.Instant(d.long(field)))
	if inCalendar(i) {
		return i
	}
	if !d.intake {
		d.fail(CodeInvalid, field, "outside the years 1900 to 9999")
	}
	return 0
}

func (d *decoder) enum(field string, size int) uint8 {
	if n, ok := d.small(); ok && int(n) < size {
		d.left--
		return n
	}
	n := d.int(field)
	if n < 0 || int(n) >= size {
		d.fail(CodeInvalid, field, "no value of its enum")
		return 0
	}
	return uint8(n)
}

func (d *decoder) optionalEnum(field string, size int) uint8 {
	if !d.some(field) {
		return 0
	}
	return given(d, d.enum(field, size))
}

func (d *decoder) tri(field string) consent.Tri {
	switch {
	case !d.some(field):
		return consent.Undecided
	case d.flag(field):
		return consent.Allowed
	}
	return consent.Denied
}

// array calls item for each item. itemBytes is the least that one can take: a
// block that declares more items than the bytes left can hold is not begun.
func (d *decoder) array(field string, itemBytes int, item func()) {
	for blocks := 0; d.err == nil; blocks++ {
		n := d.long(field)
		if n == 0 {
			return
		}
		if n < 0 || blocks > 0 {
			d.odd = true
		}
		if n < 0 { // a writer that gives the block's size after its count
			if d.long(field) < 0 || n == math.MinInt64 {
				d.fail(CodeInvalid, field, "a negative size")
				return
			}
			n = -n
		}
		if n > int64(d.left/itemBytes) {
			d.fail(CodeTruncated, field, "declares more items than there are bytes")
			return
		}
		for ; n > 0 && d.err == nil; n-- {
			item()
		}
	}
}
