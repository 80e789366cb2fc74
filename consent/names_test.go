package consent_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func TestParsePurpose_TakesDottedPathsOnly(t *testing.T) {
	for _, s := range []string{"*", "a", "marketing.email", "ads.personalisation", "data-sharing.partners", "a_b.c-d.0", strings.Repeat("a", 256)} {
		if p, err := consent.ParsePurpose(s); err != nil || string(p) != s {
			t.Errorf("%q: %q, %v", s, p, err)
		}
	}
	for _, s := range []string{"", ".", ".a", "a.", "a..b", "A", "Marketing", "a b", "a*", "*.a", "a.*", "ä", "a|b", "a\n", strings.Repeat("a", 257)} {
		if p, err := consent.ParsePurpose(s); err == nil || p != "" {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestPurpose_ParentAndCoversAgreeWithTheReferencesTree(t *testing.T) {
	all := []consent.Purpose{"*", "m", "m.e", "m.e.deep", "m.ex", "mx", "a", "m-e", "m_e.x"}
	for _, p := range all {
		path := refPath(p)
		parent := consent.Purpose("")
		if len(path) > 1 {
			parent = path[len(path)-2]
		}
		if got := p.Parent(); got != parent {
			t.Errorf("the parent of %s is %s, want %s", p, got, parent)
		}
		for _, q := range all {
			if got, want := p.Covers(q), p == q || refBelow(q, p); got != want {
				t.Errorf("%s covers %s: %t, want %t", p, q, got, want)
			}
		}
	}
}

func TestPattern_SelectsAPurposeABranchOrEverything(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []consent.Purpose
	}{
		{"*", []consent.Purpose{"*", "m", "m.e", "undeclared.x"}, nil},
		{"m", []consent.Purpose{"m"}, []consent.Purpose{"m.e", "mx", "*"}},
		{"m.*", []consent.Purpose{"m", "m.e", "m.e.deep"}, []consent.Purpose{"mx", "*", "a.m"}},
		{"m.e", []consent.Purpose{"m.e"}, []consent.Purpose{"m", "m.e.deep", "m.ex", "*"}},
		{"m.e.*", []consent.Purpose{"m.e", "m.e.deep"}, []consent.Purpose{"m", "m.ex", "m.s"}},
	} {
		p, err := consent.ParsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range c.yes {
			if !p.Matches(q) {
				t.Errorf("%s does not match %s", p, q)
			}
		}
		for _, q := range c.no {
			if p.Matches(q) {
				t.Errorf("%s matches %s", p, q)
			}
		}
	}
	for _, s := range []string{"", ".*", "*.*", "m*", "m.*.e", "*.m", "M.*", "m..*", "m.**"} {
		if p, err := consent.ParsePattern(s); err == nil {
			t.Errorf("%q is taken as %q", s, p)
		}
	}
}

func TestParseSubject_ChecksLengthAndAlphabetAndNeverRepeatsTheID(t *testing.T) {
	for _, s := range []string{"a:b", "user:42", "device:9f_~.:@=-Z", "abc", strings.Repeat("x", 256)} {
		if got, err := consent.ParseSubject(s); err != nil || string(got) != s {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "ab", strings.Repeat("x", 257), "user:4 2", "user|42", "+4915112345678", "user:ü", "user:42\n", "user/42"} {
		got, err := consent.ParseSubject(s)
		if err == nil || got != "" {
			t.Errorf("%q is taken", s)
		} else if len(s) > 3 && contains(err.Error(), s) {
			t.Errorf("the error repeats the id: %v", err)
		}
	}
}

func TestSubject_IsPseudonymousUnlessItIsARawIdentifier(t *testing.T) {
	for s, want := range map[consent.Subject]bool{
		"user:42": true, "device:9f": true, "email-hmac:ab12": true, "user:a:b": true, "u:x": true, "phone:4915112345678": true,
		"": false, "42": false, "jane.doe": false, ":42": false, "user:": false, "user:jane@example.org": false, "jane@example.org": false,
		"phone:+4915112345678": false, "+4915112345678": false, "user:4 2": false,
	} {
		if got := s.Pseudonymous(); got != want {
			t.Errorf("%q: %t, want %t", string(s), got, want)
		}
	}
	for s, want := range map[string]bool{
		"+1234567": true, "+123456789012345": true, "+123456": false, "+1234567890123456": false, "1234567": false, "+12345a7": false, "": false, "+": false,
	} {
		if got := consent.IsPhoneNumber(s); got != want {
			t.Errorf("%q is a telephone number: %t, want %t", s, got, want)
		}
	}
	for s, want := range map[consent.Subject]string{"user:42": "user", "device:a:b": "device", "plain": "", ":x": ""} {
		if got := s.Namespace(); got != want {
			t.Errorf("namespace %q, want %q", got, want)
		}
	}
}

// A subject id must not reach a log by accident, however it is printed.
func TestSubject_IsRedactedWhereverItIsPrinted(t *testing.T) {
	const secret = "user:zq-secret-42"
	s := consent.Subject(secret)
	event := consent.Event{
		Tenant: "default", Subject: s, LinkTo: s, Purpose: "m.e", Action: consent.Withdraw,
		Carried: &consent.Carried{Subject: s, Via: []consent.Subject{s}},
	}
	state, changes, _ := consent.Fold(consent.State{}, &event)
	state.Whole.Links = []consent.LinkRecord{{To: s}}
	printed := map[string]string{}
	for _, verb := range []string{"%v", "%s", "%q", "%+v", "%x"} {
		printed["subject "+verb] = fmt.Sprintf(verb, s)
		printed["list "+verb] = fmt.Sprintf(verb, []consent.Subject{s})
		printed["map "+verb] = fmt.Sprintf(verb, map[consent.Subject]int{s: 1})
		printed["struct "+verb] = fmt.Sprintf(verb, struct{ Who consent.Subject }{s})
		printed["pointer "+verb] = fmt.Sprintf(verb, &struct{ Who consent.Subject }{s})
	}
	// Of whole records only with verbs that suit them: go vet refuses %s there.
	for _, verb := range []string{"%v", "%+v"} {
		printed["event "+verb] = fmt.Sprintf(verb, event)
		printed["carried "+verb] = fmt.Sprintf(verb, *event.Carried)
		printed["state "+verb] = fmt.Sprintf(verb, state)
		printed["change "+verb] = fmt.Sprintf(verb, changes[0])
		printed["error "+verb] = fmt.Errorf("fold %v: %w", s, errors.New("broken")).Error()
	}
	printed["print"] = fmt.Sprint(s) + fmt.Sprintln(event)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"slog text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"slog json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var b bytes.Buffer
		slog.New(handler(&b)).With("with", s).WithGroup("g").Info("folded", "subject", s, slog.Any("any", s), slog.Group("in", "subject", s))
		printed[name] = b.String()
		if !contains(b.String(), s.String()) {
			t.Errorf("%s does not show the redacted id: %s", name, b.String())
		}
	}
	hexed := fmt.Sprintf("%x", secret)
	for name, text := range printed {
		if contains(text, "zq-secret") || contains(text, hexed) {
			t.Errorf("%s shows the id: %s", name, text)
		}
	}
}

func TestSubject_RedactedFormRelatesLinesOfOneIDAndKeepsTheNamespace(t *testing.T) {
	a, b := consent.Subject("user:1"), consent.Subject("user:2")
	if a.String() != consent.Subject("user:1").String() || a.String() == b.String() {
		t.Errorf("%s and %s", a, b)
	}
	if !strings.HasPrefix(a.String(), "user:#") || len(a.String()) != len("user:#")+8 {
		t.Errorf("redacted form %s, want user:# and 8 hex digits", a)
	}
	if consent.Subject("").String() != "" {
		t.Error("an absent subject has a form")
	}
}

func TestKey_IsTenantAndSubjectAndReadsBack(t *testing.T) {
	e := consent.Event{Tenant: "default", Subject: "user:42"}
	if got := string(e.Key()); got != "default|user:42" {
		t.Errorf("key %q", got)
	}
	c := consent.Change{Tenant: "default", Subject: "user:42"}
	if !bytes.Equal(c.Key(), e.Key()) {
		t.Error("an event and its change have different keys")
	}
	tenant, subject, err := consent.ParseKey(e.Key())
	if err != nil || tenant != "default" || subject != "user:42" {
		t.Errorf("%q, %q, %v", tenant, string(subject), err)
	}
	for _, key := range []string{"", "default", "default|", "|user:42", "Default|user:42", "default|a", "default|user:42|m.e", "default|zq secret"} {
		if _, _, err := consent.ParseKey([]byte(key)); err == nil {
			t.Errorf("key %q is taken", key)
		} else if contains(err.Error(), "zq secret") {
			t.Errorf("the error repeats the key: %v", err)
		}
	}
}

func TestParseTenant_TakesLowerCaseNamesUpTo64(t *testing.T) {
	for _, s := range []string{"default", "a", "shop-1", strings.Repeat("a", 64)} {
		if got, err := consent.ParseTenant(s); err != nil || string(got) != s {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "Shop", "a_b", "a|b", "a.b", strings.Repeat("a", 65)} {
		if _, err := consent.ParseTenant(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// Every enum reads what it writes, and takes no word that it does not list:
// "unknown" least of all.
func TestEnums_ReadBackEveryWordAndNoOther(t *testing.T) {
	for name, parse := range map[string]func(string) (fmt.Stringer, uint8, bool){
		"action":  func(s string) (fmt.Stringer, uint8, bool) { v, ok := consent.ParseAction(s); return v, uint8(v), ok },
		"status":  func(s string) (fmt.Stringer, uint8, bool) { v, ok := consent.ParseStatus(s); return v, uint8(v), ok },
		"channel": func(s string) (fmt.Stringer, uint8, bool) { v, ok := consent.ParseChannel(s); return v, uint8(v), ok },
		"model":   func(s string) (fmt.Stringer, uint8, bool) { v, ok := consent.ParseModel(s); return v, uint8(v), ok },
		"legal basis": func(s string) (fmt.Stringer, uint8, bool) {
			v, ok := consent.ParseLegalBasis(s)
			return v, uint8(v), ok
		},
		"scope":   func(s string) (fmt.Stringer, uint8, bool) { v, ok := consent.ParseScope(s); return v, uint8(v), ok },
		"method":  func(s string) (fmt.Stringer, uint8, bool) { v, ok := consent.ParseMethod(s); return v, uint8(v), ok },
		"control": func(s string) (fmt.Stringer, uint8, bool) { v, ok := consent.ParseControl(s); return v, uint8(v), ok },
		"control default": func(s string) (fmt.Stringer, uint8, bool) {
			v, ok := consent.ParseControlDefault(s)
			return v, uint8(v), ok
		},
		"actor type": func(s string) (fmt.Stringer, uint8, bool) { v, ok := consent.ParseActorType(s); return v, uint8(v), ok },
	} {
		for word, want := range enumWords[name] {
			v, i, ok := parse(word)
			if !ok || i != want || v.String() != word {
				t.Errorf("%s %q reads as %d %s, %t, want %d", name, word, i, v, ok, want)
			}
		}
		for _, word := range []string{"", "unknown", "Grant", "GRANT", " grant", "accept"} {
			if v, i, ok := parse(word); ok || i != 0 || v.String() != "unknown" {
				t.Errorf("%s takes %q as %s", name, word, v)
			}
		}
	}
	if consent.Action(200).String() != "unknown" || consent.Status(200).String() != "unknown" {
		t.Error("a value beyond the list has a name")
	}
}

// enumWords are the words of semantics.md, with the numbers that Avro and the
// changelog keep.
var enumWords = map[string]map[string]uint8{
	"action":          words("grant confirm refuse withdraw invalidate link unlink erase expire request defer"),
	"status":          words("none pending granted refused withdrawn expired invalidated erased"),
	"channel":         words("web app email sms call_center in_store post partner import api"),
	"model":           words("opt_in opt_out"),
	"legal basis":     words("consent contract legal_obligation vital_interests public_task legitimate_interests"),
	"scope":           words("person device"),
	"method":          words("click_accept checkbox toggle signature verbal double_opt_in preference_center api_attested inactivity scroll continued_use"),
	"control":         words("accept_all reject_all save toggle"),
	"control default": words("off on"),
	"actor type":      words("subject guardian agent system"),
}

func words(list string) map[string]uint8 {
	m := map[string]uint8{}
	for i, w := range strings.Fields(list) {
		m[w] = uint8(i + 1)
	}
	return m
}

func TestAction_ProtectiveAndAffirmingAreThoseOfTheVocabulary(t *testing.T) {
	protective := map[consent.Action]bool{consent.Refuse: true, consent.Withdraw: true, consent.Invalidate: true, consent.Erase: true}
	affirming := map[consent.Action]bool{consent.Grant: true, consent.Confirm: true}
	for a := consent.ActionUnknown; a <= consent.Defer; a++ {
		if a.Protective() != protective[a] || a.Affirms() != affirming[a] {
			t.Errorf("%s: protective %t, affirms %t", a, a.Protective(), a.Affirms())
		}
	}
}
