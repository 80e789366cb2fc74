// Package deadletter reads consent.deadletters: what could not be processed,
// with its position, code and original bytes.
//
// It only reads. A letter's original bytes may hold personal data: they are in
// [Letter.Letter], and nothing here prints them.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

// Letter is one record of consent.deadletters.
type Letter struct {
	Position kafka.Position // its own, not that of what it holds
	schemas.DeadLetter
}

// Read gives every letter that the topic holds when it is called, oldest first
// within each partition. A record that is no letter is an error with its
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
	count, err := client.PartitionCount(ctx, topic)
	if err != nil {
		return err
	}
	var all []kafka.Partition
	for i := range count {
		all = append(all, kafka.Partition{Topic: topic, Index: int32(i)})
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
		if err := readPartition(ctx, client, p, first[p], end[p], yield); err != nil {
			return err
		}
	}
	return nil
}

func readPartition(ctx context.Context, client *kafka.Client, p kafka.Partition, next, end kafka.NextOffset, yield func(Letter, error) bool) error {
	f := client.NewFetcher(map[kafka.Partition]kafka.NextOffset{p: next}, kafka.FetchOptions{})
	defer f.Close()
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
				if m.Position.Offset.Next() > end {
					return nil // came while we read
				}
				d, err := schemas.DecodeDeadLetter(m.Value)
				if err != nil {
					err = fmt.Errorf("decode dead letter at %s: %w", m.Position, err)
				}
				if !yield(Letter{m.Position, d}, err) {
					return errStopped
				}
			}
		}
	}
	return nil
}
