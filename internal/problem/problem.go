// Package problem writes errors of the HTTP interface as application/problem+json.
//
// Source: RFC 9457. Every error that a caller can do something about has a type
// of its own; its detail says what to do, and never repeats what was sent. [ParseQuery]
// is here for all who answer such errors.
package problem

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// ContentType is the media type of a problem.
const ContentType = "application/problem+json"

// Item is one fault within a problem, such as a broken rule.
type Item struct {
	Code    string `json:"code"`
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

// Problem is an error answer. Type is a name such as "invalid-grant"; it is
// sent as the URN urn:assent:problem:NAME.
type Problem struct {
	Type       string
	Title      string
	Status     int
	Detail     string
	Errors     []Item
	RetryAfter time.Duration // sent as Retry-After in whole seconds, at least 1
}

type wire struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Errors []Item `json:"errors,omitempty"`
}

// MarshalJSON gives the members of RFC 9457, and errors.
func (p Problem) MarshalJSON() ([]byte, error) {
	title := p.Title
	if title == "" {
		title = http.StatusText(p.Status)
	}
	return json.Marshal(wire{Type: "urn:assent:problem:" + p.Type, Title: title, Status: p.Status, Detail: p.Detail, Errors: p.Errors})
}

// Write sends the problem.
func (p Problem) Write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int((p.RetryAfter+time.Second-1)/time.Second))))
	}
	w.WriteHeader(p.Status)
	body, err := json.Marshal(p)
	if err != nil { // cannot be: strings and integers only
		return
	}
	_, _ = w.Write(append(body, '\n'))
}

// BadRequest is 400: the request itself cannot be understood.
func BadRequest(detail string) Problem {
	return Problem{Type: "bad-request", Status: http.StatusBadRequest, Detail: detail}
}

// TooLarge is 413.
func TooLarge(detail string) Problem {
	return Problem{Type: "too-large", Status: http.StatusRequestEntityTooLarge, Detail: detail}
}

// MediaType is 415.
func MediaType(detail string) Problem {
	return Problem{Type: "media-type", Status: http.StatusUnsupportedMediaType, Detail: detail}
}

// Unprocessable is 422 with every fault.
func Unprocessable(kind, detail string, errors []Item) Problem {
	return Problem{Type: kind, Status: http.StatusUnprocessableEntity, Detail: detail, Errors: errors}
}

// Unavailable is 503: nothing was accepted, the caller should try again.
func Unavailable(kind, detail string, retryAfter time.Duration) Problem {
	return Problem{Type: kind, Status: http.StatusServiceUnavailable, Detail: detail, RetryAfter: retryAfter}
}

var errQuery = errors.New("the query of the address cannot be read: write a % in a value as %25, a ; as %3B, and separate with &")

// ParseQuery reads the parameters of a request. A part that cannot be read is an error,
// a sentence for the caller: [url.URL.Query] would leave it out without a word, and the
// answer would be to another question.
func ParseQuery(r *http.Request) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errQuery
	}
	return values, nil
}
