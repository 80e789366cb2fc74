package sqltext

import "strings"

// QuoteString writes a SQL string literal.
func QuoteString(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

// QuoteName writes a SQL identifier.
func QuoteName(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}

// IsSettingName reports whether name can stand in a SET statement as it is.
func IsSettingName(name string) bool {
	if name == "" || len(name) > 128 {
		return false
	}
	for i := range len(name) {
		if b := name[i]; b != '_' && b != '.' && (b < '0' || b > '9') && (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') {
			return false
		}
	}
	return true
}

var escapes = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', '0': 0, 'a': '\a', 'v': '\v'}

// Unquote reads a single-quoted literal: one level of backslashes is taken off.
func Unquote(literal string) (string, bool) {
	if len(literal) < 2 || literal[0] != '\'' || SkipQuoted(literal, 0) != len(literal) {
		return "", false
	}
	inner := literal[1 : len(literal)-1]
	if strings.IndexByte(inner, '\\') < 0 && strings.IndexByte(inner, '\'') < 0 {
		return inner, true
	}
	text := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		b := inner[i]
		if (b == '\\' || b == '\'') && i+1 < len(inner) {
			i++
			if b = inner[i]; inner[i-1] == '\\' {
				if plain, ok := escapes[b]; ok {
					b = plain
				}
			}
		}
		text = append(text, b)
	}
	return string(text), true
}

// EscapeParam writes text the way the engine reads a parameter's value.
func EscapeParam(text string) string {
	return strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`).Replace(text)
}
