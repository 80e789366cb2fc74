package owner

import (
	"context"
	"errors"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/processor/decision"
)

// ErrNotOwner means that a partition is not owned here.
var ErrNotOwner = errors.New("the partition is not owned by this process")

// Folded is what is folded of one subject, and for how long that may be told.
type Folded = decision.Folded

// Local is what this process owns: the processor. For concurrent use.
type Local interface {
	// State gives what is folded of a subject. ok is false when this process does not own
	// the subject's partition, is not ready with it, or its last heartbeat is so old that
	// another may own it. Valid of what it gives asks the same again.
	State(ctx context.Context, id consent.SubjectID) (f Folded, ok bool)
	// WaitFolded waits until State knows the event at an offset of a partition of
	// consent.events. It returns ErrNotOwner as soon as the partition is not owned here, also
	// when it is lost meanwhile; any other error is that of ctx.
	WaitFolded(ctx context.Context, partition int32, offset int64) error
	// Partition gives the partition of a subject's events, whoever owns it. ok is false
	// while their number is not known.
	Partition(t consent.Tenant, s consent.Subject) (partition int32, ok bool)
}
