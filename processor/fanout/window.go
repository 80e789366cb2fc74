package fanout

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/assent-dev/assent/internal/kafka"
)

// window knows which changes of one partition have no outcome yet, and from it
// what to commit: the offset up to which everything was read, with the open
// ones below it as metadata. So a change that is tried for days does not hold
// back the position of the others.
//
// Metadata, base64 without padding of:
//
//	┌─────────┬──────────────┬──────────────────┬─────────────────┬ …
//	│ 0x01    │ count uvarint │ first offset uv. │ gap to next uv. │
//	└─────────┴──────────────┴──────────────────┴─────────────────┴ …
//
// At most maxOpenInCommit are noted; with more, the committed offset is that of
// the first one not noted.
type window struct {
	next kafka.NextOffset              // everything below was read
	open map[kafka.LastOffset]struct{} // read, without an outcome
}

const (
	// maxOpenInCommit: ten bytes each at most, in base64, stay far below what a
	// commit's metadata may hold.
	maxOpenInCommit = 256
	metadataVersion = 1
)

func newWindow(next kafka.NextOffset) *window {
	return &window{next: next, open: map[kafka.LastOffset]struct{}{}}
}

func (w *window) add(o kafka.LastOffset)  { w.open[o] = struct{}{} }
func (w *window) done(o kafka.LastOffset) { delete(w.open, o) }

// commit gives what to commit now.
func (w *window) commit() kafka.Commit {
	if len(w.open) == 0 {
		return kafka.Commit{Next: w.next}
	}
	open := make([]kafka.LastOffset, 0, len(w.open))
	for o := range w.open {
		open = append(open, o)
	}
	slices.Sort(open)
	next := w.next
	if len(open) > maxOpenInCommit {
		next = kafka.NextOffset(open[maxOpenInCommit])
		open = open[:maxOpenInCommit]
	}
	return kafka.Commit{Next: next, Metadata: encodeOpen(open)}
}

func encodeOpen(open []kafka.LastOffset) string {
	b := make([]byte, 0, 2+4*len(open))
	b = append(b, metadataVersion)
	b = binary.AppendUvarint(b, uint64(len(open)))
	before := kafka.LastOffset(0)
	for _, o := range open {
		b = binary.AppendUvarint(b, uint64(o-before))
		before = o
	}
	return base64.RawStdEncoding.EncodeToString(b)
}

var errMetadata = errors.New("the commit's metadata is not a list of open offsets")

// decodeOpen reads the open offsets out of a commit's metadata.
func decodeOpen(text string) ([]kafka.LastOffset, error) {
	if text == "" {
		return nil, nil
	}
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil || len(b) == 0 || b[0] != metadataVersion {
		return nil, errMetadata
	}
	b = b[1:]
	count, n := binary.Uvarint(b)
	if n <= 0 || count > uint64(len(b)) {
		return nil, errMetadata
	}
	b = b[n:]
	open := make([]kafka.LastOffset, 0, count)
	at := kafka.LastOffset(0)
	for range count {
		gap, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errMetadata
		}
		b = b[n:]
		at += kafka.LastOffset(gap)
		open = append(open, at)
	}
	if len(b) != 0 {
		return nil, errMetadata
	}
	return open, nil
}
