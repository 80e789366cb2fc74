package processor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/store"
	"github.com/assent-dev/assent/schemas"
)

// needsFake skips on brokers that cannot be told to fail.
func (w *world) needsFake() {
	w.Helper()
	if w.fake == nil {
		w.Skip("needs a broker whose answers can be changed")
	}
}

// asks reports whether a Fetch asks for partition index of a topic at an offset, or
// behind it.
func asks(req kmsg.Request, topic string, index int32, offset int64) bool {
	f, ok := req.(*kmsg.FetchRequest)
	if !ok {
		return false
	}
	for i := range f.Topics {
		for _, p := range f.Topics[i].Partitions {
			if f.Topics[i].Topic == topic && p.Partition == index && p.FetchOffset >= offset {
				return true
			}
		}
	}
	return false
}

// The alarm of one partition comes while a batch of another waits for its time, and
// finding out how far off the reader is takes longer than that.
func TestProcessor_AnAlarmThatComesWhenABatchIsDueIsRaised(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 2)
	w.needsFake()
	other := otherSubject(w, anna)
	home := kafka.PartitionFor(consent.Key(consent.DefaultTenant, anna), 2)
	p := w.start(oneStripe, func(c *Config) { c.Pace = 300 * time.Millisecond })
	p.awaitReady()
	fetch := w.fake.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Fetch}, Topic: w.names.Events(), Partitions: []int32{1 - home}, Err: kerr.OffsetOutOfRange,
		When: func(req kmsg.Request) bool { return asks(req, w.names.Events(), home, 2) },
	})
	defer fetch.Remove()
	lists := w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: w.names.Events(), Err: kerr.LeaderNotAvailable, Count: -1})
	w.publish(event(r, anna, consent.Grant, "m.e", 1))
	folded := func(last int64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		defer cancel()
		if err := p.waitFolded(ctx, home, last); err != nil {
			t.Fatal(err)
		}
	}
	folded(0)
	w.publish(event(r, anna, consent.Withdraw, "m.e", 2)) // waits for its pace
	folded(1)
	lists.Remove()
	if fetch.Hits() == 0 {
		t.Fatal("the fault was never met")
	}
	w.publish(event(r, other, consent.Withdraw, "m.e", 3))
	deadline := time.Now().Add(3 * time.Second)
	for time.Now().Before(deadline) {
		if err := p.Ready(); err != nil && strings.Contains(err.Error(), "is stopped") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s, ok := p.state(other, false)
	t.Errorf("ready: %v; state of a subject whose withdrawal was published: %v, answered: %v; want an alarm", p.Ready(), s, ok)
}

// A decision that was begun before the stripe was taken over anew reads the table
// while it is restored.
func TestProcessor_AReaderDuringARestoreLeavesNothingOldInTheTable(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.needsFake()
	var hours atomic.Int64
	p := w.start(oneStripe, func(c *Config) {
		c.now = func() time.Time { return base.Time().Add(time.Duration(hours.Load()) * time.Hour) }
	})
	w.publish(event(r, ben, consent.Withdraw, "m.e", 20))
	p.awaitFolded()
	// The answer to one EndTxn leaves it open: the next batch takes over anew.
	lost := w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Err: kerr.RequestTimedOut})
	defer lost.Remove()
	w.publish(event(r, anna, consent.Grant, "m.e", 21))
	p.awaitFolded()
	hours.Store(13) // the local store is too old to be used

	part, _ := p.owned.find(0)
	table := part.answers(time.Hour) // the reader's first step
	if table == nil {
		t.Fatal("the partition does not answer")
	}
	done := make(chan struct{})
	go func() { // its second step
		defer close(done)
		for part.isLive() {
		}
		for !part.isLive() {
			_, _ = table.State(consent.SubjectID{Tenant: consent.DefaultTenant, Subject: ben})
		}
	}()
	w.publish(event(r, anna, consent.Withdraw, "m.e", 22))
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the stripe was not taken over anew")
	}
	p.awaitFolded()
	if s, ok := p.state(ben, false); !ok || s == nil || s.Row("m.e") == nil {
		t.Errorf("the withdrawal is gone: answered %v, state %v", ok, s)
	}
	w.publish(event(r, ben, consent.Grant, "m.e", 10)) // older: it stays withdrawn
	p.awaitFolded()
	if s, ok := p.state(ben, false); !ok || s.Row("m.e").Announced.Status != consent.Withdrawn {
		t.Errorf("answered %v, status %v; want withdrawn", ok, s.Row("m.e").Announced.Status)
	}
	p.stop()
	w.requireReference()
}

