package jsonform

import (
	"bytes"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/assent-dev/assent/consent"
)

// maxSubjectBytes bounds a raw subject: an address has at most 320 bytes.
const maxSubjectBytes = 1024

// ParseEvent reads a posted event. It gives what could be read, every problem
// with it, and an error, an [Unusable], where there is nothing to go on.
//
//   - Subject is the text as it was sent, raw or not. LinkTo too.
//   - Purpose is lower-cased, but for a grant or confirm, which must name it as
//     it is declared. Where link, unlink or erase name none, it is *.
//   - An action that is not listed is ActionUnknown, with a BadValue.
//   - ReceivedAt, EffectiveAt, Policy, Carried and Digest are never set, and an
//     absent tenant or event_id is left absent.
//
// How long data may be is for the caller to check.
func ParseEvent(data []byte) (consent.Event, []Problem, error) {
	c, err := newCursor(data)
	if err != nil {
		return consent.Event{}, nil, &Unusable{Message: err.Error()}
	}
	if c.next() != '{' {
		return consent.Event{}, nil, &Unusable{Message: "the text is not a JSON object"}
	}
	p := parser{cursor: c}
	p.members(eventFields)
	if p.deep {
		return consent.Event{}, nil, &Unusable{Message: "the event is nested deeper than 32"}
	}
	if err := p.usable(); err != nil {
		return consent.Event{}, nil, err
	}
	return p.event, p.problems, nil
}

// parser reads one event.
type parser struct {
	cursor
	event    consent.Event
	ref      consent.EventRef // that is being read
	acted    bool             // an action was named, listed or not
	problems []Problem
	path     string // of the object that is being read, with a dot
	name     string // of the field that is being read
}

// field is a name and how to read its value.
type field struct {
	name string
	read func(*parser)
}

// members reads an object's fields. A name that comes twice counts once, with
// its last value.
func (p *parser) members(fields []field) {
	var seen uint64
	p.object(func(name []byte) {
		for i := range fields {
			if f := &fields[i]; string(name) == f.name {
				p.name = f.name
				if seen&(1<<i) != 0 {
					p.problem(BadValue, "given twice: the last one counts")
				}
				seen |= 1 << i
				f.read(p)
				return
			}
		}
		p.name = cut(string(name))
		p.problem(UnknownField, "no field of this name: check its spelling and where it stands")
		p.skip()
	})
}

// cut bounds an unknown name for the answer.
func cut(name string) string {
	if len(name) <= maxNameBytes {
		return name
	}
	end := maxNameBytes
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + "…"
}

func (p *parser) problem(kind Kind, message string) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, Problem{Field: p.path + p.name, Kind: kind, Message: message})
	}
}

// nested reads a value that must be an object, and reports whether it was one.
func (p *parser) nested(fields []field) bool {
	if p.next() != '{' {
		if p.discard() != 'n' {
			p.problem(BadValue, "must be an object")
		}
		return false
	}
	path := p.path
	p.path += p.name + "."
	p.members(fields)
	p.path = path
	return true
}

// discard skips a value and gives its first byte, n for null.
func (p *parser) discard() byte {
	first := p.next()
	p.skip()
	return first
}

func (p *parser) string() string {
	if p.next() == '"' {
		return p.text()
	}
	if p.discard() != 'n' {
		p.problem(BadValue, "must be a text")
	}
	return ""
}

func (p *parser) flag() bool {
	switch p.discard() {
	case 't':
		return true
	case 'f', 'n':
		return false
	}
	p.problem(BadValue, "must be true or false")
	return false
}

func (p *parser) instant() consent.Instant {
	s := p.string()
	if s == "" {
		return 0
	}
	i, err := consent.ParseInstant(s)
	if err != nil {
		p.problem(BadValue, "must be an RFC 3339 time such as 2026-01-31T09:30:00.000Z, in the years 1900 to 9999")
	}
	return i
}

