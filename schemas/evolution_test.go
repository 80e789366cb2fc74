package schemas

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hamba/avro/v2"
)

// incompatible tells everything that keeps two versions of a schema from
// reading each other, in both directions, and any field whose logical type
// changed: that resolves, and silently means something else.
//
// Source: Avro 1.12 specification, "Schema Resolution". Renaming by alias is
// not recognised on purpose: only one direction would resolve.
func incompatible(older, newer any) []string {
	var faults []string
	for _, direction := range []struct {
		label          string
		reader, writer any
	}{{"the newer cannot read the older", newer, older}, {"the older cannot read the newer", older, newer}} {
		r := resolution{label: direction.label, readers: map[string]map[string]any{}, writers: map[string]map[string]any{}}
		collect(direction.reader, r.readers)
		collect(direction.writer, r.writers)
		r.check("", direction.reader, direction.writer)
		faults = append(faults, r.faults...)
	}
	return faults
}

type resolution struct {
	label            string
	readers, writers map[string]map[string]any // named types
	faults           []string
}

// collect notes the named types of a schema.
func collect(tree any, into map[string]map[string]any) {
	switch x := tree.(type) {
	case []any:
		for _, b := range x {
			collect(b, into)
		}
	case map[string]any:
		if name, ok := x["name"].(string); ok && x["type"] != nil {
			into[name] = x
		}
		if fields, ok := x["fields"].([]any); ok {
			for _, f := range fields {
				collect(f.(map[string]any)["type"], into)
			}
		}
		collect(x["items"], into)
	}
}

func (r *resolution) fault(path, format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf("%s: %s: %s", r.label, strings.TrimPrefix(path, "."), fmt.Sprintf(format, args...)))
}

// kind gives a type's kind and its definition, following a name.
func kind(tree any, named map[string]map[string]any) (string, map[string]any) {
	switch x := tree.(type) {
	case string:
		if def, ok := named[x]; ok {
			return def["type"].(string), def
		}
		return x, nil
	case []any:
		return "union", nil
	case map[string]any:
		return x["type"].(string), x
	}
	return "", nil
}

var promotions = map[string][]string{
	"int": {"long", "float", "double"}, "long": {"float", "double"}, "float": {"double"}, "string": {"bytes"}, "bytes": {"string"},
}

func (r *resolution) check(path string, reader, writer any) {
	rk, rd := kind(reader, r.readers)
	wk, wd := kind(writer, r.writers)
	if rk == "union" || wk == "union" {
		r.checkUnion(path, reader, writer)
		return
	}
	if rl, wl := fmt.Sprint(rd["logicalType"]), fmt.Sprint(wd["logicalType"]); rl != wl {
		r.fault(path, "the logical type changed from %s to %s", wl, rl)
	}
	if rk != wk {
		if !slices.Contains(promotions[wk], rk) {
			r.fault(path, "%s does not become %s", wk, rk)
		}
		return
	}
	switch rk {
	case "record", "enum", "fixed":
		if rd["name"] != wd["name"] || fmt.Sprint(rd["size"]) != fmt.Sprint(wd["size"]) {
			r.fault(path, "%v is not %v", wd["name"], rd["name"])
			return
		}
	}
	switch rk {
	case "record":
		r.checkFields(path, rd, wd)
	case "enum":
		_, hasDefault := rd["default"]
		for _, s := range wd["symbols"].([]any) {
			if !hasDefault && !slices.Contains(rd["symbols"].([]any), s) {
				r.fault(path, "the symbol %v is not known, and there is no default", s)
			}
		}
	case "array":
		r.check(path+"[]", rd["items"], wd["items"])
	}
}

func (r *resolution) checkFields(path string, reader, writer map[string]any) {
	written := map[string]any{}
	for _, f := range writer["fields"].([]any) {
		field := f.(map[string]any)
		written[field["name"].(string)] = field["type"]
	}
	for _, f := range reader["fields"].([]any) {
		field := f.(map[string]any)
		name := field["name"].(string)
		typ, ok := written[name]
		if _, hasDefault := field["default"]; !ok && !hasDefault {
			r.fault(path+"."+name, "not written, and there is no default")
		} else if ok {
			r.check(path+"."+name, field["type"], typ)
		}
	}
}

