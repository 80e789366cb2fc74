package native

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/assent-dev/assent/internal/embedded/chfront/sqltext"
)

// kind tells how the values of a column lie in the Native format.
type kind int

const (
	kindFixed          kind = iota // width bytes a row
	kindString                     // length and bytes
	kindNullable                   // one byte a row, then the element's column
	kindArray                      // an end offset of 8 bytes a row, then the column of all elements
	kindTuple                      // one column after the other
	kindLowCardinality             // a dictionary and indexes into it
	kindJSON                       // the engine's "JSON as string" form
)

// columnType is a parsed type name, reduced to what the length of its data depends on.
type columnType struct {
	kind     kind
	width    int // of kindFixed
	elements []columnType
}

// maxTypeDepth bounds the recursion over type names that a client sends.
const maxTypeDepth = 32

var fixedWidths = map[string]int{
	"Int8": 1, "Int16": 2, "Int32": 4, "Int64": 8, "Int128": 16, "Int256": 32,
	"UInt8": 1, "UInt16": 2, "UInt32": 4, "UInt64": 8, "UInt128": 16, "UInt256": 32,
	"Float32": 4, "Float64": 8, "BFloat16": 2, "Bool": 1, "UUID": 16, "IPv4": 4, "IPv6": 16,
	"Date": 2, "Date32": 4, "DateTime": 4, "DateTime64": 8, "Time": 4, "Time64": 8,
	"Enum8": 1, "Enum16": 2, "Nothing": 1,
	"Decimal32": 4, "Decimal64": 8, "Decimal128": 16, "Decimal256": 32,
}

// geoTypes are names for what is stored as tuples and arrays.
var geoTypes = map[string]string{
	"Point": "Tuple(Float64, Float64)", "Ring": "Array(Point)", "LineString": "Array(Point)",
	"Polygon": "Array(Ring)", "MultiLineString": "Array(LineString)", "MultiPolygon": "Array(Polygon)",
}

// parseType reads a type name as the engine writes it, such as "Map(String, LowCardinality(Nullable(String)))".
func parseType(text string) (columnType, error) { return parseTypeAt(text, 0) }

func parseTypeAt(text string, depth int) (columnType, error) {
	if depth > maxTypeDepth {
		return columnType{}, fmt.Errorf("type name nests deeper than %d", maxTypeDepth)
	}
	text = strings.TrimSpace(text)
	name, args, err := splitType(text)
	if err != nil {
		return columnType{}, err
	}
	if width, ok := fixedWidths[name]; ok {
		return columnType{kind: kindFixed, width: width}, nil
	}
	if alias, ok := geoTypes[name]; ok {
		return parseTypeAt(alias, depth+1)
	}
	switch {
	case name == "String":
		return columnType{kind: kindString}, nil
	case name == "JSON":
		return columnType{kind: kindJSON}, nil
	case strings.HasPrefix(name, "Interval"):
		return columnType{kind: kindFixed, width: 8}, nil
	case name == "FixedString" && len(args) == 1:
		width, err := strconv.Atoi(args[0])
		if err != nil || width < 1 || width > 1<<24 {
			return columnType{}, fmt.Errorf("type %q has no valid length", text)
		}
		return columnType{kind: kindFixed, width: width}, nil
	case name == "Decimal" && len(args) >= 1:
		return decimalType(text, args[0])
	}
	return parseComposite(text, name, args, depth)
}

func decimalType(text, precision string) (columnType, error) {
	digits, err := strconv.Atoi(precision)
	for _, limit := range []struct{ digits, width int }{{9, 4}, {18, 8}, {38, 16}, {76, 32}} {
		if err == nil && digits >= 1 && digits <= limit.digits {
			return columnType{kind: kindFixed, width: limit.width}, nil
		}
	}
	return columnType{}, fmt.Errorf("type %q has no valid precision", text)
}

func parseComposite(text, name string, args []string, depth int) (columnType, error) {
	var kind kind
	arity := 1
	switch name {
	case "Nullable":
		kind = kindNullable
	case "Array":
		kind = kindArray
	case "LowCardinality":
		kind = kindLowCardinality
	case "Tuple":
		kind, arity = kindTuple, len(args)
	case "SimpleAggregateFunction":
		if len(args) == 2 {
			return parseTypeAt(args[1], depth+1)
		}
		arity = -1
	case "Map", "Nested": // both are arrays of tuples
		if len(args) == 0 || name == "Map" && len(args) != 2 {
			return columnType{}, fmt.Errorf("type %q has %d arguments", text, len(args))
		}
		element, err := parseComposite(text, "Tuple", args, depth+1)
		return columnType{kind: kindArray, elements: []columnType{element}}, err
	default:
		return columnType{}, fmt.Errorf("type %q is not supported by the embedded ClickHouse", text)
	}
	if len(args) != arity {
		return columnType{}, fmt.Errorf("type %q has %d arguments", text, len(args))
	}
	elements := make([]columnType, len(args))
	for i, arg := range args {
		var err error
		if kind == kindTuple {
			arg = withoutFieldName(arg)
		}
		if elements[i], err = parseTypeAt(arg, depth+1); err != nil {
			return columnType{}, err
		}
	}
	return columnType{kind: kind, elements: elements}, nil
}

// splitType cuts "Name(a, b)" into "Name" and its arguments at the outer level. Quotes are skipped over.
func splitType(text string) (name string, args []string, err error) {
	open := strings.IndexByte(text, '(')
	if open < 0 {
		return text, nil, nil
	}
	if !strings.HasSuffix(text, ")") {
		return "", nil, fmt.Errorf("type %q has no closing parenthesis", text)
	}
	inner := text[open+1 : len(text)-1]
	depth, start := 0, 0
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '(':
			depth++
		case ')':
			depth--
		case '\'', '`', '"':
			end := sqltext.SkipQuoted(inner, i)
			if end < 0 || depth < 0 {
				return "", nil, fmt.Errorf("type %q has an open quote", text)
			}
			i = end - 1
		case ',':
			if depth == 0 {
				args = append(args, strings.TrimSpace(inner[start:i]))
				start = i + 1
			}
		}
	}
	if depth != 0 {
		return "", nil, fmt.Errorf("type %q has unbalanced parentheses", text)
	}
	if last := strings.TrimSpace(inner[start:]); last != "" || len(args) > 0 {
		args = append(args, last)
	}
	return text[:open], args, nil
}

// withoutFieldName turns the element "price Decimal(9, 2)" of a named tuple into its type. An element without
// a name has its first space, if any, inside parentheses.
func withoutFieldName(element string) string {
	if strings.HasPrefix(element, "`") {
		if end := sqltext.SkipQuoted(element, 0); end > 0 {
			return strings.TrimSpace(element[end:])
		}
		return element
	}
	space := strings.IndexByte(element, ' ')
	if open := strings.IndexByte(element, '('); space < 0 || open >= 0 && open < space {
		return element
	}
	return strings.TrimSpace(element[space:])
}
