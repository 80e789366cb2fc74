package decision

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func BenchmarkDecide(b *testing.B) {
	s := newService(b, stateOf(say(id1, "user:1", consent.Grant, "news.email", begin)))
	b.Run("without HTTP", func(b *testing.B) {
		h, err := New(Config{States: s.memory, Catalogue: func() func(consent.Tenant) *consent.Catalogue {
			c := catalogue()
			return func(consent.Tenant) *consent.Catalogue { return c }
		}(), Subject: consent.ParseSubject})
		if err != nil {
			b.Fatal(err)
		}
		q := []query{{tenant: "default", subjects: []consent.Subject{"user:1"}, purpose: "news.email", jurisdiction: "DE"}}
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			buf = h.decide(buf[:0], &q[0], h.look(b.Context(), q), false)
		}
	})
	server := httptest.NewServer(s)
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	do := func(b *testing.B, request func() (*http.Response, error)) {
		resp, err := request()
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(err)
		}
		var sink bytes.Buffer
		_, _ = sink.ReadFrom(resp.Body)
		_ = resp.Body.Close()
	}
	b.Run("GET over HTTP", func(b *testing.B) {
		for b.Loop() {
			do(b, func() (*http.Response, error) {
				return client.Get(server.URL + "/v1/decisions?subject=user:1&purpose=news.email&jurisdiction=DE")
			})
		}
	})
	b.Run("1000 queries a POST", func(b *testing.B) {
		body := `{"queries":[` + strings.Repeat(`{"subject":"user:1","purpose":"news.email","jurisdiction":"DE"},`, 999) + `{"subject":"user:1","purpose":"news.email"}]}`
		for b.Loop() {
			do(b, func() (*http.Response, error) {
				return client.Post(server.URL+"/v1/decisions", "application/json", strings.NewReader(body))
			})
		}
		b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "decisions/s")
	})
}
