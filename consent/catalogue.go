package consent

import (
	"sort"
	"time"
)

// Catalogue is one version of a tenant's purpose registry: what the subject can
// say yes or no to, and what holds where nothing was said. It is made by
// [NewCatalogue] and never changed afterwards.
type Catalogue struct {
	Tenant   Tenant
	Version  string // content hash
	Purposes []*Declaration
	// Models is the file's own table of models, asked after a purpose's.
	Models ByJurisdiction[Model]
	// ReplayWindows bounds how old a grant may claim to be, per channel;
	// Unlimited means no bound. ChannelUnknown is the default.
	ReplayWindows map[Channel]time.Duration

	byID map[Purpose]*Declaration
}

// Unlimited is a replay window without a bound.
const Unlimited time.Duration = -1

// DefaultReplayWindow holds where a catalogue names none.
const DefaultReplayWindow = 30 * 24 * time.Hour

// Declaration is one purpose of the registry.
type Declaration struct {
	ID          Purpose
	Title       string
	Description string
	Group       bool // a branch: withdrawn as a whole, never granted as a whole
	LegalBasis  LegalBasis
	Scope       Scope
	SaleOrShare bool
	// RefuseConditional: a grant given because service was denied otherwise is
	// not freely given for this purpose.
	RefuseConditional bool
	Models            ByJurisdiction[Model]
	TTLs              ByJurisdiction[time.Duration] // absent = a grant does not expire
	DoubleOptIn       ByJurisdiction[bool]
	ConfirmWindow     time.Duration
	Notices           []NoticeText
}

// MaxNameBytes bounds what a registry calls something: a notice, a version of it, itself.
const MaxNameBytes = 128

// NoticeText is one version of a notice in one language.
type NoticeText struct {
	Notice
	Text       string  // when the registry holds it
	ValidUntil Instant // absent = still valid
	Material   string  // what superseding it means for grants, as declared
}

// NewCatalogue indexes and sorts the declarations.
func NewCatalogue(tenant Tenant, version string, purposes []*Declaration) *Catalogue {
	c := &Catalogue{Tenant: tenant, Version: version, Purposes: purposes, byID: make(map[Purpose]*Declaration, len(purposes))}
	sort.Slice(purposes, func(i, j int) bool { return purposes[i].ID < purposes[j].ID })
	for _, d := range purposes {
		c.byID[d.ID] = d
	}
	return c
}

// Find gives the declaration of a purpose, nil when it is not declared.
func (c *Catalogue) Find(p Purpose) *Declaration {
	if c == nil {
		return nil
	}
	return c.byID[p]
}

// Covers lists the purposes declared at or below p, sorted.
func (c *Catalogue) Covers(p Purpose) []Purpose {
	var covers []Purpose
	for _, d := range c.Purposes {
		if p.Covers(d.ID) {
			covers = append(covers, d.ID)
		}
	}
	return covers
}

// Model looks up what holds for a purpose when nothing was said: the exact
// code, its country, its unions, the purpose's default, the file's table, then
// opt_in. An unknown jurisdiction gets the strictest that could apply.
// Source: semantics.md, section 4.
func (c *Catalogue) Model(d *Declaration, j Jurisdiction) Model {
	switch {
	case d == nil || d.Group:
		return OptIn
	case len(d.Models) == 0 && d.LegalBasis == BasisLegitimateInterests:
		return OptOut
	case j == "":
		// Where the purpose has no default, opt_in is what some jurisdiction gets.
		if _, hasDefault := d.Models[""]; !hasDefault {
			return OptIn
		}
		m, _ := d.Models.Strictest(func(x, y Model) bool { return x != OptOut && y == OptOut })
		return orOptIn(m)
	}
	if m, ok := d.Models.Lookup(j); ok {
		return orOptIn(m)
	}
	m, _ := c.Models.Lookup(j)
	return orOptIn(m)
}

func orOptIn(m Model) Model {
	if m == OptOut {
		return OptOut
	}
	return OptIn
}

// TTL is how long a grant holds; 0 = it does not expire. An unknown
// jurisdiction gets the shortest.
func (d *Declaration) TTL(j Jurisdiction) time.Duration {
	if j == "" {
		ttl, _ := d.TTLs.Strictest(func(x, y time.Duration) bool { return x < y })
		return ttl
	}
	ttl, _ := d.TTLs.Lookup(j)
	return ttl
}

// NeedsDoubleOptIn tells whether a grant waits for a confirmation. An unknown
// jurisdiction needs it if any does.
func (d *Declaration) NeedsDoubleOptIn(j Jurisdiction) bool {
	if j == "" {
		need, _ := d.DoubleOptIn.Strictest(func(x, y bool) bool { return x && !y })
		return need
	}
	need, _ := d.DoubleOptIn.Lookup(j)
	return need
}

// ReplayWindow is how old a grant of a channel may claim to be.
func (c *Catalogue) ReplayWindow(ch Channel) time.Duration {
	if w, ok := c.ReplayWindows[ch]; ok {
		return w
	}
	if ch == Import {
		return Unlimited
	}
	if w, ok := c.ReplayWindows[ChannelUnknown]; ok {
		return w
	}
	return DefaultReplayWindow
}

// Stamp fills the event's policy, and the notice's hash where the registry
// knows it, from this version of the registry. EffectiveAt must be set. A link or
// unlink says nothing of a purpose, and is stamped with the version alone.
func (c *Catalogue) Stamp(e *Event) {
	p := &Policy{Version: c.Version}
	e.Policy = p
	if e.Action == Link || e.Action == Unlink {
		return
	}
	p.Covers = c.Covers(e.Purpose)
	d := c.Find(e.Purpose)
	if d == nil {
		return
	}
	p.Model = c.Model(d, e.Jurisdiction)
	p.LegalBasis = d.LegalBasis
	p.Scope = d.Scope
	p.SaleOrShare = d.SaleOrShare
	if e.Action != Grant {
		return
	}
	if ttl := d.TTL(e.Jurisdiction); ttl > 0 {
		p.ExpiresAt = e.EffectiveAt.Add(ttl)
	}
	if d.NeedsDoubleOptIn(e.Jurisdiction) {
		p.DoubleOptIn = true
		if d.ConfirmWindow > 0 {
			p.ConfirmBy = e.EffectiveAt.Add(d.ConfirmWindow)
		}
	}
	if e.Notice.SHA256 == [32]byte{} {
		if texts := d.texts(e.Notice, e.EffectiveAt); len(texts) == 1 {
			e.Notice.SHA256 = texts[0].SHA256
		}
	}
}

// texts gives the notice texts of the purpose that n may name: id and version
// equal, still valid at t, and the language where n names one.
func (d *Declaration) texts(n Notice, t Instant) []NoticeText {
	var found []NoticeText
	for _, x := range d.Notices {
		if x.ID == n.ID && x.Version == n.Version && (n.Language == "" || n.Language == x.Language) &&
			(x.ValidUntil == 0 || t <= x.ValidUntil) {
			found = append(found, x)
		}
	}
	return found
}
