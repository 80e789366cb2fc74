package sqltext

import (
	"errors"
	"strings"
	"testing"
)

func mustLex(t testing.TB, text string) Statement {
	t.Helper()
	s, err := Lex(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return s
}

func TestLex_SkipsCommentsAndKeepsQuotesWhole(t *testing.T) {
	s := mustLex(t, "/* a */ SELECT 'it''s -- \\' x', \"q\"\"\", `b`, $tag$ ; ' $tag$ -- end\n, n$1 # note\n FROM t;;")
	var got []string
	for i := range s.tokens {
		got = append(got, s.at(i))
	}
	want := "SELECT|'it''s -- \\' x'|,|\"q\"\"\"|,|`b`|,|$tag$ ; ' $tag$|,|N$1|FROM|T"
	if strings.Join(got, "|") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "|"), want)
	}
}

func TestLex_RefusesWhatCouldBeReadInTwoWays(t *testing.T) {
	for _, text := range []string{
		"SELECT 'open", "SELECT \"open", "SELECT\u00a0file('x')", "SELECT ‘a’", "SELECT 1 \\G", "SELECT \x001",
		"SELECT $", "SELECT $a$ open", "SELECT \"\\x66ile\"('x')", "SELECT `a\\`b`", "SELECT \x7f1",
	} {
		var refusal *Refusal
		if _, err := Lex(text); !errors.As(err, &refusal) || refusal.Code != CodeSyntax {
			t.Errorf("%q: %v", text, err)
		}
	}
	mustLex(t, "SELECT 'ü', `ü`, \"ü\" -- ü")
}

