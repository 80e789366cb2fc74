package drive

import (
	"math/bits"
	"time"
)

// latencies counts durations in buckets of at most 3 % width, from 1 µs to hours.
type latencies struct {
	buckets [latencyOctaves * latencySteps]int64
	count   int64
	longest time.Duration
}

const (
	latencySteps   = 32 // of an octave
	latencyOctaves = 36
)

func (l *latencies) add(d time.Duration) {
	l.count++
	l.longest = max(l.longest, d)
	l.buckets[bucketOf(max(0, d.Microseconds()))]++
}

// bucketOf: exact below latencySteps, then latencySteps buckets an octave.
func bucketOf(micros int64) int {
	u := uint64(micros)
	if u < latencySteps {
		return int(u)
	}
	octave := bits.Len64(u) - bits.Len64(latencySteps) // shift to the top bits
	bucket := octave*latencySteps + int(u>>octave)
	return min(bucket, latencyOctaves*latencySteps-1)
}

// upper is the largest duration that a bucket counts.
func upper(bucket int) time.Duration {
	if bucket < 2*latencySteps {
		return time.Duration(bucket) * time.Microsecond
	}
	octave := bucket/latencySteps - 1
	top := uint64(bucket - octave*latencySteps)
	return time.Duration((top+1)<<octave-1) * time.Microsecond
}

// quantile is the duration that a part of all does not exceed, 0 to 1.
func (l *latencies) quantile(part float64) time.Duration {
	if l.count == 0 {
		return 0
	}
	rank := max(1, int64(part*float64(l.count)+0.5))
	for bucket, n := range l.buckets {
		if rank -= n; rank <= 0 {
			return min(upper(bucket), l.longest)
		}
	}
	return l.longest
}
