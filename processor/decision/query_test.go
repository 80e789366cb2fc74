package decision

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
)

func TestParseWait_DefaultsAndBound(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 2 * time.Second, "0s": 0, "1500ms": 1500 * time.Millisecond, "30s": 30 * time.Second, "2h": 30 * time.Second} {
		var f faults
		if got := parseWait(url.Values{"wait": {text}}, &f); got.wait != want || len(f.items) > 0 {
			t.Errorf("wait %q: %s, want %s", text, got.wait, want)
		}
	}
}

func TestDecisions_TheTenantOfTheURLIsTheDefaultOfABatch(t *testing.T) {
	s := newService(t)
	_, body, _ := s.ask(t, "POST", "/v1/decisions?tenant=other", `{"queries":[{"subject":"user:1","purpose":"billing"},{"subject":"user:1","purpose":"billing","tenant":"default"}]}`)
	if !strings.Contains(body, `"allowed":false,"status":"none","reason":"default"`) || !strings.Contains(body, `"allowed":true,"status":"none","reason":"basis"`) {
		t.Errorf("want the first for the other tenant, the second for its own: %s", body)
	}
}

func TestDecisions_FaultsAreToldAllAtOnceWithoutWhatWasSent(t *testing.T) {
	s := newService(t)
	const ok = "/v1/decisions?subject=user:1&purpose=news"
	for target, field := range map[string]string{
		"/v1/decisions?subject=user:1":                             "purpose",
		"/v1/decisions?subject=user:1&purpose=":                    "purpose",
		"/v1/decisions?subject=user:1&purpose=News.Email":          "purpose",
		"/v1/decisions?subject=user:1&purpose=news&purpose=ads":    "purpose",
		"/v1/decisions?purpose=news":                               "subject",
		"/v1/decisions?subject=&purpose=news":                      "subject",
		"/v1/decisions?subject=x&purpose=news":                     "subject",
		"/v1/decisions?subject=user:1&subject=sp%20ace&purpose=a":  "subject",
		ok + "&tenant=Not%20One":                                   "tenant",
		ok + "&test=perhaps":                                       "test",
		ok + "&at_least=zzzz":                                      "at_least",
		ok + "&wait=soon":                                          "wait",
		ok + "&wait=-1s":                                           "wait",
		ok + strings.Repeat("&subject=user:2", maxSubjects):        "subject",
		ok + strings.Repeat("&at_least=a", maxTokens+1):            "at_least",
		"/v1/subjects/user:1/consents?at=2026-01-01T00:00:00Z":     "at",
		"/v1/subjects/user:1/consents?known_at=2026-01-01T00:00:0": "known_at",
		"/v1/subjects/x/consents":                                  "subject",
	} {
		code, body, h := s.ask(t, "GET", target, "")
		if code != 400 || !strings.Contains(body, `"field":"`+field+`"`) || h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.80s: %d %s", target, code, body)
		}
	}
	code, body, _ := s.ask(t, "POST", "/v1/decisions",
		`{"queries":[{"subject":"user:1","purpose":"news"},{"subject":"s3cret!","purpose":"N0pe"},{"subject":"user:1","subjects":["user:2"],"purpose":"news","tenant":"T"}]}`)
	for _, want := range []string{`queries[1].subject`, `queries[1].purpose`, `queries[2].subjects`, `queries[2].tenant`} {
		if code != 400 || !strings.Contains(body, want) {
			t.Errorf("%d, no %s in %s", code, want, body)
		}
	}
	if strings.Contains(body, "s3cret") || strings.Contains(body, "N0pe") || strings.Contains(s.log.String(), "s3cret") {
		t.Error("the answer repeats what was sent")
	}
}

func TestDecisions_BodiesThatCannotBeRead(t *testing.T) {
	s := newService(t)
	for body, want := range map[string]int{
		``:                            400,
		`{`:                           400,
		`[]`:                          400,
		`{}`:                          400,
		`{"queries":null}`:            400,
		`{"queries":{"s3cret":1}}`:    400,
		`{"queries":["s3cret"]}`:      400,
		`{"queries":[{"subject":1}]}`: 400,
		`{"queries":[],"at_least":7}`: 400,
		`{"queries":[],"s3cret":7}`:   400,
		`{"queries":[]} {}`:           400,
		`{"queries":[],"at_least":null,"wait":""}`:                            200,
		`{"queries":[{"subject":"` + strings.Repeat("s3cret", 1<<20) + `"}]}`: 413,
	} {
		code, answer, _ := s.ask(t, "POST", "/v1/decisions", body)
		if code != want || strings.Contains(answer, "s3cret") {
			t.Errorf("%.40s: %d %s, want %d and nothing of what was sent", body, code, answer, want)
		}
	}
	if code, _, _ := s.ask(t, "POST", "/v1/decisions", `{"queries":[]}`, "Content-Type", "text/plain"); code != 415 {
		t.Errorf("another media type: %d", code)
	}
}

func FuzzDecisions_NeverA500(f *testing.F) {
	f.Add("subject=user:1&purpose=news", `{"queries":[{"subject":"user:1","purpose":"news"}]}`)
	f.Add("subject=%00&purpose=*&wait=1ms&at_least=AQAAAA", `{"queries":[{"subjects":[""],"purpose":"*"}],"at_least":[""]}`)
	s := newService(f, stateOf(say(id1, "user:1", consent.Grant, "news.email", begin)))
	f.Fuzz(func(t *testing.T, query, body string) {
		for _, method := range []string{"GET", "POST"} {
			r := httptest.NewRequest(method, "/v1/decisions", strings.NewReader(body))
			r.URL.RawQuery = query
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // nothing is waited for
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r.WithContext(ctx))
			if w.Code == 500 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s: %d %s", method, w.Code, w.Body)
			}
		}
	})
}

// What was left out of the question would be left out of the answer: here the subject who
// has withdrawn, or the tenant.
func TestDecisions_AQueryThatCannotBeReadWholeIsNotAnsweredInPart(t *testing.T) {
	s := newService(t, stateOf(say(id1, "user:1", consent.Grant, "news.email", begin)), stateOf(say(id2, "user:2", consent.Withdraw, "news", begin.Add(time.Second))))
	const all = "purpose=news.email&subject=user:1"
	if code, body, _ := s.ask(t, "GET", "/v1/decisions?"+all, ""); code != 200 || fields(t, body, "allowed") != "true" {
		t.Fatalf("user:1 alone: %d %s", code, body)
	}
	for method, paths := range map[string][]string{
		"GET":  {"/v1/decisions?" + all, "/v1/subjects/user:1/consents?jurisdiction=FR"},
		"POST": {"/v1/decisions?wait=1s"},
	} {
		for _, path := range paths {
			for _, part := range []string{"&subject=user:2%", "&subject=user%3a2;", ";subject=user:2", "&tenant=other%", "&%=1"} {
				code, body, h := s.ask(t, method, path+part, `{"queries":[{"subject":"user:1","purpose":"news.email"}]}`)
				if code != 400 || h.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, "cannot be read") || strings.Contains(body, "user:") {
					t.Errorf("%s %s: %d %s", method, path+part, code, body)
				}
			}
		}
	}
}
