package strictyaml

import (
	"strings"
	"testing"
)

// read reads a document with every kind of value, and gives its faults as text.
func read(data []byte) (d *Document, keys map[string]string) {
	d = NewDocument("f.yaml", nil)
	keys = map[string]string{}
	top, ok := d.Parse(data)
	if !ok {
		return d, keys
	}
	keys["text"] = top.Text("text", 20)
	top.Flag("flag")
	if v, ok := top.Get("number"); ok {
		v.Number(1, 10)
	}
	keys["list"] = strings.Join(top.Texts("list", "words"), "|")
	if v, ok := top.Get("nested"); ok {
		if m, ok := v.Mapping(); ok {
			keys["nested.text"] = m.Text("text", 20)
			keys["nested.list"] = strings.Join(m.Texts("list", "words"), "|")
			m.Done()
		}
	}
	if v, ok := top.Get("open"); ok {
		if m, ok := v.Mapping(); ok {
			for _, e := range m.All() {
				keys["open."+e.Key] = e.Value.Key()
			}
		}
	}
	if v, ok := top.Get("word"); ok {
		Word(v, func(s string) (string, bool) { return s, s == "grant" || s == "refuse" }, "grant", "refuse")
	}
	top.Done()
	return d, keys
}

func TestDocument_NotesFaultsWithTheirPlace(t *testing.T) {
	for name, c := range map[string]struct{ yaml, want string }{
		"empty":             {"", "f.yaml:1:1: the file is empty"},
		"comments only":     {"# a\n# b\n", "f.yaml:1:1: the file is empty"},
		"a list":            {"- a\n", "f.yaml:1:1: the file wants keys and values, not a list"},
		"a word":            {"hello\n", "f.yaml:1:1: the file wants keys and values"},
		"two documents":     {"text: a\n---\ntext: b\n", "f.yaml:3:1: a second YAML document starts here"},
		"open bracket":      {"text: a\nlist: [b\n", "f.yaml:2:7: not valid YAML"},
		"tab":               {"nested:\n\ttext: a\n", "f.yaml:2:1: not valid YAML"},
		"not UTF-8":         {"text: a\ntext2: \xff\n", "f.yaml:2:1: this line is not UTF-8"},
		"deep brackets":     {"list: " + strings.Repeat("[", 100000), "f.yaml:1:39: more than 32 levels"},
		"deep dashes":       {strings.Repeat("- ", 100000), "f.yaml:1:65: more than 32 levels"},
		"many keys":         {"nested:\n" + strings.Repeat("  a:\n", 1001), "f.yaml:1002:4: more than 1000 keys in one mapping"},
		"many keys in {}":   {"nested: {" + strings.Repeat("a: b, ", 1001) + "}", "f.yaml:1:6011: more than 1000 keys in one mapping"},
		"many ? keys":       {strings.Repeat("? a\n", 1001), "f.yaml:1001:1: more than 1000 keys in one mapping"},
		"too large":         {strings.Repeat("#", MaxFileBytes+1), "f.yaml: the file is larger than 4 MiB"},
		"twice":             {"text: a\nflag: true\ntext: b\n", `f.yaml:3:1: key "text" is there twice: it is in line 1 already`},
		"anchor":            {"text: &a b\n", "f.yaml:1:7: anchors and aliases are not read here"},
		"alias":             {"text: *a\n", "f.yaml:1:7: anchors and aliases are not read here"},
		"tag":               {"text: !!str 3\n", "f.yaml:1:7: tags are not read here"},
		"merge":             {"<<: {text: a}\n", "f.yaml:1:1: this kind of key is not read here"},
		"complex key":       {"? text\n: a\n", "f.yaml:1:1: this kind of key is not read here"},
		"unknown":           {"text: a\ntxet: b\n", `f.yaml:2:1: unknown key "txet": did you mean "text"?`},
		"unknown and far":   {"nested:\n  zzzzzz: 1\n", `f.yaml:2:3: unknown key "zzzzzz": the keys here are text and list`},
		"null text":         {"flag: true\ntext:\n", "f.yaml:2:1: text is empty"},
		"bool as text":      {"text: true\n", "f.yaml:1:7: text wants text, not true: put it in quotes"},
		"mapping as text":   {"text: {a: b}\n", "f.yaml:1:7: text wants text, not keys and values"},
		"list as text":      {"text: [a]\n", "f.yaml:1:7: text wants text, not a list"},
		"long text":         {"text: aaaaaaaaaaaaaaaaaaaaa\n", "f.yaml:1:7: text is longer than 20 bytes"},
		"spaces":            {"text: ' a'\n", "f.yaml:1:7: text begins or ends with a space"},
		"blank":             {"text: '  '\n", "f.yaml:1:7: text is empty"},
		"control character": {"text: \"a\\tb\"\n", "f.yaml:1:7: text holds a line break or a control character"},
		"word as flag":      {"flag: yes\n", `f.yaml:1:7: flag wants true or false, not "yes"`},
		"number as flag":    {"flag: 1\n", "f.yaml:1:7: flag wants true or false"},
		"text as number":    {"number: many\n", "f.yaml:1:9: number wants a whole number from 1 to 10"},
		"fraction":          {"number: 1.5\n", "f.yaml:1:9: number wants a whole number from 1 to 10"},
		"number too large":  {"number: 11\n", "f.yaml:1:9: number wants a whole number from 1 to 10, not 11"},
		"hex number":        {"number: 0x1\n", "f.yaml:1:9: number wants a whole number from 1 to 10, not 0x1"},
		"text as list":      {"list: a\n", "f.yaml:1:7: list wants a list of words"},
		"empty list":        {"list: []\n", "f.yaml:1:7: list is an empty list"},
		"item twice":        {"list:\n  - a\n  - b\n  - a\n", "f.yaml:4:5: list names this twice: it is in line 2 already"},
		"text as mapping":   {"nested: a\n", "f.yaml:1:9: nested wants keys and values"},
		"unknown word":      {"word: refused\n", `f.yaml:1:7: word "refused" is not known: did you mean "refuse"?`},
		"unknown far word":  {"word: perhaps\n", `f.yaml:1:7: word "perhaps" is not known: use grant or refuse`},
		"windows line ends": {"text: a\r\nflag: yes\r\n", "f.yaml:2:7: flag wants true or false"},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := read([]byte(c.yaml))
			if len(d.Faults()) != 1 {
				t.Fatalf("faults = %q, want one", Explain(d.Faults()))
			}
			if got := d.Faults()[0].String(); !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s…", got, c.want)
			}
		})
	}
}