// note is that of the committed offset of partition 0.
func (w *world) note() commitNote {
	w.Helper()
	note, err := parseNote(w.commit().Metadata)
	if err != nil {
		w.Fatal(err)
	}
	return note
}

// What was told before is looked for by its id while events are folded again, and not
// for ever: else every takeover reads consent.changes from there, and keeps all ids.
func TestProcessor_WhatWasToldIsForgottenOnceItCannotComeAgain(t *testing.T) {
	for what, before := range map[string]func(*world){
		"an offset with another's metadata": func(w *world) {
			w.commitPlainly(kafka.Commit{Next: w.commit().Next, Metadata: "state=12"})
		},
		"an offset with no metadata": func(w *world) {
			w.commitPlainly(kafka.Commit{Next: w.commit().Next})
		},
		"a torn commit, repaired, and another takeover": func(w *world) {
			r := seed(w)
			w.publish(event(r, anna, consent.Withdraw, "m", 1000), event(r, ben, consent.Withdraw, "m", 1000))
			w.tear(w.ctx, part{states: true, changes: true}, 2)
			w.foldAll(oneStripe)
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := seed(t)
			w := newWorld(t, 1)
			w.publish(randomLog(r, 60)...)
			w.foldAll(oneStripe)
			before(w)
			p := w.start(oneStripe)
			p.awaitReady()
			w.publish(event(r, "user:new", consent.Withdraw, "m.e", 2000))
			p.awaitFolded()
			p.stop()
			if n := w.note(); n.seen != n.changes.end {
				t.Errorf("after all is folded, the next takeover reads changes from %d on, want %d: %s", n.seen, n.changes.end, n)
			}
			w.requireReference()
		})
	}
}

