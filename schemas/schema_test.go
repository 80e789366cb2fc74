package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hamba/avro/v2"

	"github.com/assent-dev/assent/consent"
)

// fastavroFingerprints are what fastavro 1.13.1 computes (and Java's Avro
// 1.12.0): the eight bytes as they stand in the frame.
var fastavroFingerprints = map[string]string{
	"assent.v1.ConsentEvent":    "1261e8988549ea7e",
	"assent.v1.ConsentState":    "bc15cd1495c61c19",
	"assent.v1.ConsentChange":   "659455c6bf948cf5",
	"assent.v1.DeliveryAttempt": "e005c64a4cffc3c3",
	"assent.v1.DeadLetter":      "3396d1959fb8c63f",
}

func TestFingerprint_IsThatOfTheFileAndOfOtherImplementations(t *testing.T) {
	for _, s := range All() {
		// The library's canonical form keeps logicalType, which the
		// specification's drops: take it away first.
		var tree any
		if err := json.Unmarshal(s.Source, &tree); err != nil {
			t.Fatal(err)
		}
		plain, err := json.Marshal(without(tree, "logicalType"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := parsed(t, plain).FingerprintUsing(avro.CRC64AvroLE)
		if err != nil {
			t.Fatal(err)
		}
		got := appendFrame(nil, s.Fingerprint)[2:]
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the file gives %x, the code says %x: add the new version to testdata/history, then set the constant in frame.go", s.Name, want, got)
		}
		if other := fastavroFingerprints[s.Name]; fmt.Sprintf("%x", got) != other {
			t.Errorf("%s: fastavro gives %s, the code says %x", s.Name, other, got)
		}
	}
}

// without gives a schema's JSON tree without some keys; a default is no schema.
func without(tree any, keys ...string) any {
	switch x := tree.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, v := range x {
			switch {
			case slices.Contains(keys, k):
			case k == "default":
				out[k] = v
			default:
				out[k] = without(v, keys...)
			}
		}
		return out
	case []any:
		out := make([]any, len(x))
		for i := range x {
			out[i] = without(x[i], keys...)
		}
		return out
	}
	return tree
}

// eachType calls visit for every type that a schema defines, once.
func eachType(s avro.Schema, visit func(avro.Schema)) {
	visit(s)
	switch x := s.(type) {
	case *avro.RecordSchema:
		for _, f := range x.Fields() {
			eachType(f.Type(), visit)
		}
	case *avro.UnionSchema:
		for _, b := range x.Types() {
			eachType(b, visit)
		}
	case *avro.ArraySchema:
		eachType(x.Items(), visit)
	}
}

func TestEnums_AreThoseOfTheDomainInTheSameOrder(t *testing.T) {
	want := map[string][]string{
		"assent.v1.Action":         symbols(actions, func(i uint8) fmt.Stringer { return consent.Action(i) }),
		"assent.v1.Status":         symbols(statuses, func(i uint8) fmt.Stringer { return consent.Status(i) }),
		"assent.v1.Channel":        symbols(channels, func(i uint8) fmt.Stringer { return consent.Channel(i) }),
		"assent.v1.Model":          symbols(models, func(i uint8) fmt.Stringer { return consent.Model(i) }),
		"assent.v1.LegalBasis":     symbols(legalBases, func(i uint8) fmt.Stringer { return consent.LegalBasis(i) }),
		"assent.v1.Scope":          symbols(scopes, func(i uint8) fmt.Stringer { return consent.Scope(i) }),
		"assent.v1.Method":         symbols(methods, func(i uint8) fmt.Stringer { return consent.Method(i) }),
		"assent.v1.Control":        symbols(controls, func(i uint8) fmt.Stringer { return consent.Control(i) }),
		"assent.v1.ControlDefault": symbols(controlDefaults, func(i uint8) fmt.Stringer { return consent.ControlDefault(i) }),
		"assent.v1.ActorType":      symbols(actorTypes, func(i uint8) fmt.Stringer { return consent.ActorType(i) }),
		"assent.v1.Outcome":        symbols(outcomes, func(i uint8) fmt.Stringer { return Outcome(i) }),
	}
	seen := map[string]bool{}
	for _, s := range All() {
		eachType(parsed(t, s.Source), func(typ avro.Schema) {
			e, ok := typ.(*avro.EnumSchema)
			if !ok {
				return
			}
			seen[e.FullName()] = true
			if !slices.Equal(e.Symbols(), want[e.FullName()]) {
				t.Errorf("%s in %s: %v, the domain says %v", e.FullName(), s.Name, e.Symbols(), want[e.FullName()])
			}
			if e.Symbols()[0] != "UNKNOWN" || e.Default() != "UNKNOWN" {
				t.Errorf("%s in %s: the first symbol and the default must be UNKNOWN", e.FullName(), s.Name)
			}
		})
	}
	if len(seen) != len(want) {
		t.Errorf("found the enums %v, want %d", seen, len(want))
	}
}

