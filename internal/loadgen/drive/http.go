package drive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/loadgen"
)

// HTTP sends to a gateway: POST /v1/events, one event or NDJSON, and POST
// /v1/submissions. It sends the bytes of a claim as they are, wrong ones too,
// which a client library would not.
type HTTP struct {
	base     string
	client   *http.Client
	patience *Patience
}

const (
	requestTimeout = 30 * time.Second
	maxAnswerBytes = 64 << 20

	mediaJSON   = "application/json"
	mediaNDJSON = "application/x-ndjson"
)

// NewHTTP makes a sender for a gateway's address, such as
// http://127.0.0.1:8080, with so many connections at most. It does no I/O.
func NewHTTP(base string, connections int, log *slog.Logger) (*HTTP, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("target: want an address such as http://127.0.0.1:8080")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = connections, connections
	return &HTTP{
		base:     strings.TrimRight(base, "/"),
		client:   &http.Client{Timeout: requestTimeout, Transport: transport},
		patience: NewPatience(log),
	}, nil
}

// Retries tells how many requests repeated another.
func (h *HTTP) Retries() int64 { return h.patience.Retries() }

// Close ends idle connections.
func (h *HTTP) Close() { h.client.CloseIdleConnections() }

// Send carries a parcel.
func (h *HTTP) Send(ctx context.Context, p *Parcel) ([]Answer, error) {
	answers := make([]Answer, len(p.Act.Claims))
	switch p.Act.Form {
	case loadgen.AsSubmission:
		return answers, h.patience.Persist(ctx, func() error { return h.submit(ctx, p, answers) })
	case loadgen.AsBatch:
		return answers, h.patience.Persist(ctx, func() error { return h.batch(ctx, p, answers) })
	}
	for i := range answers {
		if err := h.patience.Persist(ctx, func() error { return h.event(ctx, p, i, answers) }); err != nil {
			return answers, err
		}
	}
	return answers, nil
}

// event posts one event.
func (h *HTTP) event(ctx context.Context, p *Parcel, i int, answers []Answer) error {
	c := p.claim(i)
	header := http.Header{"Content-Type": {mediaJSON}}
	if c.GPC {
		header.Set("Sec-GPC", "1")
	}
	status, after, body, err := h.post(ctx, "/v1/events", header, c.AppendJSON(nil))
	if err != nil {
		return err
	}
	var w wireResult
	if err := json.Unmarshal(body, &w); err != nil && status == http.StatusAccepted {
		return fmt.Errorf("the answer to an event is no JSON: %w", err)
	}
	answers[i] = w.answer(status)
	return later(answers[i:i+1], after)
}

// batch posts the events that have no answer yet, one a line.
func (h *HTTP) batch(ctx context.Context, p *Parcel, answers []Answer) error {
	var body []byte
	var open []int
	for i := range answers {
		if !answers[i].Done {
			c := p.claim(i)
			body, open = append(c.AppendJSON(body), '\n'), append(open, i)
		}
	}
	status, after, text, err := h.post(ctx, "/v1/events", http.Header{"Content-Type": {mediaNDJSON}}, body)
	if err != nil {
		return err
	}
	return spread(status, after, text, open, answers)
}

// submit posts one act over several purposes; its key makes a repetition count once.
func (h *HTTP) submit(ctx context.Context, p *Parcel, answers []Answer) error {
	act := p.Act
	act.Claims = append([]loadgen.Claim(nil), act.Claims...)
	act.Claims[0] = p.claim(0)
	header := http.Header{"Content-Type": {mediaJSON}, "Idempotency-Key": {act.Key}}
	status, after, text, err := h.post(ctx, "/v1/submissions", header, act.AppendSubmission(nil))
	if err != nil {
		return err
	}
	open := make([]int, len(answers))
	for i := range open {
		open[i] = i
	}
	return spread(status, after, text, open, answers)
}

