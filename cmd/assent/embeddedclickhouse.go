package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/embedded/clickhouse"
)

// embeddedClickHouseCommand is the child process that `up` starts; it is no
// command for people.
//
// Its life line is standard input. Signals are for its parent, which stops it when
// the roles have stopped: Ctrl-C at a terminal, and systemd, send them to both at once.
func (p *program) embeddedClickHouseCommand() *cobra.Command {
	return &cobra.Command{
		Use:    clickhouse.Command,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			return clickhouse.Child(context.WithoutCancel(c.Context()), clickhouse.ChildOptions{Stdin: os.Stdin, Stdout: p.stdout, Stderr: p.stderr})
		},
	}
}