// The offset of a group expires, or is deleted: the states say how far all was folded.
func TestProcessor_ALostOffsetDoesNotMakeTakeoversReadAllChanges(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(randomLog(r, 60)...)
	w.foldAll(oneStripe)
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{w.names.ProcessorGroup()}
	w.eventually("the group is deleted", func() error {
		code := w.admin(req).(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode
		return kerr.ErrorForCode(code)
	})
	p := w.start(oneStripe)
	p.awaitReady()
	p.stop()
	if n, end := w.note(), w.ends(w.names.Changes())[0]; n.seen != end {
		t.Errorf("the next takeover reads changes from %d on, they end at %d: %s", n.seen, end, n)
	}
	w.requireReference()
}

func TestProcessor_AnExpiryThatIsFoldedIsForgotten(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	const grants = 20
	for i := range grants {
		e := event(r, consent.Subject(fmt.Sprintf("user:%d", i)), consent.Grant, "m.e", 0)
		e.Policy.ExpiresAt = e.ReceivedAt.Add(time.Hour)
		w.publish(e)
	}
	p := w.start(oneStripe, func(c *Config) { c.now = func() time.Time { return base.Time().Add(2 * time.Hour) } })
	p.awaitReady()
	w.eventually("all expiries told", func() error {
		if n := len(w.changes()); n != 2*grants {
			return fmt.Errorf("%d changes", n)
		}
		return nil
	})
	p.awaitFolded()
	looked := func() time.Time { return time.Now().Add(3 * tendEvery) }()
	w.eventually("another look", func() error {
		if time.Now().Before(looked) {
			return errors.New("not yet")
		}
		return nil
	})
	part, _ := p.owned.find(0)
	p.stop()
	if n := len(part.expiring); n != 0 {
		t.Errorf("%d expiries are remembered for the life of the claim, want none", n)
	}
}

// A row that was written by another version, or damaged before it was written.
func TestProcessor_ARowThatCannotBeReadStopsItsPartitionOnly(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 4)
	other := otherSubject(w, anna)
	w.publish(event(r, anna, consent.Withdraw, "m.e", 1), event(r, other, consent.Grant, "m.e", 1))
	w.foldAll(oneStripe)
	var bad kafka.Record
	w.read(w.names.State(), func(m *kafka.Message) {
		if strings.HasSuffix(string(m.Key), "|m.e") && strings.Contains(string(m.Key), string(anna)) {
			value := append([]byte(nil), m.Value[:len(m.Value)-3]...)
			if _, err := schemas.DecodeState(value); err == nil {
				t.Fatal("the row can be read")
			}
			bad = kafka.Record{Topic: w.names.State(), Key: append([]byte(nil), m.Key...), PartitionKey: consent.Key(consent.DefaultTenant, anna), Value: value}
		}
	})
	w.produce(bad)
	w.publish(event(r, anna, consent.Withdraw, "m", 2), event(r, other, consent.Withdraw, "m.e", 2))
	p := w.start(oneStripe)
	w.eventually("the other partition", func() error {
		if s, ok := p.state(other, false); !ok || s.Row("m.e").Announced.Status != consent.Withdrawn {
			return fmt.Errorf("the withdrawal is not folded; ready: %w", p.Ready())
		}
		return nil
	})
	w.eventually("the alarm", func() error {
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "is stopped") {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
}

func counter(t *testing.T, r *prometheus.Registry, name string) (sum float64) {
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestProcessor_ARestoreThatIsCutShortGoesOnWhereItWas(t *testing.T) {
	w := newWorld(t, 1)
	w.needsFake()
	dir := t.TempDir()
	onDisk := func(c *Config) { c.Stripes, c.StateDir, c.now = 1, dir, time.Now }
	r := seed(t)
	e := event(r, anna, consent.Withdraw, "m.e", 1)
	e.Evidence.PageURL = "https://example.com/" + strings.Repeat("x", 1900)
	for i := range 3000 { // more than one fetch
		e.Subject, e.ID = consent.Subject(fmt.Sprintf("user:%d", i)), newUUID(r)
		w.publish(e)
	}
	w.foldAll(oneStripe)
	block := w.fake.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Fetch}, Topic: w.names.State(), Err: kerr.NotLeaderForPartition, Count: -1,
		When: func(req kmsg.Request) bool { return asks(req, w.names.State(), 0, 1) && !verifies(req, w) },
	})
	p := w.start(onDisk)
	w.eventually("a part is restored", func() error {
		if block.Hits() < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	p.stop()
	block.Remove()
	local, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := local.Partition(0)
	if err != nil {
		t.Fatal(err)
	}
	mark, ok := rows.Mark()
	if err := errors.Join(rows.Close(), local.Close()); err != nil {
		t.Fatal(err)
	}
	if !ok || mark.Changelog == 0 {
		t.Fatalf("nothing was restored before the cut: %+v", mark)
	}
	registry := prometheus.NewRegistry()
	p = w.start(onDisk, func(c *Config) { c.Registerer = registry })
	p.awaitReady()
	if n := counter(t, registry, "assent_processor_stores_discarded_total"); n != 0 {
		t.Errorf("the store that covered the changelog up to %d was discarded", mark.Changelog)
	}
}

// verifies tells the Fetch of verify, for one record near the end, from that of restore.
func verifies(req kmsg.Request, _ *world) bool {
	f := req.(*kmsg.FetchRequest)
	return f.MaxBytes == int32(verifyOptions.MaxBytes)
}

// The topic of dead letters is gone: nothing is skipped, so the stripe stays where it
// is. It must not look as if all were well.
func TestProcessor_AStripeThatCannotWriteWhatFollowsSaysSo(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Grant, "m.e", 1))
	p := w.start(oneStripe)
	p.awaitReady()
	p.awaitFolded()
	w.drop(w.names.DeadLetters())
	w.produce(kafka.Record{Topic: w.names.Events(), Key: consent.Key(consent.DefaultTenant, anna), Value: []byte("nonsense")})
	w.publish(event(r, anna, consent.Withdraw, "m.e", 2))
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if _, ok := p.state(anna, false); !ok && p.Ready() != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s, ok := p.state(anna, false)
	t.Errorf("10 s after a withdrawal that cannot be folded: ready: %v, answered %v, status %v", p.Ready(), ok, s.Row("m.e").Announced.Status)
}