// spread gives the results of many to the events that they are of.
func spread(status int, after time.Duration, text []byte, of []int, answers []Answer) error {
	if status != http.StatusOK {
		var w wireResult
		_ = json.Unmarshal(text, &w) // a proxy's answer has no problem in it
		all := []Answer{w.answer(status)}
		if err := later(all, after); err != nil {
			return err
		}
		for _, i := range of {
			answers[i] = all[0]
		}
		return nil
	}
	var many struct {
		Results []wireResult `json:"results"`
	}
	if err := json.Unmarshal(text, &many); err != nil {
		return &LaterError{Err: errCutOff}
	}
	if len(many.Results) != len(of) {
		return fmt.Errorf("the answer has %d results for %d events", len(many.Results), len(of))
	}
	for k, i := range of {
		w := &many.Results[k]
		answers[i] = w.answer(w.status())
	}
	return later(answers, after)
}

var errCutOff = errors.New("the answer broke off")

// later gives the error of answers by which nothing is decided yet.
func later(answers []Answer, after time.Duration) error {
	var e *LaterError
	for i := range answers {
		a := &answers[i]
		switch a.Status {
		case http.StatusTooManyRequests:
			e = &LaterError{Busy: e == nil || e.Busy, After: after, Err: errors.New("the gateway is busy (429)")}
		case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
			e = &LaterError{After: after, Err: fmt.Errorf("the gateway answers %d: its broker may be away", a.Status)}
		default:
			continue
		}
		*a = Answer{}
	}
	if e == nil {
		return nil
	}
	return e
}

// post sends one request. That nobody answers is a [*LaterError].
func (h *HTTP) post(ctx context.Context, path string, header http.Header, body []byte) (status int, after time.Duration, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, 0, nil, err
	}
	r.Header = header
	response, err := h.client.Do(r)
	if err != nil {
		return 0, 0, nil, &LaterError{Err: err}
	}
	defer response.Body.Close()
	if answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes)); err != nil {
		return 0, 0, nil, &LaterError{Err: errCutOff}
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		after = time.Duration(seconds) * time.Second
	}
	return response.StatusCode, after, answer, nil
}

// wireResult is a receipt or a problem: the forms of an answer about one event.
type wireResult struct {
	Status      json.RawMessage `json:"status"` // "recorded", or the problem's number
	EventID     string          `json:"event_id"`
	ReceivedAt  string          `json:"received_at"`
	EffectiveAt string          `json:"effective_at"`
	Subject     string          `json:"subject"`
	Token       string          `json:"token"`
	Position    struct {
		Partition int32 `json:"partition"`
		Offset    int64 `json:"offset"`
	} `json:"position"`
	Warnings []wireItem `json:"warnings"`
	Errors   []wireItem `json:"errors"`
}

type wireItem struct {
	Code string `json:"code"`
}

// status is that of a result among many.
func (w *wireResult) status() int {
	if string(w.Status) == `"recorded"` {
		return http.StatusAccepted
	}
	n, _ := strconv.Atoi(string(w.Status)) // 0 is no answer that is expected
	return n
}

func (w *wireResult) answer(status int) Answer {
	a := Answer{Done: true, Status: status}
	for _, x := range w.Errors {
		a.Codes = append(a.Codes, consent.Code(x.Code))
	}
	for _, x := range w.Warnings {
		a.Warned = append(a.Warned, consent.WarningCode(x.Code))
	}
	if status != http.StatusAccepted {
		return a
	}
	a.EventID, _ = consent.ParseUUID(w.EventID) // a receipt that says nonsense shows in the comparison
	a.ReceivedAt, _ = consent.ParseInstant(w.ReceivedAt)
	a.EffectiveAt, _ = consent.ParseInstant(w.EffectiveAt)
	a.Subject, a.Token = consent.Subject(w.Subject), w.Token
	a.Partition, a.Offset = w.Position.Partition, w.Position.Offset
	return a
}
