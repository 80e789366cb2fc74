package owner

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/processor/decision"
	"github.com/assent-dev/assent/schemas"
)

// What peers say to each other, in bytes. Numbers are uvarints, times are varints of Unix
// milliseconds, texts and rows are a length and their bytes.
//
//	every request   version | instance | patience in ms | count | items
//	  a subject     flags (1 = test) | tenant | subject
//	  a position    partition | offset
//	states answer   version | slack in ms | an entry per subject, in order
//	  not owner     0
//	  no record     1 | as of
//	  a State       2 | as of | number of rows | rows, each a record of consent.state
//	folded answer   version | a byte per position: 0 not owner, 1 folded, 2 not in time
//
// The row of * is the first of a State's rows. Rows carry the fingerprint of their schema.
const wireVersion = 1

const contentType = "application/vnd.assent.peer"

// The limits of what one request and its answer may hold.
const (
	maxItems         = 1000
	maxInstanceBytes = 128
	maxNameBytes     = 256 // tenant or subject
	maxRows          = 100_000
	maxRequestBytes  = maxItems*(2*maxNameBytes+8) + 1024
	maxAnswerBytes   = 64 << 20
)

// The first byte of an entry.
const (
	entryNotOwner byte = iota
	entryNothing
	entryState
)

// The byte of a position.
const (
	foldedNotOwner byte = iota
	foldedYes
	foldedLate
)

const flagTest = 1

var errMalformed = errors.New("a peer's message cannot be read")

// request is what both questions have in common.
type request struct {
	// instance is the process that is meant.
	instance string
	// patience is how long the asker waits for the answer.
	patience time.Duration
	ids      []consent.SubjectID
	after    []decision.Position
}

func (q *request) appendTo(b []byte) []byte {
	b = append(b, wireVersion)
	b = appendText(b, q.instance)
	b = binary.AppendUvarint(b, uint64(max(q.patience.Milliseconds(), 0)))
	b = binary.AppendUvarint(b, uint64(len(q.ids)+len(q.after)))
	for i := range q.ids {
		id := &q.ids[i]
		var flags byte
		if id.Test {
			flags = flagTest
		}
		b = append(b, flags)
		b = appendText(b, string(id.Tenant))
		b = appendText(b, string(id.Subject))
	}
	for _, p := range q.after {
		b = binary.AppendUvarint(b, uint64(p.Partition))
		b = binary.AppendUvarint(b, uint64(p.Offset))
	}
	return b
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// reader takes a message apart. After its first error it gives zeros.
type reader struct {
	*bufio.Reader
	err error
	buf []byte
}

const readerBytes = 32 << 10

var readers = sync.Pool{New: func() any { return &reader{Reader: bufio.NewReaderSize(nil, readerBytes)} }}

func newReader(from io.Reader) *reader {
	r := readers.Get().(*reader)
	r.Reset(from)
	r.err = nil
	return r
}

// release gives the reader back. What it gave by bytes is invalid from here on.
func (r *reader) release() {
	r.Reset(nil)
	if cap(r.buf) > readerBytes { // of a large row
		r.buf = nil
	}
	readers.Put(r)
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %w", errMalformed, err)
	}
}

func (r *reader) byte() byte {
	if r.err != nil {
		return 0
	}
	b, err := r.ReadByte()
	if err != nil {
		r.fail(io.ErrUnexpectedEOF)
	}
	return b
}

// number reads a uvarint up to most.
func (r *reader) number(what string, most uint64) uint64 {
	if r.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(r.Reader)
	if err != nil {
		r.fail(io.ErrUnexpectedEOF)
		return 0
	}
	if n > most {
		r.fail(fmt.Errorf("%s is %d, at most %d", what, n, most))
		return 0
	}
	return n
}

// bytes reads a length and as many bytes; they are valid until the next call.
func (r *reader) bytes(what string, most int) []byte {
	n := int(r.number(what, uint64(most)))
	if r.err != nil {
		return nil
	}
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.Reader, r.buf); err != nil {
		r.fail(io.ErrUnexpectedEOF)
		return nil
	}
	return r.buf
}

func (r *reader) instant() consent.Instant {
	if r.err != nil {
		return 0
	}
	n, err := binary.ReadVarint(r.Reader)
	if err != nil {
		r.fail(io.ErrUnexpectedEOF)
	}
	return consent.Instant(n)
}

func (r *reader) version() {
	if v := r.byte(); r.err == nil && v != wireVersion {
		r.fail(fmt.Errorf("version %d, want %d", v, wireVersion))
	}
}

// end fails unless the message ends here.
func (r *reader) end() {
	if r.err != nil {
		return
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		r.fail(errors.New("something follows its end"))
	}
}

// maxPatienceMillis keeps a claimed patience within what a Duration can hold.
const maxPatienceMillis = uint64(time.Hour / time.Millisecond)

// head reads what both requests begin with, and the number of items.
func (r *reader) head() (q request, count int) {
	r.version()
	q.instance = string(r.bytes("instance", maxInstanceBytes))
	q.patience = time.Duration(r.number("patience", maxPatienceMillis)) * time.Millisecond
	return q, int(r.number("count", maxItems))
}

