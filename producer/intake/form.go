package intake

import (
	"strings"
	"unicode/utf8"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// A withdrawal is never refused for its form, and what all who read the log rely
// on must hold all the same. So a form that cannot stand is mended as little as
// possible, and told in a problem. A grant is not mended: it is refused.

const (
	maxPurposeBytes = 256
	maxTenantBytes  = 64
	// The years that a time of an event may have: 1900 to 9999, as in the JSON form.
	earliest consent.Instant = -2_208_988_800_000
	latest   consent.Instant = 253_402_300_799_999
)

func blank(s string) bool { return strings.TrimSpace(s) == "" }

// formWhole gives an event about the whole subject its purpose: it may be left out,
// and nothing else can be meant. An erase of one purpose is an erase all the same:
// it is never refused, and the answer tells.
func formWhole(e *consent.Event) []consent.Warning {
	given := e.Purpose
	if !e.Action.Whole() {
		return nil
	}
	e.Purpose = consent.Root
	if given == consent.Root || blank(string(given)) {
		return nil
	}
	return []consent.Warning{{Code: consent.WarnWholeSubject, Field: "purpose", Message: "a link, unlink or erase speaks of the whole subject: recorded for *"}}
}

// formPurpose lower-cases a purpose. Where it is no dotted path even then, it
// keeps what can be kept: every other character becomes '_', empty parts and
// what is over 256 characters are left out, and of nothing stays "_". That path
// is declared by nobody, so the answer warns of it; whoever hears the branch
// above it is told. It never becomes an ancestor or '*': that would take away
// what the subject did not speak of.
func formPurpose(e *consent.Event) []jsonform.Problem {
	given := string(e.Purpose)
	if _, err := consent.ParsePurpose(given); err == nil {
		return nil
	} else if e.Action == consent.Grant {
		return []jsonform.Problem{badValue("purpose", err.Error())}
	}
	lower := strings.ToLower(strings.TrimSpace(given))
	if p, err := consent.ParsePurpose(lower); err == nil {
		e.Purpose = p
		return nil
	}
	parts := strings.FieldsFunc(lower, func(r rune) bool { return r == '.' })
	for i, part := range parts {
		parts[i] = mend(part, "-_", '_')
	}
	path := strings.Join(parts, ".")
	if len(path) > maxPurposeBytes {
		path = strings.TrimRight(path[:maxPurposeBytes], ".")
	}
	if path == "" {
		path = "_"
	}
	e.Purpose = consent.Purpose(path)
	return []jsonform.Problem{badValue("purpose", "not a dotted path of a-z, 0-9, _ and -: recorded as "+path)}
}

// formTenant gives an absent tenant its default, and mends a name as formPurpose
// does, with '-'.
func formTenant(e *consent.Event) []jsonform.Problem {
	if e.Tenant == "" {
		e.Tenant = consent.DefaultTenant
		return nil
	}
	if consent.IsName(string(e.Tenant)) {
		return nil
	}
	name := mend(strings.ToLower(strings.TrimSpace(string(e.Tenant))), "-", '-')
	if len(name) > maxTenantBytes {
		name = name[:maxTenantBytes]
	}
	if name == "" {
		name = string(consent.DefaultTenant)
	}
	e.Tenant = consent.Tenant(name)
	return []jsonform.Problem{badValue("tenant", "a tenant's name has 1 to 64 characters of a-z, 0-9 and -: recorded under "+name)}
}

// formJurisdiction upper-cases a code; one that is not known counts as none.
func formJurisdiction(e *consent.Event) []jsonform.Problem {
	j, known := consent.ParseJurisdiction(strings.TrimSpace(string(e.Jurisdiction)))
	e.Jurisdiction = j
	if known {
		return nil
	}
	return []jsonform.Problem{{Field: "jurisdiction", Kind: jsonform.UnknownCode, Message: "not an ISO 3166 code: counts as unknown, so the strictest rules hold"}}
}

// formTimes drops times that nobody can mean.
func formTimes(e *consent.Event) (problems []jsonform.Problem) {
	for _, t := range []struct {
		field string
		at    *consent.Instant
	}{{"occurred_at", &e.OccurredAt}, {"sent_at", &e.SentAt}} {
		if *t.at < earliest || *t.at > latest {
			*t.at = 0
			problems = append(problems, badValue(t.field, "the year is outside 1900 to 9999: counts as absent"))
		}
	}
	return problems
}

// mend replaces every character but a-z, 0-9 and those in also.
func mend(s, also string, by byte) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		c := s[i]
		if (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strings.IndexByte(also, c) >= 0 {
			b.WriteByte(c)
			i++
			continue
		}
		b.WriteByte(by)
		_, width := utf8.DecodeRuneInString(s[i:])
		i += width
	}
	return b.String()
}

func badValue(field, message string) jsonform.Problem {
	return jsonform.Problem{Field: field, Kind: jsonform.BadValue, Message: message}
}
