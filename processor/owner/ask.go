package owner

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/processor/decision"
)

const (
	statesPath = "/internal/v1/states"
	foldedPath = "/internal/v1/folded"

	// secretHeader carries the secret that peers share.
	secretHeader = "Assent-Peer-Secret" //nolint:gosec // a name

	idleConnTimeout  = 90 * time.Second
	maxPeerHeadBytes = 16 << 10
)

// newClient makes a client that asks peers and nobody else: no proxy, no redirect.
func (r *Router) newClient(connections int) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: r.lease.toGet()}).DialContext,
			TLSClientConfig:        r.config.TLS,
			TLSHandshakeTimeout:    r.lease.toGet(),
			MaxConnsPerHost:        connections, // one request each: more wait for their turn
			MaxIdleConnsPerHost:    connections,
			IdleConnTimeout:        idleConnTimeout,
			MaxResponseHeaderBytes: maxPeerHeadBytes,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask is one request for States: to one owner, for some of the missing.
type ask struct {
	record Record
	ids    []consent.SubjectID // of open, in its order
	open   []*missing
}

// fail notes a cause for the missing from one on.
func (a *ask) fail(from int, c cause) {
	for _, m := range a.open[from:] {
		m.cause = c
	}
}

// askStates sends one request, and fills in what the answer knows.
func (r *Router) askStates(ctx context.Context, a *ask, known []decision.Known) {
	sent := time.Now() // the owner's check comes after this: see [Config.lease]
	defer func() { r.metrics.peer.Observe(time.Since(sent).Seconds()) }()
	body, c := r.send(ctx, r.states, a.record, statesPath, &request{patience: untilDeadline(ctx), ids: a.ids})
	if c != answered {
		a.fail(0, c)
		return
	}
	defer func() { _ = body.Close() }()
	in := newReader(io.LimitReader(body, maxAnswerBytes))
	defer in.release()
	in.version()
	slack := time.Duration(in.number("slack", maxPatienceMillis)) * time.Millisecond
	valid := r.validUntil(sent.Add(lease{min(slack, r.lease.slack)}.toUse()))
	for i, m := range a.open {
		f, c := in.entry(a.ids[i])
		if in.err != nil {
			a.fail(i, r.brokenAnswer(ctx, a.record, in.err))
			return
		}
		if m.cause = c; c == answered {
			f.Valid = valid
			known[m.index] = decision.Known{Folded: f, OK: true}
		}
	}
	in.end() // reads to the end: the connection can be used again
}

// validUntil gives the Valid of an answer: until some time, by the clock that is never set.
func (r *Router) validUntil(end time.Time) func() bool {
	return func() bool {
		if time.Now().Before(end) {
			return true
		}
		r.metrics.unavailable[causeStale].Inc()
		return false
	}
}

// brokenAnswer says why an answer ended early.
func (r *Router) brokenAnswer(ctx context.Context, record Record, err error) cause {
	switch {
	case ctx.Err() != nil:
		return causeLate
	case errors.Is(err, io.ErrUnexpectedEOF):
		return causeUnreached
	}
	r.config.Logger.Error("a peer's answer cannot be read; are its version and ours too far apart?", "peer", record.Address, "error", err)
	return causeMalformed
}

// askFolded asks an owner to wait for positions, for a while, and gives those that it
// has folded.
func (r *Router) askFolded(ctx context.Context, record Record, after []decision.Position) []decision.Position {
	ctx, cancel := context.WithTimeout(ctx, waitSlice+r.lease.toGet())
	defer cancel()
	body, c := r.send(ctx, r.waits, record, foldedPath, &request{patience: min(waitSlice, untilDeadline(ctx)), after: after})
	if c != answered {
		return nil
	}
	defer func() { _ = body.Close() }()
	in := newReader(io.LimitReader(body, maxItems+16))
	defer in.release()
	in.version()
	var folded []decision.Position
	for _, p := range after {
		if in.byte() == foldedYes && in.err == nil {
			folded = append(folded, p)
		}
	}
	in.end()
	return folded
}

// send posts a request to an owner. The body of its answer is the caller's to close.
func (r *Router) send(ctx context.Context, client *http.Client, to Record, path string, q *request) (io.ReadCloser, cause) {
	q.instance = to.Instance
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.Address+path, bytes.NewReader(q.appendTo(nil)))
	if err != nil { // cannot be: the record's address was checked
		return nil, causeNoAddress
	}
	req.Header.Set("Content-Type", contentType)
	// Not sent. It tells the transport that to ask again is fine: a connection that was
	// idle may have been closed by the peer just now.
	req.Header["Idempotency-Key"] = nil
	if r.config.Secret != "" {
		req.Header.Set(secretHeader, r.config.Secret)
	}
	resp, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, causeLate
		}
		return nil, causeUnreached
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, answered
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // the connection can be used again
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusMisdirectedRequest:
		return nil, causeNotOwner // another instance listens at the address
	case http.StatusServiceUnavailable:
		return nil, causeLate
	}
	if _, told := r.warned.LoadOrStore(to.Address, true); !told {
		r.config.Logger.Error("a peer refuses our requests: have all processors of the installation the same secret?", "peer", to.Address, "status", resp.StatusCode)
	}
	return nil, causeRefused
}

// untilDeadline is the time that ctx leaves.
func untilDeadline(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return waitSlice
	}
	return time.Until(deadline)
}
