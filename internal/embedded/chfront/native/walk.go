package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// maxBlockBytes bounds one block on its way in. A sink's block of 100,000 rows is about 50 MB.
const maxBlockBytes = 1 << 30

var (
	errBlockTooBig = fmt.Errorf("a block is larger than %d bytes", maxBlockBytes)
	errBlockCut    = errors.New("a block ends in the middle of a column")
)

// cursor walks over Native data, and finds where each column ends. It reads from src what it lacks, exactly
// that much and in small steps, so that a false length costs no memory; with no src, buf is all there is.
type cursor struct {
	buf []byte
	pos int
	src io.Reader
}

const readStepBytes = 1 << 20

// need makes n bytes available after pos.
func (c *cursor) need(n int) error {
	if n < 0 || n > maxBlockBytes-c.pos {
		return errBlockTooBig
	}
	for missing := c.pos + n - len(c.buf); missing > 0; missing = c.pos + n - len(c.buf) {
		if c.src == nil {
			return errBlockCut
		}
		step, have := min(missing, readStepBytes), len(c.buf)
		c.buf = slices.Grow(c.buf, step)[:have+step]
		if _, err := io.ReadFull(c.src, c.buf[have:]); err != nil {
			c.buf = c.buf[:have]
			return fmt.Errorf("read block: %w", err)
		}
	}
	return nil
}

func (c *cursor) skip(n int) error {
	if err := c.need(n); err != nil {
		return err
	}
	c.pos += n
	return nil
}

// skipEach skips rows values of width bytes.
func (c *cursor) skipEach(rows, width int) error {
	if width > 0 && rows > maxBlockBytes/width {
		return errBlockTooBig
	}
	return c.skip(rows * width)
}

func (c *cursor) uint64() (uint64, error) {
	if err := c.need(8); err != nil {
		return 0, err
	}
	v := binary.LittleEndian.Uint64(c.buf[c.pos:])
	c.pos += 8
	return v, nil
}

func (c *cursor) uvarint() (uint64, error) {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		if err := c.need(1); err != nil {
			return 0, err
		}
		b := c.buf[c.pos]
		c.pos++
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errors.New("a number is longer than 64 bits")
}

// count reads a uvarint that says how many of something follow.
func (c *cursor) count() (int, error) {
	v, err := c.uvarint()
	if err == nil && v > maxBlockBytes {
		err = errBlockTooBig
	}
	return int(v), err
}

func (c *cursor) bytes() ([]byte, error) {
	n, err := c.count()
	if err != nil {
		return nil, err
	}
	if err := c.skip(n); err != nil {
		return nil, err
	}
	return c.buf[c.pos-n : c.pos], nil
}

// column skips a column of rows values: the prefixes of its parts first, then the values. No rows, no bytes.
func (c *cursor) column(t columnType, rows int) error {
	if rows == 0 {
		return nil
	}
	if err := c.prefix(t); err != nil {
		return err
	}
	return c.values(t, rows)
}

// prefix skips what stands once before a column's values, in the order of its parts.
func (c *cursor) prefix(t columnType) error {
	switch t.kind {
	case kindLowCardinality: // the version of the dictionary's form
		return c.skip(8)
	case kindJSON:
		version, err := c.uint64()
		if err == nil && version != jsonAsString {
			err = fmt.Errorf("JSON in form %d is not supported by the embedded ClickHouse", version)
		}
		return err
	}
	for _, element := range t.elements {
		if err := c.prefix(element); err != nil {
			return err
		}
	}
	return nil
}

const jsonAsString = 1

func (c *cursor) values(t columnType, rows int) error {
	switch t.kind {
	case kindFixed:
		return c.skipEach(rows, t.width)
	case kindString, kindJSON:
		for range rows {
			if _, err := c.bytes(); err != nil {
				return err
			}
		}
		return nil
	case kindNullable:
		if err := c.skipEach(rows, 1); err != nil {
			return err
		}
		return c.values(t.elements[0], rows)
	case kindArray:
		return c.array(t.elements[0], rows)
	case kindTuple:
		if len(t.elements) == 0 { // Tuple() is one byte a row
			return c.skipEach(rows, 1)
		}
		for _, element := range t.elements {
			if err := c.values(element, rows); err != nil {
				return err
			}
		}
		return nil
	case kindLowCardinality:
		return c.lowCardinality(t.elements[0], rows)
	}
	return fmt.Errorf("unknown kind %d", t.kind)
}

func (c *cursor) array(element columnType, rows int) error {
	if rows == 0 {
		return nil
	}
	if err := c.skipEach(rows, 8); err != nil {
		return err
	}
	total := binary.LittleEndian.Uint64(c.buf[c.pos-8:])
	if total > maxBlockBytes {
		return errBlockTooBig
	}
	return c.values(element, int(total))
}

// Flags of a LowCardinality column: the low byte is the width of an index, 0 to 3 for 1 to 8 bytes.
const (
	lowCardinalityGlobalDictionary = 1 << 8
	lowCardinalityOwnKeys          = 1 << 9
)

func (c *cursor) lowCardinality(element columnType, rows int) error {
	if rows == 0 {
		return nil
	}
	flags, err := c.uint64()
	if err != nil {
		return err
	}
	if flags&lowCardinalityGlobalDictionary != 0 || flags&lowCardinalityOwnKeys == 0 || flags&0xff > 3 {
		return fmt.Errorf("LowCardinality flags %#x are not of the Native format", flags)
	}
	keys, err := c.uint64()
	if err != nil {
		return err
	}
	if keys > maxBlockBytes {
		return errBlockTooBig
	}
	if element.kind == kindNullable { // the dictionary holds plain values; key 0 stands for NULL
		element = element.elements[0]
	}
	if err := c.values(element, int(keys)); err != nil {
		return err
	}
	indexes, err := c.uint64()
	if err != nil {
		return err
	}
	if indexes != uint64(rows) {
		return fmt.Errorf("LowCardinality has %d indexes for %d rows", indexes, rows)
	}
	return c.skipEach(rows, 1<<(flags&0xff))
}
