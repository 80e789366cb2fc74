package processor

import (
	"bytes"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

func logTo(b *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// stateRow is a record of the changelog.
func (w *world) stateRow(purpose consent.Purpose, version, input int64, whole *consent.Whole) kafka.Record {
	w.Helper()
	row := schemas.StateRow{Tenant: consent.DefaultTenant, Subject: anna, Row: consent.Row{Purpose: purpose, Version: version}, Whole: whole, InputOffset: input}
	if version > 0 {
		row.Row.Announced = consent.Verdict{Status: consent.Withdrawn, Allowed: consent.Denied}
	}
	value, err := schemas.EncodeState(nil, &row)
	if err != nil {
		w.Fatal(err)
	}
	return kafka.Record{
		Topic: w.names.State(), Value: value,
		Key:          schemas.StateKey(consent.DefaultTenant, anna, purpose, false),
		PartitionKey: consent.Key(consent.DefaultTenant, anna),
	}
}

// versions gives the version of each row that a processor restores.
func (w *world) versions() map[consent.Purpose]int64 {
	w.Helper()
	p := w.start()
	p.awaitReady()
	state, ok := p.state(anna, false)
	p.stop()
	if !ok {
		w.Fatal("not known")
	}
	if state == nil {
		return nil
	}
	found := map[consent.Purpose]int64{}
	for _, r := range state.Rows {
		found[r.Purpose] = r.Version
	}
	return found
}

// Rows without a committed offset: it was lost, and the rows say how far they go.
func TestRestore_TombstonesRemove(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	for i := range 20 { // what the rows below are made of
		w.publish(event(r, ben, consent.Request, "m", i))
	}
	whole := &consent.Whole{Clock: 5}
	tombstone := func(p consent.Purpose) kafka.Record {
		r := w.stateRow(p, 0, 0, nil)
		r.Value = nil
		return r
	}
	w.produce(w.stateRow("m", 1, 10, nil), w.stateRow("a", 1, 10, nil), w.stateRow("*", 0, 10, whole), tombstone("m"), tombstone("never.there"))
	if got, want := w.versions(), (map[consent.Purpose]int64{"a": 1}); !reflect.DeepEqual(got, want) {
		t.Errorf("after the tombstone of m: %v, want %v", got, want)
	}
	w.produce(w.stateRow("m", 2, 11, nil), w.stateRow("*", 0, 11, whole))
	if got, want := w.versions(), (map[consent.Purpose]int64{"a": 1, "m": 2}); !reflect.DeepEqual(got, want) {
		t.Errorf("after m came back: %v, want %v", got, want)
	}
}

// alarmed waits for the alarm, and gives its text.
func (w *world) alarmed(p *running) string {
	w.Helper()
	var text string
	w.eventually("an alarm", func() error {
		err := p.Ready()
		if err == nil || !strings.Contains(err.Error(), "is stopped") {
			return fmt.Errorf("ready: %w", err)
		}
		text = err.Error()
		return nil
	})
	if _, ok := p.state(anna, false); ok {
		w.Error("a stopped partition answers")
	}
	return text
}

func TestProcessor_AChangelogThatCannotBeReadStopsThePartition(t *testing.T) {
	broken := map[string]func(*world) kafka.Record{
		"state's key": func(w *world) kafka.Record {
			r := w.stateRow("m", 1, 0, nil)
			r.Key, r.Value = []byte("nonsense"), nil
			return r
		},
		"input offset": func(w *world) kafka.Record {
			r := w.stateRow("m", 1, 0, nil)
			r.Value = r.Value[:30]
			return r
		},
		"schema": func(w *world) kafka.Record {
			r := w.stateRow("m", 1, 0, nil)
			r.Value = []byte("nonsense of another kind")
			return r
		},
	}
	for name, record := range broken {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			w.produce(record(w))
			p := w.start()
			text := w.alarmed(p)
			if !strings.Contains(text, name) || !strings.Contains(text, w.names.State()+"/0@0") {
				t.Errorf("alarm %q, want it to name the position and %q", text, name)
			}
			if strings.Contains(text, "anna") {
				t.Errorf("alarm %q names the subject", text)
			}
		})
	}
}

func TestProcessor_ARowOfAnotherPartitionStopsThePartition(t *testing.T) {
	w := newWorld(t, 2)
	r := w.stateRow("m", 1, 0, nil)
	r.PartitionKey = consent.Key(consent.DefaultTenant, otherSubject(w, anna))
	w.produce(r)
	p := w.start()
	w.eventually("an alarm", func() error {
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "another partition") {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	w.eventually("the other partition", func() error {
		if _, ok := p.state(anna, false); !ok {
			return fmt.Errorf("not answered")
		}
		return nil
	})
}

func TestProcessor_AChangelogThatIsGoneStopsThePartition(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m", 1))
	p := w.start()
	p.awaitFolded()
	w.publish(event(r, anna, consent.Withdraw, "a", 2)) // another transaction
	p.awaitFolded()
	p.stop()
	w.recreate(w.names.State())
	p = w.start()
	if text := w.alarmed(p); !strings.Contains(text, "changelog") {
		t.Errorf("alarm %q", text)
	}
}

func TestProcessor_EventsThatAreGoneStopThePartition(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m", 1))
	w.foldAll()
	w.recreate(w.names.Events())
	p := w.start()
	w.alarmed(p)
}

func TestProcessor_RemovedEventsThatWereNotReadStopThePartition(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m", 1))
	w.foldAll()
	w.publish(event(r, anna, consent.Withdraw, "a", 2), event(r, ben, consent.Withdraw, "a", 3))
	w.deleteRecords(w.names.Events())
	p := w.start()
	if text := w.alarmed(p); !strings.Contains(text, "out of range") {
		t.Errorf("alarm %q", text)
	}
}

// deleteRecords removes every record of partition 0 of a topic, as retention does.
func (w *world) deleteRecords(topic string) {
	w.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = topic
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = -1
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	w.admin(req)
}
