package receiver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/webhook"
)

type answer struct {
	Items []Seen `json:"items"`
	Next  int64  `json:"next"`
}

func newReceiver(t *testing.T) (*Receiver, webhook.Key, *http.ServeMux) {
	t.Helper()
	key, err := webhook.ParseKey("0123456789abcdef0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	r, mux := New(key, time.Now), http.NewServeMux()
	r.Register(mux)
	return r, key, mux
}

func send(mux *http.ServeMux, key webhook.Key, version int) int {
	return post(mux, key, version, fmt.Sprintf(`{"tenant":"default","subject":"user:1","purpose":"a","version":%d}`, version))
}

func post(mux *http.ServeMux, key webhook.Key, version int, body string) int {
	req := httptest.NewRequest(http.MethodPost, "/demo/receiver/hook", strings.NewReader(body))
	webhook.Sign(req.Header, []webhook.Key{key}, fmt.Sprint("id_", version), time.Now(), []byte(body))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, req)
	return w.Code
}

func deliveries(t *testing.T, mux *http.ServeMux, query string) answer {
	t.Helper()
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/demo/receiver/deliveries"+query, nil))
	var a answer
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return a
}

func TestReceiver_ChecksSignaturesAndTellsOlderVersions(t *testing.T) {
	_, key, mux := newReceiver(t)
	other, err := webhook.ParseKey("another secret of enough bytes")
	if err != nil {
		t.Fatal(err)
	}
	for i, test := range []struct {
		key     webhook.Key
		version int
		code    int
	}{{key, 1, 200}, {key, 3, 200}, {key, 2, 200}, {other, 9, 401}, {key, 4, 200}} {
		if code := send(mux, test.key, test.version); code != test.code {
			t.Errorf("webhook %d: %d, want %d", i, code, test.code)
		}
	}
	a := deliveries(t, mux, "")
	var got []string
	for _, s := range a.Items {
		got = append(got, fmt.Sprint(s.N, s.SignatureValid, s.Outdated))
	}
	if s := strings.Join(got, " "); s != "1 true false 2 true false 3 true true 4 false false 5 true false" || a.Next != 5 {
		t.Errorf("%s, next %d", s, a.Next)
	}
}

func TestReceiver_ATestChangeOutdatesNoRealOne(t *testing.T) {
	_, key, mux := newReceiver(t)
	post(mux, key, 5, `{"tenant":"default","subject":"user:1","purpose":"a","version":5,"test":true}`)
	send(mux, key, 2)
	post(mux, key, 4, `{"tenant":"default","subject":"user:1","purpose":"a","version":4,"test":true}`)
	var got []bool
	for _, s := range deliveries(t, mux, "").Items {
		got = append(got, s.Outdated)
	}
	if !slices.Equal(got, []bool{false, false, true}) {
		t.Errorf("outdated: %v, want the older test change alone", got)
	}
}

func TestReceiver_ALongPollEndsWhenSomethingComes(t *testing.T) {
	_, key, mux := newReceiver(t)
	send(mux, key, 1)
	got := make(chan answer, 1)
	go func() { got <- deliveries(t, mux, "?after=1&wait=20s") }()
	send(mux, key, 2)
	if a := <-got; len(a.Items) != 1 || a.Items[0].N != 2 {
		t.Errorf("%+v", a)
	}
	if a := deliveries(t, mux, "?after=2&wait=1ms"); len(a.Items) != 0 || a.Next != 2 {
		t.Errorf("nothing came, and it says %+v", a)
	}
}

func TestReceiver_KeepsTheLastOnesOnly(t *testing.T) {
	_, key, mux := newReceiver(t)
	for i := range kept + 50 {
		send(mux, key, i+1)
	}
	if a := deliveries(t, mux, ""); len(a.Items) != kept || a.Items[0].N != 51 {
		t.Errorf("%d items from %d", len(a.Items), a.Items[0].N)
	}
}

func TestReceiver_RefusesWhatIsNoChange(t *testing.T) {
	_, _, mux := newReceiver(t)
	for body, want := range map[string]int{"no JSON": 400, strings.Repeat("x", 300<<10): 413} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/demo/receiver/hook", strings.NewReader(body)))
		if w.Code != want {
			t.Errorf("%d, want %d", w.Code, want)
		}
	}
}
