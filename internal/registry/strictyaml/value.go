package strictyaml

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// Value is one YAML value with its place. Its methods read it as what the
// caller wants, and note a fault where it is something else; ok is false then,
// or when a fault of it was noted before.
type Value struct {
	Line, Column int

	doc  *Document
	node ast.Node // nil when the value can't be used
	path string
}

func (d *Document) value(n ast.Node, path string) Value {
	v := Value{doc: d, path: path}
	v.Line, v.Column = place(n)
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		v.Fault("anchors and aliases are not read here: write the value out")
	case *ast.TagNode:
		v.Fault("tags are not read here: write the plain value, in quotes where it is text")
	default:
		v.node = n
	}
	return v
}

// Fault notes that something is wrong with the value. The sentence names the
// key and what to do.
func (v Value) Fault(format string, args ...any) {
	v.doc.fault(v.Line, v.Column, format, args...)
}

// Warn notes that something looks wrong, and is allowed.
func (v Value) Warn(format string, args ...any) {
	v.doc.warnings = append(v.doc.warnings, Fault{v.doc.name, v.Line, v.Column, fmt.Sprintf(format, args...)})
}

// File is the name of the file that the value stands in.
func (v Value) File() string { return v.doc.name }

// Key is the key that the value, or the list around it, stands under.
func (v Value) Key() string {
	path := strings.TrimSuffix(v.path, "[]")
	if path == "" {
		return "the file"
	}
	return path[strings.LastIndexByte(path, '.')+1:]
}

// wrongKind notes that the value is not of the kind wanted.
func (v Value) wrongKind(want string) {
	switch n := v.node.(type) {
	case nil:
	case *ast.NullNode:
		v.Fault("%s is empty: give %s, or leave the key out", v.Key(), want)
	case *ast.BoolNode:
		v.Fault("%s wants %s, not %s: put it in quotes if it is text", v.Key(), want, n.GetToken().Value)
	case *ast.MappingNode, *ast.MappingValueNode:
		v.Fault("%s wants %s, not keys and values", v.Key(), want)
	case *ast.SequenceNode:
		v.Fault("%s wants %s, not a list", v.Key(), want)
	default:
		v.Fault("%s wants %s", v.Key(), want)
	}
}

// IsMapping reports whether the value has keys and values.
func (v Value) IsMapping() bool {
	switch v.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

// IsList reports whether the value is a list.
func (v Value) IsList() bool { _, ok := v.node.(*ast.SequenceNode); return ok }

// IsEmptyList reports whether the value is [].
func (v Value) IsEmptyList() bool {
	n, ok := v.node.(*ast.SequenceNode)
	return ok && len(n.Values) == 0
}

// Scalar gives text, and a number as it was written.
func (v Value) Scalar(want string) (string, bool) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value, true
	}
	v.wrongKind(want)
	return "", false
}

// Text is one line: not empty, no control characters, no space around it.
func (v Value) Text(maxBytes int) (string, bool) {
	s, ok := v.Scalar("text")
	if !ok {
		return "", false
	}
	s = strings.TrimSuffix(s, "\n") // a folded block ends with one
	switch {
	case strings.TrimSpace(s) == "":
		v.Fault("%s is empty: give text, or leave the key out", v.Key())
	case s != strings.TrimSpace(s):
		v.Fault("%s begins or ends with a space: take it away", v.Key())
	case strings.ContainsFunc(s, unicode.IsControl):
		v.Fault("%s holds a line break or a control character: write it as one line", v.Key())
	case len(s) > maxBytes:
		v.Fault("%s is longer than %d bytes", v.Key(), maxBytes)
	default:
		return s, true
	}
	return "", false
}

// Bool gives true or false, and no fault where the value is something else.
func (v Value) Bool() (b, ok bool) {
	n, ok := v.node.(*ast.BoolNode)
	return ok && n.Value, ok
}

// Flag is true or false, and nothing else that YAML ever took for it.
func (v Value) Flag() (b, ok bool) {
	if b, ok := v.Bool(); ok {
		return b, true
	}
	if n, is := v.node.(*ast.StringNode); is {
		v.Fault("%s wants true or false, not %s", v.Key(), Quote(n.Value))
		return false, false
	}
	v.wrongKind("true or false")
	return false, false
}

// Number is a whole number within bounds, in decimal digits.
func (v Value) Number(least, most int) (int, bool) {
	want := fmt.Sprintf("a whole number from %d to %d", least, most)
	n, is := v.node.(*ast.IntegerNode)
	if !is {
		v.wrongKind(want)
		return 0, false
	}
	written := n.GetToken().Value
	i, err := strconv.Atoi(written)
	if err != nil || i < least || i > most {
		v.Fault("%s wants %s, not %s", v.Key(), want, written)
		return 0, false
	}
	return i, true
}

// List gives the items; an empty list is a fault, since it says nothing that
// leaving the key out would not.
func (v Value) List(want string) []Value {
	n, is := v.node.(*ast.SequenceNode)
	if !is {
		v.wrongKind("a list of " + want)
		return nil
	}
	if len(n.Values) == 0 {
		v.Fault("%s is an empty list: name %s, or leave the key out", v.Key(), want)
	}
	items := make([]Value, 0, len(n.Values))
	for _, item := range n.Values {
		items = append(items, v.doc.value(item, v.path+"[]"))
	}
	return items
}

// Texts reads a list of short texts.
func (v Value) Texts(want string) []string {
	return Each(v, want, func(item Value) (string, bool) { return item.Text(256) })
}

// Each reads every item of a list, and notes one that is there twice.
func Each[T comparable](v Value, want string, read func(Value) (T, bool)) []T {
	var all []T
	seen := map[T]int{}
	for _, item := range v.List(want) {
		x, ok := read(item)
		if !ok {
			continue
		}
		if line, twice := seen[x]; twice {
			item.Fault("%s names this twice: it is in line %d already", item.Key(), line)
			continue
		}
		seen[x] = item.Line
		all = append(all, x)
	}
	return all
}

// Word reads one of a closed set of words.
func Word[T any](v Value, parse func(string) (T, bool), known ...string) (T, bool) {
	var none T
	s, ok := v.Scalar(Listed(known, "or"))
	if !ok {
		return none, false
	}
	x, ok := parse(s)
	if !ok {
		hint := DidYouMean(s, known)
		if hint == "" {
			hint = ": use " + Listed(known, "or")
		}
		v.Fault("%s %s is not known%s", v.Key(), Quote(s), hint)
		return none, false
	}
	return x, true
}
