package sqltext

import "strings"

// token is a word, number, quoted piece or sign of SQL, by its place in the text. Comments are no tokens.
type token struct {
	start, end int
	depth      int // of parentheses and brackets around it
	word       bool
}

// Statement is SQL cut into tokens.
type Statement struct {
	text   string
	tokens []token
}

// Lex cuts text into tokens. It refuses, outside quotes and comments, every byte that the engine could read in
// another way than this function does: what the guards look for cannot hide behind such a difference.
func Lex(text string) (Statement, error) {
	s := Statement{text: text}
	depth := 0
	for i := 0; i < len(text); {
		b := text[i]
		switch {
		case b == ' ' || b >= '\t' && b <= '\r':
			i++
			continue
		case strings.HasPrefix(text[i:], "--"), strings.HasPrefix(text[i:], "# "), strings.HasPrefix(text[i:], "#!"):
			i = skipTo(text, i, "\n")
			continue
		case strings.HasPrefix(text[i:], "/*"):
			i = skipTo(text, i+2, "*/")
			continue
		}
		end, err := tokenEnd(text, i)
		if err != nil {
			return Statement{}, err
		}
		if strings.IndexByte(")]}", b) >= 0 {
			depth--
		}
		s.tokens = append(s.tokens, token{start: i, end: end, depth: depth, word: isWordByte(b)})
		if strings.IndexByte("([{", b) >= 0 {
			depth++
		}
		i = end
	}
	for len(s.tokens) > 0 && s.at(len(s.tokens)-1) == ";" {
		s.tokens = s.tokens[:len(s.tokens)-1]
	}
	return s, nil
}

// tokenEnd returns the place after the token that starts at i.
func tokenEnd(text string, i int) (int, error) {
	switch b := text[i]; {
	case b == '\'' || b == '"' || b == '`':
		end := SkipQuoted(text, i)
		if end < 0 {
			return 0, syntaxError("the quote %c at byte %d is not closed", b, i)
		}
		if b != '\'' && strings.IndexByte(text[i:end], '\\') >= 0 {
			return 0, syntaxError("the name at byte %d has a backslash, which the embedded ClickHouse does not support", i)
		}
		return end, nil
	case b == '$':
		if end := skipHeredoc(text, i); end > 0 {
			return end, nil
		}
		return 0, syntaxError("the dollar sign at byte %d starts no closed heredoc", i)
	case isWordByte(b):
		end := i + 1
		for end < len(text) && (isWordByte(text[end]) || text[end] == '$') {
			end++
		}
		return end, nil
	case b >= 0x80:
		return 0, syntaxError("the byte %#x at %d is outside quotes: write names that are not ASCII in backquotes", b, i)
	case b == '\\' || b < ' ' || b == 0x7f:
		return 0, syntaxError("the byte %#x at %d has no place outside quotes", b, i)
	}
	return i + 1, nil
}

func isWordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// skipTo returns the place after the next end, or the end of text.
func skipTo(text string, i int, end string) int {
	if at := strings.Index(text[i:], end); at >= 0 {
		return i + at + len(end)
	}
	return len(text)
}

// SkipQuoted returns the place after the quoted piece that starts at i, -1 where it does not end.
// A backslash takes the next byte with it, and a doubled quote stands for itself.
func SkipQuoted(text string, i int) int {
	quote := text[i]
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case quote:
			if i+1 == len(text) || text[i+1] != quote {
				return i + 1
			}
			i++
		}
	}
	return -1
}

// skipHeredoc returns the place after $tag$ ... $tag$, -1 where none starts at i.
func skipHeredoc(text string, i int) int {
	end := i + 1
	for end < len(text) && isWordByte(text[end]) {
		end++
	}
	if end == len(text) || text[end] != '$' {
		return -1
	}
	tag := text[i : end+1]
	closing := strings.Index(text[end+1:], tag)
	if closing < 0 {
		return -1
	}
	return end + 1 + closing + len(tag)
}

// at returns token i in upper case where it is a word, as written otherwise, "" outside the statement.
func (s Statement) at(i int) string {
	if i < 0 || i >= len(s.tokens) {
		return ""
	}
	t := s.tokens[i]
	if t.word {
		return strings.ToUpper(s.text[t.start:t.end])
	}
	return s.text[t.start:t.end]
}

// slice returns the text of tokens [from, to).
func (s Statement) slice(from, to int) string {
	if from >= to {
		return ""
	}
	return s.text[s.tokens[from].start:s.tokens[to-1].end]
}

// Text returns the statement as it was given.
func (s Statement) Text() string { return s.text }

// Trimmed returns the statement without outer comments and closing semicolons.
func (s Statement) Trimmed() string { return s.slice(0, len(s.tokens)) }

// IsEmpty reports whether there is nothing but comments, white space and semicolons.
func (s Statement) IsEmpty() bool { return len(s.tokens) == 0 }

// Verb returns the first word in upper case, "(" for a SELECT in parentheses.
func (s Statement) Verb() string { return s.at(0) }

// WithoutFormat returns the statement without a FORMAT clause at its end, semicolons and outer comments. The
// native protocol knows no formats: a server ignores the clause, the engine would obey it.
func (s Statement) WithoutFormat() string {
	last := len(s.tokens)
	for i := last - 2; i > 0; i-- {
		t := s.tokens[i]
		if t.depth != 0 || s.at(i) != "FORMAT" || !s.tokens[i+1].word {
			continue
		}
		if i+2 == last {
			return s.slice(0, i)
		}
		if next := s.at(i + 2); next == "SETTINGS" {
			return s.slice(0, i) + " " + s.slice(i+2, last)
		}
	}
	return s.slice(0, last)
}

// Streams reports whether the engine can hand out the statement's rows in parts: a SELECT in any spelling.
func (s Statement) Streams() bool {
	switch s.at(0) {
	case "SELECT", "WITH", "FROM", "(":
		return true
	}
	return false
}
