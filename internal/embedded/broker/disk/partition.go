package disk

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Position names a place in a topic, for errors and logs.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

func (p Position) String() string { return fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Offset) }

// CorruptError says that bytes which were acknowledged cannot be read any more.
// Nothing was changed.
type CorruptError struct {
	Position Position // of the first record that cannot be read
	File     string
	Byte     int64 // where in File
	Err      error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("read %v (byte %d of %s): %v: the file was damaged, nothing was changed; restore the data directory from a copy, or move this one away and start anew",
		e.Position, e.Byte, e.File, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// PartitionsDir is the folder of all partitions in a data directory.
func PartitionsDir(dir string) string { return filepath.Join(dir, "partitions") }

// PartitionDir is the folder of one partition.
func PartitionDir(dir, topic string, partition int32) string {
	return filepath.Join(PartitionsDir(dir), fmt.Sprintf("%s-%d", url.PathEscape(topic), partition))
}

// partition is the folder of one partition, opened to be read.
type partition struct {
	dir   string
	topic string
	n     int32
	bases []int64 // of its segments, ascending
}

// openPartition lists the segments in dir. ok is false when the folder's name is
// not one of a partition.
func openPartition(dir string) (p *partition, ok bool, err error) {
	name := filepath.Base(dir)
	cut := strings.LastIndexByte(name, '-')
	if cut < 0 {
		return nil, false, nil
	}
	n, noNumber := strconv.ParseInt(name[cut+1:], 10, 32)
	topic, noTopic := url.PathUnescape(name[:cut])
	if noNumber != nil || noTopic != nil {
		return nil, false, nil //nolint:nilerr // a name of another kind is no partition, and no fault
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, false, err
	}
	p = &partition{dir: dir, topic: topic, n: int32(n)}
	for _, e := range entries {
		base, isSegment := strings.CutSuffix(e.Name(), ".dat")
		if !isSegment {
			continue
		}
		if at, err := strconv.ParseInt(base, 10, 64); err == nil {
			p.bases = append(p.bases, at)
		}
	}
	slices.Sort(p.bases)
	return p, true, nil
}

func (p *partition) segment(base int64) string {
	return filepath.Join(p.dir, strconv.FormatInt(base, 10)+".dat")
}

func (p *partition) index(base int64) string {
	return filepath.Join(p.dir, strconv.FormatInt(base, 10)+".idx")
}

// scan calls fn for each batch in the order of the log, with the number of its
// segment in p.bases. torn is the place behind the last batch of the last
// segment when an interrupted write left bytes there; anything else that cannot
// be read is a CorruptError in err. fn must not keep the batch.
func (p *partition) scan(fn func(segment int, b *Batch) error) (torn *CorruptError, err error) {
	next := int64(-1)
	for i, base := range p.bases {
		raw, err := os.ReadFile(p.segment(base))
		if err != nil {
			return nil, err
		}
		for at := 0; at < len(raw); {
			b, err := DecodeBatch(raw[at:])
			if err == nil && b.FirstOffset < next {
				err = fmt.Errorf("%w: its offset %d was given before", errDamaged, b.FirstOffset)
			}
			if err != nil {
				next = max(next, base)
				bad := &CorruptError{Position{p.topic, p.n, next}, p.segment(base), int64(at), err}
				if i < len(p.bases)-1 || followedByBatch(raw[at:], next-1) {
					return nil, bad
				}
				return bad, nil
			}
			if err := fn(i, &b); err != nil {
				return nil, err
			}
			next = b.LastOffset() + 1
			at += len(b.Raw)
		}
	}
	return nil, nil
}

// ScanPartition calls fn for each batch of a partition in the order of the log.
// fn must not keep the batch. It is meant for a directory that passed [Check].
func ScanPartition(dir, topic string, n int32, fn func(b *Batch) error) error {
	p, ok, err := openPartition(PartitionDir(dir, topic, n))
	if err != nil || !ok {
		return err
	}
	return p.scanWhole(func(_ int, b *Batch) error { return fn(b) })
}

// scanWhole is scan for a log that must end behind a batch.
func (p *partition) scanWhole(fn func(segment int, b *Batch) error) error {
	torn, err := p.scan(fn)
	if err == nil && torn != nil {
		return torn
	}
	return err
}
