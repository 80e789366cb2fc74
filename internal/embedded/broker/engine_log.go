package broker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
)

// engineLog passes the engine's log lines on, and is the only way to learn that
// a write of its failed: the engine logs that and mostly answers as if nothing
// had happened.
type engineLog struct {
	log *slog.Logger
	// onWriteError is called on the engine's own goroutine, before it answers
	// the request whose write failed.
	onWriteError func(error)
}

// Logf implements kfake.Logger.
func (l *engineLog) Logf(level kfake.LogLevel, format string, args ...any) {
	if reportsLostWrite(format) {
		l.onWriteError(fmt.Errorf(format, args...))
	}
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		if !strings.HasPrefix(format, "txn: EndTxn slow") { // of some milliseconds: nothing to warn of
			to = slog.LevelWarn
		}
	case kfake.LogLevelInfo: // one line for each client that leaves
	default:
		return
	}
	if l.log.Enabled(context.Background(), to) {
		l.log.Log(context.Background(), to, "kafka engine: "+fmt.Sprintf(format, args...))
	}
}

// reportsLostWrite knows the engine's lines by their formats: "persist batch
// %s-%d: %v", "persist group entry write: %v", "persist %s: %v" and others; the
// failure of a transaction marker; and what a close or a compaction could not
// write. The tests with a full disk fail when an update of the engine words
// them otherwise.
func reportsLostWrite(format string) bool {
	for _, prefix := range []string{"persist ", "endTx: failed to persist", "save session state", "rebuildSegments ", "compact %s-%d"} {
		if strings.HasPrefix(format, prefix) {
			return true
		}
	}
	return false
}
