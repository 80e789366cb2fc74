package jsonform

import (
	"encoding/hex"
	"strconv"
	"unicode/utf8"

	"github.com/assent-dev/assent/consent"
)

// object appends one JSON object, field by field; what is absent is left out.
type object struct{ buf []byte }

func (o *object) open()  { o.buf = append(o.buf, '{') }
func (o *object) close() { o.buf = append(o.buf, '}') }

// nest begins an object as a field.
func (o *object) nest(name string) {
	o.name(name)
	o.open()
}

// name appends a comma where one is due, and the field's name, which needs no
// escaping.
func (o *object) name(name string) {
	if o.buf[len(o.buf)-1] != '{' {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(o.buf, '"')
	o.buf = append(o.buf, name...)
	o.buf = append(o.buf, '"', ':')
}

func (o *object) text(name, s string) {
	if s != "" {
		o.name(name)
		o.buf = appendQuoted(o.buf, s)
	}
}

// word appends an enum; index 0 is absent.
func (o *object) word(name string, index uint8, word string) {
	if index != 0 {
		o.text(name, word)
	}
}

func (o *object) id(name string, u consent.UUID) {
	if u.IsZero() {
		return
	}
	o.name(name)
	o.buf = append(o.buf, '"')
	for i, b := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			o.buf = append(o.buf, '-')
		}
		o.buf = append(o.buf, hexDigits[b>>4], hexDigits[b&15])
	}
	o.buf = append(o.buf, '"')
}

func (o *object) hash(name string, h *[32]byte) {
	if *h != [32]byte{} {
		o.name(name)
		o.buf = append(o.buf, '"')
		o.buf = hex.AppendEncode(o.buf, h[:])
		o.buf = append(o.buf, '"')
	}
}

func (o *object) instant(name string, i consent.Instant) {
	if i != 0 {
		o.name(name)
		o.buf = i.Time().AppendFormat(o.buf, `"2006-01-02T15:04:05.000Z"`)
	}
}

// flag appends a flag that is absent when false.
func (o *object) flag(name string, set bool) {
	if set {
		o.yes(name, true)
	}
}

// yes appends a flag either way.
func (o *object) yes(name string, set bool) {
	o.name(name)
	o.buf = strconv.AppendBool(o.buf, set)
}

func (o *object) tri(name string, t consent.Tri) {
	if t != consent.Undecided {
		o.yes(name, t == consent.Allowed)
	}
}

func (o *object) int(name string, n int64) {
	o.name(name)
	o.buf = strconv.AppendInt(o.buf, n, 10)
}

// appendTexts appends a list of texts as a field; an empty one is absent.
func appendTexts[T ~string](o *object, name string, list []T) {
	if len(list) == 0 {
		return
	}
	o.name(name)
	for i, s := range list {
		if i == 0 {
			o.buf = append(o.buf, '[')
		} else {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendQuoted(o.buf, string(s))
	}
	o.buf = append(o.buf, ']')
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends a JSON string. Bytes that are not UTF-8 become U+FFFD,
// and the line separators that JavaScript takes for line ends are escaped, as
// encoding/json does it.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = appendEscaped(dst, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			dst = append(dst, s[start:i]...)
			dst = append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
