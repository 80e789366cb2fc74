package drive

import (
	"context"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/loadgen"
)

// Sender carries parcels to where events are taken. It is used by many
// goroutines at once.
type Sender interface {
	// Send returns when each event of the parcel is answered, in their order.
	// What is not confirmed it sends again with the same ids. Its error is that
	// ctx has ended, or that it can never be sent; answers without Done are then
	// of events of which nobody knows.
	Send(ctx context.Context, p *Parcel) ([]Answer, error)
}

// Parcel is what is sent at once.
type Parcel struct {
	Act loadgen.Act // of any kind; in batches of events of many acts, of no act in particular

	made time.Time
}

// claim gives event i as it is sent now: sent_at is stamped anew on each
// attempt, by the clock of the subject's device.
func (p *Parcel) claim(i int) loadgen.Claim {
	c := p.Act.Claims[i]
	if c.Raw == nil && c.Event.SentAt != 0 {
		c.Event.SentAt += consent.Instant(time.Since(p.made).Milliseconds())
	}
	return c
}

// Answer is what became of one event.
type Answer struct {
	Done   bool // it is known what became of it
	Status int  // as POST /v1/events gives it for the event alone; 0 = the broker has it, and nobody answers more
	Codes  []consent.Code
	Warned []consent.WarningCode

	// Where Status is 202:
	EventID                 consent.UUID
	Subject                 consent.Subject // "" = as sent
	ReceivedAt, EffectiveAt consent.Instant
	Partition               int32
	Offset                  int64
	Token                   string
	// Skipped: this sender has no way to say such an event.
	Skipped bool
}
