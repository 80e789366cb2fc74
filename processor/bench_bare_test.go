package processor

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
)

// bareStripe is the peer of the benchmark: a map in memory, transactions, and no more. It
// reads and writes the Avro of this project's schemas by hand, with no allocation and no
// check: what it does not have to understand of an event it copies as it is. It knows of
// no link, erasure, ancestor, import or late confirmation; who speaks last is right.
type bareStripe struct {
	states, changes string // topics
	last            map[string]*bareWord
	commit          bareCommit
	done            func() // a partition is read to its end

	stateFrame, changeFrame []byte
	records                 []kafka.Record
	arena                   []byte // of their keys and values
}

// bareWord is the last word on one purpose, as far as the next one asks for it.
type bareWord struct {
	at      int64
	version int64
	status  consent.Status
}

// bareFrame is how long the frame of single-object encoding is.
const bareFrame = 10

func newBareStripe(names topic.Names) *bareStripe {
	state, err := schemas.EncodeState(nil, &schemas.StateRow{Tenant: "default", Subject: "user:1", Row: consent.Row{Purpose: "a", Announced: consent.Verdict{Status: consent.None}}})
	if err != nil {
		panic(err)
	}
	change, err := schemas.EncodeChange(nil, &consent.Change{Tenant: "default", Subject: "user:1", Purpose: "a", From: consent.None, To: consent.Granted})
	if err != nil {
		panic(err)
	}
	return &bareStripe{
		states: names.State(), changes: names.Changes(), last: make(map[string]*bareWord),
		stateFrame: state[:bareFrame], changeFrame: change[:bareFrame],
	}
}

func (s *bareStripe) run(ctx context.Context, client *kafka.Client, claim *kafka.Claim, ends map[int32]kafka.NextOffset) error {
	from, err := claim.Positions(ctx)
	if err != nil {
		return err
	}
	fetcher := client.NewFetcher(from, kafka.FetchOptions{MaxBytes: 4 << 20, MaxRecords: 10_000})
	defer func() { _ = fetcher.Close() }()
	for ctx.Err() == nil {
		batches, err := fetcher.Fetch(ctx)
		if err != nil {
			return err
		}
		if len(batches) == 0 {
			continue
		}
		s.reset()
		commits := make(map[kafka.Partition]kafka.Commit)
		for i := range batches {
			for j := range batches[i].Messages {
				if err := s.take(&batches[i].Messages[j]); err != nil {
					return err
				}
			}
			commits[batches[i].Partition] = kafka.Commit{Next: batches[i].Next}
		}
		if err := s.commit(ctx, s.records, commits); err != nil {
			return err
		}
		for at, commit := range commits {
			if commit.Next == ends[at.Index] {
				s.done()
			}
		}
	}
	return nil
}

func (s *bareStripe) reset() { s.records, s.arena = s.records[:0], s.arena[:0] }

// since gives what was appended to the arena. Where the arena was moved to a larger place,
// what was given before stays in the old one.
func (s *bareStripe) since(from int) []byte { return s.arena[from:len(s.arena):len(s.arena)] }

// take keeps the last word, and writes it; where it differs, a change too.
func (s *bareStripe) take(m *kafka.Message) error {
	e, err := readBare(m.Value)
	if err != nil {
		return err
	}
	from := len(s.arena)
	s.arena = append(append(append(s.arena, m.Key...), '|'), e.purpose...)
	key := s.since(from)
	word := s.last[string(key)]
	if word == nil {
		word = &bareWord{status: consent.None}
		s.last[string(key)] = word
	}
	if word.at > e.at {
		return nil
	}
	was := word.status
	if word.at, word.status = e.at, e.status(); word.status != was {
		word.version++
	}
	from = len(s.arena)
	s.arena = e.appendState(append(s.arena, s.stateFrame...), word, int64(m.Offset))
	subject := key[:len(m.Key):len(m.Key)]
	s.records = append(s.records, kafka.Record{Topic: s.states, Key: key, Value: s.since(from), PartitionKey: subject})
	if word.status != was {
		from = len(s.arena)
		s.arena = e.appendChange(append(s.arena, s.changeFrame...), word, was)
		s.records = append(s.records, kafka.Record{Topic: s.changes, Key: subject, Value: s.since(from)})
	}
	return nil
}

