package registry

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// span is a length of time as the files write it: a whole number and a unit.
//
//	15s 250ms 30m 12h    of the clock
//	2d                   2 × 24 hours
//	10bd                 business days
//	unlimited            no bound
type span struct {
	duration     time.Duration
	businessDays int
	unlimited    bool
}

const (
	day = 24 * time.Hour
	// longestSpan keeps sums of spans and instants far from overflow.
	longestSpan     = 36500 * day
	maxBusinessDays = 1000
)

var (
	errSpan    = errors.New("write a whole number and ms, s, m, h, d or bd, such as 15s, 2d or 10bd")
	spanUnits  = map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": day}
	errTooLong = errors.New("longer than 36500d (100 years)")
)

func parseSpan(s string) (span, error) {
	if s == "unlimited" {
		return span{unlimited: true}, nil
	}
	unitAt := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if unitAt <= 0 {
		return span{}, errSpan
	}
	n, err := strconv.ParseInt(s[:unitAt], 10, 64)
	unit := s[unitAt:]
	switch scale, known := spanUnits[unit]; {
	case !known && unit != "bd":
		return span{}, errSpan
	case err != nil:
		return span{}, errTooLong
	case n == 0:
		return span{}, errors.New("nothing is not a length of time: write 1 or more")
	case s[0] == '0':
		return span{}, errSpan
	case unit == "bd" && n > maxBusinessDays:
		return span{}, errors.New("more than 1000 business days")
	case unit == "bd":
		return span{businessDays: int(n)}, nil
	case n > int64(longestSpan/scale):
		return span{}, errTooLong
	default:
		return span{duration: time.Duration(n) * scale}, nil
	}
}

func readSpan(v strictyaml.Value) (span, bool) {
	s, ok := v.Scalar("a length of time such as 2d")
	if !ok {
		return span{}, false
	}
	x, err := parseSpan(s)
	if err != nil {
		v.Fault("%s %s is not a length of time: %s", v.Key(), strictyaml.Quote(s), err)
		return span{}, false
	}
	return x, true
}

// duration reads a bounded length of clock time.
func readDuration(v strictyaml.Value, least, most time.Duration) (time.Duration, bool) {
	x, ok := readSpan(v)
	switch {
	case !ok:
	case x.unlimited:
		v.Fault("%s can't be unlimited: write a length of time such as 2d", v.Key())
	case x.businessDays > 0:
		v.Fault("%s can't count business days: write it in days, such as 14d", v.Key())
	case x.duration < least || x.duration > most:
		v.Fault("%s is %s, and must be from %s to %s", v.Key(), spanText(x.duration), spanText(least), spanText(most))
	default:
		return x.duration, true
	}
	return 0, false
}

func readDeadline(v strictyaml.Value) (Deadline, bool) {
	x, ok := readSpan(v)
	if ok && x.unlimited {
		v.Fault("%s can't be unlimited: leave the key out where no deadline holds", v.Key())
		return Deadline{}, false
	}
	return Deadline{Duration: x.duration, BusinessDays: x.businessDays}, ok
}

// spanText writes a duration in the largest unit that divides it.
func spanText(d time.Duration) string {
	for _, unit := range []string{"d", "h", "m", "s"} {
		if scale := spanUnits[unit]; d >= scale && d%scale == 0 {
			return strconv.FormatInt(int64(d/scale), 10) + unit
		}
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// parseDate reads a calendar day, as midnight UTC.
func parseDate(s string) (time.Time, bool) {
	t, err := time.Parse(time.DateOnly, s)
	return t, err == nil && t.Year() >= 1970 && t.Year() <= 9999
}
