package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/embedded/clickhouse"
)

// embeddedClickHouseCommand is the child process that `up` starts; it is no
// command for people.
func (p *program) embeddedClickHouseCommand() *cobra.Command {
	return &cobra.Command{
		Use:    clickhouse.Command,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return clickhouse.Child(c.Context(), clickhouse.ChildOptions{Stdin: os.Stdin, Stdout: p.stdout, Stderr: p.stderr})
		},
	}
}
