package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/sink/table"
)

type migrateSettings struct {
	ClickHouse clickhouseSettings
	DryRun     bool `env:"DRY_RUN" help:"say what would be done, and do nothing"`
}

func (p *program) migrateCommand() *cobra.Command {
	return command(p, &cobra.Command{
		Use:   "migrate",
		Short: "Make or update the tables of the history in ClickHouse; doing it again changes nothing",
		Long:  "Makes or updates the tables of the history. The database of ASSENT_CLICKHOUSE_DSN must exist.",
	}, func(ctx context.Context, s *migrateSettings, _ []string) error {
		db, err := table.Open(s.ClickHouse.DSN)
		if err != nil {
			return usageError{err}
		}
		defer db.Close()
		applied, err := db.Migrate(ctx, s.DryRun)
		if err != nil {
			return err
		}
		if len(applied) == 0 {
			_, err = fmt.Fprintln(p.stdout, "nothing to do: the tables are up to date")
			return err
		}
		verb := "applied"
		if s.DryRun {
			verb = "would apply"
		}
		for _, name := range applied {
			if _, err := fmt.Fprintf(p.stdout, "%s %s\n", verb, name); err != nil {
				return err
			}
		}
		return nil
	})
}
