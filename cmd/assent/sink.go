package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/producer/intake"
)

type sinkSettings struct {
	HTTP          httpSettings
	Kafka         kafkaSettings
	ClickHouse    clickhouseSettings
	SubjectKey    subjectKeySettings
	FlushInterval time.Duration `env:"SINK_FLUSH_INTERVAL" default:"1s" help:"how long rows wait for others before they are written to the history"`
}

// Validate asks for what only `up` can do without.
func (s *sinkSettings) Validate() []config.Fault {
	faults := s.SubjectKey.required()
	if s.FlushInterval <= 0 || s.FlushInterval > time.Minute {
		faults = append(faults, config.Fault{Setting: "ASSENT_SINK_FLUSH_INTERVAL (--sink-flush-interval)", Message: fmt.Sprintf("%s is not between 1ms and 1m", s.FlushInterval)})
	}
	return faults
}

func (p *program) sinkCommand() *cobra.Command {
	return command(p, &cobra.Command{Use: "sink", Short: "History into ClickHouse, and the questions about it"},
		func(ctx context.Context, s *sinkSettings, _ []string) error {
			return p.serveRole(&s.HTTP, func(v *serving) error {
				key, err := intake.ParseKey(s.SubjectKey.Key)
				if err != nil {
					return usageError{err}
				}
				client, err := v.connect(s.Kafka.Brokers, s.Kafka.TLS, "sink")
				if err != nil {
					return err
				}
				return v.addSink(client, s.Kafka.names(), s.ClickHouse.DSN, s.FlushInterval, intake.NewPseudonymiser(key).Subject)
			})(ctx)
		})
}
