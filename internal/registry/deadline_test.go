package registry

import (
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
)

func instant(t *testing.T, s string) consent.Instant {
	t.Helper()
	at, err := consent.ParseInstant(s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func load(t *testing.T, purposes, downstreams string) *Registry {
	t.Helper()
	p, d := files(purposes, downstreams)
	r, err := LoadBytes(p, d, Options{ReadFile: someFiles})
	if err != nil {
		t.Fatal(Explain(err))
	}
	return r
}

// The dates were worked out by hand on a calendar: 2026-01-01 is a Thursday,
// 2028-02-28 a Monday.
func TestDeadline_CountsBusinessDays(t *testing.T) {
	mlk := holidays{dayNumber(time.Date(2026, 1, 19, 0, 0, 0, 0, time.UTC)): true}
	for name, c := range map[string]struct {
		received string
		days     int
		closed   holidays
		want     string
	}{
		"Wednesday to Thursday":        {"2026-01-07T09:30:00.000Z", 1, nil, "2026-01-08T09:30:00.000Z"},
		"Friday to Monday":             {"2026-01-02T10:00:00.000Z", 1, nil, "2026-01-05T10:00:00.000Z"},
		"Saturday to Monday":           {"2026-01-03T10:00:00.000Z", 1, nil, "2026-01-05T10:00:00.000Z"},
		"late Sunday to late Monday":   {"2026-01-04T23:59:59.999Z", 1, nil, "2026-01-05T23:59:59.999Z"},
		"midnight":                     {"2026-01-05T00:00:00.000Z", 1, nil, "2026-01-06T00:00:00.000Z"},
		"ten over two weekends":        {"2026-01-07T12:00:00.000Z", 10, nil, "2026-01-21T12:00:00.000Z"},
		"ten over a holiday":           {"2026-01-07T12:00:00.000Z", 10, mlk, "2026-01-22T12:00:00.000Z"},
		"fifteen":                      {"2026-01-05T08:00:00.000Z", 15, nil, "2026-01-26T08:00:00.000Z"},
		"fifteen over a holiday":       {"2026-01-05T08:00:00.000Z", 15, mlk, "2026-01-27T08:00:00.000Z"},
		"received on a holiday":        {"2026-01-19T08:00:00.000Z", 1, mlk, "2026-01-20T08:00:00.000Z"},
		"leap day":                     {"2028-02-28T08:00:00.000Z", 2, nil, "2028-03-01T08:00:00.000Z"},
		"over the year":                {"2026-12-30T08:00:00.000Z", 2, nil, "2027-01-01T08:00:00.000Z"},
		"Friday before a long weekend": {"2026-01-16T17:00:00.000Z", 1, mlk, "2026-01-20T17:00:00.000Z"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Deadline{BusinessDays: c.days}.due(instant(t, c.received), c.closed)
			if got.String() != c.want {
				t.Errorf("%s + %dbd = %s, want %s", c.received, c.days, got, c.want)
			}
		})
	}
}

func TestDeadline_CountsDaysOf24Hours(t *testing.T) {
	got := Deadline{Duration: 2 * day}.due(instant(t, "2026-01-02T10:00:00.000Z"), nil)
	if got.String() != "2026-01-04T10:00:00.000Z" {
		t.Error(got)
	}
}

const deadlines = `calendars:
  US: [2026-01-19]
purposes:
  - {id: m, title: T, group: true, deadline: 7d}
  - {id: m.e, title: T, legal_basis: contract, deadline: {default: 2d, US: 10bd}}
  - {id: m.s, title: T, legal_basis: contract}
  - {id: only-us, title: T, legal_basis: contract, deadline: {US-CA: 15bd, US: 10bd}}
  - {id: none, title: T, legal_basis: contract}
  - {id: g, title: T, group: true}
  - {id: g.a, title: T, legal_basis: contract, deadline: 3d}
  - {id: g.b, title: T, legal_basis: contract, deadline: 1d}
`

func TestRegistry_DueAtTakesTheShorterDeadline(t *testing.T) {
	r := load(t, deadlines, "")
	const received = "2026-01-07T12:00:00.000Z" // a Wednesday
	for name, c := range map[string]struct {
		purpose      consent.Purpose
		jurisdiction consent.Jurisdiction
		own          Deadline
		want         string
	}{
		"the purpose's default":           {"m.e", "FR", Deadline{}, "2026-01-09T12:00:00.000Z"},
		"the country's":                   {"m.e", "US", Deadline{}, "2026-01-22T12:00:00.000Z"}, // a holiday is skipped
		"the subdivision's country":       {"m.e", "US-NY", Deadline{}, "2026-01-22T12:00:00.000Z"},
		"the subdivision's own":           {"only-us", "US-CA", Deadline{}, "2026-01-29T12:00:00.000Z"},
		"unknown is the earliest":         {"m.e", "", Deadline{}, "2026-01-09T12:00:00.000Z"},
		"unknown counts no holiday":       {"only-us", "", Deadline{}, "2026-01-21T12:00:00.000Z"},
		"the downstream's is shorter":     {"m.e", "FR", Deadline{Duration: day}, "2026-01-08T12:00:00.000Z"},
		"the downstream's is longer":      {"m.e", "FR", Deadline{Duration: 30 * day}, "2026-01-09T12:00:00.000Z"},
		"the downstream's in bd":          {"none", "US", Deadline{BusinessDays: 8}, "2026-01-20T12:00:00.000Z"},
		"only the downstream's":           {"none", "FR", Deadline{Duration: day}, "2026-01-08T12:00:00.000Z"},
		"none at all":                     {"none", "FR", Deadline{}, ""},
		"none for this jurisdiction":      {"only-us", "FR", Deadline{}, ""},
		"from the group above":            {"m.s", "FR", Deadline{}, "2026-01-14T12:00:00.000Z"},
		"undeclared, from the group":      {"m.x.y", "FR", Deadline{}, "2026-01-14T12:00:00.000Z"},
		"undeclared, from nobody":         {"x", "FR", Deadline{}, ""},
		"a group's, from those below":     {"g", "FR", Deadline{}, "2026-01-08T12:00:00.000Z"},
		"the root's, from the whole tree": {"*", "FR", Deadline{}, "2026-01-08T12:00:00.000Z"},
	} {
		t.Run(name, func(t *testing.T) {
			change := &consent.Change{Tenant: "default", Purpose: c.purpose, Jurisdiction: c.jurisdiction, ReceivedAt: instant(t, received)}
			if got := r.DueAt(&Downstream{Tenant: "default", Deadline: c.own}, change); got.String() != c.want {
				t.Errorf("due at %q, want %q", got, c.want)
			}
		})
	}
}

func TestRegistry_DueAtNeedsATimeAndKnowsNoOtherTenant(t *testing.T) {
	r := load(t, deadlines, "")
	at := instant(t, "2026-01-07T12:00:00.000Z")
	if due := r.DueAt(nil, &consent.Change{Tenant: "default", Purpose: "m.e", Jurisdiction: "FR"}); due != 0 {
		t.Errorf("a change without a time is due at %s", due)
	}
	if due := r.DueAt(nil, &consent.Change{Tenant: "default", Purpose: "m.e", Jurisdiction: "FR", Timestamp: at}); due != at.Add(2*day) {
		t.Errorf("a change without received_at is due at %s", due)
	}
	if due := r.DueAt(nil, &consent.Change{Tenant: "other", Purpose: "m.e", ReceivedAt: at}); due != 0 {
		t.Errorf("another tenant's change is due at %s", due)
	}
	d := &Downstream{Tenant: "other", Deadline: Deadline{BusinessDays: 1}}
	if due := r.DueAt(d, &consent.Change{Tenant: "other", Purpose: "m.e", ReceivedAt: at}); due != at.Add(day) {
		t.Errorf("another tenant's change is due at %s by its downstream", due)
	}
}

func TestDeadline_IsWrittenAsItIsRead(t *testing.T) {
	for _, s := range []string{"10bd", "2d", "36h", "90m", "15s", "250ms"} {
		x, err := parseSpan(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := (Deadline{Duration: x.duration, BusinessDays: x.businessDays}).String(); got != s {
			t.Errorf("%s is written %s", s, got)
		}
	}
	if got := (Deadline{}).String(); got != "" {
		t.Errorf("no deadline is written %q", got)
	}
}
