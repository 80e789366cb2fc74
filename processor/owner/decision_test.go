package owner

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/token"
	"github.com/assent-dev/assent/processor/decision"
)

// answers serves decisions from a process's Router.
func (p *process) answers() http.Handler {
	p.w.Helper()
	purposes := consent.NewCatalogue(consent.DefaultTenant, "v1", []*consent.Declaration{{ID: "m.e", LegalBasis: consent.BasisConsent}})
	h, err := decision.New(decision.Config{
		States:    p.Router,
		Catalogue: func(consent.Tenant) *consent.Catalogue { return purposes },
		Subject:   consent.ParseSubject,
	})
	if err != nil {
		p.w.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Register(mux)
	return mux
}

type answer struct {
	Subject, Status, Reason string
	Allowed                 bool
}

func TestDecisions_AnyProcessAnswersAThousandInOrder(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	var queries []string
	var want []answer
	for i := range 1000 {
		id := subject(i % 700) // some are asked for twice
		a := answer{Subject: string(id.Subject), Status: "none", Reason: "default"}
		if i%700%3 == 0 {
			w.grant(id, consent.Instant(1+i%700))
			a = answer{a.Subject, "granted", "explicit", true}
		}
		queries = append(queries, fmt.Sprintf(`{"subject":%q,"purpose":"m.e"}`, a.Subject))
		want = append(want, a)
	}
	body := `{"queries":[` + strings.Join(queries, ",") + `]}`
	for _, p := range all {
		rec := httptest.NewRecorder()
		p.answers().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/v1/decisions", strings.NewReader(body)))
		var got struct{ Decisions []answer }
		if err := json.NewDecoder(rec.Body).Decode(&got); err != nil || len(got.Decisions) != len(want) {
			t.Fatal(rec.Code, err, len(got.Decisions))
		}
		for i := range want {
			if got.Decisions[i] != want[i] {
				t.Fatalf("%s, query %d: %+v, want %+v", p.config.Instance, i, got.Decisions[i], want[i])
			}
		}
	}
	for i, p := range all {
		if n := p.requests.get(); n != 2 {
			t.Errorf("%d requests to process %d, want one of each other process", n, i)
		}
	}
}

func TestDecisions_OfAPersonWhoseIdsHaveTwoOwners(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	account, device := of(0), of(1)
	w.grant(account, 5)
	refusal := &consent.Event{ID: consent.UUID{9}, Tenant: device.Tenant, Subject: device.Subject, Action: consent.Withdraw, Purpose: "m", ReceivedAt: 9, EffectiveAt: 9}
	s, _, _ := consent.Fold(consent.State{}, refusal)
	w.states[device] = &s
	ask := func() (a answer) {
		rec := httptest.NewRecorder()
		all[2].answers().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, fmt.Sprintf("/v1/decisions?purpose=m.e&subject=%s&subject=%s", string(account.Subject), string(device.Subject)), nil))
		if err := json.NewDecoder(rec.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	if got := ask(); got.Allowed || got.Status != "withdrawn" {
		t.Errorf("%+v: the device's owner was not heard", got)
	}
	delete(w.states, device)
	if got := ask(); !got.Allowed {
		t.Errorf("%+v: the account's owner was not heard", got)
	}
	all[1].server.CloseClientConnections()
	all[1].server.Config.Handler = http.NotFoundHandler()
	if got := ask(); got.Allowed || got.Reason != "unavailable" {
		t.Errorf("%+v: one that cannot be known is enough", got)
	}
}

func TestDecisions_AtLeastIsWaitedForAtTheOwner(t *testing.T) {
	w := newWorld(t)
	all := three(w)
	id := of(1)
	done := make(chan string)
	target := fmt.Sprintf("/v1/decisions?purpose=m.e&subject=%s&wait=20s&at_least=%s", string(id.Subject), token.Encode(partitionOf(id), 7))
	go func() {
		rec := httptest.NewRecorder()
		all[0].answers().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, target, nil))
		done <- rec.Body.String()
	}()
	eventually(t, "the owner is asked to wait", func() bool { return all[1].requests.get() > 0 })
	w.grant(id, 5)
	all[1].local.fold(partitionOf(id), 7)
	if got := <-done; !strings.Contains(got, `"status":"granted"`) {
		t.Error(got)
	}
	rec := httptest.NewRecorder()
	all[0].answers().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, strings.Replace(strings.Replace(target, "20s", "30ms", 1), token.Encode(partitionOf(id), 7), token.Encode(partitionOf(id), 8), 1), nil))
	if rec.Code != 503 || !strings.Contains(rec.Body.String(), "not_folded") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func BenchmarkStates(b *testing.B) {
	w := newWorld(b)
	all := three(w)
	var ids []consent.SubjectID
	for i := range 1000 {
		ids = append(ids, subject(i))
		w.grant(ids[i], consent.Instant(i+1))
	}
	report := func(b *testing.B, n int) {
		b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "states/s")
	}
	for name, c := range map[string][]consent.SubjectID{"one here": {of(0)}, "one at a peer": {of(1)}, "1000 at three": ids} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, k := range all[0].States(b.Context(), c) {
					if !k.OK || !k.Valid() {
						b.Fatal("not known")
					}
				}
			}
			report(b, len(c))
		})
	}
	// With as many peers' requests at once as clients come.
	b.Run("one at a peer, in parallel", func(b *testing.B) {
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if k := all[0].States(b.Context(), []consent.SubjectID{of(1)}); !k[0].OK {
					b.Error("not known")
				}
			}
		})
		report(b, 1)
	})
}

// A whole decision, from the States on.
func BenchmarkDecision(b *testing.B) {
	w := newWorld(b)
	all := three(w)
	for name, stripe := range map[string]int{"here": 0, "at a peer": 1} {
		id := of(stripe)
		w.grant(id, 5)
		h := all[0].answers()
		target := "/v1/decisions?purpose=m.e&jurisdiction=DE&subject=" + string(id.Subject)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, target, nil))
				if text, _ := io.ReadAll(rec.Body); !strings.Contains(string(text), `"granted"`) {
					b.Fatal(string(text))
				}
			}
		})
	}
}