func TestDocument_ReadsOnAfterAFault(t *testing.T) {
	d, _ := read([]byte("flag: yes\nnumber: 11\nlist: a\nnested: {text: [], list: 1}\nother: 1\n"))
	want := []string{"f.yaml:1:7:", "f.yaml:2:9:", "f.yaml:3:7:", "f.yaml:4:16:", "f.yaml:4:26:", "f.yaml:5:1:"}
	got := strings.Split(Explain(d.Faults()), "\n")
	if len(got) != len(want) {
		t.Fatalf("got %d faults, want %d:\n%s", len(got), len(want), Explain(d.Faults()))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("fault %d = %s, want it at %s", i, got[i], want[i])
		}
	}
}

func TestDocument_ReadsWhatIsWritten(t *testing.T) {
	for name, c := range map[string]struct{ yaml, key, want string }{
		"number as text":       {"text: 3.10\n", "text", "3.10"},
		"country of Norway":    {"text: NO\n", "text", "NO"},
		"date as text":         {"text: 2026-12-25\n", "text", "2026-12-25"},
		"folded":               {"text: >-\n  a\n  b\n", "text", "a b"},
		"folded with its end":  {"text: >\n  a\n  b\n", "text", "a b"},
		"byte order mark":      {"\xef\xbb\xbftext: a\n", "text", "a"},
		"directive":            {"%YAML 1.2\n---\ntext: a\n", "text", "a"},
		"comment after":        {"text: a # b\n# c\n", "text", "a"},
		"one key in brackets":  {"{text: a}\n", "text", "a"},
		"colon in a list":      {"list: [env:A, b]\n", "list", "env:A|b"},
		"colon in nested list": {"nested: {list: [env:A, 'b:c', d, file:e:f, 11:30, h://i], text: x:y}\n", "nested.list", "env:A|b:c|d|file:e:f|11:30|h://i"},
		"colon in a value":     {"nested: {list: [a], text: x:y}\n", "nested.text", "x:y"},
		"over several lines":   {"nested: {list: [\n  env:A,\n  file:b],\n text: c}\n", "nested.list", "env:A|file:b"},
		"keys that are data":   {"open: {US: 1, 10: 2}\n", "open.10", "10"},
	} {
		t.Run(name, func(t *testing.T) {
			d, keys := read([]byte(c.yaml))
			if len(d.Faults()) > 0 {
				t.Fatalf("faults:\n%s", Explain(d.Faults()))
			}
			if keys[c.key] != c.want {
				t.Errorf("%s = %q, want %q", c.key, keys[c.key], c.want)
			}
		})
	}
}

