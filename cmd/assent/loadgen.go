package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/internal/loadgen"
	"github.com/assent-dev/assent/internal/loadgen/drive"
	"github.com/assent-dev/assent/internal/registry"
)

type loadgenSettings struct {
	Target      string        `env:"TARGET" default:"http://127.0.0.1:8080" help:"address of the gateway to send to"`
	Brokers     []string      `env:"KAFKA_BROKERS" help:"publish to consent.intake on these brokers instead, host:port, separated by commas; the gateway role takes the events from there"`
	TLS         bool          `env:"KAFKA_TLS" help:"speak TLS to those brokers"`
	Prefix      string        `env:"TOPIC_PREFIX" help:"put before the topic's name"`
	Purposes    []string      `env:"PURPOSES" help:"purpose registry files that the target runs with, separated by commas; the built-in sample registry when empty"`
	Seed        int           `env:"SEED" default:"0" help:"decides everything that is drawn; 0 = drawn itself, and printed"`
	Subjects    int           `env:"SUBJECTS" default:"10000" help:"people, devices and mail boxes that there are"`
	Mix         []string      `env:"MIX" help:"how often each kind of act comes, as kind=weight, separated by commas; kinds that are left out do not come"`
	Invalid     float64       `env:"INVALID" default:"0.01" help:"part of the events that must be refused, 0 to 1"`
	Rate        float64       `env:"RATE" default:"0" help:"events a second; 0 = as fast as the target takes them"`
	Day         time.Duration `env:"DAY" default:"0s" help:"length of a day over which the rate rises and falls, such as 24h or 10m; 0s = even"`
	Events      int           `env:"EVENTS" default:"0" help:"end after so many events; 0 = not by this, or 10000 without --duration"`
	Duration    time.Duration `env:"DURATION" default:"0s" help:"end after so long; 0s = not by this"`
	Batch       int           `env:"BATCH" default:"0" help:"events in each request; 0 = as channels send them: single ones, submissions, imports in batches"`
	Concurrency int           `env:"CONCURRENCY" default:"64" help:"requests on their way at once"`
	DryRun      bool          `env:"DRY_RUN" help:"print the events, one a line, and send nothing; the same seed prints the same"`
	Start       string        `env:"START" default:"2026-01-05T00:00:00Z" help:"with --dry-run: where its time begins, RFC 3339"`
	Verify      bool          `env:"VERIFY" help:"then ask for decisions, and hold them and each answer against what they must be; exit 3 on a difference"`
	Sample      int           `env:"VERIFY_SUBJECTS" default:"200" help:"about how many subjects --verify compares"`
	Output      output
}

const (
	defaultEvents = 10_000
	// loadgenGrace is how long the last requests may take.
	loadgenGrace = 5 * time.Second
)

