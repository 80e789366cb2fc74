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

func main() {
	ctx, stop := signalContext()
	code := newProgram(os.Environ()).run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
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
