package main

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/assent-dev/assent/internal/logtest"
	"github.com/assent-dev/assent/internal/registry"
)

const (
	reloadPurposes = `tenant: default
controller: {name: Example, contact: privacy@shop.example}
purposes:
  - {id: analytics, title: Analytics, legal_basis: consent, notices: [{id: a, version: "1", language: en, text: Hello}]}
  - {id: marketing, title: Marketing, legal_basis: consent, notices: [{id: m, version: "1", language: en, text: Hello}]}
`
	reloadDownstreams = `tenant: default
downstreams:
  - {name: crm, purposes: ["*"], delivery: {webhook: {url: "https://crm.example/hook", secrets: ["env:S"]}}}
  - {name: mailer, purposes: ["*"], delivery: {webhook: {url: "https://mailer.example/hook", secrets: ["env:S"]}}}
`
)

// A file that is read while it is written can end early, and be in order.
func TestReload_NamesWhatIsGone(t *testing.T) {
	purposes, downstreams := reloadPurposes, reloadDownstreams
	hangups, reloaded, log := make(chan os.Signal), make(chan struct{}), &logtest.Buffer{}
	p := &program{hangups: hangups, log: newLogger(log, nil)}
	files, err := p.openRegistry(func() (*registry.Registry, error) {
		return registry.LoadBytes([]registry.Source{{Name: "p", Data: []byte(purposes)}}, []registry.Source{{Name: "d", Data: []byte(downstreams)}}, registry.Options{})
	}, func(string) (string, bool) { return "0123456789abcdef0123456789abcdef", true })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.reloader(files, func() { reloaded <- struct{}{} }).Run(ctx) }()
	reload := func() []string {
		before := len(log.String())
		hangups <- syscall.SIGHUP
		<-reloaded
		return goneLines(t, log.String()[before:])
	}
	purposes, _, _ = strings.Cut(purposes, "  - {id: marketing")
	downstreams, _, _ = strings.Cut(downstreams, "  - {name: mailer")
	if got, want := reload(), []string{"ERROR default mailer", "WARN default marketing"}; !slices.Equal(got, want) {
		t.Errorf("the log names %q, want %q", got, want)
	}
	purposes, downstreams = reloadPurposes, reloadDownstreams
	if got := reload(); len(got) != 0 {
		t.Errorf("of what came back the log says %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// goneLines is level, tenant and name of each line that tells what is gone.
func goneLines(t *testing.T, text string) []string {
	t.Helper()
	var gone []string
	for line := range strings.Lines(text) {
		var record struct{ Level, Msg, Tenant, Downstream, Purpose string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(record.Msg, "is gone") {
			gone = append(gone, record.Level+" "+record.Tenant+" "+record.Downstream+record.Purpose)
		}
	}
	return gone
}
