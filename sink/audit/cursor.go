package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
)

// Cursor is a place in a subject's history: behind the item that it names. The
// zero value is the beginning.
type Cursor struct {
	RecordedAt consent.Instant
	Kind       Kind
	Position   kafka.Position
}

const cursorVersion = "1"

var errCursor = errors.New("this is no cursor of ours: give next_cursor of a page as it was")

// String is the URL-safe form; opaque to callers.
func (c Cursor) String() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s|%d|%d|%d|%d|%s", cursorVersion,
		int64(c.RecordedAt), int(c.Kind), c.Position.Index, int64(c.Position.Offset), c.Position.Topic))
}

// ParseCursor reads it back; "" is the beginning.
func ParseCursor(s string) (c Cursor, err error) {
	if s == "" {
		return c, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return c, errCursor
	}
	parts := strings.SplitN(string(b), "|", 6)
	if len(parts) != 6 || parts[0] != cursorVersion {
		return c, errCursor
	}
	var n [4]int64
	for i := range n {
		if n[i], err = strconv.ParseInt(parts[i+1], 10, 64); err != nil || n[i] < 0 {
			return c, errCursor
		}
	}
	if n[1] >= int64(len(kinds)) || n[2] > 1<<31-1 {
		return c, errCursor
	}
	c.RecordedAt, c.Kind = consent.Instant(n[0]), Kind(n[1])
	c.Position.Index, c.Position.Offset, c.Position.Topic = int32(n[2]), kafka.LastOffset(n[3]), parts[5]
	return c, nil
}
