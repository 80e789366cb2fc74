package owner

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/assent-dev/assent/internal/problem"
)

// flushBytes is when an answer under way is sent on: it is never held as a whole.
const flushBytes = 64 << 10

// Register adds the paths on which peers ask. They are no part of the public interface.
func (r *Router) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST "+statesPath, r.guard(r.serveStates))
	mux.HandleFunc("POST "+foldedPath, r.guard(r.serveFolded))
}

// guard lets peers in and nobody else. When a handler panics, the connection is cut, with a
// log line that has no payload.
func (r *Router) guard(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				r.config.Logger.Error("a peer could not be answered", "path", q.Pattern, "panic", fmt.Sprintf("%T", p))
				panic(http.ErrAbortHandler)
			}
		}()
		if refusal := r.admit(q); refusal != nil {
			r.metrics.refused.Inc()
			refusal.Write(w)
			return
		}
		q.Body = http.MaxBytesReader(w, q.Body, maxRequestBytes)
		next(w, q)
	}
}

// admit is nil for a peer. With a secret, who shows it is one. Without, who is on this
// machine: States are the subjects' own, and not to be had over a network.
func (r *Router) admit(q *http.Request) *problem.Problem {
	if r.config.Secret == "" {
		if !fromThisMachine(q) {
			return &problem.Problem{Type: "not-found", Status: http.StatusNotFound, Detail: "peers on other machines are served only when all processors share a secret"}
		}
	} else if !sameSecret(q.Header.Get(secretHeader), r.config.Secret) {
		return &problem.Problem{Type: "forbidden", Status: http.StatusForbidden, Detail: "the peers' secret is missing or another: set the same on all processors"}
	}
	if q.Header.Get("Content-Type") != contentType {
		p := problem.MediaType("peers speak " + contentType)
		return &p
	}
	return nil
}

// sameSecret compares in a time that tells neither how much is right nor the length.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// fromThisMachine reports whether a request comes from a loopback address, and not by way of
// a proxy there, which would make everybody look like it.
func fromThisMachine(q *http.Request) bool {
	for _, header := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if q.Header.Get(header) != "" {
			return false
		}
	}
	host, _, err := net.SplitHostPort(q.RemoteAddr)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// meant reports whether a request could be read and is meant for this start of this
// process. It answers itself when it is not.
func (r *Router) meant(w http.ResponseWriter, q *request, err error) bool {
	switch {
	case err != nil:
		problem.BadRequest(err.Error()).Write(w)
	case q.instance != r.config.Instance:
		problem.Problem{Type: "misdirected", Status: http.StatusMisdirectedRequest, Detail: "another instance is meant, which may have listened here before"}.Write(w)
	default:
		return true
	}
	r.metrics.refused.Inc()
	return false
}

// serveStates answers with what this process owns; a request is never forwarded. The age
// of the heartbeat is checked after each State is read and before it is sent.
func (r *Router) serveStates(w http.ResponseWriter, httpRequest *http.Request) {
	q, err := readQuestion(httpRequest.Body)
	if !r.meant(w, &q, err) {
		return
	}
	ctx, cancel := context.WithTimeout(httpRequest.Context(), q.patience)
	defer cancel()
	select {
	case r.serving <- struct{}{}:
		defer func() { <-r.serving }()
	case <-ctx.Done():
		r.metrics.refused.Inc()
		problem.Unavailable("busy", "too many peers ask at once", time.Second).Write(w)
		return
	}
	// A peer that does not read, such as one that is suspended, must not keep its place.
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(q.patience)) // not offered by every ResponseWriter
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }()

	w.Header().Set("Content-Type", contentType)
	b := binary.AppendUvarint([]byte{wireVersion}, uint64(r.lease.slack.Milliseconds()))
	for _, id := range q.ids {
		if ctx.Err() != nil {
			return // nobody waits for the rest
		}
		start := len(b)
		f, ok := r.config.Local.State(ctx, id)
		if ok {
			if b, err = appendEntry(b, id, &f); err != nil {
				r.config.Logger.Error("a State cannot be given to a peer", "error", err)
			}
		}
		if !ok || err != nil || !f.Valid() {
			b = append(b[:start], entryNotOwner)
		} else {
			r.metrics.served.Inc()
		}
		if len(b) >= flushBytes {
			if _, err := w.Write(b); err != nil {
				return
			}
			b = b[:0]
		}
	}
	if _, err := w.Write(b); err == nil {
		_ = control.Flush() // while the deadline holds
	}
}

// serveFolded waits for positions that this process folds.
func (r *Router) serveFolded(w http.ResponseWriter, httpRequest *http.Request) {
	q, err := readWait(httpRequest.Body)
	if !r.meant(w, &q, err) {
		return
	}
	select {
	case r.waiting <- struct{}{}:
		defer func() { <-r.waiting }()
	default:
		r.metrics.refused.Inc()
		problem.Unavailable("busy", "too many peers wait at once", time.Second).Write(w)
		return
	}
	ctx, cancel := context.WithTimeout(httpRequest.Context(), q.patience)
	defer cancel()
	b := []byte{wireVersion}
	for _, p := range q.after {
		switch err := r.config.Local.WaitFolded(ctx, p.Partition, p.Offset); {
		case err == nil:
			b = append(b, foldedYes)
		case errors.Is(err, ErrNotOwner):
			b = append(b, foldedNotOwner)
		default: // the time is up; what is folded already is told all the same
			b = append(b, foldedLate)
		}
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(b) // the peer may be gone; there is nobody to tell
}
