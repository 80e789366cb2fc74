package decision

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"

	"github.com/assent-dev/assent/consent"
)

// buffers are for answers; one that grew very large is left to the collector.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

const maxPooledBytes = 1 << 20

// write sends what appendTo appends, as JSON that nobody may keep.
func write(w http.ResponseWriter, appendTo func([]byte) []byte) {
	p := buffers.Get().(*[]byte)
	b := appendTo((*p)[:0])
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b) // the client may be gone; there is nobody to tell
	if cap(b) <= maxPooledBytes {
		*p = b
		buffers.Put(p)
	}
}

// appendDecision appends a decision as JSON, flat. What does not apply is absent.
//
//	{"subject":"user:42","purpose":"marketing.email","allowed":true,"status":"granted","reason":"explicit",
//	 "legal_basis":"consent","since":"…","expires_at":"…",
//	 "decided_by":{"event_id":"…","purpose":"marketing.email","effective_at":"…"},
//	 "model":"opt_in","jurisdiction":"DE","notice":{"id":"…","version":"3"},
//	 "policy_version":"…","version":1,"as_of":"…"}
//
// subjects has more than one where the query named several ids of one person: then
// "subject" is the first and "subjects" lists all.
func appendDecision(b []byte, subjects []consent.Subject, d *consent.Decision, asOf consent.Instant) []byte {
	b = append(b, `{"subject":"`...) // its alphabet needs no escape
	b = append(b, subjects[0]...)
	b = append(b, '"')
	if len(subjects) > 1 {
		b = append(b, `,"subjects":["`...)
		for i, s := range subjects {
			if i > 0 {
				b = append(b, `","`...)
			}
			b = append(b, s...)
		}
		b = append(b, `"]`...)
	}
	b = appendWord(b, "purpose", string(d.Purpose))
	b = append(b, `,"allowed":`...)
	b = strconv.AppendBool(b, d.Allowed)
	if d.Status != consent.StatusUnknown {
		b = appendWord(b, "status", d.Status.String())
	}
	b = appendWord(b, "reason", string(d.Reason))
	if d.LegalBasis != consent.BasisUnknown {
		b = appendWord(b, "legal_basis", d.LegalBasis.String())
	}
	b = appendWord(b, "since", d.Since.String())
	b = appendWord(b, "expires_at", d.ExpiresAt.String())
	if by := d.DecidedBy; by != nil {
		b = append(b, `,"decided_by":{"event_id":"`...)
		b = append(b, by.EventID.String()...)
		b = append(b, '"')
		b = appendWord(b, "purpose", string(by.Purpose))
		b = appendWord(b, "effective_at", by.EffectiveAt.String())
		b = append(b, '}')
	}
	if d.Model != consent.ModelUnknown && d.Reason != consent.ReasonBasis {
		b = appendWord(b, "model", d.Model.String())
		b = appendWord(b, "jurisdiction", string(d.Jurisdiction))
	}
	if d.NoticeID != "" || d.NoticeVersion != "" {
		b = append(b, `,"notice":{"id":`...)
		b = appendText(b, d.NoticeID)
		b = append(b, `,"version":`...)
		b = appendText(b, d.NoticeVersion)
		b = append(b, '}')
	}
	if d.PolicyVersion != "" {
		b = append(b, `,"policy_version":`...)
		b = appendText(b, d.PolicyVersion)
	}
	if d.Version > 0 {
		b = append(b, `,"version":`...)
		b = strconv.AppendInt(b, d.Version, 10)
	}
	b = appendWord(b, "as_of", asOf.String())
	return append(b, '}')
}

// appendWord appends ,"name":"word" for a word that needs no escape; nothing for
// an empty one.
func appendWord(b []byte, name, word string) []byte {
	if word == "" {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	b = append(b, word...)
	return append(b, '"')
}

// appendText appends any text as a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // cannot be: a string always marshals
				quoted = []byte(`""`)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
