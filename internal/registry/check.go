package registry

import (
	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// grantKeys speak of a yes, or of what holds where nothing was said. On a group,
// which nobody grants, and on a purpose that needs no yes they would be read by
// people and obeyed by nothing.
var grantKeys = []string{"model", "ttl", "double_opt_in", "sale_or_share", "freely_given"}

// checkKind holds a declaration to what it is: a group, a purpose that the
// subject decides, or one on another legal basis.
func (f *purposesFile) checkKind(m *strictyaml.Mapping, p *purposeEntry) {
	_, hasBasis := m.Has("legal_basis")
	switch {
	case p.Group:
		f.checkGroup(m, p)
	case !hasBasis:
		m.Fault("legal_basis is missing: say on what ground of GDPR art. 6(1) this purpose stands, such as consent; or group: true for a mere heading")
	case !p.LegalBasis.DecidedByFold():
		for _, key := range grantKeys {
			if at, ok := m.Has(key); ok {
				at.Fault("%s has no effect: the purpose rests on %s, so that nobody is asked", key, p.LegalBasis)
			}
		}
	case p.LegalBasis == consent.BasisConsent:
		if _, ok := m.Has("notices"); !ok {
			p.at.Warn("purpose %s names no notice: no grant of it can be valid", p.ID)
		}
	}
	if !p.Group && p.Scope == consent.ScopeUnknown {
		p.Scope = consent.ScopePerson
	}
	if at, ok := m.Has("same_meaning"); ok && p.terms.Was == nil {
		at.Fault("same_meaning speaks of the purposes under was: name them, or leave it out")
	}
}

func (f *purposesFile) checkGroup(m *strictyaml.Mapping, p *purposeEntry) {
	for _, key := range append([]string{"legal_basis", "notices", "scope", "signals"}, grantKeys...) {
		if at, ok := m.Has(key); ok {
			at.Fault("%s has no effect on a group, which is never granted: say it of the purposes below", key)
		}
	}
	if k, ok := m.Has("keywords"); ok && len(p.terms.Keywords.Grant) > 0 {
		k.Fault("a keyword can withdraw a group and never grant one: take grant away")
	}
}

// checkTogether looks at declarations beside each other.
func (f *purposesFile) checkTogether() {
	byID := make(map[consent.Purpose]*purposeEntry, len(f.declared))
	hasBelow := map[consent.Purpose]*purposeEntry{}
	for _, p := range f.declared {
		byID[p.ID] = p
		for above := p.ID.Parent(); above != consent.Root; above = above.Parent() {
			if hasBelow[above] == nil {
				hasBelow[above] = p
			}
		}
	}
	for _, p := range f.declared {
		below := hasBelow[p.ID]
		switch {
		case p.Group && below == nil:
			p.at.Warn("group %s has no purpose below it: nothing can be granted there", p.ID)
		case !p.Group && below != nil:
			p.at.Warn("purpose %s stands above %s and can be granted itself: a yes to it grants nothing below; say group: true if it is a heading", p.ID, below.ID)
		}
		for _, old := range p.terms.Was {
			if byID[old] != nil {
				at, _ := p.m.Has("was")
				at.Fault("purpose %s is still declared in line %d: was names purposes that are no more", old, byID[old].at.Line)
			}
		}
	}
}

// checkModels warns of a default that no consent can have.
func (f *purposesFile) checkModels(c *consent.Catalogue) {
	for _, p := range f.declared {
		if p.LegalBasis == consent.BasisConsent && c.Model(p.Declaration, consent.EU) == consent.OptOut {
			p.at.Warn("purpose %s rests on consent and is opt_out in the EU, where silence is no consent (GDPR art. 4(11)): make it opt_in there", p.ID)
		}
	}
}
