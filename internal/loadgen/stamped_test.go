package loadgen

import (
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/schemas"
)

func TestStamped_TheSameSeedGivesTheSameBytes(t *testing.T) {
	g := newGenerator(t, Options{Seed: 7, Subjects: 1000, Day: time.Hour})
	var text []byte
	for _, e := range g.Stamped(20_000) {
		var err error
		if text, err = schemas.EncodeEvent(text, &e); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "stamped.sha256", text)
}

func TestStamped_IsWhatTheLogHolds(t *testing.T) {
	catalogue := registry.Sample().Catalogue(consent.DefaultTenant)
	g := newGenerator(t, Options{Seed: 21, Subjects: 500, InvalidShare: 0.2})
	grants := map[consent.UUID]consent.Event{}
	confirms := 0
	clock := consent.Instant(0)
	for _, e := range g.Stamped(50_000) {
		if _, err := schemas.EncodeEvent(nil, &e); err != nil {
			t.Fatal(err)
		}
		if e.Policy == nil || e.ReceivedAt < clock || e.EffectiveAt > e.ReceivedAt || e.EffectiveAt == 0 || e.Tenant == "" {
			t.Fatalf("a %s is not stamped: received %s, effective %s", e.Action, e.ReceivedAt, e.EffectiveAt)
		}
		clock = e.ReceivedAt
		switch e.Action {
		case consent.Grant:
			if f := catalogue.Check(&e); len(f) > 0 {
				t.Fatal(f)
			}
			grants[e.ID] = e
		case consent.Confirm:
			confirms++
			was, known := grants[e.Confirms.EventID]
			if !known || !e.Policy.DoubleOptIn || e.Policy.Version != was.Policy.Version || e.Notice != was.Notice ||
				e.Confirms.EffectiveAt != was.EffectiveAt || e.EffectiveAt < was.EffectiveAt || e.Evidence.Token == "" {
				t.Fatal("a confirm does not stand for its grant")
			}
		}
	}
	if confirms < 300 {
		t.Errorf("%d confirms", confirms)
	}
}

func TestStamped_TheDayRisesAndFalls(t *testing.T) {
	total := 0
	for _, percent := range hours {
		total += percent
	}
	if total != 2400 {
		t.Errorf("a day has %d %% of its events", total/24)
	}
	g := newGenerator(t, Options{Seed: 23, EventsPerSecond: 10, Day: 24 * time.Minute})
	perMinute := make([]int, 24)
	for {
		e := g.Stamped(1)[0]
		at := (e.ReceivedAt - g.options.Start) / minute
		if at >= 24 {
			break
		}
		perMinute[at]++
	}
	if perMinute[20] < 5*perMinute[3] {
		t.Errorf("minute by minute: %v", perMinute)
	}
}

func TestStamped_FoldsInSmallPopulations(t *testing.T) {
	for _, size := range []int{1, 2, 8, 9, 10, 17, 18, 20, 21, 41} {
		g := newGenerator(t, Options{Seed: uint64(size), Subjects: size, InvalidShare: 0.01})
		states := map[consent.SubjectID]consent.State{}
		for _, e := range g.Stamped(1000) {
			id := consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject, Test: e.Test}
			states[id], _, _ = consent.Fold(states[id], &e)
		}
		if len(states) > 4*size+4 { // test States, and addresses, are apart
			t.Errorf("%d subjects became %d", size, len(states))
		}
	}
}

func BenchmarkStamped(b *testing.B) {
	g := newGenerator(b, Options{Seed: 1, Subjects: 100_000, InvalidShare: 0.01})
	b.ReportAllocs()
	const n = 1000
	for b.Loop() {
		g.Stamped(n)
	}
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
}
