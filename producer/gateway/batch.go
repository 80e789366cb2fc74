package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/problem"
)

const (
	// A chunk of a batch goes to the broker as one.
	chunkEvents = 1000
	chunkBytes  = 1 << 20
	// answerTimeout is how long a sender may take to read the results of a chunk.
	answerTimeout = 30 * time.Second
)

// batch is the answer to many events. The whole body is read before the first
// event is recorded, so that a batch that is too large, or an array that does
// not parse, records nothing, and that no sender who writes before it reads can
// lock itself out. From there on it streams: a chunk is decided, written and
// answered before the next is parsed.
type batch struct {
	g              *Gateway
	w              http.ResponseWriter
	ctx            context.Context
	key, trace     string
	protectiveOnly bool // read beyond the budget
	gpc            bool // the request came with a Global Privacy Control signal

	chunk      []*entry
	chunkBytes int
	index      int // of the next event
	accepted   int
	rejected   int
	begun      bool // the head of the answer is out
	ended      bool // nothing more may be said
	away       bool // the broker confirmed nothing of a whole chunk
	line       bytes.Buffer
}

// postMany answers each event of a batch on its own, in order.
// array tells a JSON array from NDJSON.
func (g *Gateway) postMany(w http.ResponseWriter, r *http.Request, body io.Reader, key string, array bool) {
	if r.ContentLength > maxBodyBytes {
		batchTooLarge.Write(w)
		return
	}
	wait, cancel := context.WithTimeout(r.Context(), g.config.ProduceTimeout)
	defer cancel()
	release, protectiveOnly, ok := g.limits.admitBatch(wait)
	if !ok {
		noRoom.Write(w)
		return
	}
	defer release()
	raw, err := readAll(http.MaxBytesReader(w, io.NopCloser(body), maxBodyBytes), r.ContentLength)
	if err != nil {
		unreadable(err).Write(w)
		return
	}
	if array && !json.Valid(raw) {
		problem.BadRequest("the array does not parse as JSON; nothing was recorded").Write(w)
		return
	}
	b := &batch{g: g, w: w, ctx: r.Context(), key: key, trace: traceparent(r.Header.Get(traceparentKey)), protectiveOnly: protectiveOnly, gpc: gpc(r)}
	if array {
		eachElement(raw, b.add)
	} else {
		eachLine(raw, b.add)
	}
	b.flush()
	b.end()
}

func readAll(body io.Reader, size int64) ([]byte, error) {
	var b bytes.Buffer
	if size > 0 {
		b.Grow(int(size) + bytes.MinRead)
	}
	_, err := b.ReadFrom(body)
	return b.Bytes(), err
}

// add takes the next event.
func (b *batch) add(raw []byte) {
	if b.ended {
		return
	}
	e := b.g.parse(raw, keyPart(b.key, strconv.Itoa(b.index)))
	e.claims.GPC = b.gpc
	b.chunk = append(b.chunk, e)
	b.chunkBytes += len(raw)
	b.index++
	if len(b.chunk) == chunkEvents || b.chunkBytes >= chunkBytes {
		b.flush()
	}
}

// flush decides, writes and answers the chunk.
func (b *batch) flush() {
	if len(b.chunk) == 0 || b.ended {
		return
	}
	if b.ctx.Err() != nil { // the sender has gone, or we are stopping: nobody hears what follows
		panic(http.ErrAbortHandler)
	}
	b.g.accept(b.chunk)
	if b.protectiveOnly {
		refuse(b.chunk, tooBusy, func(e *entry) bool { return !e.protective() })
	}
	if b.away {
		refuse(b.chunk, unconfirmed(kafka.NotWritten, [16]byte{}), func(*entry) bool { return true })
	}
	b.g.write(b.ctx, b.chunk, b.trace)
	b.g.count(b.chunk)
	b.look()
	if !b.ended {
		b.answer()
	}
	clear(b.chunk)
	b.chunk, b.chunkBytes = b.chunk[:0], 0
}

// look finds out whether the broker is away: then the rest of the batch does not
// wait for it, and a batch of which nothing was recorded is answered as a whole.
func (b *batch) look() {
	recorded, unavailable := 0, (*problem.Problem)(nil)
	for _, e := range b.chunk {
		switch {
		case e.problem == nil:
			recorded++
		case e.problem.Status == http.StatusServiceUnavailable:
			unavailable = e.problem
		}
	}
	if recorded > 0 || unavailable == nil {
		return
	}
	b.away = true
	if !b.begun {
		problem.Unavailable(unavailable.Type, "the broker is away or cannot store: nothing of this batch was confirmed; send it again with the same event ids or Idempotency-Key, so that each event counts once", brokerRetryAfter).Write(b.w)
		b.ended = true
	}
}

// answer sends the results of the chunk: for each event what it would have been
// answered alone.
func (b *batch) answer() {
	b.line.Reset()
	for _, e := range b.chunk {
		if b.accepted+b.rejected > 0 {
			b.line.WriteByte(',')
		}
		var result any = e.problem
		if e.problem == nil {
			result = e.answer()
			b.accepted++
		} else {
			b.rejected++
		}
		text, err := json.Marshal(result)
		if err != nil { // cannot be: strings and numbers only
			panic(err)
		}
		b.line.WriteByte('\n')
		b.line.Write(text)
	}
	b.send(b.line.Bytes())
}

// send writes a part of the answer, after its head.
func (b *batch) send(part []byte) {
	_ = http.NewResponseController(b.w).SetWriteDeadline(time.Now().Add(answerTimeout)) // where the server can
	if !b.begun {
		b.begun = true
		b.w.Header().Set("Content-Type", mediaJSON)
		b.w.WriteHeader(http.StatusOK)
		_, _ = b.w.Write([]byte(`{"results":[`))
	}
	if _, err := b.w.Write(part); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (b *batch) end() {
	if b.ended {
		return
	}
	b.send(fmt.Appendf(nil, "\n],\"accepted\":%d,\"rejected\":%d}\n", b.accepted, b.rejected))
	_ = http.NewResponseController(b.w).SetWriteDeadline(time.Time{}) // the connection may live on
}
