package daemon

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health answers /healthz, /readyz and /metrics. Healthy means: the process
// runs. Ready means: every part can work; it never depends on a downstream.
type Health struct {
	metrics *prometheus.Registry

	mu     sync.Mutex
	checks []check
}

type check struct {
	name  string
	ready func() error
}

// NewHealth makes a Health over the given metrics.
func NewHealth(metrics *prometheus.Registry) *Health { return &Health{metrics: metrics} }

// Add registers a part; ready returns nil when it can work, else what is missing.
// It must answer at once: it looks at what its part knows, and asks nobody.
func (h *Health) Add(name string, ready func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, check{name, ready})
}

// Waiting lists what is not ready yet, by part.
func (h *Health) Waiting() map[string]string {
	h.mu.Lock()
	checks := h.checks
	h.mu.Unlock()
	waiting := map[string]string{}
	for _, c := range checks {
		if err := c.ready(); err != nil {
			waiting[c.name] = err.Error()
		}
	}
	return waiting
}

// Register adds the three paths to mux.
func (h *Health) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", h.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.metrics, promhttp.HandlerOpts{}))
}

func (h *Health) readyz(w http.ResponseWriter, _ *http.Request) {
	waiting := h.Waiting()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if len(waiting) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(struct {
		Ready   bool              `json:"ready"`
		Waiting map[string]string `json:"waiting,omitempty"`
	}{len(waiting) == 0, waiting})
}
