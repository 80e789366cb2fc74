package fanout

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// Whoever watches the log for errors hears of a withdrawal that a downstream refuses.
func TestLane_AWithdrawalThatBecomesADeadLetterIsAnErrorInTheLog(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, always(http.StatusUnprocessableEntity))
	var log bytes.Buffer
	r := w.start(w.registry(downstream("crm", e.URL, ", attempts: 1")), func(_ *Config, d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	w.publish("user:1") // a withdrawal
	w.eventually("a dead letter", func() bool { return len(w.letters()) == 1 })
	r.stop()
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "became a dead letter") {
			if !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "withdrawal=true") || strings.Contains(line, "user:1") {
				t.Errorf("the log says %s", line)
			}
			return
		}
	}
	t.Errorf("the log does not tell of it:\n%s", log.String())
}

// A 2xx whose body says that the downstream failed is no end: it is told again, as often
// as configured, and is then a dead letter at error level.
func TestLane_AWithdrawalThatTheDownstreamFailsToObeyIsADeadLetter(t *testing.T) {
	w := newWorld(t, 1)
	e := newEndpoint(t, always(http.StatusOK))
	e.says = `{"status":"failed"}`
	var log bytes.Buffer
	r := w.start(w.registry(downstream("crm", e.URL, ", attempts: 2")), func(_ *Config, d *Deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	w.publish("user:1") // a withdrawal
	w.eventually("a dead letter", func() bool { return len(w.letters()) == 1 })
	r.stop()
	if letter := w.letters()[0]; letter.Code != "failed" || len(e.all()) != 2 {
		t.Errorf("after %d requests the dead letter %+v", len(e.all()), letter)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "code=failed withdrawal=true") {
		t.Errorf("the log does not tell of it:\n%s", log.String())
	}
	var outcomes []string
	for _, d := range w.deliveries() {
		outcomes = append(outcomes, d.Outcome.String())
	}
	if got := strings.Join(outcomes, " "); got != "failed dead_lettered" {
		t.Errorf("outcomes %s", got)
	}
}

// A downstream that starts now is told of nothing before. For one that was told before and
// whose positions are forgotten that is a loss, which the log names.
func TestLane_AStartNowSaysWhatIsNotTold(t *testing.T) {
	const said = "downstream has no position and starts now"
	w := newWorld(t, 1)
	e := newEndpoint(t, nil)
	reg := w.registry(downstream("crm", e.URL, "") + "    start: now\n")
	var first, second bytes.Buffer
	into := func(log *bytes.Buffer) func(*Config, *Deps) {
		return func(_ *Config, d *Deps) { d.Logger = slog.New(slog.NewTextHandler(log, nil)) }
	}
	r := w.start(reg, into(&first))
	w.eventually("the lane has its start", func() bool { return r.Ready() == nil })
	w.publish("user:1")
	w.eventually("it is told", func() bool { return len(e.taken()) == 1 })
	r.stop()
	w.publish("user:meanwhile")
	w.forgetGroup("crm")
	r = w.start(reg, into(&second))
	w.eventually("the lane has its start again", func() bool { return r.Ready() == nil })
	r.stop()
	if strings.Contains(first.String(), said) {
		t.Errorf("there was nothing before, and the log says:\n%s", first.String())
	}
	if !strings.Contains(second.String(), "level=WARN msg=\""+said) || !strings.Contains(second.String(), w.names.Changes()+"/0@0-1]") {
		t.Errorf("the log does not tell what is skipped:\n%s", second.String())
	}
}
