package sqltext

import (
	"fmt"
	"strings"
)

// ClickHouse's codes of the refusals that this package makes.
const (
	CodeSyntax       = 62
	CodeAccessDenied = 497
)

// Refusal is a statement that must not reach the engine.
type Refusal struct {
	Code    int // ClickHouse's
	Message string
}

func (r *Refusal) Error() string { return r.Message }

func syntaxError(format string, args ...any) error {
	return &Refusal{CodeSyntax, "Syntax error: " + fmt.Sprintf(format, args...)}
}

func denied(format string, args ...any) error {
	return &Refusal{CodeAccessDenied, fmt.Sprintf(format, args...)}
}

// reservedNames must not occur as an identifier in any statement, quoted or not, unless behind a dot (t.file).
// The engine checks no right before these:
//
//	file   the function reads any file of the machine; it may also be named as an argument: arrayMap(file, …)
//	eval   the table function runs SQL out of a string, where no guard sees it
//	sqlite the table function opens, and makes, the file that it names before its right is checked
var reservedNames = map[string]string{
	"file":   "functions that read files are not allowed; for a column of that name write its table before it",
	"eval":   "the table function eval is not allowed",
	"sqlite": "the table function sqlite is not allowed",
}

// Guard refuses what the engine would do outside its access control. Clauses that a ClickHouse client carries
// out belong to it, since the engine is its own client here. extra are further identifiers that are reserved.
func (s Statement) Guard(extra ...string) error {
	for i, t := range s.tokens {
		name := strings.Trim(s.text[t.start:t.end], "`\"")
		if reason, reserved := reservedNames[name]; reserved && s.at(i-1) != "." {
			return denied("%s", reason)
		}
		for _, reserved := range extra {
			if name == reserved {
				return denied("the name %s is reserved", reserved)
			}
		}
		switch first, second := s.at(i), s.at(i+1); {
		case first == "INTO" && second == "OUTFILE":
			return denied("INTO OUTFILE is not allowed: the embedded ClickHouse writes no files")
		case first == "FROM" && second == "INFILE":
			return denied("FROM INFILE is not allowed: the embedded ClickHouse reads no files")
		case first == "DISK" && second == "(":
			return denied("a disk inside a statement is not allowed: it could be anywhere")
		case first == ":" && second == "IDENTIFIER":
			return denied("parameters of type Identifier are not allowed: they could name any function")
		}
	}
	return nil
}
