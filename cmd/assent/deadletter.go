package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/deadletter"
)

// letterSelection chooses letters, for list and replay.
type letterSelection struct {
	Code  string `env:"CODE" help:"only letters with this code, such as unstamped or informed"`
	Topic string `env:"TOPIC" help:"only letters of this origin, such as consent.intake"`
	Since string `env:"SINCE" help:"only letters set aside since then: a time such as 2026-03-01T12:00:00Z, or a duration back from now such as 24h"`
}

// Validate checks the form of the time.
func (s *letterSelection) Validate() []config.Fault {
	if _, err := parseSince(s.Since, time.Now()); err != nil {
		return []config.Fault{{Setting: "ASSENT_SINCE (--since)", Message: err.Error()}}
	}
	return nil
}

func parseSince(s string, now time.Time) (consent.Instant, error) {
	if s == "" {
		return 0, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return consent.InstantOf(now.Add(-d)), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a time such as 2026-03-01T12:00:00Z nor a duration such as 24h", s)
	}
	return consent.InstantOf(t), nil
}

// selection gives the choice under the installation's topic names; a topic may be
// given without the prefix.
func (s *letterSelection) selection(prefix string) deadletter.Selection {
	since, _ := parseSince(s.Since, time.Now()) // Validate has seen it
	name := s.Topic
	if name != "" && !strings.HasPrefix(name, prefix) {
		name = prefix + name
	}
	return deadletter.Selection{Code: s.Code, Topic: name, Since: since}
}

type deadLetterListSettings struct {
	Kafka  kafkaSettings
	Output output
	Which  letterSelection
	All    bool `env:"ALL" help:"letters that were replayed, too"`
	Limit  int  `env:"LIMIT" default:"1000" help:"at most so many letters"`
}

// Validate bounds the number.
func (s *deadLetterListSettings) Validate() []config.Fault {
	return rangeFault("ASSENT_LIMIT (--limit)", s.Limit, 1, 1_000_000)
}

// letterLine is a dead letter as it is listed: never its bytes.
type letterLine struct {
	Position   string `json:"position"`
	Status     string `json:"status"` // open or replayed
	ReplayedAt string `json:"replayed_at,omitempty"`
	ReplayedTo string `json:"replayed_to,omitempty"`
	At         string `json:"at"`
	Role       string `json:"role"`
	Code       string `json:"code"`
	Origin     string `json:"origin"`
	ReplayOf   string `json:"replay_of,omitempty"`
	Downstream string `json:"downstream,omitempty"`
	Reason     string `json:"reason"`
	ValueBytes int    `json:"value_bytes"`
}

func lineOf(l *deadletter.Letter, m *deadletter.Mark) letterLine {
	line := letterLine{
		Position: l.Position.String(), Status: "open", At: l.At.String(), Role: l.Role, Code: l.Code,
		Origin: l.Origin().String(), Downstream: l.Downstream, Reason: l.Reason, ValueBytes: len(l.Value),
	}
	if of, ok := l.ReplayOf(); ok {
		line.ReplayOf = of.String()
	}
	if m != nil {
		line.Status, line.ReplayedAt, line.ReplayedTo = "replayed", m.At.String(), m.To
	}
	return line
}

func (p *program) deadLetterCommand() *cobra.Command {
	list := command(p, &cobra.Command{
		Use:   "list",
		Short: "What could not be processed and is open: position, code and reason, never the bytes",
	}, p.listDeadLetters)
	return group(&cobra.Command{Use: "deadletter", Short: "What could not be processed"},
		list, p.deadLetterShowCommand(), p.deadLetterReplayCommand())
}

// letters connects to the broker, and reads what dead letters there are. A record that
// is no letter is said, and passed.
func (p *program) letters(ctx context.Context, s *kafkaSettings) (*kafka.Client, *deadletter.Index, error) {
	client, err := kafka.New(kafka.Config{Brokers: s.Brokers, ClientID: "assent-deadletter", TLS: tlsConfig(s.TLS), Logger: p.log})
	if err != nil {
		return nil, nil, usageError{err}
	}
	x, err := deadletter.Survey(ctx, client, s.names())
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	for _, err := range x.Unreadable {
		p.log.Error("a record is no dead letter", "error", err)
	}
	return client, x, nil
}

func (p *program) listDeadLetters(ctx context.Context, s *deadLetterListSettings, _ []string) error {
	client, x, err := p.letters(ctx, &s.Kafka)
	if err != nil {
		return err
	}
	defer client.Close()
	chosen := s.Which.selection(s.Kafka.Prefix)
	var entries []deadletter.Entry
	marks := map[kafka.Position]*deadletter.Mark{}
	for i := range x.Entries {
		e := &x.Entries[i]
		if (e.Mark == nil || s.All) && chosen.Takes(e) && len(entries) < s.Limit {
			entries = append(entries, *e)
			marks[e.Letter] = e.Mark
		}
	}
	lines := []letterLine{}
	for l, err := range deadletter.Letters(ctx, client, entries) {
		if err != nil {
			return err
		}
		lines = append(lines, lineOf(&l, marks[l.Position]))
	}
	return p.printDeadLetters(lines, s)
}

func (p *program) printDeadLetters(lines []letterLine, s *deadLetterListSettings) error {
	if s.Output.Output == "json" {
		for _, l := range lines {
			if err := p.printLine(l); err != nil {
				return err
			}
		}
		return nil
	}
	if len(lines) == 0 {
		_, err := fmt.Fprintln(p.stdout, "no dead letters")
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AT\tSTATUS\tROLE\tCODE\tORIGIN\tDOWNSTREAM\tREASON")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.At, l.Status, l.Role, l.Code, l.Origin, l.Downstream, printable(l.Reason))
	}
	return w.Flush()
}
