package producer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// ClientConfig says where a gateway is. Only URL is needed.
type ClientConfig struct {
	// URL is the gateway's, such as http://127.0.0.1:8080.
	URL string
	// HTTP does the requests. Default: one that gives each 30 s.
	HTTP *http.Client
	// RetryFor is how long a call goes on trying while the gateway or its broker
	// is away or busy. The call's context may end it before. Default: 1 minute.
	RetryFor time.Duration
}

// Client sends consent events to a gateway over HTTP. It tries again what was
// not confirmed, each time with the same event id, so that a retry counts once.
// It may be used by any number of goroutines.
type Client struct {
	base     string
	http     *http.Client
	retryFor time.Duration
}

// NewClient makes a client. It does no I/O.
func NewClient(config ClientConfig) (*Client, error) {
	u, err := url.Parse(config.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("gateway URL: want one such as http://127.0.0.1:8080")
	}
	if config.HTTP == nil {
		config.HTTP = &http.Client{Timeout: 30 * time.Second}
	}
	if config.RetryFor <= 0 {
		config.RetryFor = time.Minute
	}
	return &Client{strings.TrimRight(config.URL, "/"), config.HTTP, config.RetryFor}, nil
}

// Receipt says that an event is recorded, and where.
type Receipt struct {
	EventID     consent.UUID
	ReceivedAt  consent.Instant
	EffectiveAt consent.Instant
	Topic       string
	Partition   int32
	Offset      int64
	// Token makes a decision wait until the event is folded: give it as at_least.
	Token string
	// Subject is the pseudonymous id that a raw identifier was kept as; "" where
	// the subject was kept as given.
	Subject  consent.Subject
	Warnings []consent.Warning
}

// Result is what became of one event of many. Err is nil when it is recorded;
// else a [*ResponseError], or what kept the gateway from answering.
type Result struct {
	Purpose consent.Purpose // in the results of a submission
	Receipt Receipt
	Err     error
}

// ResponseError is an answer by which nothing is recorded, or (503) nobody knows.
type ResponseError struct {
	Status int
	Type   string // such as urn:assent:problem:invalid-grant
	Detail string
	Faults consent.Faults // every broken rule, on 422
}

func (e *ResponseError) Error() string {
	s := fmt.Sprintf("gateway answers %d", e.Status)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if len(e.Faults) > 0 {
		s += ": " + e.Faults.Error()
	}
	return s
}

// Unwrap gives the broken rules.
func (e *ResponseError) Unwrap() error {
	if len(e.Faults) == 0 {
		return nil
	}
	return e.Faults
}

func (e *ResponseError) temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable ||
		e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout
}

// Send sends one event and returns when all in-sync replicas have it.
//
// An event without ID gets one; sent_at is stamped anew on each attempt. A
// protective event without OccurredAt is taken to be said now, so that each
// attempt says the same. Stamps are left out. A refusal is a [*ResponseError];
// errors.As finds its [consent.Faults].
func (c *Client) Send(ctx context.Context, e consent.Event) (Receipt, error) {
	prepare(&e)
	var receipt Receipt
	err := c.persist(ctx, func() (time.Duration, error) {
		e.SentAt = consent.InstantOf(time.Now())
		status, after, body, err := c.post(ctx, "/v1/events", mediaJSON, "", jsonform.AppendEvent(nil, &e))
		if err != nil {
			return 0, err
		}
		receipt, err = readResult(status, body)
		return after, err
	})
	if err != nil {
		return Receipt{}, fmt.Errorf("send event %s: %w", e.ID, err)
	}
	return receipt, nil
}

// What one request of SendMany holds at most; well under the gateway's 16 MiB.
const (
	requestEvents = 2000
	requestBytes  = 8 << 20
)

// SendMany sends events and gives a result for each, in their order. What was
// not confirmed is tried again, and nothing else. Each event is treated as by
// Send. The error is that of ctx, or nil.
func (c *Client) SendMany(ctx context.Context, events []consent.Event) ([]Result, error) {
	events = append([]consent.Event(nil), events...)
	results := make([]Result, len(events))
	pending := make([]int, len(events))
	for i := range events {
		prepare(&events[i])
		pending[i] = i
	}
	_ = c.persist(ctx, func() (time.Duration, error) {
		var after time.Duration
		for from := 0; from < len(pending); {
			n, wait := c.sendPart(ctx, events, pending[from:], results)
			from, after = from+n, max(after, wait)
		}
		var failed error
		still := pending[:0]
		for _, i := range pending {
			if err := results[i].Err; err != nil && temporary(err) {
				still, failed = append(still, i), err
			}
		}
		pending = still
		return after, failed
	})
	return results, ctx.Err()
}

// sendPart sends the first events of pending as one request, and says how many.
func (c *Client) sendPart(ctx context.Context, events []consent.Event, pending []int, results []Result) (n int, after time.Duration) {
	var body []byte
	now := consent.InstantOf(time.Now())
	for n < len(pending) && n < requestEvents && len(body) < requestBytes {
		e := &events[pending[n]]
		e.SentAt = now
		body = append(jsonform.AppendEvent(body, e), '\n')
		n++
	}
	status, after, answer, err := c.post(ctx, "/v1/events", mediaNDJSON, "", body)
	var many struct{ Results []json.RawMessage }
	if err == nil && status != http.StatusOK {
		_, err = readResult(status, answer)
	} else if err == nil {
		if err = json.Unmarshal(answer, &many); err == nil && len(many.Results) != n {
			err = fmt.Errorf("the answer has %d results for %d events", len(many.Results), n)
		}
	}
	for k, i := range pending[:n] {
		if err != nil {
			results[i] = Result{Err: err}
			continue
		}
		results[i] = readPart(many.Results[k])
	}
	return n, after
}

