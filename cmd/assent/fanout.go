package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/internal/registry"
)

type fanoutSettings struct {
	HTTP     httpSettings
	Kafka    kafkaSettings
	Registry registrySettings
	Stripes  int `env:"STRIPES" default:"4" help:"shares that the partitions are dealt into, the same for all fan-out processes"`
}

// Validate asks for the files that say whom to tell, and by when.
func (s *fanoutSettings) Validate() []config.Fault {
	faults := s.Registry.purposesRequired()
	if len(s.Registry.Downstreams) == 0 {
		faults = append(faults, config.Fault{Setting: "ASSENT_DOWNSTREAMS (--downstreams)", Message: "name the files of the systems that must obey"})
	}
	return append(faults, rangeFault("ASSENT_STRIPES (--stripes)", s.Stripes, 1, 1024)...)
}

func (p *program) fanoutCommand() *cobra.Command {
	return command(p, &cobra.Command{Use: "fanout", Short: "Tells downstreams of changes, until each has answered"},
		func(ctx context.Context, s *fanoutSettings, _ []string) error {
			return p.serveRole(&s.HTTP, func(v *serving) error {
				files, err := p.openRegistry(func() (*registry.Registry, error) { return s.Registry.open(registry.Options{}) }, p.lookupEnv)
				if err != nil {
					return err
				}
				client, err := v.connect(s.Kafka.Brokers, s.Kafka.TLS, "fanout")
				if err != nil {
					return err
				}
				dispatcher, err := v.addFanout(client, s.Kafka.names(), files, s.Stripes)
				if err != nil {
					return err
				}
				v.add(p.reloader(files, dispatcher.Reload), nil)
				return nil
			})(ctx)
		})
}
