package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
)

// Exit codes. Source: interfaces.md.
const (
	exitDone      = 0
	exitFailed    = 1
	exitUsage     = 2
	exitDifferent = 3
)

// program is one run of the binary as a value, so that tests run it as main does.
type program struct {
	env            map[string]string
	stdin          io.Reader
	stdout, stderr io.Writer

	hangups <-chan os.Signal // each asks for the registry to be read again; nil = none come

	// selfEnv is what the ClickHouse process needs beside its own environment to
	// be this program; tests, whose binary is another, set it.
	selfEnv []string

	log      *slog.Logger
	settings []config.Setting // of every command: what the environment may name
}

// usageError is wrong use or configuration: exit code 2.
type usageError struct{ err error }

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

// differenceError is a check that found a difference: exit code 3.
type differenceError struct{ err error }

func (d differenceError) Error() string { return d.err.Error() }
func (d differenceError) Unwrap() error { return d.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run runs one command and gives its exit code.
func (p *program) run(ctx context.Context, args []string) int {
	p.log = newLogger(p.stderr, p.env)
	root := p.root()
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(p.stderr, "assent: %s\n", err)
	var usage usageError
	var faults config.Faults
	if errors.As(err, &usage) || errors.As(err, &faults) {
		return exitUsage
	}
	if different := new(differenceError); errors.As(err, different) {
		return exitDifferent
	}
	return exitFailed
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "assent",
		Short:         "Consent events in, decisions, told downstreams and provable history out",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usagef("%w; --help lists the flags", err)
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	return group(root,
		p.upCommand(), p.gatewayCommand(), p.processorCommand(), p.fanoutCommand(), p.sinkCommand(),
		p.eventCommand(), p.subjectCommand(), p.auditCommand(), p.deadLetterCommand(),
		p.loadgenCommand(),
		p.topicsCommand(), p.migrateCommand(), p.configCommand(), p.versionCommand(),
		p.embeddedClickHouseCommand(),
	)
}

// command makes a subcommand over a settings struct: its flags, and its
// settings loaded and checked before do runs.
func command[S any](p *program, c *cobra.Command, do func(ctx context.Context, s *S, args []string) error) *cobra.Command {
	settings := new(S)
	config.Bind(c.Flags(), settings)
	p.settings = append(p.settings, config.Settings(settings)...)
	if c.Args == nil {
		c.Args = cobra.NoArgs
	}
	args := c.Args
	c.Args = func(c *cobra.Command, a []string) error {
		if err := args(c, a); err != nil {
			return usagef("%w; see %s --help", err, c.CommandPath())
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := p.load(settings, c); err != nil {
			return err
		}
		return do(c.Context(), settings, args)
	}
	return c
}

// load reports faults of this command's settings and unknown variables at once.
func (p *program) load(settings any, c *cobra.Command) error {
	var faults config.Faults
	var own config.Faults
	if err := config.Load(settings, c.Flags(), p.env); errors.As(err, &own) {
		faults = append(faults, own...)
	} else if err != nil {
		return err
	}
	faults = append(faults, config.Unknown(p.env, append(p.settings, logSettings...))...)
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// group is a command that only holds others.
func group(c *cobra.Command, children ...*cobra.Command) *cobra.Command {
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("there is no command %q; %s --help lists them", args[0], c.CommandPath())
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(children...)
	return c
}

// logSettings are read before any command, because faults are logged too.
var logSettings = []config.Setting{
	{Env: "ASSENT_LOG_LEVEL", Help: "debug, info, warn or error"},
	{Env: "ASSENT_LOG_FORMAT", Help: "text or json; text on a terminal, else json"},
}

func newLogger(w io.Writer, env map[string]string) *slog.Logger {
	var level slog.Level // info
	_ = level.UnmarshalText([]byte(env["ASSENT_LOG_LEVEL"]))
	opt := &slog.HandlerOptions{Level: level}
	format := env["ASSENT_LOG_FORMAT"]
	if format == "text" || (format == "" && isTerminal(w)) {
		return slog.New(slog.NewTextHandler(w, opt))
	}
	return slog.New(slog.NewJSONHandler(w, opt))
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// output is the choice between text for people and JSON for machines.
type output struct {
	Output string `env:"OUTPUT" default:"text" help:"text for people, json for machines"`
}

// Validate checks the choice.
func (o *output) Validate() []config.Fault {
	if o.Output != "text" && o.Output != "json" {
		return []config.Fault{{Setting: "ASSENT_OUTPUT (--output)", Message: fmt.Sprintf("%q is neither text nor json", o.Output)}}
	}
	return nil
}

// printLine writes v as one line.
func (p *program) printLine(v any) error { return json.NewEncoder(p.stdout).Encode(v) }

// printJSON writes v indented, with a line end.
func (p *program) printJSON(v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
