package sqltext

// Insert is an INSERT whose rows the client sends.
type Insert struct {
	SQL     string // up to VALUES or FORMAT
	Table   string // as written
	Columns string // the list between the parentheses, "*" for all
}

// InsertForm tells what kind of INSERT a statement is.
type InsertForm int

const (
	NoInsert         InsertForm = iota
	InsertFromClient            // rows follow as blocks
	InsertInline                // VALUES with rows in the text, or a SELECT: the engine has all it needs
	InsertRefused               // a form whose rows would come from somewhere else
)

// Insert takes an INSERT apart. What it does not understand is refused: handed to the engine without rows, an
// INSERT would read the process's standard input.
func (s Statement) Insert() (Insert, InsertForm) {
	if s.at(0) != "INSERT" {
		return Insert{}, NoInsert
	}
	i := 1
	if s.at(i) == "INTO" {
		i++
	}
	if next := s.at(i); next == "FUNCTION" || next == "TABLE" && s.at(i+1) == "FUNCTION" {
		return Insert{}, InsertRefused
	}
	if s.at(i) == "TABLE" && s.at(i+1) != "" && s.at(i+1) != "." && s.at(i+1) != "(" {
		i++
	}
	tableStart := i
	i++
	if s.at(i) == "." {
		i += 2
	}
	if i > len(s.tokens) {
		return Insert{}, InsertRefused
	}
	parts := Insert{Columns: "*", Table: s.slice(tableStart, i)}
	if s.at(i) == "(" && s.at(i+1) != "SELECT" && s.at(i+1) != "WITH" {
		closing := s.closing(i)
		if closing < 0 {
			return Insert{}, InsertRefused
		}
		parts.Columns = s.slice(i+1, closing)
		i = closing + 1
	}
	return s.insertSource(parts, i)
}

// insertSource looks at what stands after the column list.
func (s Statement) insertSource(parts Insert, i int) (Insert, InsertForm) {
	if s.at(i) == "SETTINGS" {
		for i < len(s.tokens) && (s.tokens[i].depth != 0 || !isInsertSource(s.at(i))) {
			i++
		}
	}
	switch s.at(i) {
	case "", "VALUES", "FORMAT":
		parts.SQL = s.slice(0, i)
		rest := i + 1
		if s.at(i) == "FORMAT" {
			rest++
		}
		switch {
		case rest >= len(s.tokens):
			return parts, InsertFromClient
		case s.at(i) == "VALUES" || s.at(i) == "FORMAT" && s.at(i+1) == "VALUES":
			return parts, InsertInline
		}
		return parts, InsertRefused
	case "SELECT", "WITH", "(":
		return parts, InsertInline
	}
	return parts, InsertRefused
}

func isInsertSource(word string) bool {
	switch word {
	case "VALUES", "FORMAT", "SELECT", "WITH":
		return true
	}
	return false
}

// closing returns the token that closes the parenthesis at token i, -1 where none does.
func (s Statement) closing(i int) int {
	for j := i + 1; j < len(s.tokens); j++ {
		if s.tokens[j].depth == s.tokens[i].depth && s.at(j) == ")" {
			return j
		}
	}
	return -1
}
