package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

type auditHistorySettings struct {
	URL    urlSettings
	Output output
	Tenant string `env:"TENANT" default:"default" help:"the data controller"`
}

func (p *program) auditCommand() *cobra.Command {
	history := command(p, &cobra.Command{
		Use:     "history SUBJECT",
		Short:   "Everything that was said by a subject, what changed, and who was told; oldest first",
		Example: "  assent audit history user:42\n  assent audit history user:42 --output=json",
		Args:    cobra.ExactArgs(1),
	}, p.auditHistory)
	return group(&cobra.Command{Use: "audit", Short: "Questions to the history"}, history)
}

// historyLine is one item of the history, as far as the table shows it.
type historyLine struct {
	Kind       string `json:"kind"`
	RecordedAt string `json:"recorded_at"`
	Event      struct {
		ID      string `json:"event_id"`
		Purpose string `json:"purpose"`
		Action  string `json:"action"`
		Channel string `json:"channel"`
		Notice  struct {
			ID      string `json:"id"`
			Version string `json:"version"`
		} `json:"notice"`
	} `json:"event"`
	Change struct {
		Purpose string `json:"purpose"`
		From    string `json:"from"`
		To      string `json:"to"`
		Version int64  `json:"version"`
	} `json:"change"`
	Delivery struct {
		Purpose    string `json:"purpose"`
		Downstream string `json:"downstream"`
		Outcome    string `json:"outcome"`
		Version    int64  `json:"version"`
	} `json:"delivery"`
}

func (h *historyLine) row() string {
	switch h.Kind {
	case "event":
		notice := ""
		if h.Event.Notice.ID != "" {
			notice = h.Event.Notice.ID + " " + h.Event.Notice.Version
		}
		return strings.Join([]string{h.RecordedAt, "event", h.Event.Purpose, h.Event.Action, h.Event.Channel, notice}, "\t")
	case "change":
		return strings.Join([]string{h.RecordedAt, "change", h.Change.Purpose, h.Change.From + " → " + h.Change.To, "", fmt.Sprintf("version %d", h.Change.Version)}, "\t")
	default:
		return strings.Join([]string{h.RecordedAt, h.Kind, h.Delivery.Purpose, h.Delivery.Outcome, h.Delivery.Downstream, fmt.Sprintf("version %d", h.Delivery.Version)}, "\t")
	}
}

func (p *program) auditHistory(ctx context.Context, s *auditHistorySettings, args []string) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	asJSON := s.Output.Output == "json"
	cursor, count := "", 0
	for {
		query := url.Values{"limit": {"1000"}, "tenant": {s.Tenant}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		body, err := p.ask(ctx, http.MethodGet, strings.TrimSuffix(s.URL.URL, "/")+"/v1/subjects/"+url.PathEscape(args[0])+"/history?"+query.Encode(), nil, nil)
		if err != nil {
			return err
		}
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  *string           `json:"next_cursor"`
		}
		if err := json.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("the answer is no page of a history: %w", err)
		}
		for _, item := range page.Items {
			if asJSON {
				if err := p.printLine(item); err != nil {
					return err
				}
				continue
			}
			var line historyLine
			if err := json.Unmarshal(item, &line); err != nil {
				return fmt.Errorf("an item of the history cannot be read: %w", err)
			}
			if count == 0 {
				fmt.Fprintln(w, "RECORDED\tKIND\tPURPOSE\tWHAT\tWHERE\tPROVENANCE")
			}
			fmt.Fprintln(w, line.row())
			count++
		}
		if page.Next == nil {
			break
		}
		cursor = *page.Next
	}
	if count == 0 && !asJSON {
		_, err := fmt.Fprintln(p.stdout, "nothing is on record")
		return err
	}
	return w.Flush()
}
