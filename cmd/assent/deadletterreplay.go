package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/processor/deadletter"
)

type deadLetterReplaySettings struct {
	Kafka     kafkaSettings
	Output    output
	Which     letterSelection
	Positions []string `env:"POSITION" help:"only the letters at these positions, of the origin or of the letter, separated by commas"`
	Force     bool     `env:"FORCE" help:"replay a letter although an earlier one of the same key stays open"`
	DryRun    bool     `env:"DRY_RUN" help:"say what would be done, and do nothing"`
}

// Validate checks the form of positions.
func (s *deadLetterReplaySettings) Validate() []config.Fault {
	var faults []config.Fault
	for _, p := range s.Positions {
		if _, err := deadletter.ParsePosition(p); err != nil {
			faults = append(faults, config.Fault{Setting: "ASSENT_POSITION (--position)", Message: fmt.Sprintf("%q: %s", p, err)})
		}
	}
	return faults
}

// stepLine is what becomes of one letter.
type stepLine struct {
	Position   string `json:"position"`
	Origin     string `json:"origin"`
	Code       string `json:"code"`
	Downstream string `json:"downstream,omitempty"`
	Verdict    string `json:"verdict"` // replay, replayed, held, impossible, already_replayed
	To         string `json:"to,omitempty"`
	Behind     string `json:"behind,omitempty"` // the open letter before it, of the same key
	Why        string `json:"why,omitempty"`
}

// replaySummary counts, by verdict, and by code and verdict.
type replaySummary struct {
	DryRun bool                      `json:"dry_run"`
	Counts map[string]int            `json:"counts"`
	Codes  map[string]map[string]int `json:"codes"`
}

func (p *program) deadLetterReplayCommand() *cobra.Command {
	return command(p, &cobra.Command{
		Use:   "replay",
		Short: "Publish open letters again, in the order of each key, and mark them",
		Long: `Publishes the original records again: those of consent.intake and of consent.events to
consent.intake, where the gateway checks and stamps them as if they came today. Letters about a
downstream are not published: that would tell all of them.

Without a choice all open letters are replayed. A letter whose key has an earlier open letter
that was not chosen is held back, unless --force says otherwise. A record that fails again
becomes a new letter that names the first one. After a crash, run it again: it goes on with
what is not marked, and what was published twice counts once.

Exit code 1 if a chosen letter stays open.`,
		Example: "  assent deadletter replay --code=informed --dry-run\n  assent deadletter replay --topic=consent.intake --since=24h",
	}, p.replayDeadLetters)
}

func (p *program) replayDeadLetters(ctx context.Context, s *deadLetterReplaySettings, _ []string) error {
	client, x, err := p.letters(ctx, &s.Kafka)
	if err != nil {
		return err
	}
	defer client.Close()
	chosen := s.Which.selection(s.Kafka.Prefix)
	for _, text := range s.Positions {
		at, err := deadletter.ParsePosition(text)
		if err != nil {
			return usagef("position %q: %w", text, err)
		}
		found := x.Find(at)
		if len(found) == 0 {
			return noLetterAt(at)
		}
		for _, e := range found {
			chosen.Positions = append(chosen.Positions, e.Letter)
		}
	}
	report := p.newReplayReport(s)
	plan := x.Plan(chosen, s.Force)
	if s.DryRun {
		for _, step := range plan.Steps {
			report.tell(step)
		}
	} else {
		err = deadletter.Replay(ctx, client, s.Kafka.names(), plan, report.tell)
	}
	if ended := report.end(); err == nil {
		err = ended
	}
	return err
}

// replayReport prints steps as they are told.
type replayReport struct {
	p       *program
	json    bool
	table   *tabwriter.Writer
	summary replaySummary
	err     error // the first one of printing
}

func (p *program) newReplayReport(s *deadLetterReplaySettings) *replayReport {
	return &replayReport{
		p: p, json: s.Output.Output == "json", table: tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0),
		summary: replaySummary{DryRun: s.DryRun, Counts: map[string]int{}, Codes: map[string]map[string]int{}},
	}
}

func (r *replayReport) tell(s deadletter.Step) {
	line := stepLine{
		Position: s.Letter.String(), Origin: s.Origin.String(), Code: s.Code, Downstream: s.Downstream,
		Verdict: s.Verdict.String(), Why: s.Why,
	}
	if s.Verdict == deadletter.Published {
		line.To = s.To.String()
	}
	if s.Behind != nil {
		line.Behind = s.Behind.String()
	}
	r.summary.Counts[line.Verdict]++
	if r.summary.Codes[s.Code] == nil {
		r.summary.Codes[s.Code] = map[string]int{}
	}
	r.summary.Codes[s.Code][line.Verdict]++
	if r.err != nil {
		return
	}
	if r.json {
		r.err = r.p.printLine(line)
		return
	}
	what := line.Why
	switch {
	case line.To != "":
		what = "to " + line.To
	case s.Verdict == deadletter.Publish:
		what = "to consent.intake"
	}
	if s.Behind != nil && line.Why == "" {
		what += ", past " + line.Behind
	}
	_, r.err = fmt.Fprintf(r.table, "%s\t%s\t%s\t%s\n", line.Verdict, line.Origin, line.Code, what)
}

// end prints the counts, and gives an error if a chosen letter stays open.
func (r *replayReport) end() error {
	if r.err != nil {
		return r.err
	}
	open := r.summary.Counts[deadletter.Held.String()] + r.summary.Counts[deadletter.Impossible.String()]
	if r.json {
		if err := r.p.printLine(map[string]any{"summary": r.summary}); err != nil {
			return err
		}
	} else if err := r.printSummary(); err != nil {
		return err
	}
	if open > 0 && !r.summary.DryRun {
		return fmt.Errorf("%d chosen letters stay open: each line says why", open)
	}
	return nil
}

func (r *replayReport) printSummary() error {
	if err := r.table.Flush(); err != nil {
		return err
	}
	if len(r.summary.Counts) == 0 {
		_, err := fmt.Fprintln(r.p.stdout, "nothing to replay")
		return err
	}
	for _, code := range slices.Sorted(maps.Keys(r.summary.Codes)) {
		if _, err := fmt.Fprintf(r.p.stdout, "%s: %s\n", code, verdictCounts(r.summary.Codes[code])); err != nil {
			return err
		}
	}
	text := "all: " + verdictCounts(r.summary.Counts)
	if r.summary.DryRun {
		text += "; dry run, nothing was written"
	}
	_, err := fmt.Fprintln(r.p.stdout, text)
	return err
}

// verdictCounts gives counts by verdict: "2 held, 14 replayed".
func verdictCounts(counts map[string]int) string {
	var parts []string
	for _, verdict := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[verdict], verdict))
	}
	return strings.Join(parts, ", ")
}
