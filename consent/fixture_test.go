package consent_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
)

var (
	seedFlag = flag.Uint64("seed", 0, "seed of the random histories; 0 draws a fresh one, which is printed")
	rewrite  = flag.Bool("rewrite", false, "write what happened into testdata/fold instead of comparing; read the difference before you keep it")
)

// seeded gives a random source and prints its seed with the test's output.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: repeat with -run '^%s$' -seed %d", seed, t.Name(), seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// id makes a readable event id: id(7) ends in …07.
func id(n int) consent.UUID {
	return consent.UUID{0: 0xe0, 6: 0x40, 8: 0x80, 14: byte(n >> 8), 15: byte(n)}
}

// digested fills the digest as the decoder would: over everything that was
// said, without sent_at and received_at.
func digested(e consent.Event) consent.Event {
	e.Digest = [32]byte{}
	said := e
	if c := e.Carried; c != nil { // of what is carried, the digest is that of the first
		said.ID, said.Subject, said.EffectiveAt = c.EventID, c.Subject, c.EffectiveAt
	}
	said.SentAt, said.ReceivedAt = 0, 0
	said.Policy, said.Invalidates, said.Confirms, said.Carried = nil, nil, nil, nil
	text := fmt.Sprintf("%+v", said)
	if e.Policy != nil {
		text += fmt.Sprintf(" policy %+v", *e.Policy)
	}
	if e.Invalidates != nil {
		text += fmt.Sprintf(" invalidates %+v", *e.Invalidates)
	}
	if e.Confirms != nil {
		text += fmt.Sprintf(" confirms %+v", *e.Confirms)
	}
	e.Digest = sha256.Sum256([]byte(text))
	return e
}

// declarations are the purposes of the property tests: a group, a purpose with
// opt_out somewhere, one with opt_in somewhere, one on legitimate interests.
func declarations() []*consent.Declaration {
	return []*consent.Declaration{
		{ID: "m", Title: "Marketing", Group: true},
		{ID: "m.e", LegalBasis: consent.BasisConsent, Models: consent.ByJurisdiction[consent.Model]{"": consent.OptIn, "US": consent.OptOut}},
		{ID: "m.s", LegalBasis: consent.BasisConsent, Models: consent.ByJurisdiction[consent.Model]{"": consent.OptOut, "EU": consent.OptIn}},
		{ID: "a", LegalBasis: consent.BasisLegitimateInterests},
	}
}

func catalogue() *consent.Catalogue {
	return consent.NewCatalogue(consent.DefaultTenant, "v1", declarations())
}

// registry is the reference's own copy of declarations.
var registry = refRegistry{
	"m":   {Group: true},
	"m.e": {Basis: consent.BasisConsent, Models: map[consent.Jurisdiction]consent.Model{"": consent.OptIn, "US": consent.OptOut}},
	"m.s": {Basis: consent.BasisConsent, Models: map[consent.Jurisdiction]consent.Model{"": consent.OptOut, "EU": consent.OptIn}},
	"a":   {Basis: consent.BasisLegitimateInterests},
}

var (
	saidOf        = []consent.Purpose{"*", "m", "m.e", "m.s", "a"}
	askedOf       = append(slices.Clone(saidOf), "m.e.deep", "undeclared")
	jurisdictions = []consent.Jurisdiction{"", "FR", "US", "US-CA", "JP"}
)

// minute is the step of the random histories; few distinct times, so that ties
// in time are common.
const minute = consent.Instant(60_000)

// drawer draws histories.
type drawer struct {
	*rand.Rand
	cat *consent.Catalogue
}

func (d drawer) chance(percent int) bool { return d.IntN(100) < percent }

func pick[T any](d drawer, from []T) T { return from[d.IntN(len(from))] }

// history draws up to size events about one subject. Some are retries (the
// same event, sent and received later), some take the id of another event with
// other content.
func (d drawer) history(size int) []consent.Event {
	var h []consent.Event
	for n := 1 + d.IntN(size); len(h) < n; {
		if len(h) > 0 && d.chance(8) {
			retry := pick(d, h)
			retry.SentAt = retry.ReceivedAt
			retry.ReceivedAt += minute * consent.Instant(1+d.IntN(3))
			if !slices.ContainsFunc(h, func(e consent.Event) bool { return e.ID == retry.ID && e.ReceivedAt == retry.ReceivedAt }) {
				h = append(h, retry)
			}
			continue
		}
		h = append(h, d.event(h))
	}
	return h
}

