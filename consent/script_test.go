package consent_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
)

// TestFold_Scripts runs testdata/fold/*.txt; the format is in README beside
// them. With -rewrite the outputs are written instead of compared.
func TestFold_Scripts(t *testing.T) {
	files, err := filepath.Glob("testdata/fold/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata/fold: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := runScript(string(data))
			if err != nil {
				t.Fatal(err)
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(data) {
				t.Errorf("%s\n%s", file, firstDifference(string(data), got))
			}
		})
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		var a, b string
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b || i >= len(w) || i >= len(g) {
			return fmt.Sprintf("line %d\n  want %q\n  got  %q\n(-rewrite writes what happened)", i+1, a, b)
		}
	}
	return "no difference by line"
}

// script is one run: the registry as declared so far, a State and a log per
// subject, and the output.
type script struct {
	purposes []*consent.Declaration
	subject  consent.Subject
	states   map[who]consent.State
	logs     map[who][]consent.Event
	under    []consent.Event         // carried, and not delivered yet
	labels   map[consent.UUID]string // of ids that no line gave
	version  int
	out      strings.Builder
}

// who is a subject, or the test State of one.
type who struct {
	consent.Subject
	test bool
}

// runScript gives the script's text with its outputs as they are.
func runScript(text string) (string, error) {
	r := &script{subject: "user:1", states: map[who]consent.State{}, logs: map[who][]consent.Event{}, labels: map[consent.UUID]string{}}
	for n, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue // an output of before
		}
		r.out.WriteString(line + "\n")
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if err := r.run(words[0], words[1:]); err != nil {
			return "", fmt.Errorf("line %d, %q: %w", n+1, line, err)
		}
	}
	return r.out.String(), nil
}

func (r *script) run(command string, words []string) error {
	a := newArgs(words)
	switch command {
	case "purpose":
		if err := r.declare(a); err != nil {
			return err
		}
	case "subject":
		r.subject = consent.Subject(a.word())
	case "decide":
		r.decide(a)
	case "records":
		r.records(a)
	case "whole":
		s := r.states[who{r.subject, a.flag("test")}]
		r.print("clock %s, jurisdictions %v", show(s.Whole.Clock), s.Whole.Jurisdictions)
	case "rows":
		r.rows()
	case "links":
		r.links()
	case "due":
		r.due(a)
	case "deliver":
		r.deliver()
	case "replay":
		r.replay()
	default:
		action, ok := consent.ParseAction(command)
		if !ok {
			return fmt.Errorf("no such command or action")
		}
		r.say(action, a)
	}
	return a.done()
}

func (r *script) print(format string, args ...any) {
	r.out.WriteString("  " + fmt.Sprintf(format, args...) + "\n")
}

func (r *script) catalogue() *consent.Catalogue {
	return consent.NewCatalogue(consent.DefaultTenant, fmt.Sprintf("registry-%d", r.version), slices.Clone(r.purposes))
}

// declare adds a purpose or replaces its declaration; each makes a new version
// of the registry.
func (r *script) declare(a *args) error {
	d := &consent.Declaration{
		ID: consent.Purpose(a.word()), Group: a.flag("group"), SaleOrShare: a.flag("sale"), LegalBasis: consent.BasisConsent,
		Models: consent.ByJurisdiction[consent.Model]{}, TTLs: consent.ByJurisdiction[time.Duration]{}, DoubleOptIn: consent.ByJurisdiction[bool]{},
	}
	if basis := a.value("basis"); basis != "" {
		d.LegalBasis, _ = consent.ParseLegalBasis(basis)
	}
	d.Scope, _ = consent.ParseScope(a.value("scope"))
	err := perJurisdiction(a.value("model"), func(j consent.Jurisdiction, v string) error {
		m, ok := consent.ParseModel(v)
		if !ok {
			return fmt.Errorf("model %q", v)
		}
		d.Models[j] = m
		return nil
	})
	if err == nil {
		err = perJurisdiction(a.value("ttl"), func(j consent.Jurisdiction, v string) (err error) {
			d.TTLs[j], err = time.ParseDuration(v)
			return err
		})
	}
	if err == nil {
		err = perJurisdiction(a.value("doi"), func(j consent.Jurisdiction, v string) (err error) {
			d.DoubleOptIn[j], err = strconv.ParseBool(v)
			return err
		})
	}
	r.purposes = slices.DeleteFunc(r.purposes, func(old *consent.Declaration) bool { return old.ID == d.ID })
	r.purposes = append(r.purposes, d)
	r.version++
	return err
}

// perJurisdiction reads "default:x,US:y".
func perJurisdiction(list string, set func(consent.Jurisdiction, string) error) error {
	for item := range strings.SplitSeq(list, ",") {
		if item == "" {
			continue
		}
		where, value, _ := strings.Cut(item, ":")
		if where == "default" {
			where = ""
		}
		if err := set(consent.Jurisdiction(where), value); err != nil {
			return err
		}
	}
	return nil
}

