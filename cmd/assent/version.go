package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

type versionSettings struct {
	Output output
}

func (p *program) versionCommand() *cobra.Command {
	return command(p, &cobra.Command{Use: "version", Short: "The version of this binary"},
		func(_ context.Context, s *versionSettings, _ []string) error {
			if s.Output.Output == "json" {
				return p.printJSON(map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
			}
			_, err := fmt.Fprintf(p.stdout, "assent %s (%s, %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		})
}