// checkUnion asks of every branch that is written that some branch can be read.
func (r *resolution) checkUnion(path string, reader, writer any) {
	branches := func(tree any) []any {
		if u, ok := tree.([]any); ok {
			return u
		}
		return []any{tree}
	}
	for _, w := range branches(writer) {
		var best []string
		for i, b := range branches(reader) {
			attempt := resolution{label: r.label, readers: r.readers, writers: r.writers}
			attempt.check(path, b, w)
			if i == 0 || len(attempt.faults) < len(best) || sameKind(b, w, r) {
				best = attempt.faults
			}
			if len(attempt.faults) == 0 {
				break
			}
		}
		r.faults = append(r.faults, best...)
	}
}

func sameKind(reader, writer any, r *resolution) bool {
	rk, _ := kind(reader, r.readers)
	wk, _ := kind(writer, r.writers)
	return rk == wk
}

func TestIncompatible_AgreesWithTheLibraryButForLogicalTypes(t *testing.T) {
	const base = `{"type":"record","name":"R","fields":[
		{"name":"id","type":"string"},
		{"name":"n","type":"int","default":0},
		{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
		{"name":"e","type":{"type":"enum","name":"E","symbols":["UNKNOWN","A"],"default":"UNKNOWN"},"default":"UNKNOWN"},
		{"name":"bare","type":{"type":"enum","name":"B","symbols":["X"]},"default":"X"},
		{"name":"h","type":["null",{"type":"fixed","name":"H","size":16}],"default":null},
		{"name":"sub","type":["null",{"type":"record","name":"S","fields":[{"name":"x","type":["null","string"],"default":null}]}],"default":null},
		{"name":"list","type":{"type":"array","items":"string"},"default":[]}]}`
	const listField = `{"name":"list","type":{"type":"array","items":"string"},"default":[]}`
	cases := []struct {
		name, from, to string
		allowed        bool
		logicalOnly    bool // the library sees no fault
	}{
		{"nothing", "", "", true, false},
		{"a new nullable field", listField, listField + `,{"name":"z","type":["null","string"],"default":null}`, true, false},
		{"a new field without a default", listField, listField + `,{"name":"z","type":"string"}`, false, false},
		{"a nullable field without a default", listField, listField + `,{"name":"z","type":["null","string"]}`, false, false},
		{"a new flag with a default", listField, listField + `,{"name":"z","type":"boolean","default":false}`, true, false},
		{"a field with a default goes", ",\n\t\t" + listField, "", true, false},
		{"a field without a default goes", `{"name":"id","type":"string"},`, "", false, false},
		{"a symbol where there is a default", `["UNKNOWN","A"]`, `["UNKNOWN","A","B"]`, true, false},
		{"a symbol where there is none", `["X"]`, `["X","Y"]`, false, false},
		{"int to long", `"n","type":"int"`, `"n","type":"long"`, false, false},
		{"string to bytes", `"id","type":"string"`, `"id","type":"bytes"`, true, false},
		{"string to int", `"id","type":"string"`, `"id","type":"int"`, false, false},
		{"a new branch", `["null","string"]`, `["null","string","int"]`, false, false},
		{"another size", `"size":16`, `"size":32`, false, false},
		{"another name of an enum", `"name":"E"`, `"name":"F"`, false, false},
		{"a renamed field", `"name":"id"`, `"name":"key"`, false, false},
		{"an item of another type", `"items":"string"`, `"items":"long"`, false, false},
		{"a nested new nullable field", `"fields":[{"name":"x"`, `"fields":[{"name":"y","type":["null","string"],"default":null},{"name":"x"`, true, false},
		{"a nested new field without a default", `"fields":[{"name":"x"`, `"fields":[{"name":"y","type":"string"},{"name":"x"`, false, false},
		{"millis to micros", `timestamp-millis`, `timestamp-micros`, false, true},
		{"a logical type goes", `{"type":"long","logicalType":"timestamp-millis"}`, `"long"`, false, true},
		{"a logical type comes", `"size":16`, `"size":16,"logicalType":"uuid"`, false, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			changed := strings.Replace(base, c.from, c.to, 1)
			if c.from != c.to && changed == base {
				t.Fatal("the case changes nothing")
			}
			var older, newer any
			if err := json.Unmarshal([]byte(base), &older); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(changed), &newer); err != nil {
				t.Fatal(err)
			}
			faults := incompatible(older, newer)
			if (len(faults) == 0) != c.allowed {
				t.Errorf("want allowed %v, got %q", c.allowed, faults)
			}
			a, b := parsed(t, []byte(base)), parsed(t, []byte(changed))
			compat := avro.NewSchemaCompatibility()
			library := compat.Compatible(a, b) == nil && compat.Compatible(b, a) == nil
			if library != (c.allowed || c.logicalOnly) {
				t.Errorf("the library says compatible = %v", library)
			}
		})
	}
}
