package decision

import (
	"context"
	"time"

	"github.com/assent-dev/assent/consent"
)

// States is what decisions are made from: those of the whole installation, whichever
// process holds them.
type States interface {
	// States gives what is folded of each subject, in the order of ids. It never
	// fails: what cannot be known here and now is not OK.
	States(ctx context.Context, ids []consent.SubjectID) []Known
	// WaitFolded waits until States knows the events at these positions. Its error is
	// that of ctx.
	WaitFolded(ctx context.Context, after []Position) error
}

// Position is where an event stands in consent.events.
type Position struct {
	Partition int32
	Offset    int64
}

// Known is what States gives of one subject. The zero value is what cannot be known:
// its decision is unavailable, denied.
type Known struct {
	Folded
	OK bool
}

// Folded is what is folded of one subject, and for how long that may be told.
type Folded struct {
	// State is never changed by anybody; nil = nothing on record.
	State *consent.State
	// AsOf is when the State was read, by the clock of the process that owns it.
	AsOf time.Time
	// Valid reports whether the State may still be told. It is asked once the answer is
	// made of it: the process may have been suspended since, and its partition given to
	// another. Never nil where the State is known.
	Valid func() bool
}
