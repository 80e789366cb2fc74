package fanout

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/assent-dev/assent/schemas"
)

// answer is what came of one request to an endpoint.
type answer struct {
	status     int // 0 = none came
	body       []byte
	retryAfter time.Duration
	err        error
}

// verdict is what an answer means for the change, and for the lane.
type verdict struct {
	kind    verdictKind
	outcome schemas.Outcome
	reason  string // class of the fault, never a body
	wait    time.Duration
}

type verdictKind uint8

const (
	// taken: the downstream has the change.
	taken verdictKind = iota
	// refused: it says that this very change cannot be taken, or was taken and
	// could not be obeyed. After the configured attempts it is a dead letter.
	refused
	// wrongEndpoint: nothing is wrong with the change, something is with the
	// endpoint. The lane pauses; nothing is lost.
	wrongEndpoint
	// busy: the endpoint asks for time. The lane waits as long.
	busy
	// away: no usable answer. Tried again, with more and more time between.
	away
)

// classify decides what an answer means; it is the only place that does.
// Source: interfaces.md, Webhooks.
func classify(a answer) verdict {
	switch s := a.status; {
	case a.err != nil:
		return verdict{kind: away, outcome: schemas.Retrying, reason: errorClass(a.err)}
	case s >= 200 && s < 300:
		if outcome := acknowledged(a.body); outcome != schemas.Failed {
			return verdict{kind: taken, outcome: outcome}
		}
		// Failed is an acknowledgement, and no end: each delivery ends with a
		// downstream that obeys, or as a dead letter with an alert.
		// Source: guarantees.md, No withdrawal disappears quietly.
		return verdict{kind: refused, outcome: schemas.Failed, reason: "failed"}
	case s == http.StatusBadRequest, s == http.StatusRequestEntityTooLarge, s == http.StatusUnprocessableEntity:
		return verdict{kind: refused, outcome: schemas.Retrying, reason: "rejected_" + strconv.Itoa(s)}
	case s == http.StatusUnauthorized, s == http.StatusForbidden, s == http.StatusNotFound,
		s == http.StatusMethodNotAllowed, s == http.StatusGone:
		return verdict{kind: wrongEndpoint, outcome: schemas.Paused, reason: "endpoint_" + strconv.Itoa(s)}
	case s >= 300 && s < 400:
		// Not followed: a redirect could lead anywhere, and the declared address
		// is the one that was checked.
		return verdict{kind: wrongEndpoint, outcome: schemas.Paused, reason: "redirect_" + strconv.Itoa(s)}
	case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable:
		return verdict{kind: busy, outcome: schemas.Retrying, reason: "busy_" + strconv.Itoa(s), wait: a.retryAfter}
	default:
		// 5xx; and what no rule names (408, 425, …): trying again harms nobody,
		// giving up would.
		return verdict{kind: away, outcome: schemas.Retrying, reason: "status_" + strconv.Itoa(s)}
	}
}

// acknowledged reads a 2xx body: a status in it acknowledges at once.
func acknowledged(body []byte) schemas.Outcome {
	var said struct {
		Status string `json:"status"`
	}
	if len(body) == 0 || json.Unmarshal(body, &said) != nil {
		return schemas.Delivered
	}
	switch said.Status {
	case "applied":
		return schemas.Applied
	case "in_progress":
		return schemas.InProgress
	case "failed":
		return schemas.Failed
	}
	return schemas.Delivered
}

// errorClass names the kind of a transport error. Its text is not kept: it can
// hold the URL with what is secret in it.
func errorClass(err error) string {
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, errPrivateAddress):
		return "private_address"
	case errors.As(err, &dns):
		return "dns"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case strings.Contains(err.Error(), "tls:") || strings.Contains(err.Error(), "x509:"):
		return "tls"
	}
	return "connection"
}

// parseRetryAfter reads seconds or an HTTP date; 0 when there is none.
func parseRetryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return min(at.Sub(now), maxRetryAfter)
	}
	return 0
}

// maxRetryAfter bounds what an endpoint may ask for: a withdrawal must not wait
// for weeks because of a slip in a header.
const maxRetryAfter = time.Hour
