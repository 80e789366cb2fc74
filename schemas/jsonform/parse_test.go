package jsonform

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func TestParseEvent_ReadsEveryFieldThatASenderMayFill(t *testing.T) {
	e, problems, err := ParseEvent([]byte(`{
		"event_id": "0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B", "interaction_id": "0190a1b2c3d47e5f8a9b0c1d2e3f4a5c",
		"request_id": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5d", "tenant": "shop-de", "subject": "user:42", "purpose": "marketing.email",
		"action": "invalidate", "property": "shop", "occurred_at": "2026-03-04T07:06:07.0899+02:00", "sent_at": "2026-03-04T05:06:08Z",
		"channel": "call_center", "source": "s\u00fc\n\ud83d\ude42", "jurisdiction": "us-ca",
		"notice": {"id": "n", "version": "1", "language": "de", "sha256": "AB` + strings.Repeat("ab", 31) + `"},
		"evidence": {"method": "checkbox", "control": "reject_all", "control_default": "off", "bundled": true, "conditional": true, "gpc": true,
			"reference": "r", "page_url": "https:\/\/x", "user_agent": "u", "ip": "i", "tc_string": "t", "gpp_string": "g", "token": "k"},
		"actor": {"type": "agent", "id": "a"},
		"confirms": {"event_id": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"},
		"invalidates": {"event_id": "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c", "effective_at": "2026-03-04T05:06:07.089Z"},
		"link": {"to": "user:b"}, "test": true}`))
	if err != nil || len(problems) != 0 {
		t.Fatalf("%v, %v", problems, err)
	}
	at, hash := instant("2026-03-04T05:06:07.089Z"), [32]byte{}
	for i := range hash {
		hash[i] = 0xab
	}
	want := consent.Event{
		ID: id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"), InteractionID: id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c"), RequestID: id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5d"),
		Tenant: "shop-de", Subject: "user:42", Purpose: "marketing.email", Action: consent.Invalidate, Property: "shop", OccurredAt: at, SentAt: at + 911,
		Channel: consent.CallCenter, Source: "sü\n🙂", Jurisdiction: "US-CA", Notice: consent.Notice{ID: "n", Version: "1", Language: "de", SHA256: hash},
		Evidence: consent.Evidence{Method: consent.Checkbox, Control: consent.RejectAll, ControlDefault: consent.DefaultOff, Bundled: true, Conditional: true, GPC: true,
			Reference: "r", PageURL: "https://x", UserAgent: "u", IP: "i", TCString: "t", GPPString: "g", Token: "k"},
		Actor: consent.Actor{Type: consent.ActorAgent, ID: "a"}, Confirms: &consent.EventRef{EventID: id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")},
		Invalidates: &consent.EventRef{EventID: id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c"), EffectiveAt: at}, LinkTo: "user:b", Test: true,
	}
	if !reflect.DeepEqual(e, want) {
		t.Fatalf("got %+v\nwant %+v", e, want)
	}
}

// event wraps fields into a withdrawal that could stand alone.
func event(fields string) string {
	return `{"subject":"user:42","purpose":"a.b","action":"withdraw"` + fields + `}`
}

func TestParseEvent_TellsEachMistakeAndLeavesTheFieldOut(t *testing.T) {
	bare := consent.Event{Subject: "user:42", Purpose: "a.b", Action: consent.Withdraw}
	with := func(change func(*consent.Event)) consent.Event { e := bare; change(&e); return e }
	cases := []struct {
		fields string
		want   string // kind and field of each problem
		event  consent.Event
	}{
		{``, "", bare},
		{`,"source":null,"notice":null,"evidence":null,"policy":null,"received_at":null,"test":null,"channel":null,"occurred_at":null,"event_id":null,"jurisdiction":null,"confirms":null`, "", bare},
		{`,"source":"","channel":"","event_id":"","occurred_at":"","notice":{},"confirms":{}`, "", bare},
		{`,"foo":1`, "unknown foo", bare},
		{`,"Source":"x"`, "unknown Source", bare},
		{`,"evidence":{"foo":{"deep":[1,{"x":"}"}]},"ip":"i"}`, "unknown evidence.foo", with(func(e *consent.Event) { e.Evidence.IP = "i" })},
		{`,"notice":{"txt":null}`, "unknown notice.txt", bare},
		{`,"link":{"from":1}`, "unknown link.from", bare},
		{`,"source":42`, "bad source", bare},
		{`,"source":["x"]`, "bad source", bare},
		{`,"test":"true"`, "bad test", bare},
		{`,"test":1`, "bad test", bare},
		{`,"evidence":"checkbox"`, "bad evidence", bare},
		{`,"evidence":[{}]`, "bad evidence", bare},
		{`,"evidence":{"method":"wink","gpc":"yes","control":3}`, "bad evidence.method, bad evidence.gpc, bad evidence.control", bare},
		{`,"channel":"WEB"`, "bad channel", bare},
		{`,"occurred_at":"yesterday"`, "bad occurred_at", bare},
		{`,"occurred_at":1767225600000`, "bad occurred_at", bare},
		{`,"sent_at":"12026-01-01T00:00:00Z"`, "bad sent_at", bare},
		{`,"notice":{"sha256":"xyz"}`, "bad notice.sha256", bare},
		{`,"notice":{"sha256":"` + strings.Repeat("g", 64) + `"}`, "bad notice.sha256", bare},
		{`,"jurisdiction":"XX"`, "code jurisdiction", bare},
		{`,"jurisdiction":7`, "bad jurisdiction", bare},
		{`,"policy":{"version":"x"},"received_at":"2026-01-01T00:00:00Z","effective_at":1,"carried":{"a":[]}`, "stamp policy, stamp received_at, stamp effective_at, stamp carried", bare},
		{`,"event_id":"click-1"`, "id event_id", with(func(e *consent.Event) { e.ID = consent.DeriveUUID(consent.NamespaceEvent, []byte("click-1")) })},
		{`,"invalidates":{"event_id":"click-1"}`, "id invalidates.event_id", with(func(e *consent.Event) {
			e.Invalidates = &consent.EventRef{EventID: consent.DeriveUUID(consent.NamespaceEvent, []byte("click-1"))}
		})},
		{`,"source":"x","source":"y"`, "bad source", with(func(e *consent.Event) { e.Source = "y" })},
		{`,"source":"x","sour\u0063e":null`, "bad source", bare},
		{`,"evidence":{"ip":"a","page_url":"p"},"evidence":{"ip":"b","ip":"c"}`, "bad evidence, bad evidence.ip", with(func(e *consent.Event) { e.Evidence.IP = "c" })},
		{`,"link":{"to":"\u0000"}`, "bad link.to", bare},
	}
	for _, c := range cases {
		t.Run(c.fields, func(t *testing.T) {
			e, problems, err := ParseEvent([]byte(event(c.fields)))
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(problems); got != c.want {
				t.Errorf("problems: %q, want %q", got, c.want)
			}
			if !reflect.DeepEqual(e, c.event) {
				t.Errorf("got %+v\nwant %+v", e, c.event)
			}
		})
	}
}

func summary(problems []Problem) string {
	kinds := map[Kind]string{UnknownField: "unknown", BadValue: "bad", StampIgnored: "stamp", IDDerived: "id", UnknownCode: "code"}
	var parts []string
	for _, p := range problems {
		if p.Message == "" {
			parts = append(parts, "no message")
		}
		parts = append(parts, kinds[p.Kind]+" "+p.Field)
	}
	return strings.Join(parts, ", ")
}

func TestKind_RefusesAGrantForWhatWasMistakenOnly(t *testing.T) {
	for kind, want := range map[Kind]bool{UnknownField: true, BadValue: true, StampIgnored: false, IDDerived: false, UnknownCode: false} {
		if kind.Malformed() != want {
			t.Errorf("kind %d: malformed = %v", kind, !want)
		}
	}
}

func TestParseEvent_RefusesWhatThereIsNothingToGoOnWith(t *testing.T) {
	cases := []struct{ data, field string }{
		{``, ""}, {`  `, ""}, {`{`, ""}, {`null`, ""}, {`[]`, ""}, {`"x"`, ""}, {`7`, ""}, {event(``) + event(``), ""}, {`{"subject":"user:42",}`, ""},
		{"{\"subject\":\"\xff\"}", ""}, {"\ufeff" + event(``), ""},
		{event(`,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40)), ""},
		{`{"purpose":"a","action":"withdraw"}`, "subject"},
		{`{"subject":"","purpose":"a","action":"withdraw"}`, "subject"},
		{`{"subject":" ","purpose":"a","action":"withdraw"}`, "subject"},
		{`{"subject":null,"purpose":"a","action":"withdraw"}`, "subject"},
		{`{"subject":42,"purpose":"a","action":"withdraw"}`, "subject"},
		{`{"subject":"a\u0000b","purpose":"a","action":"withdraw"}`, "subject"},
		{`{"subject":"a\ud800b","purpose":"a","action":"withdraw"}`, "subject"},
		{`{"subject":"` + strings.Repeat("x", 2000) + `","purpose":"a","action":"withdraw"}`, "subject"},
		{`{"subject":"user:42","action":"withdraw"}`, "purpose"},
		{`{"subject":"user:42","purpose":"","action":"grant"}`, "purpose"},
		{`{"subject":"user:42","purpose":"a b","action":"withdraw"}`, "purpose"},
		{`{"subject":"user:42","purpose":["a"],"action":"withdraw"}`, "purpose"},
		{`{"subject":"user:42","purpose":"a"}`, "action"},
		{`{"subject":"user:42","purpose":"a","action":""}`, "action"},
		{`{"subject":"user:42","purpose":"a","action":null}`, "action"},
		{event(`,"tenant":"Shop DE"`), "tenant"},
		{event(`,"tenant":7`), "tenant"},
		{event(`,"tenant":{"id":"shop"}`), "tenant"},
	}
	for _, c := range cases {
		t.Run(c.data, func(t *testing.T) {
			e, _, err := ParseEvent([]byte(c.data))
			var fault *Unusable
			if !errors.As(err, &fault) || fault.Field != c.field || fault.Message == "" {
				t.Fatalf("want Unusable at %q, got %v", c.field, err)
			}
			if !reflect.DeepEqual(e, consent.Event{}) {
				t.Fatalf("half an event came back: %+v", e)
			}
		})
	}
}

func TestParseEvent_AnActionThatIsNotListedIsUnknownAndTold(t *testing.T) {
	for _, action := range []string{`"approve"`, `"GRANT"`, `5`, `"unknown"`} {
		e, problems, err := ParseEvent([]byte(`{"subject":"user:42","purpose":"a","action":` + action + `}`))
		if err != nil || e.Action != consent.ActionUnknown || summary(problems) != "bad action" {
			t.Errorf("%s: %v, %v, %v", action, e.Action, problems, err)
		}
	}
}

func TestParseEvent_TakesARawSubjectAsItIs(t *testing.T) {
	for _, subject := range []string{"anna@example.org", " Anna@Example.org ", "+4915112345678", "42", "tel:+4915112345678", "ü"} {
		quoted, _ := json.Marshal(subject)
		e, problems, err := ParseEvent([]byte(`{"subject":` + string(quoted) + `,"purpose":"*","action":"withdraw"}`))
		if err != nil || string(e.Subject) != subject || len(problems) != 0 {
			t.Errorf("%q: %q, %v, %v", subject, string(e.Subject), problems, err)
		}
	}
}

func TestParseEvent_LowersThePurposeOfAllButAGrant(t *testing.T) {
	for action, want := range map[string]consent.Purpose{"withdraw": "marketing.email", "refuse": "marketing.email", "request": "marketing.email", "grant": " Marketing.EMail", "confirm": " Marketing.EMail"} {
		e, problems, err := ParseEvent([]byte(`{"subject":"user:42","purpose":" Marketing.EMail","action":"` + action + `"}`))
		if err != nil || len(problems) != 0 || e.Purpose != want {
			t.Errorf("%s: %q, %v, %v", action, e.Purpose, problems, err)
		}
	}
}

func TestParseEvent_WhatSpeaksOfTheWholeSubjectNeedsNoPurpose(t *testing.T) {
	for _, action := range []string{"link", "unlink", "erase"} {
		e, _, err := ParseEvent([]byte(`{"subject":"user:42","action":"` + action + `"}`))
		if err != nil || e.Purpose != consent.Root {
			t.Errorf("%s: %q, %v", action, e.Purpose, err)
		}
	}
}

func TestParseEvent_BoundsWhatItSaysAboutAnEvent(t *testing.T) {
	var b strings.Builder
	b.WriteString(event(``)[:len(event(``))-1])
	for i := range 3000 {
		fmt.Fprintf(&b, `,"%s%d":1`, strings.Repeat("ü", 100), i)
	}
	b.WriteString(`}`)
	_, problems, err := ParseEvent([]byte(b.String()))
	if err != nil || len(problems) != maxProblems {
		t.Fatalf("%d problems, %v", len(problems), err)
	}
	if got := problems[0].Field; got != strings.Repeat("ü", maxNameBytes/2)+"…" {
		t.Fatalf("field %q", got)
	}
}

func TestParseEvent_ErrorsDoNotRepeatTheSubject(t *testing.T) {
	for _, data := range []string{`{"subject":"secret\u0001","purpose":"a","action":"grant"}`, `{"subject":"secret","purpose":"s ecret","action":"grant"}`, `{"subject":"secret"x`} {
		_, _, err := ParseEvent([]byte(data))
		if err == nil || strings.Contains(err.Error(), "ecret") {
			t.Errorf("%v", err)
		}
	}
}

func FuzzParseEvent_NeverPanics(f *testing.F) {
	for _, s := range []string{
		event(``), event(`,"evidence":{"ip":"\u00e4","x":[{"a":"\"]}"},-1.5e+3,true]}`), event(`,"a":"\\","b":{"c":{}},"d":[[],{}]`), event(`,"occurred_at":"2026-03-04T07:06:07.0899+02:00","notice":{"sha256":"00"}`),
		"\t{ \"subject\" : \"s\\ud83d\\ude42\" ,\r\n\"purpose\":\"*\",\"action\":\"refuse\" } ", `{"subject":"x","action":"link","link":{"to":"y"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, problems, err := ParseEvent(data)
		if err != nil {
			return
		}
		var tree map[string]any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatalf("read what encoding/json refuses: %v", err)
		}
		for name, got := range map[string]string{"subject": string(e.Subject), "source": e.Source, "property": e.Property, "tenant": string(e.Tenant)} {
			if want, _ := tree[name].(string); got != want {
				t.Fatalf("%s: %q, encoding/json says %q", name, got, want)
			}
		}
		for name := range tree {
			if !isEventField(name) && !strings.Contains(summary(problems), "unknown ") {
				t.Fatalf("nobody was told of %q: %v", name, problems)
			}
		}
		if e.Action == consent.ActionUnknown {
			return
		}
		again, problems, err := ParseEvent(AppendEvent(nil, &e))
		if err != nil || len(problems) != 0 || !reflect.DeepEqual(again, e) {
			t.Fatalf("reads differently the second time: %+v, then %+v, %v, %v", e, again, problems, err)
		}
	})
}

func isEventField(name string) bool {
	for _, f := range eventFields {
		if f.name == name {
			return true
		}
	}
	return false
}
