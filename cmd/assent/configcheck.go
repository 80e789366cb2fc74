package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/internal/registry"
)

func (p *program) configCommand() *cobra.Command {
	return group(&cobra.Command{Use: "config", Short: "Questions about the configuration"}, p.configCheckCommand())
}

// configCheckCommand checks the settings of `up`, which has them all, and the
// registry files; every fault at once.
func (p *program) configCheckCommand() *cobra.Command {
	settings := new(upSettings)
	c := &cobra.Command{
		Use:   "check",
		Short: "Check settings and registry files; prints every fault at once",
		Args:  cobra.NoArgs,
	}
	config.Bind(c.Flags(), settings)
	p.settings = append(p.settings, config.Settings(settings)...)
	c.RunE = func(c *cobra.Command, _ []string) error { return p.configCheck(c.Context(), settings, c) }
	return c
}

func (p *program) configCheck(_ context.Context, s *upSettings, c *cobra.Command) error {
	var faults []string
	if err := p.load(s, c); err != nil {
		faults = append(faults, err.Error())
	}
	reg, err := registry.Load(s.Registry.Purposes, s.Registry.Downstreams, registry.Options{SamplePurposes: len(s.Registry.Purposes) == 0})
	if err != nil {
		faults = append(faults, registry.Explain(err))
	}
	if err == nil {
		faults = append(faults, p.unresolvedSecrets(reg)...)
	}
	if len(faults) > 0 {
		return usageError{errors.New("the configuration is faulty\n" + strings.Join(faults, "\n"))}
	}
	if _, err := fmt.Fprintf(p.stdout, "the configuration is sound: registry version %s, %d tenants, %d downstreams\n", reg.Version(), len(reg.Tenants()), len(reg.Downstreams())); err != nil {
		return err
	}
	for _, w := range reg.Warnings() {
		if _, err := fmt.Fprintln(p.stdout, "warning:", w.String()); err != nil {
			return err
		}
	}
	for _, line := range reg.Waiting() {
		if _, err := fmt.Fprintln(p.stdout, "not acted on by this version:", line); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) unresolvedSecrets(reg *registry.Registry) []string {
	resolve := registry.SecretsFrom(p.lookupEnv)
	var faults []string
	for _, d := range reg.Downstreams() {
		if d.Webhook == nil {
			continue
		}
		for _, ref := range d.Webhook.Secrets {
			if _, err := resolve(ref); err != nil {
				faults = append(faults, fmt.Sprintf("downstream %s: %s", d.Name, err))
			}
		}
	}
	return faults
}
