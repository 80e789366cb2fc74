package processor

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// answered is a State that a decision was given, as of an offset of consent.events.
type answered struct {
	id    consent.SubjectID
	at    kafka.Partition
	next  kafka.NextOffset
	state *consent.State
}

// shows notes how far decisions can see at an instance, behind its step publish.
func (s *simulation) shows(l *life) {
	l.owned.mu.RLock()
	defer l.owned.mu.RUnlock()
	for index, part := range l.owned.partitions {
		next := part.position()
		s.mu.Lock()
		s.shown[index] = max(s.shown[index], next)
		s.mu.Unlock()
	}
}

// askOnAndOn asks every instance for the State of random subjects.
func (s *simulation) askOnAndOn(ctx context.Context) {
	r := s.rand(2)
	for ctx.Err() == nil {
		for _, in := range s.instances {
			if l := in.now.Load(); l != nil && !l.isAstray() {
				s.ask(l, consent.SubjectID{Tenant: consent.DefaultTenant, Subject: consent.Subject(fmt.Sprintf("user:%d", r.IntN(5))), Test: r.IntN(12) == 0})
			}
		}
		select {
		case <-time.After(time.Duration(20+r.IntN(400)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (s *simulation) ask(l *life, id consent.SubjectID) {
	index, ok := l.Partition(id.Tenant, id.Subject)
	if !ok {
		return
	}
	s.mu.Lock()
	shown := s.shown[index]
	s.mu.Unlock()
	part, _ := l.owned.find(index)
	if part == nil {
		return
	}
	before := part.position()
	known, ok := l.State(s.ctx, id)
	after := part.position()
	if !ok || !known.Valid() {
		return
	}
	if before < shown && !l.isAstray() {
		s.fault("%s answers for partition %d as of %d, when %d was shown already", l.in.name, index, before, shown)
	}
	if before == after {
		s.mu.Lock()
		s.answers = append(s.answers, answered{id, kafka.Partition{Topic: s.names.Events(), Index: index}, before, known.State})
		s.mu.Unlock()
	}
}

// watchChanges reads consent.changes as downstreams do, while it is written: with
// another client than the processor's, whose filter of aborted transactions is its own.
func (s *simulation) watchChanges(ctx context.Context) {
	from := make(map[int32]kgo.Offset)
	for _, at := range s.logs(s.names.Changes()) {
		from[at.Index] = kgo.NewOffset().At(0)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.fake.ListenAddrs()...), kgo.Dialer(s.network.DialContext),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.names.Changes(): from}))
	if err != nil {
		s.fault("no reader of changes: %v", err)
		return
	}
	defer client.Close()
	s.heard = make(map[consent.UUID]string)
	versions := make(map[string]int64)
	for ctx.Err() == nil {
		fetched := client.PollFetches(ctx)
		fetched.EachError(func(topic string, partition int32, err error) {
			if ctx.Err() == nil {
				s.fault("%s/%d cannot be read: %v", topic, partition, err)
			}
		})
		fetched.EachRecord(func(r *kgo.Record) { s.hear(r, versions) })
	}
}

// hear takes in one change.
func (s *simulation) hear(r *kgo.Record, versions map[string]int64) {
	position := fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset)
	c, err := schemas.DecodeChange(r.Value)
	if err != nil {
		s.fault("change at %s: %v", position, err)
		return
	}
	if at, again := s.heard[c.ID]; again {
		s.fault("change %s is told at %s and at %s", c.ID, at, position)
	}
	s.heard[c.ID] = position
	key := fmt.Sprint(c.Subject, " ", c.Purpose, " ", c.Test)
	if before := versions[key]; c.Version <= before {
		s.fault("change %s at %s has version %d after %d", c.ID, position, c.Version, before)
	}
	versions[key] = c.Version
	s.tally.changes.Add(1)
	if c.To == consent.Expired {
		s.tally.expired.Add(1)
	}
}

// judge compares what is in the topics with a straight fold.
func (s *simulation) judge() {
	for _, fault := range s.differences() {
		s.fault("%s", fault)
	}
	for _, c := range s.changes() {
		if _, ok := s.heard[c.ID]; !ok {
			s.fault("change %s was not heard by a reader of committed records", c.ID)
		}
	}
	s.judgeEvents()
	s.judgeLetters()
}

// judgeEvents folds the log once more: every State that a decision was given is the one
// at its offset, what links carry is in the log and nothing else is carried, and no grant
// ran out untold.
func (s *simulation) judgeEvents() {
	at := make(map[kafka.Position][]answered) // by the record that it waited for
	for _, a := range s.answers {
		if a.next > 0 {
			p := kafka.Position{Partition: a.at, Offset: kafka.LastOffset(a.next - 1)}
			at[p] = append(at[p], a)
		}
	}
	states := make(map[consent.SubjectID]consent.State)
	due, written := make(map[consent.UUID]kafka.Position), make(map[consent.UUID]kafka.Position)
	s.read(s.names.Events(), func(m *kafka.Message) {
		if e := new(schemas.Folding); decode(m, s.partitions, e) == nil {
			id := consent.SubjectID{Tenant: e.Tenant, Subject: e.Subject, Test: e.Test}
			next, _, carried := consent.Fold(states[id], &e.Event)
			if !reflect.DeepEqual(next, states[id]) {
				states[id] = next
			}
			for i := range carried {
				due[carried[i].ID] = m.Position
			}
			if e.Carried != nil {
				written[e.ID] = m.Position
			}
		}
		for _, a := range at[m.Position] {
			want, there := states[a.id]
			if there != (a.state != nil) || there && !reflect.DeepEqual(*a.state, want) {
				s.fault("a decision as of %s saw another state of %s", m.Position, a.id.Subject)
			}
		}
	})
	s.tally.carried.Add(int64(len(due)))
	for id, cause := range due {
		if _, ok := written[id]; !ok {
			s.fault("what %s carries was never written", cause)
		}
	}
	for id, where := range written {
		if _, ok := due[id]; !ok {
			s.fault("%s was carried, and no event carries it", where)
		}
	}
	now := consent.InstantOf(time.Now())
	for _, state := range states {
		for i := range state.Rows {
			if expiry, ok := consent.Expiry(&state.Rows[i]); ok && expiry <= now {
				s.fault("a grant of %s on %s ran out untold", state.Subject, state.Rows[i].Purpose)
			}
		}
	}
}

// judgeLetters: each record that cannot be folded has a dead letter, and no other.
func (s *simulation) judgeLetters() {
	letters := make(map[kafka.Position]bool)
	for _, l := range s.letters() {
		letters[kafka.Position{Partition: kafka.Partition{Topic: l.Topic, Index: l.Partition}, Offset: kafka.LastOffset(l.Offset)}] = true
	}
	s.read(s.names.Events(), func(m *kafka.Message) {
		if decode(m, s.partitions, new(schemas.Folding)) != nil && !letters[m.Position] {
			s.fault("%s has no dead letter", m.Position)
		}
		delete(letters, m.Position)
	})
	for p := range letters {
		s.fault("a dead letter of %s, which is not there", p)
	}
}