// The topic of changes was deleted and made anew. That is no torn commit: to fold the
// last transaction again needs rows that the compaction may have taken.
func TestProcessor_ChangesMadeAnewAreNoTornCommit(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.needsFake()
	p := w.start(oneStripe)
	w.publish(event(r, ben, consent.Withdraw, "m.e", 1))
	p.awaitFolded()
	w.publish(event(r, anna, consent.Withdraw, "m.e", 100))
	p.awaitFolded()
	w.publish(event(r, anna, consent.Grant, "m.e", 50)) // late, and older: it stays withdrawn
	p.awaitFolded()
	w.publish(event(r, ben, consent.Request, "m.e", 101)) // moves nothing, and ends the batch
	p.awaitFolded()
	p.stop()
	rows := 0
	w.fake.Compact()
	w.read(w.names.State(), func(m *kafka.Message) { rows++ })
	t.Logf("%d rows after the compaction", rows)
	w.recreate(w.names.Changes())
	p = w.start(oneStripe)
	w.eventually("ready, or an alarm", func() error {
		if err := p.Ready(); err != nil && !strings.Contains(err.Error(), "is stopped") {
			return err
		}
		return nil
	})
	if s, ok := p.state(anna, false); ok && s.Row("m.e").Announced.Status != consent.Withdrawn {
		t.Errorf("%s is answered, want withdrawn or an alarm", s.Row("m.e").Announced.Status)
	}
}

// What Run promises: it ends where going on is of no use. Else a process whose disk is
// gone joins the group and leaves it for ever, and everybody takes over each time.
func TestProcessor_RunEndsWhenALocalStoreCannotBeOpened(t *testing.T) {
	w := newWorld(t, 2)
	healthy := w.start()
	healthy.awaitReady()
	dir := t.TempDir() + "/state"
	var takeovers atomic.Int64
	watched := w.start(func(c *Config) {
		c.after = func(s step) error {
			if s == stepInit {
				takeovers.Add(1)
			}
			return nil
		}
	})
	watched.awaitReady()
	healthy.stop()
	watched.awaitReady()
	before := takeovers.Load()
	p := w.start(func(c *Config) { c.StateDir = dir })
	// The directory goes away behind the start.
	w.eventually("the directory", func() error { _, err := os.Stat(dir); return err })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
		if p.err == nil {
			t.Error("Run returned nil")
		}
	case <-time.After(15 * time.Second):
		t.Errorf("Run goes on; the healthy processor took its stripes over %d times in 15 s", takeovers.Load()-before)
	}
}

// The topic of owners is a hint for other processors.
func TestProcessor_FoldsWhileNobodyCanBeToldWhoOwns(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.drop(w.names.Owners())
	w.publish(event(r, anna, consent.Withdraw, "m.e", 1))
	p := w.start(oneStripe)
	p.awaitReady()
	p.awaitFolded()
	p.stop()
	w.requireReference()
}