// readQuestion reads a request for States.
func readQuestion(from io.Reader) (request, error) {
	r := newReader(from)
	defer r.release()
	q, count := r.head()
	for range count {
		flags := r.number("flags", flagTest)
		tenant, err := consent.ParseTenant(string(r.bytes("tenant", maxNameBytes)))
		if r.err == nil && err != nil {
			r.fail(err)
		}
		subject, err := consent.ParseSubject(string(r.bytes("subject", maxNameBytes)))
		if r.err == nil && err != nil {
			r.fail(err)
		}
		if r.err != nil {
			break
		}
		q.ids = append(q.ids, consent.SubjectID{Tenant: tenant, Subject: subject, Test: flags == flagTest})
	}
	r.end()
	return q, r.err
}

// readWait reads a request that waits for positions.
func readWait(from io.Reader) (request, error) {
	r := newReader(from)
	defer r.release()
	q, count := r.head()
	for range count {
		p := decision.Position{Partition: int32(r.number("partition", 1<<31-1)), Offset: int64(r.number("offset", 1<<63-1))}
		if r.err != nil {
			break
		}
		q.after = append(q.after, p)
	}
	r.end()
	return q, r.err
}

// appendEntry appends what is known of a subject, to be sent once f may still be told.
func appendEntry(b []byte, id consent.SubjectID, f *Folded) ([]byte, error) {
	kind := entryState
	if f.State == nil {
		kind = entryNothing
	}
	b = append(b, kind)
	b = binary.AppendVarint(b, int64(consent.InstantOf(f.AsOf)))
	if f.State == nil {
		return b, nil
	}
	root := consent.Row{Purpose: consent.Root}
	count := 1
	for i := range f.State.Rows {
		if row := &f.State.Rows[i]; row.Purpose == consent.Root {
			root = *row
		} else {
			count++
		}
	}
	b = binary.AppendUvarint(b, uint64(count))
	b, err := appendRow(b, id, root, &f.State.Whole)
	for i := range f.State.Rows {
		if row := &f.State.Rows[i]; err == nil && row.Purpose != consent.Root {
			b, err = appendRow(b, id, *row, nil)
		}
	}
	return b, err
}

// lengthBytes is what is left free for a row's length: enough for maxRowBytes.
const lengthBytes = 4

func appendRow(b []byte, id consent.SubjectID, row consent.Row, whole *consent.Whole) ([]byte, error) {
	at := len(b)
	b = append(b, make([]byte, lengthBytes)...)
	b, err := schemas.EncodeState(b, &schemas.StateRow{Tenant: id.Tenant, Subject: id.Subject, Test: id.Test, Row: row, Whole: whole})
	if err != nil {
		return b, err
	}
	putLength(b[at:at+lengthBytes], len(b)-at-lengthBytes)
	return b, nil
}

// putLength writes a uvarint in four bytes, whatever its value: the row behind it is in
// its place already. n is below 2^28.
func putLength(b []byte, n int) {
	b[0], b[1], b[2], b[3] = byte(n)|0x80, byte(n>>7)|0x80, byte(n>>14)|0x80, byte(n>>21)&0x7f
}

// entry reads what is known of a subject. A State that cannot be used spoils no other: the
// reader goes on behind it, unless r.err says that the message itself is broken.
func (r *reader) entry(id consent.SubjectID) (f Folded, c cause) {
	kind := byte(r.number("entry", uint64(entryState)))
	switch {
	case r.err != nil:
		return f, causeMalformed
	case kind == entryNotOwner:
		return f, causeNotOwner
	}
	f.AsOf = r.instant().Time()
	var err error
	if kind == entryState {
		f.State, err = r.state(id)
	}
	if err != nil || r.err != nil {
		return Folded{}, causeMalformed
	}
	return f, answered
}

// state reads a State's rows, all of them even if one is of no use.
func (r *reader) state(id consent.SubjectID) (*consent.State, error) {
	s := &consent.State{Tenant: id.Tenant, Subject: id.Subject, Test: id.Test}
	count := r.number("rows", maxRows)
	if count == 0 {
		return nil, errors.New("a State without rows")
	}
	var fault error
	for i := range count {
		b := r.bytes("row", schemas.MaxPayloadBytes)
		if r.err != nil {
			return nil, r.err
		}
		if fault == nil {
			fault = addRow(s, b, i == 0)
		}
	}
	return s, fault
}

// addRow puts a row into a State. It is held against the subject that was asked for:
// the State of another would be a grant by mistake.
func addRow(s *consent.State, b []byte, first bool) error {
	row, err := schemas.DecodeState(b)
	switch {
	case err != nil:
		return err
	case row.Tenant != s.Tenant || row.Subject != s.Subject || row.Test != s.Test:
		return errors.New("a row of another subject")
	case first != (row.Row.Purpose == consent.Root) || first != (row.Whole != nil):
		return errors.New("the row of * is not the first, or not alone")
	}
	row.AddTo(s)
	return nil
}
