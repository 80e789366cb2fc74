package registry

import (
	"strings"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// everywhere is the key that holds where no jurisdiction's own does.
const everywhere = "default"

// misnamed are codes that people write and ISO 3166-1 has under another name.
var misnamed = map[string]string{"UK": "GB", "EL": "GR", "USA": "US", "UE": "EU"}

func parseJurisdiction(v strictyaml.Value, s string) (consent.Jurisdiction, bool) {
	j, ok := consent.ParseJurisdiction(s)
	if ok && j != "" {
		return j, true
	}
	hint := "use an ISO 3166-1 country (DE), an ISO 3166-2 subdivision (US-CA), EU or EEA"
	if better := misnamed[strings.ToUpper(s)]; better != "" {
		hint = "did you mean " + strictyaml.Quote(better) + "?"
	}
	v.Fault("jurisdiction %s is not known: %s", strictyaml.Quote(s), hint)
	return "", false
}

func readJurisdiction(v strictyaml.Value) (consent.Jurisdiction, bool) {
	s, ok := v.Scalar("a jurisdiction such as DE")
	if !ok {
		return "", false
	}
	return parseJurisdiction(v, s)
}

// byJurisdiction reads one value for all, or one per jurisdiction and default.
func byJurisdiction[T any](v strictyaml.Value, read func(strictyaml.Value) (T, bool)) consent.ByJurisdiction[T] {
	if !v.IsMapping() {
		if x, ok := read(v); ok {
			return consent.ByJurisdiction[T]{"": x}
		}
		return nil
	}
	m, _ := v.Mapping()
	entries := m.All()
	if len(entries) == 0 {
		v.Fault("%s is empty: name default or a jurisdiction, or leave the key out", v.Key())
	}
	table := make(consent.ByJurisdiction[T], len(entries))
	for _, e := range entries {
		var j consent.Jurisdiction
		if e.Key != everywhere {
			var known bool
			if j, known = parseJurisdiction(e.At, e.Key); !known {
				continue
			}
		}
		x, ok := read(e.Value)
		if _, twice := table[j]; twice {
			e.At.Fault("jurisdiction %s is there twice, in upper and in lower case", strictyaml.Quote(e.Key))
		} else if ok {
			table[j] = x
		}
	}
	return table
}

// models reads the file's own table: which jurisdictions fall under which model
// where a purpose does not say.
func readModels(top *strictyaml.Mapping) consent.ByJurisdiction[consent.Model] {
	v, ok := top.Get("jurisdictions")
	if !ok {
		return nil
	}
	m, ok := v.Mapping()
	if !ok {
		return nil
	}
	table := consent.ByJurisdiction[consent.Model]{}
	for _, model := range []consent.Model{consent.OptIn, consent.OptOut} {
		list, ok := m.Get(model.String())
		if !ok {
			continue
		}
		for _, item := range list.List("jurisdictions") {
			j, ok := readJurisdiction(item)
			if !ok {
				continue
			}
			if other, twice := table[j]; twice {
				item.Fault("jurisdiction %s is listed already, under %s", j, other)
				continue
			}
			table[j] = model
		}
	}
	m.Done()
	return table
}