// bareEvent is what the bare program reads of an event: slices of its bytes, with the
// branches of what can be null.
type bareEvent struct {
	id, names, purpose          []byte // names: tenant, subject and purpose, one after the other
	action                      consent.Action
	received, effective         []byte
	at                          int64 // effective
	channel, jurisdiction       []byte
	notice, noticeVersion       []byte
	policyVersion, model, basis []byte
}

func (e *bareEvent) status() consent.Status {
	if e.action == consent.Grant {
		return consent.Granted
	}
	return consent.Withdrawn
}

var errBare = errors.New("the bare program cannot read the event")

// readBare walks over the fields of the schema, up to the last that it needs.
func readBare(b []byte) (e bareEvent, err error) {
	absent := []byte{0}
	e.notice, e.noticeVersion, e.policyVersion, e.model, e.basis = absent, absent, absent, absent, absent
	r := bareReader{b: b, at: bareFrame}
	e.id = r.fixed(16)
	r.fixed(16) // interaction
	r.fixed(16) // request
	from := r.at
	r.text() // tenant
	r.text() // subject
	e.purpose = r.text()
	e.names = r.since(from)
	e.action = consent.Action(r.long())
	r.optionalText() // property
	r.number()       // occurred
	r.number()       // sent
	e.received = r.number()
	e.effective = r.number()
	e.channel = r.number()
	r.optionalText() // source
	e.jurisdiction = r.optionalText()
	if r.some() { // notice
		e.notice, e.noticeVersion = r.optionalText(), r.optionalText()
		r.optionalText() // language
		r.fixed(32)
	}
	if r.some() { // evidence
		for range 3 {
			r.number()
		}
		r.skip(3) // flags
		for range 7 {
			r.optionalText()
		}
	}
	if r.some() { // actor
		r.number()
		r.optionalText()
	}
	if r.some() { // policy
		e.policyVersion, e.model, e.basis = r.optionalText(), r.number(), r.number()
	}
	if r.bad || len(e.id) == 1 || len(e.effective) == 1 {
		return e, errBare
	}
	e.at, _ = binary.Varint(e.effective[1:])
	return e, nil
}

// appendState appends the body of a ConsentState.
func (e *bareEvent) appendState(b []byte, word *bareWord, offset int64) []byte {
	b = append(append(b, e.names...), 0) // no test
	b = binary.AppendVarint(b, int64(word.status))
	b = appendBareAllowed(b, word.status)
	b = binary.AppendVarint(b, word.version)
	b = binary.AppendVarint(b, offset)
	b = append(b, 0) // no_event
	if word.status == consent.Granted {
		b = e.appendRecord(b)
		b = append(b, 0, 0) // pending, no
	} else {
		b = append(b, 0, 0) // yes, pending
		b = e.appendRecord(b)
	}
	return append(b, 0, 0, 0) // ended, named, whole
}

// appendRecord appends a FoldRecord where it can be null.
func (e *bareEvent) appendRecord(b []byte) []byte {
	b = append(b, 1<<1)
	b = binary.AppendVarint(b, int64(e.action))
	b = append(append(append(b, e.id...), e.effective...), e.received...)
	b = append(append(b, 1), e.effective...) // expressed, order_at
	b = append(b, bareFlag(e.action != consent.Grant))
	b = append(b, 0, 0, 0, 0, 0) // stage, expires_at, digest, names, carried
	b = append(append(b, e.channel...), e.jurisdiction...)
	b = append(append(b, e.model...), e.basis...)
	return append(append(append(b, e.notice...), e.noticeVersion...), e.policyVersion...)
}

// appendChange appends the body of a ConsentChange, under the event's id.
func (e *bareEvent) appendChange(b []byte, word *bareWord, was consent.Status) []byte {
	b = append(b, e.id[1:]...)
	kind := bareTypes[word.status]
	b = append(binary.AppendVarint(b, int64(len(kind))), kind...)
	b = append(b, e.names...)
	b = binary.AppendVarint(b, int64(was))
	b = binary.AppendVarint(b, int64(word.status))
	b = appendBareAllowed(appendBareAllowed(b, was), word.status)
	b = append(b, bareFlag(word.status == consent.Withdrawn))
	b = append(append(b, e.effective...), e.id...)
	b = binary.AppendVarint(b, word.version)
	b = append(append(b, e.received...), e.received...) // timestamp too
	return append(append(b, e.jurisdiction...), 0)      // no test
}

