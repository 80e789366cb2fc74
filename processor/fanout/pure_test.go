package fanout

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/schemas"
)

// Each row of interfaces.md, Webhooks.
func TestClassify_MeansWhatTheContractSays(t *testing.T) {
	for name, test := range map[string]struct {
		answer  answer
		kind    verdictKind
		outcome schemas.Outcome
		reason  string
	}{
		"200":                 {answer{status: 200}, taken, schemas.Delivered, ""},
		"204":                 {answer{status: 204}, taken, schemas.Delivered, ""},
		"200 applied":         {answer{status: 200, body: []byte(`{"status":"applied"}`)}, taken, schemas.Applied, ""},
		"200 in progress":     {answer{status: 200, body: []byte(`{"status":"in_progress"}`)}, taken, schemas.InProgress, ""},
		"200 failed":          {answer{status: 200, body: []byte(`{"status":"failed"}`)}, refused, schemas.Failed, "failed"},
		"200 with other text": {answer{status: 200, body: []byte(`thanks`)}, taken, schemas.Delivered, ""},
		"400":                 {answer{status: 400}, refused, schemas.Retrying, "rejected_400"},
		"413":                 {answer{status: 413}, refused, schemas.Retrying, "rejected_413"},
		"422":                 {answer{status: 422}, refused, schemas.Retrying, "rejected_422"},
		"401":                 {answer{status: 401}, wrongEndpoint, schemas.Paused, "endpoint_401"},
		"403":                 {answer{status: 403}, wrongEndpoint, schemas.Paused, "endpoint_403"},
		"404":                 {answer{status: 404}, wrongEndpoint, schemas.Paused, "endpoint_404"},
		"405":                 {answer{status: 405}, wrongEndpoint, schemas.Paused, "endpoint_405"},
		"410":                 {answer{status: 410}, wrongEndpoint, schemas.Paused, "endpoint_410"},
		"302":                 {answer{status: 302}, wrongEndpoint, schemas.Paused, "redirect_302"},
		"429":                 {answer{status: 429, retryAfter: time.Minute}, busy, schemas.Retrying, "busy_429"},
		"503":                 {answer{status: 503}, busy, schemas.Retrying, "busy_503"},
		"500":                 {answer{status: 500}, away, schemas.Retrying, "status_500"},
		"502":                 {answer{status: 502}, away, schemas.Retrying, "status_502"},
		"408":                 {answer{status: 408}, away, schemas.Retrying, "status_408"},
		"time-out":            {answer{err: context.DeadlineExceeded}, away, schemas.Retrying, "timeout"},
		"DNS":                 {answer{err: &net.DNSError{Err: "no such host"}}, away, schemas.Retrying, "dns"},
		"TLS":                 {answer{err: &tls.CertificateVerificationError{Err: errors.New("x509: unknown authority")}}, away, schemas.Retrying, "tls"},
		"refused":             {answer{err: errors.New("connection refused")}, away, schemas.Retrying, "connection"},
		"private":             {answer{err: fmt.Errorf("dial: %w", errPrivateAddress)}, away, schemas.Retrying, "private_address"},
	} {
		v := classify(test.answer)
		if v.kind != test.kind || v.outcome != test.outcome || v.reason != test.reason || v.wait != test.answer.retryAfter {
			t.Errorf("%s: %+v, want kind %d, %s, %q", name, v, test.kind, test.outcome, test.reason)
		}
	}
}