// Validate checks what fields alone cannot tell.
func (s *loadgenSettings) Validate() []config.Fault {
	faults := brokerFaults(s.Brokers)
	fault := func(name, message string) { faults = append(faults, config.Fault{Setting: name, Message: message}) }
	faults = append(faults, rangeFault("ASSENT_SEED (--seed)", s.Seed, 0, 1<<62)...)
	faults = append(faults, rangeFault("ASSENT_SUBJECTS (--subjects)", s.Subjects, 1, 1_000_000_000)...)
	faults = append(faults, rangeFault("ASSENT_EVENTS (--events)", s.Events, 0, 1<<62)...)
	faults = append(faults, rangeFault("ASSENT_BATCH (--batch)", s.Batch, 0, 10_000)...)
	faults = append(faults, rangeFault("ASSENT_CONCURRENCY (--concurrency)", s.Concurrency, 1, 4096)...)
	faults = append(faults, rangeFault("ASSENT_VERIFY_SUBJECTS (--verify-subjects)", s.Sample, 1, 100_000)...)
	if !(s.Invalid >= 0 && s.Invalid <= 1) {
		fault("ASSENT_INVALID (--invalid)", fmt.Sprintf("%v is not between 0 and 1", s.Invalid))
	}
	if !(s.Rate >= 0 && s.Rate <= 10_000_000) {
		fault("ASSENT_RATE (--rate)", fmt.Sprintf("%v is not between 0 and 10000000", s.Rate))
	}
	if s.Day != 0 && s.Day < time.Second {
		fault("ASSENT_DAY (--day)", fmt.Sprintf("%s is neither 0s nor at least 1s", s.Day))
	}
	if s.Duration < 0 {
		fault("ASSENT_DURATION (--duration)", fmt.Sprintf("%s is less than nothing", s.Duration))
	}
	if _, err := loadgen.ParseMix(s.Mix); err != nil {
		fault("ASSENT_MIX (--mix)", err.Error())
	}
	if _, err := consent.ParseInstant(s.Start); err != nil {
		fault("ASSENT_START (--start)", err.Error())
	}
	switch {
	case s.Verify && s.DryRun:
		fault("ASSENT_VERIFY (--verify)", "a dry run sends nothing that could be verified: leave one of them out")
	case s.Verify && len(s.Brokers) > 0:
		fault("ASSENT_VERIFY (--verify)", "needs the gateway's answers: over Kafka there are none, leave --kafka-brokers out")
	case s.DryRun && s.Duration > 0:
		fault("ASSENT_DURATION (--duration)", "a dry run takes no time: give it --events")
	}
	return faults
}

// options are those of the generator.
func (s *loadgenSettings) options() (loadgen.Options, error) {
	reg, err := registry.Load(s.Purposes, nil, registry.Options{SamplePurposes: len(s.Purposes) == 0})
	if err != nil {
		return loadgen.Options{}, usageError{fmt.Errorf("the registry files are faulty:\n%s", registry.Explain(err))}
	}
	mix, err := loadgen.ParseMix(s.Mix)
	if err != nil {
		return loadgen.Options{}, usageError{err}
	}
	return loadgen.Options{
		Seed: uint64(s.Seed), Subjects: s.Subjects, Catalogue: reg.Catalogue(consent.DefaultTenant), Mix: mix, InvalidShare: s.Invalid, Day: s.Day,
	}, nil
}

func (p *program) loadgenCommand() *cobra.Command {
	return command(p, &cobra.Command{
		Use:   "loadgen",
		Short: "Realistic traffic, seeded: for demos and benchmarks",
		Long: `Sends what people do in a shop's banners, preference pages, mails, apps and calls, and
tells how the target took it. One seed decides everything that is drawn: who acts,
how, and in which order. Times are those of the run (in a dry run, of --start).

Events come from acts, drawn by weight (--mix; shown are the weights without it):

  banner=380        a notice is shown; accept all, reject all, save, or close it
  preferences=200   toggles on a preference page; seldom a branch, or everything
  unsubscribe=125   the link in a mail
  signup=105        a newsletter, with double opt-in where the registry asks for it
  phone=50          an app that was offline sends its queue, late and out of order
  call_center=50    an agent acts for the subject
  link=30           a device or a mail box is known to be somebody's; or no longer
  gpc=20            a browser's Global Privacy Control signal
  invalidate=15     a grant is taken back that should not have been
  odd=15            a withdrawal that looks wrong, and must be accepted all the same
  import=8          20 rows of another system, months old
  erase=2           the subject asks to be forgotten

One act in 50 is sent again later with the same ids; one device in 30 has a wrong clock;
one event in 50 is a test event. Of the events, --invalid is the part that must be
refused: pre-ticked boxes, unknown purposes, stale proof, broken JSON and so on. The
summary counts each answer that is not the one that the rules ask for.

A target that is away is waited for. Ctrl-C ends the run with its summary.`,
		Example: `  assent loadgen --events=50000 --verify
  assent loadgen --rate=200 --duration=10m --day=5m
  assent loadgen --kafka-brokers=127.0.0.1:9092 --events=1000000
  assent loadgen --dry-run --seed=7 --events=100`,
	}, p.loadgen)
}

