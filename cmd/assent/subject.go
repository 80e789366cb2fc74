package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/producer/intake"
)

type subjectIDSettings struct {
	Data       dataSettings
	SubjectKey subjectKeySettings
	Output     output
}

func (p *program) subjectCommand() *cobra.Command {
	id := command(p, &cobra.Command{
		Use:   "id RAW",
		Short: "The pseudonymous id of a raw address or number, as the gateway makes it",
		Long: `Prints the pseudonymous id that the gateway makes of a raw address, telephone number or
id. The key comes from ASSENT_SUBJECT_KEY, else from the data directory.`,
		Example: "  assent subject id jane@shop.example",
		Args:    cobra.ExactArgs(1),
	}, func(_ context.Context, s *subjectIDSettings, args []string) error {
		key, err := subjectKey(&s.SubjectKey, &s.Data)
		if err != nil {
			return err
		}
		subject, err := intake.NewPseudonymiser(key).Subject(args[0])
		if err != nil {
			return usageError{err}
		}
		if s.Output.Output == "json" {
			return p.printLine(map[string]string{"subject": string(subject)})
		}
		_, err = fmt.Fprintln(p.stdout, string(subject))
		return err
	})
	return group(&cobra.Command{Use: "subject", Short: "Questions about one subject"}, id)
}

// subjectKey never makes a key: an id under a new one would find nobody.
func subjectKey(s *subjectKeySettings, d *dataSettings) (intake.Key, error) {
	if s.Key != "" {
		return intake.ParseKey(s.Key)
	}
	key, err := intake.LoadKey(d.subjectKeyFile())
	if err != nil {
		return key, usagef("%w; set ASSENT_SUBJECT_KEY, or --data-dir to the folder of `assent up`", err)
	}
	return key, nil
}
