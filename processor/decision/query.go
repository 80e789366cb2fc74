package decision

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/problem"
	"github.com/assent-dev/assent/internal/token"
)

const (
	maxQueries   = 1000
	maxSubjects  = 32 // ids of one person in one query
	maxTokens    = 1000
	maxBodyBytes = 4 << 20
	maxFaults    = 20 // that one answer lists

	defaultWait = 2 * time.Second
	maxWait     = 30 * time.Second
)

// query is one question that can be answered.
type query struct {
	tenant       consent.Tenant
	subjects     []consent.Subject // one person's; at least one
	purpose      consent.Purpose
	jurisdiction consent.Jurisdiction
	test         bool
	at           []int // where the subjects stand in what is known; see Handler.look
}

// faults collects what is wrong with a request.
type faults struct {
	items []problem.Item
	more  int
}

func (f *faults) add(code, field, message string) {
	if len(f.items) == maxFaults {
		f.more++
		return
	}
	f.items = append(f.items, problem.Item{Code: code, Field: field, Message: message})
}

func (f *faults) malformed(field, message string) {
	f.add(string(consent.CodeMalformed), field, message)
}

// write answers 400 and gives true, if there is a fault.
func (f *faults) write(w http.ResponseWriter) bool {
	if len(f.items) == 0 {
		return false
	}
	p := problem.BadRequest(f.items[0].Field + ": " + f.items[0].Message)
	if f.more > 0 {
		p.Detail += fmt.Sprintf(" (%d further faults are not listed)", f.more)
	}
	p.Errors = f.items
	p.Write(w)
	return true
}

// parameters gives those of the address. It answers itself, and gives false, where they
// cannot all be read: a subject that is left out would be a decision without its refusals.
func parameters(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	v, err := problem.ParseQuery(r)
	if err != nil {
		problem.BadRequest(err.Error()).Write(w)
	}
	return v, err == nil
}

// query reads the parameters of a GET.
func (h *Handler) query(v url.Values, subjects, purposes []string, f *faults) query {
	w := queryWire{Tenant: v.Get("tenant"), Jurisdiction: v.Get("jurisdiction"), Subjects: subjects, Test: parseTest(v, f)}
	if len(purposes) > 1 {
		f.malformed("purpose", "name one purpose: POST /v1/decisions answers many queries at once")
	} else if len(purposes) == 1 {
		w.Purpose = purposes[0]
	}
	return h.check(&w, "", f)
}

func parseTest(v url.Values, f *faults) bool {
	text := v.Get("test")
	if text == "" {
		return false
	}
	test, err := strconv.ParseBool(text)
	if err != nil {
		f.malformed("test", "is true or false")
	}
	return test
}

// body is the JSON of a POST.
type body struct {
	Queries []queryWire `json:"queries"`
	AtLeast texts       `json:"at_least"`
	Wait    string      `json:"wait"`
}

type queryWire struct {
	Subject      string   `json:"subject"`
	Subjects     []string `json:"subjects"`
	Purpose      string   `json:"purpose"`
	Jurisdiction string   `json:"jurisdiction"`
	Tenant       string   `json:"tenant"`
	Test         bool     `json:"test"`
}

// texts is a text or an array of texts.
type texts []string

func (t *texts) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		if one != "" { // null too
			*t = texts{one}
		}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

// readBody reads a POST; if it gives false, it has answered.
func readBody(w http.ResponseWriter, r *http.Request) (b body, ok bool) {
	if text := r.Header.Get("Content-Type"); text != "" {
		if kind, _, err := mime.ParseMediaType(text); err != nil || kind != "application/json" {
			problem.MediaType("send application/json").Write(w)
			return b, false
		}
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&b)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("something follows the object")
		}
	}
	tooLarge := new(http.MaxBytesError)
	switch {
	case err == nil:
	case errors.As(err, &tooLarge):
		problem.TooLarge(fmt.Sprintf("a request has at most %d MiB: ask in several", maxBodyBytes>>20)).Write(w)
		return b, false
	default:
		problem.BadRequest(`the body is not {"queries":[{"subject":…,"purpose":…}]} in JSON: ` + describe(err)).Write(w)
		return b, false
	}
	return b, true
}