func (p *parser) id() consent.UUID {
	s := p.string()
	if s == "" {
		return consent.UUID{}
	}
	u, err := consent.ParseUUID(s)
	if err != nil {
		p.problem(IDDerived, "not a UUID: the UUIDv5 of the text is used in its place")
		return consent.DeriveUUID(consent.NamespaceEvent, []byte(s))
	}
	return u
}

func (p *parser) hash() (h [32]byte) {
	s := p.string()
	if s == "" {
		return h
	}
	if len(s) == hex.EncodedLen(len(h)) {
		if _, err := hex.Decode(h[:], []byte(s)); err == nil {
			return h
		}
	}
	p.problem(BadValue, "must be 64 hex digits")
	return [32]byte{}
}

func (p *parser) jurisdiction() consent.Jurisdiction {
	j, ok := consent.ParseJurisdiction(p.string())
	if !ok {
		p.problem(UnknownCode, "not an ISO 3166-1 or 3166-2 code: counts as empty, and the strictest rules hold")
	}
	return j
}

// enum reads a word of a closed set.
func enum[T any](p *parser, parse func(string) (T, bool)) (v T) {
	s := p.string()
	if s == "" {
		return v
	}
	v, ok := parse(s)
	if !ok {
		p.problem(BadValue, "not a word that is listed for this field")
	}
	return v
}

// tenant gives a name that usable refuses where it is no text: an event must not
// end with another controller than the one that was meant.
func (p *parser) tenant() consent.Tenant {
	if c := p.next(); c != '"' && c != 'n' {
		p.discard()
		return "not a text"
	}
	return consent.Tenant(p.string())
}

func (p *parser) action() consent.Action {
	p.acted = p.next() != 'n' && !bytes.HasPrefix(p.data[p.at:], []byte(`""`))
	return enum(p, consent.ParseAction)
}

func (p *parser) eventRef() *consent.EventRef {
	p.ref = consent.EventRef{}
	p.nested(eventRefFields)
	if p.ref == (consent.EventRef{}) {
		return nil
	}
	ref := p.ref
	return &ref
}

// stamp skips a field that a sender may not fill.
func (p *parser) stamp() {
	if p.discard() != 'n' {
		p.problem(StampIgnored, "only the gateway fills this field: what was sent is ignored")
	}
}

// usable holds what an event cannot do without, once all of it is read.
func (p *parser) usable() error {
	e := &p.event
	if !p.acted {
		return &Unusable{"action", "say what was expressed: grant, refuse, withdraw, invalidate, link, unlink, erase, request or defer"}
	}
	if e.Tenant != "" {
		if _, err := consent.ParseTenant(string(e.Tenant)); err != nil {
			return &Unusable{"tenant", err.Error()}
		}
	}
	if fault := unusableSubject(string(e.Subject)); fault != "" {
		return &Unusable{"subject", fault}
	}
	if e.LinkTo != "" && unusableSubject(string(e.LinkTo)) != "" {
		e.LinkTo = ""
		p.path, p.name = "link.", "to"
		p.problem(BadValue, "cannot be a subject: use an opaque id such as user:42")
	}
	return p.usablePurpose()
}

func unusableSubject(s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "say of whom: an opaque id such as user:42"
	case len(s) > maxSubjectBytes:
		return "too long: use an opaque id such as user:42"
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
		return "holds control characters or broken text: use an opaque id such as user:42"
	}
	return ""
}

func (p *parser) usablePurpose() error {
	e := &p.event
	lower := strings.ToLower(strings.TrimSpace(string(e.Purpose)))
	if lower == "" {
		switch e.Action {
		case consent.Link, consent.Unlink, consent.Erase:
			e.Purpose = consent.Root
			return nil
		}
		return &Unusable{"purpose", "say of which purpose, or * for all of them"}
	}
	purpose, err := consent.ParsePurpose(lower)
	if err != nil {
		return &Unusable{"purpose", err.Error()}
	}
	if !e.Action.Affirms() {
		e.Purpose = purpose
	}
	return nil
}