func TestDocument_BoundsKeysPerMappingOnly(t *testing.T) {
	d := NewDocument("f.yaml", nil)
	top, ok := d.Parse([]byte("a:\n" + strings.Repeat("  - {b: c, d: e}\n  - f: g\n    h:\n      i: j\n", 3000) + "k: l\n"))
	if !ok {
		t.Fatal(Explain(d.Faults()))
	}
	if v, _ := top.Get("a"); len(v.List("things")) != 6000 {
		t.Error("items are missing")
	}
}

func TestDocument_TellsThePathsThatAreAskedFor(t *testing.T) {
	var asked []string
	d := NewDocument("f.yaml", func(path string) { asked = append(asked, path) })
	top, _ := d.Parse([]byte("a: [{b: {x: 1}}]\n"))
	list, _ := top.Get("a")
	item, _ := list.List("things")[0].Mapping()
	b, _ := item.Get("b")
	m, _ := b.Mapping()
	m.All()
	if got := strings.Join(asked, " "); got != "a a[].b a[].b.*" {
		t.Errorf("asked = %q", got)
	}
}

func TestExplain_SortsByFileAndLine(t *testing.T) {
	err := Faults{{"b", 1, 1, "x"}, {"a", 10, 1, "x"}, {"a", 9, 2, "y"}, {"a", 9, 1, "z"}, {"a", 0, 0, "w"}}
	const want = "a: w\na:9:1: z\na:9:2: y\na:10:1: x\nb:1:1: x"
	if got := Explain(err); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := err.Error(); got != "b:1:1: x (and 4 more)" {
		t.Errorf("Error() = %q", got)
	}
	if Explain(nil) != "" {
		t.Error("no error has a text")
	}
}

func TestDidYouMean_NamesOnlySlips(t *testing.T) {
	known := []string{"title", "ttl", "data", "deadline", "scope"}
	for got, want := range map[string]string{
		"tilte": "title", "titel": "title", "Title": "title", "tll": "ttl", "deadlin": "deadline", "deadlines": "deadline",
		"dat": "data", "colour": "", "x": "", "": "", "model": "", strings.Repeat("deadline", 20): "",
	} {
		if c := closest(got, known); c != want {
			t.Errorf("closest(%q) = %q, want %q", got, c, want)
		}
	}
}

func TestDistance_CountsEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"ab", "ba", 1}, {"abc", "abd", 1}, {"abc", "ac", 1}, {"abc", "abxc", 1}, {"ab", "cd", 2}, {"a", "abcd", 3}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func FuzzDocument_NeverPanics(f *testing.F) {
	for _, seed := range []string{"text: a\nlist: [a, b]\nnested: {text: a}\n", "a: &x [*x]\n", "? [a]\n: b\n", "nested: {list: [a:b, c:]}", "text: |\n a\n b", "- - - a", "%YAML\n---\n...", "{a: [b}", "'", "a: !!map {}", "<<: *a"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, _ := read(data)
		for _, x := range d.Faults() {
			if x.Sentence == "" || x.Line < 0 || (x.Line > 0 && x.Column < 1) {
				t.Errorf("a fault without a place or sentence: %+v", x)
			}
		}
	})
}
