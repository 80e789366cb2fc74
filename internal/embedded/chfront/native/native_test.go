package native

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/proto"
)

func TestParseType_ReadsWhatTheEngineWrites(t *testing.T) {
	fixed := func(width int) columnType { return columnType{kind: kindFixed, width: width} }
	text := columnType{kind: kindString}
	for name, want := range map[string]columnType{
		"UInt8":                      fixed(1),
		"DateTime64(3, 'UTC')":       fixed(8),
		"Enum8('a' = 1, 'b),(' = 2)": fixed(1),
		`Enum16('it\'s' = 1)`:        fixed(2),
		"Decimal(38, 10)":            fixed(16),
		"FixedString(7)":             fixed(7),
		"IntervalDay":                fixed(8),
		"Nullable(String)":           {kind: kindNullable, elements: []columnType{text}},
		"Map(String, UInt8)":         {kind: kindArray, elements: []columnType{{kind: kindTuple, elements: []columnType{text, fixed(1)}}}},
		"Nested(a String, b UInt8)":  {kind: kindArray, elements: []columnType{{kind: kindTuple, elements: []columnType{text, fixed(1)}}}},
		"Tuple(a Decimal(9, 2), `odd (name), 'x'` String)": {kind: kindTuple, elements: []columnType{fixed(4), text}},
		"Tuple()": {kind: kindTuple, elements: []columnType{}},
		"Point":   {kind: kindTuple, elements: []columnType{fixed(8), fixed(8)}},
		"SimpleAggregateFunction(max, DateTime64(3, 'UTC'))": fixed(8),
	} {
		got, err := parseType(name)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
}

func TestParseType_RefusesTheRest(t *testing.T) {
	for _, name := range []string{
		"", "Uint8", "AggregateFunction(sum, UInt8)", "Variant(UInt8, String)", "Dynamic", "Array", "Array()", "Array(String",
		"Array(String))", "Nullable(UInt8, UInt8)", "FixedString(x)", "FixedString(-1)", "FixedString(99999999999)",
		"Decimal(77, 1)", "Decimal(0, 0)", "Enum8('a", "Map()", strings.Repeat("Array(", 1000) + "UInt8" + strings.Repeat(")", 1000),
	} {
		if got, err := parseType(name); err == nil {
			t.Errorf("%.40s: %+v", name, got)
		}
	}
}

// clientBlock is a block of two columns in the clients' dialect, as ch-go writes it.
func clientBlock(t testing.TB) []byte {
	numbers := proto.ColUInt64{1, 2, 3}
	words := new(proto.ColStr).LowCardinality().Array()
	words.AppendArr([][]string{{"a", "b"}, {}, {"a"}})
	var b proto.Buffer
	block := proto.Block{Info: proto.BlockInfo{BucketNum: -1}, Columns: 2, Rows: 3}
	err := block.EncodeBlock(&b, 54460, []proto.InputColumn{{Name: "n", Data: &numbers}, {Name: "w", Data: words}})
	if err != nil {
		t.Fatal(err)
	}
	return b.Buf
}

func TestTranslator_ThereAndBackIsTheSameBlock(t *testing.T) {
	original := clientBlock(t)
	source := bytes.NewReader(append(bytes.Clone(original), "next packet"...))
	var translator Translator
	block, err := translator.FromClient(source)
	if err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(source); string(rest) != "next packet" {
		t.Errorf("left in the source: %q", rest)
	}
	if want := (Header{{"n", "UInt64"}, {"w", "Array(LowCardinality(String))"}}); block.Rows != 3 || !reflect.DeepEqual(block.Header, want) {
		t.Errorf("%d rows, header %v", block.Rows, block.Header)
	}
	two := append(bytes.Clone(block.Bytes), block.Bytes...)
	back, rest, err := translator.FromEngine(nil, two, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(back.Bytes, original) || !bytes.Equal(rest, block.Bytes) {
		t.Errorf("got % x\nwant % x", back.Bytes, original)
	}
	known := Header{{"n", "Other"}, {"w", "Names"}}
	if back, _, err = translator.FromEngine(nil, two, known); err != nil || !reflect.DeepEqual(back.Header, known) {
		t.Errorf("with known types: %v, %v", back.Header, err)
	}
}

func TestTranslator_AFalseLengthTakesNoMemory(t *testing.T) {
	uvarint := func(b []byte, values ...uint64) []byte {
		for _, v := range values {
			b = binary.AppendUvarint(b, v)
		}
		return b
	}
	column := func(rows uint64, typeName string, data ...byte) []byte {
		b := uvarint([]byte{0}, 1, rows, 1)
		b = append(b, 'c')
		b = uvarint(b, uint64(len(typeName)))
		return append(append(append(b, typeName...), 0), data...)
	}
	huge := binary.LittleEndian.AppendUint64(nil, 1<<62)
	for name, block := range map[string][]byte{
		"columns":     uvarint([]byte{0}, 1<<40, 1),
		"rows":        column(1<<62, "UInt8"),
		"wide rows":   column(1<<29, "Int256"),
		"many rows":   column(1<<29, "UInt8"),
		"string":      column(1, "String", 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"array":       column(1, "Array(UInt8)", huge...),
		"dictionary":  column(1, "LowCardinality(String)", append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0}, huge...)...),
		"sparse form": append(column(1, "UInt8")[:11], 1, 0),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := new(Translator).FromClient(bytes.NewReader(block)); err == nil {
			t.Errorf("%s: no error", name)
		}
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		if allocated > 4<<20 {
			t.Errorf("%s: %d bytes allocated", name, allocated)
		}
	}
}

func TestTranslator_EveryCutIsAnError(t *testing.T) {
	block := clientBlock(t)
	for n := range block {
		if _, err := new(Translator).FromClient(bytes.NewReader(block[:n])); err == nil {
			t.Errorf("a block cut at %d of %d is accepted", n, len(block))
		}
	}
	engine, err := new(Translator).FromClient(bytes.NewReader(block))
	if err != nil {
		t.Fatal(err)
	}
	for n := range engine.Bytes {
		if _, _, err := new(Translator).FromEngine(nil, engine.Bytes[:n], nil); err == nil {
			t.Errorf("the engine's block cut at %d is accepted", n)
		} else if n > 30 && !errors.Is(err, errBlockCut) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func FuzzFromClient_NeverPanicsAndTranslatesBack(f *testing.F) {
	f.Add(clientBlock(f))
	f.Add([]byte{0, 1, 2, 1, 'c', 6, 'S', 't', 'r', 'i', 'n', 'g', 0, 1, 'x', 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		block, err := new(Translator).FromClient(bytes.NewReader(data))
		if err != nil {
			return
		}
		back, rest, err := new(Translator).FromEngine(nil, block.Bytes, nil)
		if err != nil || len(rest) != 0 || back.Rows != block.Rows {
			t.Fatalf("an accepted block does not translate back: %v, %d bytes left", err, len(rest))
		}
	})
}

func FuzzParseType_NeverPanics(f *testing.F) {
	f.Add("Tuple(a Decimal(9, 2), `odd (name), 'x'` String)")
	f.Add("Map(String, Array(LowCardinality(Nullable(String))))")
	f.Fuzz(func(_ *testing.T, name string) { _, _ = parseType(name) })
}
