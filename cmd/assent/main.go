// Command assent is the whole of Assent in one binary: each role is a
// subcommand, and `assent up` runs all of them with embedded engines.
//
// This is the only place that reads flags, the environment and signals.
package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// version is set by the build.
var version = "dev"

func main() { os.Exit(newProgram(os.Environ()).live(os.Args[1:])) }

// live runs one command as the whole life of a process, under its signals.
//
// A SIGHUP is caught from the first moment to the last, since it would end the
// process: one that comes before the registry is in use is served then, and one that
// nobody waits for is dropped.
func (p *program) live(args []string) int {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	p.hangups = hangups
	ctx, stop := signalContext()
	defer stop()
	return p.run(ctx, args)
}

// signalContext ends at the first SIGINT or SIGTERM; a second one aborts.
func signalContext() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// newProgram makes the program that main runs, over the process's streams.
func newProgram(environ []string) *program {
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return &program{env: env, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
}
