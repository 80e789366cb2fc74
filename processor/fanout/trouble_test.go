package fanout

import (
	"bytes"
	"log/slog"
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