var bareTypes = map[consent.Status]string{
	consent.Granted:   (&consent.Change{To: consent.Granted}).Type(),
	consent.Withdrawn: (&consent.Change{To: consent.Withdrawn}).Type(),
}

func appendBareAllowed(b []byte, s consent.Status) []byte {
	if s == consent.None {
		return append(b, 0)
	}
	return append(b, 1<<1, bareFlag(s == consent.Granted))
}

func bareFlag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// bareReader walks over Avro. Past the end, or over a length below zero, it is bad.
type bareReader struct {
	b   []byte
	at  int
	bad bool
}

func (r *bareReader) since(from int) []byte { return r.b[from:r.at] }

func (r *bareReader) skip(n int64) {
	if n < 0 || int64(len(r.b)-r.at) < n {
		r.bad, n = true, int64(len(r.b)-r.at)
	}
	r.at += int(n)
}

func (r *bareReader) long() int64 {
	if r.at < len(r.b) && r.b[r.at] < 0x80 { // nearly always
		n := r.b[r.at]
		r.at++
		return int64(n>>1) ^ -int64(n&1)
	}
	v, n := binary.Varint(r.b[r.at:])
	if n <= 0 {
		r.bad, r.at = true, len(r.b)
		return 0
	}
	r.at += n
	return v
}

// some reads a branch.
func (r *bareReader) some() bool { return r.long() != 0 }

func (r *bareReader) text() []byte {
	n := r.long()
	from := r.at
	r.skip(n)
	return r.since(from)
}

func (r *bareReader) fixed(n int64) []byte {
	from := r.at
	if r.some() {
		r.skip(n)
	}
	return r.since(from)
}

func (r *bareReader) number() []byte {
	from := r.at
	if r.some() {
		r.long()
	}
	return r.since(from)
}

func (r *bareReader) optionalText() []byte {
	from := r.at
	if r.some() {
		r.text()
	}
	return r.since(from)
}

func TestBareStripe_SaysWhatTheFoldSays(t *testing.T) {
	bare := newBareStripe(topic.Names{})
	straight := make(map[consent.SubjectID]consent.State)
	records := benchEvents(benchSubjects)
	told := 0
	for i, r := range records {
		bare.reset()
		m := r.message(i)
		if err := bare.take(&m); err != nil {
			t.Fatal(err)
		}
		e, err := schemas.DecodeEvent(m.Value)
		if err != nil {
			t.Fatal(err)
		}
		id := consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject}
		state, changes, _ := consent.Fold(straight[id], &e)
		straight[id] = state
		if consent.Purpose("ads").Covers(e.Purpose) {
			continue // two of the purposes: what is said of one counts below it, which a bare program does not know
		}
		row := state.Row(e.Purpose)

		got, err := schemas.DecodeState(bare.records[0].Value)
		if err != nil {
			t.Fatal(err)
		}
		record, want := got.Row.Yes, row.Yes
		if e.Action == consent.Withdraw {
			record, want = got.Row.No, row.No
		}
		known := *want
		known.Digest = [32]byte{} // a bare program breaks no ties
		if got.Row.Announced != row.Announced || got.Row.Version != row.Version || *record != known || got.InputOffset != int64(i) {
			t.Fatalf("event %d: the bare program's row is %+v\nwith %+v\nthe fold's %+v\nwith %+v", i, got, record, row, want)
		}
		if len(bare.records)-1 != len(changes) {
			t.Fatalf("event %d: %d changes, the fold has %d", i, len(bare.records)-1, len(changes))
		}
		for j, want := range changes {
			told++
			got, err := schemas.DecodeChange(bare.records[1+j].Value)
			if err != nil {
				t.Fatal(err)
			}
			if want.ID = want.EventID; got != want {
				t.Fatalf("event %d: the change\n%+v\nthe fold's\n%+v", i, got, want)
			}
		}
	}
	if told < len(records)/2 {
		t.Errorf("only %d changes of %d events", told, len(records))
	}
}
