package strictyaml

import (
	"fmt"

	"github.com/goccy/go-yaml/token"
)

const (
	// maxNesting bounds brackets and list marks: the YAML parser recurses, and a
	// file of a million "[" would end the process, which nothing can recover.
	maxNesting = 32
	// maxKeys bounds the keys of one mapping: the YAML parser takes a time that
	// grows with their square (over a minute for 80,000).
	maxKeys = 1000
)

// beyondBounds gives the token at which a file passes a bound, and a sentence;
// nil where it passes none. Nesting by indentation alone needs a square of
// bytes, so the file size bounds it.
func beyondBounds(tokens token.Tokens) (at *token.Token, why string) {
	var b bounds
	for i, t := range tokens {
		if t.Position == nil {
			continue
		}
		if b.nest(t) > maxNesting {
			return t, fmt.Sprintf("more than %d levels of nesting: such a file needs a few", maxNesting)
		}
		if b.keys(tokens, i) > maxKeys {
			return t, fmt.Sprintf("more than %d keys in one mapping: such a file needs a few, and lists for the rest", maxKeys)
		}
	}
	return nil, ""
}

// bounds counts along the tokens of a file.
type bounds struct {
	line, marks int     // list marks, tags and the like, within their line
	brackets    []int   // open { and [, with the keys in each
	blocks      []block // the mappings by indentation around the place
}

type block struct{ column, keys int }

// nest gives how deep the parser would recurse at t: brackets count until they
// close; list marks, tags and the like within their line.
func (b *bounds) nest(t *token.Token) int {
	if t.Position.Line != b.line {
		b.line, b.marks = t.Position.Line, 0
	}
	switch t.Type {
	case token.SequenceStartType, token.MappingStartType:
		b.brackets = append(b.brackets, 0)
	case token.SequenceEndType, token.MappingEndType:
		b.brackets = b.brackets[:max(0, len(b.brackets)-1)]
	case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
		b.marks++
	}
	return len(b.brackets) + b.marks
}

// keys gives how many keys the mapping around token i has so far. A list mark
// ends the mappings that are indented deeper than it.
func (b *bounds) keys(tokens token.Tokens, i int) int {
	column := tokens[i].Position.Column
	switch tokens[i].Type {
	case token.SequenceEntryType:
		for len(b.blocks) > 0 && b.blocks[len(b.blocks)-1].column > column {
			b.blocks = b.blocks[:len(b.blocks)-1]
		}
		return 0
	case token.MappingValueType:
		if i > 0 && tokens[i-1].Position != nil {
			column = tokens[i-1].Position.Column
		}
	case token.MappingKeyType:
	default:
		return 0
	}
	if n := len(b.brackets); n > 0 {
		b.brackets[n-1]++
		return b.brackets[n-1]
	}
	for len(b.blocks) > 0 && b.blocks[len(b.blocks)-1].column > column {
		b.blocks = b.blocks[:len(b.blocks)-1]
	}
	if n := len(b.blocks); n == 0 || b.blocks[n-1].column < column {
		b.blocks = append(b.blocks, block{column: column})
	}
	last := &b.blocks[len(b.blocks)-1]
	last.keys++
	return last.keys
}