func TestParseRetryAfter_TakesSecondsAndDatesUpToAnHour(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-5": 0, "0": 0, "30": 30 * time.Second, "999999": time.Hour,
		"Sun, 01 Mar 2026 12:02:00 GMT": 2 * time.Minute, "Sun, 01 Mar 2026 11:00:00 GMT": 0, "Mon, 02 Mar 2026 12:00:00 GMT": time.Hour,
	} {
		if got := parseRetryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestSchedule_TriesFasterThenHourlyAndAWithdrawalForEver(t *testing.T) {
	s := schedule{backoff: DefaultBackoff}
	received := consent.InstantOf(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	due := received.Add(48 * time.Hour)
	at := received.Time().Add(time.Minute)
	for i, want := range []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, time.Hour, time.Hour} {
		if got, ok := s.next(i+1, 0, false, received, due, at); !ok || got != want {
			t.Errorf("after attempt %d: %s %t, want %s", i+1, got, ok, want)
		}
	}
	if got, ok := s.next(1, 7*time.Minute, false, received, due, at); !ok || got != 7*time.Minute {
		t.Errorf("the endpoint asked for 7 minutes: %s %t", got, ok)
	}
	overdue := due.Time()
	if _, ok := s.next(9, 0, false, received, due, overdue); ok {
		t.Error("a grant past its deadline is still tried")
	}
	if got, ok := s.next(9, 0, true, received, due, overdue); !ok || got != 24*time.Hour {
		t.Errorf("an overdue withdrawal: %s %t, want daily", got, ok)
	}
	if got, ok := s.next(2, 0, true, received, due, overdue); !ok || got != 30*time.Second {
		t.Errorf("a withdrawal that is told for the first time after its deadline: %s %t, want as quickly as any", got, ok)
	}
	if _, ok := s.next(9, 0, false, received, 0, received.Time().Add(31*24*time.Hour)); ok {
		t.Error("a grant without a deadline is tried for ever")
	}
}

func TestSchedule_JitterSpreadsAroundTheWait(t *testing.T) {
	for range 1000 {
		if j := randomJitter(); j < .8 || j > 1.2 {
			t.Fatalf("jitter %f", j)
		}
	}
	s := schedule{backoff: DefaultBackoff, jitter: func() float64 { return 1.2 }}
	if got, _ := s.next(1, 0, true, 1, 1<<60, time.Now()); got != 6*time.Second {
		t.Errorf("%s, want 6s", got)
	}
}

func TestGate_BreaksAfterFailuresInARowProbesOnceAtATimeAndOpens(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	g := newGate(time.Minute, time.Second, 4*time.Second, 3)
	failed, well := verdict{kind: away, reason: "status_500"}, verdict{kind: taken}
	for i := range 3 {
		if ok, _ := g.admit(now); !ok {
			t.Fatalf("closed after %d failures", i)
		}
		if changed := g.report(failed, now); changed != (i == 2) {
			t.Fatalf("after failure %d: changed %t", i+1, changed)
		}
	}
	opened := g.opening()
	for _, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
		if ok, again := g.admit(now.Add(wait - 1)); ok || again != now.Add(wait) {
			t.Fatalf("before the probe: %t, again %s, want %s", ok, again.Sub(now), wait)
		}
		now = now.Add(wait)
		if ok, _ := g.admit(now); !ok {
			t.Fatal("no probe was let through")
		}
		if ok, _ := g.admit(now); ok {
			t.Fatal("two probes at once")
		}
		g.report(failed, now)
	}
	now = now.Add(4 * time.Second)
	g.admit(now)
	g.abandon() // the stop cut it off: another one may probe
	if ok, _ := g.admit(now); !ok {
		t.Fatal("an abandoned probe keeps the gate shut")
	}
	select {
	case <-opened:
		t.Fatal("opened too early")
	default:
	}
	if !g.report(well, now) {
		t.Error("opening is no change")
	}
	<-opened
	if state, _ := g.status(); state != gateOpen {
		t.Errorf("state %s", state)
	}
	for range 2 { // a success starts the count anew
		g.report(failed, now)
	}
	if state, _ := g.status(); state != gateOpen {
		t.Error("two failures broke it, want three in a row")
	}
}

func TestGate_PausesOnAWrongEndpointAndWaitsForABusyOne(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	g := newGate(time.Minute, time.Second, time.Minute, 3)
	g.report(verdict{kind: busy, wait: 10 * time.Second}, now)
	if ok, again := g.admit(now.Add(9 * time.Second)); ok || again != now.Add(10*time.Second) {
		t.Errorf("busy: admitted %t, again %s", ok, again)
	}
	if ok, _ := g.admit(now.Add(10 * time.Second)); !ok {
		t.Error("busy: not admitted after the wait")
	}
	g.report(verdict{kind: wrongEndpoint, reason: "endpoint_404"}, now)
	if state, reason := g.status(); state != gatePaused || reason != "endpoint_404" {
		t.Errorf("%s %s", state, reason)
	}
	if ok, again := g.admit(now.Add(30 * time.Second)); ok || again != now.Add(time.Minute) {
		t.Errorf("paused: admitted %t, again %s", ok, again)
	}
	// A refusal of one change says that the endpoint works.
	g.admit(now.Add(time.Minute))
	g.report(verdict{kind: refused}, now.Add(time.Minute))
	if state, _ := g.status(); state != gateOpen {
		t.Errorf("%s after an answer about the change", state)
	}
}

