package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
)

type topicsSettings struct {
	Kafka       kafkaSettings
	Partitions  int  `env:"PARTITIONS" default:"12" help:"partitions of each topic; cannot be changed later"`
	Replication int  `env:"REPLICATION" default:"3" help:"copies of each partition; with 3 and more, an acknowledgement needs 2"`
	DryRun      bool `env:"DRY_RUN" help:"say what would be done, and do nothing"`
	Output      output
}

// Validate bounds the numbers.
func (s *topicsSettings) Validate() []config.Fault {
	return append(rangeFault("ASSENT_PARTITIONS (--partitions)", s.Partitions, 1, 1024),
		rangeFault("ASSENT_REPLICATION (--replication)", s.Replication, 1, 16)...)
}

func (p *program) topicsCommand() *cobra.Command {
	apply := command(p, &cobra.Command{
		Use:   "apply",
		Short: "Make the topics, and set their settings; doing it again changes nothing",
	}, func(ctx context.Context, s *topicsSettings, _ []string) error {
		client, err := kafka.New(kafka.Config{Brokers: s.Kafka.Brokers, ClientID: "assent-topics", TLS: tlsConfig(s.Kafka.TLS), Logger: p.log})
		if err != nil {
			return usageError{err}
		}
		defer client.Close()
		layout := topic.Layout{Partitions: s.Partitions, Replication: s.Replication}
		changes, err := client.Provision(ctx, s.Kafka.names().Specs(layout), s.DryRun)
		if err != nil {
			return err
		}
		return p.printTopicChanges(changes, s)
	})
	return group(&cobra.Command{Use: "topics", Short: "Provision topics"}, apply)
}

func (p *program) printTopicChanges(changes []kafka.TopicChange, s *topicsSettings) error {
	if s.Output.Output == "json" {
		lines := make([]string, 0, len(changes))
		for _, c := range changes {
			lines = append(lines, describe(c))
		}
		return p.printJSON(map[string]any{"dry_run": s.DryRun, "changes": lines})
	}
	if len(changes) == 0 {
		_, err := fmt.Fprintln(p.stdout, "nothing to do: all topics are as they should be")
		return err
	}
	verb := "done"
	if s.DryRun {
		verb = "would do"
	}
	for _, c := range changes {
		if _, err := fmt.Fprintf(p.stdout, "%s: %s\n", verb, describe(c)); err != nil {
			return err
		}
	}
	return nil
}

// describe says what was done to a topic, in one line.
func describe(c kafka.TopicChange) string {
	if c.Created {
		return fmt.Sprintf("make %s with %d partitions", c.Topic, c.Partitions)
	}
	parts := make([]string, 0, len(c.Config))
	for _, x := range c.Config {
		parts = append(parts, fmt.Sprintf("%s from %q to %q", x.Name, x.From, x.To))
	}
	return fmt.Sprintf("set on %s: %s", c.Topic, strings.Join(parts, ", "))
}
