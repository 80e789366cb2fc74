package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/problem"
	"github.com/assent-dev/assent/producer/intake"
	"github.com/assent-dev/assent/schemas/jsonform"
)

const (
	maxEventBytes = 64 << 10
	maxBodyBytes  = 16 << 20
	// maxKeyBytes bounds an Idempotency-Key.
	maxKeyBytes = 255

	mediaJSON   = "application/json"
	mediaNDJSON = "application/x-ndjson"
)

var (
	eventTooLarge = problem.TooLarge("an event has at most 64 KiB; nothing was recorded of it")
	batchTooLarge = problem.TooLarge("a batch has at most 16 MiB: send it in parts; nothing was recorded of it")
)

// postEvents takes one event, or many. Source: interfaces.md, HTTP.
func (g *Gateway) postEvents(w http.ResponseWriter, r *http.Request) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || (media != mediaJSON && media != mediaNDJSON) {
		problem.MediaType("send one event or an array as application/json, or one event a line as application/x-ndjson").Write(w)
		return
	}
	key, p := idempotencyKey(r)
	if p != nil {
		p.Write(w)
		return
	}
	if media == mediaNDJSON {
		g.postMany(w, r, r.Body, key, false)
		return
	}
	body := bufio.NewReader(r.Body)
	switch first, err := firstByte(body); {
	case err != nil && !errors.Is(err, io.EOF):
		unreadable(err).Write(w)
	case first == '[':
		g.postMany(w, r, body, key, true)
	default:
		g.postOne(w, r, body, key)
	}
}

// postOne answers for one event alone.
func (g *Gateway) postOne(w http.ResponseWriter, r *http.Request, body io.Reader, key string) {
	raw, err := io.ReadAll(io.LimitReader(body, maxEventBytes+1))
	if err != nil {
		unreadable(err).Write(w)
		return
	}
	e := g.parse(raw, key)
	e.claims.GPC = gpc(r)
	entries := []*entry{e}
	g.take(r.Context(), entries, traceparent(r.Header.Get(traceparentKey)))
	if e.problem != nil {
		e.problem.Write(w)
		return
	}
	writeJSON(w, http.StatusAccepted, e.answer())
}

// take is the path of events that came together: decide, find room, write.
func (g *Gateway) take(ctx context.Context, entries []*entry, traceparent string) {
	g.accept(entries)
	wait, cancel := context.WithTimeout(ctx, g.config.ProduceTimeout)
	defer cancel()
	defer g.limits.admit(wait, entries)()
	g.write(ctx, entries, traceparent)
	g.count(entries)
}

// parse reads one event. name is the Idempotency-Key and what tells the events of
// a request apart; "" = there is no key.
func (g *Gateway) parse(raw []byte, name string) *entry {
	e := &entry{}
	if len(raw) > maxEventBytes {
		e.fail(eventTooLarge)
		return e
	}
	event, problems, err := parseEvent(raw)
	e.claims = intake.Claims{Event: event, Problems: problems, ReceivedAt: g.received()}
	if err != nil {
		e.fail(refusal(err))
	} else if name != "" {
		e.claims.IDName = []byte("idempotency-key\x00" + string(event.Tenant) + "\x00" + name)
	}
	return e
}

// parseEvent is jsonform.ParseEvent, but that a protective event is not refused
// for the form of its subject, purpose or tenant: it is read with stand-ins, and
// intake mends what was given.
func parseEvent(raw []byte) (consent.Event, []jsonform.Problem, error) {
	event, problems, err := jsonform.ParseEvent(raw)
	if err == nil {
		return event, problems, nil
	}
	if unusable := new(jsonform.Unusable); !errors.As(err, &unusable) || unusable.Field == "" {
		return event, problems, err
	}
	all, invalid := members(raw)
	if invalid != nil {
		return event, problems, err
	}
	standIns := map[string]string{"subject": "stand:in", "purpose": "stand-in", "tenant": "stand-in"}
	given := map[string]string{}
	var b bytes.Buffer
	for i, m := range all {
		var text string
		if standIn := standIns[m.name]; standIn != "" && json.Unmarshal(m.value, &text) == nil && strings.TrimSpace(text) != "" {
			given[m.name] = text
			m.value = quote(standIn)
		}
		b.WriteByte("{,"[min(i, 1)])
		writeMember(&b, m.name, m.value)
	}
	b.WriteByte('}')
	mended, problems, again := jsonform.ParseEvent(b.Bytes())
	if again != nil || !mended.Action.Protective() {
		return event, nil, err
	}
	mended.Subject, mended.Purpose, mended.Tenant = consent.Subject(given["subject"]), consent.Purpose(given["purpose"]), consent.Tenant(given["tenant"])
	return mended, problems, nil
}

// gpc reports whether the request came with a Global Privacy Control signal.
func gpc(r *http.Request) bool { return r.Header.Get("Sec-GPC") == "1" }

// idempotencyKey reads the header; "" = there is none.
func idempotencyKey(r *http.Request) (string, *problem.Problem) {
	key := r.Header.Get("Idempotency-Key")
	if len(key) > maxKeyBytes {
		p := problem.BadRequest(fmt.Sprintf("an Idempotency-Key has at most %d characters", maxKeyBytes))
		return "", &p
	}
	return key, nil
}

// keyPart tells apart the events of one request under its Idempotency-Key.
func keyPart(key, part string) string {
	if key == "" {
		return ""
	}
	return key + "\x00" + part
}

// firstByte gives the first byte that is no JSON blank, without taking it.
func firstByte(b *bufio.Reader) (byte, error) {
	for n := 0; n <= maxEventBytes; n++ {
		c, err := b.ReadByte()
		if err != nil {
			return 0, err
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return c, b.UnreadByte()
	}
	return 0, nil // blanks only, so far: too large for one event
}

// eachLine calls f for each line that is not blank.
func eachLine(body []byte, f func(raw []byte)) {
	for len(body) > 0 {
		line, rest, _ := bytes.Cut(body, []byte{'\n'})
		if line = bytes.TrimSpace(line); len(line) > 0 {
			f(line)
		}
		body = rest
	}
}

// eachElement calls f for each element of a JSON array that is known to be valid.
func eachElement(body []byte, f func(raw []byte)) {
	d := json.NewDecoder(bytes.NewReader(body))
	_, _ = d.Token() // [
	for d.More() {
		var raw json.RawMessage
		if d.Decode(&raw) != nil {
			return
		}
		f(raw)
	}
}

// unreadable tells what went wrong with a body.
func unreadable(err error) problem.Problem {
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		return batchTooLarge
	}
	return problem.BadRequest("the body could not be read to its end; nothing was recorded")
}

// traceparent gives a header of W3C Trace Context where it has that form.
func traceparent(t string) string {
	if len(t) != 55 {
		return ""
	}
	for i := range len(t) {
		c := t[i]
		if dash := i == 2 || i == 35 || i == 52; dash != (c == '-') || (!dash && (c < '0' || c > '9') && (c < 'a' || c > 'f')) {
			return ""
		}
	}
	return t
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot be: strings and numbers only
		panic(err)
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