func (p *program) loadgen(ctx context.Context, s *loadgenSettings, _ []string) error {
	if s.Events == 0 && s.Duration == 0 {
		s.Events = defaultEvents
	}
	if s.Seed == 0 {
		s.Seed = 1 + int(rand.Uint32())
	}
	options, err := s.options()
	if err != nil {
		return err
	}
	if s.DryRun {
		return p.printEvents(ctx, s, options)
	}
	options.Now = func() consent.Instant { return consent.InstantOf(time.Now()) }
	generator, err := loadgen.New(options)
	if err != nil {
		return usageError{err}
	}
	return p.sendLoad(ctx, s, generator, options.Catalogue)
}

// printEvents is the dry run.
func (p *program) printEvents(ctx context.Context, s *loadgenSettings, options loadgen.Options) error {
	options.Start, _ = consent.ParseInstant(s.Start) // Validate has read it
	if s.Rate >= 1 {
		options.EventsPerSecond = int(s.Rate)
	}
	generator, err := loadgen.New(options)
	if err != nil {
		return usageError{err}
	}
	out := bufio.NewWriter(p.stdout)
	var line []byte
	for range s.Events {
		if ctx.Err() != nil {
			break
		}
		c := generator.Next()
		line = append(c.AppendJSON(line[:0]), '\n')
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("print the events: %w", err)
		}
	}
	return out.Flush()
}

// sendLoad sends, and tells what came of it.
func (p *program) sendLoad(ctx context.Context, s *loadgenSettings, generator *loadgen.Generator, catalogue *consent.Catalogue) error {
	c := drive.Config{
		Generator: generator, EventsPerSecond: s.Rate, Day: s.Day, Events: int64(s.Events), Duration: s.Duration,
		BatchEvents: s.Batch, Concurrency: s.Concurrency, Grace: loadgenGrace,
	}
	if isTerminal(p.stderr) {
		c.Progress = p.loadProgress
	}
	p.log.Info("sending", "seed", s.Seed, "subjects", s.Subjects)
	report := loadReport{Seed: s.Seed, Subjects: s.Subjects}
	if len(s.Brokers) > 0 {
		return p.sendToTopic(ctx, s, c, report)
	}
	sender, err := drive.NewHTTP(s.Target, s.Concurrency, p.log)
	if err != nil {
		return usageError{fmt.Errorf("--target: %w", err)}
	}
	defer sender.Close()
	c.Sender = sender
	if s.Verify {
		c.Witness = drive.NewWitness(generator, catalogue, s.Sample)
		if err := c.Witness.CheckFresh(ctx, sender); errors.Is(err, drive.ErrOnRecord) || errors.Is(err, drive.ErrOtherRegistry) {
			return usageError{err}
		} else if err != nil {
			return err
		}
	}
	summary, err := drive.Run(ctx, c)
	report.summary(&summary, sender.Retries())
	if err == nil && s.Verify {
		err = p.verifyLoad(ctx, c.Witness, sender, &report)
	}
	return p.endLoad(ctx, s, &report, err)
}

// verifyLoad compares. A run that was ended by a signal is compared too, with
// what time a second signal leaves.
func (p *program) verifyLoad(ctx context.Context, w *drive.Witness, d drive.Decider, report *loadReport) error {
	comparison, err := w.Compare(context.WithoutCancel(ctx), d)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	report.Verified = &comparison
	for i := range min(len(comparison.Differences), loadDifferencesShown) {
		p.log.Error("a decision is not as it should be", "difference", comparison.Differences[i].String())
	}
	return nil
}

const loadDifferencesShown = 10

// endLoad prints the report, whatever happened, and gives what the exit code says.
func (p *program) endLoad(ctx context.Context, s *loadgenSettings, report *loadReport, err error) error {
	if printed := p.printLoad(report, s.Output.Output == "json"); err == nil {
		err = printed
	}
	switch {
	case err != nil:
		return err
	case s.Verify && report.differs():
		return differenceError{errors.New("the target did not answer or decide as it should: see the summary")}
	case report.Unanswered > 0 && ctx.Err() == nil:
		return fmt.Errorf("%d events were not answered before the run ended", report.Unanswered)
	}
	return nil
}
