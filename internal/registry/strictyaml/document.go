package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// MaxFileBytes bounds a file.
const MaxFileBytes = 4 << 20

// AnyKey stands in a path for keys that are data.
const AnyKey = "*"

// Document is one file while it is read. It collects what is wrong.
type Document struct {
	name             string
	faults, warnings Faults
	asked            func(path string)
}

// NewDocument begins reading the file of that name. asked, where it is not nil,
// hears the path of every key that is asked for, such as purposes[].notices[].id:
// a test can hold a schema to it.
func NewDocument(name string, asked func(path string)) *Document {
	return &Document{name: name, asked: asked}
}

// Name is the file's name.
func (d *Document) Name() string { return d.name }

// Faults is what was noted so far, in the order of noting.
func (d *Document) Faults() Faults { return d.faults }

// Warnings is what was noted as allowed and looking wrong.
func (d *Document) Warnings() Faults { return d.warnings }

func (d *Document) fault(line, column int, format string, args ...any) {
	d.faults = append(d.faults, Fault{d.name, line, column, fmt.Sprintf(format, args...)})
}

// Parse gives the file's one document, a mapping.
func (d *Document) Parse(data []byte) (*Mapping, bool) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch {
	case len(data) > MaxFileBytes:
		d.fault(0, 0, "the file is larger than %d MiB: split it", MaxFileBytes>>20)
		return nil, false
	case !utf8.Valid(data):
		line := 1 + bytes.Count(data[:invalidUTF8(data)], []byte("\n"))
		d.fault(line, 1, "this line is not UTF-8: save the file as UTF-8")
		return nil, false
	}
	tokens := lexer.Tokenize(string(data))
	if at, why := beyondBounds(tokens); at != nil {
		d.fault(at.Position.Line, at.Position.Column, "%s", why)
		return nil, false
	}
	file, err := parseTokens(joinColons(tokens))
	if err != nil {
		d.syntax(err)
		return nil, false
	}
	body, ok := d.only(file)
	if !ok {
		return nil, false
	}
	return d.value(body, "").Mapping()
}

// parseTokens calls the YAML parser, and takes a panic of it as a fault of the
// file: nobody's typing error may end a running gateway.
func parseTokens(tokens token.Tokens) (file *ast.File, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("this is not YAML that can be read")
		}
	}()
	// Duplicate keys are found by mapping, which reads on after one.
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

func (d *Document) syntax(err error) {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil || at.GetToken().Position == nil {
		d.fault(0, 0, "not valid YAML: %s", strings.TrimSpace(err.Error()))
		return
	}
	p := at.GetToken().Position
	d.fault(p.Line, p.Column, "not valid YAML: %s", at.GetMessage())
}

// only gives the body of the one document with content.
func (d *Document) only(file *ast.File) (ast.Node, bool) {
	var body ast.Node
	for _, doc := range file.Docs {
		if doc == nil || doc.Body == nil {
			continue
		}
		switch doc.Body.(type) {
		case *ast.DirectiveNode, *ast.CommentGroupNode:
			continue
		}
		if body != nil {
			line, column := place(doc.Body)
			d.fault(line, column, "a second YAML document starts here: write one file per tenant")
			return nil, false
		}
		body = doc.Body
	}
	if body == nil {
		d.fault(1, 1, "the file is empty")
		return nil, false
	}
	return body, true
}

func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return len(data)
}

// place tells where a node begins: a mapping at its first key or bracket.
func place(n ast.Node) (line, column int) {
	switch x := n.(type) {
	case *ast.MappingNode:
		if !x.IsFlowStyle && len(x.Values) > 0 {
			return place(x.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return place(x.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line, t.Position.Column
	}
	return 0, 0
}
