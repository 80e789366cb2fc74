package drive

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/loadgen"
	"github.com/assent-dev/assent/internal/logtest"
)

func TestRun_EveryAnswerIsAsExpectedAndDecisionsAgree(t *testing.T) {
	for name, batch := range map[string]int{"as channels send them": 0, "in batches": 100} {
		t.Run(name, func(t *testing.T) {
			x := newTarget(t)
			g := newGenerator(t, loadgen.Options{Seed: 31, Subjects: 400, InvalidShare: 0.1})
			h := newSender(t, x, nil)
			w := NewWitness(g, x.catalogue, 100)
			if err := w.CheckFresh(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			sum, err := Run(t.Context(), Config{Generator: g, Sender: h, Events: 5000, BatchEvents: batch, Concurrency: 8, Witness: w})
			if err != nil {
				t.Fatal(err)
			}
			if sum.Sent != 5000 || sum.Accepted+sum.Refused != 5000 || sum.Unanswered != 0 || sum.Refused < 350 || sum.P99 < sum.P50 || sum.P50 == 0 {
				t.Errorf("%+v", sum)
			}
			if len(sum.Unexpected) > 0 {
				t.Errorf("unexpected: %v", sum.Unexpected)
			}
			if int(sum.Accepted) != x.recorded {
				t.Errorf("%d accepted, %d recorded", sum.Accepted, x.recorded)
			}
			got, err := w.Compare(t.Context(), h)
			if err != nil || len(got.Differences) > 0 || got.Events < 100 || got.Decisions < 500 {
				t.Errorf("%v, %d decisions, %d events, %v", err, got.Decisions, got.Events, got.Differences)
			}
			if err := w.CheckFresh(t.Context(), h); !errors.Is(err, ErrOnRecord) {
				t.Errorf("after the run: %v, want %v", err, ErrOnRecord)
			}
		})
	}
}

func TestCompare_FindsAWithdrawalThatWasNotFolded(t *testing.T) {
	x := newTarget(t)
	forgotten := 0
	x.forget = func(e *consent.Event) bool {
		lost := e.Action == consent.Withdraw && !e.Test
		if lost {
			forgotten++
		}
		return lost
	}
	g := newGenerator(t, loadgen.Options{Seed: 33, Subjects: 60, Mix: loadgen.Mix{loadgen.Preferences: 1}})
	h := newSender(t, x, nil)
	w := NewWitness(g, x.catalogue, 1000)
	if _, err := Run(t.Context(), Config{Generator: g, Sender: h, Events: 300, Witness: w}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0
	got, err := w.Compare(ctx, deciderFunc(func(ctx context.Context, q []Question, atLeast []string) ([]Decision, error) {
		if asked++; asked == 3 { // a difference is asked about again: enough of it
			cancel()
		}
		return h.Decide(context.WithoutCancel(ctx), q, atLeast)
	}))
	if !errors.Is(err, context.Canceled) || len(got.Differences) == 0 || forgotten == 0 {
		t.Fatalf("%d withdrawals were forgotten; found %d differences, %v", forgotten, len(got.Differences), err)
	}
	for _, d := range got.Differences {
		if text := d.String(); strings.Contains(text, string(d.Question.Subject)) {
			t.Fatal("a difference shows a subject's id")
		}
	}
}

type deciderFunc func(context.Context, []Question, []string) ([]Decision, error)

func (f deciderFunc) Decide(ctx context.Context, q []Question, atLeast []string) ([]Decision, error) {
	return f(ctx, q, atLeast)
}

func TestCheckFresh_TellsAnotherRegistry(t *testing.T) {
	x := newTarget(t)
	g := newGenerator(t, loadgen.Options{Seed: 35, Subjects: 40})
	other := consent.NewCatalogue(consent.DefaultTenant, "another", x.catalogue.Purposes)
	if err := NewWitness(g, other, 40).CheckFresh(t.Context(), newSender(t, x, nil)); !errors.Is(err, ErrOtherRegistry) {
		t.Errorf("%v, want %v", err, ErrOtherRegistry)
	}
}

func TestRun_AnAwayTargetIsToldOnceAndNothingIsLostOrDoubled(t *testing.T) {
	x := newTarget(t)
	requests := 0
	x.refuse = func(*http.Request) int {
		if requests++; requests > 20 && requests <= 60 {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	g := newGenerator(t, loadgen.Options{Seed: 37, Mix: loadgen.Mix{loadgen.CallCenter: 1}})
	log := &logtest.Buffer{}
	h := newSender(t, x, slog.New(slog.NewTextHandler(log, nil)))
	sum, err := Run(t.Context(), Config{Generator: g, Sender: h, Events: 200, Concurrency: 8})
	if err != nil || sum.Accepted != 200 || x.recorded != 200 || h.Retries() < 40 {
		t.Errorf("%+v, %v; %d recorded, %d retries", sum, err, x.recorded, h.Retries())
	}
	// One of the eight that are on their way may have been taken before the refusals, and
	// answered among them: then it is told once more, and not forty times.
	if away, back := strings.Count(log.String(), "does not take events"), strings.Count(log.String(), "takes events again"); away < 1 || away > 8 || back != away {
		t.Errorf("told %d times that it is away, %d times that it is back", away, back)
	}
}

func TestRun_AnUnreachableTargetIsWaitedForAndGivenUpAtTheEnd(t *testing.T) {
	x := newTarget(t)
	g := newGenerator(t, loadgen.Options{Seed: 39, Subjects: 40})
	log := &logtest.Buffer{}
	h := newSender(t, x, slog.New(slog.NewTextHandler(log, nil)))
	x.Close()
	w := NewWitness(g, x.catalogue, 40)
	sum, err := Run(t.Context(), Config{Generator: g, Sender: h, Duration: 300 * time.Millisecond, Grace: 50 * time.Millisecond, Concurrency: 4, Witness: w})
	if err != nil || sum.Accepted != 0 || sum.Unanswered == 0 || sum.Sent != sum.Unanswered {
		t.Errorf("%+v, %v", sum, err)
	}
	if sum.Elapsed > 5*time.Second || h.Retries() > 4*20 {
		t.Errorf("took %s and %d retries", sum.Elapsed, h.Retries())
	}
	if n := strings.Count(log.String(), "does not take events"); n != 1 {
		t.Errorf("told %d times that the target is away", n)
	}
	if len(w.doubtful) == 0 {
		t.Error("a household whose events were not answered is compared")
	}
}

func TestRun_TheEndOfTheContextEndsItWithTheScore(t *testing.T) {
	x := newTarget(t)
	g := newGenerator(t, loadgen.Options{Seed: 41})
	ctx, cancel := context.WithCancel(t.Context())
	x.refuse = func(*http.Request) int {
		if x.recorded > 50 {
			cancel()
		}
		return 0
	}
	sum, err := Run(ctx, Config{Generator: g, Sender: newSender(t, x, nil), EventsPerSecond: 5000})
	if err != nil || sum.Accepted < 50 || sum.Unanswered != 0 || int(sum.Accepted) != x.recorded {
		t.Errorf("%+v, %v; %d recorded", sum, err, x.recorded)
	}
}

func TestRun_HoldsThePace(t *testing.T) {
	x := newTarget(t)
	g := newGenerator(t, loadgen.Options{Seed: 43})
	sum, err := Run(t.Context(), Config{Generator: g, Sender: newSender(t, x, nil), EventsPerSecond: 500, Events: 500})
	if err != nil || sum.Elapsed < 900*time.Millisecond {
		t.Errorf("500 events at 500/s took %s, %v", sum.Elapsed, err)
	}
}

func TestInterval_FollowsTheDay(t *testing.T) {
	even, risesAndFalls := Config{EventsPerSecond: 100}, Config{EventsPerSecond: 100, Day: 24 * time.Hour}
	if got := even.interval(50, 3*time.Hour); got != 500*time.Millisecond {
		t.Errorf("50 events at 100/s take %s", got)
	}
	if night, evening := risesAndFalls.interval(50, 3*time.Hour), risesAndFalls.interval(50, 20*time.Hour); night != 5*time.Second || evening > 300*time.Millisecond {
		t.Errorf("at night %s, in the evening %s", night, evening)
	}
}

func TestRun_SendsNoEventMoreThanAskedFor(t *testing.T) {
	for name, batch := range map[string]int{"acts of 20 rows": 0, "batches of 7": 7} {
		x := newTarget(t)
		g := newGenerator(t, loadgen.Options{Seed: 45, Mix: loadgen.Mix{loadgen.ImportRows: 1}})
		sum, err := Run(t.Context(), Config{Generator: g, Sender: newSender(t, x, nil), Events: 50, BatchEvents: batch})
		if err != nil || sum.Sent != 50 || x.recorded != 50 {
			t.Errorf("%s: %d sent, %d recorded, %v", name, sum.Sent, x.recorded, err)
		}
	}
}

func TestRun_EachSubmissionHasItsOwnKey(t *testing.T) {
	x := newTarget(t)
	g := newGenerator(t, loadgen.Options{Seed: 47, Mix: loadgen.Mix{loadgen.Banner: 1}})
	if _, err := Run(t.Context(), Config{Generator: g, Sender: newSender(t, x, nil), Events: 1000}); err != nil {
		t.Fatal(err)
	}
	again := 0
	for _, n := range x.keys {
		again += n - 1
	}
	if len(x.keys) < 50 || again > len(x.keys)/4 {
		t.Errorf("%d keys, of which %d came again", len(x.keys), again)
	}
}

func TestSend_StampsSentAtAnewOnEachAttempt(t *testing.T) {
	x := newTarget(t)
	attempts := 0
	x.refuse = func(*http.Request) int {
		if attempts++; attempts < 3 {
			return http.StatusTooManyRequests
		}
		return 0
	}
	now := consent.InstantOf(time.Now())
	id := consent.UUID{7}
	p := &Parcel{made: time.Now().Add(-time.Minute), Act: loadgen.Act{Claims: []loadgen.Claim{{Event: consent.Event{
		ID: id, Subject: "user:42", Purpose: "analytics", Action: consent.Withdraw, OccurredAt: now - 61_000, SentAt: now - 60_000,
	}}}}}
	answers, err := newSender(t, x, nil).Send(t.Context(), p)
	if err != nil || answers[0].Status != http.StatusAccepted || answers[0].EventID != id {
		t.Fatalf("%+v, %v", answers, err)
	}
	if sent := x.sentAt[id]; len(sent) != 1 || sent[0] < now {
		t.Errorf("sent at %v, now %d", sent, now)
	}
}

func TestSend_ABatchRepeatsOnlyWhatWasNotConfirmed(t *testing.T) {
	answers := []Answer{{Done: true, Status: 202}, {}, {Done: true, Status: 422}, {}}
	text := []byte(`{"results":[{"status":503},{"status":"recorded","event_id":"00000000-0000-0000-0000-000000000009"}]}`)
	err := spread(http.StatusOK, time.Second, text, []int{1, 3}, answers)
	later := new(LaterError)
	if !errors.As(err, &later) || later.Busy || later.After != time.Second {
		t.Fatalf("error %v", err)
	}
	if answers[1].Done || !answers[0].Done || !answers[2].Done || answers[3].EventID != (consent.UUID{15: 9}) {
		t.Errorf("%+v", answers)
	}
	answers[1] = Answer{}
	if err := spread(http.StatusServiceUnavailable, 0, nil, []int{1}, answers); !errors.As(err, &later) || answers[1].Done {
		t.Errorf("a batch that was refused as a whole: %+v, %v", answers[1], err)
	}
}

func TestUnexpected_NamesWhatDiffers(t *testing.T) {
	claim := loadgen.Claim{Event: consent.Event{Action: consent.Grant}, Expect: loadgen.Expect{Status: 422, Code: consent.CodeFresh}}
	for want, a := range map[string]Answer{
		"":                                 {Status: 422, Codes: []consent.Code{consent.CodeInformed, consent.CodeFresh}},
		"refused by [fresh], was accepted": {Status: 202},
		"was answered 422 [informed]":      {Status: 422, Codes: []consent.Code{consent.CodeInformed}},
		"was answered 400 [fresh]":         {Status: 400, Codes: []consent.Code{consent.CodeFresh}},
	} {
		if got := unexpected(&claim, &a); !strings.HasSuffix(got, want) || (want == "") != (got == "") {
			t.Errorf("%+v: %q", a, got)
		}
	}
	odd := loadgen.Claim{Expect: loadgen.Expect{Status: 202, Warning: consent.WarnBackdated}}
	if unexpected(&odd, &Answer{Status: 202}) == "" || unexpected(&odd, &Answer{Status: 202, Warned: []consent.WarningCode{consent.WarnBackdated}}) != "" {
		t.Error("a missing warning is not told, or one that is there")
	}
}

func TestQuantile_IsWithinThreePercent(t *testing.T) {
	var l latencies
	for i := 1; i <= 100_000; i++ {
		l.add(time.Duration(i) * 10 * time.Microsecond)
	}
	for part, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := l.quantile(part); got < want || got > want*104/100 {
			t.Errorf("quantile %v is %s, want %s", part, got, want)
		}
	}
	for bucket := 1; bucket < len(l.buckets)-1; bucket++ {
		if at := upper(bucket); bucketOf(at.Microseconds()) != bucket || bucketOf(at.Microseconds()+1) != bucket+1 {
			t.Fatalf("bucket %d ends at %s, which is in bucket %d", bucket, at, bucketOf(at.Microseconds()))
		}
	}
}
