package native

import (
	"errors"
	"fmt"
	"io"

	"github.com/ClickHouse/ch-go/proto"
)

// maxColumns bounds the header of a block.
const maxColumns = 10_000

// blockInfo says that a block is no overflow and belongs to no bucket: {1: false, 2: -1, end}.
var blockInfo = []byte{1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0}

// Header is what a block says about its columns.
type Header []Column

// Column is a column's name and type, as the engine writes them.
type Column struct{ Name, Type string }

// HasType reports whether a column has exactly that type.
func (h Header) HasType(name string) bool {
	for _, column := range h {
		if column.Type == name {
			return true
		}
	}
	return false
}

// AppendEmptyBlock appends h as a client's block of no rows.
func AppendEmptyBlock(dst []byte, h Header) []byte {
	b := proto.Buffer{Buf: append(dst, blockInfo...)}
	b.PutUVarInt(uint64(len(h)))
	b.PutUVarInt(0)
	for _, column := range h {
		b.PutString(column.Name)
		b.PutString(column.Type)
		b.PutByte(0)
	}
	return b.Buf
}

// Translator rewrites blocks. It remembers the type names that it has parsed: a table's blocks repeat them.
// The zero value is ready. It is not safe for concurrent use.
type Translator struct{ types map[string]columnType }

func (t *Translator) parse(name []byte) (columnType, error) {
	if parsed, ok := t.types[string(name)]; ok {
		return parsed, nil
	}
	parsed, err := parseType(string(name))
	if err == nil && len(t.types) < maxColumns {
		if t.types == nil {
			t.types = make(map[string]columnType)
		}
		t.types[string(name)] = parsed
	}
	return parsed, err
}

// Block is a block in one of the dialects.
type Block struct {
	Bytes []byte
	Rows  int
	Header
}

// FromEngine rewrites the first of the engine's blocks in data for a client, and returns what follows it. The
// block is built in buf. Where known has as many columns, its types are told instead of the engine's: at
// revision 0 the engine leaves out the time zone of a DateTime.
func (t *Translator) FromEngine(buf, data []byte, known Header) (block Block, rest []byte, err error) {
	c := cursor{buf: data}
	columns, rows, err := c.dimensions()
	if err != nil {
		return Block{}, nil, err
	}
	b := proto.Buffer{Buf: append(buf[:0], blockInfo...)}
	b.PutUVarInt(uint64(columns))
	b.PutUVarInt(uint64(rows))
	head := make(Header, columns)
	for i := range head {
		column, parsed, err := t.columnHead(&c)
		if err != nil {
			return Block{}, nil, err
		}
		if len(known) == columns {
			column.Type = known[i].Type
		}
		head[i] = column
		start := c.pos
		if err := c.column(parsed, rows); err != nil {
			return Block{}, nil, fmt.Errorf("column %q: %w", column.Name, err)
		}
		b.PutString(column.Name)
		b.PutString(column.Type)
		b.PutByte(0)
		b.PutRaw(c.buf[start:c.pos])
	}
	return Block{Bytes: b.Buf, Rows: rows, Header: head}, data[c.pos:], nil
}

// FromClient reads one block from r, and nothing behind it, and rewrites it for the engine.
func (t *Translator) FromClient(r io.Reader) (Block, error) {
	c := cursor{src: r}
	if err := c.blockInfo(); err != nil {
		return Block{}, err
	}
	columns, rows, err := c.dimensions()
	if err != nil {
		return Block{}, err
	}
	var b proto.Buffer
	b.PutUVarInt(uint64(columns))
	b.PutUVarInt(uint64(rows))
	var head Header
	for range columns {
		column, parsed, err := t.columnHead(&c)
		if err != nil {
			return Block{}, err
		}
		if err := c.skip(1); err != nil {
			return Block{}, err
		}
		if c.buf[c.pos-1] != 0 {
			return Block{}, fmt.Errorf("column %q comes in a sparse form, which was not agreed on", column.Name)
		}
		start := c.pos
		if err := c.column(parsed, rows); err != nil {
			return Block{}, fmt.Errorf("column %q: %w", column.Name, err)
		}
		head = append(head, column)
		b.PutString(column.Name)
		b.PutString(column.Type)
		b.PutRaw(c.buf[start:c.pos])
	}
	return Block{Bytes: b.Buf, Rows: rows, Header: head}, nil
}

func (c *cursor) dimensions() (columns, rows int, err error) {
	if columns, err = c.count(); err != nil {
		return 0, 0, err
	}
	if columns > maxColumns {
		return 0, 0, fmt.Errorf("a block of %d columns; %d are allowed", columns, maxColumns)
	}
	rows, err = c.count()
	return columns, rows, err
}

func (t *Translator) columnHead(c *cursor) (column Column, parsed columnType, err error) {
	name, err := c.bytes()
	if err != nil {
		return Column{}, columnType{}, err
	}
	column.Name = string(name)
	typeName, err := c.bytes()
	if err != nil {
		return Column{}, columnType{}, err
	}
	column.Type = string(typeName)
	if parsed, err = t.parse(typeName); err != nil {
		err = fmt.Errorf("column %q: %w", column.Name, err)
	}
	return column, parsed, err
}

// blockInfo skips numbered fields up to the number 0.
func (c *cursor) blockInfo() error {
	for {
		field, err := c.uvarint()
		if err != nil {
			return err
		}
		switch field {
		case 0:
			return nil
		case 1:
			err = c.skip(1)
		case 2:
			err = c.skip(4)
		default:
			err = errors.New("block info has an unknown field")
		}
		if err != nil {
			return err
		}
	}
}

// Describe reads the engine's answer to a compact DESCRIBE in RowBinary: name and type of each column.
func Describe(data []byte) (Header, error) {
	var columns Header
	for c := (cursor{buf: data}); c.pos < len(data); {
		var column Column
		for _, target := range []*string{&column.Name, &column.Type} {
			text, err := c.bytes()
			if err != nil {
				return nil, err
			}
			*target = string(text)
		}
		columns = append(columns, column)
	}
	return columns, nil
}

// NamesAndTypes reads the start of RowBinaryWithNamesAndTypes: a count, all names, all types. No bytes give nil.
func NamesAndTypes(data []byte) (Header, error) {
	if len(data) == 0 {
		return nil, nil
	}
	c := cursor{buf: data}
	count, err := c.count()
	if err != nil {
		return nil, err
	}
	if count > maxColumns {
		return nil, fmt.Errorf("a header of %d columns; %d are allowed", count, maxColumns)
	}
	columns := make(Header, count)
	for i := range 2 * count {
		text, err := c.bytes()
		if err != nil {
			return nil, err
		}
		if i < count {
			columns[i].Name = string(text)
		} else {
			columns[i-count].Type = string(text)
		}
	}
	return columns, nil
}