// prepare makes an event such that each attempt says the same.
func prepare(e *consent.Event) {
	e.Policy, e.Carried, e.ReceivedAt, e.EffectiveAt = nil, nil, 0, 0
	if e.ID.IsZero() {
		e.ID = consent.UUID(uuid.New())
	}
	if e.Action.Protective() && e.OccurredAt == 0 {
		e.OccurredAt = consent.InstantOf(time.Now())
	}
}

const (
	clientFirstPause   = 100 * time.Millisecond
	clientLongestPause = 10 * time.Second
	maxAnswerBytes     = 64 << 20
)

// persist repeats attempt while its error is temporary, with growing pauses of
// at least what the gateway asked for, until RetryFor has passed or ctx ends.
func (c *Client) persist(ctx context.Context, attempt func() (after time.Duration, err error)) error {
	deadline := time.Now().Add(c.retryFor)
	for pause := clientFirstPause; ; pause = min(2*pause, clientLongestPause) {
		after, err := attempt()
		if err == nil || !temporary(err) || ctx.Err() != nil {
			return err
		}
		wait := max(after, pause/2+rand.N(pause/2)) //nolint:gosec // spreads retries, protects nothing
		if time.Now().Add(wait).After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// temporary: the gateway said so, or it could not be reached at all.
func temporary(err error) bool {
	if answer := new(ResponseError); errors.As(err, &answer) {
		return answer.temporary()
	}
	var unreached *url.Error
	return errors.As(err, &unreached) || errors.Is(err, errCut)
}

var errCut = errors.New("the answer was cut off")

func (c *Client) post(ctx context.Context, path, media, key string, body []byte) (status int, after time.Duration, answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, 0, nil, err
	}
	r.Header.Set("Content-Type", media)
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return 0, 0, nil, err
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	if answer, err = io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes)); err != nil {
		return 0, 0, nil, fmt.Errorf("%w: %w", errCut, err)
	}
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && seconds > 0 {
		after = time.Duration(seconds) * time.Second
	}
	return response.StatusCode, after, answer, nil
}

// wireResult is a receipt or a problem: the two forms that an answer about one
// event has.
type wireResult struct {
	Status json.RawMessage `json:"status"` // "recorded", or the problem's number

	Purpose     string     `json:"purpose"`
	EventID     string     `json:"event_id"`
	ReceivedAt  string     `json:"received_at"`
	EffectiveAt string     `json:"effective_at"`
	Token       string     `json:"token"`
	Subject     string     `json:"subject"`
	Warnings    []wireItem `json:"warnings"`
	Position    struct {
		Topic     string `json:"topic"`
		Partition int32  `json:"partition"`
		Offset    int64  `json:"offset"`
	} `json:"position"`

	Type   string     `json:"type"`
	Detail string     `json:"detail"`
	Errors []wireItem `json:"errors"`
}

// wireItem is a broken rule or a warning.
type wireItem struct {
	Code    string `json:"code"`
	Field   string `json:"field"`
	Message string `json:"message"`
}

const (
	mediaJSON   = "application/json"
	mediaNDJSON = "application/x-ndjson"

	statusRecorded = "recorded"
)

// readPart reads one of many results.
func readPart(raw []byte) Result {
	var w wireResult
	if err := json.Unmarshal(raw, &w); err != nil {
		return Result{Err: fmt.Errorf("read a result: %w", err)}
	}
	r := Result{Purpose: consent.Purpose(w.Purpose)}
	if string(w.Status) == `"`+statusRecorded+`"` {
		r.Receipt, r.Err = w.receipt()
		return r
	}
	status, err := strconv.Atoi(string(w.Status))
	if err != nil {
		return Result{Err: errors.New("read a result: its status is neither recorded nor a number")}
	}
	r.Err = w.failure(status)
	return r
}

// readResult reads the answer about one event alone.
func readResult(status int, body []byte) (Receipt, error) {
	var w wireResult
	err := json.Unmarshal(body, &w)
	if status == http.StatusAccepted && err == nil {
		return w.receipt()
	}
	if status == http.StatusAccepted {
		return Receipt{}, fmt.Errorf("read the answer: %w", err)
	}
	return Receipt{}, w.failure(status) // a proxy's answer may have no problem in it
}

func (w *wireResult) failure(status int) error {
	e := &ResponseError{Status: status, Type: w.Type, Detail: w.Detail}
	for _, x := range w.Errors {
		e.Faults = append(e.Faults, consent.Fault{Code: consent.Code(x.Code), Field: x.Field, Message: x.Message})
	}
	return e
}

func (w *wireResult) receipt() (Receipt, error) {
	id, err := consent.ParseUUID(w.EventID)
	receivedAt, err1 := consent.ParseInstant(w.ReceivedAt)
	effectiveAt, err2 := consent.ParseInstant(w.EffectiveAt)
	if err = errors.Join(err, err1, err2); err != nil {
		return Receipt{}, fmt.Errorf("read the answer: %w", err)
	}
	r := Receipt{
		EventID: id, ReceivedAt: receivedAt, EffectiveAt: effectiveAt,
		Topic: w.Position.Topic, Partition: w.Position.Partition, Offset: w.Position.Offset,
		Token: w.Token, Subject: consent.Subject(w.Subject),
	}
	for _, x := range w.Warnings {
		r.Warnings = append(r.Warnings, consent.Warning{Code: consent.WarningCode(x.Code), Field: x.Field, Message: x.Message})
	}
	return r, nil
}
