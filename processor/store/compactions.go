package store

import (
	"cmp"
	"runtime"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// compactions shares the cores' time between the engines of all partitions: the
// engine by itself would run one compaction a partition, a dozen at once after a
// restore, and the fold would wait behind them.
type compactions struct {
	atOnce int

	mu       sync.Mutex
	running  int
	members  []*member
	granting bool // somebody is in grant
	again    bool // who is in grant has to look once more
	granted  sync.Cond
}

func newCompactions() *compactions {
	c := &compactions{atOnce: max(1, runtime.GOMAXPROCS(0)/2)}
	c.granted.L = &c.mu
	return c
}

// member stands for one engine; it is the engine's CompactionScheduler and, once
// granted, its handle. Lock order: the engine's before compactions.mu; grant calls
// engines without mu.
type member struct {
	all     *compactions
	allowed func() bool
	db      pebble.DBForCompaction
}

// newMember: allowed is asked before each compaction; when it becomes true, call grant.
func (c *compactions) newMember(allowed func() bool) *member {
	return &member{all: c, allowed: allowed}
}

// Register is called by the engine once it is open.
func (m *member) Register(_ int, db pebble.DBForCompaction) {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	m.db = db
	m.all.members = append(m.all.members, m)
}

// Unregister returns when no call to the engine is going on, and none will be.
func (m *member) Unregister() {
	c := m.all
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = slices.DeleteFunc(c.members, func(other *member) bool { return other == m })
	for c.granting {
		c.granted.Wait()
	}
}

// TrySchedule: one that is refused is asked by grant later.
func (m *member) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	c := m.all
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running >= c.atOnce || !m.allowed() || !slices.Contains(c.members, m) {
		// Who is in grant may have asked this engine before it had something to do.
		c.again = true
		return false, nil
	}
	c.running++
	return true, m
}

// UpdateGetAllowedWithoutPermission: there is one number for all, and it stays.
func (m *member) UpdateGetAllowedWithoutPermission() {}

// Started, MeasureCPU and CumulativeStats are for schedulers that pace.
func (m *member) Started() {}

// MeasureCPU does nothing.
func (m *member) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats does nothing.
func (m *member) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done gives the place to the next one.
func (m *member) Done() {
	m.all.mu.Lock()
	m.all.running--
	m.all.mu.Unlock()
	m.all.grant()
}

// grant fills free places with the compactions that are needed most.
func (c *compactions) grant() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.again = true
	if c.granting {
		return
	}
	c.granting = true
	for c.again && c.running < c.atOnce {
		c.again = false
		members := slices.Clone(c.members)
		c.running++ // the place that is being given
		c.mu.Unlock()
		given := grantOne(members)
		c.mu.Lock()
		if given {
			c.again = true
		} else {
			c.running--
		}
	}
	c.granting = false
	c.granted.Broadcast()
}

func grantOne(members []*member) bool {
	type candidate struct {
		*member
		need pebble.WaitingCompaction
	}
	var waiting []candidate
	for _, m := range members {
		if !m.allowed() {
			continue
		}
		if waits, need := m.db.GetWaitingCompaction(); waits {
			waiting = append(waiting, candidate{m, need})
		}
	}
	slices.SortFunc(waiting, func(a, b candidate) int {
		if a.need.Optional != b.need.Optional {
			if a.need.Optional {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(b.need.Priority, a.need.Priority), cmp.Compare(b.need.Score, a.need.Score))
	})
	for _, m := range waiting {
		if m.db.Schedule(m.member) {
			return true
		}
	}
	return false
}
