package fanout

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// The connection is cut under a commit while changes that were read wait for room: the
// lane joins anew, and tells them.
func TestLane_GoesOnAfterACommitWithoutAnAnswer(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, nil)
	held, cut := w.cutCommit(2) // behind that of the start
	asked := w.asked(2)
	var log bytes.Buffer
	r := w.start(w.registry(downstream("crm", e.URL, "")), func(_ *Config, d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	w.eventually("the lane has its start", func() bool { return r.Ready() == nil })
	w.publish("user:1")
	<-held
	w.publish("user:2")
	<-asked // the second one is read, and waits until the commit is over
	w.publish("user:3")
	cut()
	w.eventually("all three are told", func() bool { return len(e.heard()) == 3 })
	r.stop()
	if !strings.Contains(log.String(), "commit offsets of group") {
		t.Errorf("the log does not tell of the commit:\n%s", log.String())
	}
}

// Two changes are open below the position; retention takes the first of them. It is a dead
// letter, once, and all others are told.
func TestLane_AnOpenChangeThatRetentionTookIsADeadLetterAndTheOthersGo(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, func(_ int, s seen) (int, http.Header) {
		if s.subject == "user:0" || s.subject == "user:20" {
			return http.StatusInternalServerError, nil
		}
		return http.StatusOK, nil
	})
	reg := w.registry(downstream("crm", e.URL, ""))
	r := w.start(reg, func(c *Config, _ *Deps) { c.BreakAfter = 1_000_000 })
	w.publish(subjects(30)...)
	w.eventually("all but two are told", func() bool { return len(e.taken()) == 28 })
	r.stop()
	w.expire(0, 10)
	e.set(nil)
	var log bytes.Buffer
	r = w.start(reg, func(_ *Config, d *Deps) { d.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	w.publish("user:last")
	w.eventually("the other open one is told, and what comes later", func() bool { return len(e.heard()) == 30 })
	r.stop()
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), w.names.Changes()+"/0@0 code=gone") {
		t.Errorf("the log does not tell of what is gone:\n%s", log.String())
	}
	r = w.start(reg)
	w.publish("user:1")
	w.eventually("the next one goes on", func() bool { return len(e.heard()) == 31 })
	r.stop()
	letters := w.letters()
	if len(letters) != 1 || letters[0].Code != "gone" || letters[0].Topic != w.names.Changes() || letters[0].Offset != 0 || letters[0].Downstream != "crm" {
		t.Errorf("dead letters %+v", letters)
	}
}

// Retention took what lies behind the position too.
func TestLane_WhatRetentionTookUnreadIsADeadLetterAndTheRestGoes(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, nil)
	reg := w.registry(downstream("crm", e.URL, ""))
	r := w.start(reg)
	w.publish(subjects(5)...)
	w.eventually("all are told", func() bool { return len(e.taken()) == 5 })
	r.stop()
	w.publish(subjects(5)...)
	w.expire(0, 8)
	r = w.start(reg)
	w.eventually("what is left is told", func() bool { return len(e.heard()) == 7 })
	r.stop()
	letters := w.letters()
	if len(letters) != 1 || letters[0].Code != "gone" || letters[0].Offset != 5 || !strings.Contains(letters[0].Reason, "up to offset 7 ") {
		t.Errorf("dead letters %+v", letters)
	}
}

// Three refusals are configured. Whatever else the endpoint answers in between is not
// held against the change.
func TestLane_OnlyRefusalsCountAgainstAChange(t *testing.T) {
	w := newWorld(t, 1)
	answers := []int{500, 401, 503, 400, 500, 400, 404, 500, 422}
	e := newEndpoint(t, func(n int, _ seen) (int, http.Header) { return answers[min(n, len(answers)-1)], nil })
	r := w.start(w.registry(downstream("crm", e.URL, ", attempts: 3")))
	w.publish("user:1") // a withdrawal
	w.eventually("a dead letter", func() bool { return len(w.letters()) == 1 })
	r.stop()
	if n := len(e.all()); n != len(answers) {
		t.Errorf("set aside after %d requests, want it at the third refusal, the last of %d", n, len(answers))
	}
	for i, d := range w.deliveries() {
		if int(d.Attempt) != i+1 {
			t.Errorf("attempt %d is recorded as the %dth", i+1, d.Attempt)
		}
	}
}
