package registry

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

const (
	purposesSchema    = "purposes.schema.json"
	downstreamsSchema = "downstreams.schema.json"
	examples          = "../../deploy/examples/"
)

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func compile(t *testing.T, path string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(path)
	if err != nil {
		t.Fatalf("%s is no JSON Schema: %v", path, err)
	}
	return s
}

// reference is env:NAME or file:PATH in a list inside { }, which the YAML
// decoder takes apart (see strictyaml) and editors do not.
var reference = regexp.MustCompile(`([\[ ])((?:env|file):[^\s,\]"]+)`)

// asJSON gives a YAML file as the value that a schema is asked about.
func asJSON(t *testing.T, data []byte) any {
	t.Helper()
	data = reference.ReplaceAll(data, []byte(`$1"$2"`))
	var v any
	if err := yaml.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	j, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestSchemas_AcceptTheExamplesAndTheSample(t *testing.T) {
	purposes, downstreams := compile(t, purposesSchema), compile(t, downstreamsSchema)
	for path, schema := range map[string]*jsonschema.Schema{
		"sample.yaml":                 purposes,
		examples + "purposes.yaml":    purposes,
		examples + "downstreams.yaml": downstreams,
	} {
		if err := schema.Validate(asJSON(t, readFile(t, path))); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, yaml := range []string{goodPurposes, inPurpose("    model: {us: opt_in, US-CA: opt_out, EEA: opt_in}\n    double_opt_in: true\n    ttl: unlimited\n")} {
		if err := purposes.Validate(asJSON(t, []byte(yaml))); err != nil {
			t.Errorf("%s: %v", yaml, err)
		}
	}
}

// What a form can't say, the tables expect of the reading code alone.
var beyondForm = []string{
	"twice", "was still declared", "keyword for both", "one version, two texts", "hash of another", "file not there", "file empty", "file no text", "file too large", "calendar file", "calendar line",
	"calendar code", "model jurisdiction", "model table code", "model of a contract", "group with a yes word", "same meaning as what", "ttl unlimited in one place", "ttl too short", "ttl too long", "ttl over", "double opt-in window", "deadline in too many bd",
	"tenant without purposes", "tenant far from any", "retain", "acknowledgement unasked", "batch wait", "timeout too long", "rate over", "blank text", "valid until",
	"http outside", "url ", "internal url as a number",
}

func TestSchemas_RefuseWhatTheReadingCodeRefuses(t *testing.T) {
	refuses := func(schema *jsonschema.Schema, table map[string]struct{ yaml, want string }) {
		for name, c := range table {
			if slices.ContainsFunc(beyondForm, func(s string) bool { return strings.Contains(name, s) }) {
				continue
			}
			if schema.Validate(asJSON(t, []byte(c.yaml))) == nil {
				t.Errorf("%s: the schema accepts it", name)
			}
		}
	}
	refuses(compile(t, purposesSchema), badPurposes)
	refuses(compile(t, purposesSchema), badNotices)
	refuses(compile(t, downstreamsSchema), badDownstreams)
}

// schemaPaths lists the keys of a schema as the reading code names them:
// purposes[].id, and * for a key that is data.
func schemaPaths(t *testing.T, path string) map[string]bool {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(readFile(t, path), &root); err != nil {
		t.Fatal(err)
	}
	paths := map[string]bool{}
	var walk func(at string, s map[string]any)
	walk = func(at string, s map[string]any) {
		if ref, ok := s["$ref"].(string); ok {
			walk(at, root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any))
		}
		prefix := at
		if prefix != "" {
			prefix += "."
		}
		if properties, ok := s["properties"].(map[string]any); ok {
			for key, sub := range properties {
				paths[prefix+key] = true
				walk(prefix+key, sub.(map[string]any))
			}
			if s["additionalProperties"] != false {
				t.Errorf("%s: %q lets unknown keys pass", path, at)
			}
		}
		if sub, ok := s["additionalProperties"].(map[string]any); ok {
			paths[prefix+strictyaml.AnyKey] = true
			walk(prefix+strictyaml.AnyKey, sub)
		}
		if sub, ok := s["items"].(map[string]any); ok {
			walk(at+"[]", sub)
		}
		if options, ok := s["oneOf"].([]any); ok {
			for _, sub := range options {
				walk(at, sub.(map[string]any))
			}
		}
	}
	walk("", root)
	return paths
}

func TestSchemas_HaveTheKeysThatTheReadingCodeAsksFor(t *testing.T) {
	for schema, sources := range map[string][2][]Source{
		purposesSchema:    {{{examples + "purposes.yaml", readFile(t, examples+"purposes.yaml")}}, nil},
		downstreamsSchema: {nil, {{examples + "downstreams.yaml", readFile(t, examples+"downstreams.yaml")}}},
	} {
		asked := map[string]bool{}
		opt := Options{asked: func(path string) { asked[path] = true }}
		if _, err := LoadBytes(sources[0], sources[1], opt); err != nil {
			t.Fatal(Explain(err))
		}
		inSchema := schemaPaths(t, schema)
		for _, path := range slices.Sorted(maps.Keys(asked)) {
			if !inSchema[path] {
				t.Errorf("%s lacks the key %s", schema, path)
			}
		}
		for _, path := range slices.Sorted(maps.Keys(inSchema)) {
			if !asked[path] {
				t.Errorf("%s has the key %s, which the reading of the example never asked for", schema, path)
			}
		}
	}
}

// writtenKeys lists the keys that a file holds.
func writtenKeys(at string, v any, into map[string]bool) {
	switch x := v.(type) {
	case map[string]any:
		for key, sub := range x {
			path := strings.TrimPrefix(at+"."+key, ".")
			into[path] = true
			writtenKeys(path, sub, into)
		}
	case []any:
		for _, sub := range x {
			writtenKeys(at+"[]", sub, into)
		}
	}
}

func TestExamples_UseEveryKey(t *testing.T) {
	for schema, example := range map[string]string{purposesSchema: "purposes.yaml", downstreamsSchema: "downstreams.yaml"} {
		written := map[string]bool{}
		writtenKeys("", asJSON(t, readFile(t, examples+example)), written)
		for path := range schemaPaths(t, schema) {
			if !strings.HasSuffix(path, "."+strictyaml.AnyKey) && !written[path] {
				t.Errorf("%s does not show %s", example, path)
			}
		}
	}
}
