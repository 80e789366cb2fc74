package processor

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
)

// instances is how many processors there are.
const instances = 3

// maxTTL is for how long a grant holds, at most.
const maxTTL = 12 * time.Second

// plan is what a seed decides: sizes, input, and everything that happens, with its
// time, before anything runs.
type plan struct {
	r          *rand.Rand
	names      topic.Names
	partitions int
	config     Config // Names, directories and seams are filled in at each start
	horizon    time.Duration
	world      []deed            // in the order of their times
	lives      [instances][]deed // of each instance
	startOver  bool              // in the end an operator has everything folded again
	mood       []orderKind       // what befalls processes in this run
	refuses    bool              // the broker refuses requests that it need not
}

// moods are kinds of trouble that meet each other: a commit that tears matters most
// when another tears while it is mended.
var moods = [][]orderKind{
	{orderCrash, orderCrash, orderCrash, orderSuspend, orderSuspend, orderExpel, orderExpel, orderGiveUp, orderTear, orderTearAndCrash},
	{orderTear, orderTearAndCrash},
	{orderSuspend, orderExpel},
	{orderCrash, orderGiveUp},
}

// deed is one thing that happens, so long after the beginning.
type deed struct {
	at   time.Duration
	what string
	do   func(*simulation)
}

func newPlan(seed uint64) *plan {
	r := rand.New(rand.NewPCG(seed, 7))
	p := &plan{r: r, names: topic.Names{Prefix: "t."}, partitions: 2 + r.IntN(3), horizon: time.Duration(15+r.IntN(20)) * time.Second}
	p.config = Config{
		Stripes:            1 + r.IntN(p.partitions),
		BatchRecords:       1 + r.IntN(12),
		SessionTimeout:     time.Duration(3+r.IntN(4)) * time.Second,
		FinishTimeout:      time.Duration(500+r.IntN(2000)) * time.Millisecond,
		Pace:               [...]time.Duration{-1, 0, 200 * time.Millisecond}[r.IntN(3)],
		TransactionTimeout: [...]time.Duration{5 * time.Second, 5 * time.Minute}[r.IntN(2)],
		CacheBytes:         1 << 20,
		StoreCacheBytes:    1 << 20,
	}
	p.mood = moods[r.IntN(len(moods))]
	p.planInput(20 + r.IntN(41))
	for i := range instances {
		p.planLives(i)
	}
	// Not every kind of trouble in every run: what hides behind one shows without it.
	if r.IntN(3) > 0 {
		p.planMishaps(r.IntN(16))
	}
	if r.IntN(3) > 0 {
		p.planFaults(r.IntN(8))
	}
	if r.IntN(3) == 0 {
		p.planClocks(1 + r.IntN(3))
	}
	if r.IntN(4) == 0 {
		p.planFences(1 + r.IntN(3))
	}
	p.startOver = r.IntN(8) == 0
	slices.SortStableFunc(p.world, func(a, b deed) int { return cmp.Compare(a.at, b.at) })
	return p
}

// some is a random time before the horizon.
func (p *plan) some() time.Duration { return p.between(0, p.horizon) }

func (p *plan) between(least, most time.Duration) time.Duration {
	return least + time.Duration(p.r.Int64N(int64(most-least+1))).Truncate(time.Millisecond)
}

func (p *plan) add(at time.Duration, do func(*simulation), format string, args ...any) {
	p.world = append(p.world, deed{at, fmt.Sprintf(format, args...), do})
}

// planInput writes a log of events, some of them twice, late, or poison, in a few
// portions.
func (p *plan) planInput(events int) {
	for n := 0; n < events; {
		at := p.some()
		portion := 1 + p.r.IntN(10)
		var log []consent.Event
		for ; portion > 0; portion-- {
			log = append(log, p.event(int(at.Seconds())))
			n++
		}
		spoil := p.r.IntN(6) == 0
		p.add(at, func(s *simulation) {
			records := make([]kafka.Record, len(log))
			for i := range log {
				records[i] = s.record(&log[i])
			}
			if spoil {
				records = append(records, s.spoiled())
			}
			s.produce(records...)
		}, "%d events come, poison: %v", len(log), spoil)
		if p.r.IntN(5) == 0 { // the same once more, some time later
			p.add(min(p.horizon, at+p.between(0, 10*time.Second)), func(s *simulation) { s.publish(log...) }, "%d events come again", len(log))
		}
	}
}

