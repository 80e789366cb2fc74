package consent

import (
	"fmt"
	"time"
)

// Instant is a point in time: milliseconds since 1970-01-01T00:00:00Z. The zero
// value means "absent".
type Instant int64

// InstantOf truncates t to milliseconds. The zero time is absent.
func InstantOf(t time.Time) Instant {
	if t.IsZero() {
		return 0
	}
	return Instant(t.UnixMilli())
}

// ParseInstant reads RFC 3339 with any offset and any number of decimals;
// what is finer than a millisecond is cut off.
func ParseInstant(s string) (Instant, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, fmt.Errorf("not an RFC 3339 time such as 2026-01-31T09:30:00.000Z")
	}
	if y := t.UTC().Year(); y < 1900 || y > 9999 {
		return 0, fmt.Errorf("year %d is outside 1900 to 9999", y)
	}
	return Instant(t.UnixMilli()), nil
}

// Time gives the UTC time; the zero time for an absent instant.
func (i Instant) Time() time.Time {
	if i == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(i)).UTC()
}

// Add moves an instant; d is cut to milliseconds.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d.Milliseconds()) }

// Sub gives i − j.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i-j) * time.Millisecond }

// String gives RFC 3339 in UTC with exactly three decimals; "" when absent.
func (i Instant) String() string {
	var b [24]byte
	return string(i.Append(b[:0]))
}

// Append appends what String gives.
func (i Instant) Append(dst []byte) []byte {
	if i == 0 {
		return dst
	}
	t := i.Time()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	}
	// As AppendFormat, which looks for the parts of its layout each time.
	hour, minute, second := t.Clock()
	two := func(n int, behind byte) { dst = append(dst, '0'+byte(n/10), '0'+byte(n%10), behind) }
	dst = append(dst, '0'+byte(year/1000), '0'+byte(year/100%10))
	two(year%100, '-')
	two(int(month), '-')
	two(day, 'T')
	two(hour, ':')
	two(minute, ':')
	two(second, '.')
	millis := t.Nanosecond() / int(time.Millisecond)
	dst = append(dst, '0'+byte(millis/100))
	two(millis%100, 'Z')
	return dst
}
