package owner

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/processor/decision"
)

const (
	// moveWait is how long a State whose owner has just changed waits for the new
	// owner's record to arrive. The directory is milliseconds behind its topic.
	moveWait = 100 * time.Millisecond
	// waitSlice is how long a peer is asked to wait at a time, so that one that died is
	// noticed before the whole wait is over.
	waitSlice = 2 * time.Second
	// firstPause and lastPause bound how long a wait whose partition nobody owns pauses
	// between looks, if the directory does not move before.
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// Router gives the States of all subjects: its own process's at once, those of others by
// asking their owners. It implements [decision.States]. For concurrent use.
type Router struct {
	config  Config
	lease   lease
	metrics *metrics
	states  *http.Client // short requests
	waits   *http.Client // long ones, which must not use up the others' connections
	serving chan struct{}
	waiting chan struct{}
	warned  sync.Map // addresses whose refusal was told
}

var _ decision.States = (*Router)(nil)

// NewRouter checks the configuration and reports every fault in it. It does no I/O.
func NewRouter(config Config) (*Router, error) {
	config.ensureDefaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, err
	}
	r := &Router{
		config: config, lease: config.lease(), metrics: m,
		serving: make(chan struct{}, config.MaxServed),
		waiting: make(chan struct{}, config.MaxWaiting),
	}
	r.states = r.newClient(config.MaxForwarded)
	r.waits = r.newClient(config.MaxWaiting)
	return r, nil
}

// Close gives idle connections back. Requests that are on their way end by themselves.
// Twice is fine.
func (r *Router) Close() error {
	r.states.CloseIdleConnections()
	r.waits.CloseIdleConnections()
	return nil
}

// missing is a subject whose State is not known yet, and why.
type missing struct {
	index     int
	partition int32
	cause     cause
	asked     Record // its owner, as far as the last attempt knew
}

// States gives what is folded of each subject, in the order of ids. Those of this
// process are there at once. The owners of the others are asked, all at the same time; who
// says that it is no owner any more is looked up again, once. What is not known then, or
// not within half of the lease's slack, is not OK.
func (r *Router) States(ctx context.Context, ids []consent.SubjectID) []decision.Known {
	known := make([]decision.Known, len(ids))
	var open []*missing
	for i := range ids {
		if f, ok := r.config.Local.State(ctx, ids[i]); ok {
			known[i] = decision.Known{Folded: f, OK: true}
			continue
		}
		m := &missing{index: i, cause: causeUnplaced}
		if p, ok := r.config.Local.Partition(ids[i].Tenant, ids[i].Subject); ok {
			m.partition, m.cause = p, causeNoOwner
		}
		open = append(open, m)
	}
	if len(open) > 0 {
		r.findOthers(ctx, ids, known, open)
	}
	return known
}

// findOthers fills in what this process does not own.
func (r *Router) findOthers(ctx context.Context, ids []consent.SubjectID, known []decision.Known, open []*missing) {
	ctx, cancel := context.WithTimeout(ctx, r.lease.toGet())
	defer cancel()
	moves := r.config.Directory.moves() // before the first look: no move is missed
	r.forward(ctx, ids, known, open)
	if moved := r.awaitMove(ctx, open, moves); len(moved) > 0 {
		again := moved[:0]
		for _, m := range moved {
			if f, ok := r.config.Local.State(ctx, ids[m.index]); ok { // it moved to us
				known[m.index], m.cause = decision.Known{Folded: f, OK: true}, answered
			} else {
				again = append(again, m)
			}
		}
		r.forward(ctx, ids, known, again)
	}
	for _, m := range open {
		if m.cause != answered {
			r.metrics.unavailable[m.cause].Inc()
		}
	}
}

// forward asks the owners that the directory names, one request each, all at once, and
// notes what they answered or why not.
func (r *Router) forward(ctx context.Context, ids []consent.SubjectID, known []decision.Known, open []*missing) {
	var asks []*ask
	byOwner := make(map[string]*ask)
	for _, m := range open {
		if m.cause == causeUnplaced {
			continue
		}
		record, ok := r.config.Directory.Owner(m.partition)
		m.asked = record
		switch {
		case !ok:
			m.cause = causeNoOwner
		case record.Instance == r.config.Instance:
			m.cause = causeNotOwner // Local said so already
		case record.Address == "":
			m.cause = causeNoAddress
		default:
			a := byOwner[record.Instance]
			if a == nil || len(a.open) == maxItems {
				a = &ask{record: record}
				byOwner[record.Instance] = a
				asks = append(asks, a)
			}
			a.open = append(a.open, m)
			a.ids = append(a.ids, ids[m.index])
		}
	}
	r.metrics.forwarded.Add(float64(countIDs(asks)))
	if len(asks) == 1 {
		r.askStates(ctx, asks[0], known)
		return
	}
	var group sync.WaitGroup
	for _, a := range asks {
		group.Go(func() { r.askStates(ctx, a, known) })
	}
	group.Wait()
}

func countIDs(asks []*ask) (n int) {
	for _, a := range asks {
		n += len(a.ids)
	}
	return n
}

// awaitMove gives those of the missing whose stripe has a new owner by now. Where an owner
// said that it is none, the new one's record may be on its way to us: it is waited for.
func (r *Router) awaitMove(ctx context.Context, open []*missing, moves <-chan struct{}) []*missing {
	timer := time.NewTimer(moveWait)
	defer timer.Stop()
	for {
		var moved []*missing
		waits := false
		for _, m := range open {
			if m.cause == answered || m.cause == causeUnplaced {
				continue
			}
			if record, ok := r.config.Directory.Owner(m.partition); ok && record != m.asked {
				moved = append(moved, m)
			} else if m.cause == causeNotOwner {
				waits = true
			}
		}
		if !waits {
			return moved
		}
		select {
		case <-moves:
			moves = r.config.Directory.moves()
		case <-timer.C:
			return moved
		case <-ctx.Done():
			return moved
		}
	}
}

// WaitFolded waits until States knows the events at these positions, wherever they are
// folded, and however often their partitions move. Its error is that of ctx.
func (r *Router) WaitFolded(ctx context.Context, after []decision.Position) error {
	// Of a partition the furthest position counts for all.
	furthest := make(map[int32]int64, len(after))
	for _, p := range after {
		if offset, ok := furthest[p.Partition]; !ok || p.Offset > offset {
			furthest[p.Partition] = p.Offset
		}
	}
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		moves := r.config.Directory.moves()
		byOwner := make(map[Record][]decision.Position)
		for partition, offset := range furthest {
			err := r.config.Local.WaitFolded(ctx, partition, offset)
			switch {
			case err == nil:
				delete(furthest, partition)
				continue
			case !errors.Is(err, ErrNotOwner):
				return err
			}
			record, ok := r.config.Directory.Owner(partition)
			if ok && record.Address != "" && record.Instance != r.config.Instance {
				byOwner[record] = append(byOwner[record], decision.Position{Partition: partition, Offset: offset})
			}
		}
		for record, positions := range byOwner {
			for _, p := range r.askFolded(ctx, record, positions[:min(len(positions), maxItems)]) {
				delete(furthest, p.Partition)
				wait = firstPause
			}
		}
		if len(furthest) == 0 {
			return nil
		}
		if err := pause(ctx, moves, wait); err != nil {
			return err
		}
	}
}

// pause waits a moment, or until the directory moves. Its error is that of ctx.
func pause(ctx context.Context, moves <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-moves:
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
