package decision

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/token"
)

// announced is memory that tells when it is asked to wait.
type announced struct {
	*memory
	waits chan []Position
}

func (a announced) WaitFolded(ctx context.Context, after []Position) error {
	a.waits <- after
	return a.memory.WaitFolded(ctx, after)
}

// The event is folded only once the request is known to wait for it.
func TestDecisions_AtLeastIsNotAnsweredBeforeItsEventIsFolded(t *testing.T) {
	s := newService(t)
	states := announced{s.memory, make(chan []Position, 1)}
	h, err := New(Config{States: states, Catalogue: func(consent.Tenant) *consent.Catalogue { return catalogue() }, Subject: consent.ParseSubject})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Register(mux)
	answered := make(chan string, 1)
	go func() {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/decisions?subject=user:1&purpose=news.email&wait=20s&at_least="+token.Encode(3, 7), nil))
		answered <- w.Body.String()
	}()
	select {
	case after := <-states.waits:
		if len(after) != 1 || after[0] != (Position{Partition: 3, Offset: 7}) {
			t.Errorf("waits for %v", after)
		}
	case body := <-answered:
		t.Fatalf("answered without waiting: %s", body)
	}
	s.mu.Lock()
	s.states["user:1"] = stateOf(say(id1, "user:1", consent.Grant, "news.email", begin))
	s.mu.Unlock()
	s.fold(3, 7)
	if body := <-answered; fields(t, body, "status") != "granted" {
		t.Errorf("answered %s", body)
	}
}

func TestDecisions_AtLeastWaitsAndAnswersTheNewState(t *testing.T) {
	s := newService(t)
	at := token.Encode(3, 7)
	done := make(chan string)
	go func() {
		_, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:1&purpose=news.email&wait=20s&at_least="+at, "")
		done <- body
	}()
	s.fold(3, 6)
	s.mu.Lock()
	s.states["user:1"] = stateOf(say(id1, "user:1", consent.Grant, "news.email", begin))
	s.mu.Unlock()
	s.fold(3, 7)
	if body := <-done; fields(t, body, "status") != "granted" {
		t.Errorf("answered %s", body)
	}
}

func TestDecisions_AtLeastThatIsNotFoldedInTimeIs503(t *testing.T) {
	s := newService(t)
	s.fold(1, 10)
	known, unknown := token.Encode(1, 10), token.Encode(1, 11)
	ask := map[string][2]string{
		"GET":             {"/v1/decisions?subject=user:1&purpose=news&wait=1ms&at_least=" + known + "&at_least=" + unknown, ""},
		"POST":            {"/v1/decisions", `{"queries":[{"subject":"user:1","purpose":"news"}],"at_least":["` + known + `","` + unknown + `"],"wait":"1ms"}`},
		"POST one":        {"/v1/decisions", `{"queries":[{"subject":"user:1","purpose":"news"}],"at_least":"` + unknown + `","wait":"1ms"}`},
		"POST in the URL": {"/v1/decisions?wait=1ms&at_least=" + unknown, `{"queries":[{"subject":"user:1","purpose":"news"}]}`},
		"GET consents":    {"/v1/subjects/user:1/consents?wait=0s&at_least=" + unknown, ""},
	}
	for name, q := range ask {
		method, _, _ := strings.Cut(name, " ")
		code, body, h := s.ask(t, method, q[0], q[1])
		if code != 503 || h.Get("Retry-After") != "1" || !strings.Contains(body, "not_folded") || h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s %v", name, code, body, h)
		}
	}
	if code, body, _ := s.ask(t, "GET", "/v1/decisions?subject=user:1&purpose=news&at_least="+known, ""); code != 200 {
		t.Errorf("one that is folded: %d %s", code, body)
	}
	if n := s.counters(t, "assent_decisions_not_folded_total")[""]; n != float64(len(ask)) {
		t.Errorf("metric %v, want %d", n, len(ask))
	}
}
