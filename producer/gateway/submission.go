package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/google/uuid"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/problem"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// member is one name and value of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// postSubmission takes one act over several purposes: an event for each choice,
// all with the same interaction_id. Source: interfaces.md, HTTP.
func (g *Gateway) postSubmission(w http.ResponseWriter, r *http.Request) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != mediaJSON {
		problem.MediaType("send a submission as application/json").Write(w)
		return
	}
	key, p := idempotencyKey(r)
	if p != nil {
		p.Write(w)
		return
	}
	raw, err := io.ReadAll(io.LimitReader(r.Body, maxEventBytes+1))
	if err != nil {
		unreadable(err).Write(w)
		return
	}
	if len(raw) > maxEventBytes {
		problem.TooLarge("a submission has at most 64 KiB; nothing was recorded").Write(w)
		return
	}
	entries, p := g.parseSubmission(raw, key)
	if p != nil {
		p.Write(w)
		return
	}
	interaction := g.nameInteraction(entries, key)
	g.take(r.Context(), entries, traceparent(r.Header.Get(traceparentKey)))
	answerSubmission(w, entries, interaction)
}

func answerSubmission(w http.ResponseWriter, entries []*entry, interaction consent.UUID) {
	answer := struct {
		InteractionID string `json:"interaction_id"`
		Accepted      int    `json:"accepted"`
		Rejected      int    `json:"rejected"`
		Results       []any  `json:"results"`
	}{InteractionID: interaction.String(), Results: make([]any, 0, len(entries))}
	var away *problem.Problem
	for _, e := range entries {
		if e.problem == nil {
			answer.Accepted++
			answer.Results = append(answer.Results, e.answer())
			continue
		}
		answer.Rejected++
		answer.Results = append(answer.Results, refusedChoice{e.purpose, e.problem})
		if e.problem.RetryAfter > 0 {
			away = e.problem
		}
	}
	if answer.Accepted == 0 && away != nil { // nothing was recorded, and it is worth trying again
		away.Write(w)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// refusedChoice is a problem that also names the choice.
type refusedChoice struct {
	purpose string
	problem *problem.Problem
}

func (c refusedChoice) MarshalJSON() ([]byte, error) {
	purpose, err := json.Marshal(c.purpose)
	if err != nil {
		return nil, err
	}
	rest, err := json.Marshal(c.problem)
	if err != nil {
		return nil, err
	}
	return append([]byte(`{"purpose":`+string(purpose)+`,`), rest[1:]...), nil
}

// maxSharedBytes bounds what the choices of a submission have in common, written out for
// each of them: a body of 64 KiB could become more than a thousand times as much.
const maxSharedBytes = 4 << 20

var (
	noObject       = problem.BadRequest("the submission does not parse as a JSON object")
	noChoice       = problem.BadRequest(`name at least one choice, such as "choices": {"analytics": true, "ads.personalisation": false}`)
	tooManyChoices = problem.TooLarge("what is said for all choices, such as notice and evidence, is too long to be recorded with each of so many: send fewer choices per request, or less with them; nothing was recorded")
)

// parseSubmission makes an entry for each choice. Each is put together as the
// JSON of one event and read as such, so that a choice means what the event
// alone would mean. Choices that come twice are all taken, in one object or in two: of
// those that contradict each other the fold takes the refusal.
func (g *Gateway) parseSubmission(raw []byte, key string) ([]*entry, *problem.Problem) {
	outer, err := members(raw)
	if err != nil {
		return nil, &noObject
	}
	var choices []member
	var ignored []jsonform.Problem
	var common []member
	shared := 0
	for _, m := range outer {
		switch m.name {
		case "choices":
			more, err := members(m.value)
			if err != nil {
				return nil, &noChoice
			}
			choices = append(choices, more...)
		case "purpose", "action", "event_id":
			ignored = append(ignored, jsonform.Problem{Field: m.name, Kind: jsonform.UnknownField, Message: "a submission has none: each choice makes its own"})
		default:
			common = append(common, m)
			shared += len(m.name) + len(m.value)
		}
	}
	if len(choices)*shared > maxSharedBytes {
		return nil, &tooManyChoices
	}
	var entries []*entry
	for _, c := range choices {
		if string(c.value) == "null" { // absent
			continue
		}
		event, problems, ok := choiceEvent(common, c)
		e := &entry{}
		if ok {
			e = g.parse(event, keyPart(key, c.name))
			e.claims.Problems = append(append(e.claims.Problems, problems...), ignored...)
		} else {
			e.fail(problem.BadRequest("a choice is true, false, or an object with granted"))
		}
		e.purpose = c.name
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil, &noChoice
	}
	return entries, nil
}

// choiceEvent writes the event of a choice: what is said for the whole
// submission, and over it the choice's own notice and evidence. Other members of
// a choice go along, so that they are told as for an event.
func choiceEvent(common []member, c member) (event []byte, problems []jsonform.Problem, ok bool) {
	said, own := []member{{"granted", c.value}}, []member(nil)
	if v := string(c.value); v != "true" && v != "false" {
		all, err := members(c.value)
		if err != nil {
			return nil, nil, false
		}
		said, own = apart(all, "granted")
	}
	granted, ok := answered(said)
	if !ok {
		return nil, nil, false
	}
	if len(said) > 1 {
		problems = append(problems, jsonform.Problem{Field: "choices.granted", Kind: jsonform.BadValue, Message: "given twice: say it once; false counts where it is among them"})
	}
	action := consent.Refuse
	if granted {
		action = consent.Grant
	}
	named := map[string]bool{"purpose": true, "action": true}
	for _, m := range own {
		if m.name == "notice" || m.name == "evidence" {
			named[m.name] = true
		}
	}
	var b bytes.Buffer
	b.WriteString(`{"action":"` + action.String() + `","purpose":`)
	b.Write(quote(c.name))
	for _, m := range common {
		if !named[m.name] {
			b.WriteByte(',')
			writeMember(&b, m.name, m.value)
		}
	}
	for _, m := range own {
		name := m.name
		if name != "notice" && name != "evidence" {
			name = "choices." + name // no event has such a field: it is told as unknown
		}
		b.WriteByte(',')
		writeMember(&b, name, m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), problems, true
}

// apart gives the members of a name, and the others.
func apart(all []member, name string) (named, others []member) {
	for _, m := range all {
		if m.name == name {
			named = append(named, m)
		} else {
			others = append(others, m)
		}
	}
	return named, others
}

// answered gives the yes or no that was said. Whatever stands beside a no, it is not lost.
func answered(said []member) (granted, ok bool) {
	formless := false
	for _, m := range said {
		switch string(m.value) {
		case "false":
			return false, true
		case "true":
			granted = true
		default:
			formless = true
		}
	}
	return granted, granted && !formless
}

func writeMember(b *bytes.Buffer, name string, value []byte) {
	b.Write(quote(name))
	b.WriteByte(':')
	b.Write(value)
}

func quote(s string) []byte {
	q, _ := json.Marshal(s) // a string always can
	return q
}

// members reads a JSON object, in its order.
func members(raw []byte) ([]member, error) {
	if !json.Valid(raw) {
		return nil, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	var all []member
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		all = append(all, member{name.(string), value})
	}
	return all, nil
}

// nameInteraction gives the events of a submission their common id: the one that
// the sender gave, else one that a repetition gets again (from the key, or from
// the claims where they hold a time), else a fresh one.
func (g *Gateway) nameInteraction(entries []*entry, key string) consent.UUID {
	var id consent.UUID
	claims := []byte("interaction\x00")
	timed := false
	for _, e := range entries {
		if e.problem != nil {
			continue
		}
		if event := &e.claims.Event; !event.InteractionID.IsZero() {
			id = event.InteractionID
		} else {
			timed = timed || event.OccurredAt != 0
			claims = append(claims, schemas.EventClaims(event)...)
		}
	}
	switch {
	case !id.IsZero():
	case key != "":
		id = consent.DeriveUUID(consent.NamespaceEvent, []byte("interaction\x00"+key))
	case timed:
		id = consent.DeriveUUID(consent.NamespaceEvent, claims)
	default:
		id = consent.UUID(uuid.New())
	}
	for _, e := range entries {
		e.claims.Event.InteractionID = id
	}
	return id
}