// symbols gives the upper-case words of an enum's values, and holds that there
// is none after the last.
func symbols(size int, value func(uint8) fmt.Stringer) []string {
	var words []string
	for i := range size {
		words = append(words, strings.ToUpper(value(uint8(i)).String()))
	}
	if after := value(uint8(size)).String(); after != "unknown" {
		words = append(words, "and "+after)
	}
	return words
}

func TestSchemas_KeepTheRoadOpen(t *testing.T) {
	for _, s := range All() {
		eachType(parsed(t, s.Source), func(typ avro.Schema) {
			r, ok := typ.(*avro.RecordSchema)
			if !ok {
				return
			}
			if r.Doc() == "" {
				t.Errorf("%s in %s has no doc", r.FullName(), s.Name)
			}
			for _, f := range r.Fields() {
				where := r.FullName() + "." + f.Name()
				if f.Doc() == "" {
					t.Errorf("%s has no doc", where)
				}
				if u, ok := f.Type().(*avro.UnionSchema); ok {
					if len(u.Types()) != 2 || u.Types()[0].Type() != avro.Null || !f.HasDefault() || f.Default() != nil {
						t.Errorf("%s must be null or one other type, and null by default", where)
					}
				}
				if strings.HasSuffix(f.Name(), "_at") && !strings.Contains(f.Type().String(), "timestamp-millis") {
					t.Errorf("%s must be a time in milliseconds", where)
				}
			}
		})
	}
	// A publisher in any language must be able to give no more than this.
	event := parsed(t, source(t, "ConsentEvent")).(*avro.RecordSchema)
	var required []string
	for _, f := range event.Fields() {
		if !f.HasDefault() {
			required = append(required, f.Name())
		}
	}
	if !slices.Equal(required, []string{"subject", "purpose", "action"}) {
		t.Errorf("required of an event: %v", required)
	}
}

// The event inside a state is the event itself, not a copy that drifts.
func TestState_HoldsTheEventAsItIs(t *testing.T) {
	var state, event map[string]any
	if err := json.Unmarshal(source(t, "ConsentState"), &state); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(source(t, "ConsentEvent"), &event); err != nil {
		t.Fatal(err)
	}
	for _, f := range state["fields"].([]any) {
		if field := f.(map[string]any); field["name"] == "no_event" {
			if inner := field["type"].([]any)[1]; !reflect.DeepEqual(inner, any(event)) {
				t.Error("ConsentState.no_event differs from ConsentEvent.avsc: copy the file's text there")
			}
			return
		}
	}
	t.Error("ConsentState has no no_event")
}

func TestSchemas_EvolveFullTransitive(t *testing.T) {
	for _, s := range All() {
		name := strings.TrimPrefix(s.Name, "assent.v1.")
		versions, err := filepath.Glob(filepath.Join("testdata", "history", name, "*.avsc"))
		if err != nil || len(versions) == 0 {
			t.Fatalf("no history of %s: %v", name, err)
		}
		slices.Sort(versions)
		var trees []any
		for _, path := range versions {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var tree any
			if err := json.Unmarshal(b, &tree); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			trees = append(trees, tree)
		}
		var current any
		if err := json.Unmarshal(s.Source, &current); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(without(current, "doc"), without(trees[len(trees)-1], "doc")) {
			t.Errorf("%s.avsc is not the last of its history: add it as the next version", name)
		}
		for i := range trees {
			for j := range i {
				for _, fault := range incompatible(trees[j], trees[i]) {
					t.Errorf("%s against %s: %s", versions[i], versions[j], fault)
				}
			}
			for _, fault := range incompatible(trees[i], current) {
				t.Errorf("%s.avsc against %s: %s", name, versions[i], fault)
			}
		}
	}
}
