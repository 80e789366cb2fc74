package registry

import (
	_ "embed"
	"sync"
)

const sampleName = "sample.yaml"

//go:embed sample.yaml
var samplePurposes []byte

// Sample is the built-in registry: a newsletter, statistics, personalised
// advertising and sharing with partners, for tenant default, with the notices'
// texts in English; no downstreams. It is the same pointer each time.
func Sample() *Registry { return sample() }

var sample = sync.OnceValue(func() *Registry {
	r, err := LoadBytes(nil, nil, Options{SamplePurposes: true})
	if err != nil {
		panic("the built-in sample registry is faulty:\n" + Explain(err)) // a test reads it
	}
	return r
})