// say folds one event and prints its changes, and those of what it carries.
func (r *script) say(action consent.Action, a *args) {
	e := consent.Event{
		ID: id(a.int("id")), Tenant: consent.DefaultTenant, Subject: r.subject, Purpose: consent.Root, Action: action, Test: a.flag("test"),
		EffectiveAt: a.instant("at"), Jurisdiction: consent.Jurisdiction(a.value("in")), Notice: consent.Notice{ID: "notice", Version: a.value("notice")},
		Property: a.value("property"), Channel: consent.Web, LinkTo: consent.Subject(a.value("to")),
	}
	later := a.flag("later")
	if e.Notice.Version == "" {
		e.Notice = consent.Notice{}
	}
	if c, ok := consent.ParseChannel(a.value("channel")); ok {
		e.Channel = c
	}
	if e.ReceivedAt = a.instant("received"); e.ReceivedAt == 0 {
		e.ReceivedAt = e.EffectiveAt
	}
	if names := a.int("names"); names != 0 {
		ref := &consent.EventRef{EventID: id(names), EffectiveAt: a.instant("names_at")}
		if action == consent.Confirm {
			e.Confirms = ref
		} else {
			e.Invalidates = ref
		}
	}
	if from := a.value("carried_from"); from != "" {
		e.Carried = &consent.Carried{Subject: consent.Subject(from), EventID: id(a.int("carried_id")), EffectiveAt: a.instant("carried_at")}
	}
	digest := a.int("digest")
	r.stamp(&e, a)
	e = digested(e)
	if digest != 0 {
		e.Digest = [32]byte{0: byte(digest)}
	}
	r.fold(&e)
	if !later {
		r.deliver()
	}
}

// fold folds one event and prints its changes.
func (r *script) fold(e *consent.Event) {
	to := who{e.Subject, e.Test}
	s, changes, carried := consent.Fold(r.states[to], e)
	r.states[to] = s
	r.logs[to] = append(r.logs[to], *e)
	for i := range changes {
		r.printChange(&changes[i])
	}
	if len(changes) == 0 {
		r.print("no change")
	}
	r.under = append(r.under, carried...)
}

// deliver folds what is on its way, until nothing is.
func (r *script) deliver() {
	for len(r.under) > 0 {
		e := r.under[0]
		r.under = r.under[1:]
		first := r.label(e.Carried.EventID)
		r.labels[e.ID] = first + ">" + string(e.Subject)
		r.print("carried to %s: event %s, %s %s; effective %s, received %s; as event %s of %s at %s, through %v",
			string(e.Subject), r.label(e.ID), e.Action, e.Purpose, show(e.EffectiveAt), show(e.ReceivedAt), first, string(e.Carried.Subject), show(e.Carried.EffectiveAt), plain(e.Carried.Via))
		r.fold(&e)
	}
}

func plain(subjects []consent.Subject) (list []string) {
	for _, s := range subjects {
		list = append(list, string(s))
	}
	return list
}

// label names an event: by its number, or by what it was made of.
func (r *script) label(u consent.UUID) string {
	if label, ok := r.labels[u]; ok {
		return label
	}
	return strconv.Itoa(number(u))
}

// due folds the expire events that are due at a time.
func (r *script) due(a *args) {
	at := a.instant("at")
	s := r.states[who{r.subject, false}]
	due := 0
	for _, row := range s.Rows {
		e := consent.ExpireEvent(&s, row.Purpose, at)
		if e == nil {
			continue
		}
		due++
		r.labels[e.ID] = r.label(row.Yes.EventID) + " expires"
		*e = digested(*e)
		r.print("expire %s: effective %s, received %s", e.Purpose, show(e.EffectiveAt), show(e.ReceivedAt))
		r.fold(e)
	}
	if due == 0 {
		r.print("nothing is due")
	}
}

// rows prints which rows there are.
func (r *script) rows() {
	s := r.states[who{r.subject, false}]
	for _, row := range s.Rows {
		r.print("%s: %s, version %d", row.Purpose, row.Announced.Status, row.Version)
	}
	if s.Whole.Erased != nil {
		r.print("erased by event %s of %s; versions go on above %d", r.label(s.Whole.Erased.EventID), show(s.Whole.Erased.EffectiveAt), s.Whole.VersionFloor)
	}
}

// links prints the subject's links.
func (r *script) links() {
	s := r.states[who{r.subject, false}]
	for _, l := range s.Whole.Links {
		text := "to " + string(l.To) + ":"
		if l.Linked != nil {
			text += fmt.Sprintf(" linked by event %s, since %s,", r.label(l.Linked.EventID), show(l.Linked.EffectiveAt))
		}
		if l.Unlinked != nil {
			text += fmt.Sprintf(" unlinked by event %s,", r.label(l.Unlinked.EventID))
		}
		r.print("%s in force %t", text, l.InForce(s.Whole.Erased))
	}
	if len(s.Whole.Links) == 0 {
		r.print("none")
	}
}

