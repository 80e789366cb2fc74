package deadletter

import (
	"context"
	"hash/maphash"
	"unique"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
)

// ID is what makes two records the same letter: a role that reads its input again
// writes its letters again.
type ID struct {
	Origin     kafka.Position
	Code       string
	Downstream string // empty where it is about none
}

// Route is where a letter's record goes when it is published again.
type Route uint8

// The routes. Only the first publishes anything; package documentation says why.
const (
	ToIntake     Route = iota + 1
	ToDownstream       // one downstream must be told
	ToProcessor        // the processor writes it by itself
	ToNobody           // its origin is none of our logs
)

// Entry is what is kept of each letter: all but its bytes and sentences.
type Entry struct {
	ID
	Letter  kafka.Position // of the first copy
	At      consent.Instant
	Route   Route
	Partial bool  // the whole record is at its origin only
	Gone    bool  // it is partial, and its origin is there no longer
	Mark    *Mark // nil while the letter is open
	queue   queue
}

// Mark says that a letter was published again.
type Mark struct {
	At consent.Instant
	To string // position of the new record; empty where the mark does not say
}

// queue is what has an order: the letters of one key. Its hash stands for the key;
// two keys that share one are held back by each other, and lose nothing.
type queue struct {
	partition int32 // of the letters
	key       uint64
	none      kafka.LastOffset // the letter's own offset where it has no key: it is alone
}

// Index is what consent.deadletters held when it was surveyed. It takes about 200
// bytes a letter, whatever the letters hold.
type Index struct {
	// Entries has each letter once, in the order of the log: partition by partition,
	// each by offset.
	Entries []Entry
	// Unreadable are records of the topic that are no letters.
	Unreadable []error

	byID   map[ID]int
	others map[kafka.Position]ID // copies and marks
}

// surveyor builds an Index.
type surveyor struct {
	*Index
	names topic.Names
	seed  maphash.Seed
	marks map[ID]*Mark
}

// Survey reads the whole topic, up to where it ends now.
func Survey(ctx context.Context, client *kafka.Client, names topic.Names) (*Index, error) {
	s := surveyor{
		Index: &Index{byID: map[ID]int{}, others: map[kafka.Position]ID{}},
		names: names, seed: maphash.MakeSeed(), marks: map[ID]*Mark{},
	}
	for l, err := range Read(ctx, client, names.DeadLetters()) {
		switch {
		case err == nil:
			s.add(&l)
		case l.Position.Topic == "":
			return nil, err
		default:
			s.Unreadable = append(s.Unreadable, err)
		}
	}
	for id, m := range s.marks {
		if i, ok := s.byID[id]; ok {
			s.Entries[i].Mark = m
		}
	}
	return s.Index, s.findGone(ctx, client)
}

func (s *surveyor) add(l *Letter) {
	if l.Code == CodeReplayed {
		id, m := readMark(l)
		s.marks[id], s.others[l.Position] = m, id
		return
	}
	id := ID{Origin: l.Origin(), Code: intern(l.Code), Downstream: intern(l.Downstream)}
	id.Origin.Topic = intern(id.Origin.Topic)
	if _, known := s.byID[id]; known {
		s.others[l.Position] = id
		return
	}
	q := queue{partition: l.Position.Index, none: -1}
	if l.RecordKey == nil {
		q.none = l.Position.Offset
	} else {
		q.key = maphash.Bytes(s.seed, l.RecordKey)
	}
	s.byID[id] = len(s.Entries)
	s.Entries = append(s.Entries, Entry{
		ID: id, Letter: l.Position, At: l.At, Route: route(s.names, &l.DeadLetter), Partial: l.Partial, queue: q,
	})
}

// intern keeps one copy of a text that many letters share.
func intern(s string) string { return unique.Make(s).Value() }

// route decides where a letter's record goes.
func route(names topic.Names, l *schemas.DeadLetter) Route {
	switch {
	case l.Topic == names.Changes() || l.Downstream != "":
		return ToDownstream
	case l.Topic == names.Intake():
		return ToIntake
	case l.Topic != names.Events():
		return ToNobody
	}
	if e, err := schemas.DecodeIntakeEvent(l.Value); err == nil && e.Action == consent.Expire {
		return ToProcessor
	}
	return ToIntake
}

// findGone asks which partial letters can still be completed.
func (s *surveyor) findGone(ctx context.Context, client *kafka.Client) error {
	logs := map[kafka.Partition]span{}
	for i := range s.Entries {
		e := &s.Entries[i]
		if !e.Partial || e.Mark != nil || e.Route != ToIntake {
			continue
		}
		p := e.Origin.Partition
		log, known := logs[p]
		if !known {
			var err error
			if log, err = spanOf(ctx, client, p); err != nil {
				return err
			}
			logs[p] = log
		}
		e.Gone = !log.has(e.Origin.Offset)
	}
	return nil
}

// span is what a partition's log holds: [first, end).
type span struct{ first, end kafka.NextOffset }

func (s span) has(o kafka.LastOffset) bool {
	return kafka.NextOffset(o) >= s.first && o.Next() <= s.end
}

// spanOf asks for a partition's span: an empty one where there is no such partition.
func spanOf(ctx context.Context, client *kafka.Client, p kafka.Partition) (span, error) {
	count, err := client.PartitionCount(ctx, p.Topic)
	if err != nil || p.Index < 0 || int(p.Index) >= count {
		return span{}, err
	}
	first, err := client.Offsets(ctx, []kafka.Partition{p}, kafka.Earliest)
	if err != nil {
		return span{}, err
	}
	end, err := client.Offsets(ctx, []kafka.Partition{p}, kafka.LatestStable)
	return span{first[p], end[p]}, err
}

// Find gives the letters at a position: that of their origin, or their own, or
// that of a copy or a mark.
func (x *Index) Find(at kafka.Position) []Entry {
	if id, ok := x.others[at]; ok {
		if i, ok := x.byID[id]; ok {
			return []Entry{x.Entries[i]}
		}
		return nil
	}
	var found []Entry
	for i := range x.Entries {
		if e := &x.Entries[i]; e.Origin == at || e.Letter == at {
			found = append(found, *e)
		}
	}
	return found
}
