package registry

import (
	"slices"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// Registry is one reading of all registry files. It is never changed; it may be
// used by any number of goroutines.
type Registry struct {
	version     string
	tenants     map[consent.Tenant]*tenant
	downstreams []*Downstream
	empty       *consent.Catalogue // of tenants that no file declares
	warnings    Faults
	waiting     *waiting
}

// finish makes the registry answer, after all files were read.
func (r *Registry) finish(content []string) {
	r.version = versionOf(content)
	r.empty = consent.NewCatalogue("", r.version, nil)
}

// Version is the content hash over all files and the texts that they name.
func (r *Registry) Version() string { return r.version }

// Catalogue gives what a tenant declares, the same pointer each time. For a
// tenant that no purposes file declares it is an empty catalogue without a
// tenant's name, in which nothing can be granted; never nil.
func (r *Registry) Catalogue(t consent.Tenant) *consent.Catalogue {
	if x := r.tenants[t]; x != nil {
		return x.catalogue
	}
	return r.empty
}

// Tenants lists the tenants of all files, sorted.
func (r *Registry) Tenants() []consent.Tenant {
	var all []consent.Tenant
	for t := range r.tenants {
		all = append(all, t)
	}
	for _, d := range r.downstreams {
		all = append(all, d.Tenant)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Downstreams lists the downstreams of all tenants, in the order of the files.
// The slice and what it points to are not to be changed.
func (r *Registry) Downstreams() []*Downstream { return r.downstreams }

// Controller tells who answers for a tenant's data; zero where not declared.
func (r *Registry) Controller(t consent.Tenant) Controller {
	if x := r.tenants[t]; x != nil {
		return x.controller
	}
	return Controller{}
}

// Terms gives what a purpose declares beside what the domain decides by; nil
// when it is not declared.
func (r *Registry) Terms(t consent.Tenant, p consent.Purpose) *Terms {
	if x := r.tenants[t]; x != nil {
		return x.terms[p]
	}
	return nil
}

// Warnings is what is allowed and looks wrong, sorted by file and line.
func (r *Registry) Warnings() Faults { return r.warnings }

// Waiting names each key that the files use, and that was read and checked but
// is not acted on by this version: one line a key, with the purposes or
// downstreams that use it.
func (r *Registry) Waiting() []string { return r.waiting.lines() }

// warnUnheard names the purposes that no downstream listens to, of each tenant
// that has a downstreams file.
func (r *Registry) warnUnheard(told map[consent.Tenant]strictyaml.Value) {
	for t, at := range told {
		if r.tenants[t] == nil {
			continue
		}
		for _, d := range r.Catalogue(t).Purposes {
			listened := slices.ContainsFunc(r.downstreams, func(x *Downstream) bool { return x.Tenant == t && x.matches(d.ID) })
			if !d.Group && !listened {
				r.warnings = append(r.warnings, Fault{File: at.File(), Line: at.Line, Column: at.Column,
					Sentence: "no downstream listens to " + string(d.ID) + ": a withdrawal of it reaches nobody"})
			}
		}
	}
}

// Fault is one thing that is wrong in a registry file, or, as a warning, looks
// wrong: file, line, column, and a sentence that says what to do.
type Fault = strictyaml.Fault

// Faults is every fault of every file, sorted by file, line and column: the
// error that [Load] gives.
type Faults = strictyaml.Faults

// Explain gives every fault in err on a line of its own, as "file:line:column:
// sentence", sorted by file and line; an error of another kind as its own text;
// "" for nil.
func Explain(err error) string { return strictyaml.Explain(err) }
