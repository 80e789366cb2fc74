package loadgen

import (
	"net/http"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// Claim is one event as its channel sends it, and what must become of it.
type Claim struct {
	// Event has no stamps. Where Raw is set it is what a reader would make of
	// Raw, as far as an event can say it.
	Event consent.Event
	// Raw is the JSON to send where Event cannot say it (a misspelt field, a text
	// that breaks off); nil = Event's.
	Raw []byte
	// GPC: the browser sends Sec-GPC: 1 with it.
	GPC bool
	// Again: it was sent before, with the same id and another sent_at.
	Again  bool
	Expect Expect
	// Household tells whose it is; see [Generator.Household].
	Household int
}

// Expect is what POST /v1/events must answer to the event alone.
type Expect struct {
	Status  int                 // 202, 400, 413 or 422
	Code    consent.Code        // refused: among the broken rules; "" where there is none
	Warning consent.WarningCode // accepted: among the warnings; "" where none is certain
}

// Accepted tells whether the event must be recorded.
func (x Expect) Accepted() bool { return x.Status == http.StatusAccepted }

var recorded = Expect{Status: http.StatusAccepted}

func refusedBy(code consent.Code) Expect {
	return Expect{Status: http.StatusUnprocessableEntity, Code: code}
}

// AppendJSON appends the event as it is posted; it has no line end in it.
func (c *Claim) AppendJSON(dst []byte) []byte {
	if c.Raw != nil {
		return append(dst, c.Raw...)
	}
	return jsonform.AppendEvent(dst, &c.Event)
}

// Form is how a channel sends an act.
type Form uint8

// The forms.
const (
	AsEvents     Form = iota // each event on its own
	AsSubmission             // one act over several purposes: POST /v1/submissions
	AsBatch                  // all events at once, one a line
)

// Act is what a channel sends at once. Its claims are not changed later.
type Act struct {
	Kind   Kind
	Form   Form
	Claims []Claim
	// Key is the Idempotency-Key of a submission.
	Key string

	made consent.Instant // by the gateway's clock
}

// AppendSubmission appends the act as the body of POST /v1/submissions. Only an
// act of that form can be told so: what its claims have in common is taken from
// the first.
func (a *Act) AppendSubmission(dst []byte) []byte {
	common := a.Claims[0].Event
	common.ID, common.Purpose, common.Action, common.Notice = consent.UUID{}, "", consent.ActionUnknown, consent.Notice{}
	dst = jsonform.AppendEvent(dst, &common)
	dst = append(dst[:len(dst)-1], `,"choices":{`...)
	for i := range a.Claims {
		e := &a.Claims[i].Event
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), e.Purpose...), `":{"granted":`...) // a path needs no escape
		if e.Action == consent.Grant {
			dst = append(dst, "true"...)
		} else {
			dst = append(dst, "false"...)
		}
		if e.Notice != (consent.Notice{}) {
			from := len(dst)
			dst = jsonform.AppendEvent(dst, &consent.Event{Notice: e.Notice})
			dst[from] = ','
			dst = dst[:len(dst)-1]
		}
		dst = append(dst, '}')
	}
	return append(dst, "}}"...)
}
