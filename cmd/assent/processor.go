package main

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
)

type processorSettings struct {
	HTTP       httpSettings
	Kafka      kafkaSettings
	Registry   registrySettings
	SubjectKey subjectKeySettings
	Fold       foldSettings
}

// Validate asks for what only `up` can do without.
func (s *processorSettings) Validate() []config.Fault {
	faults := append(s.SubjectKey.required(), s.Registry.purposesRequired()...)
	return append(faults, s.Fold.reachable(s.HTTP.Addr)...)
}

func (p *program) processorCommand() *cobra.Command {
	return command(p, &cobra.Command{Use: "processor", Short: "Fold, state and changes; answers decisions for all subjects"},
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
				if s.Fold.StateDir == "" {
					s.Fold.StateDir = filepath.Join("data", stateFolder)
				}
				return v.addProcessor(client, s.Kafka.names(), files.store, subjects, &s.Fold)
			})(ctx)
		})
}
