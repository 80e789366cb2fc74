package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/producer/intake"
)

type gatewaySettings struct {
	HTTP       httpSettings
	Kafka      kafkaSettings
	Registry   registrySettings
	SubjectKey subjectKeySettings
}

// Validate asks for what only `up` can do without.
func (s *gatewaySettings) Validate() []config.Fault {
	return append(s.SubjectKey.required(), s.Registry.purposesRequired()...)
}

func (p *program) gatewayCommand() *cobra.Command {
	return command(p, &cobra.Command{Use: "gateway", Short: "Intake: takes events over HTTP and from the topic consent.intake"},
		func(ctx context.Context, s *gatewaySettings, _ []string) error {
			return p.serveRole(&s.HTTP, func(v *serving) error {
				files, subjects, err := p.roleInputs(&s.Registry, &s.SubjectKey)
				if err != nil {
					return err
				}
				client, err := v.connect(s.Kafka.Brokers, s.Kafka.TLS, "gateway")
				if err != nil {
					return err
				}
				v.add(p.reloader(files, func() {}), nil)
				return v.addGateway(client, s.Kafka.names(), files.store, subjects)
			})(ctx)
		})
}

// serveRole runs one role: add wires it into a process that serves.
func (p *program) serveRole(h *httpSettings, add func(*serving) error) func(context.Context) error {
	return func(ctx context.Context) error {
		v, err := p.newServing(h)
		if err != nil {
			return err
		}
		if err := add(v); err != nil {
			v.close()
			return err
		}
		p.log.Info("serving", "url", v.url())
		return v.run(ctx)
	}
}

// roleInputs reads what the roles that answer for purposes and subjects need.
func (p *program) roleInputs(files *registrySettings, key *subjectKeySettings) (*registryFiles, *intake.Pseudonymiser, error) {
	reg, err := p.openRegistry(func() (*registry.Registry, error) { return files.open(registry.Options{}) }, p.lookupEnv)
	if err != nil {
		return nil, nil, err
	}
	k, err := intake.ParseKey(key.Key)
	if err != nil {
		return nil, nil, usageError{err}
	}
	return reg, intake.NewPseudonymiser(k), nil
}
