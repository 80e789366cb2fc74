package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

type eventSendSettings struct {
	URL urlSettings
	Key string `env:"IDEMPOTENCY_KEY" help:"makes sending it again the same event"`
}

func (p *program) eventCommand() *cobra.Command {
	send := command(p, &cobra.Command{
		Use:   "send JSON|-",
		Short: "Send one event, given as JSON or on standard input",
		Example: `  assent event send '{"subject":"user:42","purpose":"marketing.email","action":"withdraw"}'
  assent event send - < event.json`,
		Args: cobra.ExactArgs(1),
	}, p.sendEvent)
	return group(&cobra.Command{Use: "event", Short: "Send events"}, send)
}

func (p *program) sendEvent(ctx context.Context, s *eventSendSettings, args []string) error {
	body := []byte(args[0])
	if args[0] == "-" {
		var err error
		if body, err = io.ReadAll(p.stdin); err != nil {
			return fmt.Errorf("read the event from standard input: %w", err)
		}
	}
	header := http.Header{}
	if s.Key != "" {
		header.Set("Idempotency-Key", s.Key)
	}
	answer, err := p.ask(ctx, http.MethodPost, strings.TrimSuffix(s.URL.URL, "/")+"/v1/events", body, header)
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(answer)
	return err
}
