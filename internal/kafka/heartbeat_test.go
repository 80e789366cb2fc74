package kafka

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestRunGroup_EndsAGenerationWhenNoHeartbeatIsAnswered(t *testing.T) {
	cluster := startBroker(t, 4, []string{"consent.events"})
	one := startMember(t, connect(t, cluster), quickGroup("consent.events"), nil)
	before := one.awaitStripes(4)[0]
	var lost atomic.Int32
	cluster.ControlKey(kmsg.Heartbeat.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		if lost.Add(1) < 1000 && lost.Load() > 0 {
			cluster.KeepControl()
		}
		return nil, errors.New("lost"), true
	})
	receive(t, "the end of the work", one.ended)
	if age := before.HeartbeatAge(); age < time.Second {
		t.Errorf("given up %s after the last answer, the session is 1s", age)
	}
	lost.Store(1000)
	after := receive(t, "a claim of a new membership", one.claims)
	if after.MemberID() == before.MemberID() {
		t.Error("the member id is the same")
	}
}

// A coordinator that is away or moving does not cost a member its id.
func TestRunGroup_StaysTheSameMemberWhileTheCoordinatorIsAway(t *testing.T) {
	cluster := startBroker(t, 4, []string{"consent.events"})
	one := startMember(t, connect(t, cluster), quickGroup("consent.events"), nil)
	before := one.awaitStripes(4)[0]
	left := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.LeaveGroup}, Observe: true, Count: -1})
	refused := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.NotCoordinator, Count: 2, When: func(r kmsg.Request) bool {
		return r.(*kmsg.JoinGroupRequest).MemberID == before.MemberID()
	}})
	startMember(t, connect(t, cluster), quickGroup("consent.events"), nil)
	for _, c := range one.awaitStripes(2) {
		if c.MemberID() != before.MemberID() {
			t.Errorf("the member id is new")
		}
	}
	if refused.Hits() != 2 || left.Hits() != 0 {
		t.Errorf("%d joins refused, want 2; %d times left, want 0", refused.Hits(), left.Hits())
	}
}

// A sync may wait for the others longer than a session: the member is alive all the same.
func TestBeat_SendsTheFirstHeartbeatHoweverLongTheSyncTook(t *testing.T) {
	cluster := startBroker(t, 4, []string{"consent.events"})
	c := connect(t, cluster)
	options := quickGroup("consent.events")
	options.ensureDefaults(c)
	m := &member{client: c, options: options, log: options.Logger, generation: -1}
	ctx, cancel := context.WithCancelCause(testContext(t))
	defer m.leave(ctx)
	if _, err := m.join(ctx); err != nil {
		t.Fatal(err)
	}
	m.pulse.beat(time.Now().Add(-2 * options.SessionTimeout))
	done := make(chan struct{})
	go func() { m.beat(ctx, cancel); close(done) }()
	eventually(t, "an answered heartbeat, or the end", func() bool {
		return m.pulse.age() < options.SessionTimeout || ctx.Err() != nil
	})
	if ctx.Err() != nil {
		t.Errorf("ended before a heartbeat was sent: %v", context.Cause(ctx))
	}
	cancel(nil)
	receive(t, "the end of the heartbeats", done)
}

// A machine that was suspended wakes with a monotonic clock that did not move.
func TestPulse_IsAsOldAsTheOlderOfItsClocksSays(t *testing.T) {
	var p pulse
	for _, c := range []struct{ monotonic, wall, want time.Duration }{
		{0, 0, 0}, {time.Minute, 0, time.Minute}, {0, time.Hour, time.Hour}, {time.Minute, -time.Hour, time.Minute},
	} {
		p.beat(time.Now())
		p.monotonic.Add(-int64(c.monotonic))
		p.wall.Add(-int64(c.wall))
		if age := p.age(); age < c.want || age > c.want+patience {
			t.Errorf("%s by the monotonic clock, %s by the wall clock: %s", c.monotonic, c.wall, age)
		}
	}
}
