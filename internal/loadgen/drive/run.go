package drive

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/loadgen"
)

// Config says what to send where, and how fast.
type Config struct {
	Generator *loadgen.Generator
	Sender    Sender
	// EventsPerSecond is the pace; 0 = as fast as the target takes them.
	EventsPerSecond float64
	// Day is the length of a day over which the pace rises and falls; 0 = even.
	Day time.Duration
	// Events and Duration end the run, whichever comes first; 0 = not by this.
	Events   int64
	Duration time.Duration
	// BatchEvents is how many events go into a request; 0 = as channels send them.
	BatchEvents int
	// Concurrency is how many requests are on their way at most. Default: 64.
	Concurrency int
	// Grace is how long what is on its way may take after the end. Default: 10s.
	Grace time.Duration
	// Progress is called each second; nil = never.
	Progress func(Summary)
	// Witness keeps what a comparison needs; nil = nothing is kept.
	Witness *Witness
}

func (c *Config) ensureDefaults() {
	if c.Concurrency <= 0 {
		c.Concurrency = 64
	}
	if c.Grace <= 0 {
		c.Grace = 10 * time.Second
	}
}

// Run sends until its number of events, its duration or ctx ends, and gives the
// score, whatever ended it. The error is that of a sender that can never
// succeed; an unreachable target is no error, it is waited for.
func Run(ctx context.Context, c Config) (Summary, error) {
	c.ensureDefaults()
	r := &run{Config: c, score: newScore(), parcels: make(chan delivery)}
	return r.run(ctx)
}

type run struct {
	Config
	score   *score
	parcels chan delivery
	sent    int64
	failure error
	once    sync.Once
}

// delivery is a parcel and when it was to be sent.
type delivery struct {
	parcel *Parcel
	due    time.Time
}

func (r *run) run(ctx context.Context) (Summary, error) {
	sending, stop := context.WithCancel(ctx)
	defer stop()
	if r.Duration > 0 {
		sending, stop = context.WithTimeout(ctx, r.Duration)
		defer stop()
	}
	carrying, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	var workers, side sync.WaitGroup
	for range r.Concurrency {
		workers.Go(func() { r.work(carrying, stop) })
	}
	if r.Progress != nil {
		side.Go(func() { r.report(carrying) })
	}
	r.source(sending)
	close(r.parcels)
	grace := time.AfterFunc(r.Grace, giveUp)
	workers.Wait()
	grace.Stop()
	sum := r.score.read()
	giveUp()
	side.Wait()
	return sum, r.failure
}

// source makes parcels when they are due, until ctx ends.
func (r *run) source(ctx context.Context) {
	due := time.Now()
	began := due
	for ctx.Err() == nil && (r.Events == 0 || r.sent < r.Events) {
		if r.EventsPerSecond > 0 && !sleepUntil(ctx, due) {
			return
		}
		if r.EventsPerSecond == 0 {
			due = time.Now()
		}
		p := r.next()
		select {
		case r.parcels <- delivery{p, due}:
		case <-ctx.Done():
			return // made and not sent: nobody heard of it
		}
		n := len(p.Act.Claims)
		r.sent += int64(n)
		if r.EventsPerSecond > 0 {
			due = due.Add(r.interval(n, due.Sub(began)))
		}
	}
}

// interval is how long so many events take at the pace that it is at a time of
// the run.
func (c *Config) interval(events int, sinceStart time.Duration) time.Duration {
	percent := loadgen.DayCurve(sinceStart, c.Day)
	return time.Duration(float64(events) * 100 / float64(percent) / c.EventsPerSecond * float64(time.Second))
}

// next makes the next parcel, no larger than what is left to send.
func (r *run) next() *Parcel {
	p := &Parcel{made: time.Now()}
	if r.BatchEvents == 0 {
		p.Act = r.Generator.NextAct()
	} else {
		p.Act.Form = loadgen.AsBatch
		p.Act.Claims = make([]loadgen.Claim, r.BatchEvents)
		for i := range p.Act.Claims {
			p.Act.Claims[i] = r.Generator.Next()
		}
	}
	if left := r.Events - r.sent; r.Events > 0 && int64(len(p.Act.Claims)) > left {
		p.Act.Claims = p.Act.Claims[:left]
	}
	return p
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// work carries parcels until there are no more.
func (r *run) work(ctx context.Context, stop func()) {
	for d := range r.parcels {
		answers, err := r.Sender.Send(ctx, d.parcel)
		if answers == nil {
			answers = make([]Answer, len(d.parcel.Act.Claims))
		}
		if r.Witness != nil {
			r.Witness.record(d.parcel, answers)
		}
		r.score.count(d.parcel, answers, d.due)
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			r.once.Do(func() { r.failure = err })
			stop()
		}
	}
}

// report tells the score each second.
func (r *run) report(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.Progress(r.score.read())
		case <-ctx.Done():
			return
		}
	}
}
