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

// Every script says which sentence it shows.
func TestFold_ScriptsNameTheirSentence(t *testing.T) {
	files, _ := filepath.Glob("testdata/fold/*.txt")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		first, rest, _ := strings.Cut(string(data), "\n")
		if !strings.HasPrefix(first, "# Section ") || !strings.Contains(first, ": ") {
			t.Errorf("%s begins with %q: its first line names the sentence, as # Section 5, The decision: …", file, first)
		}
		if !strings.Contains(rest, "\n  ") {
			t.Errorf("%s shows nothing", file)
		}
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
	states   map[consent.Subject]consent.State
	logs     map[consent.Subject][]consent.Event
	version  int
	out      strings.Builder
}

// runScript gives the script's text with its outputs as they are.
func runScript(text string) (string, error) {
	r := &script{subject: "user:1", states: map[consent.Subject]consent.State{}, logs: map[consent.Subject][]consent.Event{}}
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
		s := r.states[r.subject]
		r.print("clock %s, jurisdictions %v", show(s.Whole.Clock), s.Whole.Jurisdictions)
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

// say folds one event and prints its changes.
func (r *script) say(action consent.Action, a *args) {
	e := consent.Event{
		ID: id(a.int("id")), Tenant: consent.DefaultTenant, Subject: r.subject, Purpose: consent.Purpose(a.word()), Action: action,
		EffectiveAt: a.instant("at"), Jurisdiction: consent.Jurisdiction(a.value("in")), Notice: consent.Notice{ID: "notice", Version: a.value("notice")},
		Property: a.value("property"), Channel: consent.Web,
	}
	if e.Notice.Version == "" {
		e.Notice = consent.Notice{}
	}
	if c, ok := consent.ParseChannel(a.value("channel")); ok {
		e.Channel = c
	}
	if e.ReceivedAt = a.instant("received"); e.ReceivedAt == 0 {
		e.ReceivedAt = e.EffectiveAt
	}
	if !a.flag("unstamped") {
		r.stamp(&e, a)
	}
	if names := a.int("names"); names != 0 {
		e.Invalidates = &consent.EventRef{EventID: id(names), EffectiveAt: a.instant("names_at")}
	}
	if from := a.value("carried_from"); from != "" {
		e.Carried = &consent.Carried{Subject: consent.Subject(from), EventID: id(a.int("carried_id")), EffectiveAt: a.instant("carried_at")}
	}
	e = digested(e)
	if n := a.int("digest"); n != 0 {
		e.Digest = [32]byte{0: byte(n)}
	}
	s, changes, _ := consent.Fold(r.states[r.subject], &e)
	r.states[r.subject] = s
	r.logs[r.subject] = append(r.logs[r.subject], e)
	for i := range changes {
		r.printChange(&changes[i])
	}
	if len(changes) == 0 {
		r.print("no change")
	}
}

// stamp takes the policy from the registry; words of the line override it.
func (r *script) stamp(e *consent.Event, a *args) {
	r.catalogue().Stamp(e)
	if x := a.instant("expires"); x != 0 {
		e.Policy.ExpiresAt = x
	}
	if a.flag("doi") {
		e.Policy.DoubleOptIn = true
	}
	e.Policy.HistoryImport = a.flag("history_import")
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
	r.print("%s %s v%d: %s to %s, %s to %s%s; effective %s, event %d, timestamp %s",
		c.Type(), c.Purpose, c.Version, c.From, c.To, tri[c.AllowedBefore], tri[c.AllowedAfter], kind, show(c.EffectiveAt), number(c.EventID), show(c.Timestamp))
}

func (r *script) decide(a *args) {
	q := consent.Query{Purpose: consent.Purpose(a.word()), Jurisdiction: consent.Jurisdiction(a.value("in")), At: a.instant("at"), GPC: a.flag("gpc")}
	var d consent.Decision
	if as := a.value("as"); as != "" {
		var states []*consent.State
		for name := range strings.SplitSeq(as, ",") {
			s := r.states[consent.Subject(name)]
			s.Subject = consent.Subject(name)
			states = append(states, &s)
		}
		d = consent.DecideTogether(states, r.catalogue(), q)
	} else {
		s := r.states[r.subject]
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
		text += fmt.Sprintf("; event %d on %s of %s", number(by.EventID), by.Purpose, show(by.EffectiveAt))
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
	s := r.states[r.subject]
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
			r.print("%s: event %d, %s of %s", kept.kind, number(kept.EventID), kept.Action, show(kept.Record.EffectiveAt))
		}
	}
	if row.NoEvent != nil {
		r.print("kept in full: event %d", number(row.NoEvent.ID))
	}
}

// replay folds the subject's log again, from nothing, and backwards.
func (r *script) replay() {
	log := r.logs[r.subject]
	again, changes := foldAll(log)
	backwards := slices.Clone(log)
	slices.Reverse(backwards)
	reversed, _ := foldAll(backwards)
	now := r.states[r.subject]
	r.print("same log: same state %t, %d changes; backwards: same records %t", same(again, now), len(flat(changes)), same(recordsOf(reversed), recordsOf(now)))
}