func (d drawer) event(before []consent.Event) consent.Event {
	actions := []consent.Action{
		consent.Grant, consent.Grant, consent.Grant, consent.Grant, consent.Refuse, consent.Withdraw,
		consent.Withdraw, consent.Invalidate, consent.Invalidate, consent.Request, consent.Defer,
		consent.Confirm, consent.Confirm, consent.Expire, consent.Link, consent.Unlink,
	}
	if d.chance(25) { // else most histories would be erased
		actions = append(actions, consent.Erase, consent.Erase)
	}
	e := consent.Event{
		ID: id(d.IntN(1 << 16)), Tenant: consent.DefaultTenant, Subject: "user:42",
		Purpose: pick(d, saidOf), Action: pick(d, actions),
		EffectiveAt: minute * consent.Instant(1+d.IntN(6)), Jurisdiction: pick(d, append(jurisdictions, "", "", "")),
		Channel: pick(d, []consent.Channel{consent.Web, consent.App, consent.Import}),
	}
	if e.Action.Whole() && d.chance(80) {
		e.Purpose = consent.Root
	}
	if len(before) > 0 && d.chance(10) {
		e.ID = pick(d, before).ID
	}
	e.ReceivedAt = e.EffectiveAt
	if d.chance(30) {
		e.ReceivedAt += minute * consent.Instant(d.IntN(4))
	}
	if !d.chance(5) { // else unstamped
		d.cat.Stamp(&e)
		if e.Action == consent.Grant && d.chance(35) {
			e.Policy.ExpiresAt = e.EffectiveAt + minute*consent.Instant(1+d.IntN(5))
		}
		e.Policy.DoubleOptIn = e.Action == consent.Grant && d.chance(25)
		e.Policy.HistoryImport = e.Channel == consent.Import && d.chance(25)
		if d.chance(20) {
			e.Policy.Covers = nil
		}
	}
	switch {
	case e.Action == consent.Invalidate && d.chance(60):
		e.Invalidates = d.named(&e, before)
	case e.Action == consent.Confirm && d.chance(95):
		e.Confirms = d.named(&e, before)
	case e.Action == consent.Link, e.Action == consent.Unlink:
		e.LinkTo = pick(d, []consent.Subject{"user:43", "device:1"})
	}
	return digested(e)
}

// named picks what an invalidate takes back or a confirm completes: mostly a
// grant of its own node.
func (d drawer) named(e *consent.Event, before []consent.Event) *consent.EventRef {
	ref := &consent.EventRef{EventID: id(d.IntN(1 << 16)), EffectiveAt: minute * consent.Instant(1+d.IntN(6))}
	for i := range before {
		if b := &before[i]; b.Action == consent.Grant && b.Purpose == e.Purpose && d.chance(60) {
			*ref = consent.EventRef{EventID: b.ID, EffectiveAt: b.EffectiveAt}
		}
	}
	if d.chance(40) {
		ref.EffectiveAt = 0
	}
	return ref
}

// log puts a history into a random order and repeats some of it.
func (d drawer) log(h []consent.Event) []consent.Event {
	log := slices.Clone(h)
	for range d.IntN(len(h) + 1) {
		log = append(log, pick(d, h))
	}
	d.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
	return log
}

// foldAll folds a log from nothing and gives the changes of each event.
func foldAll(log []consent.Event) (consent.State, [][]consent.Change) {
	return foldFrom(consent.State{}, log)
}

func foldFrom(s consent.State, log []consent.Event) (consent.State, [][]consent.Change) {
	changes := make([][]consent.Change, len(log))
	for i := range log {
		e := log[i]
		s, changes[i], _ = consent.Fold(s, &e)
	}
	return s, changes
}

func flat(changes [][]consent.Change) []consent.Change { return slices.Concat(changes...) }

// recordsOf is the part of a State that is a join: everything but versions,
// what was announced, and since when a link has held without interruption. Rows
// that hold announcements only are left out.
func recordsOf(s consent.State) consent.State {
	s.Whole.VersionFloor = 0
	s.Whole.Links = slices.Clone(s.Whole.Links)
	for i := range s.Whole.Links {
		if linked := s.Whole.Links[i].Linked; linked != nil {
			newest := *linked
			newest.EffectiveAt = 0
			s.Whole.Links[i].Linked = &newest
		}
	}
	if len(s.Whole.Links) == 0 {
		s.Whole.Links = nil
	}
	s.Rows = slices.Clone(s.Rows)
	for i := range s.Rows {
		s.Rows[i].Announced, s.Rows[i].Version = consent.Verdict{}, 0
	}
	s.Rows = slices.DeleteFunc(s.Rows, func(r consent.Row) bool {
		return r.Yes == nil && r.Pending == nil && r.No == nil && r.Ended == nil && r.Named == nil
	})
	return s
}

// deepCopy copies a value and everything that it points to.
func deepCopy[T any](v T) T {
	return deepCopyValue(reflect.ValueOf(&v).Elem()).Interface().(T)
}

func deepCopyValue(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	switch v.Kind() {
	case reflect.Pointer:
		if o, ok := v.Interface().(*consent.Original); ok && o != nil {
			return reflect.ValueOf(consent.OriginalOf(deepCopyValue(reflect.ValueOf(o.Event())).Interface().(*consent.Event)))
		}
		if !v.IsNil() {
			c.Set(reflect.New(v.Type().Elem()))
			c.Elem().Set(deepCopyValue(v.Elem()))
		}
	case reflect.Slice:
		if !v.IsNil() {
			c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
			for i := range v.Len() {
				c.Index(i).Set(deepCopyValue(v.Index(i)))
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			c.Field(i).Set(deepCopyValue(v.Field(i)))
		}
	}
	return c
}
