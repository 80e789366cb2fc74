package fanout

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/assent-dev/assent/consent"
)

// A grant that cannot be told and has no deadline comes first; a withdrawal of the same
// subject, long past its own, has no attempt of its own meanwhile.
func TestLane_AnOverdueWithdrawalBehindAnotherChangeIsCountedAndAnErrorInTheLog(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, always(http.StatusInternalServerError))
	grant, withdrawal := w.change("user:1"), w.change("user:1")
	grant.Purpose, grant.Withdrawal, grant.From, grant.To, grant.AllowedAfter = "undeclared", false, consent.None, consent.Granted, consent.Allowed
	withdrawal.ReceivedAt = withdrawal.ReceivedAt.Add(-30 * 24 * time.Hour)
	w.put(grant)
	w.put(withdrawal)
	var log bytes.Buffer
	r := w.start(w.registry(downstream("crm", e.URL, "")), func(_ *Config, d *Deps) { d.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	gauge := func(withdrawal string) float64 {
		return testutil.ToFloat64(r.metrics.waiting.WithLabelValues("default", "crm", withdrawal))
	}
	w.eventually("the withdrawal is counted", func() bool { return gauge("true") == 1 })
	if n := gauge("false"); n != 0 {
		t.Errorf("%v changes without a deadline are overdue", n)
	}
	for _, s := range e.all() {
		if s.version != 1 {
			t.Fatal("the withdrawal was tried: the test shows nothing")
		}
	}
	e.set(nil)
	w.eventually("both are told, and it counts no more", func() bool { return len(e.taken()) == 2 && gauge("true") == 0 })
	r.stop()
	lines := 0
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "past their legal deadline") {
			lines++
			if !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "withdrawals=1") || strings.Contains(line, "user:1") {
				t.Errorf("the log says %s", line)
			}
		}
	}
	if lines != 1 {
		t.Errorf("%d lines tell of it, want one:\n%s", lines, log.String())
	}
}

func TestLane_PendingChangesAreThoseOfAllItsStripes(t *testing.T) {
	w := newWorld(t, 2)
	e := newEndpoint(t, always(http.StatusInternalServerError))
	r := w.start(w.registry(downstream("crm", e.URL, "")))
	w.publish(subjects(20)...) // in both partitions
	pending := func() float64 { return testutil.ToFloat64(r.metrics.pending.WithLabelValues("default", "crm")) }
	w.eventually("all are pending", func() bool { return pending() == 20 })
	e.set(nil)
	w.eventually("none is left", func() bool { return len(e.taken()) == 20 && pending() == 0 })
	e.set(always(http.StatusInternalServerError))
	w.publish(subjects(4)...)
	w.eventually("four are pending", func() bool { return pending() == 4 })
	r.stop()
	if n := pending(); n != 0 {
		t.Errorf("%v are pending where nobody works", n)
	}
}
