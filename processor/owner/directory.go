package owner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
)

// retryPause is how long a directory that met a fault waits before it reads again.
const retryPause = time.Second

// Directory knows who owns each stripe, from consent.owners: the newest record of a
// stripe counts. What it says is a hint; the owner itself knows whether it still is one.
type Directory struct {
	client  *kafka.Client
	topic   string
	stripes int
	log     *slog.Logger

	mu      sync.Mutex
	owners  owners
	changed chan struct{} // closed and replaced when owners move
	ready   bool          // read to the end once
	fault   error         // why it cannot be read now
}

// owners are the newest records, by stripe.
type owners map[int]Record

// NewDirectory makes the directory of a number of stripes, the same as the
// processors' own. It does no I/O. A nil log takes nothing.
func NewDirectory(client *kafka.Client, names topic.Names, stripes int, log *slog.Logger) *Directory {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Directory{
		client: client, topic: names.Owners(), stripes: stripes, log: log,
		owners: make(owners), changed: make(chan struct{}),
		fault: errors.New("the directory of owners is not being read"),
	}
}

// Run follows the topic until ctx ends; then it returns nil. What it cannot read it
// tries again, and keeps what it knows meanwhile. It returns an error only when going
// on is of no use: authorization, or a broker that is too old.
func (d *Directory) Run(ctx context.Context) error {
	for {
		err := d.follow(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to stop
		}
		err = fmt.Errorf("directory of owners: %w", err)
		if errors.Is(err, kafka.ErrUnauthorized) || errors.Is(err, kafka.ErrUnsupported) || errors.Is(err, kafka.ErrClosed) {
			return err
		}
		d.mu.Lock()
		d.fault = err
		d.mu.Unlock()
		d.log.Error("the directory of owners cannot be read; trying again", "error", err)
		select {
		case <-time.After(retryPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// Ready tells what is missing until the directory has been read to its end; nil then, for
// as long as it can be read.
func (d *Directory) Ready() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != nil {
		return d.fault
	}
	if !d.ready {
		return errors.New("the directory of owners is not read to its end yet")
	}
	return nil
}

// Owner gives the newest record of the stripe that a partition belongs to. ok is
// false while there is none.
func (d *Directory) Owner(partition int32) (Record, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.owners[int(partition)%d.stripes]
	return r, ok
}

// moves gives a channel that is closed at the next change.
func (d *Directory) moves() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// follow reads the topic from its beginning, and shows what it says once it has come to
// the end: on the way there, an older record would look like news.
func (d *Directory) follow(ctx context.Context) error {
	at := kafka.Partition{Topic: d.topic, Index: 0}
	starts, err := d.client.Offsets(ctx, []kafka.Partition{at}, kafka.Earliest)
	if err != nil {
		return err
	}
	ends, err := d.client.Offsets(ctx, []kafka.Partition{at}, kafka.LatestStable)
	if err != nil {
		return err
	}
	found := make(owners)
	next := starts[at]
	if next >= ends[at] {
		d.publish(found)
	}
	fetcher := d.client.NewFetcher(starts, kafka.FetchOptions{})
	defer func() { _ = fetcher.Close() }()
	for {
		batches, err := fetcher.Fetch(ctx)
		if err != nil {
			return err
		}
		moved := false
		for i := range batches {
			for j := range batches[i].Messages {
				moved = d.take(found, &batches[i].Messages[j]) || moved
			}
			moved = moved || next < ends[at] && batches[i].Next >= ends[at]
			next = batches[i].Next
		}
		if moved && next >= ends[at] {
			d.publish(found)
		}
	}
}

// take takes in one record of the topic, and reports whether it says something new. One
// that cannot be read is passed: the stripe keeps its former record, whose owner will
// say that it is none any more.
func (d *Directory) take(found owners, m *kafka.Message) bool {
	if m.Value == nil { // nobody writes a tombstone; an operator may
		for stripe, r := range found {
			if string(r.Key()) == string(m.Key) {
				delete(found, stripe)
				return true
			}
		}
		return false
	}
	r, err := DecodeRecord(m.Value)
	if err == nil && string(r.Key()) != string(m.Key) {
		err = errors.New("key and value name different stripes")
	}
	if err != nil {
		d.log.Error("a record of an owner is passed", "position", m.Position.String(), "error", err)
		return false
	}
	if r.Stripes != d.stripes {
		return false // of another division of the partitions, from before or after ours
	}
	known, ok := found[r.Stripe]
	if ok && r.Producer == known.Producer && r.Epoch < known.Epoch {
		// The broker fences the writer of such a record; if it comes all the same, the
		// owner that is known has a newer epoch.
		d.log.Warn("a record of a former owner is passed", "position", m.Position.String(), "stripe", r.Stripe, "epoch", r.Epoch, "known", known.Epoch)
		return false
	}
	found[r.Stripe] = r
	return true
}

// publish shows what was found, and wakes who waits for it.
func (d *Directory) publish(found owners) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owners = make(owners, len(found))
	for stripe, r := range found {
		d.owners[stripe] = r
	}
	d.ready, d.fault = true, nil
	close(d.changed)
	d.changed = make(chan struct{})
}