// event is a random event, received so many seconds after the beginning.
func (p *plan) event(seconds int) consent.Event {
	r := p.r
	subject := func() consent.Subject {
		if r.IntN(3) == 0 {
			return consent.Subject(fmt.Sprintf("device:%d", r.IntN(4)))
		}
		return consent.Subject(fmt.Sprintf("user:%d", r.IntN(5)))
	}
	action := [...]consent.Action{
		consent.Grant, consent.Grant, consent.Grant, consent.Grant, consent.Refuse, consent.Withdraw, consent.Withdraw,
		consent.Invalidate, consent.Link, consent.Link, consent.Unlink, consent.Erase, consent.Request,
	}[r.IntN(13)]
	purpose := allPurposes[r.IntN(len(allPurposes))]
	switch action {
	case consent.Grant:
		if purpose == consent.Root {
			purpose = "m.e"
		}
	case consent.Link, consent.Unlink, consent.Erase:
		purpose = consent.Root
	}
	e := event(r, subject(), action, purpose, seconds)
	e.EffectiveAt = e.ReceivedAt.Add(-time.Duration(r.IntN(20)) * time.Second)
	e.Jurisdiction = [...]consent.Jurisdiction{"", "DE", "US-CA"}[r.IntN(3)]
	e.Test = r.IntN(12) == 0
	for _, below := range allPurposes {
		if purpose.Covers(below) && below != consent.Root {
			e.Policy.Covers = append(e.Policy.Covers, below)
		}
	}
	switch action {
	case consent.Grant:
		e.Policy.DoubleOptIn = r.IntN(6) == 0
		if r.IntN(3) == 0 {
			e.Policy.ExpiresAt = e.ReceivedAt.Add(p.between(-time.Second, maxTTL).Truncate(time.Second))
		}
	case consent.Link, consent.Unlink:
		for e.LinkTo == "" || e.LinkTo == e.Subject {
			e.LinkTo = subject()
		}
	case consent.Withdraw:
		if r.IntN(6) == 0 { // as somebody writes it who does not pass the gateway
			e.Policy, e.ReceivedAt, e.EffectiveAt = nil, 0, 0
		}
	}
	return e
}

// spoiled is a record that can never be folded.
func (s *simulation) spoiled() kafka.Record {
	r := s.rand(3)
	all := poison(s.world, r)
	delete(all, "too_large")
	return all[slices.Sorted(maps.Keys(all))[r.IntN(len(all))]]
}

// planLives has an instance start and end a few times, in one way or another.
func (p *plan) planLives(i int) {
	add := func(at time.Duration, do func(*instance), format string, args ...any) {
		what := fmt.Sprintf("instance %d ", i) + fmt.Sprintf(format, args...)
		p.lives[i] = append(p.lives[i], deed{at, what, func(s *simulation) { do(s.instances[i]) }})
	}
	at := time.Duration(0)
	if i > 0 {
		at = p.between(0, p.horizon/2)
	}
	for at < p.horizon {
		orders := p.orders()
		what := "starts"
		for _, o := range orders {
			what += "; " + o.String()
		}
		add(at, func(in *instance) { in.start(slices.Clone(orders)) }, "%s", what)
		if at += p.between(time.Second, p.horizon/2); at >= p.horizon {
			return
		}
		polite := p.r.IntN(2) == 0
		add(at, func(in *instance) { in.end(polite) }, "ends, politely: %v", polite)
		switch p.r.IntN(6) {
		case 0:
			add(at, (*instance).loseDisk, "loses its disk")
		case 1:
			add(at, (*instance).keepCopy, "has its local store copied")
		case 2:
			add(at, (*instance).backToCopy, "gets its earlier local store")
		}
		at += p.between(0, 8*time.Second)
	}
}

func (p *plan) orders() (orders []order) {
	r := p.r
	for range [...]int{0, 1, 1, 2, 3}[r.IntN(5)] {
		o := order{
			at: stepInit + step(r.IntN(int(stepStore))), nth: 1 + r.IntN(6), does: p.mood[r.IntN(len(p.mood))],
			lasts: p.between(p.config.SessionTimeout/2, p.config.SessionTimeout+p.config.FinishTimeout+time.Second), survives: r.Uint64N(1 << (1 + 2*p.partitions)),
		}
		switch {
		case o.does >= orderTear:
			o.nth = 1 + r.IntN(3)
		case o.does == orderSuspend && r.IntN(2) == 0: // what makes a zombie
			o.at = stepBegin + step(r.IntN(int(stepEnd-stepBegin)))
		case o.does == orderExpel:
			o.lasts = p.between(0, p.config.SessionTimeout*2/3)
		}
		if o.at <= stepAnnounce && o.does < orderTear {
			o.nth = 1 + r.IntN(p.config.Stripes)
		}
		orders = append(orders, o)
	}
	return orders
}

// planMishaps lets single requests of an instance be lost, late, or slow.
func (p *plan) planMishaps(n int) {
	keys := []kmsg.Key{
		kmsg.Produce, kmsg.Produce, kmsg.EndTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.TxnOffsetCommit, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn,
		kmsg.InitProducerID, kmsg.OffsetFetch, kmsg.Fetch, kmsg.ListOffsets, kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.FindCoordinator, kmsg.Metadata, kmsg.LeaveGroup,
	}
	for range n {
		i, key := p.r.IntN(instances), keys[p.r.IntN(len(keys))]
		m := mishap{kind: noMishap + 1 + mishapKind(p.r.IntN(int(mishapKinds)-1))}
		if m.kind >= requestLate {
			m.delay = p.between(10*time.Millisecond, p.config.SessionTimeout*3/2)
		}
		p.add(p.some(), func(s *simulation) {
			if l := s.instances[i].now.Load(); l != nil {
				l.link.meets(key, m)
			}
		}, "instance %d: next %s %s", i, key.Name(), m)
	}
}

