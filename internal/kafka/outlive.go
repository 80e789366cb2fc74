package kafka

import (
	"context"
	"time"
)

// Outlive gives a context that ends d after ctx, so that what was begun can be finished: a
// transaction that is abandoned holds readers up until the next owner ends it, and after a
// commit without an answer nothing more is committed under the claim.
func Outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	timer := time.AfterFunc(time.Hour, cancel)
	timer.Stop()
	stop := context.AfterFunc(ctx, func() { timer.Reset(d) })
	return out, func() {
		stop()
		timer.Stop()
		cancel()
	}
}
