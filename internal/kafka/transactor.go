package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TransactorOptions describe one owner of a transactional id.
type TransactorOptions struct {
	// ID is the transactional id: the lock that a newer owner takes away.
	ID string
	// Timeout is after how long the broker aborts a transaction that a dead owner left
	// open, and fences that owner. Brokers allow 15 minutes by default. Default: 30s.
	Timeout time.Duration
	// MaxBatchBytes bounds one batch, and so one record. The topic's max.message.bytes
	// must allow it. Default: 1,000,000.
	MaxBatchBytes int
}

func (o *TransactorOptions) ensureDefaults() {
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.MaxBatchBytes <= 0 {
		o.MaxBatchBytes = 1_000_000
	}
}

// Sender is what the broker knows the owner of a transactional id by: every newer owner
// has a larger epoch, or another id. Comparable.
type Sender struct {
	ID    int64
	Epoch int16
}

// String returns id and epoch: "1234/5".
func (s Sender) String() string {
	return strconv.FormatInt(s.ID, 10) + "/" + strconv.Itoa(int(s.Epoch))
}

// Transactor is the one owner of a transactional id, until somebody opens another. It
// runs one transaction at a time: Begin, Write any number of times, CommitOffsets, then
// End or Abort. Not for concurrent use, Sender excepted. There is nothing to close: a
// transaction that is left open ends with the next owner, or at its time-out.
//
// Requests that were refused for now, or had no answer, are repeated until ctx ends, or
// for 30 s if it has no deadline. After an error every later call returns it. What to do:
//
//   - ErrFenced, alone or with others: somebody newer owns the transactional id or the
//     claim, or the transaction was open for longer than its time-out. Stop.
//   - Any other error, ErrIndefinite among them: open a new Transactor before anything else.
//     What was left open is aborted by that; what is committed by then stays.
//
// Only an error of End leaves it open whether the transaction is committed.
type Transactor struct {
	client  *Client
	options TransactorOptions
	sender  Sender
	streams map[string][]*stream // by topic, then partition; nil = nothing written yet

	open      bool // a transaction is
	claim     *Claim
	committed bool      // offsets are
	covered   []*stream // by Begin of the open transaction
	twin      error     // a request of an earlier attempt may still arrive
	broken    error
}

