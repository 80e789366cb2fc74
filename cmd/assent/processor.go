package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
)

type processorSettings struct {
	HTTP       httpSettings
	Kafka      kafkaSettings
	Registry   registrySettings
	SubjectKey subjectKeySettings
	Stripes    int `env:"STRIPES" default:"4" help:"shares that the partitions are dealt into, the same for all processors"`
}

// Validate asks for what only `up` can do without.
func (s *processorSettings) Validate() []config.Fault {
	faults := append(s.SubjectKey.required(), s.Registry.purposesRequired()...)
	return append(faults, rangeFault("ASSENT_STRIPES (--stripes)", s.Stripes, 1, 1024)...)
}

func (p *program) processorCommand() *cobra.Command {
	return command(p, &cobra.Command{Use: "processor", Short: "Fold, state and changes; answers decisions for the subjects of its partitions"},
		func(ctx context.Context, s *processorSettings, _ []string) error {
			return p.serveRole(&s.HTTP, func(v *serving) error {
				files, subjects, err := p.roleInputs(&s.Registry, &s.SubjectKey)
				if err != nil {
					return err
				}
				client, err := v.connect(s.Kafka.Brokers, s.Kafka.TLS, "processor")
				if err != nil {
					return err
				}
				v.add(p.reloader(files, func() {}), nil)
				return v.addProcessor(client, s.Kafka.names(), files.store, subjects, s.Stripes)
			})(ctx)
		})
}
