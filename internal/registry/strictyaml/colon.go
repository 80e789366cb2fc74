package strictyaml

import (
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// joinColons mends what the lexer takes apart: in a list inside { }, it reads
// {secrets: [env:NAME]} as a mapping {env: NAME}. YAML wants a space after the
// colon of a plain key, so the three tokens are one text.
// Source: YAML 1.2.2, section 7.3.3, plain scalars in flow collections.
func joinColons(tokens token.Tokens) token.Tokens {
	var open []token.Type
	joined := tokens[:0:0]
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, t.Type)
		case token.SequenceEndType, token.MappingEndType:
			open = open[:max(0, len(open)-1)]
		}
		inList := len(open) > 0 && open[len(open)-1] == token.SequenceStartType
		if inList && i+2 < len(tokens) && isOneText(t, tokens[i+1], tokens[i+2]) {
			value := tokens[i+2]
			t = token.New(t.Value+":"+value.Value, t.Origin+":"+value.Origin, t.Position)
			i += 2
		}
		joined.Add(t)
	}
	return joined
}

// isOneText: plain, colon, plain, with nothing between them.
func isOneText(key, colon, value *token.Token) bool {
	return colon.Type == token.MappingValueType &&
		isPlain(key) && isPlain(value) &&
		key.Position.Line == value.Position.Line &&
		colon.Position.Column == key.Position.Column+utf8.RuneCountInString(key.Value) &&
		value.Position.Column == colon.Position.Column+1
}

func isPlain(t *token.Token) bool {
	return t.Indicator == token.NotIndicator && t.Position != nil && t.Type != token.InvalidType
}