func TestWindow_CommitsWhatWasReadAndNamesWhatIsOpen(t *testing.T) {
	w := newWindow(10)
	if c := w.commit(); c.Next != 10 || c.Metadata != "" {
		t.Errorf("nothing open: %+v", c)
	}
	for o := kafka.LastOffset(10); o < 20; o++ {
		w.add(o)
	}
	w.next = 25
	for _, o := range []kafka.LastOffset{10, 11, 13, 14, 16, 17, 18, 19} {
		w.done(o)
	}
	c := w.commit()
	open, err := decodeOpen(c.Metadata)
	if err != nil || c.Next != 25 || !slices.Equal(open, []kafka.LastOffset{12, 15}) {
		t.Errorf("next %d, open %v, %v", c.Next, open, err)
	}
}

func TestWindow_WithTooManyOpenCommitsUpToTheFirstThatItCannotName(t *testing.T) {
	w := newWindow(0)
	for o := range kafka.LastOffset(1000) {
		w.add(o * 1_000_003)
	}
	w.next = 1_000_000_000
	c := w.commit()
	open, err := decodeOpen(c.Metadata)
	if err != nil || len(open) != maxOpenInCommit || c.Next != kafka.NextOffset(maxOpenInCommit*1_000_003) {
		t.Errorf("next %d, %d open, %v", c.Next, len(open), err)
	}
	if len(c.Metadata) > kafka.MaxMetadataBytes {
		t.Errorf("%d bytes of metadata, a commit holds %d", len(c.Metadata), kafka.MaxMetadataBytes)
	}
}

func FuzzDecodeOpen_NeverPanicsAndRoundTrips(f *testing.F) {
	f.Add("")
	f.Add(encodeOpen([]kafka.LastOffset{1, 5, 1 << 40}))
	f.Add("AQA")
	f.Fuzz(func(t *testing.T, text string) {
		open, err := decodeOpen(text)
		if err != nil || len(open) == 0 {
			return
		}
		again, err := decodeOpen(encodeOpen(open))
		if err != nil || !slices.Equal(again, open) {
			t.Fatalf("%v became %v, %v", open, again, err)
		}
	})
}

func TestKeyring_ReadsSecretsAnewAndNamesTheReferenceThatIsMissing(t *testing.T) {
	secret, reads := "0123456789abcdef", 0
	k := &keyring{refs: []registry.SecretRef{"env:A"}, resolve: func(registry.SecretRef) (string, error) {
		reads++
		if secret == "" {
			return "", errors.New("secret env:A is not set")
		}
		return secret, nil
	}}
	now := time.Now()
	for range 3 {
		if keys, err := k.current(now); err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
	}
	if reads != 1 {
		t.Errorf("read %d times within a moment", reads)
	}
	if _, err := k.current(now.Add(keysFresh)); err != nil || reads != 2 {
		t.Errorf("not read anew: %d, %v", reads, err)
	}
	secret = ""
	if _, err := k.current(now.Add(2 * keysFresh)); err == nil {
		t.Error("a secret that is gone is still used")
	}
}

func TestClient_RefusesPrivateAddressesUnlessInternalAndFollowsNoRedirect(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))
	defer server.Close()
	get := func(client *http.Client, url string) (*http.Response, error) {
		defer client.CloseIdleConnections()
		resp, err := client.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return resp, err
	}
	for _, url := range []string{server.URL, "http://localhost:" + server.URL[len("http://127.0.0.1:"):]} { // by address, and by a name that leads there
		if _, err := get(newClient(1, false), url); !errors.Is(err, errPrivateAddress) {
			t.Errorf("%s: %v, want it refused", url, err)
		}
	}
	resp, err := get(newClient(1, true), server.URL)
	if err != nil || resp.StatusCode != http.StatusFound || elsewhere != 0 {
		t.Errorf("internal: %v %v; the redirect was followed %d times", resp, err, elsewhere)
	}
}
