package decision

import (
	"context"
	"net/http"
	"net/http/httptest"
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
