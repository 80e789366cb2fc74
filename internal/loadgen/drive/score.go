package drive

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/loadgen"
)

// Summary is what came of a run, or of its part so far.
type Summary struct {
	Sent       int64 // events that were handed to the sender
	Accepted   int64 // recorded: 202, or written to the intake topic
	Refused    int64 // answered by something else
	Unanswered int64 // the run ended before anybody knew
	Skipped    int64 // the sender has no way to say them
	Again      int64 // of the sent: repetitions with the same ids, as channels make them
	// RefusedBy counts refused events by each of their codes, or by their status
	// where they have none.
	RefusedBy map[string]int64
	// DeadLetters counts events that were written to the intake topic, where
	// nobody answers, and that the gateway must set aside, by the code expected.
	DeadLetters map[string]int64
	// Unexpected counts answers that are not what the rules ask for.
	Unexpected map[string]int64

	Requests int64
	Elapsed  time.Duration
	// Latencies of requests, from when they were due.
	P50, P99, Longest time.Duration
}

// EventsPerSecond is how fast events were answered.
func (s *Summary) EventsPerSecond() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Accepted+s.Refused) / s.Elapsed.Seconds()
}

// score counts while workers answer.
type score struct {
	began time.Time

	mu        sync.Mutex
	summary   Summary
	latencies latencies
}

func newScore() *score {
	return &score{began: time.Now(), summary: Summary{
		RefusedBy: map[string]int64{}, DeadLetters: map[string]int64{}, Unexpected: map[string]int64{},
	}}
}

// count takes in the answers to a parcel that was due at a time.
func (s *score) count(p *Parcel, answers []Answer, due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.summary.Requests++
	answered := true
	for i := range p.Act.Claims {
		s.summary.Sent++
		if p.Act.Claims[i].Again {
			s.summary.Again++
		}
		s.answer(&p.Act.Claims[i], &answers[i])
		answered = answered && answers[i].Done
	}
	if answered {
		s.latencies.add(time.Since(due))
	}
}

func (s *score) answer(c *loadgen.Claim, a *Answer) {
	switch {
	case a.Skipped:
		s.summary.Skipped++
		return
	case !a.Done:
		s.summary.Unanswered++
		return
	case a.Status == 0:
		s.summary.Accepted++
		if !c.Expect.Accepted() {
			s.summary.DeadLetters[string(c.Expect.Code)]++
		}
		return
	case a.Status == http.StatusAccepted:
		s.summary.Accepted++
	default:
		s.summary.Refused++
		for _, name := range names(a.Status, a.Codes) {
			s.summary.RefusedBy[name]++
		}
	}
	if fault := unexpected(c, a); fault != "" {
		s.summary.Unexpected[fault]++
	}
}

// unexpected tells in which way an answer is not what the rules ask for; "" if
// it is.
func unexpected(c *loadgen.Claim, a *Answer) string {
	x := c.Expect
	want := "accepted"
	if !x.Accepted() {
		want = fmt.Sprintf("refused by %v", names(x.Status, codesOf(x.Code)))
	}
	switch {
	case a.Status != x.Status || (x.Code != "" && !slices.Contains(a.Codes, x.Code)):
		got := "was accepted"
		if a.Status != http.StatusAccepted {
			got = fmt.Sprintf("was answered %d %v", a.Status, a.Codes)
		}
		return fmt.Sprintf("%s should be %s, %s", c.Event.Action, want, got)
	case x.Warning != "" && !slices.Contains(a.Warned, x.Warning):
		return fmt.Sprintf("%s should be warned of %s", c.Event.Action, x.Warning)
	}
	return ""
}

func codesOf(code consent.Code) []consent.Code {
	if code == "" {
		return nil
	}
	return []consent.Code{code}
}

// names gives each code once, or the status where there is none.
func names(status int, codes []consent.Code) []string {
	if len(codes) == 0 {
		return []string{fmt.Sprintf("%d", status)}
	}
	var all []string
	for _, c := range codes {
		if !slices.Contains(all, string(c)) {
			all = append(all, string(c))
		}
	}
	return all
}

// read gives the summary so far, as a copy.
func (s *score) read() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.summary
	sum.RefusedBy, sum.DeadLetters, sum.Unexpected = maps.Clone(sum.RefusedBy), maps.Clone(sum.DeadLetters), maps.Clone(sum.Unexpected)
	sum.Elapsed = time.Since(s.began)
	sum.P50, sum.P99, sum.Longest = s.latencies.quantile(0.50), s.latencies.quantile(0.99), s.latencies.longest
	return sum
}