// stamp takes the policy from the registry; words of the line override it. What
// is left of the line's words then is the purpose.
func (r *script) stamp(e *consent.Event, a *args) {
	unstamped, doi, history := a.flag("unstamped"), a.flag("doi"), a.flag("history_import")
	if len(a.plain) > 0 || !e.Action.Whole() {
		e.Purpose = consent.Purpose(a.word())
	}
	if unstamped {
		return
	}
	r.catalogue().Stamp(e)
	if x := a.instant("expires"); x != 0 {
		e.Policy.ExpiresAt = x
	}
	e.Policy.DoubleOptIn = e.Policy.DoubleOptIn || doi
	e.Policy.HistoryImport = history
	if covers := a.value("covers"); covers == "nothing" {
		e.Policy.Covers = nil
	} else if covers != "" {
		e.Policy.Covers = nil
		for p := range strings.SplitSeq(covers, ",") {
			e.Policy.Covers = append(e.Policy.Covers, consent.Purpose(p))
		}
	}
}

func (r *script) printChange(c *consent.Change) {
	tri := [...]string{"undecided", "denied", "allowed"}
	kind := ""
	if c.Withdrawal {
		kind = ", withdrawal"
	}
	r.print("%s %s v%d: %s to %s, %s to %s%s; effective %s, event %s, timestamp %s",
		c.Type(), c.Purpose, c.Version, c.From, c.To, tri[c.AllowedBefore], tri[c.AllowedAfter], kind, show(c.EffectiveAt), r.label(c.EventID), show(c.Timestamp))
}

func (r *script) decide(a *args) {
	test := a.flag("test")
	q := consent.Query{GPC: a.flag("gpc"), Purpose: consent.Purpose(a.word()), Jurisdiction: consent.Jurisdiction(a.value("in")), At: a.instant("at")}
	var d consent.Decision
	if as := a.value("as"); as != "" {
		var states []*consent.State
		for name := range strings.SplitSeq(as, ",") {
			s := r.states[who{consent.Subject(name), test}]
			s.Subject = consent.Subject(name)
			states = append(states, &s)
		}
		d = consent.DecideTogether(states, r.catalogue(), q)
	} else {
		s := r.states[who{r.subject, test}]
		d = consent.Decide(&s, r.catalogue(), q)
	}
	r.printDecision(&d)
}

func (r *script) printDecision(d *consent.Decision) {
	verdict := "denied"
	if d.Allowed {
		verdict = "allowed"
	}
	text := fmt.Sprintf("%s, %s, %s", verdict, d.Status, d.Reason)
	if by := d.DecidedBy; by != nil {
		text += fmt.Sprintf("; event %s on %s of %s", r.label(by.EventID), by.Purpose, show(by.EffectiveAt))
	}
	if d.Since != 0 {
		text += "; since " + show(d.Since)
	}
	if d.ExpiresAt != 0 {
		text += "; expires " + show(d.ExpiresAt)
	}
	text += "; " + d.Model.String()
	if d.Jurisdiction != "" {
		text += " of " + string(d.Jurisdiction)
	}
	text += ", basis " + d.LegalBasis.String()
	if d.NoticeVersion != "" {
		text += fmt.Sprintf(", notice %s %s", d.NoticeID, d.NoticeVersion)
	}
	if d.PolicyVersion != "" {
		text += ", policy " + d.PolicyVersion
	}
	r.print("%s, version %d", text, d.Version)
}

// records prints what a node keeps.
func (r *script) records(a *args) {
	s := r.states[who{r.subject, false}]
	row := s.Row(consent.Purpose(a.word()))
	if row == nil {
		r.print("nothing")
		return
	}
	for _, kept := range []struct {
		kind string
		*consent.Record
	}{{"yes", row.Yes}, {"pending", row.Pending}, {"no", row.No}, {"ended", row.Ended}} {
		if kept.Record != nil {
			r.print("%s: event %s, %s of %s", kept.kind, r.label(kept.EventID), kept.Action, show(kept.Record.EffectiveAt))
		}
	}
	if row.NoEvent != nil {
		r.print("kept in full: event %s", r.label(row.NoEvent.Event().ID))
	}
	if row.Named != nil {
		for _, named := range row.Named.Records {
			r.print("event %s names event %s", r.label(named.EventID), r.label(named.Names))
		}
	}
}

// replay folds the subject's log again, from nothing, and backwards.
func (r *script) replay() {
	log := r.logs[who{r.subject, false}]
	again, changes := foldAll(log)
	backwards := slices.Clone(log)
	slices.Reverse(backwards)
	reversed, _ := foldAll(backwards)
	now := r.states[who{r.subject, false}]
	r.print("same log: same state %t, %d changes; backwards: same records %t", same(again, now), len(flat(changes)), same(recordsOf(reversed), recordsOf(now)))
}
