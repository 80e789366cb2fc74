package decision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/problem"
)

// Config is what a [Handler] works with. States, Catalogue and Subject are required.
type Config struct {
	States States
	// Catalogue gives the registry in force of a tenant; an empty one, never nil,
	// for a tenant that is not known.
	Catalogue func(consent.Tenant) *consent.Catalogue
	// Subject makes the pseudonymous id of what a query names, as the gateway does
	// for events. Its error is a sentence for the caller, without the id.
	Subject func(raw string) (consent.Subject, error)
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Registerer takes the metrics. Default: none.
	Registerer prometheus.Registerer
	// Logger takes what goes wrong in here. Default: none.
	Logger *slog.Logger
}

// Handler serves the decisions of the HTTP interface. Source: interfaces.md, HTTP.
type Handler struct {
	config  Config
	metrics *metrics
}

// New checks the configuration. It does no I/O.
func New(config Config) (*Handler, error) {
	if config.States == nil || config.Catalogue == nil || config.Subject == nil {
		return nil, errors.New("decision: states, catalogue and subject are required")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, err
	}
	return &Handler{config: config, metrics: m}, nil
}

// Register adds the paths to mux.
func (h *Handler) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/decisions", h.guard(h.get))
	mux.HandleFunc("POST /v1/decisions", h.guard(h.post))
	mux.HandleFunc("GET /v1/subjects/{subject}/consents", h.guard(h.consents))
}

// guard answers 500 when a handler panics, with a log line that has no payload.
func (h *Handler) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		defer func() {
			if p := recover(); p != nil {
				h.config.Logger.Error("a decision failed", "path", r.Pattern, "panic", fmt.Sprintf("%T", p))
				problem.Problem{Type: "internal", Status: http.StatusInternalServerError, Detail: "the decision could not be made: treat it as denied"}.Write(w)
			}
			h.metrics.latency.Observe(time.Since(began).Seconds())
		}()
		next(w, r)
	}
}

// get answers one query.
func (h *Handler) get(w http.ResponseWriter, r *http.Request) {
	var faults faults
	v, ok := parameters(w, r)
	if !ok {
		return
	}
	q := h.query(v, v["subject"], v["purpose"], &faults)
	after := parseWait(v, &faults)
	if faults.write(w) || !h.folded(w, r, after) {
		return
	}
	queries := []query{q}
	known := h.look(r.Context(), queries)
	write(w, func(b []byte) []byte { return append(h.decide(b, &queries[0], known, gpc(r)), '\n') })
}

// post answers many, in order.
func (h *Handler) post(w http.ResponseWriter, r *http.Request) {
	var faults faults
	v, ok := parameters(w, r)
	if !ok {
		return
	}
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	queries := h.queries(body, v, &faults)
	after := parseWait(v, &faults)
	after.add(body.AtLeast, body.Wait, &faults)
	if faults.write(w) || !h.folded(w, r, after) {
		return
	}
	known := h.look(r.Context(), queries)
	write(w, func(b []byte) []byte { return h.list(b, queries, known, gpc(r)) })
}

// consents answers for every declared purpose and all on record.
func (h *Handler) consents(w http.ResponseWriter, r *http.Request) {
	var faults faults
	v, ok := parameters(w, r)
	if !ok {
		return
	}
	for _, name := range []string{"at", "known_at"} {
		if v.Has(name) {
			faults.add("not_yet", name, "answers about the past are not offered by this version: leave it out for what holds now")
		}
	}
	q := h.query(v, []string{r.PathValue("subject")}, []string{string(consent.Root)}, &faults)
	after := parseWait(v, &faults)
	if faults.write(w) || !h.folded(w, r, after) {
		return
	}
	one := []query{q}
	known := h.look(r.Context(), one)
	purposes := h.config.Catalogue(q.tenant).AllPurposes(known[0].State)
	queries := make([]query, len(purposes))
	for i, p := range purposes {
		queries[i] = one[0]
		queries[i].purpose = p
	}
	write(w, func(b []byte) []byte { return h.list(b, queries, known, gpc(r)) })
}

// gpc reports whether the question came with a Global Privacy Control signal.
func gpc(r *http.Request) bool { return r.Header.Get("Sec-GPC") == "1" }

// look is step 3, for all queries of a request at once: each subject is looked up once, so
// that all that is answered about it is of one State. It notes in the queries where in
// its answer their subjects stand.
func (h *Handler) look(ctx context.Context, queries []query) []Known {
	var ids []consent.SubjectID
	var places map[consent.SubjectID]int
	if len(queries) > 1 {
		ids = make([]consent.SubjectID, 0, len(queries))
		places = make(map[consent.SubjectID]int, len(queries))
	}
	for i := range queries {
		q := &queries[i]
		q.at = make([]int, len(q.subjects))
		for j, subject := range q.subjects {
			id := consent.SubjectID{Tenant: q.tenant, Subject: subject, Test: q.test}
			place, ok := places[id]
			if !ok {
				place = len(ids)
				ids = append(ids, id)
				if places != nil {
					places[id] = place
				}
			}
			q.at[j] = place
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return h.config.States.States(ctx, ids)
}

// list appends {"decisions":[…]}.
func (h *Handler) list(b []byte, queries []query, known []Known, gpc bool) []byte {
	b = append(b, `{"decisions":[`...)
	for i := range queries {
		if i > 0 {
			b = append(b, ',')
		}
		b = h.decide(b, &queries[i], known, gpc)
	}
	return append(b, "]}\n"...)
}

// decide appends the answer to one query: steps 4 and 5.
func (h *Handler) decide(b []byte, q *query, known []Known, gpc bool) []byte {
	d, asOf := h.decision(q, known, gpc)
	h.metrics.count(&d)
	return appendDecision(b, q.subjects, &d, asOf)
}

// decision gives the decision, and when what it was made of was read.
func (h *Handler) decision(q *query, known []Known, gpc bool) (consent.Decision, consent.Instant) {
	now := consent.InstantOf(h.config.Now())
	at := now
	states := make([]*consent.State, len(q.at))
	for i, place := range q.at {
		k := &known[place]
		if !k.OK {
			return consent.Unavailable(q.purpose), now
		}
		s := k.State
		if s == nil { // with its name: whether it is a device may count
			s = &consent.State{Tenant: q.tenant, Subject: q.subjects[i], Test: q.test}
		}
		states[i] = s
		at = max(at, s.Whole.Clock)
	}
	asOf := at
	for i, place := range q.at {
		asOf = min(asOf, max(consent.InstantOf(known[place].AsOf), states[i].Whole.Clock))
	}
	d := consent.DecideTogether(states, h.config.Catalogue(q.tenant),
		consent.Query{Purpose: q.purpose, Jurisdiction: q.jurisdiction, At: at, GPC: gpc})
	for _, place := range q.at {
		if !known[place].Valid() {
			return consent.Unavailable(q.purpose), now
		}
	}
	return d, asOf
}

// folded is step 2. It answers itself, and gives false, when the time is up.
func (h *Handler) folded(w http.ResponseWriter, r *http.Request, after waiting) bool {
	if len(after.tokens) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(r.Context(), after.wait)
	defer cancel()
	if h.config.States.WaitFolded(ctx, after.tokens) != nil {
		h.metrics.notFolded.Inc()
		problem.Unavailable("not_folded", "what at_least names is not folded yet: ask again, or with a longer wait", time.Second).Write(w)
		return false
	}
	return true
}
