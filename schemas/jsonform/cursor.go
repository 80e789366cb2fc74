package jsonform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deep a value may be nested; an event needs two.
const maxDepth = 32

// cursor walks over JSON that encoding/json has found valid. So it may rely on
// every value being well formed, and looks at each byte once.
type cursor struct {
	data []byte
	at   int
	deep bool // something was nested deeper than maxDepth
}

// newCursor checks data and stands on its one value.
func newCursor(data []byte) (cursor, error) {
	if !utf8.Valid(data) {
		return cursor{}, errors.New("the text is not UTF-8")
	}
	if !json.Valid(data) {
		var fault *json.SyntaxError
		var discard json.RawMessage
		if errors.As(json.Unmarshal(data, &discard), &fault) {
			return cursor{}, fmt.Errorf("the text is not JSON: look at byte %d", fault.Offset)
		}
		return cursor{}, errors.New("the text is not JSON")
	}
	c := cursor{data: data}
	c.space()
	return c, nil
}

func (c *cursor) space() {
	for c.at < len(c.data) {
		switch c.data[c.at] {
		case ' ', '\t', '\n', '\r':
			c.at++
		default:
			return
		}
	}
}

// next is the first byte of the value: { [ " t f n - or a digit.
func (c *cursor) next() byte { return c.data[c.at] }

// raw steps over a string and gives it with its quotes.
func (c *cursor) raw() []byte {
	start := c.at
	c.at++
	for c.data[c.at] != '"' {
		if c.data[c.at] == '\\' {
			c.at++
		}
		c.at++
	}
	c.at++
	return c.data[start:c.at]
}

// text steps over a string and gives what it says.
func (c *cursor) text() string {
	raw := c.raw()
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "" // cannot be: the string is valid
	}
	return s
}

// skip steps over a value of any kind.
func (c *cursor) skip() {
	for depth := 0; ; {
		switch c.next() {
		case '"':
			c.raw()
		case '{', '[':
			depth++
			c.deep = c.deep || depth > maxDepth
			c.at++
		case '}', ']':
			depth--
			c.at++
		case ',', ':', ' ', '\t', '\n', '\r':
			c.at++
			continue
		default:
			c.literal()
		}
		if depth == 0 {
			return
		}
	}
}

// literal steps over a number, true, false or null.
func (c *cursor) literal() {
	for c.at < len(c.data) && strings.IndexByte(",:]} \t\n\r", c.data[c.at]) < 0 {
		c.at++
	}
}

// object steps over an object; member reads or skips each value.
func (c *cursor) object(member func(name []byte)) {
	c.at++
	for c.space(); c.next() != '}'; c.space() {
		if c.next() == ',' {
			c.at++
			c.space()
		}
		raw := c.raw()
		name := raw[1 : len(raw)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			c.at -= len(raw)
			name = []byte(c.text())
		}
		c.space()
		c.at++ // the colon
		c.space()
		member(name)
	}
	c.at++
}
