package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// GroupOptions describe a member of a consumer group.
type GroupOptions struct {
	Group string
	// Topics are read by every member alike.
	Topics []string
	// Stripes is how many shares the partitions are dealt into: stripe s has the partitions
	// p with p mod Stripes = s, of all topics. Every member must say the same. 0 = each
	// partition number is a stripe.
	Stripes int
	// SessionTimeout is how long a member may be silent before its stripes go to others.
	// Default: 6s.
	SessionTimeout time.Duration
	// HeartbeatInterval. Default: 500ms.
	HeartbeatInterval time.Duration
	// RebalanceTimeout is how long the others wait for a member to let go. Default: 10s.
	RebalanceTimeout time.Duration
	// JoinBackoff is the pause before joining again after a failure; it doubles up to 16
	// times as long. Default: 500ms.
	JoinBackoff time.Duration
	// Start is where Claim.Positions begins without a commit. Default: Earliest.
	Start When
	// Logger. Default: the client's.
	Logger *slog.Logger
	// Assigned, if set, is told which stripes each generation gave this member, before
	// work on them begins: none where there are more members than stripes. It must
	// return at once.
	Assigned func(stripes []int)
}

func (o *GroupOptions) ensureDefaults(c *Client) {
	setDefault := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	setDefault(&o.SessionTimeout, 6*time.Second)
	setDefault(&o.HeartbeatInterval, 500*time.Millisecond)
	setDefault(&o.RebalanceTimeout, 10*time.Second)
	setDefault(&o.JoinBackoff, 500*time.Millisecond)
	if o.Logger == nil {
		o.Logger = c.log
	}
	o.Logger = o.Logger.With("group", o.Group)
}

func (o *GroupOptions) validate() error {
	var faults []error
	if o.Group == "" {
		faults = append(faults, errors.New("group: is empty"))
	}
	if len(o.Topics) == 0 {
		faults = append(faults, errors.New("topics: none given"))
	}
	if o.Stripes < 0 {
		faults = append(faults, fmt.Errorf("stripes: %d is negative", o.Stripes))
	}
	if o.HeartbeatInterval*3 > o.SessionTimeout {
		faults = append(faults, fmt.Errorf("heartbeat interval: %s is over a third of the session time-out %s", o.HeartbeatInterval, o.SessionTimeout))
	}
	return errors.Join(faults...)
}

// Why there is no generation, or why it ended: the cause of the context that its work
// runs under.
var (
	errNotJoined   = errors.New("not joined")
	errRebalance   = errors.New("the group rebalances")
	errSessionLost = errors.New("no heartbeat was answered for a whole session")
	errWorkFailed  = errors.New("work failed")
)

// RunGroup is a member of a group until ctx ends; then it returns nil. It returns an error
// only when going on is of no use: authorization, unsupported versions, refused options.
//
// For every generation it runs work once for each stripe it was given, each in a
// goroutine of its own. Their ctx ends with the generation. RunGroup joins again only
// after all of them have returned (however long that takes; the log tells), so that no two
// members of the same process or of others work on a stripe by consent.
//
// Work that returns nil early is done until the next generation. Work that returns an
// error, and work whose Commit was left without an answer, ends the membership: RunGroup
// leaves, pauses, and joins as a new member, since a late twin of that commit would
// still be taken from the old one.
func (c *Client) RunGroup(ctx context.Context, options GroupOptions, work func(ctx context.Context, claim *Claim) error) error {
	options.ensureDefaults(c)
	if err := options.validate(); err != nil {
		return fmt.Errorf("kafka group: %w", err)
	}
	m := &member{client: c, options: options, log: options.Logger, work: work, generation: -1}
	defer m.leave(ctx)
	failures := 0
	for ctx.Err() == nil {
		began := time.Now()
		err := m.turn(ctx)
		switch {
		case err == nil || errors.Is(err, errRebalance):
			failures = 0
			continue
		case ctx.Err() != nil:
			return nil
		case m.fatal(err):
			return fmt.Errorf("group %s: %w", options.Group, err)
		}
		if errors.Is(err, errNotJoined) && classify(err) != verdictFenced {
			level := slog.LevelDebug
			if failures == 0 {
				level = slog.LevelWarn
			}
			m.log.Log(ctx, level, "kafka group cannot be joined now, trying on", "error", err)
		} else {
			m.log.Warn("kafka group is left and joined anew", "error", err)
			m.leave(ctx)
		}
		if time.Since(began) > 10*options.SessionTimeout {
			failures = 0 // it went well for long
		}
		pause := options.JoinBackoff << min(failures, 4)
		failures++
		_ = sleep(ctx, pause) // its end is the loop's condition
	}
	return nil
}

