package processor

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/consent"
)

// A stripe that had to be taken over twice, and then has nothing to fold.
func TestProcessor_IsReadyAgainOnceWhatFailedWorks(t *testing.T) {
	w := newWorld(t, 1)
	w.needsFake()
	once := w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TxnID: w.names.TransactionalID(1, 0), TopLevel: true, Err: kerr.TransactionalIDNotFound})
	defer once.Remove()
	p := w.start(oneStripe)
	w.eventually("the fault", func() error {
		if once.Hits() == 0 {
			return errors.New("not met")
		}
		return nil
	})
	p.awaitReady()
}

// What was read before a takeover may have been read while the table was restored.
func TestProcessor_AnAnswerIsNotValidBehindATakeover(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.needsFake()
	inits := make(chan struct{}, 10)
	p := w.start(oneStripe, func(c *Config) {
		c.after = func(s step) error {
			if s == stepInit {
				inits <- struct{}{}
			}
			return nil
		}
	})
	<-inits
	w.publish(event(r, ben, consent.Withdraw, "m.e", 20))
	p.awaitReady()
	p.awaitFolded()
	f, ok := p.State(w.ctx, consent.SubjectID{Tenant: consent.DefaultTenant, Subject: ben})
	if !ok || !f.Valid() {
		t.Fatal("the partition does not answer")
	}
	lost := w.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Err: kerr.RequestTimedOut})
	defer lost.Remove()
	w.publish(event(r, anna, consent.Grant, "m.e", 21))
	p.awaitFolded()
	w.publish(event(r, anna, consent.Withdraw, "m.e", 22)) // takes over first
	<-inits
	p.awaitFolded()
	p.awaitReady()
	if f.Valid() {
		t.Error("an answer from before the takeover is valid")
	}
}

// A torn transaction left a row in the changelog. The batch that folds its events
// again is a longer one, at whose end an erasure has taken the row: nothing of it is
// before or behind the batch, and it must go from the changelog all the same.
func TestProcessor_ARowOfATornCommitThatIsErasedInTheRepairDoesNotComeBack(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m", 1))
	w.foldAll(oneStripe)
	w.publish(event(r, anna, consent.Grant, "m.e", 2), event(r, anna, consent.Erase, "*", 3))
	w.tear(w.ctx, part{states: true, changes: true}, 1)
	w.foldAll(oneStripe)
	w.requireReference()
	p := w.start(oneStripe) // from the changelog alone
	p.awaitReady()
	w.publish(event(r, anna, consent.Refuse, "m.e", 4))
	p.awaitFolded()
	p.stop()
	w.requireReference()
}

// The same, of a row that the erasure takes back to what it was before the batch: the
// older grant goes, the newer refusal stays. Nothing has moved, but for the changelog.
func TestProcessor_ARowOfATornCommitThatAnErasureTakesBackInTheRepairIsWritten(t *testing.T) {
	r := seed(t)
	w := newWorld(t, 1)
	w.publish(event(r, anna, consent.Withdraw, "m.e", 4))
	w.foldAll(oneStripe)
	w.publish(event(r, anna, consent.Grant, "m.e", 2), event(r, anna, consent.Erase, "*", 3))
	w.tear(w.ctx, part{states: true, changes: true}, 1)
	w.foldAll(oneStripe)
	w.requireReference()
}
