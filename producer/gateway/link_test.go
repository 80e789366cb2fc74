package gateway

import (
	"context"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/producer/intake"
)

// soldYAML is the sample with a purpose that is a sale of data.
const soldYAML = purposesYAML + `
  - id: ads.sale
    title: Selling data
    legal_basis: consent
    model: opt_in
    sale_or_share: true
    notices: [{id: sale, version: "1", language: en, text: Sell my data.}]
`

// withPurposes gives the gateway another purpose registry.
func withPurposes(t testing.TB, purposes string) option {
	r := loadRegistry(t, purposes)
	return func(_ *Config, d *Deps) { d.Registry = func() intake.Registry { return r } }
}

func TestEvents_LinkUnlinkAndEraseSpeakOfTheWholeSubject(t *testing.T) {
	r := newRig(t)
	for name, c := range map[string]struct{ body, warnings string }{
		"link":             {`{"action":"link","subject":"device:1","link":{"to":"user:1"}}`, ""},
		"unlink":           {`{"action":"unlink","subject":"device:1","purpose":"*","link":{"to":"user:1"}}`, ""},
		"link to a person": {`{"action":"link","subject":"device:1","link":{"to":"jane@shop.example"}}`, ""},
		"erase":            {`{"action":"erase","subject":"user:1"}`, ""},
		"erase an address": {`{"action":"erase","subject":"jane@shop.example"}`, "subject_hashed:subject"},
		"erase a purpose":  {`{"action":"erase","subject":"user:1","purpose":"marketing.email"}`, "whole_subject:purpose"},
		"erase no path":    {`{"action":"erase","subject":"user:1","purpose":"no path!"}`, "whole_subject:purpose"},
		"erase oddly":      {`{"action":"erase","subject":"user:1","channel":"pigeon","tenant":"Shop DE"}`, "unknown_field:channel unknown_field:tenant no_downstream:purpose"},
	} {
		a := r.postEvent(c.body)
		if a.code != 202 || a.codes() != c.warnings {
			t.Errorf("%s: %d %q, want 202 %q: %s", name, a.code, a.codes(), c.warnings, a.body)
			continue
		}
		e := r.eventWithID(a.EventID)
		if e.Purpose != consent.Root || e.Policy == nil || (e.LinkTo == "") != (e.Action == consent.Erase) || !e.Subject.Pseudonymous() || e.LinkTo != "" && !e.LinkTo.Pseudonymous() {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestEvents_ALinkUnderGPCIsRecordedWithTheWithdrawalsOfBoth(t *testing.T) {
	r := newRig(t, withPurposes(t, soldYAML))
	const link = `{"action":"link","subject":"device:1","link":{"to":"jane@shop.example"},"jurisdiction":"US-CA"}`
	if a := r.postEvent(link); a.code != 202 || len(r.events()) != 1 {
		t.Fatalf("without the signal: %d, %d events: %s", a.code, len(r.events()), a.body)
	}
	a := r.postEvent(link, "Sec-GPC", "1")
	if a.code != 202 || a.codes() != "gpc_withdrawal:evidence.gpc" || strings.Contains(a.body, "jane") {
		t.Fatalf("%d %q: %s", a.code, a.codes(), a.body)
	}
	linked := r.eventWithID(a.EventID)
	withdrawn := map[consent.Subject]bool{}
	for _, e := range r.events() {
		if e.Action == consent.Withdraw {
			withdrawn[e.Subject] = e.Purpose == "ads.sale" && e.EffectiveAt == linked.ReceivedAt && e.InteractionID == linked.ID && e.Evidence.GPC
		}
	}
	if len(withdrawn) != 2 || !withdrawn["device:1"] || !withdrawn[linked.LinkTo] {
		t.Errorf("withdrawn %v", withdrawn)
	}
	// The answer's position is the link's, and stands behind its subject's withdrawal.
	for _, m := range r.read(r.topics.Events()) {
		if m.Index == a.Position.Partition && int64(m.Offset) > a.Position.Offset && string(m.key) == "default|device:1" {
			t.Errorf("a record of the subject stands behind the token, at %d", m.Offset)
		}
	}
	before := len(r.events())
	batch := r.post("/v1/events", mediaNDJSON, link+"\n"+withdrawalJSON()+"\n", "Sec-GPC", "1")
	if batch.Accepted != 2 || len(r.events()) != before+4 {
		t.Errorf("a batch: %d accepted, %d more events, want a link, two withdrawals and one of its own", batch.Accepted, len(r.events())-before)
	}
}

func TestIntake_TakesLinksAndErasesWithoutAPurpose(t *testing.T) {
	r := newRig(t, withPurposes(t, soldYAML))
	link, erase := withdrawEvent(1), withdrawEvent(2)
	link.Action, link.Subject, link.Purpose, link.LinkTo, link.Evidence.GPC = consent.Link, "device:1", "", "Jane@shop.example", true
	erase.Action, erase.Purpose = consent.Erase, ""
	r.publish(encoded(t, link), encoded(t, erase))
	r.eventually("the link, its withdrawals and the erase are in the log", func() bool { return len(r.read(r.topics.Events())) == 4 })
	counts := map[consent.Action]int{}
	for _, e := range r.events() {
		counts[e.Action]++
		if e.Policy == nil || !e.Subject.Pseudonymous() || e.Action != consent.Withdraw && e.Purpose != consent.Root {
			t.Errorf("%+v", e)
		}
	}
	if counts[consent.Link] != 1 || counts[consent.Withdraw] != 2 || counts[consent.Erase] != 1 || len(r.deadLetters()) != 0 {
		t.Errorf("%v in the log, %d dead letters", counts, len(r.deadLetters()))
	}
}

func TestLimits_ALinkHasTheBudgetOfWhatRestricts(t *testing.T) {
	for action, want := range map[consent.Action]bool{consent.Link: true, consent.Erase: true, consent.Withdraw: true, consent.Unlink: false, consent.Grant: false, consent.Request: false} {
		e := &entry{}
		e.claims.Event.Action = action
		if e.protective() != want {
			t.Errorf("%s: %t", action, e.protective())
		}
	}
}

// A link whose texts no record can hold keeps what it says.
func TestRecord_ALinkOfTooMuchTextKeepsWhomItNames(t *testing.T) {
	e := consent.Event{Action: consent.Link, Subject: "device:1", LinkTo: "user:1", Source: strings.Repeat("x", 70<<10)}
	if kept := essentials(e); kept.LinkTo != "user:1" || kept.Source != "" {
		t.Errorf("%+v", kept)
	}
}

// partial writes nothing of one kind of record, and says so.
type partial struct {
	eventLog
	lost consent.Subject
}

func (p partial) Produce(ctx context.Context, records ...kafka.Record) ([]kafka.Position, error) {
	positions := make([]kafka.Position, len(records))
	failed := &kafka.ProduceError{Results: make([]kafka.RecordResult, len(records))}
	all := true
	for i := range records {
		failed.Results[i] = kafka.RecordResult{Outcome: kafka.Written}
		if strings.HasSuffix(string(records[i].Key), "|"+string(p.lost)) {
			failed.Results[i], all = kafka.RecordResult{Outcome: kafka.NotWritten}, false
		}
	}
	if all {
		return positions, nil
	}
	return nil, failed
}

// All that a link says is recorded, or it is not answered as recorded.
func TestEvents_ALinkWhoseWithdrawalsAreNotWrittenIs503(t *testing.T) {
	r := newRig(t)
	for _, lost := range []consent.Subject{"device:1", "user:1"} {
		r.stop()
		r.wrapLog = func(l eventLog) eventLog { return partial{l, lost} }
		r.startGateway(withPurposes(t, soldYAML), func(_ *Config, d *Deps) { d.Metrics = nil })
		a := r.postEvent(`{"action":"link","subject":"device:1","link":{"to":"user:1"}}`, "Sec-GPC", "1")
		if a.code != 503 || !strings.Contains(a.body, "not known") {
			t.Errorf("%s lost: %d: %s", lost.Namespace(), a.code, a.body)
		}
		if a := r.postEvent(`{"action":"link","subject":"device:2","link":{"to":"user:2"}}`, "Sec-GPC", "1"); a.code != 202 {
			t.Errorf("another link: %d: %s", a.code, a.body)
		}
	}
}
