package audit

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/problem"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
	retryAfter   = 2 * time.Second
)

// Handler serves the history over HTTP.
type Handler struct {
	history *History
	subject func(raw string) (consent.Subject, error)
	log     *slog.Logger
}

// NewHandler makes a Handler; subject hashes raw identifiers as intake does.
func NewHandler(h *History, subject func(string) (consent.Subject, error), log *slog.Logger) *Handler {
	return &Handler{history: h, subject: subject, log: log}
}

// Register adds GET /v1/subjects/{subject}/history.
func (h *Handler) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/subjects/{subject}/history", h.page)
}

type position struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

type itemJSON struct {
	Kind        string          `json:"kind"`
	RecordedAt  string          `json:"recorded_at"`
	Position    position        `json:"position"`
	Conflicting bool            `json:"conflicting,omitempty"`
	Event       json.RawMessage `json:"event,omitempty"`
	Change      json.RawMessage `json:"change,omitempty"`
	Delivery    json.RawMessage `json:"delivery,omitempty"`
}

func (h *Handler) page(w http.ResponseWriter, r *http.Request) {
	q, err := h.query(r)
	if err != nil {
		problem.BadRequest(err.Error()).Write(w)
		return
	}
	items, next, more, err := h.history.Page(r.Context(), q)
	if err != nil {
		h.log.Warn("a page of the history could not be read", "error", err)
		problem.Unavailable("history-away", "the history cannot be read now; nothing is lost, ask again", retryAfter).Write(w)
		return
	}
	answer := struct {
		Items []itemJSON `json:"items"`
		Next  *string    `json:"next_cursor"`
	}{Items: make([]itemJSON, 0, len(items))}
	for i := range items {
		answer.Items = append(answer.Items, asJSON(&items[i]))
	}
	if more {
		cursor := next.String()
		answer.Next = &cursor
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(answer)
}

func asJSON(i *Item) itemJSON {
	out := itemJSON{
		Kind: i.Kind.String(), RecordedAt: i.RecordedAt.String(), Conflicting: i.Conflicting,
		Position: position{i.Position.Topic, i.Position.Index, int64(i.Position.Offset)},
	}
	switch i.Kind {
	case KindEvent:
		out.Event = i.Body
	case KindChange:
		out.Change = i.Body
	case KindDelivery:
		out.Delivery = i.Body
	}
	return out
}

// query reads the request; an error is a sentence for the caller.
func (h *Handler) query(r *http.Request) (q Query, err error) {
	values, err := problem.ParseQuery(r)
	if err != nil {
		return q, err
	}
	if q.Subject, err = h.subject(r.PathValue("subject")); err != nil {
		return q, err
	}
	q.Tenant = consent.DefaultTenant
	if t := values.Get("tenant"); t != "" {
		if q.Tenant, err = consent.ParseTenant(t); err != nil {
			return q, err
		}
	}
	q.Limit = defaultLimit
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return q, badValue("limit is a number from 1 to 1000")
		}
		q.Limit = min(n, maxLimit)
	}
	for _, name := range values["kind"] {
		k, ok := ParseKind(name)
		if !ok {
			return q, badValue("kind is event, change or delivery")
		}
		q.Kinds = append(q.Kinds, k)
	}
	q.After, err = ParseCursor(values.Get("cursor"))
	return q, err
}

// badValue is a sentence for the caller.
type badValue string

func (b badValue) Error() string { return string(b) }
