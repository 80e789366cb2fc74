package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/embedded/datadir"
	"golang.org/x/sync/errgroup"
)

// Mended is what Repair did.
type Mended struct {
	TornLogBytes        int64 // taken out of groups.log and pids.log
	TornBatches         int   // cut off, one a partition at most
	IndexesRebuilt      int
	AbortedTransactions int // counted once for each producer
}

// Check reads every batch of a directory that was closed in order.
func Check(dir string) error {
	return eachPartition(dir, func(p *partition) error {
		return p.scanWhole(func(int, *Batch) error { return nil })
	})
}

// Repair mends a directory that was not closed in order; see the package's
// comment for its steps.
func Repair(dir string) (Mended, error) {
	var m Mended
	for _, name := range []string{groupsLog, producersLog} {
		torn, err := mendEntries(filepath.Join(dir, name))
		if err != nil {
			return m, fmt.Errorf("mend %s: %w", name, err)
		}
		m.TornLogBytes += torn
	}
	// Windows of an earlier close are older than the log.
	if err := ForgetSequences(dir); err != nil {
		return m, err
	}
	var mu sync.Mutex
	var open []openPartitionTxn
	err := eachPartition(dir, func(p *partition) error {
		found, err := p.mend()
		mu.Lock()
		defer mu.Unlock()
		m.IndexesRebuilt += found.indexes
		m.TornBatches += found.torn
		open = append(open, found.open...)
		return err
	})
	if err != nil {
		return m, err
	}
	m.AbortedTransactions, err = abortOpen(filepath.Join(dir, producersLog), open)
	return m, err
}

// eachPartition calls fn for each partition's folder, several at a time.
func eachPartition(dir string, fn func(*partition) error) error {
	entries, err := os.ReadDir(PartitionsDir(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, e := range entries {
		p, ok, err := openPartition(filepath.Join(PartitionsDir(dir), e.Name()))
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		if ok {
			group.Go(func() error { return fn(p) })
		}
	}
	return group.Wait()
}

// openPartitionTxn is a transaction that has records in a partition, and no
// marker behind them.
type openPartitionTxn struct {
	partition     *partition
	producerID    int64
	producerEpoch int16
}

type partitionFindings struct {
	indexes, torn int
	open          []openPartitionTxn
}

// mend cuts a torn tail, rebuilds indexes, and returns the open transactions.
func (p *partition) mend() (found partitionFindings, err error) {
	indexes := make([][]byte, len(p.bases))
	open := make(map[int64]int16)
	torn, err := p.scan(func(segment int, b *Batch) error {
		indexes[segment] = appendIndexEntry(indexes[segment], b)
		switch {
		case b.Control():
			delete(open, b.ProducerID)
		case b.Transactional():
			open[b.ProducerID] = b.ProducerEpoch
		}
		return nil
	})
	if err != nil {
		return found, err
	}
	if torn != nil {
		if err := truncateFile(torn.File, torn.Byte); err != nil {
			return found, err
		}
		found.torn++
	}
	for i, base := range p.bases {
		raw, err := os.ReadFile(p.index(base))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return found, err
		}
		if indexFits(raw, len(indexes[i])/indexEntryBytes) {
			continue
		}
		if err := datadir.WriteFile(p.index(base), indexes[i]); err != nil {
			return found, err
		}
		found.indexes++
	}
	for pid, epoch := range open {
		found.open = append(found.open, openPartitionTxn{p, pid, epoch})
	}
	return found, nil
}

// abortOpen fences the producers first: a crash before their markers leaves
// their transactions open, and the next repair finds them again.
func abortOpen(producers string, open []openPartitionTxn) (int, error) {
	if len(open) == 0 {
		return 0, nil
	}
	known, err := producerEpochs(producers)
	if err != nil {
		return 0, err
	}
	fenced := make(map[int64]int16)
	for _, o := range open {
		epoch := max(known[o.producerID], o.producerEpoch, fenced[o.producerID]-1)
		if epoch < math.MaxInt16 { // an id has no epoch behind the last one
			epoch++
		}
		fenced[o.producerID] = epoch
	}
	if err := fenceProducers(producers, fenced); err != nil {
		return 0, fmt.Errorf("fence producers of open transactions: %w", err)
	}
	for _, o := range open {
		if err := o.partition.abort(o.producerID, fenced[o.producerID]); err != nil {
			return 0, fmt.Errorf("abort an open transaction in %s/%d: %w", o.partition.topic, o.partition.n, err)
		}
	}
	return len(fenced), nil
}

// abort appends an ABORT marker to the last segment. Its index entry comes
// first: an index that is ahead is rebuilt, one that is behind is too.
func (p *partition) abort(producerID int64, epoch int16) error {
	next, leaderEpoch := int64(0), int32(0)
	if err := p.scanWhole(func(_ int, b *Batch) error {
		next, leaderEpoch = b.LastOffset()+1, b.PartitionLeaderEpoch
		return nil
	}); err != nil {
		return err
	}
	raw := abortMarker(next, leaderEpoch, producerID, epoch, time.Now().UnixMilli())
	marker, err := DecodeBatch(raw)
	if err != nil {
		return err
	}
	last := p.bases[len(p.bases)-1]
	if err := appendFile(p.index(last), appendIndexEntry(nil, &marker)); err != nil {
		return err
	}
	return appendFile(p.segment(last), raw)
}
