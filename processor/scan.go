package processor

import (
	"context"
	"errors"

	"github.com/assent-dev/assent/internal/kafka"
)

// scan reads partitions from the offsets in from up to those in to, and calls take for
// what came. An error of take, an offset out of range or a corrupt batch ends that
// partition only, and stands in faults. The other error is the broker's or that of ctx.
func scan(ctx context.Context, client *kafka.Client, from, to map[kafka.Partition]kafka.NextOffset, options kafka.FetchOptions, take func(*kafka.Batch) error) (faults map[kafka.Partition]error, err error) {
	start := make(map[kafka.Partition]kafka.NextOffset, len(from))
	for p, next := range from {
		if next < to[p] {
			start[p] = next
		}
	}
	faults = make(map[kafka.Partition]error)
	open := len(start)
	if open == 0 {
		return faults, nil
	}
	fetcher := client.NewFetcher(start, options)
	defer func() { _ = fetcher.Close() }()
	for open > 0 {
		batches, err := fetcher.Fetch(ctx)
		if err != nil {
			at, ok := partitionOf(err)
			if !ok {
				return nil, err
			}
			faults[at] = err
			open--
			continue
		}
		for i := range batches {
			b := &batches[i]
			fault := take(b)
			if fault != nil {
				faults[b.Partition] = fault
			}
			if fault != nil || b.Next >= to[b.Partition] {
				fetcher.Pause(b.Partition)
				open--
			}
		}
	}
	return faults, nil
}

// partitionOf tells whether an error stops a partition and is not a matter of the
// whole broker.
func partitionOf(err error) (kafka.Partition, bool) {
	if e := new(kafka.OffsetOutOfRangeError); errors.As(err, &e) {
		return e.Partition, true
	}
	if e := new(kafka.CorruptBatchError); errors.As(err, &e) {
		return e.Position.Partition, true
	}
	return kafka.Partition{}, false
}
