package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// journal notes what happened in which order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines, ",")
}

func (j *journal) service(name string, started *sync.WaitGroup, end error) Service {
	started.Add(1)
	return Service{Name: name, Run: func(ctx context.Context) error {
		started.Done()
		<-ctx.Done()
		j.add(name)
		return end
	}}
}

func TestRun_StopsTheTopLayerFirstAndTheLowestLast(t *testing.T) {
	var j journal
	var started sync.WaitGroup
	layers := []Layer{{j.service("broker", &started, nil)}, {j.service("role", &started, nil)}, {j.service("http", &started, nil)}}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { started.Wait(); cancel() }()
	if err := Run(ctx, quiet, time.Minute, layers...); err != nil {
		t.Fatal(err)
	}
	if got := j.String(); got != "http,role,broker" {
		t.Fatalf("stopped in the order %s", got)
	}
}

func TestRun_AFailingServiceStopsTheOthersInOrderAndIsNamed(t *testing.T) {
	var j journal
	var started sync.WaitGroup
	broken := errors.New("broken")
	failing := Service{Name: "role", Run: func(context.Context) error { started.Wait(); return broken }}
	err := Run(t.Context(), quiet, time.Minute, Layer{j.service("broker", &started, nil)}, Layer{failing}, Layer{j.service("http", &started, nil)})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "role: broken") {
		t.Fatalf("got %v", err)
	}
	if got := j.String(); got != "http,broker" {
		t.Fatalf("stopped in the order %s", got)
	}
}

func TestRun_GivesUpOnAServiceThatDoesNotStopAndNamesIt(t *testing.T) {
	release := make(chan struct{})
	ended := make(chan struct{})
	stuck := Service{Name: "stuck", Run: func(context.Context) error { defer close(ended); <-release; return nil }}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Run(ctx, quiet, 20*time.Millisecond, Layer{stuck})
	if err == nil || !strings.Contains(err.Error(), "gave up waiting for stuck") {
		t.Fatalf("got %v", err)
	}
	close(release)
	<-ended
}

func TestServe_EndsRequestsInFlightWhenItStops(t *testing.T) {
	ln, err := Listen("127.0.0.1:0", "--http-addr")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	arrived := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done() // a long poll ends with the server
		w.WriteHeader(http.StatusNoContent)
	})
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, ln, handler) }()
	answered := make(chan int, 1)
	go func() {
		r, err := http.Get("http://" + ln.Addr().String())
		if err != nil {
			answered <- 0
			return
		}
		r.Body.Close()
		answered <- r.StatusCode
	}()
	<-arrived
	cancel()
	if code := <-answered; code != http.StatusNoContent {
		t.Errorf("the request in flight was answered %d", code)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestListen_SaysWhatToDoWhenThePortIsTaken(t *testing.T) {
	ln, err := Listen("127.0.0.1:0", "--http-addr")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = Listen(ln.Addr().String(), "--http-addr")
	if err == nil || !strings.Contains(err.Error(), "already in use") || !strings.Contains(err.Error(), "--http-addr") {
		t.Fatalf("got %v", err)
	}
}

func TestHealth_IsReadyOnlyWhenEveryPartIs(t *testing.T) {
	h := NewHealth(prometheus.NewRegistry())
	missing := errors.New("restoring")
	h.Add("processor", func() error { return missing })
	h.Add("sink", func() error { return nil })
	mux := http.NewServeMux()
	h.Register(mux)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	if w := get("/readyz"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"processor":"restoring"`) {
		t.Errorf("not ready yet: %d %s", w.Code, w.Body)
	}
	if w := get("/healthz"); w.Code != http.StatusOK {
		t.Errorf("healthz: %d", w.Code)
	}
	missing = nil
	if w := get("/readyz"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"ready":true`) {
		t.Errorf("ready: %d %s", w.Code, w.Body)
	}
	if w := get("/metrics"); w.Code != http.StatusOK {
		t.Errorf("metrics: %d", w.Code)
	}
}
