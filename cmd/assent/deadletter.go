package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/deadletter"
)

type deadLetterListSettings struct {
	Kafka  kafkaSettings
	Output output
	Code   string `env:"CODE" help:"only letters with this code, such as unstamped or truncated"`
	Limit  int    `env:"LIMIT" default:"1000" help:"at most so many letters"`
}

// Validate bounds the number.
func (s *deadLetterListSettings) Validate() []config.Fault {
	return rangeFault("ASSENT_LIMIT (--limit)", s.Limit, 1, 1_000_000)
}

// letterLine is a dead letter as it is listed: never its bytes.
type letterLine struct {
	Position   string `json:"position"`
	At         string `json:"at"`
	Role       string `json:"role"`
	Code       string `json:"code"`
	Origin     string `json:"origin"`
	Downstream string `json:"downstream,omitempty"`
	Reason     string `json:"reason"`
	ValueBytes int    `json:"value_bytes"`
}

func (p *program) deadLetterCommand() *cobra.Command {
	list := command(p, &cobra.Command{
		Use:   "list",
		Short: "What could not be processed: position, code and reason, never the bytes",
	}, p.listDeadLetters)
	return group(&cobra.Command{Use: "deadletter", Short: "What could not be processed"}, list)
}

func (p *program) listDeadLetters(ctx context.Context, s *deadLetterListSettings, _ []string) error {
	client, err := kafka.New(kafka.Config{Brokers: s.Kafka.Brokers, ClientID: "assent-deadletter", TLS: tlsConfig(s.Kafka.TLS), Logger: p.log})
	if err != nil {
		return usageError{err}
	}
	defer client.Close()
	lines := []letterLine{}
	for letter, err := range deadletter.Read(ctx, client, s.Kafka.names().DeadLetters()) {
		if err != nil && letter.Position.Topic == "" {
			return err
		}
		if err != nil { // one record that is no letter: said, and passed
			p.log.Error("a record is no dead letter", "error", err)
			continue
		}
		if s.Code != "" && letter.Code != s.Code {
			continue
		}
		lines = append(lines, letterLine{
			Position: letter.Position.String(), At: letter.At.String(), Role: letter.Role, Code: letter.Code,
			Origin:     fmt.Sprintf("%s/%d@%d", letter.Topic, letter.Partition, letter.Offset),
			Downstream: letter.Downstream, Reason: letter.Reason, ValueBytes: len(letter.Value),
		})
		if len(lines) >= s.Limit {
			break
		}
	}
	return p.printDeadLetters(lines, s.Output.Output == "json")
}

func (p *program) printDeadLetters(lines []letterLine, asJSON bool) error {
	if asJSON {
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
	fmt.Fprintln(w, "AT\tROLE\tCODE\tORIGIN\tDOWNSTREAM\tREASON")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.At, l.Role, l.Code, l.Origin, l.Downstream, l.Reason)
	}
	return w.Flush()
}