// member is one membership after another.
type member struct {
	client  *Client
	options GroupOptions
	log     *slog.Logger
	work    func(context.Context, *Claim) error

	memberID   string      // empty = not a member
	generation int32       // of the last assignment
	owned      []Partition // by it
	pulse      *pulse      // of that generation
}

// pulse remembers when a generation's last answered heartbeat was sent. The clock by which
// it is older counts. The monotonic one does not see a wall clock that is set back, and
// stands still while the machine is suspended; the wall clock does not.
type pulse struct{ monotonic, wall atomic.Int64 }

var processStart = time.Now()

func (p *pulse) beat(at time.Time) {
	p.monotonic.Store(int64(at.Sub(processStart)))
	p.wall.Store(at.UnixNano())
}

func (p *pulse) age() time.Duration {
	now := time.Now()
	return max(now.Sub(processStart)-time.Duration(p.monotonic.Load()), time.Duration(now.UnixNano()-p.wall.Load()))
}

// fatal says that joining again is of no use.
func (m *member) fatal(err error) bool {
	code, ok := codeOf(err)
	if ok && kafkago.Error(code) == kafkago.InconsistentGroupProtocol {
		// The group has another stripe count, as in the middle of a change of that setting.
		// It goes away with the last member that has it.
		m.log.Error("kafka group has members with another stripe count; waiting for them to leave", "stripes", m.options.Stripes)
		return false
	}
	if errors.Is(err, ErrUnknownTopic) {
		return false // it may be made any moment; the log says which
	}
	if errors.Is(err, errWorkFailed) {
		return false // whatever it was: work is not membership
	}
	return classify(err) == verdictFatal
}

// turn joins the group and works for one generation.
func (m *member) turn(ctx context.Context) error {
	assigned, err := m.join(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotJoined, err)
	}
	claims := m.claims(assigned)
	stripes := make([]int, len(claims))
	for i, c := range claims {
		stripes[i] = c.stripe
	}
	m.log.Info("kafka group joined", "generation", m.generation, "stripes", stripes)
	if m.options.Assigned != nil {
		m.options.Assigned(stripes)
	}
	return m.serve(ctx, claims)
}

func (m *member) claims(assigned []Partition) []*Claim {
	byStripe := make(map[int][]Partition)
	for _, p := range assigned {
		s := stripeOf(p.Index, m.options.Stripes)
		byStripe[s] = append(byStripe[s], p)
	}
	var claims []*Claim
	for _, s := range slices.Sorted(maps.Keys(byStripe)) {
		claims = append(claims, &Claim{
			client:     m.client,
			group:      m.options.Group,
			start:      m.options.Start,
			stripe:     s,
			partitions: byStripe[s],
			generation: m.generation,
			memberID:   m.memberID,
			pulse:      m.pulse,
		})
	}
	return claims
}

// serve runs work for each claim until the generation ends and all of it has returned.
// Heartbeats go on meanwhile, so that slow work is not taken for a dead member.
func (m *member) serve(ctx context.Context, claims []*Claim) error {
	generation, end := context.WithCancelCause(ctx)
	defer end(nil)
	beating, stopBeating := context.WithCancel(context.WithoutCancel(ctx))
	var heart sync.WaitGroup
	heart.Go(func() { m.beat(beating, end) })
	defer heart.Wait()
	defer stopBeating()

	var mu sync.Mutex
	var failed error
	var workers sync.WaitGroup
	for _, claim := range claims {
		workers.Go(func() {
			err := m.work(generation, claim)
			if broken := claim.close(); broken != nil {
				err = broken // whatever work makes of it
			} else if err == nil || generation.Err() != nil && (isContextError(err) || errors.Is(err, ErrFenced)) {
				return // the end of the generation is what it met
			}
			err = fmt.Errorf("%w: stripe %d: %w", errWorkFailed, claim.stripe, err)
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
			end(err)
		})
	}
	<-generation.Done()
	m.awaitWork(&workers)
	if failed != nil {
		return failed
	}
	return context.Cause(generation)
}

// awaitWork is the barrier between two generations.
func (m *member) awaitWork(workers *sync.WaitGroup) {
	returned := make(chan struct{})
	go func() {
		workers.Wait()
		close(returned)
	}()
	began := time.Now()
	ticker := time.NewTicker(m.options.RebalanceTimeout)
	defer ticker.Stop()
	for {
		select {
		case <-returned:
			return
		case <-ticker.C:
			m.log.Error("kafka group work has not stopped though its generation is over; its stripes stay idle until it does", "waited", time.Since(began).Round(time.Second))
		}
	}
}
