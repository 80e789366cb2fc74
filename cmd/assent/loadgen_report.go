package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assent-dev/assent/internal/loadgen/drive"
)

// loadReport is the summary of a run, as --output=json prints it. Latencies are
// of requests, in milliseconds, from when they were due.
type loadReport struct {
	Seed        int               `json:"seed"`
	Subjects    int               `json:"subjects"`
	Sent        int64             `json:"sent"`
	Accepted    int64             `json:"accepted"`
	Refused     int64             `json:"refused"`
	RefusedBy   map[string]int64  `json:"refused_by,omitempty"`
	DeadLetters map[string]int64  `json:"dead_letters_expected,omitempty"`
	Unexpected  map[string]int64  `json:"unexpected,omitempty"`
	Unanswered  int64             `json:"unanswered"`
	Skipped     int64             `json:"skipped,omitempty"`
	Again       int64             `json:"sent_again"`
	Requests    int64             `json:"requests"`
	Retries     int64             `json:"retries"`
	Seconds     float64           `json:"seconds"`
	Rate        float64           `json:"events_per_second"`
	P50         float64           `json:"latency_p50_ms"`
	P99         float64           `json:"latency_p99_ms"`
	Longest     float64           `json:"latency_max_ms"`
	Verified    *drive.Comparison `json:"-"`
	Comparison  *loadComparison   `json:"verified,omitempty"`
}

type loadComparison struct {
	Subjects    int `json:"subjects"`
	Decisions   int `json:"decisions"`
	Events      int `json:"events"`
	Doubtful    int `json:"households_left_out"`
	Differences int `json:"differences"`
}

func (r *loadReport) summary(s *drive.Summary, retries int64) {
	millis := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	r.Sent, r.Accepted, r.Refused, r.Unanswered, r.Skipped, r.Again = s.Sent, s.Accepted, s.Refused, s.Unanswered, s.Skipped, s.Again
	r.RefusedBy, r.DeadLetters, r.Unexpected = s.RefusedBy, s.DeadLetters, s.Unexpected
	r.Requests, r.Retries = s.Requests, retries
	r.Seconds, r.Rate = s.Elapsed.Seconds(), s.EventsPerSecond()
	r.P50, r.P99, r.Longest = millis(s.P50), millis(s.P99), millis(s.Longest)
}

// differs tells whether --verify found something.
func (r *loadReport) differs() bool {
	return len(r.Unexpected) > 0 || (r.Verified != nil && len(r.Verified.Differences) > 0)
}

func (p *program) printLoad(r *loadReport, asJSON bool) error {
	if v := r.Verified; v != nil {
		r.Comparison = &loadComparison{v.Subjects, v.Decisions, v.Events, v.Doubtful, len(v.Differences)}
	}
	if asJSON {
		return p.printJSON(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d subjects\n", r.Seed, r.Subjects)
	fmt.Fprintf(&b, "sent      %d events in %.1f s (%.0f/s), %d of them again with the same ids\n", r.Sent, r.Seconds, r.Rate, r.Again)
	fmt.Fprintf(&b, "accepted  %d\n", r.Accepted)
	fmt.Fprintf(&b, "refused   %d%s\n", r.Refused, counted(": ", r.RefusedBy))
	if len(r.DeadLetters) > 0 {
		fmt.Fprintf(&b, "to become dead letters%s\n", counted(": ", r.DeadLetters))
	}
	if r.Skipped > 0 {
		fmt.Fprintf(&b, "skipped   %d that cannot be said over Kafka\n", r.Skipped)
	}
	if r.Unanswered > 0 {
		fmt.Fprintf(&b, "no answer %d\n", r.Unanswered)
	}
	fmt.Fprintf(&b, "latency   p50 %.1f ms, p99 %.1f ms, longest %.1f ms of %d requests; %d retries\n", r.P50, r.P99, r.Longest, r.Requests, r.Retries)
	for _, line := range slices.Sorted(maps.Keys(r.Unexpected)) {
		fmt.Fprintf(&b, "UNEXPECTED %d × %s\n", r.Unexpected[line], line)
	}
	if c := r.Comparison; c != nil {
		fmt.Fprintf(&b, "verified  %d decisions about %d subjects against a fold of %d events: %d differences", c.Decisions, c.Subjects, c.Events, c.Differences)
		if c.Doubtful > 0 {
			fmt.Fprintf(&b, "; %d households left out, since not everything of theirs was answered", c.Doubtful)
		}
		fmt.Fprintln(&b)
	}
	_, err := fmt.Fprint(p.stdout, b.String())
	return err
}

// counted lists counts, the largest first.
func counted(before string, counts map[string]int64) string {
	if len(counts) == 0 {
		return ""
	}
	all := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return int(counts[b] - counts[a])
		}
		return strings.Compare(a, b)
	})
	for i, name := range all {
		all[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return before + strings.Join(all, ", ")
}

// loadProgress draws one line over the last one.
func (p *program) loadProgress(s drive.Summary) {
	fmt.Fprintf(p.stderr, "\r\x1b[K%d events sent, %d accepted, %d refused, %.0f/s, p99 %s ", s.Sent, s.Accepted, s.Refused, s.EventsPerSecond(), s.P99.Round(100*time.Microsecond))
}