// OpenTransactor makes this process the owner of the transactional id. When it returns, the
// transaction that a former owner left open is ended, and what that one still sends is
// refused. So offsets read from now on (Claim.Committed), and logs read to the end
// that they have now, are what no former owner can change any more.
//
// It waits for the end of the former transaction and for the coordinator, for 30 s if ctx has no deadline.
func (c *Client) OpenTransactor(ctx context.Context, options TransactorOptions) (*Transactor, error) {
	if options.ID == "" {
		return nil, errors.New("open transactor: transactional id is empty")
	}
	options.ensureDefaults()
	t := &Transactor{client: c, options: options, streams: make(map[string][]*stream)}
	// Repeating it is safe: a late twin takes the id from ourselves, and we are fenced.
	err := c.persist(ctx, "open transactional id "+options.ID, func(ctx context.Context) error {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = &t.options.ID
		req.TransactionTimeoutMillis = int32(options.Timeout.Milliseconds())
		req.ProducerID, req.ProducerEpoch = -1, -1 // whoever had it: it is ours now
		resp := kmsg.NewPtrInitProducerIDResponse()
		if err := c.sendToCoordinator(ctx, t.coordinator(), 0, req, resp); err != nil {
			return err
		}
		t.sender = Sender{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}
		err := c.coordinatorCode(t.coordinator(), resp.ErrorCode)
		if code, ok := codeOf(err); ok && kafkago.Error(code) == kafkago.InvalidTransactionTimeout {
			return fmt.Errorf("%w: the transaction time-out of %s is more than the broker's transaction.max.timeout.ms", err, options.Timeout)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Sender returns the producer id and epoch that the broker gave this owner.
func (t *Transactor) Sender() Sender { return t.sender }

func (t *Transactor) coordinator() coordinated { return transactionsOf(t.options.ID) }

// Begin opens a transaction over the partitions that will be written to, and over the offsets
// of the claim's group unless claim is nil.
//
// After a transaction one of whose requests had to be repeated for want of an answer, it
// refuses with ErrIndefinite: under the same epoch the late first copy would count for
// the next transaction, and end it half-way, or commit older offsets.
func (t *Transactor) Begin(ctx context.Context, claim *Claim, partitions []Partition) error {
	return t.step(ctx, "begin", func(ctx context.Context) error {
		switch {
		case t.open:
			return errors.New("the one before is still open")
		case t.twin != nil:
			return fmt.Errorf("%w: a late copy of an earlier request could still arrive, after: %w", ErrIndefinite, t.twin)
		case claim == nil && len(partitions) == 0:
			return errors.New("neither partitions nor a claim")
		}
		if err := t.cover(ctx, partitions); err != nil {
			return err
		}
		t.open, t.claim, t.committed = true, claim, false
		// One after the other: the coordinator works on one change of a transactional id at a
		// time, and answers a second one meanwhile with CONCURRENT_TRANSACTIONS.
		if len(t.covered) > 0 {
			if err := t.insist(ctx, t.addPartitions); err != nil {
				return fmt.Errorf("add partitions: %w", err)
			}
		}
		if claim != nil {
			if err := t.insist(ctx, t.addOffsets); err != nil {
				return fmt.Errorf("add offsets of group %s: %w", claim.group, err)
			}
		}
		return nil
	})
}

// cover marks the partitions that may be written to.
func (t *Transactor) cover(ctx context.Context, partitions []Partition) error {
	for _, p := range partitions {
		count, err := t.client.PartitionCount(ctx, p.Topic)
		if err != nil {
			return err
		}
		if p.Index < 0 || int(p.Index) >= count {
			return fmt.Errorf("partition %s: %w: it has %d partitions", p, ErrUnknownTopic, count)
		}
		if s := t.stream(p); !s.covered {
			s.covered = true
			t.covered = append(t.covered, s)
		}
	}
	return nil
}

// CommitOffsets makes positions part of the transaction, under the generation and member id
// of the claim that Begin was given. Once a transaction; with none to commit it does nothing.
// A refusal of generation or member is ErrFenced.
func (t *Transactor) CommitOffsets(ctx context.Context, claim *Claim, commits map[Partition]Commit) error {
	return t.step(ctx, "commit offsets", func(ctx context.Context) error {
		switch {
		case !t.open:
			return errors.New("no transaction is open")
		case claim == nil || claim != t.claim:
			return errors.New("not the claim that the transaction was begun with")
		case t.committed:
			return errors.New("this transaction has its offsets already")
		}
		if err := claim.check(commits); err != nil || len(commits) == 0 {
			return err
		}
		claim.mu.Lock() // its work has not returned before we are done
		defer claim.mu.Unlock()
		if err := claim.usable(); err != nil {
			return err
		}
		t.committed = true
		return t.blame(ctx, t.insist(ctx, func(ctx context.Context) error { return t.commitOffsets(ctx, commits) }))
	})
}

// End commits the transaction. When it returns nil, states, changes and offsets are visible to
// read_committed readers, now or in a moment, and nothing can undo it. After an error it
// may be committed or not.
func (t *Transactor) End(ctx context.Context) error { return t.end(ctx, "end", true) }

// Abort ends the transaction as if nothing had been written.
func (t *Transactor) Abort(ctx context.Context) error { return t.end(ctx, "abort", false) }

func (t *Transactor) end(ctx context.Context, what string, commit bool) error {
	return t.step(ctx, what, func(ctx context.Context) error {
		if !t.open {
			return errors.New("no transaction is open")
		}
		// A repeat with the same verdict is answered OK when the first copy was carried out.
		if err := t.insist(ctx, func(ctx context.Context) error { return t.endTxn(ctx, commit) }); err != nil {
			return err
		}
		t.open, t.claim = false, nil
		for _, s := range t.covered {
			s.covered = false
		}
		t.covered = t.covered[:0]
		return nil
	})
}

// blame finds out whose fault it is that a broker does not know the transaction: the one in this
// process answers so to a fenced owner too. The coordinator knows; and if the fault
// is not that of a newer owner, what is open is aborted by the way.
func (t *Transactor) blame(ctx context.Context, err error) error {
	if code, ok := codeOf(err); !ok || kafkago.Error(code) != kafkago.InvalidTransactionState {
		return err
	}
	_, fenced := t.repeat(ctx, func(ctx context.Context) error { return t.endTxn(ctx, false) })
	if errors.Is(fenced, ErrFenced) {
		return fmt.Errorf("%w: %w", fenced, err)
	}
	return err
}

// step does one of the public calls: none after an error.
func (t *Transactor) step(ctx context.Context, what string, do func(context.Context) error) error {
	if t.broken != nil {
		return t.broken
	}
	ctx, cancel := patient(ctx)
	defer cancel()
	if err := do(ctx); err != nil {
		t.broken = fmt.Errorf("transaction of %s: %s: %w", t.options.ID, what, err)
	}
	return t.broken
}

// insist is repeat for a request that must not arrive twice in different transactions.
func (t *Transactor) insist(ctx context.Context, attempt func(context.Context) error) error {
	lost, err := t.repeat(ctx, attempt)
	if lost != nil {
		t.twin = lost
	}
	return err
}

// repeat sends a request until an answer settles it, or ctx ends. lost is the last attempt
// that had no answer, or one that left it open; with it, an error is ErrIndefinite.
func (t *Transactor) repeat(ctx context.Context, attempt func(context.Context) error) (lost, err error) {
	pause := backoff{first: time.Millisecond} // the coordinator is often ready again in a few
	var missingSince time.Time
	for {
		err := attempt(ctx)
		if err == nil {
			return lost, nil
		}
		verdict := classify(err)
		if verdict == verdictIndefinite {
			lost = err
		}
		final := verdict == verdictFatal || verdict == verdictFenced
		switch {
		case !errors.Is(err, ErrUnknownTopic):
			missingSince = time.Time{}
		case missingSince.IsZero(): // right after creation some brokers have not heard of it
			missingSince = time.Now()
		default:
			final = final || time.Since(missingSince) > unknownTopicPatience
		}
		if !final && pause.wait(ctx) == nil {
			t.client.log.Log(ctx, pause.level(), "kafka transaction request is repeated", "transactional_id", t.options.ID, "error", err)
			continue
		}
		if !final {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		if lost != nil {
			err = fmt.Errorf("%w: %w", ErrIndefinite, err)
		}
		return lost, err
	}
}
