package registry

import (
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// Bounds of what the files say, in bytes where it is text.
const (
	maxTitle       = 200
	maxDescription = 4000
	maxName        = 200
	// The ids of one file together. An event about * names them all as what it covers,
	// and must fit into its record, whatever is left out of it.
	maxIDs = 128 << 10
)

// purposesFile is one purposes.yaml while it is read.
type purposesFile struct {
	*strictyaml.Document
	load     *loader
	content  *hasher
	tenant   *tenant
	declared []*purposeEntry
	texts    map[noticeName]noticeAt // the first text of each notice
	waiting  *waiting
}

// purposeEntry is a declaration with the places that later checks name.
type purposeEntry struct {
	*consent.Declaration
	terms *Terms
	at    strictyaml.Value
	m     *strictyaml.Mapping
}

func (f *purposesFile) read(data []byte) {
	top, ok := f.Parse(data)
	if !ok {
		return
	}
	f.tenant = &tenant{name: consent.DefaultTenant, at: top.At(), terms: map[consent.Purpose]*Terms{}}
	f.tenant.name, f.tenant.at = readTenant(top)
	f.controller(top)
	windows := f.defaults(top)
	models := readModels(top)
	f.calendars(top)
	f.purposes(top)
	top.Done()
	f.checkTogether()

	declarations := make([]*consent.Declaration, len(f.declared))
	for i, p := range f.declared {
		declarations[i] = p.Declaration
		f.tenant.terms[p.ID] = p.terms
	}
	c := consent.NewCatalogue(f.tenant.name, f.content.sum(), declarations)
	c.Models, c.ReplayWindows = models, windows
	f.tenant.catalogue = c
	f.checkModels(c)
}

// tenantName is shared by both kinds of file.
func readTenant(top *strictyaml.Mapping) (consent.Tenant, strictyaml.Value) {
	v, ok := top.Get("tenant")
	if !ok {
		return consent.DefaultTenant, top.At()
	}
	if s, ok := v.Scalar("a name"); ok {
		t, err := consent.ParseTenant(s)
		if err == nil {
			return t, v
		}
		v.Fault("tenant %s: %s", strictyaml.Quote(s), err)
	}
	return "", v
}

func (f *purposesFile) controller(top *strictyaml.Mapping) {
	v, ok := top.Get("controller")
	if !ok {
		return
	}
	m, ok := v.Mapping()
	if !ok {
		return
	}
	if name, ok := m.Need("name", "say who answers for the data"); ok {
		f.tenant.controller.Name, _ = name.Text(maxName)
	}
	f.tenant.controller.Contact = m.Text("contact", maxName)
	f.tenant.controller.Address = m.Text("address", maxDescription)
	m.Done()
}

// defaults reads the replay windows; jurisdiction_unknown has one word, since
// doubt favours the subject.
func (f *purposesFile) defaults(top *strictyaml.Mapping) map[consent.Channel]time.Duration {
	v, ok := top.Get("defaults")
	if !ok {
		return nil
	}
	m, ok := v.Mapping()
	if !ok {
		return nil
	}
	if u, ok := m.Get("jurisdiction_unknown"); ok {
		strictyaml.Word(u, func(s string) (bool, bool) { return true, s == "strictest" }, "strictest")
	}
	windows := map[consent.Channel]time.Duration{}
	if w, ok := m.Get("replay_window"); ok {
		if table, ok := w.Mapping(); ok {
			for _, c := range channels() {
				f.replayWindow(table, c, windows)
			}
			table.Done()
		}
	}
	m.Done()
	return windows
}

// channels lists every channel; ChannelUnknown first, as the default.
func channels() []consent.Channel {
	all := []consent.Channel{consent.ChannelUnknown}
	for c := consent.ChannelUnknown + 1; c.String() != consent.ChannelUnknown.String(); c++ {
		all = append(all, c)
	}
	return all
}

func (f *purposesFile) replayWindow(table *strictyaml.Mapping, c consent.Channel, windows map[consent.Channel]time.Duration) {
	key := c.String()
	if c == consent.ChannelUnknown {
		key = everywhere
	}
	v, ok := table.Get(key)
	if !ok {
		return
	}
	if x, ok := readUnlimited(v); ok {
		windows[c] = x
	}
}

// calendars reads the holidays of a jurisdiction: a list of dates, or the name
// of a file with one date a line.
func (f *purposesFile) calendars(top *strictyaml.Mapping) {
	if v, ok := top.Get("calendars"); ok {
		f.tenant.calendars = byJurisdiction(v, func(v strictyaml.Value) (holidays, bool) {
			if v.IsList() {
				return holidaySet(strictyaml.Each(v, "dates", readDate)), true
			}
			path, ok := v.Text(maxDescription)
			if !ok {
				return nil, false
			}
			return f.load.calendar(f, v, path)
		})
	}
}

func readDate(v strictyaml.Value) (int64, bool) {
	s, ok := v.Scalar("a date such as 2026-12-25")
	if !ok {
		return 0, false
	}
	t, ok := parseDate(s)
	if !ok {
		v.Fault("%s is not a date: write it as 2026-12-25", strictyaml.Quote(s))
	}
	return dayNumber(t), ok
}

func holidaySet(days []int64) holidays {
	set := make(holidays, len(days))
	for _, d := range days {
		set[d] = true
	}
	return set
}

func (f *purposesFile) purposes(top *strictyaml.Mapping) {
	v, ok := top.Need("purposes", "list what a subject can say yes or no to")
	if !ok {
		return
	}
	seen := map[consent.Purpose]int{}
	idBytes := 0
	for _, item := range v.List("purposes") {
		m, ok := item.Mapping()
		if !ok {
			continue
		}
		p := f.purpose(m)
		if p == nil {
			continue
		}
		if line, twice := seen[p.ID]; twice {
			p.at.Fault("purpose %s is declared twice: it is in line %d already", p.ID, line)
			continue
		}
		seen[p.ID] = p.at.Line
		before := idBytes
		if idBytes += len(p.ID); before <= maxIDs && idBytes > maxIDs {
			p.at.Fault("the purpose ids of this file have more than %d KiB together: shorten them or declare fewer, since a withdrawal of all purposes names each of them in one record", maxIDs>>10)
		}
		f.declared = append(f.declared, p)
	}
}

// purpose reads one declaration; nil when it has no usable id.
func (f *purposesFile) purpose(m *strictyaml.Mapping) *purposeEntry {
	p := &purposeEntry{Declaration: &consent.Declaration{}, terms: &Terms{}, at: m.At(), m: m}
	f.identity(m, p)
	p.Group = m.Flag("group")
	f.decides(m, p)
	f.notices(m, p)
	f.describes(m, p)
	m.Done()
	f.checkKind(m, p)
	if p.ID == "" {
		return nil
	}
	return p
}

func (f *purposesFile) identity(m *strictyaml.Mapping, p *purposeEntry) {
	if v, ok := m.Need("id", "give the purpose a dotted path such as marketing.email"); ok {
		p.at = v
		p.ID, _ = readPurpose(v)
	}
	if v, ok := m.Need("title", "say in a few words what the data is used for, as a banner shows it"); ok {
		p.Title, _ = v.Text(maxTitle)
	}
	p.Description = m.Text("description", maxDescription)
}

func readPurpose(v strictyaml.Value) (consent.Purpose, bool) {
	s, ok := v.Scalar("a purpose such as marketing.email")
	if !ok {
		return "", false
	}
	p, err := consent.ParsePurpose(s)
	switch {
	case err != nil:
		v.Fault("purpose %s: %s", strictyaml.Quote(s), err)
		return "", false
	case p == consent.Root:
		v.Fault("* is all purposes and is not declared: name one")
		return "", false
	}
	return p, true
}

// decides reads what the domain decides by.
func (f *purposesFile) decides(m *strictyaml.Mapping, p *purposeEntry) {
	if v, ok := m.Get("legal_basis"); ok {
		p.LegalBasis, _ = strictyaml.Word(v, consent.ParseLegalBasis, "consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests")
	}
	if v, ok := m.Get("model"); ok {
		p.Models = byJurisdiction(v, func(v strictyaml.Value) (consent.Model, bool) {
			return strictyaml.Word(v, consent.ParseModel, "opt_in", "opt_out")
		})
	}
	if v, ok := m.Get("ttl"); ok {
		p.TTLs = readTTLs(v)
	}
	if v, ok := m.Get("double_opt_in"); ok {
		f.doubleOptIn(v, p)
	}
	if v, ok := m.Get("scope"); ok {
		p.Scope, _ = strictyaml.Word(v, consent.ParseScope, "person", "device")
	}
	p.SaleOrShare = m.Flag("sale_or_share")
	if v, ok := m.Get("freely_given"); ok {
		if g, ok := v.Mapping(); ok {
			p.RefuseConditional = g.Flag("refuse_conditional")
			g.Done()
		}
	}
	if v, ok := m.Get("deadline"); ok {
		p.terms.Deadlines = byJurisdiction(v, readDeadline)
	}
}

// ttls reads how long a grant holds. Without a bound nothing is kept, which is
// what the domain takes for "does not expire"; that can be said of all
// jurisdictions and of the rest of them, not of one beside a bounded default.
func readTTLs(v strictyaml.Value) consent.ByJurisdiction[time.Duration] {
	table := byJurisdiction(v, readUnlimited)
	for j, ttl := range table {
		if ttl != consent.Unlimited {
			continue
		}
		if j != "" {
			v.Fault("ttl is unlimited in %s only: bound it there, or leave the default out and bound the others", j)
		}
		delete(table, j)
	}
	return table
}

// spanOrUnlimited reads clock time, consent.Unlimited for no bound.
func readUnlimited(v strictyaml.Value) (time.Duration, bool) {
	if s, ok := v.Scalar("a length of time such as 2d, or unlimited"); !ok {
		return 0, false
	} else if s == "unlimited" {
		return consent.Unlimited, true
	}
	return readDuration(v, time.Second, longestSpan)
}

// doubleOptIn reads true, false, or {required_in: [DE], window: 7d}; the word
// default among the jurisdictions requires it everywhere.
func (f *purposesFile) doubleOptIn(v strictyaml.Value, p *purposeEntry) {
	if !v.IsMapping() {
		if need, ok := v.Flag(); ok && need {
			p.DoubleOptIn = consent.ByJurisdiction[bool]{"": true}
			f.waiting.note("double_opt_in", string(p.ID))
		}
		return
	}
	m, _ := v.Mapping()
	p.DoubleOptIn = consent.ByJurisdiction[bool]{}
	if list, ok := m.Need("required_in", "list jurisdictions, or [default] for all"); ok {
		for _, j := range strictyaml.Each(list, "jurisdictions", func(item strictyaml.Value) (consent.Jurisdiction, bool) {
			if s, _ := item.Scalar("a jurisdiction"); s == everywhere {
				return "", true
			}
			return readJurisdiction(item)
		}) {
			p.DoubleOptIn[j] = true
		}
	}
	if w, ok := m.Get("window"); ok {
		p.ConfirmWindow, _ = readDuration(w, time.Minute, 365*day)
	}
	m.Done()
	f.waiting.note("double_opt_in", string(p.ID))
}

// describes reads what the purpose says about itself to people and to other
// systems.
func (f *purposesFile) describes(m *strictyaml.Mapping, p *purposeEntry) {
	t := p.terms
	if v, ok := m.Get("was"); ok {
		t.Was = strictyaml.Each(v, "purposes", readPurpose)
		f.waiting.note("was", string(p.ID))
	}
	t.SameMeaning = m.Flag("same_meaning")
	if v, ok := m.Get("keywords"); ok {
		t.Keywords = readKeywords(v)
		f.waiting.note("keywords", string(p.ID))
	}
	if v, ok := m.Get("signals"); ok {
		t.Signals = readSignals(v)
		f.waiting.note("signals", string(p.ID))
	}
	for _, x := range []struct {
		key, want string
		into      *[]string
	}{
		{"data", "kinds of personal data", &t.Data},
		{"recipients", "third parties", &t.Recipients},
		{"storage", "places where it is kept", &t.Storage},
	} {
		if *x.into = m.Texts(x.key, x.want); *x.into != nil {
			f.waiting.note(x.key, string(p.ID))
		}
	}
	if v, ok := m.Get("retention"); ok {
		t.Retention, _ = readUnlimited(v)
		f.waiting.note("retention", string(p.ID))
	}
}
