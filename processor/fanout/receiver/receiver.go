// Package receiver is the built-in downstream of `assent up`: it checks each
// webhook's signature, keeps the highest version per subject and purpose, those of
// test changes apart, and shows what it was told. It doubles as the example for
// downstream systems.
//
// It keeps the last webhooks in memory, and nothing else.
package receiver

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/problem"
	"github.com/assent-dev/assent/internal/webhook"
)

const (
	kept         = 200
	maxKnown     = 100_000 // versions remembered; beyond it the oldest half is forgotten
	maxBodyBytes = 256 << 10
	maxWait      = 30 * time.Second
)

// Seen is one webhook as it came.
type Seen struct {
	N              int64           `json:"n"` // counts from 1
	WebhookID      string          `json:"webhook_id"`
	ReceivedAt     string          `json:"received_at"`
	SignatureValid bool            `json:"signature_valid"`
	Outdated       bool            `json:"outdated"` // it has a higher version already
	Change         json.RawMessage `json:"change"`
}

// key is what versions are counted by. Test changes are of a State of their own.
type key struct {
	tenant, subject, purpose string
	test                     bool
}

// Receiver takes webhooks. Make it with New.
type Receiver struct {
	secret webhook.Key
	now    func() time.Time

	mu       sync.Mutex
	count    int64
	seen     []Seen
	versions map[key]int64
	arrived  chan struct{} // closed and made anew at each webhook
}

// New makes a receiver that knows one secret.
func New(secret webhook.Key, now func() time.Time) *Receiver {
	return &Receiver{secret: secret, now: now, versions: map[key]int64{}, arrived: make(chan struct{})}
}

// Register adds POST /demo/receiver/hook and GET /demo/receiver/deliveries.
func (r *Receiver) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /demo/receiver/hook", r.hook)
	mux.HandleFunc("GET /demo/receiver/deliveries", r.deliveries)
}

// hook takes one webhook. One whose signature is not valid is shown, and refused.
func (r *Receiver) hook(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBodyBytes))
	if err != nil {
		problem.TooLarge("a change has at most 256 KiB").Write(w)
		return
	}
	var change struct {
		Tenant  string `json:"tenant"`
		Subject string `json:"subject"`
		Purpose string `json:"purpose"`
		Version int64  `json:"version"`
		Test    bool   `json:"test"`
	}
	if json.Unmarshal(body, &change) != nil {
		problem.BadRequest("the body is not a change in JSON").Write(w)
		return
	}
	err = webhook.Verify(req.Header, []webhook.Key{r.secret}, body, r.now())
	r.note(Seen{
		WebhookID:      req.Header.Get(webhook.HeaderID),
		ReceivedAt:     consent.InstantOf(r.now()).String(),
		SignatureValid: err == nil,
		Change:         body,
	}, key{change.Tenant, change.Subject, change.Purpose, change.Test}, change.Version)
	if err != nil {
		problem.Problem{Type: "signature", Status: http.StatusUnauthorized, Detail: err.Error()}.Write(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"applied"}` + "\n"))
}

func (r *Receiver) note(s Seen, k key, version int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	s.N = r.count
	if s.SignatureValid {
		s.Outdated = version <= r.versions[k]
		r.versions[k] = max(version, r.versions[k])
	}
	if len(r.versions) > maxKnown {
		for k := range r.versions { // a sample, not a store: any half will do
			if delete(r.versions, k); len(r.versions) <= maxKnown/2 {
				break
			}
		}
	}
	if r.seen = append(r.seen, s); len(r.seen) > kept {
		r.seen = append([]Seen(nil), r.seen[len(r.seen)-kept:]...)
	}
	close(r.arrived)
	r.arrived = make(chan struct{})
}

// Deliveries gives what came after the n-th webhook, oldest first, and a
// channel that is closed when another one comes.
func (r *Receiver) Deliveries(after int64) ([]Seen, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var items []Seen
	for _, s := range r.seen {
		if s.N > after {
			items = append(items, s)
		}
	}
	return items, r.arrived
}

// deliveries answers ?after=N&wait=20s: at once when there is something after
// N, else when something comes or the wait is over.
func (r *Receiver) deliveries(w http.ResponseWriter, req *http.Request) {
	after, err := strconv.ParseInt(orZero(req.FormValue("after")), 10, 64)
	wait, err2 := time.ParseDuration(orZero(req.FormValue("wait")))
	if err != nil || err2 != nil {
		problem.BadRequest("after is a number, wait a duration such as 20s").Write(w)
		return
	}
	items, arrived := r.Deliveries(after)
	if len(items) == 0 && wait > 0 {
		timer := time.NewTimer(min(wait, maxWait))
		defer timer.Stop()
		select {
		case <-arrived:
		case <-timer.C:
		case <-req.Context().Done():
		}
		items, _ = r.Deliveries(after)
	}
	next := after
	if len(items) > 0 {
		next = items[len(items)-1].N
	} else {
		items = []Seen{}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(struct {
		Items []Seen `json:"items"`
		Next  int64  `json:"next"`
	}{items, next})
}

func orZero(s string) string {
	if s == "" {
		return "0"
	}
	return s
}