// refusals are the codes that requests of processors get. Those that a broker gives
// after it has acted are among them.
var refusals = []struct {
	key   kmsg.Key
	topic func(topic.Names) string // "" = it has none
	codes []*kerr.Error
}{
	{kmsg.Produce, topic.Names.State, written},
	{kmsg.Produce, topic.Names.Changes, written},
	{kmsg.Produce, topic.Names.Events, []*kerr.Error{kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend}},
	{kmsg.EndTxn, nil, transactional},
	{kmsg.AddPartitionsToTxn, nil, transactional},
	{kmsg.AddOffsetsToTxn, nil, transactional},
	{kmsg.TxnOffsetCommit, nil, append([]*kerr.Error{kerr.IllegalGeneration, kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.RequestTimedOut}, transactional...)},
	{kmsg.InitProducerID, nil, []*kerr.Error{kerr.ConcurrentTransactions, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.UnknownServerError}},
	{kmsg.OffsetFetch, nil, []*kerr.Error{kerr.UnstableOffsetCommit, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.UnknownServerError}},
	{kmsg.Heartbeat, nil, []*kerr.Error{kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.NotCoordinator, kerr.UnknownServerError}},
	{kmsg.JoinGroup, nil, []*kerr.Error{kerr.UnknownMemberID, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.UnknownServerError}},
	{kmsg.SyncGroup, nil, []*kerr.Error{kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.NotCoordinator}},
	{kmsg.Fetch, topic.Names.Events, []*kerr.Error{kerr.NotLeaderForPartition, kerr.OffsetNotAvailable, kerr.UnknownServerError, kerr.KafkaStorageError, kerr.OffsetOutOfRange}},
	{kmsg.Fetch, topic.Names.State, []*kerr.Error{kerr.NotLeaderForPartition, kerr.OffsetNotAvailable, kerr.UnknownServerError, kerr.KafkaStorageError}},
	{kmsg.ListOffsets, topic.Names.State, []*kerr.Error{kerr.NotLeaderForPartition, kerr.OffsetNotAvailable, kerr.UnknownServerError}},
}

var written = []*kerr.Error{
	kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.KafkaStorageError,
	kerr.UnknownServerError, kerr.InvalidProducerEpoch, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID,
}

var transactional = []*kerr.Error{
	kerr.ConcurrentTransactions, kerr.CoordinatorNotAvailable, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress,
	kerr.UnknownServerError, kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.InvalidTxnState,
}

// planFaults has the broker refuse requests, whoever sends them next.
func (p *plan) planFaults(n int) {
	p.refuses = n > 0
	for range n {
		of := refusals[p.r.IntN(len(refusals))]
		f := kfake.Fault{Keys: []kmsg.Key{of.key}, Err: of.codes[p.r.IntN(len(of.codes))], Count: 1 + p.r.IntN(3)}
		switch {
		case of.topic != nil:
			f.Topic = of.topic(p.names)
		case of.key == kmsg.EndTxn || of.key == kmsg.AddPartitionsToTxn || of.key == kmsg.AddOffsetsToTxn || of.key == kmsg.TxnOffsetCommit || of.key == kmsg.InitProducerID:
			f.TxnID = p.names.TransactionalID(p.config.Stripes, p.r.IntN(p.config.Stripes))
		default:
			f.Group = p.names.ProcessorGroup()
		}
		p.add(p.some(), func(s *simulation) { s.refusals = append(s.refusals, s.fake.Fault(f)) },
			"the next %d %s%s%s are answered %s", f.Count, of.key.Name(), f.Topic, f.TxnID, f.Err.Message)
	}
}

// planClocks sets clocks of instances, forward and back, by seconds or by most of a day.
func (p *plan) planClocks(n int) {
	for range n {
		i, ahead := p.r.IntN(instances), p.between(-20*time.Second, 20*time.Second)
		if p.r.IntN(4) == 0 {
			ahead *= 3600
		}
		p.add(p.some(), func(s *simulation) { s.instances[i].ahead.Store(int64(ahead)) }, "the clock of instance %d is ahead by %s", i, ahead)
	}
}

// planFences takes transactional ids, as an owner does that dies at once: what is open is
// aborted.
func (p *plan) planFences(n int) {
	for range n {
		id := p.names.TransactionalID(p.config.Stripes, p.r.IntN(p.config.Stripes))
		p.add(p.some(), func(s *simulation) {
			if _, err := s.client.OpenTransactor(s.ctx, kafka.TransactorOptions{ID: id}); err != nil {
				s.note("not taken: %v", err)
			}
		}, "somebody takes %s", id)
	}
}
