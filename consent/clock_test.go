package consent_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
)

// at gives a time of 2026-01-31, for tables that read like a clock.
func at(clock string) consent.Instant {
	if clock == "" {
		return 0
	}
	i, err := consent.ParseInstant("2026-01-31T" + clock + "Z")
	if err != nil {
		panic(err)
	}
	return i
}

func TestEffectiveAt_FollowsEachSentenceOfSection3(t *testing.T) {
	const received = "12:00:00"
	for _, c := range []struct {
		sentence       string
		action         consent.Action
		channel        consent.Channel
		occurred, sent string
		want           string
	}{
		{"skew is 0 when within 60 s: the claim stands", consent.Grant, consent.Web, "11:00:00", "11:59:00", "11:00:00"},
		{"skew is 0 when within 60 s, a fast clock", consent.Grant, consent.Web, "11:00:00", "12:01:00", "11:00:00"},
		{"skew is 0 when within 60 s, protective", consent.Withdraw, consent.Web, "11:00:00", "11:59:00", "11:00:00"},
		{"effective_at = occurred_at + skew: a slow clock, protective", consent.Withdraw, consent.Web, "09:30:00", "10:00:00", "11:30:00"},
		{"effective_at = occurred_at + skew: a fast clock, grant", consent.Grant, consent.Web, "13:30:00", "14:00:00", "11:30:00"},
		{"effective_at = occurred_at + skew, just beyond 60 s", consent.Withdraw, consent.Web, "11:00:00", "11:58:59.999", "11:01:00.001"},
		{"what is history only moves both ways: later", consent.Request, consent.Web, "09:30:00", "10:00:00", "11:30:00"},
		{"what is history only moves both ways: earlier", consent.Defer, consent.Web, "13:30:00", "14:00:00", "11:30:00"},
		{"never later than received_at: no sent_at, a claim of the future", consent.Grant, consent.Web, "15:00:00", "", received},
		{"never later than received_at: within 60 s", consent.Grant, consent.Web, "12:00:30", "12:00:30", received},
		{"never later than received_at: moved past it", consent.Withdraw, consent.API, "11:00:00", "10:00:00", received},
		{"never later than received_at: protective, of the future", consent.Refuse, consent.CallCenter, "15:00:00", "", received},
		{"a grant is never moved later", consent.Grant, consent.Web, "09:30:00", "10:00:00", "09:30:00"},
		{"a confirm neither", consent.Confirm, consent.Web, "09:30:00", "10:00:00", "09:30:00"},
		{"a protective action is never moved earlier", consent.Withdraw, consent.Web, "11:45:00", "13:00:00", "11:45:00"},
		{"a protective action is never moved earlier: a local time labelled UTC", consent.Refuse, consent.App, "13:00:00", "13:00:00", received},
		{"an invalidate is protective", consent.Invalidate, consent.API, "11:45:00", "13:00:00", "11:45:00"},
		{"an erase is protective", consent.Erase, consent.API, "11:45:00", "13:00:00", "11:45:00"},
		{"protective from web without sent_at: received_at", consent.Withdraw, consent.Web, "09:00:00", "", received},
		{"protective from app without sent_at: received_at", consent.Refuse, consent.App, "09:00:00", "", received},
		{"protective from elsewhere without sent_at: as claimed", consent.Withdraw, consent.CallCenter, "09:00:00", "", "09:00:00"},
		{"protective from post without sent_at: as claimed", consent.Withdraw, consent.Post, "09:00:00", "", "09:00:00"},
		{"a grant from web without sent_at: as claimed", consent.Grant, consent.Web, "09:00:00", "", "09:00:00"},
		{"without occurred_at: received_at", consent.Withdraw, consent.Web, "", "", received},
		{"without occurred_at, with sent_at: received_at", consent.Withdraw, consent.API, "", "11:00:00", received},
		{"a grant without occurred_at: received_at (and 422 fresh)", consent.Grant, consent.Web, "", "11:59:59", received},
	} {
		e := consent.Event{Action: c.action, Channel: c.channel, OccurredAt: at(c.occurred), SentAt: at(c.sent)}
		if got := consent.EffectiveAt(&e, at(received)); got != at(c.want) {
			t.Errorf("%s: effective at %s, want %s", c.sentence, got, at(c.want))
		}
	}
}