func TestWithoutFormat_TakesOnlyTheClauseAtTheEnd(t *testing.T) {
	for text, want := range map[string]string{
		"SELECT 1 FORMAT JSON;":                         "SELECT 1",
		"select 1 format JSON settings max_threads = 1": "select 1 settings max_threads = 1",
		"SELECT 1 SETTINGS max_threads = 1 FORMAT Null": "SELECT 1 SETTINGS max_threads = 1",
		"SELECT format FROM t":                          "SELECT format FROM t",
		"SELECT format('{}', x) FROM t -- FORMAT JSON":  "SELECT format('{}', x) FROM t",
		"SELECT * FROM (SELECT 1 FORMAT JSON)":          "SELECT * FROM (SELECT 1 FORMAT JSON)",
		"SELECT 'FORMAT JSON'":                          "SELECT 'FORMAT JSON'",
		"SHOW TABLES FORMAT TSV":                        "SHOW TABLES",
	} {
		if got := mustLex(t, text).WithoutFormat(); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

func TestInsert_TellsWhereTheRowsComeFrom(t *testing.T) {
	for text, want := range map[string]struct {
		form  InsertForm
		parts Insert
	}{
		"INSERT INTO t":                                         {InsertFromClient, Insert{"INSERT INTO t", "t", "*"}},
		"insert into db.`t` (a, `b c`) values":                  {InsertFromClient, Insert{"insert into db.`t` (a, `b c`)", "db.`t`", "a, `b c`"}},
		"INSERT INTO TABLE t (a) FORMAT Native":                 {InsertFromClient, Insert{"INSERT INTO TABLE t (a)", "t", "a"}},
		"INSERT INTO t (* EXCEPT (a)) SETTINGS x = (1) VALUES;": {InsertFromClient, Insert{"INSERT INTO t (* EXCEPT (a)) SETTINGS x = (1)", "t", "* EXCEPT (a)"}},
		"INSERT INTO table (a) VALUES":                          {InsertFromClient, Insert{"INSERT INTO table (a)", "table", "a"}},
		"INSERT INTO t -- comment\nVALUES -- rows follow":       {InsertFromClient, Insert{"INSERT INTO t", "t", "*"}},
		"INSERT INTO t VALUES (1)":                              {InsertInline, Insert{}},
		"INSERT INTO t FORMAT Values (1)":                       {InsertInline, Insert{}},
		"INSERT INTO t (a) SELECT 1":                            {InsertInline, Insert{}},
		"INSERT INTO t (SELECT 1)":                              {InsertInline, Insert{}},
		"INSERT INTO t SETTINGS x = 1 SELECT 1":                 {InsertInline, Insert{}},
		"INSERT INTO t WITH 1 AS x SELECT x":                    {InsertInline, Insert{}},
		"INSERT INTO t FORMAT CSV 1,2":                          {InsertRefused, Insert{}},
		"INSERT INTO t FROM INFILE 'x' FORMAT CSV":              {InsertRefused, Insert{}},
		"INSERT INTO FUNCTION file('x') VALUES (1)":             {InsertRefused, Insert{}},
		"INSERT INTO TABLE FUNCTION file('x') VALUES":           {InsertRefused, Insert{}},
		"INSERT INTO t (a":                                      {InsertRefused, Insert{}},
		"INSERT INTO t SETTINGS x = 1":                          {InsertFromClient, Insert{"INSERT INTO t SETTINGS x = 1", "t", "*"}},
		"SELECT 1":                                              {NoInsert, Insert{}},
		"EXPLAIN INSERT INTO t VALUES (1)":                      {NoInsert, Insert{}},
	} {
		parts, form := mustLex(t, text).Insert()
		if form != want.form || form == InsertFromClient && parts != want.parts {
			t.Errorf("%s\n got %d %+v\nwant %d %+v", text, form, parts, want.form, want.parts)
		}
	}
}

func TestGuard_FindsReservedNamesAndClauses(t *testing.T) {
	for _, text := range []string{
		"SELECT file('x')", "SELECT `file`('x')", "SELECT arrayMap(file, ['x'])", "SELECT * FROM eval('x')", "SELECT * FROM sqlite('x', 't')",
		"SELECT 1 into/**/outfile 'x'", "INSERT INTO t FROM INFILE 'x'", "SELECT {f : Identifier}", "CREATE TABLE t (a Int8) SETTINGS disk = disk (type = web)",
		"SET mine = 1",
	} {
		var refusal *Refusal
		if err := mustLex(t, text).Guard("mine"); !errors.As(err, &refusal) || refusal.Code != CodeAccessDenied {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{
		"SELECT t.file, 'file', filesystemAvailable() FROM t", "SELECT 'INTO OUTFILE'", "INSERT INTO t SELECT disk FROM (SELECT 1)", "SELECT {f:String}",
	} {
		if err := mustLex(t, text).Guard("mine"); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestQuotes_GoThereAndBack(t *testing.T) {
	for _, text := range []string{"", "plain", `a'b\c`, "tab\tline\nnul\x00", "ü"} {
		got, ok := Unquote(QuoteString(text))
		if !ok || got != text {
			t.Errorf("%q becomes %q, %t", text, got, ok)
		}
	}
	if got, ok := Unquote(`'\t\n\0\\\'x'''`); !ok || got != "\t\n\x00\\'x'" {
		t.Errorf("got %q, %t", got, ok)
	}
	for _, bad := range []string{"", "'", "x", "'a", "'a' b", `'a\'`} {
		if _, ok := Unquote(bad); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestIsSettingName_RefusesWhatCouldEndTheStatement(t *testing.T) {
	for name, want := range map[string]bool{"max_threads": true, "a.b": true, "": false, "a b": false, "a=1,b": false, "a;": false, "ü": false} {
		if IsSettingName(name) != want {
			t.Errorf("%q: want %t", name, want)
		}
	}
}

func FuzzLex_NeverPanicsAndTokensAreInOrder(f *testing.F) {
	f.Add("INSERT INTO t (a) SETTINGS x = 1 VALUES ('a''b') -- c")
	f.Add("SELECT $a$ x $a$ FORMAT JSON")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Lex(text)
		if err != nil {
			return
		}
		last := 0
		for _, token := range s.tokens {
			if token.start < last || token.end <= token.start || token.end > len(text) {
				t.Fatalf("token %+v after %d in %q", token, last, text)
			}
			last = token.end
		}
		_, _ = s.Insert()
		_, _, _ = s.WithoutFormat(), s.Streams(), s.Guard()
	})
}
