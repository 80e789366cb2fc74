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
