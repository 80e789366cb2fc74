package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/deadletter"
)

type deadLetterShowSettings struct {
	Kafka  kafkaSettings
	Output output
}

// shownLetter is all of a letter. Bytes are base64 in JSON.
type shownLetter struct {
	letterLine
	Meanings []deadletter.Meaning `json:"meanings"`
	Partial  bool                 `json:"partial"` // the whole record is at its origin
	Key      []byte               `json:"key_base64"`
	Headers  []shownHeader        `json:"headers"`
	Value    []byte               `json:"value_base64"`
	Schema   string               `json:"schema,omitempty"` // that explains the value
	Content  json.RawMessage      `json:"content,omitempty"`
}

type shownHeader struct {
	Key   string `json:"key"`
	Value []byte `json:"value_base64"`
}

func (p *program) deadLetterShowCommand() *cobra.Command {
	return command(p, &cobra.Command{
		Use:   "show POSITION",
		Short: "All of a letter, its bytes and the subject included",
		Long: `Shows the letters at a position, topic/partition@offset: that of the record that could
not be processed, as list prints it, or that of the letter itself. The key, the value and the
headers are shown: they may hold personal data.`,
		Example: "  assent deadletter show consent.intake/3@1042\n  assent deadletter show consent.intake/3@1042 --output=json",
		Args:    cobra.ExactArgs(1),
	}, p.showDeadLetter)
}

func (p *program) showDeadLetter(ctx context.Context, s *deadLetterShowSettings, args []string) error {
	at, err := deadletter.ParsePosition(args[0])
	if err != nil {
		return usagef("position %q: %w", args[0], err)
	}
	client, x, err := p.letters(ctx, &s.Kafka)
	if err != nil {
		return err
	}
	defer client.Close()
	entries := x.Find(at)
	if len(entries) == 0 {
		return noLetterAt(at)
	}
	marks := map[kafka.Position]*deadletter.Mark{}
	for _, e := range entries {
		marks[e.Letter] = e.Mark
	}
	first := true
	for l, err := range deadletter.Letters(ctx, client, entries) {
		if err != nil {
			return err
		}
		shown := showLetter(&l, marks[l.Position])
		if s.Output.Output == "json" {
			err = p.printLine(shown)
		} else {
			if !first {
				fmt.Fprintln(p.stdout)
			}
			err = p.printLetter(shown)
		}
		if err != nil {
			return err
		}
		first = false
	}
	return nil
}

func noLetterAt(at kafka.Position) error {
	return fmt.Errorf("there is no dead letter at %s: `assent deadletter list --all` prints the positions", at)
}

func showLetter(l *deadletter.Letter, m *deadletter.Mark) *shownLetter {
	s := &shownLetter{
		letterLine: lineOf(l, m), Meanings: deadletter.Explain(l.Code), Partial: l.Partial,
		Key: l.Key, Value: l.Value, Headers: []shownHeader{},
	}
	for _, h := range l.Headers {
		s.Headers = append(s.Headers, shownHeader{h.Key, h.Value})
	}
	s.Schema, s.Content = deadletter.Readable(l.Value)
	return s
}

// printLetter prints a letter for people.
func (p *program) printLetter(l *shownLetter) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	row("letter", l.Position)
	row("origin", l.Origin)
	row("replay of", l.ReplayOf)
	row("set aside", l.At+" by "+l.Role)
	row("downstream", l.Downstream)
	status := l.Status
	if l.ReplayedAt != "" {
		status += " at " + l.ReplayedAt + " to " + l.ReplayedTo
	}
	row("status", status)
	for _, m := range l.Meanings {
		row("code", printable(m.Code)+": "+m.Means)
		row("what to do", m.Remedy)
	}
	row("reason", printable(l.Reason))
	row("key", bytesText(l.Key))
	for _, h := range l.Headers {
		row("header", printable(h.Key)+" = "+bytesText(h.Value))
	}
	size := fmt.Sprintf("%d bytes", len(l.Value))
	switch {
	case l.Value == nil:
		size = "null"
	case l.Schema != "":
		size += ", " + l.Schema
	}
	if l.Partial {
		size += "; a part of the record, whose whole is at its origin"
	}
	row("value", size)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(p.stdout, letterBody(l))
	return err
}

// shownBytes is how much of a value that no schema explains is printed for people.
const shownBytes = 1 << 10

// letterBody is the value: as JSON where a schema explains it, else as a hex dump.
func letterBody(l *shownLetter) string {
	if l.Schema != "" {
		var b bytes.Buffer
		if json.Indent(&b, l.Content, "", "  ") == nil {
			return printableJSON(b.String()) + "\n"
		}
	}
	if len(l.Value) <= shownBytes {
		return hex.Dump(l.Value)
	}
	return hex.Dump(l.Value[:shownBytes]) + fmt.Sprintf("… and %d bytes more: --output=json prints all\n", len(l.Value)-shownBytes)
}

// bytesText gives bytes as quoted text where they are text, else in hex.
func bytesText(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case utf8.Valid(b):
		return printable(string(b))
	}
	return "0x" + hex.EncodeToString(b)
}

// printable replaces what a terminal would obey rather than show.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// printableJSON does the same within JSON, with escapes that keep the value.
func printableJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || unicode.IsPrint(r) || r > 0xffff {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
