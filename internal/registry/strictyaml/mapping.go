package strictyaml

import (
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// Mapping is a YAML mapping being read. The keys that it knows are those that
// are asked for, so that there is no second list of them to forget; Done notes
// what is there and was not asked for.
type Mapping struct {
	at      Value
	entries []Entry
	known   []string
}

// Entry is one key of a mapping whose keys are data, such as country codes.
type Entry struct {
	Key   string
	At    Value // the key's own place
	Value Value
}

// Mapping reads keys and values. A key that is there twice is noted, and its
// first value counts.
func (v Value) Mapping() (*Mapping, bool) {
	var pairs []*ast.MappingValueNode
	switch n := v.node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		v.wrongKind("keys and values")
		return nil, false
	}
	m := &Mapping{at: v}
	seen := make(map[string]int, len(pairs))
	for _, pair := range pairs {
		at := Value{doc: v.doc, node: pair.Key, path: v.path}
		at.Line, at.Column = place(pair.Key)
		key, ok := keyText(pair.Key)
		if !ok {
			at.Fault("this kind of key is not read here: write a plain key and a colon")
			continue
		}
		if line, twice := seen[key]; twice {
			at.Fault("key %s is there twice: it is in line %d already", Quote(key), line)
			continue
		}
		seen[key] = at.Line
		e := Entry{Key: key, At: at, Value: v.doc.value(pair.Value, join(v.path, key))}
		if _, empty := pair.Value.(*ast.NullNode); empty {
			e.Value.Line, e.Value.Column = at.Line, at.Column // its own place may be the next line
		}
		m.entries = append(m.entries, e)
	}
	return m, true
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func keyText(n ast.MapKeyNode) (string, bool) {
	switch k := n.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// At gives the mapping as a value, to speak of its place.
func (m *Mapping) At() Value { return m.at }

// Fault notes a fault of the mapping as a whole.
func (m *Mapping) Fault(format string, args ...any) { m.at.Fault(format, args...) }

// Get gives the value of a key, and makes the key known.
func (m *Mapping) Get(key string) (Value, bool) {
	m.known = append(m.known, key)
	m.trace(key)
	for _, e := range m.entries {
		if e.Key == key {
			return e.Value, true
		}
	}
	return Value{}, false
}

// Need is Get for a key that must be there; why says what for, or what to do.
func (m *Mapping) Need(key, why string) (Value, bool) {
	v, ok := m.Get(key)
	if !ok {
		m.Fault("%s is missing: %s", key, why)
	}
	return v, ok
}

// Has tells where a key stands, without making it known.
func (m *Mapping) Has(key string) (at Value, ok bool) {
	for _, e := range m.entries {
		if e.Key == key {
			return e.At, true
		}
	}
	return Value{}, false
}

// All gives every entry, of a mapping whose keys are data; Done is not for it.
func (m *Mapping) All() []Entry {
	m.trace(AnyKey)
	return m.entries
}

// Done notes the keys that nobody asked for.
func (m *Mapping) Done() {
	for _, e := range m.entries {
		if slices.Contains(m.known, e.Key) {
			continue
		}
		hint := DidYouMean(e.Key, m.known)
		if hint == "" {
			hint = ": the keys here are " + Listed(m.known, "and")
		}
		e.At.Fault("unknown key %s%s", Quote(e.Key), hint)
	}
}

func (m *Mapping) trace(key string) {
	if m.at.doc.asked != nil {
		m.at.doc.asked(join(m.at.path, key))
	}
}

// Text reads a key's text where it is there; "" where it is not or can't be
// used. Flag and Texts are alike.
func (m *Mapping) Text(key string, maxBytes int) string {
	if v, ok := m.Get(key); ok {
		s, _ := v.Text(maxBytes)
		return s
	}
	return ""
}

// Flag reads true or false; false where the key is not there.
func (m *Mapping) Flag(key string) bool {
	if v, ok := m.Get(key); ok {
		b, _ := v.Flag()
		return b
	}
	return false
}

// Texts reads a list of short texts; nil where the key is not there.
func (m *Mapping) Texts(key, want string) []string {
	if v, ok := m.Get(key); ok {
		return v.Texts(want)
	}
	return nil
}
