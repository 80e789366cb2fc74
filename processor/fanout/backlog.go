package fanout

import (
	"log/slog"
	"sync"
	"time"
)

// backlog is what a lane has read and not told, summed over its sessions. A change that
// never gets its turn, behind another one of its subject or in a lane that is paused, has
// no attempt that could say it is late: here it counts.
type backlog struct {
	metrics *laneMetrics
	log     *slog.Logger

	mu  sync.Mutex
	sum share
}

// share is what one session adds to the backlog.
type share struct {
	pending            int // changes without an outcome
	overdueWithdrawals int // of them, past their legal deadline
	overdueOthers      int // the same for what is no withdrawal
}

// replace puts a session's share in the place of what it was before, and gives it back.
func (b *backlog) replace(before, now share) share {
	b.mu.Lock()
	defer b.mu.Unlock()
	overdue := b.sum.overdueWithdrawals
	b.sum.pending += now.pending - before.pending
	b.sum.overdueWithdrawals += now.overdueWithdrawals - before.overdueWithdrawals
	b.sum.overdueOthers += now.overdueOthers - before.overdueOthers
	b.metrics.pending.Set(float64(b.sum.pending))
	b.metrics.overdueWithdrawals.Set(float64(b.sum.overdueWithdrawals))
	b.metrics.overdueOthers.Set(float64(b.sum.overdueOthers))
	if overdue == 0 && b.sum.overdueWithdrawals > 0 {
		b.log.Error("withdrawals are past their legal deadline, and the downstream has not taken them: mend it, or tell it by hand", "withdrawals", b.sum.overdueWithdrawals)
	}
	return now
}

// countOverdue looks at everything that is queued or in flight.
func (s *session) countOverdue(now time.Time) {
	registry := s.registry.Current()
	counted := share{pending: s.share.pending}
	for _, q := range s.queues {
		for _, e := range q.entries {
			switch due := registry.DueAt(s.downstream, &e.change); {
			case due == 0 || now.Before(due.Time()):
			case e.change.Withdrawal:
				counted.overdueWithdrawals++
			default:
				counted.overdueOthers++
			}
		}
	}
	s.share = s.backlog.replace(s.share, counted)
}

// countPending notes that changes came, or have got their outcome.
func (s *session) countPending(more int) {
	counted := s.share
	counted.pending += more
	s.share = s.backlog.replace(s.share, counted)
}