// The three exceptions and the bound, over random claims.
func TestEffectiveAt_NeverFavoursDoubt(t *testing.T) {
	r := seeded(t)
	near := func(i consent.Instant) consent.Instant {
		return i + consent.Instant(r.Int64N(4*3600_000)-2*3600_000)
	}
	for range 20_000 {
		received := at("12:00:00")
		e := consent.Event{
			Action:  consent.Action(1 + r.IntN(11)),
			Channel: consent.Channel(r.IntN(11)),
		}
		if r.IntN(5) > 0 {
			e.OccurredAt = near(received)
		}
		if r.IntN(3) > 0 {
			e.SentAt = near(received)
		}
		got := consent.EffectiveAt(&e, received)
		claim := min(e.OccurredAt, received)
		switch {
		case got > received:
			t.Fatalf("%+v takes effect after it was received", e)
		case e.OccurredAt == 0 && got != received:
			t.Fatalf("%+v without a claim takes effect at %s", e, got)
		case e.OccurredAt == 0:
		case e.Action == consent.Grant && got > claim:
			t.Fatalf("grant %+v moved later, to %s", e, got)
		case e.Action.Protective() && got < claim:
			t.Fatalf("protective %+v moved earlier, to %s", e, got)
		}
	}
}

func TestBackdated_MoreThan24HoursBeforeItWasReceived(t *testing.T) {
	const day = consent.Instant(24 * 3600 * 1000)
	received := at("12:00:00")
	for _, c := range []struct {
		action consent.Action
		before consent.Instant
		want   bool
	}{
		{consent.Withdraw, 0, false},
		{consent.Withdraw, day, false},
		{consent.Withdraw, day + 1, true},
		{consent.Refuse, day + 1, true},
		{consent.Invalidate, day + 1, true},
		{consent.Grant, 2 * day, false},
		{consent.Request, 2 * day, false},
	} {
		e := consent.Event{Action: c.action, ReceivedAt: received, EffectiveAt: received - c.before}
		if got := consent.Backdated(&e); got != c.want {
			t.Errorf("%s %d ms before: backdated %t, want %t", c.action, c.before, got, c.want)
		}
	}
}

func TestInstant_WritesUTCWithThreeDecimals(t *testing.T) {
	for in, want := range map[string]string{
		"2026-01-31T09:30:00Z":                "2026-01-31T09:30:00.000Z",
		"2026-01-31T10:30:00+01:00":           "2026-01-31T09:30:00.000Z",
		"2026-01-31T00:30:00-09:00":           "2026-01-31T09:30:00.000Z",
		"2026-01-31T09:30:00.5Z":              "2026-01-31T09:30:00.500Z",
		"2026-01-31T09:30:00.123999999Z":      "2026-01-31T09:30:00.123Z",
		"1901-12-13T20:45:52.001Z":            "1901-12-13T20:45:52.001Z",
		"9999-12-31T23:59:59.999Z":            "9999-12-31T23:59:59.999Z",
		"2026-01-31T09:30:00.000000000+00:00": "2026-01-31T09:30:00.000Z",
	} {
		got, err := consent.ParseInstant(in)
		if err != nil || got.String() != want {
			t.Errorf("%s reads as %q, %v, want %s", in, got, err, want)
		}
		if back, err := consent.ParseInstant(got.String()); err != nil || back != got {
			t.Errorf("%s does not read back: %v", got, err)
		}
		if consent.InstantOf(got.Time()) != got {
			t.Errorf("%s does not survive time.Time", got)
		}
	}
	if s := consent.Instant(0).String(); s != "" {
		t.Errorf("an absent instant reads %q", s)
	}
	if !consent.Instant(0).Time().IsZero() || consent.InstantOf(time.Time{}) != 0 {
		t.Error("an absent instant is the zero time")
	}
}

// The digits are put together by hand: the library's say what they should be.
func TestInstant_AppendsAsTheLibraryFormats(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	first, last := time.Date(-1000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	for range 20_000 {
		i := consent.Instant(first + r.Int64N(last-first))
		if got, want := i.String(), i.Time().Format("2006-01-02T15:04:05.000Z"); got != want {
			t.Fatalf("%d: %q, want %q", i, got, want)
		}
	}
}

func TestParseInstant_RefusesWhatIsNoTimeAndDoesNotRepeatIt(t *testing.T) {
	for _, in := range []string{"", "yesterday", "2026-01-31", "2026-01-31T09:30:00", "2026-13-01T00:00:00Z", "1769851800", "0001-01-01T00:00:00Z", "1899-12-31T23:59:59Z", "user:42"} {
		i, err := consent.ParseInstant(in)
		if err == nil || i != 0 {
			t.Errorf("%q reads as %s", in, i)
			continue
		}
		if in == "user:42" && contains(err.Error(), in) {
			t.Errorf("the error repeats its input: %v", err)
		}
	}
}

func TestInstant_AddAndSubAreInverse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		i, d := consent.Instant(r.Int64N(1<<42)), time.Duration(r.Int64N(1<<40))*time.Millisecond
		if got := i.Add(d).Sub(i); got != d {
			t.Fatalf("%d + %s − %d = %s", i, d, i, got)
		}
	}
}
