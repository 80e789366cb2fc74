package processor

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/assent-dev/assent/internal/kafka"
)

// commitNote is the metadata of a committed offset: what the last transaction that
// wrote anything for the partition was, so that a takeover can tell whether all of
// it is there. A transaction that only moves the offset keeps the note.
//
//	from=1042;states=88-95;changes=31-33;seen=34;by=2001/4
//
// from is the offset in consent.events where that transaction began; states and
// changes are the first and last offset of what it wrote, "-" when it wrote none
// and none was written before. seen is the offset in consent.changes from which on
// changes may be of events that the committed offset does not count: behind those of
// the note, or before them while a repair goes on. by is the producer id and epoch that committed the
// offset: a local store that claims to be as far must have been written by the same.
type commitNote struct {
	from    kafka.NextOffset
	states  span
	changes span
	seen    kafka.NextOffset
	by      kafka.Sender
}

// span is a run of offsets. The zero value holds none: last lies before first.
type span struct {
	first kafka.NextOffset
	end   kafka.NextOffset // behind the last; 0 = the span is empty
}

func (s span) empty() bool { return s.end == 0 }

// last is the offset of the last record. The span must not be empty.
func (s span) last() kafka.LastOffset { return kafka.LastOffset(s.end - 1) }

// cover makes the span include an offset.
func (s *span) cover(offset kafka.LastOffset) {
	if s.empty() {
		*s = span{kafka.NextOffset(offset), offset.Next()}
		return
	}
	s.first = min(s.first, kafka.NextOffset(offset))
	s.end = max(s.end, offset.Next())
}

func (s span) String() string {
	if s.empty() {
		return "-"
	}
	return fmt.Sprintf("%d-%d", int64(s.first), int64(s.last()))
}

// String is the metadata.
func (n commitNote) String() string {
	return fmt.Sprintf("from=%d;states=%s;changes=%s;seen=%d;by=%d/%d", int64(n.from), n.states, n.changes, int64(n.seen), n.by.ID, n.by.Epoch)
}

var errNote = errors.New("the metadata of the committed offset is not the processor's")

// parseNote reads metadata.
func parseNote(metadata string) (commitNote, error) {
	var n commitNote
	parts := strings.Split(metadata, ";")
	if len(parts) != 5 {
		return n, errNote
	}
	from, err := parseOffset(parts[0], "from=")
	if err != nil {
		return n, err
	}
	n.from = from
	if n.states, err = parseSpan(parts[1], "states="); err != nil {
		return n, err
	}
	if n.changes, err = parseSpan(parts[2], "changes="); err != nil {
		return n, err
	}
	if n.seen, err = parseOffset(parts[3], "seen="); err != nil {
		return n, err
	}
	n.by, err = parseSender(parts[4], "by=")
	return n, err
}

func parseSender(text, prefix string) (kafka.Sender, error) {
	text, ok := strings.CutPrefix(text, prefix)
	id, epoch, cut := strings.Cut(text, "/")
	if !ok || !cut {
		return kafka.Sender{}, errNote
	}
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return kafka.Sender{}, errNote
	}
	e, err := strconv.ParseInt(epoch, 10, 16)
	if err != nil {
		return kafka.Sender{}, errNote
	}
	return kafka.Sender{ID: n, Epoch: int16(e)}, nil
}

func parseOffset(text, prefix string) (kafka.NextOffset, error) {
	text, ok := strings.CutPrefix(text, prefix)
	n, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0, errNote
	}
	return kafka.NextOffset(n), nil
}

func parseSpan(text, prefix string) (span, error) {
	text, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return span{}, errNote
	}
	if text == "-" {
		return span{}, nil
	}
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		return span{}, errNote
	}
	a, err := parseOffset(first, "")
	if err != nil {
		return span{}, err
	}
	b, err := parseOffset(last, "")
	if err != nil || b < a {
		return span{}, errNote
	}
	return span{a, b + 1}, nil
}
