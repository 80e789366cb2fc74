package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// Letter is one record of consent.deadletters.
type Letter struct {
	Position  kafka.Position // its own, not that of what it holds
	RecordKey []byte         // its own; nil = null
	schemas.DeadLetter
}

// Origin is the position of the record that the letter is about.
func (l *Letter) Origin() kafka.Position {
	return kafka.Position{Partition: kafka.Partition{Topic: l.Topic, Index: l.Partition}, Offset: kafka.LastOffset(l.Offset)}
}

// ReplayOf is where the record was set aside for the first time, where it had been
// published again before.
func (l *Letter) ReplayOf() (kafka.Position, bool) {
	for _, h := range l.Headers {
		if h.Key == HeaderReplayOf {
			p, err := ParsePosition(string(h.Value))
			return p, err == nil
		}
	}
	return kafka.Position{}, false
}

// ParsePosition reads a position as [kafka.Position.String] writes it:
// "consent.intake/3@1042".
func ParsePosition(s string) (kafka.Position, error) {
	name, offset, _ := strings.Cut(s, "@")
	slash := strings.LastIndexByte(name, '/')
	if slash <= 0 {
		return kafka.Position{}, errNoPosition
	}
	index, err := strconv.ParseUint(name[slash+1:], 10, 31)
	if err != nil {
		return kafka.Position{}, errNoPosition
	}
	at, err := strconv.ParseUint(offset, 10, 63)
	if err != nil || at == math.MaxInt64 { // the offset behind it must exist
		return kafka.Position{}, errNoPosition
	}
	return kafka.Position{
		Partition: kafka.Partition{Topic: name[:slash], Index: int32(index)},
		Offset:    kafka.LastOffset(at),
	}, nil
}

var errNoPosition = errors.New("want topic/partition@offset, such as consent.intake/3@1042")

// Read gives every letter and mark that the topic holds when it is called, oldest
// first within each partition. A record that is no letter is an error with its
// position; reading goes on behind it.
func Read(ctx context.Context, client *kafka.Client, topic string) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		if err := read(ctx, client, topic, yield); err != nil && !errors.Is(err, errStopped) {
			yield(Letter{}, err)
		}
	}
}

var errStopped = errors.New("the reader has enough")

func read(ctx context.Context, client *kafka.Client, topic string, yield func(Letter, error) bool) error {
	all, err := partitionsOf(ctx, client, topic)
	if err != nil {
		return err
	}
	first, err := client.Offsets(ctx, all, kafka.Earliest)
	if err != nil {
		return err
	}
	end, err := client.Offsets(ctx, all, kafka.Latest)
	if err != nil {
		return err
	}
	for _, p := range all { // one after the other: letters of one partition stay together
		err := scan(ctx, client, p, first[p], end[p], func(m *kafka.Message) (kafka.NextOffset, error) {
			if !yield(decode(m)) {
				return 0, errStopped
			}
			return m.Offset.Next(), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func partitionsOf(ctx context.Context, client *kafka.Client, topic string) ([]kafka.Partition, error) {
	count, err := client.PartitionCount(ctx, topic)
	if err != nil {
		return nil, err
	}
	all := make([]kafka.Partition, count)
	for i := range all {
		all[i] = kafka.Partition{Topic: topic, Index: int32(i)}
	}
	return all, nil
}

func decode(m *kafka.Message) (Letter, error) {
	l := Letter{Position: m.Position, RecordKey: bytes.Clone(m.Key)}
	var err error
	if l.DeadLetter, err = schemas.DecodeDeadLetter(m.Value); err != nil {
		err = fmt.Errorf("decode dead letter at %s: %w", m.Position, err)
	}
	return l, err
}

// Letters reads the letters of entries again, in the order of the log: partition
// by partition, each by offset. An error ends it.
func Letters(ctx context.Context, client *kafka.Client, entries []Entry) iter.Seq2[Letter, error] {
	wanted := map[kafka.Partition][]kafka.LastOffset{}
	var order []kafka.Partition
	for i := range entries {
		at := entries[i].Letter
		if wanted[at.Partition] == nil {
			order = append(order, at.Partition)
		}
		wanted[at.Partition] = append(wanted[at.Partition], at.Offset)
	}
	slices.SortFunc(order, func(a, b kafka.Partition) int { return int(a.Index - b.Index) })
	return func(yield func(Letter, error) bool) {
		for _, p := range order {
			slices.Sort(wanted[p])
			if err := readAt(ctx, client, p, wanted[p], yield); err != nil {
				if !errors.Is(err, errStopped) {
					yield(Letter{}, err)
				}
				return
			}
		}
	}
}

func readAt(ctx context.Context, client *kafka.Client, p kafka.Partition, wanted []kafka.LastOffset, yield func(Letter, error) bool) error {
	from, end := kafka.NextOffset(wanted[0]), wanted[len(wanted)-1].Next()
	err := scan(ctx, client, p, from, end, func(m *kafka.Message) (kafka.NextOffset, error) {
		if m.Offset > wanted[0] {
			return 0, fmt.Errorf("read %s@%d: the letter is gone", p, wanted[0])
		}
		if m.Offset < wanted[0] {
			return kafka.NextOffset(wanted[0]), nil
		}
		l, err := decode(m)
		if err != nil {
			return 0, err
		}
		if !yield(l, nil) {
			return 0, errStopped
		}
		if wanted = wanted[1:]; len(wanted) == 0 {
			return end, nil
		}
		return kafka.NextOffset(wanted[0]), nil
	})
	if err == nil && len(wanted) > 0 {
		err = fmt.Errorf("read %s@%d: the letter is gone", p, wanted[0])
	}
	return err
}

// scan reads a partition from an offset up to an end. visit gives the offset to go
// on at, so that what lies before it need not be fetched.
func scan(ctx context.Context, client *kafka.Client, p kafka.Partition, next, end kafka.NextOffset, visit func(*kafka.Message) (kafka.NextOffset, error)) error {
	f := client.NewFetcher(map[kafka.Partition]kafka.NextOffset{p: next}, kafka.FetchOptions{})
	defer f.Close() //nolint:errcheck // always nil
	for f.Position(p) < end {
		batches, err := f.Fetch(ctx)
		if err != nil {
			return fmt.Errorf("read %s: %w", p, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, b := range batches {
			for i := range b.Messages {
				m := &b.Messages[i]
				if m.Offset.Next() > end {
					return nil // came while we read
				}
				if m.Position.Offset < kafka.LastOffset(next) {
					continue
				}
				if next, err = visit(m); err != nil {
					return err
				}
			}
		}
		if next > f.Position(p) {
			f.Seek(p, next)
		}
	}
	return nil
}