// describe says where JSON is wrong, without repeating what was sent.
func describe(err error) string {
	if e := new(json.SyntaxError); errors.As(err, &e) {
		return fmt.Sprintf("syntax error at byte %d", e.Offset)
	}
	if e := new(json.UnmarshalTypeError); errors.As(err, &e) && e.Field != "" {
		return fmt.Sprintf("%s cannot be a JSON %s", e.Field, kindOf(e.Value))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "it ends too early"
	}
	return "it has an unknown field, or a value of the wrong type; a query has subject or subjects, purpose, jurisdiction, tenant and test"
}

// kindOf keeps the kind of value that encoding/json names, and drops the value.
func kindOf(value string) string {
	for i := range len(value) {
		if value[i] == ' ' {
			return value[:i]
		}
	}
	return value
}

// queries reads the queries of a POST. Tenant and test of the URL are their defaults.
func (h *Handler) queries(b body, v url.Values, f *faults) []query {
	switch {
	case b.Queries == nil:
		f.malformed("queries", "is missing: an array of queries")
		return nil
	case len(b.Queries) > maxQueries:
		f.malformed("queries", fmt.Sprintf("has %d queries, at most %d: ask in several requests", len(b.Queries), maxQueries))
		return nil
	}
	tenant, test := v.Get("tenant"), parseTest(v, f)
	asked := make([]query, len(b.Queries))
	for i := range b.Queries {
		w := &b.Queries[i]
		if w.Tenant == "" {
			w.Tenant = tenant
		}
		w.Test = w.Test || test
		at := "queries[" + strconv.Itoa(i) + "]."
		if w.Subject != "" {
			if len(w.Subjects) > 0 {
				f.malformed(at+"subjects", "give subject or subjects, not both")
			}
			w.Subjects = []string{w.Subject}
		}
		asked[i] = h.check(w, at, f)
	}
	return asked
}

// check makes a query of what was sent, or notes every fault.
func (h *Handler) check(w *queryWire, at string, f *faults) query {
	q := query{tenant: consent.DefaultTenant, test: w.Test}
	var err error
	if w.Tenant != "" {
		if q.tenant, err = consent.ParseTenant(w.Tenant); err != nil {
			f.malformed(at+"tenant", err.Error())
		}
	}
	switch {
	case len(w.Subjects) == 0:
		f.malformed(at+"subject", "is missing: whose data is it?")
	case len(w.Subjects) > maxSubjects:
		f.malformed(at+"subject", fmt.Sprintf("%d are named, at most %d can be one person", len(w.Subjects), maxSubjects))
	}
	if len(w.Subjects) <= maxSubjects {
		q.subjects = make([]consent.Subject, len(w.Subjects))
		for i, raw := range w.Subjects {
			if raw == "" {
				f.malformed(at+"subject", "is empty")
			} else if q.subjects[i], err = h.config.Subject(raw); err != nil {
				f.malformed(at+"subject", err.Error())
			}
		}
	}
	if w.Purpose == "" {
		f.malformed(at+"purpose", "is missing: what is the data to be used for?")
	} else if q.purpose, err = consent.ParsePurpose(w.Purpose); err != nil {
		f.malformed(at+"purpose", err.Error())
	}
	// An unknown code counts as empty: the strictest that the purpose declares.
	q.jurisdiction, _ = consent.ParseJurisdiction(w.Jurisdiction)
	return q
}

// waiting is what has to be folded before the answer.
type waiting struct {
	tokens []Position
	wait   time.Duration
}

// parseWait reads at_least and wait from the URL.
func parseWait(v url.Values, f *faults) waiting {
	a := waiting{wait: defaultWait}
	a.add(v["at_least"], v.Get("wait"), f)
	return a
}

func (a *waiting) add(tokens []string, wait string, f *faults) {
	if len(tokens) > maxTokens {
		f.malformed("at_least", fmt.Sprintf("has %d tokens, at most %d", len(tokens), maxTokens))
		return
	}
	for _, t := range tokens {
		partition, offset, err := token.Decode(t)
		if err != nil {
			f.malformed("at_least", err.Error())
			continue
		}
		a.tokens = append(a.tokens, Position{Partition: partition, Offset: offset})
	}
	if wait == "" {
		return
	}
	d, err := time.ParseDuration(wait)
	if err != nil || d < 0 {
		f.malformed("wait", "is a duration such as 500ms or 2s")
		return
	}
	a.wait = min(d, maxWait)
}
