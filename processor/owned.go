package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/processor/owner"
)

// phase is what a claimed partition is doing.
type phase uint8

const (
	restoring  phase = iota // is being taken over
	catchingUp              // folds what was in the log at the takeover
	live                    // answers
	stopped                 // an alarm: see partition.alarm
)

// partition is one claimed partition of consent.events: its table, and how far
// it is folded. Its stripe's goroutine writes, requests read.
type partition struct {
	index        int32
	heartbeatAge func() time.Duration

	// Of the stripe's goroutine alone.
	note     commitNote
	told     map[consent.UUID]kafka.LastOffset // changes that a torn transaction told already, and where
	seenEnd  kafka.NextOffset                  // of consent.changes at the takeover
	folding  *folding
	expiring map[string]expiring // rows whose expire event is written but not folded

	mu     sync.Mutex
	table  *Table // written once, by open
	phase  phase
	tenure int              // counts takeovers
	next   kafka.NextOffset // folded and published up to here
	end    kafka.NextOffset // of the log at the takeover
	alarm  error
	stuck  error         // what the stripe cannot write, again and again; nil = it goes on
	moved  chan struct{} // closed when next or phase moves; nil while nobody waits
}

// open gives the partition its table, for as long as it is claimed.
func (p *partition) open(t *Table) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table = t
}

// restore stops the answers until starts says where folding goes on.
func (p *partition) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.alarm = restoring, nil
	p.tenure++
	p.wake()
}

// starts notes where folding begins, and the end that makes the partition live.
func (p *partition) starts(next, end kafka.NextOffset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.end, p.phase = next, end, catchingUp
	p.advance()
}

// folded notes that everything before next is published.
func (p *partition) folded(next kafka.NextOffset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = max(p.next, next)
	p.advance()
}

// backlogEnd is the end of the log at the takeover.
func (p *partition) backlogEnd() kafka.NextOffset {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

// stick notes what the stripe cannot write; nil = it can again.
func (p *partition) stick(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stuck = err
}

// position is where folding goes on.
func (p *partition) position() kafka.NextOffset {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next
}

func (p *partition) stop(alarm error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase, p.alarm = stopped, alarm
	p.wake()
}

func (p *partition) isStopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase == stopped
}

func (p *partition) advance() {
	if p.phase == catchingUp && p.next >= p.end {
		p.phase = live
	}
	p.wake()
}

func (p *partition) wake() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// progress tells how far the partition is folded, and gives a channel that is
// closed at the next move.
func (p *partition) progress() (kafka.NextOffset, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	if p.phase == restoring {
		return 0, p.moved
	}
	return p.next, p.moved
}

// answers gives the table while the partition may be answered for: live, and with
// a heartbeat so young that nobody else can own it. nil otherwise.
func (p *partition) answers(limit time.Duration) *Table {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase != live || p.stuck != nil || p.heartbeatAge() > limit {
		return nil
	}
	return p.table
}

// takeovers is another number behind each takeover: what was read of the table before
// one may have been half restored.
func (p *partition) takeovers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tenure
}

// isLive reports whether everything that the log had at the takeover is folded.
func (p *partition) isLive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase == live
}

// waitsFor is why the partition does not answer yet, nil when it does.
func (p *partition) waitsFor() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stuck != nil {
		return fmt.Errorf("partition %d is not folded on: %w", p.index, p.stuck)
	}
	switch p.phase {
	case restoring:
		return fmt.Errorf("partition %d is being taken over", p.index)
	case catchingUp:
		return fmt.Errorf("partition %d has %d records to fold", p.index, int64(p.end-p.next))
	case stopped:
		return fmt.Errorf("partition %d is stopped: %w", p.index, p.alarm)
	case live:
	}
	return nil
}

// owned is which partitions this process has claimed now.
type owned struct {
	mu         sync.RWMutex
	partitions map[int32]*partition
	joined     bool          // the group gave us an assignment
	expected   int           // stripes of that assignment
	claimed    int           // of them, those whose work has begun
	changed    chan struct{} // closed and replaced when the set changes
}

func newOwned() *owned {
	return &owned{partitions: make(map[int32]*partition), changed: make(chan struct{})}
}

func (o *owned) find(index int32) (*partition, <-chan struct{}) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.partitions[index], o.changed
}

// has reports whether a partition is still claimed.
func (o *owned) has(p *partition) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.partitions[p.index] == p
}

func (o *owned) claim(parts map[kafka.Partition]*partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range parts {
		o.partitions[p.index] = p
	}
	o.claimed++
	o.notify()
}

// assigned notes what a generation gave this process, before work on it begins.
func (o *owned) assigned(stripes []int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.joined, o.expected, o.claimed = true, len(stripes), 0
}

// release drops the partitions of a claim, unless another claim has taken them.
func (o *owned) release(parts map[kafka.Partition]*partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range parts {
		if o.partitions[p.index] == p {
			delete(o.partitions, p.index)
		}
	}
	o.notify()
}

func (o *owned) notify() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// waitFor is why not every claimed partition answers, nil when all do.
func (o *owned) waitFor(limit time.Duration) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	switch {
	case !o.joined:
		return errors.New("waiting to join the group")
	case o.claimed < o.expected || (o.expected > 0 && len(o.partitions) == 0):
		return errors.New("work on a claimed stripe has not begun")
	}
	var waiting []error
	for _, p := range o.partitions {
		if err := p.waitsFor(); err != nil {
			waiting = append(waiting, err)
		} else if p.answers(limit) == nil {
			waiting = append(waiting, fmt.Errorf("partition %d: the last heartbeat is older than %s", p.index, limit))
		}
	}
	slices.SortFunc(waiting, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(waiting...)
}

// waitFolded waits until the event at offset of a partition is folded and published.
// It returns owner.ErrNotOwner once the partition is not claimed here.
func (o *owned) waitFolded(ctx context.Context, index int32, offset kafka.LastOffset) error {
	for {
		p, changed := o.find(index)
		if p == nil {
			return owner.ErrNotOwner
		}
		next, moved := p.progress()
		if next >= offset.Next() {
			return nil
		}
		select {
		case <-moved:
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
